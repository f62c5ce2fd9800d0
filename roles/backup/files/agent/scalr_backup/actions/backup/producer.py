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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import scalr_backup
from scalr_backup.core.archive.head import ArchiveError, UnknownFormatError
from scalr_backup.core.archive.reader import ArchiveReader
from scalr_backup.core.errors import DumpError, ScalrBackupError, UnreadableArchiveError
from scalr_backup.core.model import Credentials
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecStream, MessageTail
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import Patience
from scalr_backup.tools.postgres.stock import StockLook, start_look

JOB_VARIABLE = "SCALR_BACKUP_JOB"

_PACKAGE_PARENT = Path(scalr_backup.__file__).resolve().parent.parent
_INHERITED = ("DOCKER_HOST",)


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

    *unchecked* says why the archive's own structure is not among the proofs that it is whole.
    """

    bytes: int
    head_bytes: int
    error: str | None = None
    unchecked: str | None = None

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


@dataclass
class Passed:
    """How many bytes of a dump have gone through, however it ends."""

    bytes: int = 0


def produce(stream: ExecStream, output: int, look: Callable[[], StockLook], passed: Passed) -> Report:
    """Copy the archive from pg_dump's output to a file descriptor, and prove that it is whole.

    Where its format is unknown, *look* has the container's own pg_restore read it beside.

    Raises DumpError when it is not, or another ScalrBackupError when Docker fails.
    """
    proof, messages = _Proof(look), MessageTail()
    for kind, data in stream.frames():
        if kind != STDOUT:
            messages.add(data)
            continue
        passed.bytes += len(data)
        proof.feed(data)
        _write_all(output, data)
    if stream.wait() != 0:
        raise DumpError(stream.how_it_ended(messages.text))
    head_bytes = proof.close()
    return Report(bytes=passed.bytes, head_bytes=head_bytes, unchecked=proof.unchecked)


class _Proof:
    """Follows an archive as it passes by, and says in the end whether it is whole."""

    def __init__(self, start_look: Callable[[], StockLook]) -> None:
        self.unchecked: str | None = None
        self._start_look = start_look
        self._reader = ArchiveReader()
        self._look: StockLook | None = None
        self._broken: ArchiveError | None = None

    def feed(self, data: bytes) -> None:
        """Take the archive's next bytes; what is wrong with them is told in the end, since pg_dump's own words tell more."""
        if self._look is not None:
            self._look.feed(data)
        elif self._broken is None and self.unchecked is None:
            try:
                self._reader.feed(data)
            except UnknownFormatError as error:
                self._leave_it_to_pg_restore(error)
            except ArchiveError as error:
                self._broken = error

    def _leave_it_to_pg_restore(self, error: UnknownFormatError) -> None:
        """A release of PostgreSQL that is newer than this agent leaves nobody without a backup."""
        self.unchecked = error.message
        try:
            self._look = self._start_look()
        except ScalrBackupError as reason:
            self.unchecked = f"{self.unchecked} The container's own pg_restore cannot be asked either: {reason.message}"
        else:
            self._look.feed(self._reader.buffered)

    def close(self) -> int:
        """The length of the archive's head, 0 where that is unknown.

        Raises DumpError when the archive is not whole.
        """
        try:
            if self._look is not None and not self._look.close():
                self.unchecked = f"{self.unchecked} The container has no pg_restore that could be asked either."
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
    passed = Passed()
    try:
        docker = DockerHost()
        if job.called:
            docker.know(job.container, job.called)
        patience = Patience(lock_seconds=job.lock_wait_seconds)
        postgres = Postgres(docker, job.container, job.credentials, job.application, patience=patience)
        argv = postgres.dump_argv(job.database, job.exported_snapshot, job.encoding)
        with postgres.start_client(argv, job.silence_seconds, stdin=False) as stream:
            look = partial(start_look, postgres, job.silence_seconds)
            report = produce(stream, sys.stdout.fileno(), look, passed)
    except ScalrBackupError as error:
        report = Report(bytes=passed.bytes, head_bytes=0, error=error.message)
    except BrokenPipeError:
        return 1  # restic has ended, and knows better why.
    Path(job.report).write_text(json.dumps(asdict(report)), encoding="utf-8")
    return 0 if report.error is None else 1


def _write_all(output: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(output, view) :]


if __name__ == "__main__":
    sys.exit(main())
