# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore: a new database is filled beside the live one, verified, and swapped in in one transaction.

Until the swap commits, the live database is untouched and the app runs on. Whatever fails before that, the
new database is dropped and the live one is as it was. Only where there is no room for two, and the operator says
so in words, the live one goes first: after it has been saved, and after the snapshot has been read to its end.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from scalr_backup.actions import leftovers
from scalr_backup.actions.backup.dump import Dumper, uncounted
from scalr_backup.actions.restore.fill import Filled, Filler
from scalr_backup.actions.restore.plan import Planner, require_room, ways_out
from scalr_backup.actions.restore.request import BESIDE, REPLACE, DatabasePlan, Plan, RestoreRequest
from scalr_backup.actions.restore.room_watch import RoomWatch
from scalr_backup.actions.restore.swap import SwapUnknownError, has_swapped
from scalr_backup.actions.use_case import Tools, UseCase
from scalr_backup.core.answers import PlanAnswer, RestoreAnswer, RestoredAnswer
from scalr_backup.core.archive.head import ArchiveHead
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import (
    ExitCode,
    InterruptedRunError,
    NotConfirmedError,
    PostgresError,
    RestoreError,
    ScalrBackupError,
    UnknownSnapshotError,
    VerificationError,
)
from scalr_backup.core.model import PRE_RESTORE, Failure, new_run_id
from scalr_backup.core.progress import log, progress
from scalr_backup.core.sql import NAME_BYTES
from scalr_backup.tools.postgres.cluster import RESTORE_PREFIX, Postgres
from scalr_backup.tools.postgres.session import APPLICATION_PREFIX
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import RestoreJournal, container_lock

__all__ = ["BESIDE", "REPLACE", "DatabaseRestore", "Plan", "Restore", "RestoreRequest", "RestoreResult", "old_name"]


@dataclass
class DatabaseRestore:
    """The outcome for one database; seconds."""

    database: str
    snapshot_id: str | None
    ok: bool = False
    safety_snapshot_id: str | None = None
    old_database: str | None = None
    kept_database: str | None = None
    dropped_first: bool = False
    verified: dict[str, int] | None = None
    jobs: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    duration_seconds: float = 0.0
    error: Failure | None = None

    def as_dict(self) -> RestoredAnswer:
        """The outcome as the JSON contract shows it."""
        return {
            "database": self.database,
            "snapshot_id": self.snapshot_id,
            "ok": self.ok,
            "safety_snapshot_id": self.safety_snapshot_id,
            "old_database": self.old_database,
            "kept_database": self.kept_database,
            "dropped_first": self.dropped_first,
            "verified": self.verified,
            "jobs": self.jobs,
            "seconds": self.seconds,
            "duration_seconds": self.duration_seconds,
            "error": self.error.record if self.error else None,
        }


class _Planned(Protocol):
    """What a restore was to do, or an undo."""

    def as_dict(self) -> PlanAnswer:
        """The plan as the JSON contract shows it."""


PlanType = TypeVar("PlanType", bound=_Planned)


@dataclass
class RestoreResult(Generic[PlanType]):
    """The outcome of a restore, or of an undo."""

    run: str | None
    plan: PlanType
    databases: list[DatabaseRestore] = field(default_factory=list)
    roles_created: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> ExitCode:
        """1 when nothing was restored, 3 when only some databases were."""
        failed = sum(not outcome.ok for outcome in self.databases)
        if not failed:
            return ExitCode.GOOD
        return ExitCode.FAILED if failed == len(self.databases) else ExitCode.SOME_DATABASES_FAILED

    def as_dict(self) -> RestoreAnswer:
        """The outcome as the JSON contract shows it."""
        return {
            "run": self.run,
            "plan": self.plan.as_dict(),
            "databases": [outcome.as_dict() for outcome in self.databases],
            "roles_created": self.roles_created,
            "warnings": self.warnings,
        }


