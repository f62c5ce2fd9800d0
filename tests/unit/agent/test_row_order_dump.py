# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump in order is whole in every respect, or a plain one before its first byte, or none after it."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from scalr_backup.actions.backup import dump, ordered, producer
from scalr_backup.actions.backup.ordered import Composer, plan_bytes, read_plan
from scalr_backup.actions.backup.ordering import order_record, plan_order
from scalr_backup.actions.backup.outlet import Outlet
from scalr_backup.actions.backup.producer import Report
from scalr_backup.core.archive.head import Section
from scalr_backup.core.archive.reader import ArchiveReader
from scalr_backup.core.config import Config
from scalr_backup.core.errors import (
    DockerUnreachableError,
    DumpError,
    DumpTooLargeError,
    InterruptedRunError,
    InvalidAnswerError,
    InvalidDumpError,
    PostgresError,
    ResticError,
    RowOrderError,
    SilentCommandError,
    StalledDumpError,
)
from scalr_backup.core.model import Container, Credentials, Saved
from scalr_backup.core.progress import nobody
from scalr_backup.core.row_order import HeapTable, OrderedTable, OrderPlan, OrderWish, Scan, longest_silence
from scalr_backup.tools.docker.exec_stream import STDERR, STDOUT
from scalr_backup.tools.postgres.ordered_rows import NotReady, ReadyTable

from tests.support.archive_writer import DATABASE, ENCODING, STDSTRINGS, Archive, Block, Entry, LargeObjects

ORDERS = OrderedTable(
    oid=1, namespace="public", name="orders", columns=("id", "x"), key=("id",), index="orders_pkey", scan=Scan.SORT,
    filenode=100, bytes=5_000, reason="id is an identity column",
)  # fmt: skip
ITEMS = replace(ORDERS, oid=2, name="items", index="items_pkey", scan=Scan.INDEX)
ROWS = {1: [b"1\tone\n2\ttw", b"o\n"], 2: [b"7\tseven\n"]}


def table(dump_id, oid, tag):
    return Entry(dump_id, "TABLE", tag, oid=oid, tableam="heap", relkind="r")


def data_of(dump_id, oid, tag):
    return Entry(dump_id, "TABLE DATA", tag, had_dumper=True, section=Section.DATA, oid=oid)


# pg_dump's, without the rows of two tables.
SOURCE = Archive(
    entries=(
        ENCODING, STDSTRINGS, DATABASE, table(10, 1, "orders"), table(11, 2, "items"), table(12, 3, "small"),
        data_of(20, 3, "small"), Entry(30, "BLOBS", "BLOBS", had_dumper=True, section=Section.DATA),
    ),
    blocks=(Block(20), LargeObjects(30, ((16400, (b"hello",)),))),
)  # fmt: skip


class PgDump:
    """Its exec: what it prints in pieces of one size, and its exit code."""

    def __init__(self, output, exit_code=0, size=7, complaints=b""):
        self.output, self.exit_code, self.size, self.complaints = output, exit_code, size, complaints

    def frames(self, _waiting=None):
        yield STDERR, self.complaints
        for at in range(0, len(self.output), self.size):
            yield STDOUT, self.output[at : at + self.size]

    def wait(self):
        return self.exit_code

    def how_it_ended(self, said):
        return f"pg_dump ended with exit code {self.exit_code}: {said}"


class Rows:
    """The session beside it; each step may fail."""

    def __init__(self, rows=ROWS, encoding=None, finish=None, lost=0, in_heap=()):
        self.rows, self.faults, self.encoding = rows, {"encoding": encoding, "finish": finish}, None
        self.lost, self.in_heap = lost, dict(in_heap)

    def use_encoding(self, encoding):
        self._fail("encoding")
        self.encoding = encoding

    def read(self, one):
        for piece in self.rows[one.table.oid]:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def rows_seen(self, one):
        return b"".join(self.rows[one.table.oid]).count(b"\n") + self.lost

    def why_in_heap(self, one):
        return self.in_heap.get(one.table.oid)

    def finish(self):
        self._fail("finish")

    def _fail(self, step):
        if self.faults[step]:
            raise self.faults[step]


def ready(one):
    load = f"COPY public.{one.name} (id, x) FROM stdin;\n".encode()
    return ReadyTable(one, "SELECT", load, seen_whole=one.scan is Scan.SORT)


