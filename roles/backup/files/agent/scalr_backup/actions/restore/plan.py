# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore would do, found out and judged before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Literal, get_args

from scalr_backup.actions import leftovers
from scalr_backup.actions.backup.manifest import Manifests
from scalr_backup.actions.restore import selection
from scalr_backup.actions.restore.known_roles import known_roles
from scalr_backup.actions.use_case import Tools, UseCase
from scalr_backup.core import roles, room
from scalr_backup.core.archive.head import ArchiveHead
from scalr_backup.core.archive.reader import ArchiveReader
from scalr_backup.core.errors import (
    MissingExtensionError,
    MissingRoleError,
    NoRoomError,
    OlderServerError,
    PreparedTransactionsError,
    UsageError,
)
from scalr_backup.core.model import Cluster, Snapshot, is_glob
from scalr_backup.core.progress import progress
from scalr_backup.core.roles import Globals, MissingRoles, Role
from scalr_backup.core.sql import NAME_BYTES, quote_identifier
from scalr_backup.tools.postgres.cluster import LiveDatabase, Postgres
from scalr_backup.tools.postgres.session import LOOK
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import utc_now

Strategy = Literal["beside", "replace"]
BESIDE: Strategy = "beside"
REPLACE: Strategy = "replace"

_INDEXES = frozenset({"INDEX", "CONSTRAINT"})
_OLD_SNAPSHOT = timedelta(days=2)
_MAJOR = re.compile(r"\s*\d+")
_TEMPLATES = ("template0", "template1")


@dataclass(frozen=True)
class Request:
    """What to restore from where to where; *confirm* must be what ``Plan.confirm`` says.

    *container* is the one that was backed up, by *from_host*, which is this host unless named; *target* the one
    that is restored into, the same unless named. *database_as* is the name of the restored database. *without_manifest*
    does without the manifests of the chosen snapshots, where one of them cannot be read.
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
    # Whether the target is a drill's: whoever may do what in it is over when it is gone.
    throwaway: bool = False

    def __post_init__(self) -> None:
        require_one_container(self.container)
        require_one_container(self.into)
        if self.strategy not in get_args(Strategy):
            raise UsageError(f"The strategy {self.strategy!r} is none of {', '.join(get_args(Strategy))}.")
        if self.strategy == REPLACE and self.keep_old:
            raise UsageError("strategy=replace drops the old database first, so keep_old cannot keep it.")
        if self.database_as in _TEMPLATES:
            raise UsageError(f"New databases are copies of {self.database_as}: no restore takes its place.")
        if len((self.database_as or "").encode()) > NAME_BYTES:
            raise UsageError(
                f"The name {self.database_as!r} is longer than the {NAME_BYTES} bytes of a database's name."
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

    def as_dict(self) -> dict[str, Any]:
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

    *missing* are databases that belong to what was asked for, and that no snapshot holds.
    """

    host: str
    source_host: str
    request: Request
    cluster: Cluster
    databases: tuple[DatabasePlan, ...]
    roles: MissingRoles
    survey: room.Survey
    spare_bytes: int
    warnings: tuple[str, ...]
    reference: str
    missing: tuple[str, ...] = ()

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
    def needs(self) -> room.Needs:
        """What the restore takes of its volumes."""
        return needs(self.databases, self.survey, self.request)

    def as_dict(self) -> dict[str, Any]:
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
            "free_bytes": sum(place.free_bytes for place in self.places) + self.spare_bytes,
            "room": asdict(self.needs) | {"wanted_bytes": self.needs.total_bytes},
            "warnings": list(self.warnings),
        }


def require_one_container(name: str) -> None:
    """Refuse a glob: what is locked, confirmed and replaced is one container. Raises UsageError."""
    if is_glob(name):
        raise UsageError(f"{name!r} is a glob, and a restore is into one container: name it.")


def live_as_dict(live: LiveDatabase | None) -> dict[str, Any]:
    """What a restore or an undo is about to replace, as the JSON contract shows it."""
    return {
        "exists": live is not None,
        "size_bytes": live.size_bytes if live else None,
        "sessions": live.sessions if live else 0,
        "connected": list(live.connected) if live else [],
    }


