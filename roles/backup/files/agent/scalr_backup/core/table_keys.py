# SPDX-License-Identifier: GPL-3.0-or-later
"""Which key gives the rows of a table a stable order: a pure decision based on catalogs and statistics.

Rows in such an order are saved anew only where they have changed (docs/row-order.md). A key is suitable if it is total,
so that each row has one place, and if new rows come at its end, or near each other: in the order of random keys, a night's
new rows would be spread over the whole table, while in the heap they lie together.

Whatever a comparison runs has to be the server's own: a user-defined operator class would run its author's code with
the privileges of the backup's role.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict

from scalr_backup.core.left_out import relation_name
from scalr_backup.core.spoken import Count, Flag, Name, Text
from scalr_backup.core.sql import quote_identifier, shown_identifier

# Of 1: how far the order of a column has to agree with the heap's (pg_stats.correlation, without its sign). Integers and times
# grow as a rule, so that less has to speak for them.
GROWING_PERMILLE, OTHERS_PERMILLE = 300, 900
# Of a table that was in this order before: another order costs all of it once more, so it does not change back and forth.
_KEPT_PERMILLE = 100
_INTEGERS = frozenset({"int2", "int4", "int8"})
_TIMES = frozenset({"date", "timestamp", "timestamptz"})
# What is called so makes UUIDs that begin with the time: PostgreSQL 18 and the common extensions have such.
_MAKES_SORTED_UUIDS = re.compile(
    r'(?:^|[.\s("])"?(?:uuid_?(?:generate_)?v[67]|gen(?:erate)?_uuid_?v[67]|uuid[67])"?\s*\('
)

_WANTED = (
    "a primary key, or a unique index on NOT NULL columns, whose first column grows: an identity column, a date or a "
    "timestamp"
)


class KeyColumn(TypedDict):
    """A column of a unique index, as the catalogs have it."""

    number: Count
    name: Name
    type: Name
    # A base type that the server itself brought, with no operator class of its default order that somebody made.
    own_type: Flag
    # The index uses the server's own default operator class, and the collation of the column.
    usual_order: Flag
    deterministic: Flag
    not_null: Flag
    generated: Flag
    identity: Flag
    # Whether its default takes the next value of a sequence.
    sequence: Flag
    # Of a UUID alone: the expression of its default.
    default: Text | None


class UniqueIndex(TypedDict):
    """A unique b-tree of a table, the primary key first; *columns* are those of its key, without its expressions."""

    name: Name
    primary: Flag
    valid: Flag
    immediate: Flag
    partial: Flag
    expression: Flag
    # Whether one scan of it, forwards or backwards, is in ascending order.
    scannable: Flag
    columns: list[KeyColumn]


@dataclass(frozen=True)
class ColumnStatistics:
    """What the planner knows of a column; *permille* is its correlation's, without the sign.

    *sorted_uuids* of the *sampled* ones begin with their time (versions 6 and 7 of RFC 9562).
    """

    permille: int | None
    sorted_uuids: int | None = None
    sampled: int = 0


# By the number of the column; None where statistics may not be read.
Statistics = Mapping[int, ColumnStatistics]


@dataclass(frozen=True)
class OrderKey:
    """The index whose key orders a table, and why."""

    index: UniqueIndex
    reason: str
    # None where nothing is known of it.
    permille: int | None
    # Whether it grows by what its leading column is, however the rows lie.
    by_definition: bool = False


@dataclass(frozen=True)
class NoKey:
    """Why no key orders a table, and what would help, where something would."""

    reason: str
    cure: str | None = None


def choose_key(
    schema: str,
    table: str,
    indexes: Sequence[UniqueIndex],
    known: Statistics | None,
    was_before: Callable[[UniqueIndex], bool] = lambda _index: False,
) -> OrderKey | NoKey:
    """The first index that gives the rows of a table a stable order: the one that did so before, then the primary key.

    Where there is none, the one that comes closest says what is missing.
    """
    name = relation_name(schema, table)
    nearly: list[tuple[int, NoKey]] = []
    for index in sorted(indexes, key=lambda one: not was_before(one)):
        unfit = _unfit(schema, name, index)
        leading = next(iter(index["columns"]), None)
        grown = _growth(name, leading, known, kept=was_before(index)) if leading else NoKey("it has no columns")
        if unfit is None and isinstance(grown, _Growth):
            return OrderKey(index, grown.reason, grown.permille, grown.by_definition)
        if unfit is None:
            assert isinstance(grown, NoKey)
            nearly.append((1, grown))
        elif isinstance(grown, _Growth):
            nearly.append((0, unfit))
        else:
            # With what it lacks it would be no better.
            nearly.append((2, NoKey(unfit.reason, _WANTED)))
    if nearly:
        return min(nearly, key=lambda one: one[0])[1]
    return NoKey("it has neither a primary key nor a unique index that is a b-tree", _WANTED)


def leading_columns(indexes: Sequence[UniqueIndex]) -> set[int]:
    """The columns whose statistics tell which of these indexes to take."""
    return {index["columns"][0]["number"] for index in indexes if index["columns"]}


@dataclass(frozen=True)
class _Growth:
    """Why rows that come one after the other lie near each other in the order of a column."""

    reason: str
    permille: int | None
    by_definition: bool = False


def _unfit(schema: str, table: str, index: UniqueIndex) -> NoKey | None:
    """Why an index is no total order of all rows, by the server's own comparisons alone; None where it is."""
    called = shown_identifier(index["name"])
    if not index["valid"]:
        whole = relation_name(schema, index["name"])
        return NoKey(f"its unique index {called} is not valid", f"REINDEX INDEX CONCURRENTLY {whole}")
    if index["expression"]:
        return NoKey(f"its unique index {called} is on an expression", "a unique index on columns alone")
    if index["partial"]:
        return NoKey(
            f"its unique index {called} is partial, so it does not have all rows", "a unique index without WHERE"
        )
    if not index["immediate"]:
        return NoKey(f"its key {called} is deferrable", "a primary key or a unique index that is not deferrable")
    return next((why for column in index["columns"] if (why := _unfit_column(table, called, column))), None)


