-- SPDX-License-Identifier: GPL-3.0-or-later
-- What haproxy.cfg asks about a call: is this container a database container of this host, is this the body of a plain
-- exec, does this exec run in a database container. The decisions are in rules.lua; here is what they need to know.
--
-- Each action sets txn.allowed, txn.refused, txn.gone or txn.unanswered, and says why in txn.reason.

local cjson = require("cjson")
local rules = require("rules")

local CONFIGURATION = "/etc/scalr-backup/config.json"
local ENGINE = "unix@/var/run/docker.sock"
local ENGINE_MILLISECONDS = 30000

local function url_encode(text)
  return (text:gsub("[^%w]", function(character) return string.format("%%%02X", character:byte()) end))
end

-- Ask the engine; returns its decoded answer and its status, the first nil where it is none.
local function ask(path)
  local answer = core.httpclient():get({ url = "http://engine" .. path, dst = ENGINE, timeout = ENGINE_MILLISECONDS })
  local decoded, document = pcall(cjson.decode, answer.body or "")
  return decoded and document or nil, answer.status
end

-- Read anew for each decision: the agent, too, takes a changed configuration by itself.
local function read_configuration()
  local file = io.open(CONFIGURATION, "r")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  local decoded, document = pcall(cjson.decode, text)
  return decoded and document or nil
end

local function allow(txn) txn:set_var("txn.allowed", true) end

local function refuse(txn, reason)
  txn:set_var("txn.refused", true)
  txn:set_var("txn.reason", reason)
end

local function gone(txn, reason)
  txn:set_var("txn.gone", true)
  txn:set_var("txn.reason", reason)
end

local function unanswered(txn, reason)
  txn:set_var("txn.unanswered", true)
  txn:set_var("txn.reason", reason)
end

-- The summary of the one container that the engine means by a reference: a full id or a full name, nothing shorter.
local function find(reference)
  local filters = rules.is_id(reference) and { id = { reference } }
    or { name = { "^/" .. reference:gsub("%.", "\\.") .. "$" } }
  local found, status = ask("/containers/json?all=1&filters=" .. url_encode(cjson.encode(filters)))
  if status ~= 200 or type(found) ~= "table" then return nil, "unanswered" end
  return rules.only(found, reference)
end

-- Judge the container of a reference; returns its id where the call may go on, else nothing, and says why.
local function judge(txn, reference)
  local summary, obstacle = find(reference)
  if obstacle then return unanswered(txn, "The Docker Engine does not say which container " .. reference .. " is.") end
  if not summary then return gone(txn, "No such container: " .. reference) end
  local configuration = read_configuration()
  if not configuration then return refuse(txn, "The configuration of the agent cannot be read.") end
  local reason = rules.obstacle(summary, configuration)
  if reason then return refuse(txn, reason) end
  return summary.Id
end

core.register_action("container", { "http-req" }, function(txn)
  local version, reference, call = txn.f:path():match("^(.*)/containers/([^/]+)/(%l+)$")
  local id = judge(txn, reference)
  if not id then return end
  -- From here on it is this very container, whatever its name means in a moment.
  txn.http:req_set_path(version .. "/containers/" .. id .. "/" .. call)
  allow(txn)
end)

core.register_action("exec_body", { "http-req" }, function(txn)
  local body = txn.f:req_body() or ""
  local announced = tonumber(txn.f:req_hdr("content-length") or "")
  if announced ~= #body then return refuse(txn, "The body of an exec must come whole, and is too large for the agent's.") end
  local reason = rules.exec_obstacle(body)
  if reason then refuse(txn, reason) end
end)

core.register_action("exec_id", { "http-req" }, function(txn)
  local exec = txn.f:path():match("/exec/(%x+)/%l+$")
  local document, status = ask("/exec/" .. exec .. "/json")
  if status == 404 then return gone(txn, "No such exec instance: " .. exec) end
  local container = type(document) == "table" and document.ContainerID
  if status ~= 200 or type(container) ~= "string" or not rules.is_id(container) then
    return unanswered(txn, "The Docker Engine does not say in which container an exec is.")
  end
  if judge(txn, container) then allow(txn) end
end)
