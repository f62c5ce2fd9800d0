# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore would do: determined and checked before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from scalr_backup.actions import leftovers
from scalr_backup.actions.backup.manifest import Manifests
from scalr_backup.actions.restore import selection
from scalr_backup.actions.restore.extensions import require_home, window_warnings
from scalr_backup.actions.restore.known_roles import known_roles
from scalr_backup.actions.restore.opened import open_archive
from scalr_backup.actions.restore.request import REPLACE, DatabasePlan, Plan, RestoreRequest, needs
from scalr_backup.actions.restore.trust import (
    code_of,
    code_warnings,
    superuser_warnings,
    trust_warnings,
    unknown_statement_warnings,
)
from scalr_backup.actions.restore.warnings import (
    age_warnings,
    count_warnings,
    extension_warnings,
    left_out_warnings,
    slot_warnings,
    spread_warnings,
    subscription_warnings,
    tablespace_warnings,
    unchecked_warnings,
    unknown_role_warnings,
    unknown_room_warnings,
    unrehearsed_warnings,
    unsaved_warnings,
)
from scalr_backup.actions.use_case import Tools, UseCase
from scalr_backup.core import roles, room
from scalr_backup.core.archive.head import ArchiveHead
from scalr_backup.core.errors import (
    MissingExtensionError,
    MissingRoleError,
    NoRoomError,
    OlderServerError,
    PostgresError,
    PreparedTransactionsError,
    RoomUnknownError,
    UsageError,
)
from scalr_backup.core.extensions import homes
from scalr_backup.core.left_out import lost_with
from scalr_backup.core.model import Cluster, Snapshot
from scalr_backup.core.progress import progress
from scalr_backup.core.roles import Globals, MissingRoles, Role
from scalr_backup.core.sql import quote_identifier
from scalr_backup.core.units import human_bytes
from scalr_backup.tools.postgres.cluster import LiveDatabase, Postgres, RolesOnTarget
from scalr_backup.tools.postgres.left_out import lost_with_live
from scalr_backup.tools.postgres.session import LOOK
from scalr_backup.tools.restic.repository import Restic

_INDEXES = frozenset({"INDEX", "CONSTRAINT"})
_MAJOR = re.compile(r"\s*\d{1,9}")


@dataclass(frozen=True)
class _Groundwork:
    """What a plan is made of: what is asked, of which server, from which snapshots, with their heads and manifests."""

    request: RestoreRequest
    cluster: Cluster
    postgres: Postgres
    manifests: Manifests
    chosen: selection.Selection
    heads: list[ArchiveHead]


