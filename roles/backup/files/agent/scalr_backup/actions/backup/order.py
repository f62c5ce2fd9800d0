# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables of a database are dumped in the order of a key, by which key and how; and why the others are not.

Where two tables could be taken for one, where a comparison is not the server's own, or where pg_dump does something of its
own, the rows stay in the order of the heap: as pg_dump has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from scalr_backup.actions.backup.facing import face_each_other
from scalr_backup.core.errors import InterruptedRunError, ScalrBackupError
from scalr_backup.core.model import Volume
from scalr_backup.core.room import RESERVE_BYTES
from scalr_backup.core.row_order import (
    SORT_MEMORY_BYTES,
    HeapTable,
    OrderedTable,
    OrderPlan,
    OrderWish,
    Scan,
    place_of,
)
from scalr_backup.core.table_keys import NoKey, OrderKey, Statistics, UniqueIndex, choose_key
from scalr_backup.core.text import readable
from scalr_backup.core.units import human_bytes
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.keys import Hindrance, LargeTable, SortingRow, look
from scalr_backup.tools.postgres.queries import relation_of
from scalr_backup.tools.postgres.session import SqlSession

# The file system that a directory of a server lies on, or its data where the text is empty; None where that is unknown.
VolumeOf = Callable[[str], Volume | None]

# A sort writes each row once more, with what its own bookkeeping takes, which in memory is as much as narrow rows themselves;
# values that are stored out of line stay where they are.
_SORT_PER_HEAP, _MEMORY_PER_HEAP = 1.25, 2
# An index in whose order the heap almost is reads each page about once. Less in order, it jumps, and still beats no order.
_IN_ORDER_PERMILLE, _SCANNABLE_PERMILLE = 900, 500
_CLUSTERED = "or CLUSTER it once, so that the index of its key returns its rows in order"

_HINDRANCES: dict[Hindrance, NoKey] = {
    "access_method": NoKey("it uses an access method other than heap"),
    "unlogged_on_standby": NoKey("it is unlogged, so this standby does not have its rows"),
    "row_security": NoKey(
        "row-level security hides rows of it from the backup's role", "a role with BYPASSRLS, or a superuser"
    ),
    "hash_partition": NoKey(
        "it is a partition by the hash of an expression, an enum or a type that is not PostgreSQL's own, which pg_dump loads via "
        "the root"
    ),
    "foreign_code": NoKey(
        "an index or statistics of it call a user-defined function, which must not run with the backup's privileges"
    ),
    "of_others": NoKey(
        "its owner, or its schema's, could add code to it that would run with the backup's privileges while its rows are "
        "sorted, and only a superuser on a primary server can prevent that",
        "a backup by a superuser on the primary server",
    ),
}


def nowhere(_directory: str) -> None:
    """The volume of whoever does not know the server's."""


def volumes_of(postgres: Postgres) -> VolumeOf:
    """How to find the volumes of a server: what cannot be found out is unknown."""

    def volume_of(directory: str) -> Volume | None:
        try:
            return postgres.volume(directory)
        except InterruptedRunError:
            raise
        except ScalrBackupError:
            return None

    return volume_of


def choose(session: SqlSession, wish: OrderWish, volume_of: VolumeOf = nowhere) -> OrderPlan:
    """What is ordered in the database of this session, which is in a transaction that no dump depends on.

    Raises PostgresError, LateAnswerError or InvalidAnswerError, and what *volume_of* does; the session is over then.
    """
    if wish.why_not is not None:
        return OrderPlan(why_not=wish.why_not)
    seen = look(session, wish.least_bytes)
    room = SortRoom(seen.server, wish, volume_of)
    ordered: list[OrderedTable] = []
    heap: list[HeapTable] = []
    growing: set[int] = set()
    for table in seen.tables:
        key = find_key(table, seen.server["encoding"], wish, seen.of(table))
        doubted = relation_of(table["schema"], table["name"]) in wish.doubted
        decided = key if isinstance(key, NoKey) else decide(table, key, room, doubted=doubted)
        if isinstance(decided, NoKey):
            heap.append(HeapTable(table["schema"], table["name"], table["bytes"], decided.reason, decided.cure))
        else:
            ordered.append(decided)
        if isinstance(key, OrderKey) and key.by_definition:
            growing.add(table["oid"])
    return OrderPlan(face_each_other(ordered, heap, growing=growing, before=wish.before), tuple(heap))


def find_key(table: LargeTable, encoding: str, wish: OrderWish, known: Statistics | None) -> OrderKey | NoKey:
    """By which key one table is ordered, or why its rows stay where they are."""
    if why := _hindrance(table, encoding, wish):
        return why
    relation = relation_of(table["schema"], table["name"])

    def was_before(index: UniqueIndex) -> bool:
        key = [readable(column["name"]) for column in index["columns"]]
        return any(place_of(relation, key, descending=descending) in wish.before for descending in (False, True))

    return choose_key(table["schema"], table["name"], table["indexes"], known, was_before)


