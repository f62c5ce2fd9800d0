# SPDX-License-Identifier: GPL-3.0-or-later
"""The request for a restore, and its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from scalr_backup.actions.restore import selection
from scalr_backup.core import room
from scalr_backup.core.answers import LiveAnswer, PlanAnswer, PlannedDatabase
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import UsageError
from scalr_backup.core.model import Cluster, Snapshot, is_glob
from scalr_backup.core.roles import MissingRoles
from scalr_backup.core.sql import NAME_BYTES
from scalr_backup.tools.postgres.cluster import LiveDatabase

Strategy = Literal["beside", "replace"]
BESIDE: Strategy = "beside"
REPLACE: Strategy = "replace"
OnError = Literal["stop", "skip"]
STOP: OnError = "stop"
SKIP: OnError = "skip"
_TEMPLATES = ("template0", "template1")


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore from where to where; *confirm* must be what ``Plan.confirm`` says.

    *container* is the one that was backed up, by *from_host*, which is this host unless named; *target* the one
    that is restored into, the same unless named. *database_as* is the name of the restored database. *without_manifest*
    does without the manifests of the chosen snapshots, where one of them cannot be read. *on_error* tells whether objects that
    cannot be made stop the restore or are left out.
    """

    container: str
    database: str | None = None
    snapshot: str = selection.LATEST
    confirm: str | None = None
    keep_old: bool = False
    safety_snapshot: bool = True
    target: str | None = None
    database_as: str | None = None
    from_host: str | None = None
    strategy: str = BESIDE
    without_manifest: bool = False
    on_error: str = STOP
    # Whether the target is a drill's: permissions in it end with it.
    throwaway: bool = False

    def __post_init__(self) -> None:
        require_one_container(self.container)
        require_one_container(self.into)
        if self.strategy not in get_args(Strategy):
            raise UsageError(f"The strategy {self.strategy!r} is not one of {', '.join(get_args(Strategy))}.")
        if self.on_error not in get_args(OnError):
            raise UsageError(f"The value {self.on_error!r} of on_error is not one of {', '.join(get_args(OnError))}.")
        if self.strategy == REPLACE and self.keep_old:
            raise UsageError("strategy=replace drops the old database first, so keep_old cannot keep it.")
        if self.database_as in _TEMPLATES:
            raise UsageError(f"New databases are copied from {self.database_as}, so a restore cannot replace it.")
        if len((self.database_as or "").encode()) > NAME_BYTES:
            raise UsageError(
                f"The name {self.database_as!r} is longer than the {NAME_BYTES} bytes allowed for a database name."
            )

    @property
    def into(self) -> str:
        """The container that is restored into."""
        return self.target or self.container

    @property
    def is_whole_cluster(self) -> bool:
        """Whether a container is to be again what it was: then all its roles belong to it."""
        return self.database is None and self.into == self.container


@dataclass(frozen=True)
class DatabasePlan:
    """What would happen to one database; bytes."""

    database: str
    snapshot: Snapshot
    live: LiveDatabase | None
    needed_bytes: int
    server_version: str
    post_data_items: int
    public_schema: bool = True
    tablespaces: bool = True
    row_counts: dict[str, int] | None = field(default=None, repr=False)
    index_bytes: tuple[int, ...] = ()
    lies_in: frozenset[str] = frozenset({room.DEFAULT_TABLESPACE})
    # Whether it has ways to read from other databases, which have to be there first.
    reaches_out: bool = False

    @property
    def claim(self) -> room.Claim:
        """What it asks of the server's volumes."""
        live_bytes = self.live.size_bytes if self.live else 0
        return room.Claim(self.needed_bytes, live_bytes, self.index_bytes, self.lies_in)

    @property
    def exists(self) -> bool:
        """Whether there is a database of that name to be replaced."""
        return self.live is not None

    @property
    def rows(self) -> int | None:
        """How many rows were saved."""
        return None if self.row_counts is None else sum(self.row_counts.values())

    def as_dict(self) -> PlannedDatabase:
        """The plan as the JSON contract shows it."""
        snapshot = self.snapshot
        return {
            "database": self.database,
            "source_database": snapshot.database,
            **live_as_dict(self.live),
            "needed_bytes": self.needed_bytes,
            "old_database": None,
            "snapshot": {
                "id": snapshot.id,
                "short_id": snapshot.short_id,
                "time": snapshot.time.isoformat(),
                "age_seconds": int((utc_now() - snapshot.time).total_seconds()),
                "dump_bytes": snapshot.dump_bytes,
                "rows": self.rows,
                "run": snapshot.run,
                "reason": snapshot.reason,
                "tags": list(snapshot.tags),
                "server_version": self.server_version,
            },
        }


