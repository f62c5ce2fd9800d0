# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore: a new database is filled beside the live one, verified, and swapped in in one transaction.

Until the swap commits, the live database is untouched and the app runs on. Whatever fails before that, the
new database is dropped and the live one is as it was. Only where there is no room for two, and the operator says
so in words, the live one goes first: after it has been saved, and after the snapshot has been read to its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from scalr_backup.actions import leftovers
from scalr_backup.actions.backup.dump import Dumper, unchecked, uncounted
from scalr_backup.actions.restore.fill import Filled, Filler
from scalr_backup.actions.restore.lenience import in_words
from scalr_backup.actions.restore.plan import Planner, require_room, survey_room, ways_out
from scalr_backup.actions.restore.replacing import Replacing
from scalr_backup.actions.restore.request import REPLACE, SKIP, DatabasePlan, Plan, RestoreRequest, in_order
from scalr_backup.actions.restore.result import DatabaseRestore, RestoreResult, can_be_tried_again
from scalr_backup.actions.restore.room_watch import RoomWatch
from scalr_backup.actions.restore.swap import SwapUnknownError, has_swapped
from scalr_backup.actions.restore.warnings import AFTER_LOST_SLOTS, slots_in_words
from scalr_backup.actions.restore.window import run_under_final_name
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.archive.mending import UNREACHABLE
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import (
    IncompleteError,
    InterruptedRunError,
    PostgresError,
    RestoreError,
    ScalrBackupError,
    UnknownSnapshotError,
    UnrestorableError,
    VerificationError,
)
from scalr_backup.core.model import PRE_RESTORE, Failure, old_name, restored_name
from scalr_backup.core.progress import log, progress, starting_over
from scalr_backup.core.slots import SlotAnswer
from scalr_backup.tools.postgres.cluster import RESTORE_PREFIX, Postgres, let_in
from scalr_backup.tools.postgres.session import APPLICATION_PREFIX
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import RestoreJournal


@dataclass(frozen=True)
class InFlight:
    """One database on its way back: of which restore, by which plan, and what it comes to.

    *postgres* works under the run's name; *tidier* tidies up after it, be it after having been told to stop.
    """

    request: RestoreRequest
    result: RestoreResult[Plan]
    plan: DatabasePlan
    journal: RestoreJournal
    outcome: DatabaseRestore
    postgres: Postgres
    tidier: Postgres
    # Whether it goes on without what it needs other databases for.
    alone: bool = False


