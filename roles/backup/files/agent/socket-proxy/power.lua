-- SPDX-License-Identifier: GPL-3.0-or-later
-- Which containers give whoever runs a command in them power over the host, or over the backups: decisions over documents of
-- the engine, nothing else. They are those of the agent's core/power.py, which a test holds them to, word for word.

local power = {}

local function set(...)
  local found = {}
  for _, one in ipairs({ ... }) do found[one] = true end
  return found
end

-- The product's own containers, of any release: by what the role, the image and a drill put on them, and by name.
local OWN_LABELS = { "scalr.backup.own", "scalr.backup.directories", "scalr.backup.drill" }
local OWN_NAMES = set("scalr-backup", "scalr-backup-socket-proxy")

local CAPABILITIES = set(
  "ALL", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH", "MAC_ADMIN", "MAC_OVERRIDE", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
  "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_TIME"
)

local NAMESPACES = {
  { "NetworkMode", "network" }, { "PidMode", "process" }, { "IpcMode", "IPC" }, { "UTSMode", "UTS" }, { "UsernsMode", "user" },
}

-- Directories in which an engine's socket lies, or whose files say who is root; and those of which all that is below counts.
local DIRECTORIES = set(
  "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/run/dbus", "/run/systemd",
  "/run/user", "/sbin", "/sys", "/usr", "/var", "/var/lib", "/var/lib/containerd", "/var/lib/containers", "/var/lib/docker",
  "/var/lib/docker/containers", "/var/lib/docker/overlay2", "/var/lib/docker/volumes", "/var/spool", "/var/spool/cron",
  "/var/snap", "/etc/cron.d", "/etc/sudoers.d", "/etc/systemd", "/etc/systemd/system", "/lib/systemd", "/opt", "/opt/scalr",
  "/opt/scalr/services", "/root/.ssh", "/usr/lib", "/usr/lib/systemd", "/usr/local", "/usr/local/bin", "/usr/local/sbin"
)
local TREES = {
  "/opt/scalr/services/backup", "/proc", "/run/buildkit", "/run/containerd", "/run/crio", "/run/dbus", "/run/docker",
  "/run/incus", "/run/k3s", "/run/podman", "/run/systemd", "/var/lib/incus", "/var/lib/lxd", "/var/snap/lxd",
}
-- Files that say who is root, where they may be written.
local FILES = set("/etc/crontab", "/etc/group", "/etc/passwd", "/etc/shadow", "/etc/sudoers")
local ENGINES = { "buildkit", "containerd", "crio", "docker", "incus", "lxd", "podman" }

power.OWN = "it is one of scalr.backup's own containers"
power.TOO_MANY = "it shares the namespaces of too many containers"

function power.sentence(name, held)
  return name .. " is refused: a command in it could reach the host or the backups, because " .. held
    .. ". Take that away from it, or leave it out: with backup_exclude, or with false as its label scalr.backup."
end

function power.through(name, held)
  return "it shares a namespace of " .. tostring(name):gsub("^/", "") .. ", which is refused: " .. held
end

-- Whether the operator accepts that a container of this name shares namespaces of the host.
function power.accepts(configuration, name)
  local names = configuration.host_namespaces_accepted
  for _, one in ipairs(type(names) == "table" and names or {}) do
    if one == name then return true end
  end
  return false
end

local function list(value) return type(value) == "table" and value or {} end

local function is_socket(path)
  local name = path:match("[^/]*$"):lower()
  if name:sub(-5) ~= ".sock" then return false end
  for _, engine in ipairs(ENGINES) do
    if name:find(engine, 1, true) then return true end
  end
  return false
end

