-- SPDX-License-Identifier: GPL-3.0-or-later
-- What the proxies' Lua asks the Docker Engine and reads of the host: every answer is decoded within limits, or it is none.

local cjson = require("cjson")

local engine = {}

local CONFIGURATION = "/etc/scalr-backup/config.json"
engine.SOCKET = "unix@/var/run/docker.sock"
local ENGINE_MILLISECONDS = 30000

-- The engine's documents are six deep; one that is deeper than this is no document.
cjson.decode_max_depth(24)

function engine.url_encode(text)
  return (text:gsub("[^%w]", function(character) return string.format("%%%02X", character:byte()) end))
end

-- The document that a text is, nil where it is none.
function engine.decode(text)
  local decoded, document = pcall(cjson.decode, text or "")
  return decoded and document or nil
end

-- Ask the engine; returns its decoded answer and its status, the first nil where it is none.
function engine.ask(path)
  local answer = core.httpclient():get({ url = "http://engine" .. path, dst = engine.SOCKET, timeout = ENGINE_MILLISECONDS })
  return engine.decode(answer.body), answer.status
end

-- Read anew for each decision: the agent, too, takes a changed configuration by itself.
function engine.configuration()
  local file = io.open(CONFIGURATION, "r")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  local document = engine.decode(text)
  return type(document) == "table" and document or nil
end

-- A container as the engine describes it, by its full id or its full name, nothing shorter. Without one, says why: "gone",
-- or "unanswered" where the engine does not say.
function engine.container(reference)
  local document, status = engine.ask("/containers/" .. reference .. "/json")
  if status == 404 then return nil, "gone" end
  if status ~= 200 or type(document) ~= "table" or type(document.Id) ~= "string" then return nil, "unanswered" end
  if document.Id ~= reference and document.Name ~= "/" .. reference then return nil, "gone" end
  return document
end

return engine
