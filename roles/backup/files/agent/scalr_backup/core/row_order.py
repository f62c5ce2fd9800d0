# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables are dumped with their rows in the order of a key, and how; why others are not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

# Smaller tables stay in the order of the heap: they are a few of restic's chunks, which are 1 MiB on average.
LEAST_BYTES = 16 * 1024 * 1024
# A sort has read and written all that it sorts before it gives its first row: on a slow disk, so many bytes a second.
_SLOW_SORT_BYTES = 8 * 1024 * 1024
# How much memory a session that sorts a table may have (work_mem); what is more goes to temporary files.
SORT_MEMORY_BYTES = 64 * 1024 * 1024


def table_pattern(pattern: str, most_parts: int = 3) -> tuple[str, str, str]:
    """The container, the database and the table that a pattern such as ``app/public.events`` means, each with its wildcards.

    Raises ValueError with what is wrong.
    """
    parts = pattern.strip().split("/")
    if len(parts) > most_parts or not all(parts) or not all(parts[-1].partition(".")):
        form = "schema.table or database/schema.table"
        form = form if most_parts < 3 else "schema.table, database/schema.table or container/database/schema.table"
        raise ValueError(f"{pattern.strip()!r} is not {form}")
    # To fnmatch, a bracket is a choice of characters; here it is part of a name.
    container, database, table = ["*"] * (3 - len(parts)) + [part.replace("[", "[[]") for part in parts]
    return container, database, table


def place_of(relation: str, key: Sequence[str], *, descending: bool = False) -> str:
    """A short digest of a table's name and its order: names are long, and a stranger's, and only compared."""
    order = (relation, list(key), "descending") if descending else (relation, list(key))
    return hashlib.sha256(repr(order).encode()).hexdigest()[:12]


class Scan(Enum):
    """How a table is read in the order of its key: the choice is ours, not that of the server's planner."""

    SORT = "sort"
    INDEX = "index"


@dataclass(frozen=True)
class OrderedTable:
    """A table whose rows are dumped in the order of a key; names are as the database has them, not quoted."""

    oid: int
    namespace: str
    name: str
    # What COPY names, in the table's order.
    columns: tuple[str, ...]
    # The columns of the key, and the index that says that they are one.
    key: tuple[str, ...]
    index: str
    scan: Scan
    # pg_class.relfilenode in the snapshot: another one now means that the table was truncated or rewritten since.
    filenode: int
    bytes: int
    # Why this key gives rows a stable place, in words.
    reason: str
    # What a sort of it may take in temporary files, at most; 0 for what fits the memory, and for an index scan.
    sort_bytes: int = 0
    # Whether its newest rows come first (``facing.py``).
    descending: bool = False


def longest_silence(tables: Iterable[OrderedTable], usual_seconds: float) -> float:
    """How many seconds may pass without a row while these tables are read, where anything but a sort has the usual ones."""
    return max(usual_seconds, *(table.sort_bytes / _SLOW_SORT_BYTES for table in tables), 0.0)


@dataclass(frozen=True)
class HeapTable:
    """A large table whose rows stay in the order of the heap."""

    namespace: str
    name: str
    bytes: int
    # Why, and what would help, in words; None where nothing would.
    reason: str
    cure: str | None = None


@dataclass(frozen=True)
class OrderWish:
    """What is wanted of one database."""

    # Why nothing of it is ordered, in words, where that is known before its tables are; None where its tables decide.
    why_not: str | None = None
    # Tables that stay in heap order, as ``schema.table``, in which ``*`` and ``?`` stand for anything.
    exceptions: tuple[str, ...] = ()
    least_bytes: int = LEAST_BYTES
    # Which tables were in which order before, each as ``place_of`` has it.
    before: frozenset[str] = frozenset()
    # How many sorts may run at once on the server's volume, and how full it may become by them.
    sorts_at_once: int = 1
    nearly_full_percent: int = 90
    # Tables whose index is to be looked at once more, by their names among row counts: a sort would not see it.
    doubted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class OrderPlan:
    """What is ordered in one database, and what is not; small tables are in neither list."""

    ordered: tuple[OrderedTable, ...] = ()
    heap: tuple[HeapTable, ...] = ()
    # Why nothing at all is ordered, where that has one reason.
    why_not: str | None = None
