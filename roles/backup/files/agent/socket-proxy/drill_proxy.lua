-- SPDX-License-Identifier: GPL-3.0-or-later
-- What drill.cfg asks about a call of a drill, and the one container that a drill may make. The decisions are in
-- drill_rules.lua; here is what they need to know.
--
-- A call has a verdict when it has been found to be allowed, as the last thing that is done to it; without one it does
-- not pass. So a check that fails, for lack of memory or of time, is a refusal.
--
-- The proxy lives as long as its drill: whoever starts both names the drill's container after this one.

local drill_rules = require("drill_rules")
local engine = require("engine")
local rules = require("rules")
local verdict = require("verdict")

local ENGINE_MILLISECONDS = 60000
-- From here on the engine takes no settings with the start of a container.
local OLDEST_API = 24
-- The drill's container, and how long it may take to be there; seconds.
local DRILL = "scalr-backup-drill-" .. (os.getenv("HOSTNAME") or "")
local LOOK_SECONDS, PATIENCE_SECONDS = 2, 120
-- The image that the operator has named for the drill, if any.
local ASKED_IMAGE = os.getenv("DRILL_IMAGE") or ""

-- The containers that were made through here, the full names of images that were asked of a registry, and the ids of images
-- that may be used.
local made, asked, usable = {}, {}, {}
-- The ids of images that were here before a registry was asked for one: they are what no pull has brought.
local before = {}
local is_making = false
-- How many images were asked for, and may be.
local pulls, MOST_PULLS = 0, 64
-- Whether the drill has been there.
local has_come = false

local function refuse(txn, reason) verdict.refuse(txn, "call", reason) end
local function gone(txn, reason) verdict.refuse(txn, "gone", reason) end
local function unanswered(txn)
  verdict.refuse(txn, "unanswered", "The Docker Engine does not answer the proxy of the drill.")
end

-- Let a call pass: to this path, with this query.
local function pass(txn, path, query)
  txn.http:req_set_path(path)
  txn.http:req_set_query(query or "")
  verdict.pass(txn, txn.f:method(), path)
end

-- What the host has available of its memory, in bytes; none where it cannot be read.
local function host_memory()
  local file = io.open("/proc/meminfo", "r")
  local text = file and file:read("a") or ""
  if file then file:close() end
  return (tonumber(text:match("MemAvailable:%s+(%d+) kB")) or 0) * 1024
end

-- What comes with a call that has nothing to say.
local function has_body(txn)
  return txn.f:req_hdr_cnt("transfer-encoding") > 0 or (txn.f:req_hdr("content-length") or "0") ~= "0"
end

-- The body of a call, whole; nil where it is too large, or comes in pieces.
local function whole_body(txn)
  local body = txn.f:req_body() or ""
  return tonumber(txn.f:req_hdr("content-length") or "") == #body and body or nil
end

-- Whether a call stays the one protocol that the rules read, but for a stream.
local function keeps_to_http(txn, is_stream)
  local count = txn.f:req_hdr_cnt("upgrade")
  return count == 0 or (is_stream and count == 1 and txn.f:req_hdr("upgrade"):lower() == "tcp")
end

-- The id of a container that this drill has made; else nil, and says why. With leftovers, one that a killed drill has left.
local function own(txn, reference, with_leftovers)
  local document, missing = engine.container(reference)
  if missing == "gone" then return gone(txn, "No such container: " .. reference) end
  if missing or not rules.is_id(document.Id) then return unanswered(txn) end
  if made[document.Id] or (with_leftovers and drill_rules.is_throwaway(document)) then return document.Id, document end
  return refuse(txn, "A drill may not touch " .. reference .. ", which is none of its throwaway containers.")
end

-- Whether a database container of this host runs this image.
local function is_of_a_database(id)
  local summaries, status = engine.ask("/containers/json?all=1")
  local configuration = engine.configuration()
  if status ~= 200 or type(summaries) ~= "table" or not configuration then return false end
  for _, summary in ipairs(summaries) do
    local name = type(summary) == "table" and summary.ImageID == id and drill_rules.name_of(summary)
    if name and rules.obstacle(name, summary.Labels, configuration) == nil then return true end
  end
  return false