class Planner(UseCase):
    """Finds out what would be replaced by what, and whether it can be."""

    def __init__(self, tools: Tools, source: Restic | None = None) -> None:
        """*source* is the repository that is read; this agent's own unless given."""
        super().__init__(tools)
        self._source = source or tools.restic

    def plan(self, request: Request) -> Plan:
        """Judge a request; changes nothing.

        Raises the ScalrBackupError of the first thing that stands against it.
        """
        self._emit(progress("plan", container=request.into))
        self._source.require_version()
        source_host = request.from_host or self._config.host
        # Opening a repository takes most of a second, and so does asking a server all it is asked: side by side.
        with ThreadPoolExecutor() as aside:
            listing = aside.submit(self._source.snapshots, source_host)
            cluster = self._discovery.cluster(request.into, LOOK, anywhere=bool(request.target))
            snapshots = listing.result()
        if not snapshots and request.from_host:
            self._refuse_unknown_host(request.from_host)
        manifests = Manifests(self._source, snapshots)
        chosen = selection.select(
            snapshots,
            request.container,
            request.database,
            request.snapshot,
            self._config.timezone,
            listed=partial(manifests.listed, container=request.container),
        )
        if request.database_as and len(chosen.snapshots) > 1:
            names = ", ".join(str(one.database) for one in chosen.snapshots)
            raise UsageError(f"database_as names one database, and there are several; choose with database: {names}.")
        postgres = self._look(cluster)
        if request.without_manifest:
            manifests.leave_out(chosen.snapshots)
        with ThreadPoolExecutor() as aside:
            reading = aside.submit(manifests.read, chosen.snapshots)
            heads = [self._read_head(postgres, cluster, snapshot) for snapshot in chosen.snapshots]
            reading.result()
        extensions = postgres.available_extensions() if any(head.extensions for head in heads) else {}
        _require_extensions(extensions, request, heads)
        tablespaces = postgres.tablespaces() if any(head.tablespaces for head in heads) else frozenset()
        databases = tuple(
            self._plan_database(postgres, manifests, request, snapshot, head, head.tablespaces <= tablespaces)
            for snapshot, head in zip(chosen.snapshots, heads, strict=True)
        )
        missing, role_warnings = self._plan_roles(postgres, manifests, request, chosen.snapshots, heads)
        # What a killed restore left goes before this one begins.
        survey = postgres.room()
        spare = sum(leftovers.half_made_by_dead(self._state, postgres).values())
        require_room(databases, survey, request, spare)
        warnings = (
            *_age_warnings(databases),
            *_count_warnings(databases, manifests),
            *_tablespace_warnings(databases),
            *_spread_warnings(databases, survey),
            *_extension_warnings(extensions, [manifests.describe(one) for one in chosen.snapshots]),
            *_subscription_warnings(heads),
            *role_warnings,
            *chosen.warnings,
        )
        return Plan(
            self._config.host,
            source_host,
            request,
            cluster,
            databases,
            missing,
            survey,
            spare,
            warnings,
            chosen.reference,
            chosen.missing,
        )

    def _refuse_unknown_host(self, host: str) -> None:
        known = ", ".join(sorted({snapshot.host for snapshot in self._source.snapshots(None)})) or "none"
        raise UsageError(
            f"The repository {self._source.repository} holds no snapshot of a host {host}; it holds some of: {known}."
        )

    def _read_head(self, postgres: Postgres, cluster: Cluster, snapshot: Snapshot) -> ArchiveHead:
        with self._source.dump(snapshot.id, snapshot.path, glance=True) as stream:
            reader = ArchiveReader()
            head, _beginning = read_head(reader, stream.chunks())
        if major(head.server_version) > major(cluster.server_version):
            raise OlderServerError(
                f"{snapshot.short_id} is a dump of PostgreSQL {head.server_version} and {postgres.container} runs "
                f"{cluster.server_version}: a dump cannot go back to an older major version. Restore into a container "
                f"of PostgreSQL {major(head.server_version)} or newer."
            )
        postgres.check_archive(reader.head_bytes or b"")
        return head

    def _plan_database(
        self,
        postgres: Postgres,
        manifests: Manifests,
        request: Request,
        snapshot: Snapshot,
        head: ArchiveHead,
        tablespaces: bool,
    ) -> DatabasePlan:
        assert snapshot.database is not None
        described = manifests.describe(snapshot)
        name = request.database_as or snapshot.database
        live = postgres.live_database(name)
        require_swappable(name, live)
        has_indexes = any(entry.desc in _INDEXES for entry in head.entries)
        needed = max(int(described.get("size_bytes") or 0), snapshot.dump_bytes or 0)
        return DatabasePlan(
            database=name,
            snapshot=snapshot,
            live=live,
            needed_bytes=needed,
            server_version=head.server_version,
            post_data_items=head.post_data.count,
            public_schema=bool(described.get("public_schema", True)),
            tablespaces=tablespaces,
            row_counts=described.get("row_counts"),
            index_bytes=room.index_bytes(described, needed) if has_indexes else (),
            lies_in=_lies_in(head) if tablespaces else frozenset({room.DEFAULT_TABLESPACE}),
        )

    def _plan_roles(
        self,
        postgres: Postgres,
        manifests: Manifests,
        request: Request,
        snapshots: Sequence[Snapshot],
        heads: Sequence[ArchiveHead],
    ) -> tuple[MissingRoles, list[str]]:
        """The roles that have to be made before the databases.

        Raises MissingRoleError when there are some and the agent's user may not make roles.
        """
        known = known_roles(manifests, request.container, snapshots)
        source = _merged(known.sources)
        wanted = {name for head in heads for name in roles.needed_roles(source, head)}
        if request.is_whole_cluster:
            wanted |= known.newest.roles.keys()
        target = postgres.roles()
        missing = roles.missing_roles(source, target.names, wanted)
        absent = [*missing.names, *missing.unknown]
        reserved = [name for name in missing.unknown if name.startswith("pg_")]
        if reserved or (absent and not target.may_create):
            raise MissingRoleError(
                f"{postgres.container} has no role {', '.join(reserved or absent)}, which the snapshot needs, and "
                f"{'this version of PostgreSQL has none of that name' if reserved else 'its user may make no roles'}; "
                "create it first."
            )
        bare = tuple(Role(name, (f"CREATE ROLE {quote_identifier(name)};",)) for name in missing.unknown)
        return (
            MissingRoles(missing.roles + bare, missing.memberships),
            [
                *known.warnings(missing.names),
                *_unknown_role_warnings(missing),
                *([] if request.throwaway else _superuser_warnings(source, missing)),
            ],
        )


