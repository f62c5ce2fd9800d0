# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore: a new database is filled beside the live one, verified, and swapped in in one transaction.

Until the swap commits, the live database is untouched and the app runs on. Whatever fails before that, the
new database is dropped and the live one is as it was.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from scalr_backup import leftovers, selection
from scalr_backup.archive import ArchiveHead, ArchiveReader
from scalr_backup.docker_host import STDOUT, ExecStream, MessageTail
from scalr_backup.dump import Dumper
from scalr_backup.errors import (
    ExitCode,
    InterruptedRunError,
    NoRoomError,
    NotConfirmedError,
    PostgresError,
    RestoreError,
    ScalrBackupError,
    VerificationError,
)
from scalr_backup.manifest import Manifests
from scalr_backup.model import PRE_RESTORE, Cluster, Failure, Snapshot, new_run_id
from scalr_backup.postgres import APPLICATION_PREFIX, RESTORE_PREFIX, Postgres, different_counts, last_words
from scalr_backup.progress import log, progress
from scalr_backup.state import RestoreJournal, container_lock, utc_now
from scalr_backup.use_case import UseCase

# PostgreSQL's NAMEDATALEN less one: a longer name is cut off, by its own rules.
_NAME_BYTES = 63
# Room that a restore wants beyond the database's own size: write-ahead log of a checkpoint, and some air.
_SPARE_BYTES = 256 * 1024 * 1024
_OLD_SNAPSHOT = timedelta(days=2)
# A restored index can take hours in which pg_restore says nothing and reads nothing.
_SILENCE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Request:
    """What to restore; *confirm* must be the container's name."""

    container: str
    database: str | None = None
    snapshot: str = selection.LATEST
    confirm: str | None = None
    keep_old: bool = False
    safety_snapshot: bool = True


