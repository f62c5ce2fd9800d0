# SPDX-License-Identifier: GPL-3.0-or-later
"""What restic runs to read one dump: ``python -m scalr_backup.actions.backup.producer``.

It prints the archive and exits 0 only when the dump is whole: the archive's own structure is complete to its
last block, Docker says that pg_dump does not run any more, and pg_dump's exit code is 0. restic saves a
snapshot only after this program has exited 0, so the end of the file is the commit.

The job comes through the environment variable ``SCALR_BACKUP_JOB``, because argv can be read by everyone; the
report goes to a file in the caller's memory that the job names, because restic garbles what a producer says.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import scalr_backup
from scalr_backup.actions.backup.ordered import Wanted, produce_in_order, read_plan
from scalr_backup.actions.backup.outlet import Outlet
from scalr_backup.core.archive.head import ArchiveError, UnknownFormatError
from scalr_backup.core.archive.reader import ArchiveReader
from scalr_backup.core.errors import (
    DumpError,
    DumpTooLargeError,
    InvalidDumpError,
    RowOrderError,
    ScalrBackupError,
    SilentCommandError,
    UnreadableArchiveError,
)
from scalr_backup.core.model import Credentials
from scalr_backup.core.records.row_order import DamagedIndexRecord, OrderedTableRecord
from scalr_backup.core.spoken import MOST_COMPLAINTS, too_much
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecStream, MessageTail
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.queries import relation_of
from scalr_backup.tools.postgres.session import Patience
from scalr_backup.tools.postgres.stock import StockLook, start_look

JOB_VARIABLE = "SCALR_BACKUP_JOB"

_PACKAGE_PARENT = Path(scalr_backup.__file__).resolve().parent.parent
_INHERITED = ("DOCKER_HOST",)
# How much, and for how many seconds, a pg_dump may go on whose archive is broken.
_MOST_WRONG_BYTES, _LAST_WORDS_SECONDS = 1024 * 1024, 5.0

# Whoever wants a table for himself is in the way of order for a moment only; the plain dump waits longer.
_ORDER_LOCK_SECONDS = 30


@dataclass(frozen=True)
class DumpJob:
    """One dump to read; *silence_seconds* bounds the wait for each piece of it."""

    container: str
    # What the engine calls it, where that is another name.
    called: str
    database: str
    exported_snapshot: str
    encoding: str
    application: str
    credentials: Credentials
    report: str
    lock_wait_seconds: int
    silence_seconds: float
    # What is more than a database of that size can have is not read; None for whatever it is.
    most_bytes: int | None = None
    # A file in the caller's memory with the tables whose rows are to be in order; empty where none is.
    plan: str = ""

    def to_environment(self) -> dict[str, str]:
        """The job as the producer's environment, with the way to this package and to Docker."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        return {**inherited, "PYTHONPATH": str(_PACKAGE_PARENT), JOB_VARIABLE: json.dumps(asdict(self))}

    @staticmethod
    def from_environment() -> DumpJob:
        """The job that this process was started for."""
        document = json.loads(os.environ[JOB_VARIABLE])
        return DumpJob(**{**document, "credentials": Credentials(**document["credentials"])})


