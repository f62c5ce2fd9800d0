# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump whose large tables have their rows in the order of a key: pg_dump's archive, and these rows put into it.

pg_dump leaves the rows of some tables out, and a session beside it reads them from the same snapshot. Each block stands where
the table of contents has its entry, so while rows of a key's order come, pg_dump waits with what it has, blocked in its pipe.

Whatever is in doubt is so before the first byte: then nothing has been passed on, and the plain dump takes its place. What fails
later has no other end than that of a dump that fails.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from scalr_backup.actions.backup.outlet import Outlet
from scalr_backup.core.archive.head import ArchiveError, ArchiveHead, TocEntry
from scalr_backup.core.archive.reader import ArchiveReader
from scalr_backup.core.archive.rows import RowChunks, SameRows, begin_block, end_block
from scalr_backup.core.archive.splice import AddedRows, NewRows, SplicedHead, SpliceError, splice
from scalr_backup.core.errors import DumpError, InvalidDumpError, RowOrderError, ScalrBackupError
from scalr_backup.core.left_out import relation_name
from scalr_backup.core.records.row_order import OrderedTableRecord
from scalr_backup.core.row_order import OrderedTable, Scan, longest_silence
from scalr_backup.core.spoken import MOST_COMPLAINTS, too_much
from scalr_backup.core.text import encoded, readable
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecStream, MessageTail
from scalr_backup.tools.postgres.clients import rows_left_out
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.copying import copying_session
from scalr_backup.tools.postgres.ordered_rows import NotReady, OrderedRows, ReadyTable, count_by_heap, prepare_count
from scalr_backup.tools.postgres.queries import relation_of
from scalr_backup.tools.postgres.session import ANSWER_SECONDS, WORK_SECONDS, SqlSession

# A program's arguments may have 128 KiB each, where a shell has to put them together, and pg_dump asks the server for each.
_MOST_ARGUMENT_BYTES, _MOST_TABLES = 48 * 1024, 256
# What counts rows in the heap, by the tables' oids, beside the dump: called once all is read, it returns when all is counted.
Counts = Callable[[], Mapping[int, int]]


@dataclass(frozen=True)
class Composed:
    """A dump that has gone through whole: bytes of its head, what is in order, and what was to be and is not."""

    head_bytes: int
    ordered: list[OrderedTableRecord]
    in_heap: list[NotReady]


class Composer:
    """Puts one archive together. Each of its failures is a ScalrBackupError."""

    def __init__(self, stream: ExecStream, rows: OrderedRows, tables: Sequence[ReadyTable], outlet: Outlet) -> None:
        """*stream* is a pg_dump without the rows of these *tables*, which *rows* reads."""
        self._source = _Source(stream)
        self._rows = rows
        self._tables = {one.table.oid: one for one in tables}
        self._outlet = outlet
        self._read_rows: dict[int, int] = {}

    def compose(self, counts: Counts, dumped_oids: frozenset[int]) -> Composed:
        """Pass the archive on; what is returned is whole in every respect.

        *dumped_oids* are the tables whose rows a plain dump would have.

        Raises DumpError where pg_dump or the archive is at fault, RowOrderError where the order is.
        """
        head, spliced = self._spliced(dumped_oids)
        with _faults_of_order():
            self._rows.use_encoding(head.encoding)
        self._outlet.pass_on(spliced.content)
        records: dict[int, OrderedTableRecord] = {}
        for block in spliced.blocks:
            if isinstance(block, AddedRows):
                records[block.oid] = self._pass_rows(block)
            else:
                self._pass_block(block)
        self._source.close()
        with _faults_of_order():
            self._rows.finish()
            self._compare(counts())
        whys = {oid: why for oid in records if (why := self._rows.why_in_heap(self._tables[oid])) is not None}
        ordered = [one for oid, one in records.items() if oid not in whys]
        return Composed(
            len(spliced.content), ordered, [NotReady(self._tables[oid].table, why) for oid, why in whys.items()]
        )

    def _spliced(self, dumped_oids: frozenset[int]) -> tuple[ArchiveHead, SplicedHead]:
        reader = self._source.read_head()
        head, content, layout = reader.head, reader.head_bytes, reader.layout
        assert head is not None
        assert content is not None
        assert layout is not None
        _require_all(head, dumped_oids - self._tables.keys())
        new = [NewRows(oid, one.load) for oid, one in self._tables.items()]
        try:
            spliced = splice(head, content, layout, new)
        except SpliceError as error:
            raise RowOrderError(f"rows cannot be added to the archive: {error}") from None
        _require_sound(spliced)
        return head, spliced

    def _pass_block(self, entry: TocEntry) -> None:
        same = SameRows() if entry.desc == "TABLE DATA" else None
        for piece in self._source.block():
            if data := piece if same is None else same.feed(piece):
                self._outlet.pass_on(data)

    def _pass_rows(self, block: AddedRows) -> OrderedTableRecord:
        one, started, chunks = self._tables[block.oid], time.monotonic(), RowChunks()
        self._outlet.pass_on(begin_block(block.dump_id))
        for piece in self._read(one):
            if data := chunks.feed(piece):
                self._outlet.pass_on(data)
        if not chunks.is_between_rows:
            raise RowOrderError(f"the rows of {_name(one.table)} ended in the middle of a row")
        self._require_seen(one, chunks.rows)
        self._outlet.pass_on(end_block())
        self._read_rows[block.oid] = chunks.rows
        return _record(one.table, chunks, time.monotonic() - started)

    def _read(self, one: ReadyTable) -> Iterator[bytes]:
        with _faults_of_order(f"the rows of {_name(one.table)} could not be read in order: "):
            yield from self._rows.read(one)

    def _require_seen(self, one: ReadyTable, rows: int) -> None:
        """What has come of a heap is what the server has found in it. Raises RowOrderError."""
        if not one.seen_whole:
            return
        with _faults_of_order():
            seen = self._rows.rows_seen(one)
        if rows != seen:
            raise RowOrderError(f"{rows} rows of {_name(one.table)} arrived, but the server read {seen}")

    def _compare(self, counts: Mapping[int, int]) -> None:
        """What an index gives is as many rows as the heap has. Raises RowOrderError."""
        for oid, rows in self._read_rows.items():
            one = self._tables[oid]
            if not one.seen_whole and rows != counts.get(oid):
                name, index = _name(one.table), relation_name(one.table.namespace, one.table.index)
                raise RowOrderError(
                    f"the index {index} returns {rows} rows of {name}, but the table has {counts.get(oid, 0)}: the index is "
                    f"damaged. Check for other damage, and rebuild it: REINDEX INDEX CONCURRENTLY {index}",
                    damage={
                        "relation": relation_of(one.table.namespace, one.table.name),
                        "table": name,
                        "index": readable(index),
                    },
                )


