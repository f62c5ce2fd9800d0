-- SPDX-License-Identifier: GPL-3.0-or-later
-- What haproxy.cfg asks about a call that concerns a container: one action judges all of it, and the last thing that it does
-- is to say so. The decisions are in rules.lua and power.lua; here is what they need to know.

local engine = require("engine")
local execs = require("execs")
local power = require("power")
local rules = require("rules")
local verdict = require("verdict")

-- A namespace may be another container's, which may share its own: no chain that anybody needs is longer.
local MOST_JOINED = 4

-- What a judgement that broke has left behind must not take the memory of the next one.
local MOST_KILOBYTES = 8192

-- An action of HAProxy's that judges a call.
local function judges(name, judge_call)
  core.register_action(name, { "http-req" }, function(txn)
    if collectgarbage("count") > MOST_KILOBYTES then collectgarbage() end
    judge_call(txn)
  end)
end

-- The body of a call where it has come whole, else nil.
local function body_of(txn)
  local body = txn.f:req_body() or ""
  return tonumber(txn.f:req_hdr("content-length") or "") == #body and body or nil
end

-- The same for its volumes; the second says that the engine does not tell.
local function of_volumes(document)
  for _, one in ipairs(power.volumes(document)) do
    local name, writable = table.unpack(one)
    local volume, status = engine.ask("/volumes/" .. engine.url_encode(name))
    if status ~= 200 and status ~= 404 then return nil, true end
    local held = power.of_volume(name, volume, writable)
    if held then return held end
  end
  return nil
end

