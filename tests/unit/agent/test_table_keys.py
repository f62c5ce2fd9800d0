"""Which key of a table orders its rows, and what is said where none does."""

from __future__ import annotations

from typing import Any

import pytest
from scalr_backup.core.table_keys import (
    ColumnStatistics,
    KeyColumn,
    NoKey,
    OrderKey,
    Statistics,
    UniqueIndex,
    choose_key,
    leading_columns,
)


def a_column(name: str = "id", **facts: Any) -> KeyColumn:
    """A bigint of an identity, unless it is said to be otherwise."""
    column: Any = {
        "number": 1, "name": name, "type": "int8", "own_type": True, "usual_order": True, "deterministic": True,
        "not_null": True, "generated": False, "identity": True, "sequence": False, "default": None,
    }  # fmt: skip
    return {**column, **facts}


def plain(name: str = "id", **facts: Any) -> KeyColumn:
    """A column of which only statistics tell how it grows."""
    return a_column(name, **{"identity": False, **facts})


def an_index(*columns: KeyColumn, **facts: Any) -> UniqueIndex:
    """A primary key, unless it is said to be otherwise."""
    index: Any = {
        "name": "t_pkey", "primary": True, "valid": True, "immediate": True, "partial": False, "expression": False,
        "scannable": True, "columns": list(columns) or [a_column()],
    }  # fmt: skip
    return {**index, **facts}


def chosen(*indexes: UniqueIndex, known: Statistics | None = None) -> OrderKey | NoKey:
    return choose_key("public", "t", indexes, {} if known is None else known)


def refusal(*indexes: UniqueIndex, known: Statistics | None = None) -> NoKey:
    found = chosen(*indexes, known=known)
    assert isinstance(found, NoKey), found
    return found


def reason(*indexes: UniqueIndex, known: Statistics | None = None) -> str:
    found = chosen(*indexes, known=known)
    assert isinstance(found, OrderKey), found
    return found.reason


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (a_column(), "id is an identity column"),
        (plain(sequence=True), "id is filled by a sequence"),
        (plain("Made at", type="timestamptz"), '"Made at" is a date or a timestamp'),
        (plain(type="uuid", default="uuidv7()"), "id is filled with UUIDs ordered by time"),
        (plain(type="uuid", default="public.uuid_generate_v7()"), "id is filled with UUIDs ordered by time"),
    ],
)
def test_what_grows_by_its_definition_needs_no_statistics(column: KeyColumn, words: str) -> None:
    assert reason(an_index(column)) == words
    assert isinstance(choose_key("public", "t", [an_index(column)], None), OrderKey)


@pytest.mark.parametrize(
    ("kind", "permille", "is_ordered"),
    [
        ("int4", 300, True), ("int4", 299, False), ("date", 300, True), ("timestamp", 299, False),
        ("text", 900, True), ("text", 899, False), ("numeric", 950, True), ("uuid", 900, True), ("uuid", 899, False),
    ],
)  # fmt: skip
def test_what_else_grows_by_its_correlation(kind: str, permille: int, is_ordered: bool) -> None:
    found = chosen(an_index(plain(type=kind)), known={1: ColumnStatistics(permille)})

    assert isinstance(found, OrderKey) == is_ordered
    assert "correlation" in found.reason or kind == "uuid"


@pytest.mark.parametrize(
    ("default", "found", "sampled", "is_ordered"),
    [
        (None, 100, 100, True),
        (None, 99, 100, False),
        ("gen_random_uuid()", 0, 100, False),
        # Changed over from random ones: half of them begin with the time by now, or not.
        ("uuidv7()", 50, 100, True),
        ("uuidv7()", 49, 100, False),
        # A name is no proof where the values say otherwise.
        ("uuid_generate_v7()", 0, 100, False),
        ("gen_random_uuid()", None, 0, False),
        ("my_uuid7_like()", None, 0, False),
        ("'x'::text || uuid7()", None, 0, True),
    ],
)
def test_uuids_are_judged_by_their_values_before_what_makes_them(
    default: str | None, found: int | None, sampled: int, is_ordered: bool
) -> None:
    known = {1: ColumnStatistics(10, found, sampled)}

    decided = chosen(an_index(plain(type="uuid", default=default)), known=known)

    assert isinstance(decided, OrderKey) == is_ordered
    if isinstance(decided, NoKey):
        assert "random UUIDs" in decided.reason
        assert "version 7" in (decided.cure or "")