class _Source:
    """What pg_dump prints, block by block, each proved to be one."""

    def __init__(self, stream: ExecStream) -> None:
        self._stream = stream
        self._frames = stream.frames()
        self._reader = ArchiveReader()
        self._messages, self._complaints = MessageTail(), 0
        # What has come and was not passed on yet, and how much of it is up to the next ends of blocks.
        self._held = b""
        self._ends: list[int] = []
        self._at = 0

    def read_head(self) -> ArchiveReader:
        """Read until the table of contents is complete. Raises DumpError."""
        while self._reader.head is None:
            self._more()
        assert self._reader.head_bytes is not None
        length = len(self._reader.head_bytes)
        self._held = self._held[len(self._held) - (self._reader.position - length) :]
        self._at = length
        return self._reader

    def block(self) -> Iterator[bytes]:
        """The next block, in pieces. Raises DumpError."""
        while not self._ends:
            if self._held:
                yield self._take(len(self._held))
            self._more()
        if rest := self._take(self._ends.pop(0) - self._at):
            yield rest

    def _take(self, length: int) -> bytes:
        taken, self._held = self._held[:length], self._held[length:]
        self._at += length
        return taken

    def _more(self) -> None:
        """Wait for more bytes. Raises DumpError where none come."""
        if (data := self._next()) is None:
            raise self._ended_early()
        # Before the head is complete, none are passed on, and the reader keeps them.
        self._held = data if self._reader.head is None else self._held + data
        try:
            self._reader.feed(data)
        except ArchiveError as error:
            raise InvalidDumpError(error.message) from None
        self._ends += self._reader.take_block_ends()

    def _next(self) -> bytes | None:
        for kind, data in self._frames:
            if kind == STDOUT:
                return data
            self._messages.add(data)
            self._complaints += len(data)
            if self._complaints > MOST_COMPLAINTS:
                raise too_much("pg_dump", MOST_COMPLAINTS)
        return None

    def close(self) -> None:
        """Make sure that pg_dump has ended well, and that nothing follows. Raises DumpError."""
        if self._held or self._next() is not None:
            raise InvalidDumpError("The archive is complete, but more bytes follow.")
        if self._stream.wait() != 0:
            raise DumpError(self._stream.how_it_ended(self._messages.text))
        try:
            self._reader.close()
        except ArchiveError as error:
            raise DumpError(error.message) from None

    def _ended_early(self) -> DumpError:
        try:
            if self._stream.wait() != 0:
                return DumpError(self._stream.how_it_ended(self._messages.text))
            self._reader.close()
        except ScalrBackupError as error:
            return DumpError(error.message)
        return DumpError("The archive ends before its last block.")


def plan_bytes(tables: Sequence[OrderedTable]) -> bytes:
    """Tables that are to be ordered, as the producer reads them."""
    return json.dumps([asdict(table) | {"scan": table.scan.value} for table in tables]).encode()


def read_plan(path: Path) -> list[OrderedTable]:
    """The tables that are to be ordered. Raises OSError or ValueError where they cannot be read."""
    return [
        OrderedTable(
            **{**one, "scan": Scan(one["scan"]), "columns": tuple(one["columns"]), "key": tuple(one["key"])},
        )
        for one in json.loads(path.read_bytes())
    ]


@dataclass(frozen=True)
class Wanted:
    """A dump in order: of which database and snapshot, in which encoding, and how long silence may last, in seconds."""

    database: str
    exported: str
    encoding: str
    tables: Sequence[OrderedTable]
    silence_seconds: float


