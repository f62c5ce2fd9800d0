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
-- Files that say who is root, and directories that hold one among other things, where they may be written.
local FILES = set(
  "/etc/crontab", "/etc/docker", "/etc/docker/daemon.json", "/etc/group", "/etc/gshadow", "/etc/passwd", "/etc/security",
  "/etc/shadow", "/etc/sudoers", "/root/.config", "/usr/share", "/var/lib/containers/storage",
  "/var/lib/containers/storage/volumes", "/var/lib/docker/volumes/metadata.db"
)
-- Places of which all that is below says who is root, or is run by root, where it may be written: these, what begins so, and
-- what has such a part.
local WRITABLE_TREES = {
  "/bin", "/boot", "/etc/alternatives", "/etc/apt", "/etc/binfmt.d", "/etc/cni", "/etc/containerd", "/etc/containers",
  "/etc/crio", "/etc/dbus-1", "/etc/default", "/etc/dhcp", "/etc/docker/plugins", "/etc/grub.d", "/etc/kernel",
  "/etc/kubernetes", "/etc/network", "/etc/NetworkManager", "/etc/networkd-dispatcher", "/etc/polkit-1", "/etc/ppp",
  "/etc/rancher", "/etc/ssh", "/etc/sysconfig", "/etc/systemd", "/etc/tmpfiles.d", "/etc/udev", "/etc/update-motd.d",
  "/etc/xinetd.d", "/lib", "/lib32", "/lib64", "/libx32", "/opt/cni", "/opt/containerd", "/run/sudo", "/run/udev", "/sbin",
  "/sys", "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/libx32", "/usr/local/bin",
  "/usr/local/lib", "/usr/local/lib64", "/usr/local/libexec", "/usr/local/sbin", "/usr/sbin", "/var/lib/cloud",
  "/var/lib/containerd", "/var/lib/docker/buildkit", "/var/lib/docker/containerd", "/var/lib/docker/containers",
  "/var/lib/docker/image", "/var/lib/docker/network", "/var/lib/docker/overlay2", "/var/lib/docker/plugins",
  "/var/lib/docker/rootfs", "/var/lib/docker/runtimes", "/var/lib/docker/swarm", "/var/lib/docker/vfs", "/var/lib/dpkg",
  "/var/lib/rpm", "/var/spool/at", "/var/spool/cron",
}
local BEGINNINGS = {
  "/etc/anacrontab", "/etc/bash", "/etc/cron", "/etc/dnf", "/etc/doas", "/etc/dpkg", "/etc/dracut", "/etc/environment",
  "/etc/init", "/etc/ld.so", "/etc/logrotate", "/etc/modprobe", "/etc/modules", "/etc/pam", "/etc/profile", "/etc/rc.",
  "/etc/rc0.d", "/etc/rc1.d", "/etc/rc2.d", "/etc/rc3.d", "/etc/rc4.d", "/etc/rc5.d", "/etc/rc6.d", "/etc/rcS.d",
  "/etc/security/namespace", "/etc/security/pam_env", "/etc/sudo", "/etc/sysctl", "/etc/yum", "/etc/zsh", "/root/.bash",
  "/root/.profile", "/root/.zsh", "/var/lib/containers/storage/libpod", "/var/lib/containers/storage/overlay",
}
local OF_USERS = {
  "/.bash_profile/", "/.bashrc/", "/.config/containers/", "/.config/systemd/", "/.docker/", "/.profile/", "/.ssh/",
}
-- What lies there all the same, and containers mount by habit.
local HARMLESS = { "/sys/kernel/mm", "/usr/lib/locale", "/usr/lib/ssl" }
-- The agent's, under the names that the role gives them.
local OWN_VOLUMES = set("scalr-backup-cache", "scalr-backup-repository", "scalr-backup-socket", "scalr-backup-state")
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

-- A place of the host by its usual name.
local function plain(source)
  local path = "/" .. source:gsub("/+", "/"):gsub("^/", ""):gsub("/$", "")
  if path == "/var/run" or path:sub(1, 9) == "/var/run/" then path = path:sub(5) end
  -- Where containers' users are mapped, the engine keeps everything one directory deeper.
  local mapped = path:match("^/var/lib/docker/%d+%.%d+$") or path:match("^(/var/lib/docker/%d+%.%d+)/")
  return mapped and "/var/lib/docker" .. path:sub(#mapped + 1) or path
end

local function begins(path, words)
  for _, word in ipairs(words) do
    if path:sub(1, #word) == word then return true end
  end
  return false
end

local function is_below(path, trees)
  for _, tree in ipairs(trees) do
    if path == tree or path:sub(1, #tree + 1) == tree .. "/" then return true end
  end
  return false
end

-- Whether whoever may write to a place of the host says who is root there, or what root runs.
local function makes_root(source)
  local path = plain(source)
  if is_below(path, HARMLESS) then return false end
  for _, part in ipairs(OF_USERS) do
    if (path .. "/"):find(part, 1, true) then return true end
  end
  return FILES[path] or begins(path, BEGINNINGS) or is_below(path, WRITABLE_TREES)
end

-- Whether a place of the host is one from which its engine, the host, or the backups can be had.
local function is_powerful(source)
  local path = plain(source)
  if (path .. "/"):find("/../", 1, true) or (path .. "/"):find("/./", 1, true) then return true end
  local volume = path:match("^/var/lib/docker/volumes/([^/]+)") or path:match("^/var/lib/containers/storage/volumes/([^/]+)")
  if volume and OWN_VOLUMES[volume] then return true end
  if DIRECTORIES[path] or is_socket(path) or path:find("^/run/user/%d+$")
    or path:find("^/run/user/%d+/docker$") or path:find("^/run/user/%d+/podman$") then return true end
  return is_below(path, TREES)
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
    if mount.Type == "bind" then
      if is_powerful(source) then return "it mounts " .. source .. " of the host" end
      if mount.RW ~= false and makes_root(source) then return "it may write to " .. source .. " of the host" end
      if is_socket(destination) then return "it mounts an engine's socket at " .. destination end
    end
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

-- The volumes that may be another name for a place of the host, each with whether it may be written.
function power.volumes(document)
  local found = {}
  for _, mount in ipairs(list(document.Mounts)) do
    if mount.Type == "volume" and mount.Driver == "local" and type(mount.Name) == "string" then
      found[#found + 1] = { mount.Name, mount.RW ~= false }
    end
  end
  return found
end

-- What power a volume gives, as half a sentence; nil for none.
function power.of_volume(name, volume, writable)
  if OWN_VOLUMES[name] then return "its volume " .. name .. " is scalr.backup's own" end
  local options = type(volume) == "table" and list(volume.Options) or {}
  local device = options.device
  if options.type == "overlay" then return "its volume " .. name .. " is an overlay of directories of the host" end
  if type(device) ~= "string" or device:sub(1, 1) ~= "/" then return nil end
  if not is_powerful(device) and not (writable and makes_root(device)) then return nil end
  return "its volume " .. name .. " is " .. device .. " of the host"
end

return power