def _unfit_column(table: str, index: str, column: KeyColumn) -> NoKey | None:
    name = shown_identifier(column["name"])
    if not column["not_null"]:
        return NoKey(
            f"the column {name} of its unique index {index} may be NULL",
            f"ALTER TABLE {table} ALTER COLUMN {quote_identifier(column['name'])} SET NOT NULL",
        )
    if column["generated"]:
        return NoKey(f"the column {name} of its key {index} is generated", "a key without generated columns")
    if not column["own_type"]:
        return NoKey(
            f"the type of the column {name} of its key {index} is not one of PostgreSQL's own",
            "a unique index on columns of built-in types",
        )
    if not column["deterministic"]:
        return NoKey(
            f"the collation of the column {name} of its key {index} is not deterministic",
            "a unique index on columns with deterministic collations",
        )
    if not column["usual_order"]:
        return NoKey(
            f"its unique index {index} orders the column {name} differently from the column's own type and collation",
            "a unique index with the default operator class and the column's own collation",
        )
    return None


def _growth(table: str, column: KeyColumn, known: Statistics | None, *, kept: bool) -> _Growth | NoKey:
    """Why a leading column keeps together what comes together; or why it does not.

    It has to be less so where its order is to be *kept*; and that statistics are gone, as after an upgrade, is no reason then.
    """
    name = shown_identifier(column["name"])
    statistics = (known or {}).get(column["number"])
    permille = statistics.permille if statistics else None
    if why := _grows_by_definition(column, statistics, kept=kept):
        # What has been said of a time, statistics may deny tomorrow.
        return _Growth(f"{name} {why}", permille, by_definition=column["type"] not in _TIMES)
    least = GROWING_PERMILLE if column["type"] in _INTEGERS | _TIMES else OTHERS_PERMILLE
    if permille is not None and permille >= least - (_KEPT_PERMILLE if kept else 0):
        return _Growth(f"{name} almost follows the order of the rows (correlation {permille / 1000:.2f})", permille)
    if permille is None and kept:
        return _Growth(f"{name} was found to grow before", None)
    return _not_growing(table, column, known, permille)


def _grows_by_definition(column: KeyColumn, statistics: ColumnStatistics | None, *, kept: bool) -> str | None:
    """What a column is that grows whatever its correlation; None for others."""
    if column["identity"]:
        return "is an identity column"
    if column["type"] in _INTEGERS and column["sequence"]:
        return "is filled by a sequence"
    if column["type"] == "uuid":
        return _sorted_uuids(column, statistics, kept=kept)
    if column["type"] in _TIMES and (statistics is None or statistics.permille is None):
        return "is a date or a timestamp"
    return None


def _sorted_uuids(column: KeyColumn, statistics: ColumnStatistics | None, *, kept: bool) -> str | None:
    """Why the UUIDs of a column begin with the time; None where they do not, or nothing says so."""
    made = bool(_MAKES_SORTED_UUIDS.search(column["default"] or ""))
    if statistics and statistics.sampled:
        found = statistics.sorted_uuids or 0
        # One that was changed over from random ones keeps those it had.
        if found == statistics.sampled or ((made or kept) and 2 * found >= statistics.sampled):
            return "holds UUIDs ordered by time"
        return None
    return "is filled with UUIDs ordered by time" if made else None


def _not_growing(table: str, column: KeyColumn, known: Statistics | None, permille: int | None) -> NoKey:
    name = shown_identifier(column["name"])
    if permille is None and known is None:
        return NoKey(
            f"it is unknown how {name} grows: the backup's role may not read its statistics",
            "let the backup's role read pg_catalog.pg_stats, or use a key that begins with an identity column",
        )
    if permille is None:
        return NoKey(f"it is unknown how {name} grows: it has no statistics", f"ANALYZE {table}")
    if column["type"] == "uuid":
        return NoKey(
            f"its key {name} holds random UUIDs: new rows would be spread over the whole table, but lie together in the heap",
            "UUIDs of version 7, which are ordered by time (uuidv7() since PostgreSQL 18)",
        )
    return NoKey(
        f"its key {name} does not grow as rows are added (correlation {permille / 1000:.2f}): new rows would be spread over "
        "the whole table",
        _WANTED,
    )