end

-- Whether an image has come with a pull. That it is called so is not enough: a registry may say of any image that it is the one
-- that is wanted, and the engine then gives its name to the one that is here.
local function is_pulled(reference, document)
  return asked[drill_rules.full_name(reference)] and not before[document.Id] and drill_rules.is_named(document, reference)
end

-- The id of an image that a throwaway container may have; else nil, and says why.
local function image(txn, path)
  -- Docker's libraries encode the sign before a digest.
  local reference = path:gsub("%%40", "@")
  if not drill_rules.is_reference(reference) then return gone(txn, "No such image.") end
  local document, status = engine.ask("/images/" .. reference .. "/json")
  if status == 404 or status == 400 then return gone(txn, "No such image: " .. reference) end
  if status ~= 200 or type(document) ~= "table" or type(document.Id) ~= "string" or not document.Id:match("^sha256:%x+$") then
    return unanswered(txn)
  end
  local id = document.Id
  if usable[id] or reference == ASKED_IMAGE or is_pulled(reference, document) or drill_rules.says_postgres(document)
    or is_of_a_database(id) then
    usable[id] = true
    return id
  end
  return refuse(txn, "A drill may not use the image " .. reference .. ", which no database container of this host runs, and "
    .. "which does not say that it is PostgreSQL (port 5432, or PGDATA); if it is, name it with image.")
end

-- The parameters of a query, decoded; nil where one is there twice or is none of those known.
local function parameters(txn, known)
  local found = {}
  for part in (txn.f:query() or ""):gmatch("[^&]+") do
    local name, value = part:match("^([%w]+)=(.*)$")
    if not name or not known[name] or found[name] then return nil end
    found[name] = value:gsub("+", " "):gsub("%%(%x%x)", function(code) return string.char(tonumber(code, 16)) end)
  end
  return found
end

local calls = {}

function calls.about(txn) pass(txn, txn.f:path()) end

-- Throwaway containers only: what else runs on the host is no business of a drill's.
function calls.list(txn)
  pass(txn, txn.f:path(), "all=1&filters=" .. engine.url_encode('{"label":["scalr.backup.drill"]}'))
end

function calls.inspect(txn, version, reference)
  local id = own(txn, reference, true)
  if id then pass(txn, version .. "/containers/" .. id .. "/json") end
end

-- Whether a container has power over the host, which drill.cfg answers: one of this drill's has none.
function calls.power(txn, _, id)
  if own(txn, id, false) then pass(txn, txn.f:path()) end
end

function calls.remove(txn, version, reference)
  if has_body(txn) then return end
  local id = own(txn, reference, true)
  if id then pass(txn, version .. "/containers/" .. id, "force=1&v=1") end
end

-- It was made as it was written here, but an image may declare a volume, and that would lie on a disk.
function calls.start(txn, version, reference)
  if has_body(txn) then return end
  local id, document = own(txn, reference, false)
  if not id then return end
  if not drill_rules.is_in_memory(document) then return refuse(txn, "This container would write to a disk.") end
  pass(txn, version .. "/containers/" .. id .. "/start")
end

function calls.attach(txn, version, reference)
  if has_body(txn) then return end
  local id = own(txn, reference, false)
  if id then pass(txn, version .. "/containers/" .. id .. "/attach", "stdout=1&stderr=1&stream=1") end
end

function calls.exec(txn, version, reference)
  local body = whole_body(txn)
  if not body then return refuse(txn, "The body of an exec must come whole, and is too large for a drill's.") end
  local reason = rules.exec_obstacle(body)
  if reason then return refuse(txn, reason) end
  local id = own(txn, reference, false)
  if id then pass(txn, version .. "/containers/" .. id .. "/exec") end
end

