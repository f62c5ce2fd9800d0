# SPDX-License-Identifier: GPL-3.0-or-later
"""An undo: what a restore has replaced and kept takes its old place again, in one transaction.

What it replaces is kept too, under the undo's own run: so an undo can be undone.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from scalr_backup.actions.leftovers import require_own_name
from scalr_backup.actions.restore.plan import require_swappable
from scalr_backup.actions.restore.replacing import Replacing
from scalr_backup.actions.restore.request import live_as_dict, require_one_container
from scalr_backup.actions.restore.result import DatabaseRestore, RestoreResult
from scalr_backup.actions.restore.swap import has_swapped
from scalr_backup.core.answers import PlanAnswer, PlannedDatabase
from scalr_backup.core.errors import (
    RestoreError,
    ScalrBackupError,
    UnknownDatabaseError,
    UnknownRunError,
)
from scalr_backup.core.model import Cluster, Failure, old_name
from scalr_backup.core.progress import log, progress
from scalr_backup.core.room import DEFAULT_TABLESPACE
from scalr_backup.tools.postgres.cluster import LiveDatabase, Postgres
from scalr_backup.tools.postgres.session import LOOK
from scalr_backup.tools.state import KeptDatabase, UndoJournal


@dataclass(frozen=True)
class UndoRequest:
    """Which restore to undo, by its run; *confirm* must be the container's name."""

    run: str
    container: str | None = None
    confirm: str | None = None

    def __post_init__(self) -> None:
        require_one_container(self.container or "")


@dataclass(frozen=True)
class DatabaseUndo:
    """What would happen to one database."""

    kept: KeptDatabase
    live: LiveDatabase | None

    def as_dict(self) -> PlannedDatabase:
        """The plan as the JSON contract shows it, shaped like a restore's."""
        return {
            "database": self.kept.database,
            "source_database": None,
            **live_as_dict(self.live),
            "needed_bytes": 0,
            "old_database": self.kept.old,
            "snapshot": None,
        }


@dataclass(frozen=True)
class UndoPlan:
    """What an undo would do, found out without changing anything."""

    host: str
    undo: str
    cluster: Cluster
    databases: tuple[DatabaseUndo, ...]
    free_bytes: int | None

    @property
    def confirm(self) -> str:
        """What the operator has to type, or to give beforehand."""
        return self.cluster.container.name

    def as_dict(self) -> PlanAnswer:
        """The plan as the JSON contract shows it, shaped like a restore's."""
        return {
            "host": self.host,
            "container": self.cluster.container.name,
            "source": {"host": self.host, "container": self.cluster.container.name},
            "strategy": None,
            "confirm": self.confirm,
            "undo": self.undo,
            "server_version": self.cluster.server_version,
            "snapshot": None,
            "roles": [],
            "databases": [database.as_dict() for database in self.databases],
            "free_bytes": self.free_bytes,
            "warnings": [],
        }