def produce_in_order(postgres: Postgres, wanted: Wanted, outlet: Outlet) -> tuple[Composed | None, list[NotReady]]:
    """Pass on a dump of which some tables are in order; None where none can be, and nothing was passed on.

    Raises a ScalrBackupError; nothing that was started in the container remains then.
    """
    with ThreadPoolExecutor(1) as aside, ExitStack() as open_ones:
        silence = longest_silence(wanted.tables, wanted.silence_seconds)
        session = open_ones.enter_context(copying_session(postgres, wanted.database, silence))

        def aside_session() -> SqlSession:
            return open_ones.enter_context(
                postgres.session(wanted.database, silence_seconds=ANSWER_SECONDS, watched=False, tidied=False)
            )

        rows = OrderedRows(session, wanted.exported, aside_session)
        fitting, too_many = _that_fit(wanted.tables)
        ready, not_ready = rows.prepare(fitting)
        not_ready += too_many
        if not ready:
            return None, not_ready
        dumped_oids = rows.dumped_oids()
        counts = _counting(postgres, wanted, ready, aside, open_ones)
        left_out = [(one.table.namespace, one.table.name) for one in ready]
        argv = postgres.dump_argv(wanted.database, wanted.exported, wanted.encoding, left_out)
        stream = open_ones.enter_context(postgres.start_client(argv, wanted.silence_seconds, stdin=False))
        open_ones.enter_context(_ended_on_failure(postgres, stream))
        composed = Composer(stream, rows, ready, outlet).compose(counts, dumped_oids)
        return composed, [*not_ready, *composed.in_heap]


def _counting(
    postgres: Postgres,
    wanted: Wanted,
    ready: Sequence[ReadyTable],
    aside: ThreadPoolExecutor,
    open_ones: ExitStack,
) -> Counts:
    """Have the tables counted that are read by an index, which may lack entries; what they have is known in the end."""
    tables = [one.table for one in ready if not one.seen_whole]
    if not tables:
        return dict
    session = open_ones.enter_context(copying_session(postgres, wanted.database, WORK_SECONDS))
    prepare_count(session, wanted.exported, [table.oid for table in tables])
    return aside.submit(count_by_heap, session, tables).result


def _that_fit(tables: Sequence[OrderedTable]) -> tuple[list[OrderedTable], list[NotReady]]:
    """Each has its place among pg_dump's arguments, and of these there is only so much."""
    fitting, too_many, length = list[OrderedTable](), list[NotReady](), 0
    for table in tables:
        length += len(encoded(rows_left_out(table.namespace, table.name)))
        if length > _MOST_ARGUMENT_BYTES or len(fitting) >= _MOST_TABLES:
            too_many.append(NotReady(table, "there are more tables than pg_dump can be told to exclude"))
        else:
            fitting.append(table)
    return fitting, too_many


@contextmanager
def _ended_on_failure(postgres: Postgres, stream: ExecStream) -> Iterator[None]:
    """A pg_dump that nobody listens to any more would keep its transaction open."""
    try:
        yield
    except BaseException:
        postgres.end_client(stream)
        raise


@contextmanager
def _faults_of_order(beginning: str = "") -> Iterator[None]:
    """What fails here would not have failed in a plain dump."""
    try:
        yield
    except RowOrderError:
        raise
    except ScalrBackupError as error:
        raise RowOrderError(f"{beginning}{error.message}") from None


def _require_all(head: ArchiveHead, others: frozenset[int]) -> None:
    """No table's rows are missing but those that pg_dump was told to leave out. Raises RowOrderError."""
    with_rows = {entry.oid for entry in head.entries if entry.desc == "TABLE DATA"}
    for entry in head.entries:
        if entry.desc == "TABLE" and entry.oid in others and entry.oid not in with_rows:
            raise RowOrderError(f"pg_dump left out the rows of {entry.namespace}.{entry.tag} as well")


def _require_sound(spliced: SplicedHead) -> None:
    """The head that was put together is read as whoever restores it will read it. Raises RowOrderError."""
    reader = ArchiveReader()
    try:
        reader.feed(spliced.content)
    except ArchiveError as error:
        raise RowOrderError(f"rows were added to the archive, and it can no longer be read: {error.message}") from None
    head = reader.head
    if (
        head is None
        or head.length != len(spliced.content)
        or [entry.dump_id for entry in head.data_entries] != [block.dump_id for block in spliced.blocks]
    ):
        raise RowOrderError("rows were added to the archive, and its table of contents no longer matches its blocks")


def _name(table: OrderedTable) -> str:
    return readable(relation_name(table.namespace, table.name))


def _record(table: OrderedTable, chunks: RowChunks, seconds: float) -> OrderedTableRecord:
    return {
        "relation": relation_of(table.namespace, table.name),
        "key": list(table.key),
        "descending": table.descending,
        "index": table.index,
        "scan": table.scan.value,
        "reason": table.reason,
        "rows": chunks.rows,
        "bytes": chunks.bytes,
        "seconds": round(seconds, 2),
    }
