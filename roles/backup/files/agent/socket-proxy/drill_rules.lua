-- SPDX-License-Identifier: GPL-3.0-or-later
-- What a drill's throwaway container is, and which image it may have: decisions over documents, nothing else.
-- The shape is that of the agent's tools/docker/throwaways.py, which a test holds it to.

local cjson = require("cjson")
local every = require("rules")

local rules = {}

-- As actions/drill/run.py names and labels them.
local NAME = "^scalr%-backup%-drill%-%d+t%d+z%-%x+%-%d+$"
local LABELS = {
  ["scalr.backup"] = "^false$",
  ["scalr.backup.drill"] = "^%d+T%d+Z%-%x+$",
  ["scalr.backup.agent"] = "^%x+$",
}
local CAPABILITIES = { "CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID" }
local TMPFS = "^rw,noexec,nosuid,nodev,mode=1777,size=%d+$"
local LONGEST_LIFE_SECONDS = 12 * 3600
-- Bytes below which no server starts, and what the processes of one may share.
local LEAST_MEMORY, SHARED_MEMORY = 64 * 1024 * 1024, 256 * 1024 * 1024
-- A server and the clients of a restore take some dozens.
local PROCESSES = 1024
-- The kernel's highest: where the host's memory runs out, it ends a drill before anything else.
local FIRST_TO_END = 1000

local function is_absent(value) return value == nil or value == cjson.null end
local function is_empty(value) return is_absent(value) or value == "" or (type(value) == "table" and next(value) == nil) end
local function is_false(value) return value == false end
local function is_true(value) return value == true end
local function is_boolean(value) return type(value) == "boolean" end
local function is_whole(value) return type(value) == "number" and value >= 0 and value == math.floor(value) end
local function is_text(value, pattern) return type(value) == "string" and value:match(pattern) ~= nil end

-- A list of words, given or not.
local function is_strings(value) return value == nil or every.is_strings(value) end

-- Exactly these words in any order.
local function is_list(...)
  local wanted = { ... }
  return function(value)
    if is_absent(value) or not is_strings(value) or #value ~= #wanted then return false end
    local missing = {}
    for _, word in ipairs(wanted) do missing[word] = true end
    for _, word in ipairs(value) do missing[word] = nil end
    return next(missing) == nil
  end
end

-- A place of the container's own that may lie in memory.
local function is_place(path)
  if not is_text(path, "^/[^%c]+$") or path:find("//", 1, true) or (path .. "/"):find("/%.%.?/") then return false end
  local first = path:match("^/([^/]+)")
  return first ~= "proc" and first ~= "sys" and first ~= "dev"
end

local function is_tmpfs(value)
  if type(value) ~= "table" then return false end
  for path, options in pairs(value) do
    if not is_place(path) or not is_text(options, TMPFS) then return false end
  end
  return true
end

local function is_labels(value)
  if type(value) ~= "table" then return false end
  for name in pairs(value) do
    if not LABELS[name] then return false end
  end
  for name, pattern in pairs(LABELS) do
    if not is_text(value[name], pattern) then return false end
  end
  return true
end

-- Its first process ends it after a while, whoever else has forgotten it.
local function is_mortal(value)
  if is_absent(value) or not is_strings(value) then return false end
  if value[1] ~= "timeout" or value[2] ~= "-s" or value[3] ~= "KILL" or not is_text(value[4], "^%d+$") then return false end
  local seconds = tonumber(value[4])
  return seconds >= 1 and seconds <= LONGEST_LIFE_SECONDS
end

