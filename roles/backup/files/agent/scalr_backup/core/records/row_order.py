# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables of a dump have their rows in the order of a key: what the manifest records of it."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict


class OrderedTableRecord(TypedDict):
    """A table whose rows are in the order of *key*; *bytes* are those of its rows in the dump.

    Manifests of versions before 0.8 do not say whether it is *descending*: none was.
    """

    relation: str
    key: list[str]
    descending: NotRequired[bool]
    index: str
    scan: Literal["sort", "index"]
    reason: str
    rows: int
    bytes: int
    seconds: float


class HeapTableRecord(TypedDict):
    """A large table whose rows are in the order of the heap, why, and what would help; *bytes* are those on the disk."""

    relation: str
    bytes: int
    reason: str
    cure: str | None


class DamagedIndexRecord(TypedDict):
    """An index that returns a different number of rows than its table has.

    *relation* is the table's name among row counts; *table* and *index* are written as in SQL.
    """

    relation: str
    table: str
    index: str


class RowOrderRecord(TypedDict):
    """One dump: the tables in order, the large ones that are not, and why none is, where that has one reason."""

    ordered: list[OrderedTableRecord]
    heap: list[HeapTableRecord]
    why_not: str | None
