# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain data: what the agent knows of containers, databases, snapshots and runs."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Literal
from urllib.parse import quote, unquote

from scalr_backup.core.answers import FoundDatabase, JudgedDatabase, SnapshotAnswer
from scalr_backup.core.clock import is_in_the_future, utc_now
from scalr_backup.core.errors import ScalrBackupError
from scalr_backup.core.key_answers import KeyRecord
from scalr_backup.core.records.databases import DatabaseRecord
from scalr_backup.core.records.failures import FailureRecord
from scalr_backup.core.records.left_out import LeftOutRowsRecord
from scalr_backup.core.records.passes import KeptCopyRecord, LeftOutDatabaseRecord, OutcomeRecord, VolumeRecord
from scalr_backup.core.records.row_order import DamagedIndexRecord, RowOrderRecord
from scalr_backup.core.sql import cut_name, quote_identifier

ContainerStatus = Literal["ok", "stopped", "unreachable", "refused", "excluded"]

MANIFEST_PATH = "/manifest.json"
PINNED_TAG = "pinned"
# The name of a database in the outcome of a cluster that could not even be asked what it holds. PostgreSQL lets a database
# have that name, too: see ``is_whole_cluster``.
WHOLE_CLUSTER = "*"
# A manifest is tagged with the agent that saved it, so that two of them under one host's name find out.
AGENT_TAG = "agent="
# Why a snapshot was made; one of these words is a tag of each.
NIGHTLY, MANUAL, PRE_RESTORE = "nightly", "manual", "pre-restore"
REASONS = (NIGHTLY, MANUAL, PRE_RESTORE)

_RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}\Z")
# What a restore keeps beside the live database: the old one, or a new one that is not what was saved. Its run's id ends
# the name; a user's database that only sounds alike is not ours to leave out.
_KEPT_COPY = re.compile(r".+_(?:before_restore|restored)_(\d{8}t\d{6}z)-[0-9a-f]{4}\Z", re.DOTALL)
# What a live database is called for the moment in which a restore's new one stands under its name.
_ASIDE = re.compile(r".+(_aside_\d{8}t\d{6}z-[0-9a-f]{4})\Z", re.DOTALL)
# A database's name is one component of a snapshot's path: these characters would be more, or end it.
_UNSAFE_IN_PATH = re.compile("[%/\x00-\x1f\x7f\udc80-\udcff]")


def is_whole_cluster(entry: DatabaseRecord | JudgedDatabase) -> bool:
    """Whether what is on record of a database speaks of a cluster that could not be asked what it holds."""
    return entry["database"] == WHOLE_CLUSTER and entry["last_success"] is None


