# SPDX-License-Identifier: GPL-3.0-or-later
"""A new database, filled from a snapshot and verified: what a restore and a drill have in common.

One stream carries what comes before the data, and the data; nothing of it touches a disk but the database's own.
Indexes, keys and triggers follow in parallel: pg_restore wants a file that it can seek in for that, and the
archive's head is enough of one, which holds no row and lies in the container's memory meanwhile.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from scalr_backup.actions.restore.extensions import InWindow, cared_for, looks_at_the_name
from scalr_backup.actions.restore.finish import SILENCE_SECONDS, Finished, Finisher, TogetherError
from scalr_backup.actions.restore.lenience import Lenience, LoosenedError, in_words
from scalr_backup.actions.restore.listener import Listener
from scalr_backup.actions.restore.opened import OpenedArchive, open_archive
from scalr_backup.actions.restore.properties import Described, describe
from scalr_backup.actions.restore.request import DatabasePlan
from scalr_backup.actions.restore.verify import verified
from scalr_backup.core.archive.head import ArchiveHead
from scalr_backup.core.archive.reader import ArchiveReader, TrustingReader
from scalr_backup.core.archive.trouble import are_all_named, errors_of, troubles, words_not_of_rows
from scalr_backup.core.errors import DockerUnreachableError, PostgresError, RestoreError
from scalr_backup.core.progress import Emit, progress, starting_over
from scalr_backup.core.records.failures import ObjectRecord
from scalr_backup.tools.docker.exec_stream import ExecStream
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.restic.repository import Restic

_TELL_SECONDS = 2.0
# How long a server may take to recover, and how often it is asked.
_RECOVERY_SECONDS, _AGAIN_SECONDS = 120.0, 1.0
# Each table's data ends with a line of its own and two empty ones.
_LINES_AFTER_DATA = 3


Made = TypeVar("Made")


class _NamedError(RestoreError):
    """An extension could not be created, perhaps because the database is called otherwise than it will be."""

    def __init__(self, message: str, extension: str) -> None:
        super().__init__(message)
        self.extension = extension


@dataclass
class Filled:
    """A database that holds what the snapshot does; seconds by phase.

    Statements that are *waiting* for the swap give it the rest of what the archive says of it.
    """

    waiting: tuple[str, ...] = ()
    jobs: int = 1
    verified: dict[str, int] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    # What is not as it was saved.
    objects: list[ObjectRecord] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)


class Filler:
    """Fills databases of one container from one repository; *stop_if_told* raises when the run is to end."""

    def __init__(
        self,
        source: Restic,
        postgres: Postgres,
        emit: Emit,
        stop_if_told: Callable[[], None],
        in_window: InWindow = lambda _statements: None,
        *,
        skip: bool = False,
        alone: bool = False,
    ) -> None:
        """*in_window* runs what has to be run in the new database while that has its final name.

        *skip* lets a restore go on without objects that cannot be made, and one that is *alone* without those that need
        another database.
        """
        self._skip, self._alone = skip, alone
        self._source = source
        self._in_window = in_window
        self._named: list[str] = []
        self._postgres = postgres
        self._emit = emit
        self._stop_if_told = stop_if_told

    def fill(self, plan: DatabasePlan, new: str) -> Filled:
        """Create the database *new* by the archive's own definition, fill it and verify it.

        Raises RestoreError, ArchiveError, ResticError, or VerificationError once the database is complete.
        """
        lenience = Lenience(plan.database, skip=self._skip, alone=self._alone)
        return self._by_name(plan, new, lambda: self._loosened(plan, new, lenience))

    def _loosened(self, plan: DatabasePlan, new: str, lenience: Lenience) -> Filled:
        """Fill a database, and again as long as one more object can be kept from standing in its rows' way."""
        while True:
            try:
                return self._together(plan, new, lenience)
            except LoosenedError:
                self._start_over(plan, new)

    def _by_name(self, plan: DatabasePlan, new: str, make: Callable[[], Made]) -> Made:
        """Make something of an archive; an extension that looks at the database's name is created under that first."""
        while True:
            try:
                return make()
            except _NamedError as error:
                if error.extension in self._named:
                    raise RestoreError(error.message) from None
                self._named.append(error.extension)
                self._start_over(plan, new)

    def _together(self, plan: DatabasePlan, new: str, lenience: Lenience) -> Filled:
        try:
            return self._fill(plan, new, lenience)
        except TogetherError as error:
            self._start_over(plan, new)
            filled = self._fill(plan, new, lenience, 1)
            again = (
                f"Loading {plan.database} with several jobs failed, so it was loaded again with one: {error.message}"
            )
            return replace(filled, warnings=[again, *filled.warnings])

    def _start_over(self, plan: DatabasePlan, new: str) -> None:
        self._drop_when_it_answers(new)
        self._emit(starting_over(container=self._postgres.container, database=plan.database))

    def _drop_when_it_answers(self, new: str) -> None:
        """Drop a half-made database; a server that its jobs have brought down recovers first."""
        deadline = time.monotonic() + _RECOVERY_SECONDS
        while True:
            self._stop_if_told()
            try:
                self._postgres.drop_database(new)
            except (PostgresError, DockerUnreachableError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(_AGAIN_SECONDS)
            else:
                return

    def _fill(self, plan: DatabasePlan, new: str, lenience: Lenience, most_jobs: int = sys.maxsize) -> Filled:
        seconds: dict[str, float] = {}
        lenience.begin()
        with ExitStack() as care:
            with _clock(seconds, "data"):
                head, head_bytes, described = self._load(plan, new, care, lenience)
            finished = Finished()
            if head.post_data.count:
                with _clock(seconds, "post_data"):
                    finisher = Finisher(self._postgres, plan, new, head, head_bytes, self._stop_if_told)
                    finished = finisher.finish(most_jobs, self._tell_items(plan, head))
                    lenience.judge_finished(finished.troubles, head, self._postgres, new)
            self._alter(new, lenience.after)
        warnings = [*described.warnings, *finished.warnings, *(in_words(one) for one in lenience.objects)]
        filled = Filled(
            described.waiting, finished.jobs, None, seconds, warnings, lenience.objects, lenience.unreachable
        )
        with _clock(seconds, "verify"):
            filled.verified = self._verify(plan, head, new)
        with _clock(seconds, "analyze"):
            filled.warnings += self._analyze(plan, new)
        return filled

    def _alter(self, new: str, statements: Sequence[str]) -> None:
        try:
            if statements:
                self._postgres.alter(new, statements)
        except PostgresError as error:
            raise RestoreError(f"on_error=skip could not be applied: {error.message}") from None

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

    def rehearse(self, plan: DatabasePlan, new: str) -> None:
        """Make all that the archive holds but its rows in a database that is dropped again.

        Raises what filling raises, but for what only rows can bring to light.
        """
        self._by_name(plan, new, lambda: self._rehearse(plan, new))

    def _rehearse(self, plan: DatabasePlan, new: str) -> None:
        lenience = Lenience(plan.database, skip=self._skip, alone=self._alone)
        with self._source.dump(plan.snapshot.id, plan.snapshot.path, glance=True) as source:
            opened = open_archive(self._postgres, new, source.chunks())
        head, head_bytes = opened.head, opened.head_bytes
        self._create(plan, head, new)
        with cared_for(self._postgres, new, head, self._in_window, self._named):
            # Of an unknown format, all but the rows is made at once.
            self._make_empty(plan, new, opened, lenience, ("pre-data",) if head.is_known else ("pre-data", "post-data"))
            if head.post_data.count:
                finisher = Finisher(self._postgres, plan, new, head, head_bytes, self._stop_if_told)
                lenience.judge_finished(finisher.finish(1, lambda _items: None).troubles, head, self._postgres, new)
        self._postgres.drop_database(new)

    def _make_empty(
        self, plan: DatabasePlan, new: str, opened: OpenedArchive, lenience: Lenience, sections: Sequence[str]
    ) -> None:
        """Make what needs no rows; the head alone has it."""
        head = opened.head
        with self._postgres.start_restore(
            new, SILENCE_SECONDS, tablespaces=plan.tablespaces, sections=sections, go_on=lenience.goes_on(head)
        ) as target:
            listener = Listener(target)
            with suppress(BrokenPipeError, ConnectionResetError):
                target.write(opened.head_bytes or opened.beginning, self._stop_if_told)
                target.end_input()
            if listener.exit_code(self._stop_if_told):
                self._judge(plan, new, lenience, head, listener)

    def _load(
        self, plan: DatabasePlan, new: str, care: ExitStack, lenience: Lenience
    ) -> tuple[ArchiveHead, bytes, Described]:
        """Make the database and stream what comes before the data, and the data, into it."""
        sections: tuple[str, ...] = ("pre-data", "data")
        with self._source.dump(plan.snapshot.id, plan.snapshot.path) as source:
            chunks = source.chunks()
            opened = open_archive(self._postgres, new, chunks)
            head = opened.head
            if not head.is_known:
                sections = ("pre-data", "data", "post-data")
            described = self._create(plan, head, new)
            care.enter_context(cared_for(self._postgres, new, head, self._in_window, self._named))
            if lenience.before:
                self._make_empty(plan, new, opened, lenience, ("pre-data",))
                self._alter(new, lenience.before)
                sections = sections[1:]
            with self._postgres.start_restore(
                new, SILENCE_SECONDS, tablespaces=plan.tablespaces, sections=sections, go_on=lenience.goes_on(head)
            ) as target:
                judge = partial(self._judge, plan, new, lenience)
                self._stream(plan, opened.reader, opened.beginning, chunks, target, judge)
        return head, opened.head_bytes, described

    def _create(self, plan: DatabasePlan, head: ArchiveHead, new: str) -> Described:
        """Create the database and say of it what its rows may depend on."""
        try:
            self._postgres.create_database(
                new, head.definition, head.database_entry.owner, with_tablespace=plan.tablespaces
            )
            if not plan.public_schema:
                self._postgres.drop_public_schema(new)
            return describe(self._postgres, plan.database, new, head)
        except PostgresError as error:
            raise RestoreError(f"A database like the archive's cannot be created: {error.message}") from None

    def _stream(
        self,
        plan: DatabasePlan,
        reader: ArchiveReader | TrustingReader,
        beginning: bytes,
        chunks: Iterator[bytes],
        target: ExecStream,
        judge: Callable[[ArchiveHead, Listener], None],
    ) -> None:
        """Copy the archive into pg_restore, verify that it is whole, and wait for pg_restore's verdict, which *judge* is given.

        Raises RestoreError in pg_restore's words, ArchiveError or ResticError.
        """
        listener, tell = Listener(target), self._teller("data", plan)
        rows = -_LINES_AFTER_DATA * len(reader.head.data_entries if reader.head else ())
        whole = False

        def while_it_does_not_read() -> None:
            self._stop_if_told()
            # The engine may keep a dead command's input open, unread, for minutes; its output it ends at once.
            if listener.finished(0):
                raise BrokenPipeError
            tell(bytes=reader.position, total_bytes=plan.snapshot.dump_bytes)

        def while_it_finishes() -> None:
            self._stop_if_told()
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
        if listener.exit_code(while_it_finishes):
            if reader.head is None:
                raise listener.failure()
            judge(reader.head, listener)
        if not whole:
            raise RestoreError(
                "pg_restore ended without an error before it had read the whole archive, which cannot be right."
            )

    def _judge(self, plan: DatabasePlan, new: str, lenience: Lenience, head: ArchiveHead, listener: Listener) -> None:
        """Decide about a pg_restore that did not make or load everything.

        Raises RestoreError unless it may go on.
        """
        # Told to stop, or ended by whoever watches the room: that is why.
        self._stop_if_told()
        found = troubles(listener.messages, head)
        failure = listener.failure(words_not_of_rows(found, head))
        if extension := looks_at_the_name(found, plan.database, self._postgres, new):
            raise _NamedError(failure.message, extension)
        if not found:
            raise failure
        if not lenience.goes_on(head):
            raise lenience.refusal(found, head, failure.message)
        if not are_all_named(listener.messages, errors_of(found), 1):
            raise failure
        lenience.judge_loaded(found, head, self._postgres, new)

    def _tell_items(self, plan: DatabasePlan, head: ArchiveHead) -> Callable[[int], None]:
        tell, total = self._teller("indexes-and-constraints", plan), head.post_data.count
        return lambda items: tell(done=min(items, total), total=total)

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


@contextmanager
def _clock(seconds: dict[str, float], phase: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[phase] = round(time.monotonic() - began, 2)