class Planner(UseCase):
    """Finds out what would be replaced by what, and whether it can be."""

    def __init__(self, tools: Tools, source: Restic | None = None) -> None:
        """*source* is the repository that is read; this agent's own unless given."""
        super().__init__(tools)
        self._source = source or tools.restic

    def plan(self, request: RestoreRequest) -> Plan:
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
        ground = self._groundwork(request, cluster, snapshots)
        postgres, chosen, heads = ground.postgres, ground.chosen, ground.heads
        extensions = postgres.available_extensions() if any(head.extensions for head in heads) else {}
        _require_extensions(extensions, request, heads)
        _require_homes(ground)
        databases = self._plan_databases(ground)
        target = postgres.roles()
        missing, role_warnings = self._plan_roles(ground, target)
        owners = () if request.throwaway else code_of(heads, target, missing)
        # What a killed restore left goes before this one begins.
        survey = survey_room(postgres, request)
        spare = sum(leftovers.half_made_by_dead(self._state, postgres).values())
        require_room(databases, survey, request, spare)
        warnings = (
            *self._warnings(ground, databases, extensions, survey),
            *role_warnings,
            *trust_warnings(databases, heads, missing, throwaway=request.throwaway),
            *code_warnings(owners, target),
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
            owners,
        )

    def _warnings(
        self, ground: _Groundwork, databases: Sequence[DatabasePlan], extensions: Mapping[str, str], survey: room.Survey
    ) -> list[str]:
        """What the operator should know of the databases, their archives and the room for them."""
        manifests, chosen, heads, throwaway = ground.manifests, ground.chosen, ground.heads, ground.request.throwaway
        return [
            *age_warnings(databases),
            *count_warnings(databases, manifests),
            *left_out_warnings(databases, manifests),
            *unsaved_warnings(chosen.snapshots, manifests, is_whole_cluster=ground.request.is_whole_cluster),
            *self._warnings_of_what_is_lost(ground, databases),
            *tablespace_warnings(databases),
            *spread_warnings(databases, survey),
            *([] if throwaway else unknown_room_warnings(survey)),
            *extension_warnings(extensions, [manifests.describe(one) for one in chosen.snapshots]),
            *subscription_warnings(heads),
            *unchecked_warnings(databases, heads),
            *slot_warnings(ground.request, databases),
            *([] if throwaway else window_warnings(self._tied(ground, databases))),
            *unrehearsed_warnings(ground.request, databases, self._state.read().get("drills", {})),
        ]

    def _tied(self, ground: _Groundwork, databases: Sequence[DatabasePlan]) -> dict[str, tuple[str, ...]]:
        """The extensions of those databases that are replaced."""
        pairs = zip(databases, ground.heads, strict=True)
        return {plan.database: head.extensions for plan, head in pairs if plan.exists}

    def _groundwork(self, request: RestoreRequest, cluster: Cluster, snapshots: Sequence[Snapshot]) -> _Groundwork:
        """Choose, and read the heads and beside them the manifests of what is chosen."""
        manifests = Manifests(self._source, snapshots)
        chosen = self._choose(request, snapshots, manifests)
        postgres = self._look(cluster)
        with ThreadPoolExecutor() as aside:
            reading = aside.submit(manifests.read, chosen.snapshots)
            heads = [self._read_head(postgres, cluster, snapshot) for snapshot in chosen.snapshots]
            reading.result()
        return _Groundwork(request, cluster, postgres, manifests, chosen, heads)

    def _choose(
        self, request: RestoreRequest, snapshots: Sequence[Snapshot], manifests: Manifests
    ) -> selection.Selection:
        """Which of a host's snapshots are meant, one for each database."""
        if not snapshots and request.from_host:
            self._refuse_unknown_host(request.from_host)
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
            raise UsageError(
                f"database_as names one database, but there are several; choose one with database: {names}."
            )
        if request.without_manifest:
            manifests.leave_out(chosen.snapshots)
        return chosen

    def _refuse_unknown_host(self, host: str) -> None:
        known = ", ".join(sorted({snapshot.host for snapshot in self._source.snapshots(None)})) or "none"
        raise UsageError(
            f"The repository {self._source.repository} holds no snapshot of a host {host}; it holds snapshots of: "
            f"{known}."
        )

    def _read_head(self, postgres: Postgres, cluster: Cluster, snapshot: Snapshot) -> ArchiveHead:
        with self._source.dump(snapshot.id, snapshot.path, glance=True) as stream:
            opened = open_archive(postgres, f"look_{snapshot.short_id}", stream.chunks())
        head = opened.head
        if major(head.server_version) > major(cluster.server_version):
            raise OlderServerError(
                f"{snapshot.short_id} is a dump of PostgreSQL {head.server_version}, but {postgres.container} runs "
                f"{cluster.server_version}: a dump cannot go back to an older major version. Restore into a container "
                f"of PostgreSQL {major(head.server_version)} or newer."
            )
        if head.is_known:
            postgres.check_archive(opened.head_bytes)
        return head

    def _plan_databases(self, ground: _Groundwork) -> tuple[DatabasePlan, ...]:
        postgres, heads = ground.postgres, ground.heads
        tablespaces = postgres.tablespaces() if any(head.tablespaces for head in heads) else frozenset()
        return tuple(
            self._plan_database(ground, snapshot, head, head.tablespaces <= tablespaces)
            for snapshot, head in zip(ground.chosen.snapshots, heads, strict=True)
        )

    def _plan_database(
        self, ground: _Groundwork, snapshot: Snapshot, head: ArchiveHead, tablespaces: bool
    ) -> DatabasePlan:
        _container, database = snapshot.dump_of
        described = ground.manifests.describe(snapshot)
        name = ground.request.database_as or database
        live = ground.postgres.live_database(name)
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
            reaches_out=head.reaches_out,
        )

    def _warnings_of_what_is_lost(self, ground: _Groundwork, databases: Sequence[DatabasePlan]) -> Iterator[str]:
        """Rows of live databases that are gone with them; one that lets nobody in may be replaced all the same."""
        if ground.request.keep_old or ground.request.throwaway:
            return
        for plan in databases:
            with suppress(PostgresError):
                rows = lost_with_live(ground.postgres, plan.database) if plan.exists else []
                if sentence := lost_with(plan.database, rows):
                    yield sentence

    def _plan_roles(self, ground: _Groundwork, target: RolesOnTarget) -> tuple[MissingRoles, list[str]]:
        """The roles that have to be made before the databases.

        Raises MissingRoleError when there are some and the agent's user may not make roles.
        """
        request, postgres, heads = ground.request, ground.postgres, ground.heads
        known = known_roles(ground.manifests, request.container, ground.chosen.snapshots)
        source = _merged(known.sources)
        wanted = {name for head in heads for name in roles.needed_roles(source, head)}
        if request.is_whole_cluster:
            wanted |= known.newest.roles.keys()
        missing = roles.missing_roles(source, target.names, wanted)
        absent = [*missing.names, *missing.unknown]
        reserved = [name for name in missing.unknown if name.startswith("pg_")]
        if reserved or (absent and not target.may_create):
            raise MissingRoleError(
                f"{postgres.container} has no role {', '.join(reserved or absent)}, which the snapshot needs, and "
                f"{'this version of PostgreSQL has no role of that name' if reserved else 'its user may not create roles'}; "
                "create it first."
            )
        bare = tuple(Role(name, (f"CREATE ROLE {quote_identifier(name)};",)) for name in missing.unknown)
        return (
            MissingRoles(missing.roles + bare, missing.memberships),
            [
                *known.warnings(missing.names),
                *unknown_role_warnings(missing),
                *([] if request.throwaway else superuser_warnings(missing, target)),
                *(unknown_statement_warnings(source) if missing.roles else ()),
            ],
        )


