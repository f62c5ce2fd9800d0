# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a repository is: on this host, so that losing the host means losing its backups too, or elsewhere.

Known are the address of the repository, the names and addresses that the inventory has for the host, and what is mounted
where the agent looks for a directory. Name servers are not asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from scalr_backup.core.config import Config
from scalr_backup.tools.restic.stores import server

_MOUNTS, _ROUTES = Path("/proc/self/mountinfo"), Path("/proc/net/route")
_OWN_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost", "host.docker.internal"}
# File systems whose files lie on another machine.
_ELSEWHERE = {"afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
_ELSEWHERE_BY_FUSE = {
    "blobfuse", "blobfuse2", "ceph", "cephfs", "davfs", "davfs2", "gcsfuse", "geesefs", "glusterfs", "goofys", "juicefs",
    "moosefs", "rclone", "s3fs", "seaweedfs", "smbnetfs", "sshfs",
}  # fmt: skip


def is_lost_with_the_host(config: Config) -> bool:
    """Whether every repository is on the host itself, and the operator has not accepted that."""
    if config.repository_on_host_accepted:
        return False
    repositories = [config.repository, *([config.copy_to.repository] if config.copy_to else [])]
    mounts, own = _read(_MOUNTS), {config.host, *config.host_addresses}
    if gateway := default_gateway(_read(_ROUTES)):
        # There, the agent's container reaches only its own host.
        own.add(gateway)
    return all(lies_on_host(repository, own, mounts) for repository in repositories)


def lies_on_host(repository: str, own: Iterable[str], mounts: str) -> bool:
    """Whether a repository's address is a place on the host that has these names and addresses.

    *mounts* is the kernel's list of what is mounted (``/proc/self/mountinfo``).
    """
    machine = server(repository)
    if machine is None:
        return not _is_elsewhere(file_system(repository.removeprefix("local:"), mounts))
    machine = machine.lower().rstrip(".")
    if machine in _OWN_NAMES | {name.lower().rstrip(".") for name in own} or machine.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return _is_own_address(ip_address(machine))
    return False


def file_system(path: str, mounts: str) -> str:
    """The kind of the file system that a path lies on; empty where it is unknown."""
    found = ("", "")
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(), after.split()[:1]
        if not separator or len(fields) < 5 or not kind:
            continue
        # The kernel writes a blank in a path as its octal number.
        place = fields[4].replace("\\040", " ").rstrip("/")
        # What was mounted last at a place hides what was there before.
        if (path == place or path.startswith(f"{place}/")) and len(place) >= len(found[0]):
            found = (place, kind[0])
    return found[1]


def default_gateway(routes: str) -> str | None:
    """The address that everything else is reached by, out of ``/proc/net/route``."""
    for fields in map(str.split, routes.splitlines()[1:]):
        if len(fields) > 2 and fields[1] == "00000000" and fields[2] != "00000000":
            with suppress(ValueError):
                return str(IPv4Address(bytes.fromhex(fields[2])[::-1]))
    return None


def _is_elsewhere(kind: str) -> bool:
    name, _dot, by_fuse = kind.partition(".")
    return kind in _ELSEWHERE or (name == "fuse" and by_fuse in _ELSEWHERE_BY_FUSE)


def _is_own_address(address: IPv4Address | IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback or (mapped or address).is_unspecified


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
