-- SPDX-License-Identifier: GPL-3.0-or-later
-- The execs that were created through this proxy and are not started yet: no other may be started. A proxy that has just
-- started knows none.

local execs = {}

-- Whoever creates an exec starts it at once; on a machine that is very busy, within minutes.
local SECONDS = 600
local MOST = 1024

local created, order, first, last = {}, {}, 1, 0
-- The containers in which any were created, and how many these are.
local containers, count = {}, 0

local function drop_first()
  local id = order[first]
  order[first], first = nil, first + 1
  if created[id] and created[id].place < first then created[id] = nil end
end

-- Whether any exec was created in a container, as far as that is still known.
function execs.were_in(container) return containers[container] == true end

-- Remember one, and in which container it runs.
function execs.remember(id, container, now)
  if not containers[container] then
    if count >= MOST then containers, count = {}, 0 end
    containers[container], count = true, count + 1
  end
  last = last + 1
  order[last] = id
  created[id] = { container = container, at = now, place = last }
  while last - first + 1 > MOST or first <= last and (not created[order[first]] or now - created[order[first]].at > SECONDS) do
    drop_first()
  end
end

-- The container of one that may still be started, else nil.
function execs.container(id, now)
  local found = created[id]
  return found and now - found.at <= SECONDS and found.container or nil
end

-- It is started, once.
function execs.forget(id) created[id] = nil end

return execs
