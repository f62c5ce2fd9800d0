# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill decides: what is drilled, in what container, with how much memory, and which assertions hold."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scalr_backup.core.errors import (
    MissingExtensionError,
    MissingRoleError,
    NoMemoryError,
    NoRoomError,
    NoRoomLeftError,
    OlderServerError,
    PartlyUnknownError,
    RepositoryLockedError,
    RoomUnknownError,
    UnknownDatabaseError,
    UnreadableArchiveError,
    UnreadableManifestError,
    UnwritableRecordError,
)
from scalr_backup.core.extensions import settings_of_a_drill
from scalr_backup.core.model import Snapshot, dump_path, name_fits
from scalr_backup.core.records.manifest import ManifestCluster, ManifestDatabase
from scalr_backup.core.room import RESERVE_BYTES, LogSettings, index_bytes, log_bytes, sort_bytes
from scalr_backup.core.units import human_bytes
from scalr_backup.tools.docker.throwaway import HostMemory, Image, Throwaway

USER = "postgres"

_MIB = 1024 * 1024
# Beside what a restore takes: a new cluster (40 MiB measured), and what its image puts into it.
_CLUSTER_BYTES = 192 * _MIB
_LOG = LogSettings(limit_bytes=128 * _MIB, checksums=True)
_SERVER_OPTIONS = ("-c", f"max_wal_size={_LOG.limit_bytes // _MIB}MB")
# PostgreSQL's own maintenance_work_mem.
_SORT_MEMORY_BYTES = 64 * _MIB
# The server's own memory: shared buffers, sorts of parallel index builds, and small places to write to.
_SERVER_BYTES = 384 * _MIB
# restic and this program.
_OWN_BYTES = 256 * _MIB
# What a drill leaves to everybody else, where it can.
_SPARE_BYTES = 512 * _MIB
_SMALL_TMPFS_BYTES = 64 * _MIB
# No drill takes so long; a container whose drill was killed ends itself then.
_LIFE_SECONDS = 12 * 3600
# A server without an entry point: its directory, and what makes and starts it there. Images have PostgreSQL in their PATH or
# where Debian, Red Hat, Bitnami or its sources put it; of several, the one that the image names or the newest.
_PLACE = "/scalr-backup-drill"
_START_BY_HAND = f"""
set -e
PATH="/usr/lib/postgresql/${{PG_MAJOR:-none}}/bin:$PATH:$(ls -dr /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \\
  /opt/bitnami/postgresql/bin /usr/local/pgsql/bin 2> /dev/null | tr '\\n' ':')"
data=$1
shift
initdb --pgdata="$data" --username={USER} --auth=trust --no-sync > /dev/null
exec postgres -D "$data" "$@"
"""
_ROOT = {"", "0", "root", "0:0", "root:root"}
# Where Bitnami's images write besides their volume (their chart's read-only root file system has these too).
_BITNAMI_TMPFS = tuple(f"/opt/bitnami/postgresql/{name}" for name in ("conf", "logs", "tmp"))

# No directory has a longer name; a container may.
_LONGEST_FILE_NAME = 255

# What stands against a restore, or ends it, and lies with the server that it was to go into, or with the agent.
_OF_THE_SERVER = {
    NoRoomError.code, NoRoomLeftError.code, RoomUnknownError.code, RepositoryLockedError.code, UnwritableRecordError.code,
}  # fmt: skip
# What another image than the source's may lack, and the source's own would not.
_OF_AN_IMAGE = {OlderServerError.code, UnreadableArchiveError.code, MissingExtensionError.code, MissingRoleError.code}


@dataclass(frozen=True)
class DrillSubject:
    """One database to drill: its snapshot, and what the manifest says of it and of its cluster.

    *alone* tells whether it is the only database of its container in this drill; *obstacle* is why nothing can be said of
    it, where its manifest cannot be read.
    """

    snapshot: Snapshot
    described: ManifestDatabase
    cluster: ManifestCluster
    alone: bool
    obstacle: UnreadableManifestError | None = None

    @property
    def container(self) -> str:
        """The name of the container that it was dumped in."""
        return self.snapshot.dump_of[0]

    @property
    def database(self) -> str:
        """Its name."""
        return self.snapshot.dump_of[1]

    @property
    def data_bytes(self) -> int:
        """The room that its server gets for files, all of it in memory: what a restore wants to see, and a cluster."""
        size = max(int(self.described.get("size_bytes") or 0), self.snapshot.dump_bytes or 0)
        sorts = sort_bytes(index_bytes(self.described, size), os.cpu_count() or 1, _SORT_MEMORY_BYTES)
        return size + log_bytes(size, _LOG) + sorts + RESERVE_BYTES + _CLUSTER_BYTES

    @property
    def memory_bytes(self) -> int:
        """What its server may use: its files, and its own memory."""
        return self.data_bytes + _SERVER_BYTES


def choose_containers(
    snapshots: Sequence[Snapshot], patterns: Sequence[str], exclude: Sequence[str], host: str
) -> list[str]:
    """The containers with snapshots that fit one of the patterns; without patterns all that are not excluded.

    Raises UnknownDatabaseError when a pattern fits none, or when there is nothing at all; PartlyUnknownError where another
    pattern fits.
    """
    known = sorted({snapshot.container for snapshot in snapshots if snapshot.container})
    refusal = PartlyUnknownError if any(name_fits(name, patterns) for name in known) else UnknownDatabaseError
    for pattern in patterns:
        if not any(name_fits(name, [pattern]) for name in known):
            raise refusal(
                f"The repository holds no snapshot of a container {pattern!r} of {host}; it holds snapshots of: "
                f"{', '.join(known) or 'nothing'}."
            )
    chosen = [name for name in known if name_fits(name, patterns or "*") and (patterns or not name_fits(name, exclude))]
    if not chosen:
        raise UnknownDatabaseError(
            f"The repository holds no snapshot of a database of {host}: there is nothing to drill."
        )
    return chosen