@dataclass(frozen=True)
class DatabasePlan:
    """What would happen to one database; bytes, seconds, sessions of others."""

    database: str
    snapshot: Snapshot
    exists: bool
    size_bytes: int | None
    sessions: int
    needed_bytes: int
    server_version: str
    row_counts: dict[str, int] | None = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The plan as the JSON contract shows it."""
        snapshot = self.snapshot
        return {
            "database": self.database,
            "exists": self.exists,
            "size_bytes": self.size_bytes,
            "sessions": self.sessions,
            "needed_bytes": self.needed_bytes,
            "snapshot": {
                "id": snapshot.id,
                "short_id": snapshot.short_id,
                "time": snapshot.time.isoformat(),
                "age_seconds": int((utc_now() - snapshot.time).total_seconds()),
                "dump_bytes": snapshot.dump_bytes,
                "run": snapshot.run,
                "reason": snapshot.reason,
                "server_version": self.server_version,
            },
        }


@dataclass(frozen=True)
class Plan:
    """What a restore would do, found out without changing anything."""

    host: str
    cluster: Cluster
    databases: tuple[DatabasePlan, ...]
    free_bytes: int
    warnings: tuple[str, ...]
    reference: str

    def as_dict(self) -> dict[str, Any]:
        """The plan as the JSON contract shows it."""
        return {
            "host": self.host,
            "container": self.cluster.container.name,
            "server_version": self.cluster.server_version,
            "snapshot": self.reference,
            "databases": [database.as_dict() for database in self.databases],
            "free_bytes": self.free_bytes,
            "warnings": list(self.warnings),
        }


@dataclass
class DatabaseRestore:
    """The outcome for one database; seconds."""

    database: str
    snapshot_id: str
    ok: bool = False
    safety_snapshot_id: str | None = None
    old_database: str | None = None
    verified: dict[str, int] | None = None
    duration_seconds: float = 0.0
    error: Failure | None = None


@dataclass
class RestoreResult:
    """The outcome of a restore."""

    run: str | None
    plan: Plan
    databases: list[DatabaseRestore] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> ExitCode:
        """1 when nothing was restored, 3 when only some databases were."""
        failed = sum(not outcome.ok for outcome in self.databases)
        if not failed:
            return ExitCode.GOOD
        return ExitCode.FAILED if failed == len(self.databases) else ExitCode.SOME_DATABASES_FAILED

    def as_dict(self) -> dict[str, Any]:
        """The outcome as the JSON contract shows it."""
        return {
            "run": self.run,
            "plan": self.plan.as_dict(),
            "databases": [asdict(outcome) for outcome in self.databases],
            "warnings": self.warnings,
        }


class Restore(UseCase):
    """Restores databases of one container."""

    def plan(self, request: Request) -> Plan:
        """Find out what would be replaced by what, and whether it can be; changes nothing.

        Raises the ScalrBackupError of the first thing that stands against it.
        """
        self._emit(progress("plan", container=request.container))
        self._restic.require_version()
        cluster = self._discovery.cluster(request.container, f"{APPLICATION_PREFIX} look")
        snapshots = self._restic.snapshots()
        chosen = selection.select(
            snapshots, request.container, request.database, request.snapshot, self._config.timezone
        )
        postgres = self._postgres(cluster, "look")
        manifests = Manifests(self._restic, snapshots)
        databases = tuple(self._plan_database(postgres, manifests, snapshot) for snapshot in chosen.snapshots)
        # What a killed restore left goes before this one begins.
        free = postgres.free_bytes() + sum(postgres.half_made_databases().values())
        _require_room(databases, free, request)
        warnings = (*_age_warnings(databases), *_count_warnings(databases), *chosen.warnings)
        return Plan(self._config.host, cluster, databases, free, warnings, chosen.reference)

    def run(self, request: Request) -> RestoreResult:
        """Restore after the plan's checks; *confirm* stands for the operator's word.

        Raises NotConfirmedError, BusyError while the container is being dumped or restored, or what ``plan``
        raises; what happens to a single database is in the result.
        """
        plan = self.plan(request)
        if request.confirm != request.container:
            raise NotConfirmedError(
                f"Nothing was restored: confirm with the container's name, {request.container}, to replace "
                f"{', '.join(one.database for one in plan.databases)} on {self._config.host}."
            )
        result = RestoreResult(new_run_id(), plan)
        holder = f"restore {result.run} into it, since {utc_now():%Y-%m-%d %H:%M:%S} UTC"
        with self._state.lock(container_lock(request.container), holder):
            for sentence in leftovers.clean_up(self._state, self._discovery, plan.cluster):
                self._warn(result, sentence)
            _require_room(plan.databases, self._postgres(plan.cluster, "look").free_bytes(), request)
            for number, database in enumerate(plan.databases, start=1):
                result.databases.append(self._restore(request, result, database, number))
        return result

    def _plan_database(self, postgres: Postgres, manifests: Manifests, snapshot: Snapshot) -> DatabasePlan:
        assert snapshot.database is not None
        with self._restic.dump(snapshot.id, snapshot.path, glance=True) as stream:
            reader = ArchiveReader()
            head, _beginning = _read_head(reader, stream.chunks())
        postgres.check_archive(reader.head_bytes or b"")
        described = manifests.describe(snapshot)
        live = postgres.live_database(snapshot.database)
        return DatabasePlan(
            database=snapshot.database,
            snapshot=snapshot,
            exists=live is not None,
            size_bytes=live.size_bytes if live else None,
            sessions=live.sessions if live else 0,
            needed_bytes=max(int(described.get("size_bytes") or 0), snapshot.dump_bytes or 0),
            server_version=head.server_version,
            row_counts=described.get("row_counts"),
        )

    def _restore(self, request: Request, result: RestoreResult, plan: DatabasePlan, number: int) -> DatabaseRestore:
        """Restore one database; whatever goes wrong is in the outcome, and the live database as it was."""
        started = time.monotonic()
        assert result.run is not None
        outcome = DatabaseRestore(plan.database, plan.snapshot.id)
        journal = RestoreJournal(
            run=result.run,
            container=request.container,
            database=plan.database,
            new=f"{RESTORE_PREFIX}{result.run.lower().replace('-', '_')}_{number}",
            old=old_name(plan.database, result.run),
            keep_old=request.keep_old,
        )
        postgres = self._postgres(result.plan.cluster, result.run)
        try:
            self._stop_if_told()
            if request.safety_snapshot and plan.exists:
                outcome.safety_snapshot_id = self._take_safety_snapshot(result, plan)
            self._state.open_journal(journal)
            try:
                self._fill_verify_and_swap(result, postgres, plan, journal, outcome)
            except BaseException:
                self._remove_half_made(result, journal)
                raise
            self._retire_old(result, postgres, plan, journal, outcome)
            outcome.ok = True
        except ScalrBackupError as error:
            outcome.error = Failure(error.code, error.message)
            self._emit(log("error", f"{request.container}/{plan.database} was not restored: {error.message}"))
        outcome.duration_seconds = round(time.monotonic() - started, 1)
        return outcome

    def _take_safety_snapshot(self, result: RestoreResult, plan: DatabasePlan) -> str:
        cluster = result.plan.cluster
        self._emit(progress("safety-snapshot", container=cluster.container.name, database=plan.database))
        assert result.run is not None
        with tempfile.TemporaryDirectory(prefix="scalr-backup-") as reports:
            dumper = Dumper(self._config, self._discovery, self._restic, self._emit, result.run, Path(reports))
            try:
                return dumper.dump(cluster, plan.database, (PRE_RESTORE,)).saved.snapshot_id
            except InterruptedRunError:
                raise
            except ScalrBackupError as error:
                raise RestoreError(
                    f"The safety snapshot of the live database failed, so nothing was changed: {error.message} "
                    "(safety_snapshot=false restores without one)."
                ) from None

    def _fill_verify_and_swap(
        self,
        result: RestoreResult,
        postgres: Postgres,
        plan: DatabasePlan,
        journal: RestoreJournal,
        outcome: DatabaseRestore,
    ) -> None:
        head = self._fill(postgres, plan, journal.new)
        outcome.verified = self._verify(postgres, plan, journal.new)
        self._emit(progress("analyze", database=plan.database))
        try:
            postgres.analyze(journal.new)
        except PostgresError as error:
            # Every row is there; statistics come later, by autovacuum.
            self._warn(result, f"ANALYZE of the restored {plan.database} failed: {error.message}")
        self._stop_if_told()
        self._emit(progress("swap", database=plan.database))
        outcome.old_database = self._swap(postgres, plan, journal, head)

    def _swap(self, postgres: Postgres, plan: DatabasePlan, journal: RestoreJournal, head: ArchiveHead) -> str | None:
        """Put the new database in the live one's place; returns the replaced one's name, None where there was none.

        Raises RestoreError when nothing was swapped, or when nobody can tell.
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
            # The answer to COMMIT may have been lost on its way: the names tell.
            if not self._has_swapped(postgres, journal, error):
                raise RestoreError(f"The swap failed and changed nothing: {error.message}") from None
        return journal.old if exists else None

    def _has_swapped(self, postgres: Postgres, journal: RestoreJournal, error: ScalrBackupError) -> bool:
        try:
            return journal.new not in postgres.database_names()
        except ScalrBackupError:
            raise RestoreError(
                f"The server was lost during the swap, which happened wholly or not at all; the next run looks and "
                f"cleans up: {error.message}"
            ) from None

    def _fill(self, postgres: Postgres, plan: DatabasePlan, new: str) -> ArchiveHead:
        """Create the new database by the archive's own definition and stream the archive into it."""
        reader = ArchiveReader()
        with self._restic.dump(plan.snapshot.id, plan.snapshot.path) as source:
            chunks = source.chunks()
            head, beginning = _read_head(reader, chunks)
            try:
                postgres.create_database(new, head.create_database_sql(new), head.database_entry.owner)
            except PostgresError as error:
                raise RestoreError(f"A database like the archive's cannot be made: {error.message}") from None
            with postgres.start_restore(new, _SILENCE_SECONDS) as target:
                self._stream(plan, reader, beginning, chunks, target)
        return head

    def _stream(
        self,
        plan: DatabasePlan,
        reader: ArchiveReader,
        beginning: bytes,
        chunks: Iterator[bytes],
        target: ExecStream,
    ) -> None:
        """Copy the archive into pg_restore, verify that it is whole, and wait for pg_restore's verdict.

        Raises RestoreError in pg_restore's words, ArchiveError or ResticError.
        """
        listener = _Listener(target)
        whole = False
        try:
            target.write(beginning, self._stop_if_told)
            count, told = len(beginning), 0.0
            for chunk in chunks:
                reader.feed(chunk)
                target.write(chunk, self._stop_if_told)
                count += len(chunk)
                self._stop_if_told()
                if time.monotonic() - told > 1.0:
                    told = time.monotonic()
                    self._emit(
                        progress("data", database=plan.database, bytes=count, total_bytes=plan.snapshot.dump_bytes)
                    )
            reader.close()
            target.end_input()
            whole = True
        except (BrokenPipeError, ConnectionResetError):
            pass  # pg_restore stopped reading: its own words follow.
        self._emit(progress("indexes-and-constraints", database=plan.database))
        while not listener.finished(0.5):
            self._stop_if_told()
        exit_code = target.wait()
        if exit_code != 0:
            raise RestoreError(f"pg_restore ended with exit code {exit_code}: {last_words(listener.messages)}")
        if not whole:
            raise RestoreError("pg_restore ended well before it had read the whole archive, which cannot be right.")

    def _verify(self, postgres: Postgres, plan: DatabasePlan, new: str) -> dict[str, int] | None:
        """Compare exact row counts with the manifest's; None when the manifest has none.

        Raises VerificationError with the first tables that differ.
        """
        if plan.row_counts is None:
            return None
        self._emit(progress("verify", database=plan.database))
        found = postgres.count_rows(new)
        if differences := different_counts(plan.row_counts, found):
            raise VerificationError(
                f"{len(differences)} tables of the restored {plan.database} differ from the manifest, so nothing was "
                f"swapped: {'; '.join(differences[:5])}."
            )
        return {"tables": len(found), "rows": sum(found.values())}

    def _retire_old(
        self,
        result: RestoreResult,
        postgres: Postgres,
        plan: DatabasePlan,
        journal: RestoreJournal,
        outcome: DatabaseRestore,
    ) -> None:
        """Drop what was replaced, unless it is to be kept; the restore has succeeded already."""
        if outcome.old_database is not None and not journal.keep_old:
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

    def _remove_half_made(self, result: RestoreResult, journal: RestoreJournal) -> None:
        """Drop the new database and whatever works in it; what cannot be removed now, the next run removes."""
        try:
            postgres = self._postgres(result.plan.cluster, "cleanup")
            postgres.end_leftovers(f"{APPLICATION_PREFIX} {journal.run}")
            if superfluous := leftovers.superfluous(journal, postgres.database_names()):
                postgres.drop_database(superfluous)
        except ScalrBackupError as error:
            self._warn(result, f"The half-made {journal.new} stays until the next run: {error.message}")
        else:
            self._state.close_journal(journal)

    def _postgres(self, cluster: Cluster, name: str) -> Postgres:
        return self._discovery.postgres(cluster.container, cluster.credentials, f"{APPLICATION_PREFIX} {name}")

    def _stop_if_told(self) -> None:
        if self._cancelled.is_set():
            raise InterruptedRunError("The restore was told to stop; the live database is as it was.")


