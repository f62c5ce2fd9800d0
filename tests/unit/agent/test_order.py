"""Which tables are dumped in an order of their own, by which scan; and which are left as they lie."""

from __future__ import annotations

from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scalr_backup.actions.backup.order import HowToScan, SortRoom, choose, choose_scan, decide, find_key, volumes_of
from scalr_backup.core.errors import InterruptedRunError, InvalidAnswerError, PostgresError, RoomUnknownError
from scalr_backup.core.model import Volume
from scalr_backup.core.new_data import layout
from scalr_backup.core.row_order import SORT_MEMORY_BYTES, OrderedTable, OrderPlan, OrderWish, Scan
from scalr_backup.core.table_keys import ColumnStatistics, NoKey, OrderKey
from scalr_backup.tools.postgres.keys import LARGE_TABLES, LargeTable, SortingRow, look
from scalr_backup.tools.postgres.queries import relation_of

from tests.unit.agent.test_table_keys import a_column, an_index, plain

MIB = 1024 * 1024
GIB = 1024 * MIB


def a_table(**facts: Any) -> LargeTable:
    table: Any = {
        "oid": 20000, "schema": "public", "name": "t", "filenode": 20001, "bytes": 30 * MIB, "heap_bytes": 30 * MIB,
        "hindrance": None, "columns": ["id", "words"], "indexes": [an_index()],
    }  # fmt: skip
    return {**table, **facts}


def a_server(**facts: Any) -> SortingRow:
    server: Any = {"encoding": "UTF8", "limit_bytes": None, "directories": ["/data"], "statistics": True}
    return {**server, **facts}


def a_room(free: int = 100 * GIB, total: int = 200 * GIB, wish: OrderWish | None = None, **facts: Any) -> SortRoom:
    return SortRoom(a_server(**facts), wish or OrderWish(), lambda directory: Volume(directory, free, total))


def decided(
    table: LargeTable, *, encoding: str = "UTF8", wish: OrderWish | None = None, known: Any = MappingProxyType({})
) -> OrderedTable | NoKey:
    key = find_key(table, encoding, wish or OrderWish(), known)
    return key if isinstance(key, NoKey) else decide(table, key, a_room())


def a_key(permille: int | None, **facts: Any) -> OrderKey:
    return OrderKey(an_index(**facts), "it grows", permille)


def test_a_table_is_ordered_by_its_key_in_the_order_of_the_keys_columns() -> None:
    index = an_index(a_column("at", type="timestamptz"), plain("device", number=5))

    found = decided(a_table(indexes=[index], columns=["device", "at", "v"]))

    assert found == OrderedTable(
        20000, "public", "t", ("device", "at", "v"), ("at", "device"), "t_pkey", Scan.SORT, 20001, 30 * MIB,
        "at is an identity column",
    )  # fmt: skip


@pytest.mark.parametrize(
    "hindrance", ["access_method", "unlogged_on_standby", "row_security", "hash_partition", "foreign_code", "of_others"]
)
def test_what_hinders_a_table_counts_before_its_keys(hindrance: Any) -> None:
    found = decided(a_table(hindrance=hindrance))

    assert isinstance(found, NoKey)
    assert found.reason


@pytest.mark.parametrize(
    ("changes", "encoding", "words"),
    [
        ({"columns": []}, "UTF8", "no columns"),
        ({"filenode": 0}, "UTF8", "no columns"),
        ({"name": "a\nb"}, "UTF8", "printable"),
        ({"schema": "a\x7fb"}, "UTF8", "printable"),
        ({"columns": ["id", "bad\udce9byte"]}, "UTF8", "printable"),
        ({"name": "größe"}, "LATIN1", "not ASCII"),
        ({"schema": "größe"}, "EUC_JP", "not ASCII"),
        ({"columns": ["id", "größe"]}, "SQL_ASCII", "not ASCII"),
    ],
)
def test_a_table_whose_name_no_pattern_can_express_stays_in_heap_order(
    changes: dict[str, Any], encoding: str, words: str
) -> None:
    found = decided(a_table(**changes), encoding=encoding)

    assert isinstance(found, NoKey)
    assert words in found.reason