class Composition:
    """What comes out of a composer, also when it fails."""

    def __init__(self, most_bytes=None):
        self.read_end, self.write_end = os.pipe()
        self.outlet = Outlet(self.write_end, most_bytes)

    def run(self, stream=None, rows=None, counts=lambda: {2: 1}, dumped=(1, 2, 3), tables=(ORDERS, ITEMS)):
        composer = Composer(
            stream or PgDump(SOURCE.encode()), rows or Rows(), [ready(one) for one in tables], self.outlet
        )
        return composer.compose(counts, frozenset(dumped))

    def output(self):
        os.close(self.write_end)
        with os.fdopen(self.read_end, "rb") as file:
            return file.read()


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_an_archive_in_order_is_a_whole_one_with_every_row_at_its_place(size):
    made = Composition()
    composed = made.run(PgDump(SOURCE.encode(), size=size))
    output = made.output()
    reader = ArchiveReader()
    reader.feed(output)
    head = reader.close()
    assert head.length == composed.head_bytes
    assert made.outlet.bytes == len(output)
    assert [entry.tag for entry in head.data_entries] == ["items", "orders", "small", "BLOBS"]
    items, orders, *_ = (entry.dump_id for entry in head.data_entries)
    blocks = [Block(items, (b"7\tseven\n", b"\\.\n\n\n")), Block(orders, (b"1\tone\n", b"2\ttwo\n", b"\\.\n\n\n"))]
    assert output[head.length :] == b"".join(one.encode() for one in (*blocks, *SOURCE.blocks))
    assert [(one["relation"], one["rows"], one["bytes"], one["scan"]) for one in composed.ordered] == [
        ('"public"."items"', 1, 8, "index"),
        ('"public"."orders"', 2, 12, "sort"),
    ]


def test_a_table_that_came_as_it_lies_after_all_is_not_among_those_in_order():
    made = Composition()
    composed = made.run(rows=Rows(in_heap={1: "it could not be locked"}))
    assert b"1\tone\n" in made.output()
    assert [one["relation"] for one in composed.ordered] == ['"public"."items"']
    assert composed.in_heap == [NotReady(ORDERS, "it could not be locked")]


def test_rows_come_in_the_encoding_of_the_archive():
    rows = Rows()
    latin = replace(ENCODING, defn="SET client_encoding = 'LATIN1';\n")
    source = replace(SOURCE, entries=(latin, *SOURCE.entries[1:]))
    Composition().run(PgDump(source.encode()), rows)
    assert rows.encoding == "LATIN1"


FAULTS_BEFORE = {
    "an encoding that the server does not have": {"rows": Rows(encoding=PostgresError("no such encoding"))},
    "a pg_dump that says nothing": {"stream": PgDump(b"", 1, complaints=b"pg_dump: error: out of memory")},
    "a version that nobody knows": {"stream": PgDump(b"PGDMP" + bytes((1, 17, 0, 4, 8, 1)) + b"what nobody knows")},
    "rubbish": {"stream": PgDump(b"no archive at all")},
    "a head that ends early": {"stream": PgDump(SOURCE.head[:-1])},
    "rows that pg_dump did not leave out": {"tables": (ORDERS, ITEMS, replace(ORDERS, oid=3, name="small"))},
    "rows that pg_dump left out as well": {"tables": (ORDERS,), "dumped": (1, 2, 3)},
    "a table that pg_dump does not have": {"tables": (replace(ORDERS, oid=9),), "dumped": ()},
    "a compressed archive": {"stream": PgDump(replace(SOURCE, compression=1).encode())},
    "complaints without end": {"stream": PgDump(b"", complaints=b"x" * (16 * 1024 * 1024 + 1))},
}


@pytest.mark.parametrize("fault", FAULTS_BEFORE)
def test_a_doubt_before_the_first_byte_passes_nothing_on(fault):
    made = Composition()
    with pytest.raises((DumpError, InvalidAnswerError)):
        made.run(**FAULTS_BEFORE[fault])
    assert made.outlet.bytes == 0
    assert made.output() == b""


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content.replace(b"false", b"falsy"),
    ],
)
def test_a_head_that_was_put_together_badly_passes_nothing_on(monkeypatch, damage):
    def splice(*arguments):
        spliced = real(*arguments)
        assert damage(spliced.content) != spliced.content
        return replace(spliced, content=damage(spliced.content))

    real = ordered.splice
    monkeypatch.setattr(ordered, "splice", splice)
    made = Composition()
    with pytest.raises(RowOrderError, match="rows were added to the archive"):
        made.run()
    assert made.output() == b""