-- Whether a place of the host is one from which its engine, or the host, can be had.
local function is_powerful(source)
  local path = "/" .. source:gsub("/+", "/"):gsub("^/", ""):gsub("/$", "")
  if (path .. "/"):find("/../", 1, true) then return true end
  if path == "/var/run" or path:sub(1, 9) == "/var/run/" then path = path:sub(5) end
  if DIRECTORIES[path] or is_socket(path) or path:find("^/run/user/%d+$")
    or path:find("^/run/user/%d+/docker$") or path:find("^/run/user/%d+/podman$") then return true end
  for _, tree in ipairs(TREES) do
    if path == tree or path:sub(1, #tree + 1) == tree .. "/" then return true end
  end
  return false
end

-- Of one kind, where it is given.
local function of_namespaces(host, kind)
  for _, namespace in ipairs(NAMESPACES) do
    if host[namespace[1]] == "host" and (kind or namespace[1]) == namespace[1] then
      return "it shares the host's " .. namespace[2] .. " namespace, and backup_host_namespaces_accepted does not name it"
    end
  end
  return nil
end

-- Whether a container belongs to this product.
function power.is_own(document)
  local labels = type(document.Config) == "table" and list(document.Config.Labels) or {}
  for _, label in ipairs(OWN_LABELS) do
    if labels[label] ~= nil then return true end
  end
  return OWN_NAMES[(tostring(document.Name):gsub("^/", ""))] or false
end

-- What power a container gives by itself, as half a sentence; nil for none.
function power.obstacle(document, accepted)
  local host = document.HostConfig
  if type(host) ~= "table" then return "the engine does not say what it may do" end
  if power.is_own(document) then return power.OWN end
  if host.Privileged ~= false then return "it is privileged" end
  for _, name in ipairs(list(host.CapAdd)) do
    local plain = tostring(name):upper():gsub("^CAP_", "")
    if CAPABILITIES[plain] then return "it has the capability " .. plain end
  end
  if next(list(host.Devices)) ~= nil or next(list(host.DeviceCgroupRules)) ~= nil then return "it has devices of the host" end
  if type(host.ReadonlyPaths) == "table" and next(host.ReadonlyPaths) == nil then
    return "its security option systempaths=unconfined lets it change the kernel's settings"
  end
  -- Podman's name for it; its paths are not told.
  for _, option in ipairs(list(host.SecurityOpt)) do
    if tostring(option):lower():sub(1, 7) == "unmask=" then
      return "its security option unmask lets it change the kernel's settings"
    end
  end
  for _, mount in ipairs(list(document.Mounts)) do
    local source, destination = tostring(mount.Source), tostring(mount.Destination)
    if mount.Type == "bind" and (is_powerful(source) or mount.RW ~= false and FILES[source]) then
      return "it mounts " .. source .. " of the host"
    end
    if mount.Type == "bind" and is_socket(destination) then return "it mounts an engine's socket at " .. destination end
  end
  return not accepted and of_namespaces(host) or nil
end

-- The namespaces that it shares with containers: of which kind, and of which one by what the engine calls it. Only of one
-- kind, where it is given.
function power.joined(document, kind)
  local found = {}
  for _, one in ipairs({ "NetworkMode", "PidMode", "IpcMode" }) do
    local reference = tostring(list(document.HostConfig)[one]):match("^container:([a-zA-Z0-9][a-zA-Z0-9_.-]*)$")
    if reference and (kind or one) == one then found[#found + 1] = { one, reference } end
  end
  return found
end

-- What power a container gives whoever shares its namespace of a kind, as half a sentence; nil for none. Who sees its
-- processes has all that these have. In its network or IPC there is only what is there.
function power.of_shared(document, kind, accepted)
  if kind == "PidMode" then return power.obstacle(document, accepted) end
  if power.is_own(document) then return power.OWN end
  return not accepted and of_namespaces(list(document.HostConfig), kind) or nil
end

-- The volumes that may be another name for a place of the host.
function power.volumes(document)
  local found = {}
  for _, mount in ipairs(list(document.Mounts)) do
    if mount.Type == "volume" and mount.Driver == "local" and type(mount.Name) == "string" then found[#found + 1] = mount.Name end
  end
  return found
end

-- What power a volume gives, as half a sentence; nil for none.
function power.of_volume(name, volume)
  local options = type(volume) == "table" and list(volume.Options) or {}
  local device = options.device
  if options.type == "overlay" then return "its volume " .. name .. " is an overlay of directories of the host" end
  if type(device) ~= "string" or device:sub(1, 1) ~= "/" or not is_powerful(device) then return nil end
  return "its volume " .. name .. " is " .. device .. " of the host"
end

return power