def decide(table: LargeTable, key: OrderKey, room: SortRoom, *, doubted: bool = False) -> OrderedTable | NoKey:
    """How one table is read in the order of a key, or why it is not."""
    scan = choose_scan(table["heap_bytes"], key, room, doubted=doubted)
    if isinstance(scan, NoKey):
        return scan
    return OrderedTable(
        oid=table["oid"],
        namespace=table["schema"],
        name=table["name"],
        columns=tuple(table["columns"]),
        key=tuple(column["name"] for column in key.index["columns"]),
        index=key.index["name"],
        scan=scan.scan,
        filenode=table["filenode"],
        bytes=table["bytes"],
        reason=key.reason,
        sort_bytes=scan.sort_bytes,
    )


def _hindrance(table: LargeTable, encoding: str, wish: OrderWish) -> NoKey | None:
    """What stands against any order of a table's rows, whatever its keys."""
    if table["hindrance"]:
        return _HINDRANCES[table["hindrance"]]
    if is_excepted(table["schema"], table["name"], wish.exceptions):
        return NoKey("backup_row_order_except or a label keeps it in heap order")
    if not table["columns"] or not table["filenode"]:
        return NoKey("it has no columns that are dumped")
    names = (table["schema"], table["name"], *table["columns"])
    if any(not name.isprintable() for name in names):
        return NoKey("its name or a column's name has a character that is not printable", "another name")
    # pg_dump takes the name of a table that it leaves to us in the database's own encoding, and so does the session beside it.
    if encoding != "UTF8" and not all(name.isascii() for name in names):
        return NoKey(f"its name or a column's name is not ASCII, and the database's encoding is {encoding}")
    return None


def is_excepted(schema: str, name: str, patterns: Sequence[str]) -> bool:
    """Whether a table is to stay in heap order."""
    return any(fnmatchcase(f"{schema}.{name}", pattern) for pattern in patterns)


@dataclass(frozen=True)
class HowToScan:
    """How a table is read in the order of its key, and what that takes in temporary files at most."""

    scan: Scan
    sort_bytes: int = 0


def choose_scan(heap_bytes: int, key: OrderKey, room: SortRoom, *, doubted: bool = False) -> HowToScan | NoKey:
    """How the heap of a table is read in the order of a key.

    A sort reads it once, from its beginning to its end, and so sees each row whatever the index has; it is taken where there is
    room for it, unless the heap almost is in that order already, or the index is *doubted*: only what reads it sees that it is
    sound again.
    """
    is_small = heap_bytes * _MEMORY_PER_HEAP <= SORT_MEMORY_BYTES
    permille = key.permille if key.permille is not None and key.index["scannable"] else 0
    if doubted and key.index["scannable"] and (is_small or permille >= _SCANNABLE_PERMILLE):
        return HowToScan(Scan.INDEX)
    if is_small:
        return HowToScan(Scan.SORT)
    if permille >= _IN_ORDER_PERMILLE:
        return HowToScan(Scan.INDEX)
    sort_bytes = int(heap_bytes * _SORT_PER_HEAP)
    lack = room.lack(sort_bytes)
    if lack is None:
        return HowToScan(Scan.SORT, sort_bytes)
    if permille >= _SCANNABLE_PERMILLE:
        return HowToScan(Scan.INDEX)
    return NoKey(f"sorting its rows takes {human_bytes(sort_bytes)} of temporary files: {lack.reason}", lack.cure)


class SortRoom:
    """The room that sorts may take on a server, looked for when one asks for some."""

    def __init__(self, server: SortingRow, wish: OrderWish, volume_of: VolumeOf = nowhere) -> None:
        self._server = server
        self._wish = wish
        self._volume_of = volume_of

    def lack(self, sort_bytes: int) -> NoKey | None:
        """Why there is no room for so many bytes, and what would help; None where there is."""
        limit = self._server["limit_bytes"]
        if limit is not None and limit < sort_bytes:
            return NoKey(
                f"temp_file_limit allows {human_bytes(limit)}",
                f"a larger temp_file_limit for the backup's role, {_CLUSTERED}",
            )
        if not self._volumes:
            return NoKey(
                "the server's free space is unknown",
                f"GRANT pg_read_all_settings to the backup's role, {_CLUSTERED}",
            )
        volume = min(self._volumes, key=self._spare)
        spare = self._spare(volume)
        if spare < sort_bytes:
            words = f"the volume of {volume.directory} has space for {human_bytes(max(spare, 0))}"
            return NoKey(words, f"more space there, {_CLUSTERED}")
        return None

    def _spare(self, volume: Volume) -> int:
        """What a sort may take of a volume: the live server needs room, too, and another sort may run beside it."""
        kept = max(RESERVE_BYTES, volume.total_bytes * (100 - self._wish.nearly_full_percent) // 100)
        return (volume.free_bytes - kept) // self._wish.sorts_at_once

    @cached_property
    def _volumes(self) -> list[Volume]:
        """Every volume on which temporary files may lie; none where one of them is unknown."""
        directories = self._server["directories"]
        # It goes to df of the container as it is.
        if any(directory and not directory.startswith("/") for directory in directories):
            return []
        found = [self._volume_of(directory) for directory in directories]
        return [volume for volume in found if volume] if all(found) else []