class Restore(UseCase):
    """Restores databases of one container."""

    def __init__(self, tools: Tools, source: Restic | None = None) -> None:
        """*source* is the repository that is restored from; this agent's own unless given."""
        super().__init__(tools)
        self._source = source or tools.restic
        self._planner = Planner(tools, source)

    def plan(self, request: RestoreRequest) -> Plan:
        """Find out what would be replaced by what, and whether it can be; changes nothing.

        Raises the ScalrBackupError of the first thing that stands against it.
        """
        return self._planner.plan(request)

    def run(self, request: RestoreRequest) -> RestoreResult[Plan]:
        """Restore after the plan's checks; *confirm* stands for the operator's word.

        Raises NotConfirmedError, BusyError while the container is being dumped or restored, or what ``plan``
        raises; what happens to a single database is in the result.
        """
        plan = self.plan(request)
        if request.confirm != plan.confirm:
            raise NotConfirmedError(
                f"Nothing was restored: confirm with {plan.confirm!r} to replace "
                f"{', '.join(one.database for one in plan.databases)} of {request.into} on {self._config.host}."
            )
        result = RestoreResult(new_run_id(), plan)
        assert result.run is not None
        holder = f"restore {result.run} into it, since {utc_now():%Y-%m-%d %H:%M:%S} UTC"
        with self._begun(result.run), self._state.lock(container_lock(request.into), holder):
            removed = leftovers.clean_up(self._state, self._discovery, plan.cluster)
            for sentence in removed:
                self._warn(result, sentence)
            if removed:
                # The plan took for free what could be removed; not all may have been.
                require_room(plan.databases, self._look(plan.cluster).room(), request)
            self._make_roles(result)
            for number, database in enumerate(plan.databases, start=1):
                result.databases.append(self._restore(request, result, database, number))
        result.databases += [self._not_there(request, name) for name in plan.missing]
        return result

    def _not_there(self, request: RestoreRequest, database: str) -> DatabaseRestore:
        """What was asked for with the whole container, and cannot be had."""
        message = f"{request.container}/{database} was not restored: no snapshot holds it, though a pass had found it."
        self._emit(log("error", message))
        return DatabaseRestore(database, None, error=Failure(UnknownSnapshotError.code, message))

    def _make_roles(self, result: RestoreResult[Plan]) -> None:
        """Make the roles that are missing, all or none; what belongs to a role is tried one by one.

        Raises RestoreError when they cannot be made.
        """
        missing = result.plan.roles
        if not missing.roles:
            return
        self._emit(progress("roles", container=result.plan.cluster.container.name, total=len(missing.roles)))
        postgres = self._postgres(result.plan.cluster, str(result.run))
        try:
            postgres.make_roles([statement for role in missing.roles for statement in role.definition])
        except PostgresError as error:
            raise RestoreError(f"The missing roles cannot be made, so nothing was restored: {error.message}") from None
        result.roles_created += missing.names
        for role in missing.roles:
            for statement in role.properties:
                try:
                    postgres.make_roles([statement])
                except PostgresError as error:
                    self._warn(result, f"A property of the role {role.name} could not be set: {error.message}")
        for membership in missing.memberships:
            with suppress(PostgresError):
                postgres.make_roles([membership.statement])
                continue
            # Since PostgreSQL 16 a grantor must be allowed to grant; whoever runs this becomes the grantor.
            try:
                postgres.make_roles([membership.without_grantor])
            except PostgresError as error:
                what = f"{membership.member} could not be made a member of {membership.role}"
                self._warn(result, f"{what}: {error.message}")

    def _restore(
        self, request: RestoreRequest, result: RestoreResult[Plan], plan: DatabasePlan, number: int
    ) -> DatabaseRestore:
        """Restore one database; whatever goes wrong is in the outcome, and the live database as it was."""
        started = time.monotonic()
        assert result.run is not None
        outcome = DatabaseRestore(plan.database, plan.snapshot.id)
        journal = RestoreJournal(
            run=result.run,
            container=request.into,
            database=plan.database,
            new=f"{RESTORE_PREFIX}{result.run.lower().replace('-', '_')}_{number}",
            old=old_name(plan.database, result.run),
            keep_old=request.keep_old or request.strategy == REPLACE,
        )
        postgres = self._postgres(result.plan.cluster, result.run)
        try:
            self._stop_if_told()
            if request.safety_snapshot and plan.exists:
                outcome.safety_snapshot_id = self._take_safety_snapshot(result, plan)
            self._state.open_journal(journal)
            self._fill_and_swap(request, result, postgres, plan, journal, outcome)
            self._retire_old(result, postgres, plan, journal, outcome)
            outcome.ok = True
        except ScalrBackupError as error:
            outcome.error = Failure(error.code, self._with_way_back(request, plan, outcome, error.message))
            self._emit(log("error", f"{request.into}/{plan.database} was not restored: {outcome.error.message}"))
        outcome.duration_seconds = round(time.monotonic() - started, 1)
        return outcome

    def _fill_and_swap(
        self,
        request: RestoreRequest,
        result: RestoreResult[Plan],
        postgres: Postgres,
        plan: DatabasePlan,
        journal: RestoreJournal,
        outcome: DatabaseRestore,
    ) -> None:
        """Fill the new database and put it in the live one's place; where that fails, nothing is left of it."""
        try:
            if request.strategy == REPLACE and plan.exists:
                filler = Filler(self._source, postgres, self._emit, self._stop_if_told)
                self._drop_live(filler, postgres, plan, outcome)
            filled = self._fill(request, result.plan, postgres, plan, journal.new)
            outcome.verified, outcome.jobs, outcome.seconds = filled.verified, filled.jobs, filled.seconds
            for sentence in filled.warnings:
                self._warn(result, sentence)
            self._stop_if_told()
            self._emit(progress("swap", container=request.into, database=plan.database))
            outcome.old_database = self._swap(postgres, self._tidier(result.plan.cluster), plan, journal, filled.head)
        except SwapUnknownError:
            # What it has made may be the live database by now: the next run looks before it drops anything.
            raise
        except VerificationError as error:
            outcome.kept_database = self._keep_for_inspection(result, plan, journal)
            if outcome.kept_database is None:
                raise
            kept = (
                f"The restored one is kept as {outcome.kept_database}."
                if outcome.dropped_first
                else f"Both are kept: the live one as it was, the restored one as {outcome.kept_database}; compare them, "
                "and drop the one that is wrong."
            )
            raise VerificationError(f"{error.message} {kept}") from None
        except BaseException:
            self._remove_half_made(result, journal)
            raise

    def _fill(self, request: RestoreRequest, whole: Plan, postgres: Postgres, plan: DatabasePlan, new: str) -> Filled:
        """Fill the new database for as long as the live server has room.

        Raises NoRoomLeftError, or what the filler raises.
        """
        live = "" if request.strategy == REPLACE else f"the live {plan.database} is as it was; "
        places = {place.volume: place for place in (whole.survey.log, *whole.places)}
        with RoomWatch(postgres.unstoppable(), [*places.values()], new, f"{live}{ways_out(request)}.") as watch:

            def stop_if_told() -> None:
                self._stop_if_told()
                watch.check()

            try:
                return Filler(self._source, postgres, self._emit, stop_if_told).fill(plan, new)
            except ScalrBackupError:
                if watch.gave_up is not None:
                    raise watch.gave_up from None
                raise

    def _drop_live(self, filler: Filler, postgres: Postgres, plan: DatabasePlan, outcome: DatabaseRestore) -> None:
        """Make room by dropping the live database, after the snapshot has proved readable to its end."""
        filler.read_through(plan)
        self._stop_if_told()
        self._emit(progress("drop", container=postgres.container, database=plan.database))
        postgres.drop_database(plan.database)
        outcome.dropped_first = True

    def _with_way_back(
        self, request: RestoreRequest, plan: DatabasePlan, outcome: DatabaseRestore, message: str
    ) -> str:
        if not outcome.dropped_first:
            return message
        way_back = (
            f"; the safety snapshot {outcome.safety_snapshot_id[:8]} has what was there: restore it with "
            f"-e db={request.into} -e snapshot={outcome.safety_snapshot_id[:8]}"
            if outcome.safety_snapshot_id
            else ""
        )
        return f"{message} {plan.database} had been dropped before, as strategy=replace does{way_back}."

    def _take_safety_snapshot(self, result: RestoreResult[Plan], plan: DatabasePlan) -> str:
        cluster = result.plan.cluster
        self._emit(progress("safety-snapshot", container=cluster.container.name, database=plan.database))
        assert result.run is not None
        known = self._state.known_databases()
        dumper = Dumper(self._config, self._discovery, self._restic, self._emit, result.run, known)
        try:
            dumped = dumper.dump(cluster, plan.database, (PRE_RESTORE,))
        except InterruptedRunError:
            raise
        except ScalrBackupError as error:
            raise RestoreError(
                f"The safety snapshot of the live database failed, so nothing was changed: {error.message} "
                "(safety_snapshot=false restores without one)."
            ) from None
        if dumped.count_error:
            self._warn(result, uncounted(cluster.container.name, plan.database, dumped.count_error))
        return dumped.saved.snapshot_id

    def _swap(
        self, postgres: Postgres, cleaner: Postgres, plan: DatabasePlan, journal: RestoreJournal, head: ArchiveHead
    ) -> str | None:
        """Put the new database in the live one's place; returns the replaced one's name, None where there was none.

        Raises RestoreError when nothing was swapped, and SwapUnknownError when nobody can tell.
        """
        exists = postgres.live_database(plan.database) is not None
        if exists and not plan.exists:
            raise RestoreError(
                f"A database {plan.database} was made while the restore ran, and nobody has saved it; nothing was "
                "swapped. Run this again to replace it."
            )
        properties = head.database_properties(plan.database if head.dbname != plan.database else None)
        try:
            postgres.swap(plan.database, journal.new, journal.old if exists else None, properties)
        except ScalrBackupError as error:
            # The answer to COMMIT may have been lost on its way.
            if not has_swapped(cleaner, postgres.application, journal.new, error, self._cancelled.is_set):
                raise RestoreError(f"The swap failed and changed nothing: {error.message}") from None
        return journal.old if exists else None

    def _retire_old(
        self,
        result: RestoreResult[Plan],
        postgres: Postgres,
        plan: DatabasePlan,
        journal: RestoreJournal,
        outcome: DatabaseRestore,
    ) -> None:
        """Drop what was replaced, or remember where it is kept; the restore has succeeded already."""
        if outcome.old_database is not None and journal.keep_old:
            self._state.keep(journal.kept)
        elif outcome.old_database is not None:
            try:
                postgres.drop_database(journal.old)
            except ScalrBackupError as error:
                self._warn(
                    result,
                    f"{plan.database} is restored; the old {journal.old} stays until a later run can drop it: "
                    f"{error.message}",
                )
                return
            outcome.old_database = None
        self._state.close_journal(journal)

    def _keep_for_inspection(
        self, result: RestoreResult[Plan], plan: DatabasePlan, journal: RestoreJournal
    ) -> str | None:
        """Give a complete database that is not what was saved a name of its own; None when that fails too."""
        kept = cut_name(plan.database, f"_restored_{journal.run.lower()}")
        try:
            self._tidier(result.plan.cluster).rename_database(journal.new, kept)
        except ScalrBackupError:
            self._remove_half_made(result, journal)
            return None
        self._state.close_journal(journal)
        return kept

    def _remove_half_made(self, result: RestoreResult[Plan], journal: RestoreJournal) -> None:
        """Drop the new database and whatever works in it; what cannot be removed now, the next run removes."""
        try:
            postgres = self._tidier(result.plan.cluster)
            postgres.end_leftovers(f"{APPLICATION_PREFIX} {journal.run}")
            if superfluous := leftovers.superfluous(journal, postgres.database_names()):
                postgres.drop_database(superfluous)
        except ScalrBackupError as error:
            self._warn(result, f"The half-made {journal.new} stays until the next run: {error.message}")
        else:
            self._state.close_journal(journal)

    def _stop_if_told(self) -> None:
        if self._cancelled.is_set():
            raise InterruptedRunError("The restore was told to stop, and nothing was swapped.")


def old_name(database: str, run: str) -> str:
    """The name under which a replaced database waits."""
    return cut_name(database, f"_before_restore_{run.lower()}")


def cut_name(database: str, suffix: str) -> str:
    """A database's name with a suffix, cut to PostgreSQL's length between characters.

    A cut name carries a hash of the whole one: long names that begin alike stay apart.
    """
    encoded = database.encode()
    if len(encoded) > NAME_BYTES - len(suffix):
        suffix = f"_{hashlib.sha256(encoded).hexdigest()[:6]}{suffix}"
    return encoded[: NAME_BYTES - len(suffix)].decode("utf-8", "ignore") + suffix