def read_head(reader: ArchiveReader, chunks: Iterator[bytes]) -> tuple[ArchiveHead, bytes]:
    """Read on until the table of contents is complete; returns it and all that was read.

    Raises ArchiveError when the archive ends before.
    """
    beginning = bytearray()
    for chunk in chunks:
        beginning += chunk
        reader.feed(chunk)
        if reader.head is not None:
            return reader.head, bytes(beginning)
    return reader.close(), bytes(beginning)


def needs(databases: Sequence[DatabasePlan], survey: room.Survey, request: Request) -> room.Needs:
    """What the restore takes of its volumes at its worst."""
    claims = [plan.claim for plan in databases]
    return room.needs(claims, survey, keep_old=request.keep_old, replace=request.strategy == REPLACE)


def require_room(
    databases: Sequence[DatabasePlan], survey: room.Survey, request: Request, spare_bytes: int = 0
) -> None:
    """Refuse what would fill a volume; *spare_bytes* become free before the restore begins.

    Raises NoRoomError with the way out.
    """
    wanted = needs(databases, survey, request)
    lacking = room.shortage([plan.claim for plan in databases], survey, wanted, spare_bytes)
    if lacking is None:
        return
    hoards = survey.settings.hoards
    parts = [
        f"{_mb(wanted.log_bytes)} of write-ahead log{f' ({hoards})' if hoards else ''}",
        f"{_mb(wanted.reserve_bytes)} that stay free for the live server",
    ]
    if lacking.place.directory != survey.log.directory:
        rows = [f"{_mb(max(wanted.data_bytes, 0))} of rows and indexes"]
        rows += [f"{_mb(wanted.sort_bytes)} to sort for the indexes"] if wanted.sort_bytes else []
        shares = survey.log.volume in {place.volume for place in survey.places_of([plan.claim for plan in databases])}
        parts = [*rows, *(parts if shares else parts[1:])]
    raise NoRoomError(
        f"The volume of {lacking.place.directory} in {request.into} has {_mb(lacking.free_bytes)} free and a restore "
        f"{'in place of' if request.strategy == REPLACE else 'beside'} the live database takes up to "
        f"{_mb(lacking.wanted_bytes)}: {', '.join(parts)}; {ways_out(request)}."
    )


def ways_out(request: Request) -> str:
    """What to do where there is no room."""
    if request.strategy == REPLACE:
        return "make room, or restore into another container (target=)"
    return "make room, restore into another container (target=), or give restore_strategy=replace, which drops the live one first"


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f} MB"


def _lies_in(head: ArchiveHead) -> frozenset[str]:
    return head.tablespaces | {head.database_tablespace or room.DEFAULT_TABLESPACE}