-- Everything that may be said of a throwaway container, and how.
local CONTAINER = {
  AttachStderr = is_boolean,
  AttachStdin = is_false,
  AttachStdout = is_boolean,
  Cmd = is_strings,
  Domainname = is_empty,
  Entrypoint = is_mortal,
  Env = is_strings,
  ExposedPorts = is_empty,
  Healthcheck = is_absent,
  HostConfig = function(value) return type(value) == "table" end,
  Hostname = is_empty,
  Image = function(value) return is_text(value, "^sha256:%x+$") and #value == 71 end,
  Labels = is_labels,
  MacAddress = is_empty,
  NetworkDisabled = is_false,
  NetworkingConfig = is_empty,
  OpenStdin = is_false,
  Runtime = is_empty,
  StdinOnce = is_false,
  StopSignal = is_empty,
  StopTimeout = is_absent,
  Tty = is_false,
  User = function(value) return is_empty(value) or value == "postgres" end,
  Volumes = is_empty,
  WorkingDir = is_empty,
}
local SETTINGS = {
  AutoRemove = is_true,
  CapAdd = is_list(table.unpack(CAPABILITIES)),
  CapDrop = is_list("ALL"),
  Init = is_true,
  LogConfig = function(value) return type(value) == "table" and value.Type == "none" and is_empty(value.Config) end,
  Memory = function(value) return is_whole(value) and value >= LEAST_MEMORY end,
  MemorySwap = is_whole,
  NetworkMode = function(value) return value == "none" end,
  OomScoreAdj = function(value) return value == FIRST_TO_END end,
  PidsLimit = function(value) return value == PROCESSES end,
  ReadonlyRootfs = is_true,
  SecurityOpt = is_list("no-new-privileges"),
  ShmSize = function(value) return value == SHARED_MEMORY end,
  Tmpfs = is_tmpfs,
  Ulimits = function(value)
    local core = type(value) == "table" and #value == 1 and value[1]
    return type(core) == "table" and core.Name == "core" and core.Soft == 0 and core.Hard == 0
  end,
}

-- The first thing in a document that no throwaway container has; nil where there is none.
local function stray(document, known)
  for key, value in pairs(document) do
    local holds = type(key) == "string" and known[key]
    if not holds or not holds(value) then return type(key) == "string" and key:match("^%w+$") or "a setting" end
  end
  for key in pairs(known) do
    -- What has to be said cannot be left out.
    if document[key] == nil and not known[key](nil) then return key end
  end
  return nil
end

-- The only container that may be made, out of what a drill has asked for, as the engine's JSON; or nil and why not.
-- It is written anew, so that no spelling says more to the engine than it did here. memory is what the host has available, in bytes.
function rules.throwaway(body, name, memory)
  local decoded, document = pcall(cjson.decode, body)
  if not decoded or type(document) ~= "table" or not body:match("^%s*{") then return nil, "The body is no JSON object." end
  if not is_text(name, NAME) then return nil, "A drill may only make throwaway containers, whose names say so." end
  local settings = document.HostConfig
  local key = stray(document, CONTAINER) or stray(settings, SETTINGS)
  if key then return nil, "A drill may only make throwaway containers of one shape, and their " .. key .. " is another." end
  if settings.Memory > memory then return nil, "A throwaway container may not have more memory than the host has available." end
  if settings.MemorySwap ~= settings.Memory then return nil, "A throwaway container may not swap." end
  return cjson.encode({
    AttachStderr = true,
    AttachStdout = true,
    Cmd = not is_empty(document.Cmd) and document.Cmd or nil,
    Entrypoint = document.Entrypoint,
    Env = not is_empty(document.Env) and document.Env or nil,
    Image = document.Image,
    Labels = document.Labels,
    User = not is_empty(document.User) and document.User or nil,
    HostConfig = {
      AutoRemove = true,
      CapAdd = CAPABILITIES,
      CapDrop = { "ALL" },
      Init = true,
      LogConfig = { Type = "none" },
      Memory = settings.Memory,
      MemorySwap = settings.Memory,
      NetworkMode = "none",
      OomScoreAdj = FIRST_TO_END,
      PidsLimit = PROCESSES,
      Privileged = false,
      ReadonlyRootfs = true,
      SecurityOpt = { "no-new-privileges" },
      ShmSize = SHARED_MEMORY,
      Tmpfs = settings.Tmpfs,
      Ulimits = { { Name = "core", Soft = 0, Hard = 0 } },
    },
  }), document.Image
end

-- What a drill asks for to learn whether it may make containers at all: one of no image, which there cannot be.
function rules.is_question(body)
  local decoded, document = pcall(cjson.decode, body)
  return decoded and type(document) == "table" and document.Image == "" and next(document, "Image") == nil
    and next(document) == "Image"
end

