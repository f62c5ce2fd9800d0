# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers give whoever runs a command in them power over the host, or over the backups.

Such a container is never backed up, whatever patterns and labels say: a taken agent would be root on the host. The agent keeps
to it, and so does its socket proxy: socket-proxy/power.lua is the same, word for word, and a test holds the two together.
Pure functions over documents of the Docker Engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

# The product's own containers, of any release: by what the role, the image and a drill put on them, and by name.
DRILL_LABEL = "scalr.backup.drill"
_OWN_LABELS = ("scalr.backup.own", "scalr.backup.directories", DRILL_LABEL)
_OWN_NAMES = {"scalr-backup", "scalr-backup-socket-proxy"}

_CAPABILITIES = {
    "ALL", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH", "MAC_ADMIN", "MAC_OVERRIDE", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
    "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_TIME",
}  # fmt: skip

_NAMESPACES = {
    "NetworkMode": "network",
    "PidMode": "process",
    "IpcMode": "IPC",
    "UTSMode": "UTS",
    "UsernsMode": "user",
}

# Those that may be another container's.
SHARED = ("NetworkMode", "PidMode", "IpcMode")

# Directories in which an engine's socket lies, or whose files say who is root; and those of which all that is below counts.
_DIRECTORIES = {
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/run/dbus", "/run/systemd",
    "/run/user", "/sbin", "/sys", "/usr", "/var", "/var/lib", "/var/lib/containerd", "/var/lib/containers",
    "/var/lib/docker", "/var/lib/docker/containers", "/var/lib/docker/overlay2", "/var/lib/docker/volumes", "/var/spool",
    "/var/spool/cron", "/var/snap", "/etc/cron.d", "/etc/sudoers.d", "/etc/systemd", "/etc/systemd/system", "/lib/systemd",
    "/opt", "/opt/scalr", "/opt/scalr/services", "/root/.ssh", "/usr/lib", "/usr/lib/systemd", "/usr/local",
    "/usr/local/bin", "/usr/local/sbin",
}  # fmt: skip
_TREES = (
    "/opt/scalr/services/backup", "/proc", "/run/buildkit", "/run/containerd", "/run/crio", "/run/dbus", "/run/docker",
    "/run/incus", "/run/k3s", "/run/podman", "/run/systemd", "/var/lib/incus", "/var/lib/lxd", "/var/snap/lxd",
)  # fmt: skip
# Files that say who is root, and directories that hold one among other things, where they may be written.
_FILES = {
    "/etc/crontab", "/etc/docker", "/etc/docker/daemon.json", "/etc/group", "/etc/gshadow", "/etc/passwd", "/etc/security",
    "/etc/shadow", "/etc/sudoers", "/root/.config", "/usr/share", "/var/lib/containers/storage",
    "/var/lib/containers/storage/volumes", "/var/lib/docker/volumes/metadata.db",
}  # fmt: skip
# Places of which all that is below says who is root, or is run by root, where it may be written: these, what begins so, and
# what has such a part.
_WRITABLE_TREES = (
    "/bin", "/boot", "/etc/alternatives", "/etc/apt", "/etc/binfmt.d", "/etc/cni", "/etc/containerd", "/etc/containers",
    "/etc/crio", "/etc/dbus-1", "/etc/default", "/etc/dhcp", "/etc/docker/plugins", "/etc/grub.d", "/etc/kernel",
    "/etc/kubernetes", "/etc/network", "/etc/NetworkManager", "/etc/networkd-dispatcher", "/etc/polkit-1", "/etc/ppp",
    "/etc/rancher", "/etc/ssh", "/etc/sysconfig", "/etc/systemd", "/etc/tmpfiles.d", "/etc/udev", "/etc/update-motd.d",
    "/etc/xinetd.d", "/lib", "/lib32", "/lib64", "/libx32", "/opt/cni", "/opt/containerd", "/run/sudo", "/run/udev",
    "/sbin", "/sys", "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/libx32", "/usr/local/bin",
    "/usr/local/lib", "/usr/local/lib64", "/usr/local/libexec", "/usr/local/sbin", "/usr/sbin", "/var/lib/cloud",
    "/var/lib/containerd", "/var/lib/docker/buildkit", "/var/lib/docker/containerd", "/var/lib/docker/containers",
    "/var/lib/docker/image", "/var/lib/docker/network", "/var/lib/docker/overlay2", "/var/lib/docker/plugins",
    "/var/lib/docker/rootfs", "/var/lib/docker/runtimes", "/var/lib/docker/swarm", "/var/lib/docker/vfs", "/var/lib/dpkg",
    "/var/lib/rpm", "/var/spool/at", "/var/spool/cron",
)  # fmt: skip
_BEGINNINGS = (
    "/etc/anacrontab", "/etc/bash", "/etc/cron", "/etc/dnf", "/etc/doas", "/etc/dpkg", "/etc/dracut", "/etc/environment",
    "/etc/init", "/etc/ld.so", "/etc/logrotate", "/etc/modprobe", "/etc/modules", "/etc/pam", "/etc/profile", "/etc/rc.",
    "/etc/rc0.d", "/etc/rc1.d", "/etc/rc2.d", "/etc/rc3.d", "/etc/rc4.d", "/etc/rc5.d", "/etc/rc6.d", "/etc/rcS.d",
    "/etc/security/namespace", "/etc/security/pam_env", "/etc/sudo", "/etc/sysctl", "/etc/yum", "/etc/zsh", "/root/.bash",
    "/root/.profile", "/root/.zsh", "/var/lib/containers/storage/libpod", "/var/lib/containers/storage/overlay",
)  # fmt: skip
_OF_USERS = (
    "/.bash_profile/", "/.bashrc/", "/.config/containers/", "/.config/systemd/", "/.docker/", "/.profile/", "/.ssh/",
)  # fmt: skip
# What lies there all the same, and containers mount by habit.
_HARMLESS = ("/sys/kernel/mm", "/usr/lib/locale", "/usr/lib/ssl")
# The agent's, under the names that the role gives them.
_OWN_VOLUMES = {"scalr-backup-cache", "scalr-backup-repository", "scalr-backup-socket", "scalr-backup-state"}
_ENGINES = ("buildkit", "containerd", "crio", "docker", "incus", "lxd", "podman")