def major(version: str) -> int:
    """The major version of a server's version, such as 17 of ``17.6 (Debian 17.6-1)`` and 18 of ``18beta1``."""
    return int(found.group()) if (found := _MAJOR.match(version)) else 0


def _merged(sources: Iterable[Globals]) -> Globals:
    """The roles of several manifests, which are one pass's but for a choice by id; the first that knows one counts."""
    merged = Globals()
    for source in sources:
        merged = Globals(
            {**source.roles, **merged.roles},
            (*merged.memberships, *(one for one in source.memberships if one not in merged.memberships)),
        )
    return merged


def _require_extensions(available: Collection[str], request: Request, heads: Sequence[ArchiveHead]) -> None:
    wanted = {name for head in heads for name in head.extensions}
    if missing := sorted(wanted - set(available)):
        raise MissingExtensionError(
            f"The image of {request.into} has no extension {', '.join(missing)}, which the snapshot needs; restore "
            "into a container whose image has it."
        )


def require_swappable(database: str, live: LiveDatabase | None) -> None:
    """Refuse to replace a database that nobody can rename or drop.

    Raises PreparedTransactionsError.
    """
    if live is not None and live.prepared_transactions:
        raise PreparedTransactionsError(
            f"{database} has prepared transactions ({live.prepared_transactions}), and PostgreSQL lets nobody rename or "
            "drop it until each is ended with COMMIT PREPARED or ROLLBACK PREPARED; pg_prepared_xacts lists them."
        )


def _extension_warnings(available: Mapping[str, str], descriptions: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """An archive names its extensions without their versions."""
    for described in descriptions:
        for one in described.get("extensions") or ():
            now = available.get(one["name"])
            if now is not None and now != one["version"]:
                yield (
                    f"The extension {one['name']} of {described['database']} was {one['version']} and comes back as {now}."
                )


def _subscription_warnings(heads: Sequence[ArchiveHead]) -> Iterator[str]:
    if names := [entry.tag for head in heads for entry in head.entries if entry.desc == "SUBSCRIPTION"]:
        yield (
            f"Subscriptions come back disabled: {', '.join(names)}; ALTER SUBSCRIPTION … ENABLE starts them when you "
            "know which rows they are to go on with."
        )


def _unknown_role_warnings(missing: MissingRoles) -> Iterator[str]:
    if missing.unknown:
        yield (
            f"Nothing is known of {', '.join(missing.unknown)} but the name: made without a password, and may not log "
            "in until you say so."
        )


def _superuser_warnings(source: Globals, missing: MissingRoles) -> Iterator[str]:
    """A cluster has the superuser that it was made with, who comes along in any case; one with more is worth a look."""
    has_more = sum(role.superuser for role in source.roles.values()) > 1
    if has_more and (superusers := [role.name for role in missing.roles if role.superuser]):
        yield f"Among the roles that will be made are superusers: {', '.join(superusers)}."


def _age_warnings(databases: Sequence[DatabasePlan]) -> list[str]:
    return [
        f"The snapshot {plan.snapshot.short_id} of {plan.database} is {(utc_now() - plan.snapshot.time).days} days old."
        for plan in databases
        if utc_now() - plan.snapshot.time > _OLD_SNAPSHOT
    ]


def _count_warnings(databases: Sequence[DatabasePlan], manifests: Manifests | None = None) -> list[str]:
    return [
        f"No row counts are known of the snapshot {plan.snapshot.short_id} of {plan.database}"
        f"{_why_uncounted(plan.snapshot, manifests)}: only the archive itself can be verified."
        for plan in databases
        if plan.row_counts is None
    ]


def _why_uncounted(snapshot: Snapshot, manifests: Manifests | None) -> str:
    if manifests is None or manifests.describe(snapshot):
        return ""
    if manifests.has(snapshot):
        return f", because the manifest of its run {snapshot.run} does not mention it"
    return (
        f", because its run {snapshot.run} has no manifest that could be used"
        if snapshot.run
        else ", which no pass made"
    )


def _spread_warnings(databases: Sequence[DatabasePlan], survey: room.Survey) -> list[str]:
    places = survey.places_of([plan.claim for plan in databases])
    if len(places) < 2:
        return []
    return [
        f"The rows go to {len(places)} volumes ({', '.join(place.directory for place in places)}), and nobody knows how much "
        "to which: only all their room together was judged. The restore gives up when one of them runs low."
    ]


def _tablespace_warnings(databases: Sequence[DatabasePlan]) -> list[str]:
    return [
        f"{plan.database} lay in tablespaces that are not there; all of it goes to the default one."
        for plan in databases
        if not plan.tablespaces
    ]