def spare_bytes(memory: HostMemory) -> int:
    """What of the host's memory a drill leaves free: on a small machine less, so that it can drill a small database.

    A server's files in memory count for no process. Where memory runs out, the kernel ends the largest process, and that may
    be a live server.
    """
    return max(memory.available_bytes // 10, min(_SPARE_BYTES, memory.available_bytes // 8))


def require_memory(subject: DrillSubject, memory: HostMemory, host: str) -> None:
    """Refuse a drill that the host has no memory for, before anything is started.

    Raises NoMemoryError.
    """
    needed = subject.memory_bytes + _OWN_BYTES
    spare = spare_bytes(memory)
    if memory.available_bytes - spare < needed:
        raise NoMemoryError(
            f"{host} has {human_bytes(memory.available_bytes)} of memory available, of which a drill leaves "
            f"{human_bytes(spare)} free, and a drill of {subject.container}/{subject.database} may need "
            f"{human_bytes(needed)}, because it keeps rows in memory, never on disk; run the drill on a "
            f"machine with more memory, with from_host={subject.snapshot.host}."
        )


def is_own_image(subject: DrillSubject, image: Image, asked: str | None) -> bool:
    """Whether a drill uses the source's own image; *asked* is the one that the operator named, if any."""
    known = subject.cluster.get("image_id")
    return image.id == known if known else asked is None


def speaks_of_the_backup(code: str, *, own_image: bool) -> bool:
    """Whether what ended a restore into a throwaway server may lie with the backup, by its code."""
    return code not in _OF_THE_SERVER and (own_image or code not in _OF_AN_IMAGE)


def throwaway(subject: DrillSubject, image: Image, name: str, password: str, labels: Mapping[str, str]) -> Throwaway:
    """The container for a drill of one database; every place that its image writes to is in memory."""
    data = {posixpath.normpath(volume): subject.data_bytes for volume in image.volumes}
    # Under the names that the official image (docs of docker.io/postgres) and Bitnami's know it by.
    environment = {"POSTGRES_USER": USER, "POSTGRES_PASSWORD": password, "POSTGRESQL_PASSWORD": password}
    if pgdata := image.environment.get("PGDATA"):
        pgdata = posixpath.normpath(pgdata)
        if not any(pgdata == place or pgdata.startswith(f"{place}/") for place in data):
            data[pgdata] = subject.data_bytes
        if pgdata in data:
            # The place itself is root's, and initdb wants to own its directory, whoever it runs as.
            environment["PGDATA"] = f"{pgdata}/drill"
    small = ["/run/postgresql", "/tmp"]  # noqa: S108 (the container's own, in memory)
    if "BITNAMI_APP_NAME" in image.environment:
        small += _BITNAMI_TMPFS
    arguments: tuple[str, ...] = _SERVER_OPTIONS
    if libraries := subject.cluster.get("shared_preload_libraries"):
        arguments = (*arguments, "-c", f"shared_preload_libraries={libraries}")
    extensions = [one["name"] for one in subject.described.get("extensions") or ()]
    shared = settings_of_a_drill(subject.cluster.get("settings") or {}, extensions, subject.database)
    arguments = (*arguments, *(word for name, value in shared.items() for word in ("-c", f"{name}={value}")))
    return Throwaway(
        name=name,
        image=image,
        arguments=arguments,
        environment=environment,
        labels=labels,
        tmpfs=dict.fromkeys(small, _SMALL_TMPFS_BYTES) | data,
        memory_bytes=subject.memory_bytes,
        life_seconds=_LIFE_SECONDS,
    )


def by_hand(spec: Throwaway) -> Throwaway:
    """The same container, in which PostgreSQL is started without its image's entry point and what that would write."""
    return replace(
        spec,
        image=replace(spec.image, entrypoint=("sh", "-c", _START_BY_HAND, "sh", f"{_PLACE}/cluster"), command=()),
        tmpfs={**spec.tmpfs, _PLACE: spec.memory_bytes - _SERVER_BYTES},
        # initdb does not run as root.
        user=None if spec.image.user not in _ROOT else USER,
    )


def assertion_files(directory: Path, subject: DrillSubject) -> list[Path]:
    """The SQL files for a database, in the order of names.

    They are its own directory's, and the container's where it is that one's only database in the drill. A name stands
    there as in the repository's paths, so that one with a slash is one directory.
    """
    _nothing, container, dump = dump_path(subject.container, subject.database).split("/")
    database = dump.removesuffix(".dump")
    if {container, database} & {".", "..", ""} or len(container.encode()) > _LONGEST_FILE_NAME:
        return []
    files = list((directory / container / database).glob("*.sql"))
    if subject.alone:
        files += (directory / container).glob("*.sql")
    return sorted((path for path in files if path.is_file()), key=lambda path: path.name)


def judge_values(values: Sequence[str]) -> str | None:
    """Why an assertion does not hold, by the values of all its rows; None when it does. Never with the values."""
    if not values:
        return "it returned no row"
    untrue = sum(value != "t" for value in values)
    return f"{untrue} of {len(values)} values are not true" if untrue else None