OWN = "it is one of scalr.backup's own containers"
TOO_MANY = "it shares the namespaces of too many containers"
# A namespace may be another container's, which may share its own: no chain that anybody needs is longer.
_MOST_JOINED = 4


def sentence(name: str, held: str) -> str:
    """Why a container is refused, and what to do."""
    return f"{name} is refused: {reason(held)}"


def reason(held: str) -> str:
    """The same without its name."""
    return (
        f"a command in it could reach the host or the backups, because {held}. Take that away from it, or leave it out: with "
        "backup_exclude, or with false as its label scalr.backup."
    )


def is_own(name: str, labels: Mapping[str, str]) -> bool:
    """Whether a container belongs to this product."""
    return name in _OWN_NAMES or any(label in labels for label in _OWN_LABELS)


def obstacle(document: Mapping[str, Any], *, accepted: bool) -> str | None:  # noqa: PLR0911 (one for each kind of power)
    """What power a container gives by itself, as half a sentence; None for none.

    *accepted* says that the operator accepts that it shares namespaces of the host.
    """
    host = document.get("HostConfig")
    if not isinstance(host, dict):
        return "the engine does not say what it may do"
    if is_own(str(document.get("Name")).removeprefix("/"), (document.get("Config") or {}).get("Labels") or {}):
        return OWN
    if host.get("Privileged") is not False:
        return "it is privileged"
    for name in host.get("CapAdd") or ():
        plain = str(name).upper().removeprefix("CAP_")
        if plain in _CAPABILITIES:
            return f"it has the capability {plain}"
    if host.get("Devices") or host.get("DeviceCgroupRules"):
        return "it has devices of the host"
    if host.get("ReadonlyPaths") == []:
        return "its security option systempaths=unconfined lets it change the kernel's settings"
    # Podman's name for it; its paths are not told.
    if any(str(option).lower().startswith("unmask=") for option in host.get("SecurityOpt") or ()):
        return "its security option unmask lets it change the kernel's settings"
    return _of_mounts(document.get("Mounts") or ()) or (None if accepted else _of_namespaces(host))


def _of_mounts(mounts: Sequence[Mapping[str, Any]]) -> str | None:
    for mount in mounts:
        source, destination = str(mount.get("Source")), str(mount.get("Destination"))
        if mount.get("Type") != "bind":
            continue
        if _is_powerful(source):
            return f"it mounts {source} of the host"
        if mount.get("RW") is not False and _makes_root(source):
            return f"it may write to {source} of the host"
        if _is_socket(destination):
            return f"it mounts an engine's socket at {destination}"
    return None


def _of_namespaces(host: Mapping[str, Any], kinds: Iterable[str] = tuple(_NAMESPACES)) -> str | None:
    for kind in kinds:
        if host.get(kind) == "host":
            return f"it shares the host's {_NAMESPACES[kind]} namespace, and backup_host_namespaces_accepted does not name it"
    return None


