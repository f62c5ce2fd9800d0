# SPDX-License-Identifier: GPL-3.0-or-later
"""The dump of one database into one snapshot, with a description that is true of exactly the dumped rows."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from scalr_backup.actions.backup import producer
from scalr_backup.actions.backup.ordered import plan_bytes
from scalr_backup.actions.backup.ordering import (
    AGAIN,
    RAW,
    SPARING,
    counted_rows,
    order_record,
    plan_order,
    planned_relations,
)
from scalr_backup.actions.backup.second_try import deserves_another
from scalr_backup.actions.discovery import Discovery
from scalr_backup.core.config import Config
from scalr_backup.core.damage import doubted_relations
from scalr_backup.core.errors import (
    DumpError,
    DumpTooLargeError,
    InterruptedRunError,
    LateAnswerError,
    PostgresError,
    ResticError,
    RowOrderError,
    ScalrBackupError,
    StalledDumpError,
    UnintelligibleDumpError,
)
from scalr_backup.core.left_out import lacks
from scalr_backup.core.memory_file import in_memory
from scalr_backup.core.model import Cluster, Saved, dump_path
from scalr_backup.core.new_data import NO_HISTORY, OrderHistory
from scalr_backup.core.order_wish import order_wish
from scalr_backup.core.progress import Emit, log, progress
from scalr_backup.core.records.databases import DatabaseRecord
from scalr_backup.core.records.left_out import LeftOutRowsRecord
from scalr_backup.core.records.manifest import ManifestDatabase
from scalr_backup.core.records.row_order import DamagedIndexRecord, RowOrderRecord
from scalr_backup.core.row_order import OrderPlan, OrderWish, longest_silence
from scalr_backup.core.sqlstate import is_gone, is_passing
from scalr_backup.tools.postgres.blockers import LockWatch
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.left_out import Candidate, hidden_words, left_out_rows, named_only, survey
from scalr_backup.tools.postgres.queries import (
    MOST_SNAPSHOTS,
    RowCounts,
    SomeTables,
    count_rows,
    join_exported_snapshot,
    open_exported_snapshot,
)
from scalr_backup.tools.postgres.session import (
    ANSWER_SECONDS,
    APPLICATION_PREFIX,
    SqlSession,
    converted_or_raw,
)
from scalr_backup.tools.restic.repository import Restic

# Whatever the size of a database says, a dump of this many bytes more is none too large.
_SMALL_BYTES = 1 << 30
_LEAST_COUNT_SECONDS = 3600.0
# What a dump in order takes to end its programs in the container, and to say why.
_LAST_WORDS_SECONDS = 120.0
# The rows of a smaller database are counted when it is dumped, in the session that is there: that takes less time than to open
# another one in its container, of which there would be one for each of many small databases.
_COUNTED_BESIDE_BYTES = 64 << 20


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
    # Some tables' rows are in the order of a key.
    order: RowOrderRecord | None = None
    # Why a first try, in order, came to nothing, and the index that is to blame.
    order_error: str | None = None
    damage: DamagedIndexRecord | None = None


class _CountingTime:
    """How long rows are still counted when their dump is saved: the next database waits for it."""

    def __init__(self) -> None:
        self._until: float | None = None

    def begin(self, dump_seconds: float) -> float:
        """From now on, it has twice as long as the dump took, and an hour at least; so many seconds."""
        seconds = max(_LEAST_COUNT_SECONDS, 2 * dump_seconds)
        self._until = time.monotonic() + seconds
        return seconds

    def check(self) -> None:
        """Called while rows are counted. Raises LateAnswerError."""
        if self._until is not None and time.monotonic() > self._until:
            raise LateAnswerError("counting them took far longer than dumping them.")


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
        order_history: OrderHistory = NO_HISTORY,
    ) -> None:
        """*known* is what is on record of each ``container/database``: its last dump tells how long this one may be.

        *order_history* is what past nights say of the order of rows.
        """
        self._config = config
        self._discovery = discovery
        self._restic = restic
        self._emit = emit
        self._run = run
        self._known = known or {}
        self._order_history = order_history
        self._numbers = itertools.count(1)
        self._numbering = threading.Lock()

    def dump(self, cluster: Cluster, database: str, tags: Sequence[str], *, sparing: bool = False) -> Dumped:
        """Dump a database; a snapshot remains only of a dump that is proved whole.

        A *sparing* one takes no more connections at a time than it needs: the rows are counted when the dump is saved. Names
        that have no place in UTF8 are taken as they are written, and only where there are such: a restore does the same. What
        cannot be read in order is dumped once more, as it lies in the heap.

        Raises a ScalrBackupError with the reason; then neither a snapshot nor a session nor a process remains.
        """
        try:
            return converted_or_raw(lambda raw: self._dump(cluster, database, tags, sparing=sparing, raw=raw))
        except RowOrderError as error:
            why, damage = error.message, error.damage
            self._emit(log("warning", f"{why} It is dumped once more, in heap order.", run=self._run))
        again = converted_or_raw(lambda raw: self._dump(cluster, database, tags, sparing=sparing, raw=raw, wish=AGAIN))
        return replace(again, order_error=why, damage=damage)

    def _dump(
        self,
        cluster: Cluster,
        database: str,
        tags: Sequence[str],
        *,
        sparing: bool,
        raw: bool,
        wish: OrderWish | None = None,
    ) -> Dumped:
        started = time.monotonic()
        postgres = self._way(cluster)
        try:
            with (
                self._exporting(postgres, database, raw=raw) as (session, exported, description),
                ThreadPoolExecutor(1) as aside,
            ):
                candidates = self._survey(session, cluster, database)
                wish = wish or (SPARING if sparing else RAW if raw else self._wish(cluster, database))
                plan = self._plan(postgres, database, exported, description, wish)
                counting, patience = None, _CountingTime()
                is_small = (description["size_bytes"] or 0) < _COUNTED_BESIDE_BYTES
                if self._config.row_counts and not sparing and not is_small:
                    counter = postgres.while_waiting(patience.check)
                    counting = aside.submit(_count, counter, database, exported, _rest(plan), raw=raw)
                try:
                    job = self._job(cluster, database, exported, description, postgres)
                    saved, report = self._save(cluster, job, postgres, tags, plan)
                except BaseException:
                    # The counting may go on for a long time yet: without its server process it ends now.
                    self._end_leftovers(cluster, postgres.application)
                    raise
                session.seconds = patience.begin(time.monotonic() - started)
                counts = self._counts(counting, session, plan, report)
        except BaseException:
            self._end_leftovers(cluster, postgres.application)
            raise
        left_out = self._left_out(postgres, database, candidates)
        seconds = time.monotonic() - started
        return _dumped(saved, report, description, counts, left_out, order_record(plan, report), seconds)

    @contextmanager
    def _exporting(
        self, postgres: Postgres, database: str, *, raw: bool
    ) -> Iterator[tuple[SqlSession, str, ManifestDatabase]]:
        """A session that has exported a snapshot whose tables it has locked, and what is true of it.

        An app that puts a new table in an old one's place renames both between a snapshot and the locks of its tables: a lock
        that finds no table of a name costs the session, and the snapshot is taken anew in another one.
        """
        for left in reversed(range(MOST_SNAPSHOTS)):
            with postgres.session(database, tidied=False, raw=raw) as session:
                # Rows may take their time to be counted; anything else is at hand, once nobody has it locked.
                session.seconds = self._config.lock_wait_seconds + ANSWER_SECONDS
                try:
                    exported, description = open_exported_snapshot(session)
                except PostgresError as error:
                    if not left or not is_gone(error.sqlstate):
                        raise
                else:
                    yield session, exported, description
                    return

    def _way(self, cluster: Cluster) -> Postgres:
        """A way to a cluster under a name that no other dump of the run has."""
        with self._numbering:
            number = next(self._numbers)
        return self._discovery.postgres(
            cluster.container, cluster.credentials, f"{APPLICATION_PREFIX} {self._run} {number}"
        )

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

    def _wish(self, cluster: Cluster, database: str) -> OrderWish:
        doubted = doubted_relations(self._known.get(f"{cluster.container.name}/{database}"))
        return replace(order_wish(self._config, cluster.container, database, self._order_history), doubted=doubted)

    def _plan(
        self, postgres: Postgres, database: str, exported: str, description: ManifestDatabase, wish: OrderWish
    ) -> OrderPlan:
        """What is to be in order; a look that fails costs the order, and not the backup."""
        plan, obstacle = plan_order(postgres, database, exported, description["size_bytes"], wish)
        if obstacle is not None:
            self._emit(log("warning", f"{postgres.container}/{database} is dumped in heap order: {obstacle}"))
        return plan

    def _save(
        self, cluster: Cluster, job: producer.DumpJob, postgres: Postgres, tags: Sequence[str], plan: OrderPlan
    ) -> tuple[Saved, producer.Report]:
        """Let restic save what the producer prints; the snapshot, and what the producer says of it."""
        container, database = cluster.container.name, job.database
        # Somebody may have asked for a table between our lock on it and pg_dump's, which then waits behind.
        watch = postgres.lock_watch(database)
        with in_memory(b"") as path, in_memory(plan_bytes(plan.ordered)) as plan_path:
            report_file = Path(path)
            job = replace(job, report=path, plan=plan_path if plan.ordered else "")
            try:
                saved = self._restic.backup(
                    dump_path(container, database),
                    [container, f"run={self._run}", *tags],
                    producer.argv(),
                    job.to_environment(),
                    self._teller(container, database, watch),
                    watch.wait,
                    self._stall_seconds(plan),
                )
            except (DumpError, ResticError) as error:
                report = producer.Report.read(report_file)
                if report and report.error:
                    waited = f" (it waited for {watch.last})" if watch.last else ""
                    failed = _failed(report.code)(
                        f"{container}/{database} was not dumped: {report.error}{waited}",
                        begun=report.bytes > 0,
                        waited_for=watch.last,
                    )
                    if isinstance(failed, RowOrderError):
                        failed.damage = report.damage
                    raise failed from None
                if isinstance(error, DumpError):
                    raise DumpError(f"{container}/{database} was not dumped: {error.message}") from None
                if isinstance(error, StalledDumpError) and plan.ordered:
                    raise RowOrderError(f"{container}/{database} was not dumped: {error.message}") from None
                raise
            report = producer.Report.read(report_file)
        if report is None or report.error is not None or report.bytes != saved.bytes_read:
            remains = self._restic.take_back(saved.snapshot_id)
            raise DumpError(
                f"{container}/{database} was not dumped: restic saved {saved.bytes_read} bytes, but the dump had "
                f"{report.bytes if report else 'an unknown number of'} bytes{remains}."
            )
        if report.plain:
            self._emit(log("warning", f"{container}/{database} was dumped in heap order: {report.plain}"))
        return saved, report

    def _job(
        self, cluster: Cluster, database: str, exported: str, description: ManifestDatabase, postgres: Postgres
    ) -> producer.DumpJob:
        known = self._known.get(f"{cluster.container.name}/{database}")
        return producer.DumpJob(
            container=cluster.container.name,
            called=cluster.container.called,
            database=database,
            exported_snapshot=exported,
            encoding=description["encoding"],
            application=postgres.application,
            credentials=cluster.credentials,
            report="",
            lock_wait_seconds=self._config.lock_wait_seconds,
            silence_seconds=float(self._config.stall_seconds),
            most_bytes=most_bytes(
                self._config.dump_size_factor,
                description["size_bytes"] or 0,
                known.get("bytes_read") if known else None,
            ),
        )

    def _stall_seconds(self, plan: OrderPlan) -> float:
        """How long a dump may give nothing; whoever reads rows in order notices that first, and says so."""
        usual = float(self._config.stall_seconds)
        return longest_silence(plan.ordered, usual) + _LAST_WORDS_SECONDS if plan.ordered else usual

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

    def _counts(
        self, counting: Future[RowCounts] | None, exporting: SqlSession, plan: OrderPlan, report: producer.Report
    ) -> tuple[RowCounts | None, str | None]:
        """The counts, and why there are none where there should be.

        Rows that went by in order were counted there. Where the counting of the others had no connection, lock or memory, the
        exporting session does it, which is of no other use once the dump is saved.
        """
        if not self._config.row_counts:
            return None, None
        done = counted_rows(report)
        # What was to be in order, and was not after all.
        more = frozenset(oid for relation, oid in planned_relations(plan).items() if relation not in done)
        try:
            if counting is not None:
                counts = counting.result() | done
                return counts | (count_rows(exporting, which=SomeTables(more, without=False)) if more else {}), None
        except InterruptedRunError:
            raise
        except ScalrBackupError as error:
            if not (isinstance(error, PostgresError) and is_passing(error.sqlstate)):
                return None, error.message
        try:
            return count_rows(exporting, which=_rest(plan, more)) | done, None
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


def _dumped(
    saved: Saved,
    report: producer.Report,
    description: ManifestDatabase,
    counts: tuple[RowCounts | None, str | None],
    left_out: Sequence[LeftOutRowsRecord],
    order: RowOrderRecord,
    seconds: float,
) -> Dumped:
    """A saved dump, with all that is known of it in its description."""
    row_counts, count_error = counts
    described: ManifestDatabase = {
        **description,
        "left_out": list(left_out),
        "snapshot_id": saved.snapshot_id,
        "dump_bytes": saved.bytes_read,
        "head_bytes": report.head_bytes,
        "row_counts": row_counts,
        "count_error": count_error,
        "archive_unchecked": report.unchecked,
        "row_order": order,
    }
    return Dumped(saved, described, row_counts, seconds, count_error, report.unchecked, left_out, order)


def _rest(plan: OrderPlan, more: frozenset[int] = frozenset()) -> SomeTables:
    """The tables that are not to be in order, and *more*: their rows are counted beside the dump."""
    return SomeTables(frozenset(table.oid for table in plan.ordered) - more)


def _count(postgres: Postgres, database: str, exported: str, which: SomeTables, *, raw: bool) -> RowCounts:
    """Count the rows of these tables in an exported snapshot, in a session of its own."""

    def count(raw: bool) -> RowCounts:
        with postgres.session(database, tidied=False, raw=raw) as session:
            join_exported_snapshot(session, exported)
            return count_rows(session, which=which)

    return count(raw) if raw else converted_or_raw(count)


def most_bytes(factor: int, size_bytes: int, last_dump_bytes: int | None) -> int | None:
    """How many bytes a dump may have of a database that takes up so many, and had so many when it was dumped last.

    *factor* 0 stands for no limit. What was good the last time, and a quarter more, is not too large tonight: a database whose
    values are compressed very well grows, and the one who raised the factor once for it may lower it again.
    """
    if not factor:
        return None
    last = last_dump_bytes or 0
    return max(factor * size_bytes, last + last // 4) + _SMALL_BYTES


def _failed(code: str | None) -> type[DumpError]:
    """What a producer's failure is."""
    kinds: tuple[type[DumpError], ...] = (DumpTooLargeError, RowOrderError, UnintelligibleDumpError)
    return next((kind for kind in kinds if kind.code == code), DumpError)


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


def not_in_order(container: str, database: str, reason: str) -> str:
    """The warning for a dump that was to be in order, and had to be made once more."""
    return f"{container}/{database} is backed up, in heap order, because its rows could not be read in order: {reason}"


def uncounted(container: str, database: str, reason: str) -> str:
    """The warning for a dump whose rows could not be counted."""
    return f"{container}/{database} is backed up, but its rows could not be counted, so a restore cannot verify them: {reason}"