@dataclass(frozen=True)
class Plan:
    """What a restore would do, found out without changing anything.

    *missing* are databases that belong to what was asked for, and that no snapshot holds. *code_of* are the owners whose code
    the restore runs with the rights of the agent's user.
    """

    host: str
    source_host: str
    request: RestoreRequest
    cluster: Cluster
    databases: tuple[DatabasePlan, ...]
    roles: MissingRoles
    survey: room.Survey
    spare_bytes: int
    warnings: tuple[str, ...]
    reference: str
    missing: tuple[str, ...] = ()
    code_of: tuple[str, ...] = ()

    @property
    def confirm(self) -> str:
        """What the operator has to type, or to give beforehand."""
        name = self.request.into
        return f"replace {name}" if self.request.strategy == REPLACE else name

    @property
    def places(self) -> tuple[room.Place, ...]:
        """Where the rows go, one place of each volume."""
        return self.survey.places_of([database.claim for database in self.databases])

    @property
    def free_bytes(self) -> int | None:
        """The room on the volumes that the rows go to; None where that is unknown."""
        if self.survey.unknown is not None:
            return None
        return sum(place.free_bytes for place in self.places) + self.spare_bytes

    @property
    def needs(self) -> room.RoomNeeds:
        """What the restore takes of its volumes."""
        return needs(self.databases, self.survey, self.request)

    def as_dict(self) -> PlanAnswer:
        """The plan as the JSON contract shows it."""
        return {
            "host": self.host,
            "container": self.cluster.container.name,
            "source": {"host": self.source_host, "container": self.request.container},
            "strategy": self.request.strategy,
            "confirm": self.confirm,
            "undo": None,
            "server_version": self.cluster.server_version,
            "snapshot": self.reference,
            "roles": [*self.roles.names],
            "databases": [database.as_dict() for database in self.databases],
            "missing": [*self.missing],
            "code_of": [*self.code_of],
            "free_bytes": self.free_bytes,
            "room": self.needs.as_dict(),
            "warnings": list(self.warnings),
        }


def in_order(databases: Sequence[DatabasePlan]) -> list[DatabasePlan]:
    """In which order databases are restored: those that may read from others come after them."""
    return sorted(databases, key=lambda plan: plan.reaches_out)


def live_as_dict(live: LiveDatabase | None) -> LiveAnswer:
    """What a restore or an undo is about to replace, as the JSON contract shows it."""
    return {
        "exists": live is not None,
        "size_bytes": live.size_bytes if live else None,
        "sessions": live.sessions if live else 0,
        "connected": list(live.connected) if live else [],
        "slots": list(live.slots) if live else [],
    }


def needs(databases: Sequence[DatabasePlan], survey: room.Survey, request: RestoreRequest) -> room.RoomNeeds:
    """What the restore takes of its volumes at its worst."""
    claims = [plan.claim for plan in databases]
    return room.needs(claims, survey, keep_old=request.keep_old, replace=request.strategy == REPLACE)


def require_one_container(name: str) -> None:
    """Refuse a glob: what is locked, confirmed and replaced is one container. Raises UsageError."""
    if is_glob(name):
        raise UsageError(f"{name!r} is a glob, but a restore goes into one container: name it.")
