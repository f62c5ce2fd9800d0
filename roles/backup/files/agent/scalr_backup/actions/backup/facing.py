# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a dump's ordered tables come newest rows first, so that new data lies together: a pure decision.

A night's new rows make their whole chunk new, with all else that it holds: for each table that grows, that is the chunk at its
end. If the next table begins with its newest rows, the end of the one and the beginning of the other share a chunk. The head of
an archive, which is new each night, lies before the first table in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from scalr_backup.core.row_order import HeapTable, OrderedTable, place_of
from scalr_backup.core.text import encoded, readable
from scalr_backup.tools.postgres.queries import relation_of

# Larger tables are read from their beginning: an index that is read backwards has the heap read backwards, too, and no disk
# reads ahead in that direction.
MOST_BYTES = 256 * 1024 * 1024


def face_each_other(
    ordered: Sequence[OrderedTable],
    heap: Sequence[HeapTable],
    *,
    growing: Collection[int],
    before: Collection[str],
) -> tuple[OrderedTable, ...]:
    """The *ordered* tables, each with its direction; *heap* are the other large ones of the dump.

    *growing* are those, by their oids, whose keys grow by definition: where a restore put the newest rows first, new ones
    follow at the other end, and a correlation tells nothing any more. *before* is which tables were in which order in the last
    dump, as ``place_of`` has it: a table keeps its direction, as another one costs all of it once more.
    """
    faced: dict[int, OrderedTable] = {}
    # Whether what lies before the next table is new each night; where rows are in heap order, most of the new ones come last.
    is_new = True
    everything: list[OrderedTable | HeapTable] = [*ordered, *heap]
    for table in sorted(everything, key=_place):
        if isinstance(table, HeapTable):
            is_new = True
            continue
        descending = _descends(table, before, may_begin=is_new and table.oid in growing)
        faced[table.oid] = replace(table, descending=descending)
        is_new = not descending
    return tuple(faced[table.oid] for table in ordered)


def _descends(table: OrderedTable, before: Collection[str], *, may_begin: bool) -> bool:
    if table.bytes > MOST_BYTES:
        return False
    relation, key = relation_of(table.namespace, table.name), [readable(column) for column in table.key]
    if place_of(relation, key, descending=True) in before:
        return True
    return may_begin and place_of(relation, key) not in before


def _place(table: OrderedTable | HeapTable) -> tuple[bytes, bytes]:
    """Where the rows of a table lie in an archive: pg_dump has them by schema and name, byte by byte."""
    return encoded(table.namespace), encoded(table.name)
