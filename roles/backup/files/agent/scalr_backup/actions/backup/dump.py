# SPDX-License-Identifier: GPL-3.0-or-later
"""The dump of one database into one snapshot, with a description that is true of exactly the dumped rows."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from scalr_backup.actions.backup import producer
from scalr_backup.actions.backup.second_try import deserves_another
from scalr_backup.actions.discovery import Discovery
from scalr_backup.core.config import Config
from scalr_backup.core.errors import DumpError, InterruptedRunError, PostgresError, ResticError, ScalrBackupError
from scalr_backup.core.left_out import lacks
from scalr_backup.core.memory_file import in_memory
from scalr_backup.core.model import Cluster, Saved, dump_path
from scalr_backup.core.progress import Emit, log, progress
from scalr_backup.core.records.left_out import LeftOutRowsRecord
from scalr_backup.core.records.manifest import ManifestDatabase
from scalr_backup.core.records.state import DatabaseRecord
from scalr_backup.core.sqlstate import is_passing
from scalr_backup.tools.postgres.blockers import LockWatch
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.left_out import Candidate, hidden_words, left_out_rows, named_only, survey
from scalr_backup.tools.postgres.queries import (
    RowCounts,
    count_rows,
    join_exported_snapshot,
    open_exported_snapshot,
)
from scalr_backup.tools.postgres.session import APPLICATION_PREFIX, SqlSession, converted_or_raw
from scalr_backup.tools.restic.repository import Restic


@dataclass(frozen=True)
class Dumped:
    """A saved dump: its snapshot, the description for the manifest, and the rows when they were counted."""

    saved: Saved
    description: ManifestDatabase
    row_counts: RowCounts | None
    seconds: float
    # Why the rows were not counted, where they should have been.
    count_error: str | None = None
    # Why the archive's structure could not be checked: a newer PostgreSQL wrote it.
    archive_unchecked: str | None = None
    # Rows that pg_dump leaves out.
    left_out: Sequence[LeftOutRowsRecord] = ()


class Dumper:
    """Dumps databases on behalf of one run."""

    def __init__(
        self,
        config: Config,
        discovery: Discovery,
        restic: Restic,
        emit: Emit,
        run: str,
        known: Mapping[str, DatabaseRecord] | None = None,
    ) -> None:
        """*known* is what is on record of each ``container/database``: its last dump tells how long this one may be."""
        self._config = config
        self._discovery = discovery
        self._restic = restic
        self._emit = emit
        self._run = run
        self._known = known or {}
        self._numbers = itertools.count(1)
        self._numbering = threading.Lock()

    def dump(self, cluster: Cluster, database: str, tags: Sequence[str], *, sparing: bool = False) -> Dumped:
        """Dump a database; a snapshot remains only of a dump that is proved whole.

        A *sparing* one takes no more connections at a time than it needs: the rows are counted when the dump is saved. Names
        that have no place in UTF8 are taken as they are written, and only where there are such: a restore does the same.

        Raises a ScalrBackupError with the reason; then neither a snapshot nor a session nor a process remains.
        """
        return converted_or_raw(lambda raw: self._dump(cluster, database, tags, sparing=sparing, raw=raw))

    def _dump(self, cluster: Cluster, database: str, tags: Sequence[str], *, sparing: bool, raw: bool) -> Dumped:
        started = time.monotonic()
        with self._numbering:
            number = next(self._numbers)
        application = f"{APPLICATION_PREFIX} {self._run} {number}"
        postgres = self._discovery.postgres(cluster.container, cluster.credentials, application)
        try:
            with postgres.session(database, tidied=False, raw=raw) as session, ThreadPoolExecutor(1) as aside:
                exported, description = open_exported_snapshot(session)
                candidates = self._survey(session, cluster, database)
                counting = None
                if self._config.row_counts and not sparing:
                    counting = aside.submit(_count, postgres, database, exported, raw=raw)
                try:
                    job = self._job(cluster, database, exported, description["encoding"], postgres)
                    saved, report = self._save(cluster, job, postgres, tags)
                except BaseException:
                    # The counting may go on for a long time yet: without its server process it ends now.
                    self._end_leftovers(cluster, application)
                    raise
                row_counts, count_error = self._counts(counting, session)
        except BaseException:
            self._end_leftovers(cluster, application)
            raise
        left_out = self._left_out(postgres, database, candidates)
        description |= {
            "left_out": left_out,
            "snapshot_id": saved.snapshot_id,
            "dump_bytes": saved.bytes_read,
            "head_bytes": report.head_bytes,
            "row_counts": row_counts,
            "count_error": count_error,
            "archive_unchecked": report.unchecked,
        }
        seconds = time.monotonic() - started
        return Dumped(saved, description, row_counts, seconds, count_error, report.unchecked, left_out)

    def dump_by_itself(self, cluster: Cluster, database: str, tags: Sequence[str]) -> Dumped:
        """Dump a database that no other is dumped beside; what a second try may do better is tried again, sparingly.

        Raises what ``dump`` does.
        """
        try:
            return self.dump(cluster, database, tags)
        except ScalrBackupError as error:
            if not deserves_another(error, had_company=False):
                raise
        return self.dump(cluster, database, tags, sparing=True)

    def _survey(self, session: SqlSession, cluster: Cluster, database: str) -> list[Candidate]:
        """What the dump may leave out.

        Raises DumpError where pg_dump will refuse a table, perhaps only after hours.
        """
        candidates, hidden = survey(session)
        if hidden:
            words = hidden_words(hidden, cluster.credentials.user)
            raise DumpError(f"{cluster.container.name}/{database} was not dumped: {words}")
        return candidates

    def _left_out(self, postgres: Postgres, database: str, candidates: Sequence[Candidate]) -> list[LeftOutRowsRecord]:
        """The rows that the dump lacks; the dump is saved, and good whatever becomes of this look."""
        try:
            return left_out_rows(postgres, database, candidates)
        except Exception as error:  # noqa: BLE001
            self._emit(log("debug", f"What {postgres.container}/{database} leaves out was not counted: {error}"))
            return named_only(candidates)

    def _save(
        self, cluster: Cluster, job: producer.DumpJob, postgres: Postgres, tags: Sequence[str]
    ) -> tuple[Saved, producer.Report]:
        """Let restic save what the producer prints; the snapshot, and what the producer says of it."""
        container, database = cluster.container.name, job.database
        # Somebody may have asked for a table between our lock on it and pg_dump's, which then waits behind.
        watch = postgres.lock_watch(database)
        with in_memory(b"") as path:
            report_file = Path(path)
            job = replace(job, report=path)
            try:
                saved = self._restic.backup(
                    dump_path(container, database),
                    [container, f"run={self._run}", *tags],
                    producer.argv(),
                    job.to_environment(),
                    self._teller(container, database, watch),
                    watch.wait,
                )
            except (DumpError, ResticError) as error:
                report = producer.Report.read(report_file)
                if report and report.error:
                    waited = f" (it waited for {watch.last})" if watch.last else ""
                    raise DumpError(
                        f"{container}/{database} was not dumped: {report.error}{waited}",
                        begun=report.bytes > 0,
                        waited_for=watch.last,
                    ) from None
                if isinstance(error, DumpError):
                    raise DumpError(f"{container}/{database} was not dumped: {error.message}") from None
                raise
            report = producer.Report.read(report_file)
        if report is None or report.error is not None or report.bytes != saved.bytes_read:
            remains = self._restic.take_back(saved.snapshot_id)
            raise DumpError(
                f"{container}/{database} was not dumped: restic saved {saved.bytes_read} bytes, but the dump had "
                f"{report.bytes if report else 'an unknown number of'} bytes{remains}."
            )
        return saved, report

    def _job(
        self, cluster: Cluster, database: str, exported: str, encoding: str, postgres: Postgres
    ) -> producer.DumpJob:
        return producer.DumpJob(
            container=cluster.container.name,
            called=cluster.container.called,
            database=database,
            exported_snapshot=exported,
            encoding=encoding,
            application=postgres.application,
            credentials=cluster.credentials,
            report="",
            lock_wait_seconds=self._config.lock_wait_seconds,
            silence_seconds=float(self._config.stall_seconds),
        )

    def _teller(self, container: str, database: str, watch: LockWatch) -> Callable[[int], None]:
        """Tell how far a dump is, of about as many bytes as the last one had."""
        known = self._known.get(f"{container}/{database}")
        last = known.get("bytes_read") if known else None
        total = {"total_bytes": last} if last else {}

        def tell(count: int) -> None:
            if count:
                watch.moved()
            self._emit(progress("dump", container=container, database=database, bytes=count, **total))

        return tell

    def _counts(self, counting: Future[RowCounts] | None, exporting: SqlSession) -> tuple[RowCounts | None, str | None]:
        """The counts, and why there are none where there should be.

        Where the counting had no connection, lock or memory, the exporting session does it, which is of no other use once
        the dump is saved.
        """
        if not self._config.row_counts:
            return None, None
        try:
            if counting is not None:
                return counting.result(), None
        except InterruptedRunError:
            raise
        except ScalrBackupError as error:
            if not (isinstance(error, PostgresError) and is_passing(error.sqlstate)):
                return None, error.message
        try:
            return count_rows(exporting), None
        except InterruptedRunError:
            raise
        except ScalrBackupError as error:
            return None, error.message

    def _end_leftovers(self, cluster: Cluster, application: str) -> None:
        """Leave nothing of a failed dump in its container; a container that is gone keeps nothing either."""
        postgres = self._discovery.postgres(cluster.container, cluster.credentials, f"{APPLICATION_PREFIX} cleanup")
        try:
            postgres.unstoppable().end_leftovers(f"{application}$")
        except ScalrBackupError as error:
            self._emit(log("debug", f"Nothing left to end in {cluster.container.name}: {error.message}", run=self._run))


def _count(postgres: Postgres, database: str, exported: str, *, raw: bool) -> RowCounts:
    """Count every row of an exported snapshot in a session of its own."""

    def count(raw: bool) -> RowCounts:
        with postgres.session(database, tidied=False, raw=raw) as session:
            join_exported_snapshot(session, exported)
            return count_rows(session)

    return count(raw) if raw else converted_or_raw(count)


def unchecked(container: str, database: str, reason: str) -> str:
    """The warning for a dump of a kind that only a newer PostgreSQL knows."""
    return (
        f"archive_unchecked: {container}/{database} is backed up and its pg_dump succeeded, but this agent cannot check the "
        f"structure of its archive; update the agent. {reason}"
    )


def lacking(container: str, database: str, dumped: Dumped) -> Iterator[str]:
    """The warning for a dump that lacks rows."""
    if dumped.left_out:
        yield lacks(f"The backup of {container}/{database}", dumped.left_out)


def uncounted(container: str, database: str, reason: str) -> str:
    """The warning for a dump whose rows could not be counted."""
    return f"{container}/{database} is backed up, but its rows could not be counted, so a restore cannot verify them: {reason}"