class Restore(Replacing):
    """Restores databases of one container."""

    def __init__(self, tools: Tools, source: Restic | None = None) -> None:
        """*source* is the repository that is restored from; this agent's own unless given."""
        super().__init__(tools)
        self._source = source or tools.restic
        self._planner = Planner(tools, source)
        # How many databases were tried once more.
        self._attempts = 0

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
        self._require_word(
            request.confirm,
            plan.confirm,
            f"Nothing was restored: confirm with {plan.confirm!r} to replace "
            f"{', '.join(one.database for one in plan.databases)} of {request.into} on {self._config.host}.",
        )
        with self._alone_in(request.into, plan, "restore", "into it") as result:
            if self._clean_up(result, plan.cluster):
                # The plan took for free what could be removed; not all may have been.
                require_room(plan.databases, survey_room(self._look(plan.cluster), request), request)
            self._make_roles(result)
            for number, database in enumerate(in_order(plan.databases), start=1):
                result.databases.append(self._restore(self._take_off(result, database, number)))
            self._again(result, plan)
        result.databases += [self._not_there(request, name) for name in plan.missing]
        return result

    def _again(self, result: RestoreResult[Plan], plan: Plan) -> None:
        """Try those once more that read from other databases, for as long as more of those have come back.

        Those that need each other come back without what they read, which is made once all are there. One alone may need
        itself, which is not there before it is restored.
        """
        plans = {database.database: database for database in plan.databases}
        if len(plans) == 1 and plan.databases[0].exists and not result.databases[0].dropped_first:
            return
        restored = -1
        while restored < (restored := sum(outcome.ok for outcome in result.databases)):
            if restored:
                self._round(result, plans, alone=False)
        self._round(result, plans, alone=True)
        for outcome in result.databases:
            if outcome.ok and outcome.unreachable:
                self._complete(result, outcome)

    def _round(self, result: RestoreResult[Plan], plans: Mapping[str, DatabasePlan], *, alone: bool) -> None:
        for place, outcome in enumerate(result.databases):
            plan = plans[outcome.database]
            if not plan.reaches_out or not can_be_tried_again(outcome):
                continue
            self._emit(starting_over(container=result.plan.request.into, database=outcome.database))
            self._attempts += 1
            flight = self._take_off(result, plan, len(plans) + self._attempts, alone=alone)
            # What the first try has done stays done.
            flight.outcome.safety_snapshot_id = outcome.safety_snapshot_id
            flight.outcome.dropped_first, flight.outcome.lost_slots = outcome.dropped_first, outcome.lost_slots
            result.databases[place] = self._restore(flight)

    def _complete(self, result: RestoreResult[Plan], outcome: DatabaseRestore) -> None:
        """Make what was left out for want of another database, in the database that is restored and live."""
        postgres = self._postgres(result.plan.cluster, result.run)
        try:
            postgres.alter(outcome.database, outcome.unreachable)
        except ScalrBackupError as error:
            if result.plan.request.throwaway:
                # It has no other database, which is told already.
                return
            message = (
                f"{outcome.database} is restored and live, but objects that read from other databases could not be created: "
                f"{error.message}"
            )
            outcome.ok, outcome.error = False, Failure(IncompleteError.code, message)
            self._emit(log("error", message))
            return
        told = {in_words(one) for one in outcome.objects if one["outcome"] == UNREACHABLE}
        result.warnings[:] = [sentence for sentence in result.warnings if sentence not in told]
        outcome.objects = [one for one in outcome.objects if one["outcome"] != UNREACHABLE]

    def _not_there(self, request: RestoreRequest, database: str) -> DatabaseRestore:
        """What was asked for with the whole container, and cannot be had."""
        message = f"{request.container}/{database} was not restored: no snapshot holds it, although a pass found it."
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
        postgres = self._postgres(result.plan.cluster, result.run)
        try:
            postgres.make_roles([statement for role in missing.roles for statement in role.definition])
        except PostgresError as error:
            raise RestoreError(
                f"The missing roles cannot be created, so nothing was restored: {error.message}"
            ) from None
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

    def _take_off(
        self, result: RestoreResult[Plan], plan: DatabasePlan, number: int, *, alone: bool = False
    ) -> InFlight:
        """Give what one database needs on its way; changes nothing."""
        request, cluster = result.plan.request, result.plan.cluster
        journal = RestoreJournal(
            run=result.run,
            container=request.into,
            database=plan.database,
            new=f"{RESTORE_PREFIX}{result.run.lower().replace('-', '_')}_{number}",
            old=old_name(plan.database, result.run),
            keep_old=request.keep_old or request.strategy == REPLACE,
        )
        outcome = DatabaseRestore(plan.database, plan.snapshot.id)
        postgres = self._postgres(cluster, result.run)
        return InFlight(request, result, plan, journal, outcome, postgres, self._tidier(cluster), alone)

    def _restore(self, flight: InFlight) -> DatabaseRestore:
        """Restore one database; whatever goes wrong is in the outcome, and the live database as it was."""
        started = time.monotonic()
        request, plan, outcome = flight.request, flight.plan, flight.outcome
        try:
            self._stop_if_told()
            leftovers.require_own_name(self._state, request.into, plan.database)
            if request.safety_snapshot and plan.exists and outcome.safety_snapshot_id is None:
                outcome.safety_snapshot_id = self._take_safety_snapshot(flight)
            self._state.open_journal(flight.journal)
            self._fill_and_swap(flight)
            self._retire_old(flight)
            outcome.ok = True
        except Exception as error:  # noqa: BLE001 (whatever it is, the other databases are restored)
            if isinstance(error, UnrestorableError):
                outcome.objects = error.objects
            failure = Failure.of(error)
            outcome.error = Failure(failure.code, self._with_way_back(flight, failure.message))
            self._emit(log("error", f"{request.into}/{plan.database} was not restored: {outcome.error.message}"))
        outcome.duration_seconds = round(time.monotonic() - started, 1)
        return outcome

    def _fill_and_swap(self, flight: InFlight) -> None:
        """Fill the new database and put it in the live one's place; where that fails, nothing is left of it."""
        request, plan, outcome = flight.request, flight.plan, flight.outcome
        try:
            if request.strategy == REPLACE and plan.exists and not outcome.dropped_first:
                self._drop_live(self._filler(flight, self._stop_if_told), flight)
            filled = self._fill(flight)
            outcome.verified, outcome.jobs, outcome.seconds = filled.verified, filled.jobs, filled.seconds
            outcome.objects, outcome.unreachable = filled.objects, filled.unreachable
            for sentence in filled.warnings:
                self._warn(flight.result, sentence)
            self._stop_if_told()
            self._emit(progress("swap", container=request.into, database=plan.database))
            outcome.old_database = self._swap(flight, filled.waiting)
        except SwapUnknownError:
            # What it has made may be the live database by now: the next run looks before it drops anything.
            raise
        except VerificationError as error:
            if request.throwaway:
                # It goes with its container.
                raise
            outcome.kept_database = self._keep_for_inspection(flight)
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
            self._remove_half_made(flight)
            raise

    def _fill(self, flight: InFlight) -> Filled:
        """Fill the new database for as long as the live server has room.

        Raises NoRoomLeftError, or what the filler raises.
        """
        request, plan, new, whole = flight.request, flight.plan, flight.journal.new, flight.result.plan
        live = "" if request.strategy == REPLACE else f"the live {plan.database} is as it was; "
        places = {} if whole.survey.unknown else {one.volume: one for one in (whole.survey.log, *whole.places)}
        looker = flight.postgres.unstoppable()
        with RoomWatch(looker, [*places.values()], new, f"{live}{ways_out(request)}.") as watch:

            def stop_if_told() -> None:
                self._stop_if_told()
                watch.check()

            try:
                return self._filler(flight, stop_if_told).fill(plan, new)
            except ScalrBackupError:
                if watch.gave_up is not None:
                    raise watch.gave_up from None
                raise

    def _filler(self, flight: InFlight, stop_if_told: Callable[[], None]) -> Filler:
        in_window = partial(run_under_final_name, self._state, flight.postgres, flight.tidier, flight.journal)
        return Filler(
            self._source, flight.postgres, self._emit, stop_if_told, in_window,
            skip=flight.request.on_error == SKIP, alone=flight.alone or flight.request.throwaway,
        )  # fmt: skip

    def _drop_live(self, filler: Filler, flight: InFlight) -> None:
        """Make room by dropping the live database, after the snapshot has proved readable to its end.

        And after all that it holds but its rows has been made on this very server: extensions, roles, types, functions,
        indexes. What only rows bring to light, a drill does: the plan says whether there was one.
        """
        plan, postgres = flight.plan, flight.postgres
        filler.read_through(plan)
        self._stop_if_told()
        self._emit(progress("rehearsal", container=postgres.container, database=plan.database))
        try:
            filler.rehearse(plan, flight.journal.new)
        except RestoreError as error:
            raise RestoreError(
                f"The rehearsal failed, so the live {plan.database} was not dropped: {error.message}"
            ) from None
        self._stop_if_told()
        self._emit(progress("drop", container=postgres.container, database=plan.database))
        slots = self._slots(flight, plan.database)
        postgres.drop_database(plan.database)
        flight.outcome.dropped_first = True
        self._tell_lost(flight, slots)

    def _slots(self, flight: InFlight, database: str) -> tuple[SlotAnswer, ...]:
        """The replication slots that go with a database; one that came after the plan counts, too."""
        with suppress(ScalrBackupError):
            return flight.postgres.slots(database)
        return flight.plan.live.slots if flight.plan.live else ()

    def _tell_lost(self, flight: InFlight, slots: Sequence[SlotAnswer]) -> None:
        if slots:
            flight.outcome.lost_slots += slots
            self._warn(
                flight.result,
                f"The replication slots of the replaced {flight.plan.database} were dropped with it: {slots_in_words(slots)}. "
                f"{AFTER_LOST_SLOTS}",
            )

    def _with_way_back(self, flight: InFlight, message: str) -> str:
        outcome = flight.outcome
        if not outcome.dropped_first:
            return message
        way_back = (
            f"; the safety snapshot {outcome.safety_snapshot_id[:8]} has what was there: restore it with "
            f"-e db={flight.request.into} -e snapshot={outcome.safety_snapshot_id[:8]}"
            if outcome.safety_snapshot_id
            else ""
        )
        return f"{message} {flight.plan.database} had already been dropped, as strategy=replace does{way_back}."

    def _take_safety_snapshot(self, flight: InFlight) -> str:
        result, plan, cluster = flight.result, flight.plan, flight.result.plan.cluster
        self._emit(progress("safety-snapshot", container=cluster.container.name, database=plan.database))
        known = self._state.known_databases()
        # In the order that the passes dump it in: in another one, all of it would be new to the repository.
        history = self._state.order_history(utc_now())
        dumper = Dumper(self._config, self._discovery, self._restic, self._emit, result.run, known, history)
        try:
            dumped = dumper.dump_by_itself(cluster, plan.database, (PRE_RESTORE,))
        except InterruptedRunError:
            raise
        except ScalrBackupError as error:
            raise RestoreError(
                f"The safety snapshot of the live database failed, so nothing was changed: {error.message} "
                "(safety_snapshot=false restores without one)."
            ) from None
        if dumped.count_error:
            self._warn(result, uncounted(cluster.container.name, plan.database, dumped.count_error))
        if dumped.archive_unchecked:
            self._warn(result, unchecked(cluster.container.name, plan.database, dumped.archive_unchecked))
        return dumped.saved.snapshot_id

    def _swap(self, flight: InFlight, waiting: Sequence[str]) -> str | None:
        """Put the new database in the live one's place; returns the replaced one's name, None where there was none.

        With it comes what was *waiting* for that.

        Raises RestoreError when nothing was swapped, and SwapUnknownError when that is unknown.
        """
        postgres, plan, journal = flight.postgres, flight.plan, flight.journal
        exists = postgres.live_database(plan.database) is not None
        if exists and not plan.exists:
            raise RestoreError(
                f"A database {plan.database} was created while the restore ran and is not backed up, so nothing was "
                "swapped. Run this again to replace it."
            )
        try:
            postgres.swap(
                plan.database, journal.new, journal.old if exists else None, (let_in(plan.database), *waiting)
            )
        except ScalrBackupError as error:
            # The answer to COMMIT may have been lost on its way.
            if not has_swapped(flight.tidier, postgres.application, journal.new, error, self._cancelled.is_set):
                raise RestoreError(f"The swap failed and changed nothing: {error.message}") from None
        return journal.old if exists else None

    def _retire_old(self, flight: InFlight) -> None:
        """Drop what was replaced, or remember where it is kept; the restore has succeeded already."""
        journal, outcome = flight.journal, flight.outcome
        if outcome.old_database is not None and journal.keep_old:
            self._state.keep(journal.kept)
        elif outcome.old_database is not None:
            slots = self._slots(flight, journal.old)
            try:
                # Whoever is told to stop now has only this left to do.
                flight.postgres.unstoppable().drop_database(journal.old)
            except ScalrBackupError as error:
                self._warn(
                    flight.result,
                    f"{journal.database} is restored; the old {journal.old} stays until a later run can drop it: "
                    f"{error.message}",
                )
                return
            outcome.old_database = None
            self._tell_lost(flight, slots)
        self._state.close_journal(journal)

    def _keep_for_inspection(self, flight: InFlight) -> str | None:
        """Give a complete database that is not what was saved a name of its own; None when that fails too."""
        journal = flight.journal
        kept = restored_name(journal.database, journal.run)
        try:
            flight.tidier.keep_database(journal.new, kept)
        except ScalrBackupError:
            self._remove_half_made(flight)
            return None
        self._state.close_journal(journal)
        return kept

    def _remove_half_made(self, flight: InFlight) -> None:
        """Drop the new database and whatever works in it; what cannot be removed now, the next run removes."""
        postgres, journal = flight.tidier, flight.journal
        try:
            postgres.end_leftovers(f"{APPLICATION_PREFIX} {journal.run}")
            leftovers.give_up(self._state, journal, postgres)
        except ScalrBackupError as error:
            self._warn(flight.result, f"The half-made {journal.new} stays until the next run: {error.message}")

    def _stop_if_told(self) -> None:
        if self._cancelled.is_set():
            raise InterruptedRunError("The restore was told to stop, and nothing was swapped.")