-- Whether an exec is in a throwaway container of this drill; says why where it is not.
local function is_own_exec(txn, exec)
  local document, status = engine.ask("/exec/" .. exec .. "/json")
  if status == 404 then return gone(txn, "No such exec instance: " .. exec) end
  local container = type(document) == "table" and document.ContainerID
  if status ~= 200 or type(container) ~= "string" then return unanswered(txn) end
  if not made[container] then return refuse(txn, "This exec is in none of the drill's throwaway containers.") end
  return true
end

function calls.inspect_exec(txn, _, exec)
  if is_own_exec(txn, exec) then pass(txn, txn.f:path()) end
end

function calls.start_exec(txn, _, exec)
  local body = whole_body(txn)
  local reason = not body and "The body of an exec's start must come whole." or rules.start_obstacle(body)
  if reason then return refuse(txn, reason) end
  if is_own_exec(txn, exec) then pass(txn, txn.f:path()) end
end

function calls.image(txn, version, reference)
  local id = image(txn, reference)
  if id then pass(txn, version .. "/images/" .. id .. "/json") end
end

-- Remember which images are here; nil where the engine does not say. The second is whether the id of one begins so.
local function remember_images(beginning)
  local images, status = engine.ask("/images/json?all=1")
  if status ~= 200 or type(images) ~= "table" then return nil end
  local begins = false
  for _, one in ipairs(images) do
    local id = type(one) == "table" and one.Id
    if type(id) ~= "string" then return nil end
    before[id] = true
    begins = begins or id:gsub("^sha256:", ""):sub(1, #beginning) == beginning
  end
  return true, begins
end

-- An image that this host has not: so nothing that means an image here comes to mean another one.
function calls.pull(txn)
  local given = parameters(txn, { fromImage = true, tag = true })
  if has_body(txn) or not given or not given.fromImage or not given.tag then
    return refuse(txn, "A drill may only pull one image by its name.")
  end
  local separator = given.tag:match("^%w+:%x+$") and "@" or ":"
  local name = given.fromImage .. separator .. given.tag
  if not drill_rules.is_reference(name) or given.tag:find("/", 1, true) then
    return refuse(txn, "There can be no image of such a name.")
  end
  local _, status = engine.ask("/images/" .. name .. "/json")
  if status == 200 then return refuse(txn, "A drill may not pull an image that is there: " .. name .. ".") end
  if status ~= 404 then return unanswered(txn) end
  if pulls >= MOST_PULLS then return refuse(txn, "A drill may not pull so many images.") end
  local is_told, is_beginning = remember_images(given.fromImage)
  if not is_told then return unanswered(txn) end
  if is_beginning then return refuse(txn, "A drill may not pull an image whose name is the beginning of another one's id.") end
  pulls = pulls + 1
  asked[drill_rules.full_name(name)] = true
  pass(txn, txn.f:path(), "fromImage=" .. engine.url_encode(given.fromImage) .. "&tag=" .. engine.url_encode(given.tag))
end

-- One at a time: a drill has one server, and its memory is all that the host has to spare.
local function has_one()
  for id in pairs(made) do
    local _, status = engine.ask("/containers/" .. id .. "/json")
    if status ~= 404 then return true end
    made[id] = nil
  end
  return false
end

function calls.create(txn)
  local body = whole_body(txn)
  if not body then return refuse(txn, "The settings of a container must come whole, and are too large for a drill's.") end
  if drill_rules.is_question(body) then return verdict.refuse(txn, "invalid", "No image was named.") end
  local given = parameters(txn, { name = true })
  local written, found = drill_rules.throwaway(body, given and given.name, host_memory())
  if not written then return refuse(txn, found) end
  if not image(txn, found) then return end
  if has_one() then return refuse(txn, "A drill may have one throwaway container at a time.") end
  txn:set_var("txn.written", written)
  txn:set_var("txn.name", given.name)
  verdict.pass(txn, "POST", txn.f:path())
end

local function say(applet, status, text)
  applet:set_status(status)
  applet:add_header("content-type", "application/json")
  applet:add_header("content-length", tostring(#text))
  applet:start_response()
  applet:send(text)
end

-- Make the container that has been judged, and remember it.
core.register_service("create", "http", function(applet)
  local written, name = applet:get_var("txn.written"), applet:get_var("txn.name")
  if is_making or type(written) ~= "string" or type(name) ~= "string" then
    return say(applet, 403, '{"message":"A drill may make one throwaway container at a time."}')
  end
  is_making = true
  -- Another may have been made since this one was judged.
  if has_one() then
    is_making = false
    return say(applet, 403, '{"message":"A drill may have one throwaway container at a time."}')
  end
  local answered = core.httpclient():post({
    url = "http://engine/containers/create?name=" .. engine.url_encode(name),
    headers = { ["content-type"] = { "application/json" } },
    body = written,
    dst = engine.SOCKET,
    timeout = ENGINE_MILLISECONDS,
  })
  local document = engine.decode(answered.body)
  if answered.status == 201 and type(document) == "table" and type(document.Id) == "string" then
    made[document.Id] = true
  end
  is_making = false
  if type(answered.status) ~= "number" or answered.status < 200 then
    return say(applet, 503, '{"message":"The Docker Engine does not answer the proxy of the drill."}')
  end
  say(applet, answered.status, answered.body or "")
end)

local NAME, ID = "([a-zA-Z0-9][a-zA-Z0-9_.-]*)", "(" .. ("[0-9a-f]"):rep(64) .. ")"
-- Every call that a drill makes: its method, its path below the version, what judges it, and whether it becomes a stream.
local LIST = {
  { "GET", "^/_ping$", calls.about },
  { "HEAD", "^/_ping$", calls.about },
  { "GET", "^/version$", calls.about },
  { "GET", "^/containers/json$", calls.list },
  { "GET", "^/images/(.+)/json$", calls.image },
  { "POST", "^/images/create$", calls.pull },
  { "POST", "^/containers/create$", calls.create },
  { "GET", "^/containers/" .. NAME .. "/json$", calls.inspect },
  { "GET", "^/scalr%-backup/power/" .. ID .. "$", calls.power },
  { "DELETE", "^/containers/" .. NAME .. "$", calls.remove },
  { "POST", "^/containers/" .. NAME .. "/start$", calls.start },
  { "POST", "^/containers/" .. NAME .. "/attach$", calls.attach, true },
  { "POST", "^/containers/" .. NAME .. "/exec$", calls.exec },
  { "GET", "^/exec/" .. ID .. "/json$", calls.inspect_exec },
  { "POST", "^/exec/" .. ID .. "/start$", calls.start_exec, true },
}

core.register_action("judge", { "http-req" }, function(txn)
  has_come = true
  local path, method = txn.f:path() or "", txn.f:method()
  local version, number = path:match("^(/v1%.(%d+))/")
  if number and tonumber(number) < OLDEST_API then return end
  local rest = path:sub(#(version or "") + 1)
  for _, call in ipairs(LIST) do
    local found = call[1] == method and rest:match(call[2])
    if found then
      if keeps_to_http(txn, call[4]) then call[3](txn, version or "", found) end
      return
    end
  end
end)

-- What the drill has made does not outlive it, whatever it has become.
local function remove_all()
  while is_making do core.msleep(100) end
  for id in pairs(made) do
    core.httpclient():delete({
      url = "http://engine/containers/" .. id .. "?force=1&v=1", dst = engine.SOCKET, timeout = ENGINE_MILLISECONDS,
    })
  end
end

-- Ends with the drill, and when that never came.
core.register_task(function()
  local waited = 0
  while true do
    core.sleep(LOOK_SECONDS)
    waited = waited + LOOK_SECONDS
    local _, status = engine.ask("/containers/" .. DRILL .. "/json")
    if status == 200 then has_come = true end
    if status == 404 and (has_come or waited > PATIENCE_SECONDS) then
      remove_all()
      os.exit(0)
    end
  end
end)