def test_blocks_in_another_order_than_the_head_says_are_noticed_before_the_first_byte(monkeypatch):
    real = ordered.splice
    monkeypatch.setattr(
        ordered, "splice", lambda *given: replace(one := real(*given), blocks=tuple(reversed(one.blocks)))
    )
    made = Composition()
    with pytest.raises(RowOrderError, match="no longer matches its blocks"):
        made.run()
    assert made.output() == b""


WHOLE = SOURCE.encode()
LOST = DockerUnreachableError("the connection broke")
FAULTS_AFTER = {
    "pg_dump fails at its end": ({"stream": PgDump(WHOLE, 1)}, DumpError, "exit code 1"),
    "pg_dump fails within a block": ({"stream": PgDump(WHOLE[:-20], 1)}, DumpError, "exit code 1"),
    "pg_dump ends within a block and says that all is well": ({"stream": PgDump(WHOLE[:-20])}, DumpError, "ends at byte"),
    "pg_dump ends before its last block": ({"stream": PgDump(SOURCE.head + Block(20).encode())}, DumpError, "ends at byte"),
    "more bytes follow later": (
        {"stream": PgDump(WHOLE + b"x", size=len(WHOLE))}, InvalidDumpError, "more bytes"
    ),
    "more bytes follow": ({"stream": PgDump(WHOLE + b"x")}, InvalidDumpError, "more bytes"),
    "a block of another table": (
        {"stream": PgDump(SOURCE.head + Block(21).encode())}, InvalidDumpError, "not in the table of contents"
    ),
    "a statement fails": (
        {"rows": Rows({**ROWS, 1: [b"1\tone\n", PostgresError("disk full")]})}, RowOrderError, "orders could not be read"
    ),
    "the connection breaks": ({"rows": Rows({**ROWS, 2: [LOST]})}, RowOrderError, "items could not be read in order"),
    "rows end within one": ({"rows": Rows({**ROWS, 2: [b"7\tsev"]})}, RowOrderError, "ended in the middle of a row"),
    "the session does not end well": ({"rows": Rows(finish=PostgresError("exit code 2"))}, RowOrderError, "exit code 2"),
    "an index lacks rows": ({"counts": lambda: {2: 3}}, RowOrderError, "items_pkey returns 1 rows of public.items, but.* 3"),
    "an index has too many": ({"counts": lambda: {2: 0}}, RowOrderError, "REINDEX INDEX CONCURRENTLY public.items_pkey"),
    "rows are lost on their way": ({"rows": Rows(lost=1)}, RowOrderError, "2 rows of public.orders arrived, but .* read 3"),
    "rows come twice": ({"rows": Rows(lost=-1)}, RowOrderError, "2 rows of public.orders arrived, but .* read 1"),
    "nobody has counted": ({"counts": dict}, RowOrderError, "items_pkey"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS_AFTER)
def test_a_fault_after_the_first_byte_is_a_dump_that_failed(fault):
    arguments, kind, words = FAULTS_AFTER[fault]
    made = Composition()
    with pytest.raises(kind, match=words):
        made.run(**arguments)
    assert made.outlet.bytes > 0
    made.output()


def test_a_flood_of_rows_is_no_more_than_the_database_explains():
    made = Composition(most_bytes=5_000)
    with pytest.raises(DumpTooLargeError):
        made.run(rows=Rows({**ROWS, 1: [b"1\tx\n" * 1000] * 10}))
    assert len(made.output()) <= 5_000


class TestTheProducer:
    """Its own failures of order are no reason to have no backup."""

    JOB = producer.DumpJob(
        container="c", called="", database="shop", exported_snapshot="0-1", encoding="UTF8", application="scalr-backup r 1",
        credentials=Credentials("app", None), report="", lock_wait_seconds=900, silence_seconds=60.0,
    )  # fmt: skip

    @pytest.fixture
    def run(self, monkeypatch, tmp_path):
        monkeypatch.setattr(producer, "DockerHost", lambda: SimpleNamespace(as_account=None))
        waits = []

        def plain(_job, _docker, postgres, outlet):
            waits.append(postgres._patience.lock_seconds)
            return Report(bytes=outlet.bytes, head_bytes=5)

        monkeypatch.setattr(producer, "_plain", plain)
        plan = tmp_path / "plan"
        plan.write_bytes(plan_bytes([ORDERS]))

        def run(fails_with, after=0, plan=str(plan)):
            def in_order(postgres, _wanted, outlet):
                waits.append(postgres._patience.lock_seconds)
                outlet.bytes += after
                if isinstance(fails_with, Exception):
                    raise fails_with
                return fails_with, [NotReady(ITEMS, "it is gone")]

            monkeypatch.setattr(producer, "produce_in_order", in_order)
            return producer._run(replace(self.JOB, plan=plan), Outlet(-1)), waits

        return run

    @pytest.mark.parametrize(
        "error", [PostgresError("no lock"), RowOrderError("odd"), LOST, KeyError("columns"), OSError(7, "long")]
    )
    def test_whatever_fails_before_the_first_byte_is_a_plain_dump(self, run, error):
        report, waits = run(error)
        assert report.head_bytes == 5
        assert report.ordered == ()
        assert str(getattr(error, "message", error)) in report.plain
        assert waits == [30, 900], "order waits for a lock no longer than for a moment"

    def test_a_plan_that_cannot_be_read_is_a_plain_dump(self, run):
        report, waits = run(None, plan="/nowhere")
        assert "nowhere" in report.plain
        assert waits == [900]

    def test_tables_of_which_none_is_ready_are_a_plain_dump(self, run):
        report, _waits = run(None)
        assert report.plain is None
        assert report.left_in_heap == [('"public"."items"', "it is gone")]

    def test_what_fails_after_it_is_no_dump(self, run):
        """Where a plain one might not fail, it is one of the order, and so it is dumped once more."""
        for error, kind in (
            (RowOrderError("odd"), RowOrderError),
            (KeyError("x"), RowOrderError),
            (DumpError("pg_dump: error: server closed the connection unexpectedly"), RowOrderError),
            (SilentCommandError("pg_dump has said nothing for 1800 s."), RowOrderError),
            (InvalidDumpError("more bytes follow"), InvalidDumpError),
            (InvalidAnswerError("it complains without end"), InvalidAnswerError),
            (LOST, DockerUnreachableError),
        ):
            with pytest.raises(kind) as raised:
                run(error, after=1)
            assert type(raised.value) is kind

    def test_what_is_too_much_is_so_at_once(self, run):
        with pytest.raises(DumpTooLargeError):
            run(DumpTooLargeError("much"))


def test_a_plan_goes_to_the_producer_as_it_is(tmp_path):
    odd = replace(ITEMS, name='ü"\n', columns=("caf\udce9",), sort_bytes=7)
    (tmp_path / "plan").write_bytes(plan_bytes([ORDERS, odd]))
    assert read_plan(tmp_path / "plan") == [ORDERS, odd]


def test_a_report_comes_back_as_it_is(tmp_path):
    made = Composition()
    report = Report(1, 2, ordered=made.run().ordered, left_in_heap=[("t", "why")], plain="p")
    made.output()
    (tmp_path / "report").write_text(json.dumps(producer.asdict(report)))
    back = Report.read(tmp_path / "report")
    assert list(back.ordered) == report.ordered
    assert [tuple(one) for one in back.left_in_heap] == report.left_in_heap


def test_no_more_tables_are_left_out_than_pg_dump_can_be_told():
    many = [replace(ORDERS, oid=oid, name=f"t{oid}") for oid in range(1000)]
    fitting, too_many = ordered._that_fit(many)
    assert len(fitting) == 256
    assert len(too_many) == 744
    long = [replace(ORDERS, oid=oid, namespace='"' * 63, name="é" * 31) for oid in range(1000)]
    fitting, _too_many = ordered._that_fit(long)
    assert sum(len(ordered.rows_left_out(one.namespace, one.name).encode()) for one in fitting) <= 48 * 1024


class TestThePlan:
    def test_is_made_in_a_session_that_no_dump_depends_on_and_its_failure_costs_the_order_alone(self):
        @contextmanager
        def session(_database, **_options):
            yield SimpleNamespace(query=self.refuse)

        plan, obstacle = plan_order(SimpleNamespace(session=session), "shop", "0-1", None, OrderWish())
        assert plan.ordered == ()
        assert "no equivalent" in plan.why_not
        assert "no equivalent" in obstacle

    def refuse(self, _sql, *_most):
        raise PostgresError("no equivalent")

    def test_costs_the_order_alone_whatever_goes_wrong(self):
        @contextmanager
        def session(_database, **_options):
            raise KeyError("columns")
            yield

        plan, obstacle = plan_order(SimpleNamespace(session=session), "shop", "0-1", None, OrderWish())
        assert plan.ordered == ()
        assert obstacle == "KeyError: 'columns'"

    def test_asks_nothing_of_a_small_database_or_where_none_is_wanted(self):
        wish = OrderWish(least_bytes=1000)
        assert plan_order(None, "shop", "0-1", 999, wish) == (OrderPlan(), None)
        assert plan_order(None, "shop", "0-1", 1000, OrderWish(why_not="off")) == (OrderPlan(why_not="off"), None)

    def test_of_a_run_that_is_told_to_stop_ends_it(self):
        @contextmanager
        def session(_database, **_options):
            raise InterruptedRunError("stop")
            yield

        with pytest.raises(InterruptedRunError):
            plan_order(SimpleNamespace(session=session), "shop", "0-1", None, OrderWish())


PLAN = OrderPlan((ORDERS, ITEMS), (HeapTable("public", "log", 9, "it has no key", "a key"),))
IN_ORDER = {
    "relation": '"public"."orders"', "key": ["id"], "index": "orders_pkey", "scan": "sort", "reason": "r", "rows": 2,
    "bytes": 12, "seconds": 0.1,
}  # fmt: skip


def test_the_manifest_says_what_is_in_order_and_why_the_others_are_not():
    report = Report(1, 2, ordered=[IN_ORDER], left_in_heap=[('"public"."items"', "it was truncated")])
    record = order_record(PLAN, report)
    assert [one["relation"] for one in record["ordered"]] == ['"public"."orders"']
    assert [(one["relation"], one["reason"], one["cure"]) for one in record["heap"]] == [
        ('"public"."log"', "it has no key", "a key"),
        ('"public"."items"', "it was truncated", None),
    ]
    assert record["why_not"] is None
    plain = order_record(PLAN, Report(1, 2, plain="no lock"))
    assert [one["reason"] for one in plain["heap"]] == ["it has no key", "no lock", "no lock"]
    assert plain["why_not"] == "no lock"


def test_an_index_that_is_to_blame_is_named_for_whoever_keeps_the_record():
    with pytest.raises(RowOrderError) as failed:
        Composition().run(counts=lambda: {2: 3})
    assert failed.value.damage == {
        "relation": '"public"."items"', "table": "public.items", "index": "public.items_pkey"
    }  # fmt: skip
    with pytest.raises(RowOrderError) as failed:
        Composition().run(rows=Rows(finish=PostgresError("gone")))
    assert failed.value.damage is None


class Database(dump.Dumper):
    """Dumps whose first try fails in order."""

    def __init__(self, error):
        super().__init__(None, None, None, nobody, "r")
        self.error, self.wishes = error, []

    def _dump(self, _cluster, _database, _tags, *, sparing, raw, wish=None):
        self.wishes.append(wish and wish.why_not)
        if wish is None and self.error:
            raise self.error
        return dump.Dumped(Saved("aa", 1, 1, 1), {}, {}, 1.0)


def test_the_table_of_an_index_that_is_on_record_as_damaged_is_doubted_and_no_others():
    config = Config.model_validate({"host": "h", "repository": "/r"})
    known = {"shop-db/shop": {"damaged_index": {"relation": "t", "table": "t", "index": "i", "time": "2026"}}}
    dumper = dump.Dumper(config, None, None, nobody, "r", known)
    cluster = SimpleNamespace(container=Container("1", "shop-db", "postgres:17", "2", "running", "ok"))
    assert dumper._wish(cluster, "shop").doubted == {"t"}
    assert dumper._wish(cluster, "other").doubted == frozenset()


def test_what_cannot_be_read_in_order_is_dumped_once_more_in_heap_order():
    damage = {"relation": "t", "table": "t", "index": "i"}
    database = Database(RowOrderError("the index i returns 1 rows of t, but the table has 2", damage=damage))
    dumped = database.dump(None, "shop", ())
    assert dumped.order_error == "the index i returns 1 rows of t, but the table has 2"
    assert dumped.damage == damage
    assert database.wishes == [None, "it could not be read in order"]
    assert "index i" in dump.not_in_order("c", "shop", dumped.order_error)
    assert Database(None).dump(None, "shop", ()).order_error is None


def test_what_fails_otherwise_is_not():
    database = Database(DumpError("pg_dump failed"))
    with pytest.raises(DumpError):
        database.dump(None, "shop", ())
    assert database.wishes == [None]


class Store:
    """A restic that fails, and keeps what it was told of its patience."""

    def __init__(self, error):
        self.error, self.stall_seconds = error, None

    def backup(self, *arguments):
        self.stall_seconds = arguments[-1]
        raise self.error


@pytest.mark.parametrize(
    ("error", "tables", "kind"),
    [
        (StalledDumpError("No data moved"), (ORDERS,), RowOrderError),
        (StalledDumpError("No data moved"), (), StalledDumpError),
        (ResticError("the disk is full"), (ORDERS,), ResticError),
    ],
)
def test_a_dump_in_order_of_which_nothing_comes_is_made_once_more(error, tables, kind):
    store = Store(error)
    dumper = dump.Dumper(SimpleNamespace(stall_seconds=1800), None, store, nobody, "r")
    cluster = SimpleNamespace(container=SimpleNamespace(name="c"))
    postgres = SimpleNamespace(lock_watch=lambda _database: SimpleNamespace(wait=None, last=None))
    with pytest.raises(kind) as raised:
        dumper._save(cluster, TestTheProducer.JOB, postgres, (), OrderPlan(tables))
    assert type(raised.value) is kind


def test_a_sort_may_say_nothing_for_as_long_as_it_takes_and_restic_waits_longer():
    large = replace(ORDERS, sort_bytes=800 << 30)
    assert longest_silence([ORDERS, ITEMS], 1800.0) == 1800.0
    assert longest_silence([ORDERS, large], 1800.0) == 102_400.0
    dumper = dump.Dumper(SimpleNamespace(stall_seconds=1800), None, None, nobody, "r")
    assert dumper._stall_seconds(OrderPlan()) == 1800.0
    assert dumper._stall_seconds(OrderPlan((ORDERS,))) > 1800.0
    assert dumper._stall_seconds(OrderPlan((ORDERS, large))) > 102_400.0


def test_the_session_that_sorts_is_waited_for_as_long(monkeypatch):
    waits = []

    @contextmanager
    def session(_postgres, _database, silence_seconds):
        waits.append(silence_seconds)
        raise PostgresError("no more is needed")
        yield

    monkeypatch.setattr(ordered, "copying_session", session)
    wanted = ordered.Wanted("shop", "0-1", "UTF8", [replace(ORDERS, sort_bytes=800 << 30)], 1800.0)
    with pytest.raises(PostgresError):
        ordered.produce_in_order(None, wanted, Outlet(-1))
    assert waits == [102_400.0]


class TestCounts:
    """Rows that went by in order are not counted a second time, and all others are."""

    def counts(self, report, exporting=None, counted=None):
        def query(sql, *_most):
            self.asked.append(sql)
            if "count(*)" not in sql:
                return []
            return [["public", "items", 7]] if "c.oid IN (2)" in sql else [["public", "small", 1]]

        self.asked = []
        config = SimpleNamespace(row_counts=True)
        dumper = dump.Dumper(config, None, None, nobody, "r")
        counting = counted and SimpleNamespace(result=lambda: counted)
        return dumper._counts(counting, SimpleNamespace(query=query), PLAN, report)

    def test_are_those_that_went_by(self):
        report = Report(1, 2, ordered=[IN_ORDER, IN_ORDER | {"relation": '"public"."items"', "rows": 9}])
        counts, error = self.counts(report, counted={'"public"."small"': 1})
        assert error is None
        assert counts == {'"public"."small"': 1, '"public"."orders"': 2, '"public"."items"': 9}
        assert self.asked == []

    def test_are_made_of_what_was_not_in_order_after_all(self):
        counts, _error = self.counts(Report(1, 2, ordered=[IN_ORDER]), counted={'"public"."small"': 1})
        assert counts == {'"public"."small"': 1, '"public"."orders"': 2, '"public"."items"': 7}

    def test_are_made_of_all_but_those_where_nobody_has_counted(self):
        counts, _error = self.counts(Report(1, 2, ordered=[IN_ORDER]))
        assert counts == {'"public"."small"': 1, '"public"."orders"': 2}
        assert any("c.oid NOT IN (1)" in sql for sql in self.asked)