def new_run_id(now: datetime | None = None) -> str:
    """A run id that sorts by time, such as ``20261122T030000Z-3f9a``."""
    moment = (now or utc_now()).astimezone(UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def is_run_id(text: str) -> bool:
    """Whether *text* is what ``new_run_id`` makes."""
    return bool(_RUN_ID.match(text))


def old_name(database: str, run: str) -> str:
    """The name under which a replaced database waits."""
    return cut_name(database, f"_before_restore_{run.lower()}")


def aside_name(database: str, run: str) -> str:
    """The name under which a live database waits while another one has its name for a moment."""
    return cut_name(database, f"_aside_{run.lower()}")


def is_aside(name: str, database: str | None = None) -> bool:
    """Whether a restore gave this name to a live database, or to that one, for a moment."""
    found = _ASIDE.match(name)
    return found is not None and (database is None or cut_name(database, found.group(1)) == name)


def restored_name(database: str, run: str) -> str:
    """The name under which a new database waits that is not what was saved, or holds what somebody has written."""
    return cut_name(database, f"_restored_{run.lower()}")


def kept_since(database: str) -> datetime | None:
    """When a restore kept this database as a copy, by its name; None for every other database.

    A copy is neither backed up nor drilled: what it is a copy of is, or was.
    """
    if not (found := _KEPT_COPY.match(database)):
        return None
    try:
        return datetime.strptime(found.group(1), "%Y%m%dt%H%M%Sz").replace(tzinfo=UTC)
    except ValueError:
        return None


def started_at(run: str) -> datetime | None:
    """When a run began, by its id; None for anything that is not a run's id, or names no moment."""
    if not is_run_id(run):
        return None
    try:
        return datetime.strptime(run.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def dump_path(container: str, database: str) -> str:
    """The path of a database's dump in the repository.

    Names stand as they are; only ``/``, ``%``, control characters and bytes that are no UTF-8 are percent-encoded.
    """
    encoded = _UNSAFE_IN_PATH.sub(lambda match: quote(match.group(), safe="", errors="surrogateescape"), database)
    return f"/{container}/{encoded}.dump"


def name_fits(name: str, patterns: Iterable[str]) -> bool:
    """Whether a container's name fits one of the globs."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def is_glob(name: str) -> bool:
    """Whether a name is a pattern: no container's own name has such characters."""
    return any(character in name for character in "*?[")


def parse_dump_path(path: str) -> tuple[str, str] | None:
    """The container and the database of a dump's path; None for any other path."""
    parts = path.split("/")
    if len(parts) != 3 or parts[0] or not parts[1] or not parts[2].endswith(".dump"):
        return None
    return parts[1], unquote(parts[2].removesuffix(".dump"), errors="surrogateescape")


@dataclass(frozen=True)
class Credentials:
    """How to reach a cluster from inside its container; the password is never printed."""

    user: str
    password: str | None = field(default=None, repr=False)
    database: str = "postgres"
    # A name, an address, or the directory of a socket; without one, as libpq and the container's variables have it.
    host: str | None = None
    port: int | None = None
    # The database to stand in, where that is told.
    home: str | None = None
    # The container's own account to be.
    system_user: str | None = None
    # Why there is no password although there should be one.
    problem: str | None = None


@dataclass(frozen=True)
class Container:
    """A container that discovery looked at; its *name* is the one that its backups are kept under."""

    id: str
    name: str
    image: str
    image_id: str
    state: str
    status: ContainerStatus
    reason: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict, repr=False)
    # What the engine calls it, where that is another name.
    called: str = ""
    # Whether its loopback interface is its own, so that nobody else's server can listen there.
    own_network: bool = True
    # Since when it has been running.
    started: datetime | None = None
    # The code of the failure that keeps it from being asked, where it has one of its own.
    code: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """All that it may be asked for by."""
        return frozenset({self.name, self.called or self.name})

    def with_status(self, status: ContainerStatus, reason: str, code: str | None = None) -> Container:
        """The same container, found to be in another state."""
        return replace(self, status=status, reason=reason, code=code)


@dataclass(frozen=True)
class Database:
    """One database of a cluster; sizes in bytes."""

    name: str
    size_bytes: int
    owner: str
    encoding: str
    is_template: bool = False

    def as_dict(self) -> FoundDatabase:
        """The database as the JSON contract shows it."""
        return {"name": self.name, "size_bytes": self.size_bytes, "owner": self.owner, "encoding": self.encoding}


@dataclass(frozen=True)
class LeftOut:
    """A database that cannot be saved, and why; ``pg_dumpall`` leaves it out too."""

    name: str
    why: str


@dataclass(frozen=True)
class Cluster:
    """A database container that answers, and what it holds; *kept* are copies that restores have left beside it."""

    container: Container
    credentials: Credentials
    server_version: str
    databases: tuple[Database, ...]
    kept: tuple[Database, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def left_out_as_dicts(self) -> list[LeftOutDatabaseRecord]:
        """What cannot be saved, as the JSON contract shows it."""
        return [{"container": self.container.name, "database": one.name, "why": one.why} for one in self.left_out]

    def kept_as_dicts(self) -> list[KeptCopyRecord]:
        """The kept copies as the JSON contract shows them, each with the command that drops it."""
        return [
            {
                "container": self.container.name,
                "database": copy.name,
                "kept_since": since.isoformat(),
                "size_bytes": copy.size_bytes,
                "command": self._drop_command(copy),
            }
            for copy in self.kept
            if (since := kept_since(copy.name))
        ]

    def _drop_command(self, database: Database) -> str:
        """The command that drops a database; a template has to become an ordinary one first."""
        inside = ["docker", "exec", self.container.called or self.container.name]
        user, name = f"--username={self.credentials.user}", quote_identifier(database.name)
        if not database.is_template:
            return shlex.join([*inside, "dropdb", user, "--", database.name])
        statements = f"--command=ALTER DATABASE {name} IS_TEMPLATE false", f"--command=DROP DATABASE {name}"
        return shlex.join([*inside, "psql", user, "--dbname=postgres", *statements])


@dataclass(frozen=True)
class Snapshot:
    """A restic snapshot that holds the dump of one database; times are aware, sizes in bytes."""

    id: str
    time: datetime
    host: str
    path: str
    tags: tuple[str, ...]
    dump_bytes: int | None
    # The id that it had in the repository that it was copied from.
    original: str | None = None

    @property
    def short_id(self) -> str:
        """The eight characters that restic prints."""
        return self.id[:8]

    @property
    def container(self) -> str | None:
        """The container's name; None for a snapshot that is not a dump."""
        parsed = parse_dump_path(self.path)
        return parsed[0] if parsed else None

    @property
    def database(self) -> str | None:
        """The database's name; None for a snapshot that is not a dump."""
        parsed = parse_dump_path(self.path)
        return parsed[1] if parsed else None

    @property
    def dump_of(self) -> tuple[str, str]:
        """The container and the database of a dump, for who has chosen it as one. Raises ValueError for any other."""
        parsed = parse_dump_path(self.path)
        if parsed is None:
            raise ValueError(f"{self.path} is not a dump of a database.")
        return parsed

    @property
    def run(self) -> str | None:
        """The id of the run that made it."""
        return next((tag.removeprefix("run=") for tag in self.tags if tag.startswith("run=")), None)

    @property
    def agent(self) -> str | None:
        """The id of the agent that saved this manifest; None for one of an earlier version, and for dumps."""
        return next((tag.removeprefix(AGENT_TAG) for tag in self.tags if tag.startswith(AGENT_TAG)), None)

    @property
    def ids(self) -> set[str]:
        """Every id that it is known by: its own, and the one of what it is a copy of."""
        return {self.id, self.original or self.id}

    @property
    def reason(self) -> str | None:
        """Why it was made: nightly, manual, pre-restore."""
        return next((tag for tag in self.tags if tag in REASONS), None)

    @property
    def pinned(self) -> bool:
        """Whether retention must leave it alone for ever."""
        return PINNED_TAG in self.tags

    @property
    def empty(self) -> bool:
        """Whether it holds nothing: what a failed dump leaves where nothing can be removed. It is not a backup."""
        return self.dump_bytes == 0

    def is_from_the_future(self, now: datetime) -> bool:
        """Whether its time is impossible: anyone who can add snapshots can date them at will."""
        return is_in_the_future(self.time, now)

    def as_dict(self) -> SnapshotAnswer:
        """The snapshot as the JSON contract shows it."""
        return {
            "id": self.id,
            "short_id": self.short_id,
            "time": self.time.isoformat(),
            "host": self.host,
            "container": self.container,
            "database": self.database,
            "path": self.path,
            "run": self.run,
            "reason": self.reason,
            "tags": list(self.tags),
            "dump_bytes": self.dump_bytes,
            "pinned": self.pinned,
        }


@dataclass(frozen=True)
class Key:
    """A password's key to the repository, and whose it is; *current* is the one that this listing was made with."""

    id: str
    user: str
    host: str
    created: str
    current: bool

    def as_dict(self) -> KeyRecord:
        """The key as the JSON contract shows it."""
        return {
            "id": self.id, "user": self.user, "host": self.host, "created": self.created, "current": self.current,
        }  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """What restic said of a snapshot that it saved; sizes in bytes."""

    snapshot_id: str
    bytes_read: int
    # What was new of them, and what that came to when it was compressed.
    bytes_added: int
    bytes_stored: int


@dataclass(frozen=True)
class RepositorySize:
    """What all snapshots of a repository come to, as it is stored and as it was before compression."""

    stored_bytes: int
    uncompressed_bytes: int
    snapshots: int


@dataclass(frozen=True)
class Volume:
    """The file system that a cluster's data directory lies on, in bytes."""

    directory: str
    free_bytes: int
    total_bytes: int

    @property
    def record(self) -> VolumeRecord:
        """As it is written down and shown."""
        return {"directory": self.directory, "free_bytes": self.free_bytes, "total_bytes": self.total_bytes}


@dataclass(frozen=True)
class Failure:
    """Why something failed, as the JSON contract shows it."""

    code: str
    message: str

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """What an exception says; one that nobody foresaw is a failure of its own kind."""
        if isinstance(error, ScalrBackupError):
            return cls(error.code, error.message)
        return cls("internal", f"Unexpected error: {type(error).__name__}: {error}")

    @property
    def record(self) -> FailureRecord:
        """As it is written down and shown."""
        return {"code": self.code, "message": self.message}


@dataclass(frozen=True)
class DatabaseBackup:
    """The outcome for one database in a pass; sizes in bytes, durations in seconds."""

    container: str
    database: str
    ok: bool
    snapshot_id: str | None = None
    bytes_read: int = 0
    bytes_added: int = 0
    bytes_stored: int = 0
    duration_seconds: float = 0.0
    rows: int | None = None
    error: Failure | None = None
    # Why the rows were not counted, where they should have been; the dump is whole nevertheless.
    count_error: str | None = None
    # Why the archive's structure could not be checked; every other proof says that it is whole.
    archive_unchecked: str | None = None
    # Rows that pg_dump leaves out.
    left_out: tuple[LeftOutRowsRecord, ...] = ()
    # Which tables' rows are in the order of a key.
    row_order: RowOrderRecord | None = None
    # An index by which its rows could not be read in order.
    damaged_index: DamagedIndexRecord | None = None

    @property
    def bytes_ordered(self) -> int:
        """How much of the dump is rows in the order of a key."""
        return sum(table["bytes"] for table in self.row_order["ordered"]) if self.row_order else 0

    def as_dict(self) -> OutcomeRecord:
        """The outcome as the JSON contract shows it."""
        return {
            "container": self.container,
            "database": self.database,
            "ok": self.ok,
            "snapshot_id": self.snapshot_id,
            "bytes_read": self.bytes_read,
            "bytes_added": self.bytes_added,
            "bytes_stored": self.bytes_stored,
            "bytes_ordered": self.bytes_ordered,
            "duration_seconds": self.duration_seconds,
            "rows": self.rows,
            "error": self.error.record if self.error else None,
            "count_error": self.count_error,
            "archive_unchecked": self.archive_unchecked,
            "left_out": list(self.left_out),
        }
