# SPDX-License-Identifier: GPL-3.0-or-later
"""A new database, filled from a snapshot and verified: what a restore and a drill have in common.

One stream carries what comes before the data, and the data; nothing of it touches a disk but the database's own.
Indexes, keys and triggers follow in parallel: pg_restore wants a file that it can seek in for that, and the
archive's head is enough of one, which holds no row and lies in the container's memory meanwhile.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from scalr_backup.actions.restore.opened import open_archive
from scalr_backup.actions.restore.request import DatabasePlan
from scalr_backup.actions.restore.verify import verified
from scalr_backup.core.archive.head import ArchiveHead, PostData
from scalr_backup.core.archive.reader import ArchiveReader, TrustingReader
from scalr_backup.core.errors import PostgresError, RestoreError, ScalrBackupError
from scalr_backup.core.progress import Emit, progress, starting_over
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecStream, MessageTail
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.restic.repository import Restic

# A restored index can take hours in which pg_restore says nothing and reads nothing.
_SILENCE_SECONDS = 24 * 3600.0
_TELL_SECONDS = 2.0
# Each table's data ends with a line of its own and two empty ones.
_LINES_AFTER_DATA = 3
# What pg_restore --verbose says of each item.
_ITEM_OF_ONE_JOB, _ITEM_OF_SEVERAL_JOBS = b": creating ", b": finished item "
# What a server says of it in English, which a superuser's session of ours asks for.
_DEADLOCK = "deadlock detected"


class _DeadlockError(RestoreError):
    """Jobs of one pg_restore have locked each other out; one job alone cannot."""


@dataclass(frozen=True)
class _Step:
    """Some of what comes after the data: how much, by how many jobs; from a head at a path, and what a list says of it.

    Without a path, the head comes as a stream, and without a list all of it counts.
    """

    count: int
    jobs: int
    path: str | None = None
    use_list: str | None = None


@dataclass
class Filled:
    """A database that holds what the snapshot does; seconds by phase."""

    head: ArchiveHead
    jobs: int = 1
    verified: dict[str, int] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Filler:
    """Fills databases of one container from one repository; *stop_if_told* raises when the run is to end."""

    def __init__(self, source: Restic, postgres: Postgres, emit: Emit, stop_if_told: Callable[[], None]) -> None:
        self._source = source
        self._postgres = postgres
        self._emit = emit
        self._stop_if_told = stop_if_told

    def fill(self, plan: DatabasePlan, new: str) -> Filled:
        """Create the database *new* by the archive's own definition, fill it and verify it.

        Raises RestoreError, ArchiveError, ResticError, or VerificationError once the database is complete.
        """
        try:
            return self._fill(plan, new)
        except _DeadlockError as error:
            # Each of the jobs is right, and together they are not: one by one, they cannot lock each other out.
            self._postgres.drop_database(new)
            self._emit(starting_over(container=self._postgres.container, database=plan.database))
            filled = self._fill(plan, new, 1)
            again = f"Parallel jobs deadlocked in {plan.database}, so it was filled again by one: {error.message}"
            return replace(filled, warnings=[again, *filled.warnings])

    def _fill(self, plan: DatabasePlan, new: str, most_jobs: int = sys.maxsize) -> Filled:
        seconds: dict[str, float] = {}
        with _clock(seconds, "data"):
            head, head_bytes = self._load(plan, new)
        jobs = 1
        post_data = head.post_data
        if post_data.count:
            with _clock(seconds, "post_data"):
                jobs = self._finish(plan, new, post_data, head_bytes, most_jobs)
        filled = Filled(head, jobs, seconds=seconds)
        with _clock(seconds, "verify"):
            filled.verified = self._verify(plan, head, new)
        with _clock(seconds, "analyze"):
            filled.warnings += self._analyze(plan, new)
        return filled

    def read_through(self, plan: DatabasePlan) -> None:
        """Read a snapshot to its end without using it: what follows must not fail because the archive is incomplete.

        Raises ArchiveError or ResticError.
        """
        tell = self._teller("read-through", plan)
        with self._source.dump(plan.snapshot.id, plan.snapshot.path) as source:
            chunks = source.chunks()
            reader = open_archive(self._postgres, f"look_{plan.snapshot.short_id}", chunks).reader
            for chunk in chunks:
                reader.feed(chunk)
                tell(bytes=reader.position, total_bytes=plan.snapshot.dump_bytes)
        reader.close()

    def _load(self, plan: DatabasePlan, new: str) -> tuple[ArchiveHead, bytes]:
        """Make the database and stream what comes before the data, and the data, into it."""
        with self._source.dump(plan.snapshot.id, plan.snapshot.path) as source:
            chunks = source.chunks()
            opened = open_archive(self._postgres, new, chunks)
            self._create(plan, opened.head, new)
            with self._postgres.start_restore(
                new, _SILENCE_SECONDS, tablespaces=plan.tablespaces, whole=not opened.head.is_known
            ) as target:
                self._stream(plan, opened.reader, opened.beginning, chunks, target)
        return opened.head, opened.head_bytes

    def _create(self, plan: DatabasePlan, head: ArchiveHead, new: str) -> None:
        try:
            self._postgres.create_database(
                new, head.create_database_sql(new, with_tablespace=plan.tablespaces), head.database_entry.owner
            )
            if not plan.public_schema:
                self._postgres.drop_public_schema(new)
        except PostgresError as error:
            raise RestoreError(f"A database like the archive's cannot be created: {error.message}") from None

    def _stream(
        self,
        plan: DatabasePlan,
        reader: ArchiveReader | TrustingReader,
        beginning: bytes,
        chunks: Iterator[bytes],
        target: ExecStream,
    ) -> None:
        """Copy the archive into pg_restore, verify that it is whole, and wait for pg_restore's verdict.

        Raises RestoreError in pg_restore's words, ArchiveError or ResticError.
        """
        listener, tell = _Listener(target), self._teller("data", plan)
        rows = -_LINES_AFTER_DATA * len(reader.head.data_entries if reader.head else ())
        whole = False

        def while_it_does_not_read() -> None:
            self._stop_if_told()
            # The engine may keep a dead command's input open, unread, for minutes; its output it ends at once.
            if listener.finished(0):
                raise BrokenPipeError
            tell(bytes=reader.position, total_bytes=plan.snapshot.dump_bytes)

        try:
            target.write(beginning, while_it_does_not_read)
            for chunk in chunks:
                reader.feed(chunk)
                target.write(chunk, while_it_does_not_read)
                self._stop_if_told()
                rows += chunk.count(b"\n")
                known = {} if plan.rows is None else {"rows": min(max(rows, 0), plan.rows), "total_rows": plan.rows}
                tell(bytes=reader.position, total_bytes=plan.snapshot.dump_bytes, **known)
            reader.close()
            target.end_input()
            whole = True
        except (BrokenPipeError, ConnectionResetError):
            pass  # pg_restore stopped reading: its own words follow.
        self._await(listener, target, lambda: tell(bytes=reader.position, total_bytes=plan.snapshot.dump_bytes))
        if not whole:
            raise RestoreError(
                "pg_restore ended without an error before it had read the whole archive, which cannot be right."
            )

    def _finish(self, plan: DatabasePlan, new: str, post_data: PostData, head_bytes: bytes, most_jobs: int) -> int:
        """Make indexes, keys, triggers and the like; returns how many jobs did it.

        Raises RestoreError in pg_restore's words.
        """
        tell, total, done = self._teller("indexes-and-constraints", plan), post_data.count, 0
        try:
            steps = self._steps(new, post_data, head_bytes, most_jobs)
            for step in steps:
                self._make(plan, new, step, head_bytes, partial(_tell_items, tell, done, total))
                done += step.count
        finally:
            self._postgres.remove_heads(new)
        return max(step.jobs for step in steps)

    def _steps(self, new: str, post_data: PostData, head_bytes: bytes, most_jobs: int) -> list[_Step]:
        """What to make one after the other: all of it by one job where several have no use, or no room."""
        path, processors = self._postgres.put_head(new, head_bytes)
        jobs = min(most_jobs, processors, len(post_data.at_once))
        if path is not None and jobs > 1:
            if not post_data.in_order:
                return [_Step(post_data.count, jobs, path)]
            at_once = self._postgres.put_list(f"{new}.at_once", post_data.at_once)
            in_order = self._postgres.put_list(f"{new}.in_order", post_data.in_order)
            if at_once is not None and in_order is not None:
                return [
                    _Step(len(post_data.at_once), jobs, path, at_once),
                    _Step(len(post_data.in_order), 1, path, in_order),
                ]
        return [_Step(post_data.count, 1)]

    def _make(self, plan: DatabasePlan, new: str, step: _Step, head_bytes: bytes, tell: Callable[[int], None]) -> None:
        with self._postgres.start_post_data(
            new, step.path, step.use_list, step.jobs, _SILENCE_SECONDS, tablespaces=plan.tablespaces
        ) as target:
            listener = _Listener(target, _ITEM_OF_ONE_JOB if step.jobs == 1 else _ITEM_OF_SEVERAL_JOBS)
            if step.path is None:
                try:
                    target.write(head_bytes, self._stop_if_told)
                    target.end_input()
                except (BrokenPipeError, ConnectionResetError):
                    pass  # It has read what it needs, or has failed and says so.
            try:
                self._await(listener, target, lambda: tell(listener.items))
            except RestoreError as error:
                if step.jobs > 1 and _DEADLOCK in listener.messages:
                    raise _DeadlockError(error.message) from None
                raise

    def _await(self, listener: _Listener, target: ExecStream, tell: Callable[[], None]) -> None:
        """Wait for pg_restore's end.

        Raises RestoreError in its words.
        """
        while not listener.finished(0.5):
            self._stop_if_told()
            tell()
        if target.wait() != 0:
            raise RestoreError(target.how_it_ended(listener.messages))

    def _verify(self, plan: DatabasePlan, head: ArchiveHead, new: str) -> dict[str, int] | None:
        """Compare exact row counts with the manifest's, and every sequence with the archive.

        Returns and raises what ``verified`` does.
        """
        tell = self._teller("verify", plan)
        counts, sequences = self._postgres.while_waiting(lambda: self._wait(tell)).count(
            new, rows=plan.row_counts is not None
        )
        return verified(plan, head, counts, sequences)

    def _analyze(self, plan: DatabasePlan, new: str) -> list[str]:
        tell = self._teller("analyze", plan)
        try:
            self._postgres.while_waiting(lambda: self._wait(tell)).analyze(new)
        except PostgresError as error:
            # Every row is there; statistics come later, by autovacuum.
            return [f"ANALYZE of the restored {plan.database} failed: {error.message}"]
        return []

    def _wait(self, tell: Callable[[], None]) -> None:
        self._stop_if_told()
        tell()

    def _teller(self, phase: str, plan: DatabasePlan) -> Callable[..., None]:
        """Say at once that a phase begins, and then how far it is, not too often."""
        names = {"container": self._postgres.container, "database": plan.database}
        began = told = time.monotonic()

        def tell(**facts: object) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told >= _TELL_SECONDS:
                told = now
                self._emit(progress(phase, **names, elapsed_seconds=round(now - began, 1), **facts))

        self._emit(progress(phase, **names))
        return tell


class _Listener:
    """Reads what pg_restore says while its input is written, so that neither waits for the other."""

    def __init__(self, target: ExecStream, item: bytes = _ITEM_OF_ONE_JOB) -> None:
        self.items = 0
        self._item = item
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
                    self.items += data.count(self._item)
        except ScalrBackupError as error:
            self._error = error
        except ValueError:
            pass  # The stream was closed under us: the restore has been given up.


def _tell_items(tell: Callable[..., None], done: int, total: int, items: int) -> None:
    tell(done=min(done + items, total), total=total)


@contextmanager
def _clock(seconds: dict[str, float], phase: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[phase] = round(time.monotonic() - began, 2)