-- Whether everything that a container mounts is memory, by its inspect document.
function rules.is_in_memory(document)
  for _, mount in ipairs(type(document.Mounts) == "table" and document.Mounts or {}) do
    if type(mount) ~= "table" or mount.Type ~= "tmpfs" then return false end
  end
  return true
end

-- Words as some engines give them back: with a prefix, or with what they mean.
local function plain(words)
  if not is_strings(words) or is_absent(words) then return nil end
  local found = {}
  for number, word in ipairs(words) do found[number] = word:gsub("^CAP_", ""):gsub("[:=]true$", "") end
  return found
end

-- Whether a container is a throwaway one, by its inspect document: nothing of the host is in it, or within its reach.
function rules.is_throwaway(document)
  local config, settings = document.Config, document.HostConfig
  if type(config) ~= "table" or type(settings) ~= "table" or type(document.Name) ~= "string" then return false end
  local labels = type(config.Labels) == "table" and config.Labels or {}
  for name, pattern in pairs(LABELS) do
    if not is_text(labels[name], pattern) then return false end
  end
  for _, key in ipairs({ "Binds", "Devices", "DeviceCgroupRules", "DeviceRequests", "Links", "Mounts", "PidMode", "UTSMode",
    "UsernsMode", "VolumesFrom" }) do
    if not is_empty(settings[key]) then return false end
  end
  local ipc = is_empty(settings.IpcMode) or settings.IpcMode == "private" or settings.IpcMode == "shareable"
  local rights = SETTINGS.CapAdd(plain(settings.CapAdd)) and SETTINGS.CapDrop(plain(settings.CapDrop))
    and SETTINGS.SecurityOpt(plain(settings.SecurityOpt))
  return is_text(document.Name:sub(2), NAME) and rules.is_in_memory(document) and ipc and rights
    and settings.Privileged == false and settings.AutoRemove == true and settings.ReadonlyRootfs == true
    and settings.NetworkMode == "none"
end

-- Whether an image says that it is PostgreSQL's: by its port, or by the variables that the official one and Bitnami's set.
function rules.says_postgres(document)
  local config = type(document.Config) == "table" and document.Config or {}
  if type(config.ExposedPorts) == "table" and config.ExposedPorts["5432/tcp"] ~= nil then return true end
  for _, entry in ipairs(type(config.Env) == "table" and config.Env or {}) do
    if is_text(entry, "^PGDATA=.") or is_text(entry, "^PG_MAJOR=.") or entry == "BITNAMI_APP_NAME=postgresql" then return true end
  end
  return false
end

-- The name of an image in full, however it is spelled: with its registry, and its digest, or else its tag.
local function full_name(reference)
  local named, digest = reference:match("^([^@]+)(@.+)$")
  named = named or reference
  local path, tag = named:match("^(.+)(:[^/:]+)$")
  path = path or named
  local registry, rest = path:match("^([^/]+)/(.+)$")
  if not registry or not (registry:find("[.:]") or registry == "localhost") then registry, rest = "docker.io", path end
  if registry == "index.docker.io" then registry = "docker.io" end
  if registry == "docker.io" and not rest:find("/", 1, true) then rest = "library/" .. rest end
  return registry .. "/" .. rest .. (digest or tag or ":latest")
end
rules.full_name = full_name

-- Whether an image is called so, by its inspect document. The engine also finds one by the beginning of its id, which is no name.
function rules.is_named(document, reference)
  for _, key in ipairs({ "RepoTags", "RepoDigests" }) do
    for _, name in ipairs(type(document[key]) == "table" and document[key] or {}) do
      if type(name) == "string" and full_name(name) == full_name(reference) then return true end
    end
  end
  return false
end

-- The name of a container in the engine's list; one with links has further ones, of the form /other/alias.
function rules.name_of(summary)
  for _, name in ipairs(type(summary.Names) == "table" and summary.Names or {}) do
    local own = type(name) == "string" and name:match("^/([^/]+)$")
    if own then return own end
  end
  return nil
end

-- Whether there can be an image of that name, and nothing but an image in the path that it becomes a part of.
function rules.is_reference(text)
  return is_text(text, "^%w[%w._/:@-]*$") and #text <= 512 and not text:find("..", 1, true) and not text:find("//", 1, true)
end

return rules