class _Listener:
    """Reads what pg_restore says while its input is written, so that neither waits for the other."""

    def __init__(self, target: ExecStream) -> None:
        self._tail = MessageTail()
        self._error: ScalrBackupError | None = None
        self._thread = threading.Thread(target=self._listen, args=(target,), daemon=True)
        self._thread.start()

    @property
    def messages(self) -> str:
        """What it said."""
        return self._tail.text

    def finished(self, seconds: float) -> bool:
        """Wait a little for its output to end; raises what broke the connection."""
        self._thread.join(seconds)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def _listen(self, target: ExecStream) -> None:
        try:
            for kind, data in target.frames():
                if kind != STDOUT:
                    self._tail.add(data)
        except ScalrBackupError as error:
            self._error = error
        except ValueError:
            pass  # The stream was closed under us: the restore has been given up.


def old_name(database: str, run: str) -> str:
    """The name under which a replaced database waits, cut to PostgreSQL's length between characters.

    A cut name carries a hash of the whole one: long names that begin alike stay apart.
    """
    suffix = f"_before_restore_{run.lower()}"
    encoded = database.encode()
    if len(encoded) > _NAME_BYTES - len(suffix):
        suffix = f"_{hashlib.sha256(encoded).hexdigest()[:6]}{suffix}"
    return encoded[: _NAME_BYTES - len(suffix)].decode("utf-8", "ignore") + suffix


def _read_head(reader: ArchiveReader, chunks: Iterator[bytes]) -> tuple[ArchiveHead, bytes]:
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


def _require_room(databases: tuple[DatabasePlan, ...], free: int, request: Request) -> None:
    needed = [plan.needed_bytes for plan in databases]
    wanted = (sum(needed) if request.keep_old else max(needed, default=0)) + _SPARE_BYTES
    if free < wanted:
        raise NoRoomError(
            f"The volume of {request.container} has {free / 1e6:.0f} MB free and a restore beside the live database "
            f"needs about {wanted / 1e6:.0f} MB; make room first."
        )


def _age_warnings(databases: tuple[DatabasePlan, ...]) -> list[str]:
    return [
        f"The snapshot {plan.snapshot.short_id} of {plan.database} is {(utc_now() - plan.snapshot.time).days} days old."
        for plan in databases
        if utc_now() - plan.snapshot.time > _OLD_SNAPSHOT
    ]


def _count_warnings(databases: tuple[DatabasePlan, ...]) -> list[str]:
    return [
        f"No row counts are known of the snapshot {plan.snapshot.short_id} of {plan.database}: only the archive itself "
        "can be verified."
        for plan in databases
        if plan.row_counts is None
    ]