@pytest.mark.parametrize(
    ("index", "words", "cure"),
    [
        (an_index(valid=False), "t_pkey is not valid", "REINDEX INDEX CONCURRENTLY public.t_pkey"),
        (an_index(immediate=False), "t_pkey is deferrable", "not deferrable"),
        (an_index(partial=True), "is partial", "without WHERE"),
        (an_index(expression=True), "is on an expression", "on columns alone"),
        (an_index(expression=True, columns=[]), "is on an expression", "whose first column grows"),
        (
            an_index(a_column("Id", not_null=False)),
            'the column "Id" of its unique index t_pkey may be NULL',
            'ALTER TABLE public.t ALTER COLUMN "Id" SET NOT NULL',
        ),
        (an_index(a_column(generated=True)), "is generated", "without generated columns"),
        (an_index(a_column(own_type=False)), "is not one of PostgreSQL's own", "built-in types"),
        (an_index(a_column(deterministic=False)), "collation of the column id", "deterministic"),
        (an_index(a_column(usual_order=False)), "orders the column id differently", "default operator class"),
        # Of a column behind the first, all that is asked is what makes the order total.
        (an_index(a_column(), plain("n", not_null=False)), "the column n of its unique index", "SET NOT NULL"),
        (an_index(a_column(), plain("n", own_type=False)), "type of the column n", "built-in types"),
    ],
)
def test_an_index_that_is_no_total_order_says_what_it_lacks(index: UniqueIndex, words: str, cure: str) -> None:
    found = refusal(index)

    assert words in found.reason
    assert cure in (found.cure or "")


def test_a_table_without_a_unique_index_is_told_to_have_a_key() -> None:
    found = refusal()

    assert "neither a primary key nor a unique index" in found.reason
    assert "a primary key" in (found.cure or "")


def test_what_would_be_no_better_with_what_it_lacks_is_not_told_to_have_it() -> None:
    found = refusal(an_index(plain(type="uuid", not_null=False)), known={1: ColumnStatistics(5, 0, 100)})

    assert "may be NULL" in found.reason
    assert "SET NOT NULL" not in (found.cure or "")


def test_statistics_that_are_missing_and_those_that_may_not_be_read_have_each_their_cure() -> None:
    index = an_index(plain())

    missing, hidden = chosen(index), choose_key("public", "t", [index], None)

    assert isinstance(missing, NoKey)
    assert missing.cure == "ANALYZE public.t"
    assert isinstance(hidden, NoKey)
    assert "pg_stats" in (hidden.cure or "")


def test_the_primary_key_counts_before_others_and_one_that_grows_before_one_that_does_not() -> None:
    random = an_index(plain(type="uuid"))
    grows = an_index(a_column("number", number=2), name="t_number", primary=False)
    known = {1: ColumnStatistics(5, 0, 100)}

    found = chosen(random, grows, known=known)
    assert isinstance(found, OrderKey)
    assert found.index["name"] == "t_number"
    first = chosen(an_index(), grows)
    assert isinstance(first, OrderKey)
    assert first.index["name"] == "t_pkey"


def test_of_several_that_do_not_do_the_one_that_lacks_least_is_named() -> None:
    random = an_index(plain(type="uuid"))
    nearly = an_index(a_column("number", number=2, not_null=False), name="t_number", primary=False)
    partial = an_index(plain("x", number=3), name="t_x", primary=False, partial=True)
    known = {1: ColumnStatistics(5, 0, 100), 3: ColumnStatistics(10)}

    assert "t_number may be NULL" in refusal(random, partial, nearly, known=known).reason
    assert "random UUIDs" in refusal(partial, random, known=known).reason
    assert "is partial" in refusal(partial, known=known).reason


def test_statistics_are_asked_of_the_columns_that_lead() -> None:
    indexes = [an_index(a_column(number=3), a_column(number=1)), an_index(a_column(number=2)), an_index(columns=[])]

    assert leading_columns(indexes) == {2, 3}


def kept(*indexes: UniqueIndex, known: Statistics | None = None, name: str = "t_pkey") -> OrderKey | NoKey:
    """The choice for a table that was in the order of one of them before."""
    return choose_key("public", "t", indexes, {} if known is None else known, lambda index: index["name"] == name)


@pytest.mark.parametrize(
    ("kind", "permille", "is_kept"),
    [("int4", 200, True), ("int4", 199, False), ("text", 800, True), ("text", 799, False), ("text", None, True)],
)
def test_an_order_is_kept_that_statistics_speak_for_a_little_less(
    kind: str, permille: int | None, is_kept: bool
) -> None:
    """Each change of the order costs the whole table once more."""
    found = kept(an_index(plain(type=kind)), known={1: ColumnStatistics(permille)})

    assert isinstance(found, OrderKey) == is_kept


def test_an_order_is_kept_where_statistics_are_gone_or_may_no_longer_be_read() -> None:
    index = an_index(plain())

    assert isinstance(kept(index), OrderKey)
    assert isinstance(choose_key("public", "t", [index], None, lambda _index: True), OrderKey)


def test_uuids_are_kept_in_order_while_half_of_them_begin_with_the_time() -> None:
    index = an_index(plain(type="uuid"))

    assert isinstance(kept(index, known={1: ColumnStatistics(5, 50, 100)}), OrderKey)
    assert isinstance(kept(index, known={1: ColumnStatistics(5, 49, 100)}), NoKey)


def test_the_key_of_before_counts_before_the_primary_key_as_long_as_it_is_one() -> None:
    first, second = an_index(), an_index(a_column("number", number=2), name="t_number", primary=False)

    found = kept(first, second, name="t_number")
    assert isinstance(found, OrderKey)
    assert found.index["name"] == "t_number"
    without = kept(first, an_index(a_column(not_null=False), name="t_number"), name="t_number")
    assert isinstance(without, OrderKey)
    assert without.index["name"] == "t_pkey"