def survey_room(postgres: Postgres, request: RestoreRequest) -> room.Survey:
    """What the target's volumes have. A throwaway server has nobody's data that could be in want of room.

    Raises RoomUnknownError for any other server that does not tell.
    """
    try:
        return postgres.room()
    except RoomUnknownError as error:
        if not request.throwaway:
            raise
        return room.unknown_survey(error.message)


def require_room(
    databases: Sequence[DatabasePlan], survey: room.Survey, request: RestoreRequest, spare_bytes: int = 0
) -> None:
    """Refuse what would fill a volume; *spare_bytes* become free before the restore begins.

    Raises NoRoomError with the way out.
    """
    if survey.unknown is not None:
        return
    wanted = needs(databases, survey, request)
    lacking = room.shortage([plan.claim for plan in databases], survey, wanted, spare_bytes)
    if lacking is None:
        return
    hoards = survey.settings.hoards
    parts = [
        f"{human_bytes(wanted.log_bytes)} of write-ahead log{f' ({hoards})' if hoards else ''}",
        f"{human_bytes(wanted.reserve_bytes)} kept free for the live server",
    ]
    if lacking.place.directory != survey.log.directory:
        rows = [f"{human_bytes(max(wanted.data_bytes, 0))} of rows and indexes"]
        rows += [f"{human_bytes(wanted.sort_bytes)} for sorting during index builds"] if wanted.sort_bytes else []
        shares = survey.log.volume in {place.volume for place in survey.places_of([plan.claim for plan in databases])}
        parts = [*rows, *(parts if shares else parts[1:])]
    raise NoRoomError(
        f"The volume of {lacking.place.directory} in {request.into} has {human_bytes(lacking.free_bytes)} free, and a restore "
        f"{'in place of' if request.strategy == REPLACE else 'beside'} the live database takes up to "
        f"{human_bytes(lacking.wanted_bytes)}: {', '.join(parts)}; {ways_out(request)}."
    )


def ways_out(request: RestoreRequest) -> str:
    """What to do when there is no room."""
    if request.strategy == REPLACE:
        return "free some space, or restore into another container (target=)"
    return (
        "free some space, restore into another container (target=), or use restore_strategy=replace, which drops the live "
        "one first"
    )


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
            (*merged.not_understood, *source.not_understood),
        )
    return merged


def _require_extensions(available: Collection[str], request: RestoreRequest, heads: Sequence[ArchiveHead]) -> None:
    wanted = {name for head in heads for name in head.extensions}
    if missing := sorted(wanted - set(available)):
        raise MissingExtensionError(
            f"The image of {request.into} has no extension {', '.join(missing)}, which the snapshot needs; restore "
            "into a container whose image has it."
        )


def _require_homes(ground: _Groundwork) -> None:
    """Refuse databases whose extensions can be created only in another. Raises MissingExtensionError."""
    settings = sorted({setting for head in ground.heads for setting in homes(head.extensions).values()})
    if not settings:
        return
    known = ground.postgres.readable_settings(settings)
    for snapshot, head in zip(ground.chosen.snapshots, ground.heads, strict=True):
        name = ground.request.database_as or snapshot.dump_of[1]
        require_home(known, ground.request.into, name, head.extensions)


def require_swappable(database: str, live: LiveDatabase | None) -> None:
    """Refuse to replace a database that cannot be renamed or dropped.

    Raises PreparedTransactionsError.
    """
    if live is not None and live.prepared_transactions:
        raise PreparedTransactionsError(
            f"{database} has prepared transactions ({live.prepared_transactions}), and PostgreSQL cannot rename or "
            "drop it until each is ended with COMMIT PREPARED or ROLLBACK PREPARED; pg_prepared_xacts lists them."
        )