-- What power a container gives over the host, by itself or by those whose namespaces it shares; nil for none. The second says
-- that the engine does not tell.
local function power_of(document, accepted)
  local held, unknown = power.obstacle(document, accepted), false
  if not held then held, unknown = of_volumes(document) end
  if held or unknown then return held, unknown end
  local waiting, seen = power.joined(document), 0
  while #waiting > 0 do
    local kind, reference = table.unpack(table.remove(waiting))
    seen = seen + 1
    if seen > MOST_JOINED then return power.TOO_MANY end
    local joined, missing = engine.container(reference)
    if missing == "unanswered" then return nil, true end
    -- Nothing runs in the namespace of one that is gone.
    if joined then
      local sees_processes = kind == "PidMode"
      held = power.of_shared(joined, kind, accepted)
      if not held and sees_processes then held, unknown = of_volumes(joined) end
      if unknown then return nil, true end
      if held then return power.through(joined.Name, held) end
      for _, one in ipairs(power.joined(joined, not sees_processes and kind or nil)) do waiting[#waiting + 1] = one end
    end
  end
  return nil
end

-- Judge whether a container is one that the agent may look into; returns its document and its name where it is, else nothing,
-- and says why. *unwanted* is the kind that a refusal of it counts as.
local function judge(txn, reference, unwanted)
  local document, missing = engine.container(reference)
  if missing == "gone" then return verdict.refuse(txn, "gone", "No such container: " .. reference) end
  if missing then
    return verdict.refuse(txn, "unanswered", "The Docker Engine does not say which container " .. reference .. " is.")
  end
  local configuration = engine.configuration()
  if not configuration then return verdict.refuse(txn, "unanswered", "The configuration of the agent cannot be read.") end
  local name = document.Name:match("^/(.+)$") or ""
  if power.is_own(document) then return verdict.refuse(txn, unwanted, power.sentence(name, power.OWN)) end
  local reason = rules.obstacle(name, document.Config and document.Config.Labels, configuration)
  -- A pass that has begun with another configuration does not know yet: that is no attempt.
  if reason then return verdict.refuse(txn, execs.were_in(document.Id) and "look" or unwanted, reason) end
  return document, name, power.accepts(configuration, name)
end

-- The same for running a command in it, which takes one without power over the host.
local function judge_to_run(txn, reference)
  local document, name, accepted = judge(txn, reference, "container")
  if not document then return end
  local held, unknown = power_of(document, accepted)
  if unknown then
    return verdict.refuse(txn, "unanswered", "The Docker Engine does not say what power " .. name .. " has over the host.")
  end
  if held then return verdict.refuse(txn, "container", power.sentence(name, held)) end
  return document
end

-- What an inspect document tells is for the agent, also of one that is refused: its filter decides over that.
judges("inspect", function(txn)
  local version, reference = txn.f:path():match("^(.*)/containers/([^/]+)/json$")
  local document = judge(txn, reference, "look")
  if not document then return end
  -- From here on it is this very container, whatever its name means in a moment.
  local path = version .. "/containers/" .. document.Id .. "/json"
  txn.http:req_set_path(path)
  verdict.pass(txn, "GET", path)
end)

-- The agent asks whether it would be let in, which is no attempt.
judges("power", function(txn)
  local path = txn.f:path()
  local document, _, accepted = judge(txn, path:match("/([^/]+)$"), "look")
  if not document then return end
  local held, unknown = power_of(document, accepted)
  if unknown then return verdict.refuse(txn, "unanswered", "The Docker Engine does not say what power it has over the host.") end
  verdict.tell(txn, held or "")
  verdict.pass(txn, "GET", path)
end)

judges("create_exec", function(txn)
  local version, reference = txn.f:path():match("^(.*)/containers/([^/]+)/exec$")
  local body = body_of(txn)
  if not body then return verdict.refuse(txn, "exec", "The body of an exec must come whole, and is too large for the agent's.") end
  local reason = rules.exec_obstacle(body)
  if reason then return verdict.refuse(txn, "exec", reason) end
  local document = judge_to_run(txn, reference)
  if not document then return end
  local path = version .. "/containers/" .. document.Id .. "/exec"
  txn.http:req_set_path(path)
  txn:set_var("txn.creates_in", document.Id)
  verdict.pass(txn, "POST", path)
end)

-- The engine's answer to create_exec: from now on, this exec may be started. Where Lua fails here, it never may.
core.register_action("created_exec", { "http-res" }, function(txn)
  local document = engine.decode(txn.f:res_body())
  local id = type(document) == "table" and document.Id
  if type(id) == "string" and rules.is_id(id) then execs.remember(id, txn:get_var("txn.creates_in"), core.now().sec) end
end)

judges("start_exec", function(txn)
  local path = txn.f:path()
  local id = path:match("/exec/(%x+)/start$")
  local body = body_of(txn)
  if not body then return verdict.refuse(txn, "exec", "The body of an exec's start must come whole.") end
  local reason = rules.start_obstacle(body)
  if reason then return verdict.refuse(txn, "exec", reason) end
  local container = execs.container(id, core.now().sec)
  if not container then return verdict.refuse(txn, "exec", "The agent may only start an exec that it has just created.") end
  if not judge_to_run(txn, container) then return end
  if not execs.container(id, core.now().sec) then
    return verdict.refuse(txn, "exec", "The agent may start an exec only once.")
  end
  execs.forget(id)
  verdict.pass(txn, "POST", path)
end)

judges("inspect_exec", function(txn)
  local path = txn.f:path()
  local id = path:match("/exec/(%x+)/json$")
  local document, status = engine.ask("/exec/" .. id .. "/json")
  if status == 404 then return verdict.refuse(txn, "gone", "No such exec instance: " .. id) end
  local container = type(document) == "table" and document.ContainerID
  if status ~= 200 or type(container) ~= "string" or not rules.is_id(container) then
    return verdict.refuse(txn, "unanswered", "The Docker Engine does not say in which container an exec is.")
  end
  if not rules.is_plain_process(document.ProcessConfig) then
    return verdict.refuse(txn, "exec", "The agent may not look at an exec that has a user, a terminal or privileges of its own.")
  end
  if judge_to_run(txn, container) then verdict.pass(txn, "GET", path) end
end)
