# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables of a dump have their newest rows first, so that what is new of two of them lies together."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scalr_backup.actions.backup.facing import MOST_BYTES, face_each_other
from scalr_backup.core.new_data import layout
from scalr_backup.core.row_order import HeapTable, OrderedTable, Scan
from scalr_backup.tools.postgres.queries import relation_of

MIB = 1024 * 1024


def a_table(name: str, *, size: int = 20 * MIB, schema: str = "public") -> OrderedTable:
    return OrderedTable(
        oid=zlib.crc32(f"{schema}.{name}".encode()), namespace=schema, name=name, columns=("id",), key=("id",), index=f"{name}_pkey",
        scan=Scan.SORT, filenode=1, bytes=size, reason="id is an identity column",
    )  # fmt: skip


def a_heap_table(name: str) -> HeapTable:
    return HeapTable("public", name, 20 * MIB, "it has no key")


def remembered(tables: Iterable[OrderedTable]) -> frozenset[str]:
    """What the record of a dump says of them."""
    ordered = [
        {"relation": relation_of(one.namespace, one.name), "key": list(one.key), "descending": one.descending, "bytes": one.bytes}
        for one in tables
    ]  # fmt: skip
    return frozenset(layout({"ordered": ordered, "heap": [], "why_not": None}))  # type: ignore[typeddict-item]


def faced(
    *tables: OrderedTable, heap: Iterable[HeapTable] = (), growing: bool = True, before: Iterable[str] = ()
) -> dict[str, bool]:
    found = face_each_other(
        tables, list(heap), growing={one.oid for one in tables} if growing else set(), before=frozenset(before)
    )
    return {one.name: one.descending for one in found}


def test_the_first_begins_with_what_is_newest_and_then_each_end_meets_a_beginning() -> None:
    """The order of an archive is that of names, byte by byte, whatever the order in which tables are told of."""
    tables = [a_table(name) for name in ("d", "b", "e", "Z", "c")]

    assert faced(*tables) == {"Z": True, "b": False, "c": True, "d": False, "e": True}
    assert list(faced(*tables)) == ["d", "b", "e", "Z", "c"]


def test_schemas_count_before_names() -> None:
    assert faced(a_table("a", schema="z"), a_table("b", schema="a")) == {"b": True, "a": False}


def test_a_table_in_heap_order_has_its_new_rows_last_as_a_rule() -> None:
    assert faced(a_table("a"), a_table("c"), heap=[a_heap_table("b")]) == {"a": True, "c": True}


def test_a_large_table_is_read_from_its_beginning_and_the_next_one_turns_to_its_end() -> None:
    assert faced(a_table("a", size=MOST_BYTES + 1), a_table("b", size=MOST_BYTES)) == {"a": False, "b": True}


def test_a_key_that_grows_only_as_far_as_statistics_tell_is_read_from_its_beginning() -> None:
    assert faced(a_table("a"), growing=False) == {"a": False}


@pytest.mark.parametrize("growing", [True, False])
def test_a_table_keeps_its_direction_whoever_comes_beside_it(*, growing: bool) -> None:
    first = face_each_other(
        [one := a_table("b"), other := a_table("c")], [], growing={one.oid, other.oid}, before=frozenset()
    )
    before = remembered(first)

    assert faced(a_table("b"), a_table("c"), growing=growing, before=before) == {"b": True, "c": False}
    # A table that comes takes the direction that fits.
    found = faced(a_table("a"), a_table("b"), a_table("c"), a_table("d"), before=before)
    assert found == {"a": True, "b": True, "c": False, "d": True}


def test_tables_that_a_former_version_ordered_stay_as_they_are() -> None:
    old = [{"relation": relation_of("public", name), "key": ["id"], "bytes": 1} for name in ("a", "b")]
    before = layout({"ordered": old, "heap": [], "why_not": None})  # type: ignore[typeddict-item]

    assert faced(a_table("a"), a_table("b"), before=before) == {"a": False, "b": False}


def test_a_table_that_has_become_large_turns_once_and_not_back() -> None:
    [small] = face_each_other([a_table("a")], [], growing={a_table("a").oid}, before=frozenset())
    [large] = face_each_other([a_table("a", size=MOST_BYTES + 1)], [], growing={small.oid}, before=remembered([small]))

    assert (small.descending, large.descending) == (True, False)
    assert faced(a_table("a"), before=remembered([large])) == {"a": False}


@given(
    names=st.sets(st.text("abc", min_size=1, max_size=3), max_size=8),
    asked=st.sets(st.text("abc", min_size=1, max_size=3)),
)
def test_what_was_once_decided_holds_the_next_time(names: set[str], asked: set[str]) -> None:
    tables = [a_table(name) for name in names]
    growing = {one.oid for one in tables if one.name in asked}

    first = face_each_other(tables, [], growing=growing, before=frozenset())

    assert face_each_other(tables, [], growing=growing, before=remembered(first)) == first