def _is_socket(path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    return name.endswith(".sock") and any(engine in name for engine in _ENGINES)


def _plain(source: str) -> str:
    """A place of the host by its usual name."""
    path = "/" + re.sub("/+", "/", source).removeprefix("/").removesuffix("/")
    if path == "/var/run" or path.startswith("/var/run/"):
        path = path.removeprefix("/var")
    # Where containers' users are mapped, the engine keeps everything one directory deeper.
    return re.sub(r"^/var/lib/docker/[0-9]+[.][0-9]+(/|\Z)", r"/var/lib/docker\1", path)


def _is_below(path: str, trees: Sequence[str]) -> bool:
    return any(path == tree or path.startswith(f"{tree}/") for tree in trees)


def _makes_root(source: str) -> bool:
    """Whether whoever may write to a place of the host says who is root there, or what root runs."""
    path = _plain(source)
    if _is_below(path, _HARMLESS):
        return False
    if path in _FILES or path.startswith(_BEGINNINGS) or any(part in f"{path}/" for part in _OF_USERS):
        return True
    return _is_below(path, _WRITABLE_TREES)


def _is_powerful(source: str) -> bool:
    """Whether a place of the host is one from which its engine, the host, or the backups can be had."""
    path = _plain(source)
    if "/../" in f"{path}/" or "/./" in f"{path}/":
        return True
    volume = re.match("/var/lib/(docker|containers/storage)/volumes/([^/]+)", path)
    if volume and volume[2] in _OWN_VOLUMES:
        return True
    if path in _DIRECTORIES or _is_socket(path) or re.fullmatch(r"/run/user/[0-9]+(/docker|/podman)?", path):
        return True
    return _is_below(path, _TREES)


def joined(document: Mapping[str, Any], kinds: Sequence[str] = SHARED) -> list[tuple[str, str]]:
    """The namespaces that it shares with containers: of which kind, and of which one by what the engine calls it."""
    host = document.get("HostConfig") or {}
    modes = ((kind, re.fullmatch(r"container:([a-zA-Z0-9][a-zA-Z0-9_.-]*)", str(host.get(kind)))) for kind in kinds)
    return [(kind, mode[1]) for kind, mode in modes if mode]


def of_shared(document: Mapping[str, Any], kind: str, *, accepted: bool) -> str | None:
    """What power a container gives whoever shares its namespace of a kind, as half a sentence; None for none.

    Who sees its processes has all that these have. In its network or IPC there is only what is there.
    """
    if kind == "PidMode":
        return obstacle(document, accepted=accepted)
    if is_own(str(document.get("Name")).removeprefix("/"), (document.get("Config") or {}).get("Labels") or {}):
        return OWN
    return None if accepted else _of_namespaces(document.get("HostConfig") or {}, [kind])


def volumes(document: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """The volumes that may be another name for a place of the host, and whether they may be written."""
    return [
        (mount["Name"], mount.get("RW") is not False)
        for mount in document.get("Mounts") or ()
        if mount.get("Type") == "volume" and mount.get("Driver") == "local" and isinstance(mount.get("Name"), str)
    ]


def of_volume(name: str, volume: Mapping[str, Any] | None, *, writable: bool) -> str | None:
    """What power a volume gives, as half a sentence; None for none."""
    if name in _OWN_VOLUMES:
        return f"its volume {name} is scalr.backup's own"
    options = (volume or {}).get("Options") or {}
    device = options.get("device")
    if options.get("type") == "overlay":
        return f"its volume {name} is an overlay of directories of the host"
    if not isinstance(device, str) or not device.startswith("/"):
        return None
    is_power = _is_powerful(device) or (writable and _makes_root(device))
    return f"its volume {name} is {device} of the host" if is_power else None


def through(
    document: Mapping[str, Any],
    *,
    accepted: bool,
    container: Callable[[str], Mapping[str, Any] | None],
    volume: Callable[[str], Mapping[str, Any] | None],
) -> str | None:
    """What power a container gives, by itself, its volumes, or those whose namespaces it shares; None for none.

    *container* and *volume* ask the engine for one, and say None where it is gone; raises what they raise.
    """
    if held := obstacle(document, accepted=accepted) or _of_volumes(document, volume):
        return held
    waiting, seen = joined(document), 0
    while waiting:
        kind, reference = waiting.pop()
        seen += 1
        if seen > _MOST_JOINED:
            return TOO_MANY
        other = container(reference)
        if other is None:
            continue  # Nothing runs in the namespace of one that is gone.
        held = of_shared(other, kind, accepted=accepted) or (_of_volumes(other, volume) if kind == "PidMode" else None)
        if held:
            return f"it shares a namespace of {str(other.get('Name')).removeprefix('/')}, which is refused: {held}"
        waiting += joined(other, SHARED if kind == "PidMode" else [kind])
    return None


def _of_volumes(document: Mapping[str, Any], volume: Callable[[str], Mapping[str, Any] | None]) -> str | None:
    for name, writable in volumes(document):
        if held := of_volume(name, volume(name), writable=writable):
            return held
    return None