@pytest.mark.parametrize("name", ['qu"ote', "größe", "with space", "a.b", "$1*?[]", "back\\slash"])
def test_other_names_are_no_hindrance(name: str) -> None:
    assert isinstance(decided(a_table(name=name)), OrderedTable)


@pytest.mark.parametrize(
    ("pattern", "is_ordered"),
    [("public.t", False), ("public.*", False), ("*.t", False), ("public.T", True), ("t", True), ("audit.*", True)],
)
def test_a_table_that_somebody_has_excepted_stays_in_heap_order(pattern: str, is_ordered: bool) -> None:
    found = decided(a_table(), wish=OrderWish(exceptions=("x.y", pattern)))

    assert isinstance(found, OrderedTable) == is_ordered


def test_what_fits_the_memory_is_sorted_wherever() -> None:
    nowhere = SortRoom(a_server(limit_bytes=0), OrderWish())

    assert choose_scan(SORT_MEMORY_BYTES // 2, a_key(990), nowhere) == HowToScan(Scan.SORT)
    assert isinstance(choose_scan(SORT_MEMORY_BYTES // 2 + 1, a_key(0), nowhere), NoKey)


def test_what_is_almost_in_order_is_read_by_its_index() -> None:
    assert choose_scan(GIB, a_key(900), a_room()) == HowToScan(Scan.INDEX)
    assert choose_scan(GIB, a_key(899), a_room()) == HowToScan(Scan.SORT, GIB * 5 // 4)
    # An index that goes up and down is no order.
    assert choose_scan(GIB, a_key(990, scannable=False), a_room()) == HowToScan(Scan.SORT, GIB * 5 // 4)


@pytest.mark.parametrize("permille", [None, 0, 499])
def test_what_is_in_no_order_is_sorted_where_there_is_room_and_left_where_there_is_none(permille: int | None) -> None:
    assert choose_scan(GIB, a_key(permille), a_room()) == HowToScan(Scan.SORT, GIB * 5 // 4)
    found = choose_scan(GIB, a_key(permille), a_room(free=GIB))
    assert isinstance(found, NoKey)
    assert "1.2 GiB of temporary files" in found.reason


def test_without_room_an_index_does_where_it_follows_the_heap_half_way() -> None:
    assert choose_scan(GIB, a_key(500), a_room(free=GIB)) == HowToScan(Scan.INDEX)


@pytest.mark.parametrize(
    ("heap_bytes", "permille", "scannable", "scan"),
    [(GIB, 500, True, Scan.INDEX), (GIB, 499, True, Scan.SORT), (GIB, 990, False, Scan.SORT), (MIB, None, True, Scan.INDEX)],
)  # fmt: skip
def test_an_index_that_was_found_damaged_is_read_again_where_that_takes_no_night(
    heap_bytes: int, permille: int | None, scannable: bool, scan: Scan
) -> None:
    found = choose_scan(heap_bytes, a_key(permille, scannable=scannable), a_room(), doubted=True)

    assert isinstance(found, HowToScan)
    assert found.scan == scan


def test_of_the_doubted_tables_only() -> None:
    plans = [
        choose(Saying([a_server(statistics=False)], [a_table()]), OrderWish(doubted=frozenset({one})))  # type: ignore[arg-type]
        for one in ('"public"."t"', '"public"."u"')
    ]

    assert [plan.ordered[0].scan for plan in plans] == [Scan.INDEX, Scan.SORT]


@pytest.mark.parametrize(
    ("room", "lack"),
    [
        # A fifth of the volume is free; a tenth is the live server's.
        (a_room(free=20 * GIB, total=100 * GIB), None),
        (a_room(free=11 * GIB, total=100 * GIB), "the volume of /data has space for 1.0 GiB"),
        (a_room(free=5 * GIB, total=100 * GIB), "the volume of /data has space for 0 B"),
        (a_room(free=20 * GIB, total=100 * GIB, wish=OrderWish(nearly_full_percent=80)), "the volume of /data"),
        # Another database may be sorted at the same time.
        (a_room(free=14 * GIB, total=100 * GIB, wish=OrderWish(sorts_at_once=2)), None),
        (a_room(free=14 * GIB, total=100 * GIB, wish=OrderWish(sorts_at_once=4)), "the volume of /data"),
        # Of a small volume, the reserve counts.
        (a_room(free=2 * GIB + 250 * MIB, total=2 * GIB + 400 * MIB), "the volume of /data"),
        (a_room(limit_bytes=GIB), "temp_file_limit allows 1.0 GiB"),
        (a_room(limit_bytes=2 * GIB), None),
        (a_room(directories=[]), "unknown"),
        (a_room(directories=["-x"]), "unknown"),
        (a_room(directories=[""]), None),
        (SortRoom(a_server(), OrderWish()), "unknown"),
    ],
)
def test_a_sort_takes_no_room_that_the_server_needs(room: SortRoom, lack: str | None) -> None:
    found = room.lack(2 * GIB)

    if lack is None:
        assert found is None
    else:
        assert found is not None
        assert lack in found.reason
        assert found.cure


def test_the_volume_is_looked_at_once_and_only_for_a_sort_that_needs_it() -> None:
    asked: list[str] = []

    def volume_of(directory: str) -> Volume:
        asked.append(directory)
        return Volume(directory, 100 * GIB, 200 * GIB)

    room = SortRoom(a_server(directories=["/a", "/b"]), OrderWish(), volume_of)
    choose_scan(MIB, a_key(None), room)
    choose_scan(GIB, a_key(990), room)
    assert asked == []
    choose_scan(GIB, a_key(None), room)
    choose_scan(GIB, a_key(None), room)
    assert asked == ["/a", "/b"]


def test_the_fullest_volume_counts() -> None:
    free = {"/a": 100 * GIB, "/b": GIB}
    room = SortRoom(
        a_server(directories=["/a", "/b"]), OrderWish(), lambda directory: Volume(directory, free[directory], 200 * GIB)
    )

    found = room.lack(GIB)
    assert found is not None
    assert "/b" in found.reason


def test_of_two_volumes_none_may_be_unknown() -> None:
    known = {"/a": Volume("/a", 100 * GIB, 200 * GIB), "/b": None}
    found = SortRoom(a_server(directories=["/a", "/b"]), OrderWish(), known.get).lack(GIB)

    assert found is not None
    assert "unknown" in found.reason


def test_a_volume_that_cannot_be_looked_at_is_unknown_and_being_told_to_stop_is_not() -> None:
    def failing(error: Exception) -> Any:
        def volume(_directory: str) -> Volume:
            raise error

        return volumes_of(SimpleNamespace(volume=volume))  # type: ignore[arg-type]

    assert failing(RoomUnknownError("no df"))("/data") is None
    assert failing(PostgresError("gone"))("/data") is None
    with pytest.raises(InterruptedRunError):
        failing(InterruptedRunError("stop"))("/data")


def test_who_wants_no_order_asks_the_server_nothing() -> None:
    assert choose(None, OrderWish(why_not="it is off")) == OrderPlan(why_not="it is off")  # type: ignore[arg-type]


class Saying:
    """A session whose server says what it likes."""

    def __init__(self, *answers: list[Any]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def query(self, sql: str, _most_bytes: int | None = None) -> list[Any]:
        self.asked.append(sql)
        return [] if sql.startswith("SET LOCAL") else self.answers.pop(0)


def test_the_plan_is_what_the_server_says_the_largest_table_first() -> None:
    number = a_table(oid=2, name="number", indexes=[an_index(plain("n", number=7))], bytes=9)
    session = Saying(
        [a_server()], [a_table(oid=1), number, a_table(oid=3, name="none", indexes=[])],
        [{"oid": 2, "number": 7, "permille": 400, "uuids": None}],
    )  # fmt: skip

    plan = choose(session, OrderWish(least_bytes=5))  # type: ignore[arg-type]

    assert [table.name for table in plan.ordered] == ["t", "number"]
    assert [table.name for table in plan.heap] == ["none"]
    assert "s.bytes >= 5" in session.asked[2]
    # Statistics are asked of columns that lead an index, and of no others.
    assert "VALUES (1::bigint, 1), (2::bigint, 7))" in session.asked[3]


def test_who_may_read_no_statistics_does_not_ask_for_any() -> None:
    session = Saying([a_server(statistics=False)], [a_table()])

    assert len(choose(session, OrderWish()).ordered) == 1  # type: ignore[arg-type]
    assert "pg_stats AS s" not in "".join(session.asked)


def test_a_table_that_is_listed_twice_makes_no_sense() -> None:
    with pytest.raises(InvalidAnswerError, match="twice"):
        look(Saying([a_server()], [a_table(), a_table(name="u")]), 1)  # type: ignore[arg-type]


NAMES = st.text(min_size=1, max_size=8).filter(lambda text: "\0" not in text and text.isprintable()) | st.just("a\nb")
COUNTS = st.integers(0, 2**63 - 1)
COLUMNS = st.fixed_dictionaries(
    {
        "number": st.integers(1, 3), "name": NAMES, "type": st.sampled_from(["int8", "uuid", "text", "date", "x"]),
        **{name: st.booleans() for name in ("own_type", "usual_order", "deterministic", "not_null", "generated", "identity", "sequence")},
        "default": st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    }
)  # fmt: skip
INDEXES = st.fixed_dictionaries(
    {
        "name": NAMES, "columns": st.lists(COLUMNS, max_size=2),
        **{name: st.booleans() for name in ("primary", "valid", "immediate", "partial", "expression", "scannable")},
    }
)  # fmt: skip
TABLES = st.fixed_dictionaries(
    {
        "oid": COUNTS, "schema": NAMES, "name": NAMES, "filenode": COUNTS, "bytes": COUNTS, "heap_bytes": COUNTS,
        "hindrance": st.none(), "columns": st.lists(NAMES, max_size=3), "indexes": st.lists(INDEXES, max_size=3),
    }
)  # fmt: skip
STATISTICS = st.none() | st.dictionaries(
    st.integers(1, 3),
    st.builds(ColumnStatistics, st.none() | st.integers(0, 1000), st.none() | COUNTS, COUNTS),
    max_size=3,
)


@settings(max_examples=200, deadline=None)
@given(table=TABLES, known=STATISTICS)
def test_whatever_a_server_says_of_a_table_it_is_ordered_by_a_key_or_left(table: Any, known: Any) -> None:
    [said] = LARGE_TABLES.of([table], "psql")

    found = decided(said, known=known)

    if isinstance(found, OrderedTable):
        assert found.key
        assert found.columns
        fit = [one for one in table["indexes"] if one["valid"] and one["immediate"] and not one["partial"]]
        assert found.index in [one["name"] for one in fit if not one["expression"]]


def test_a_table_is_known_again_as_the_record_of_its_last_dump_has_it() -> None:
    table = a_table(schema="Odd", name='na"me', indexes=[an_index(plain("Größe"), plain("n"))])
    record: Any = {
        "ordered": [{"relation": relation_of("Odd", 'na"me'), "key": ["Größe", "n"], "bytes": 7}], "heap": [], "why_not": None
    }  # fmt: skip

    assert isinstance(decided(table), NoKey)
    assert isinstance(decided(table, wish=OrderWish(before=frozenset(layout(record)))), OrderedTable)
    assert isinstance(decided({**table, "schema": "odd"}, wish=OrderWish(before=frozenset(layout(record)))), NoKey)