@dataclass(frozen=True)
class Report:
    """How a dump went; bytes of the archive and of its head, the table of contents.

    *unchecked* says why the archive's own structure is not among the proofs that it is whole; *code* is that of the error.
    *ordered* are the tables whose rows are in the order of a key, *left_in_heap* why some are not that were to be, each by its
    name among row counts, and *plain* why none is, where that has one reason. *damage* is an index that is to blame for the error.
    """

    bytes: int
    head_bytes: int
    error: str | None = None
    unchecked: str | None = None
    code: str | None = None
    ordered: Sequence[OrderedTableRecord] = ()
    left_in_heap: Sequence[tuple[str, str]] = ()
    plain: str | None = None
    damage: DamagedIndexRecord | None = None

    @staticmethod
    def read(path: Path) -> Report | None:
        """The report of a producer that came to its end; None of one that was killed."""
        try:
            return Report(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def argv() -> list[str]:
    """How restic starts this program."""
    return [sys.executable, "-m", "scalr_backup.actions.backup.producer"]


def produce(stream: ExecStream, outlet: Outlet, look: Callable[[], StockLook]) -> Report:
    """Copy the archive from pg_dump's output, and prove that it is whole.

    Nothing is passed on before the head has come whole, and nothing from the first byte on that is wrong. Where the format is
    unknown, *look* has the container's own pg_restore read it beside.

    Raises DumpError when it is not, DumpTooLargeError where there is more than may be, InvalidAnswerError where it
    complains without end, or another ScalrBackupError when Docker fails.
    """
    proof, messages, complaints = _Proof(look), MessageTail(), 0
    for kind, data in stream.frames(proof.be_patient):
        if kind != STDOUT:
            messages.add(data)
            complaints += len(data)
            if complaints > MOST_COMPLAINTS:
                raise too_much("pg_dump", MOST_COMPLAINTS)
            continue
        outlet.admit(len(data))
        for sound in proof.feed(data):
            outlet.write(sound)
    if stream.wait() != 0:
        raise DumpError(stream.how_it_ended(messages.text))
    head_bytes = proof.close()
    return Report(bytes=outlet.bytes, head_bytes=head_bytes, unchecked=proof.unchecked)


class _Proof:
    """Follows an archive as it passes by, and says in the end whether it is whole."""

    def __init__(self, start_look: Callable[[], StockLook]) -> None:
        self.unchecked: str | None = None
        self._start_look = start_look
        self._reader = ArchiveReader()
        self._look: StockLook | None = None
        self._broken: ArchiveError | None = None
        self._wrong_bytes, self._until = 0, 0.0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the archive's next bytes; yields what may be passed on of all that has come.

        What is wrong is not told at once, since pg_dump's own words tell more: it has a moment to end.

        Raises InvalidDumpError when it does not.
        """
        if self._broken is not None:
            self._wrong_bytes += len(data)
            self.be_patient()
        elif self._look is not None:
            self._look.feed(data)
            yield data
        elif self.unchecked is not None:
            yield data
        else:
            yield from self._read(data)

    def _read(self, data: bytes) -> Iterator[bytes]:
        held = self._reader.head is None
        try:
            self._reader.feed(data)
        except UnknownFormatError as error:
            beginning = self._reader.buffered
            self._leave_it_to_pg_restore(error)
            yield beginning
        except ArchiveError as error:
            self._broken = error
            self._until = time.monotonic() + _LAST_WORDS_SECONDS
        else:
            if not held:
                yield data
            elif self._reader.head_bytes is not None:
                yield self._reader.head_bytes
                yield data[len(data) - (self._reader.position - len(self._reader.head_bytes)) :]

    def be_patient(self) -> None:
        """Wait for the last words of a pg_dump whose archive is broken, for a while. Raises InvalidDumpError."""
        if self._broken and (self._wrong_bytes > _MOST_WRONG_BYTES or time.monotonic() > self._until):
            raise InvalidDumpError(self._broken.message)

    def _leave_it_to_pg_restore(self, error: UnknownFormatError) -> None:
        """A release of PostgreSQL that is newer than this agent leaves nobody without a backup."""
        self.unchecked = error.message
        try:
            self._look = self._start_look()
        except ScalrBackupError as reason:
            self.unchecked = f"{self.unchecked} The container's own pg_restore cannot check it either: {reason.message}"
        else:
            self._look.feed(self._reader.buffered)

    def close(self) -> int:
        """The length of the archive's head, 0 where that is unknown.

        Raises DumpError when the archive is not whole.
        """
        try:
            if self._look is not None and not self._look.close():
                self.unchecked = f"{self.unchecked} The container has no pg_restore that could check it either."
            if self.unchecked is not None:
                return 0
            if self._broken is not None:
                raise self._broken
            return self._reader.close().length
        except (ArchiveError, UnreadableArchiveError) as error:
            raise DumpError(error.message) from None


def main() -> int:
    """Run the job; the exit code is restic's cue to save or not to save."""
    job = DumpJob.from_environment()
    outlet = Outlet(sys.stdout.fileno(), job.most_bytes)
    try:
        report = _run(job, outlet)
    except ScalrBackupError as error:
        damage = error.damage if isinstance(error, RowOrderError) else None
        report = Report(bytes=outlet.bytes, head_bytes=0, error=error.message, code=error.code, damage=damage)
    except BrokenPipeError:
        return 1  # restic has ended, and knows better why.
    Path(job.report).write_text(json.dumps(asdict(report)), encoding="utf-8")
    return 0 if report.error is None else 1


def _run(job: DumpJob, outlet: Outlet) -> Report:
    """A dump in order, where one is wanted, or the plain one. Raises a ScalrBackupError."""
    docker = DockerHost()
    if job.called:
        docker.know(job.container, job.called)

    def postgres(lock_seconds: int) -> Postgres:
        patience = Patience(lock_seconds=lock_seconds)
        return Postgres(docker, job.container, job.credentials, job.application, patience=patience)

    left_in_heap: Sequence[tuple[str, str]] = ()
    why: str | None = None
    if job.plan:
        try:
            report = _in_order(job, postgres(min(job.lock_wait_seconds, _ORDER_LOCK_SECONDS)), outlet)
        except (BrokenPipeError, DumpTooLargeError):
            raise
        except Exception as error:  # noqa: BLE001
            # Whatever it is, it is no reason to have no backup, and as long as nothing has been passed on, nothing is lost.
            if outlet.bytes:
                raise _of_order(error) from None
            why = error.message if isinstance(error, ScalrBackupError) else f"{type(error).__name__}: {error}"
        else:
            if report.head_bytes:
                return report
            left_in_heap = report.left_in_heap
    report = _plain(job, docker, postgres(job.lock_wait_seconds), outlet)
    return replace(report, plain=why, left_in_heap=left_in_heap)


def _in_order(job: DumpJob, postgres: Postgres, outlet: Outlet) -> Report:
    """The dump with tables in order; no head where none of them is ready for it, and then nothing was passed on."""
    wanted = Wanted(job.database, job.exported_snapshot, job.encoding, read_plan(Path(job.plan)), job.silence_seconds)
    composed, not_ready = produce_in_order(postgres, wanted, outlet)
    left_in_heap = [(relation_of(one.table.namespace, one.table.name), one.why) for one in not_ready]
    if composed is None:
        return Report(bytes=0, head_bytes=0, left_in_heap=left_in_heap)
    return Report(outlet.bytes, composed.head_bytes, ordered=composed.ordered, left_in_heap=left_in_heap)


def _of_order(error: Exception) -> ScalrBackupError:
    """An error after the first byte: one that nobody foresaw is that of the order, which a plain dump does without.

    So is one of a pg_dump that fails: a plain one does not wait in its pipe for hours, with its connection, while rows are sorted
    that take memory and room from it. Where it fails by itself, it does so once more, and says the same.
    """
    if not isinstance(error, ScalrBackupError):
        return RowOrderError(f"{type(error).__name__}: {error}")
    return RowOrderError(error.message) if type(error) in (DumpError, SilentCommandError) else error


def _plain(job: DumpJob, docker: DockerHost, postgres: Postgres, outlet: Outlet) -> Report:
    argv = postgres.dump_argv(job.database, job.exported_snapshot, job.encoding)
    with postgres.start_client(argv, job.silence_seconds, stdin=False) as stream, docker.ended_if_astray(stream):
        return produce(stream, outlet, partial(start_look, postgres, job.silence_seconds))


if __name__ == "__main__":
    sys.exit(main())