class Undo(Replacing):
    """Undoes one restore."""

    def plan(self, request: UndoRequest) -> UndoPlan:
        """Find out what would take whose place; changes nothing.

        Raises UnknownRunError when nothing was kept by that run, or it is gone.
        """
        self._emit(progress("plan", container=request.container))
        of_run = self._of_run(request, self._state.kept())
        # A restore that was killed right after its swap could not note what it keeps; its journal knows.
        of_killed = self._of_run(
            request,
            [journal.kept for journal in self._state.journals() if journal.keep_old]
            + [journal.replaced for journal in self._state.undos() if journal.replaced],
        )
        if not of_run and not of_killed:
            raise self._unknown(request)
        cluster = self._discovery.cluster((of_run or of_killed)[0].container, LOOK, anywhere=True)
        postgres = self._look(cluster)
        names = postgres.database_names()
        of_run += [one for one in of_killed if one.old in names and one not in of_run]
        if not of_run:
            raise self._unknown(request)
        if gone := [one.old for one in of_run if one.old not in names]:
            raise UnknownDatabaseError(
                f"{', '.join(gone)}, which the restore {request.run} kept, is no longer in {cluster.container.name}; "
                "nothing was changed."
            )
        databases = tuple(DatabaseUndo(one, postgres.live_database(one.database)) for one in of_run)
        for database in databases:
            require_swappable(database.kept.database, database.live)
        return UndoPlan(self._config.host, request.run, cluster, databases, _free_bytes(postgres))

    def _of_run(self, request: UndoRequest, kept: list[KeptDatabase]) -> list[KeptDatabase]:
        of_run = [one for one in kept if one.run.lower() == request.run.lower()]
        return [one for one in of_run if request.container in (None, one.container)]

    def _unknown(self, request: UndoRequest) -> UnknownRunError:
        known = ", ".join(sorted({f"{one.run} (of {one.container})" for one in self._state.kept()})) or "none"
        return UnknownRunError(
            f"No restore {request.run} on {self._config.host} kept what it replaced (keep_old=true does); "
            f"those that did: {known}."
        )

    def run(self, request: UndoRequest) -> RestoreResult[UndoPlan]:
        """Put back what was kept; what happens to a single database is in the result.

        Raises NotConfirmedError, BusyError, or what ``plan`` raises.
        """
        plan = self.plan(request)
        self._require_word(
            request.confirm,
            plan.confirm,
            f"Nothing was undone: confirm with {plan.confirm!r} to put back "
            f"{', '.join(one.kept.database for one in plan.databases)} on {self._config.host}.",
        )
        with self._alone_in(plan.cluster.container.name, plan, "undo", "in it") as result:
            self._clean_up(result, plan.cluster)
            for database in plan.databases:
                result.databases.append(self._put_back(result, database))
        return result

    def _put_back(self, result: RestoreResult[UndoPlan], plan: DatabaseUndo) -> DatabaseRestore:
        started = time.monotonic()
        kept = plan.kept
        outcome = DatabaseRestore(kept.database, snapshot_id=None)
        self._emit(progress("swap", container=kept.container, database=kept.database))
        postgres = self._postgres(result.plan.cluster, result.run)
        replaced = KeptDatabase(result.run, kept.container, kept.database, old_name(kept.database, result.run))
        try:
            require_own_name(self._state, kept.container, kept.database)
            exists = kept.database in postgres.database_names()
            journal = UndoJournal(kept, replaced if exists else None)
            # Noted before it is so: whatever ends this run, the next one knows what to look for.
            self._state.open_undo(journal)
            self._swap(postgres, self._tidier(result.plan.cluster), journal)
            self._state.close_undo(journal, swapped=True)
            outcome.old_database = replaced.old if exists else None
            outcome.ok = True
        except Exception as error:  # noqa: BLE001 (whatever it is, the other databases are put back)
            outcome.error = Failure.of(error)
            self._emit(log("error", f"{kept.container}/{kept.database} was not put back: {outcome.error.message}"))
        outcome.duration_seconds = round(time.monotonic() - started, 1)
        return outcome

    def _swap(self, postgres: Postgres, cleaner: Postgres, journal: UndoJournal) -> None:
        """Swap the names.

        Raises RestoreError when nothing was swapped, and SwapUnknownError when that is unknown: the journal then stays.
        """
        kept, replaced = journal.kept, journal.replaced
        try:
            postgres.swap(kept.database, kept.old, replaced.old if replaced else None, ())
        except ScalrBackupError as error:
            # The answer to COMMIT may have been lost on its way.
            if not has_swapped(cleaner, postgres.application, kept.old, error, self._cancelled.is_set):
                self._state.close_undo(journal, swapped=False)
                raise RestoreError(f"The swap failed and changed nothing: {error.message}") from None


def _free_bytes(postgres: Postgres) -> int | None:
    """How much room there is; swapping names needs none, so not knowing is no obstacle."""
    with suppress(ScalrBackupError):
        survey = postgres.room()
        return None if survey.unknown else survey.tablespaces[DEFAULT_TABLESPACE].free_bytes
    return None
