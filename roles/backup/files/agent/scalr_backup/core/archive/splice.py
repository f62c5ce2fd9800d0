# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds ``TABLE DATA`` entries to the table of contents of an archive whose pg_dump was told to leave these tables' rows out.

Each stands where pg_dump would have put it, and says what pg_dump would have said; only its dump id is another. All other
entries pass as they came, byte by byte. The format is described in ``reader.py``; what an entry of rows holds, by PostgreSQL's
``dumpTableData`` and ``makeTableDataInfo`` (src/bin/pg_dump/pg_dump.c) and ``WriteToc`` (pg_backup_archiver.c).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scalr_backup.core.archive.head import ArchiveHead, Section, TocEntry, TocLayout
from scalr_backup.core.archive.parser import INT, INT_BYTES

# A dump id must stay an int of C.
_LARGEST_ID = 2**31 - 1
# What an entry says of the place of its data when an archive is written into a pipe: not known yet.
_PLACE_NOT_SET = b"\x01" + bytes(8)


class SpliceError(Exception):
    """A table of contents is not what its tables' rows could be added to; says why."""


@dataclass(frozen=True)
class NewRows:
    """Rows to be added to an archive: of which table, by its oid, and the statement that loads them."""

    oid: int
    copy_statement: bytes


@dataclass(frozen=True)
class SplicedHead:
    """A head with entries of rows added: its bytes, and the entries that have data, in the order of their blocks.

    Of an added one, the table's oid stands there in the place of pg_dump's own entry.
    """

    content: bytes
    blocks: tuple[TocEntry | AddedRows, ...]


@dataclass(frozen=True)
class AddedRows:
    """An entry that pg_dump did not write: its dump id, and the oid of its table."""

    dump_id: int
    oid: int


@dataclass(frozen=True)
class _Piece:
    """An entry's own bytes, what stands in the order of blocks for it, and where rows stand among others."""

    content: bytes
    entry: TocEntry | AddedRows
    place: tuple[bytes, bytes]


def splice(head: ArchiveHead, content: bytes, layout: TocLayout, rows: Sequence[NewRows]) -> SplicedHead:
    """The head whose bytes are *content*, with an entry for each of these tables' rows.

    Raises SpliceError where the archive is not one that they can be added to, or has such an entry already.
    """
    _require_fitting(head, rows)
    tables = {entry.oid: number for number, entry in enumerate(head.entries) if entry.desc == "TABLE"}
    pieces = list(_pieces(head, content, layout))
    dump_id = _first_free(head)
    if dump_id + len(rows) > _LARGEST_ID:
        raise SpliceError("its dump ids leave no room for more")
    new = [
        _entry_of_rows(head, pieces[tables[one.oid]].content, head.entries[tables[one.oid]], dump_id + number, one)
        for number, one in enumerate(rows)
    ]
    merged = list(_merged(pieces, sorted(new, key=lambda piece: piece.place)))
    before = content[: layout.count_position]
    blocks = tuple(one.entry for one in merged if isinstance(one.entry, AddedRows) or one.entry.had_dumper)
    return SplicedHead(b"".join([before, int_bytes(len(merged)), *(one.content for one in merged)]), blocks)


def int_bytes(number: int) -> bytes:
    """A number that is not negative, as pg_dump's WriteInt writes it."""
    return INT.pack(0, number)


def _string_bytes(text: bytes | None) -> bytes:
    return INT.pack(1, 1) if text is None else INT.pack(0, len(text)) + text


def _require_fitting(head: ArchiveHead, rows: Sequence[NewRows]) -> None:
    if head.compression != "none":
        raise SpliceError(f"it is compressed with {head.compression}")
    tables: dict[int, int] = {}
    for entry in head.entries:
        if entry.desc == "TABLE":
            tables[entry.oid] = tables.get(entry.oid, 0) + 1
    with_rows = {entry.oid for entry in head.entries if entry.desc == "TABLE DATA"}
    for one in rows:
        if tables.get(one.oid) != 1:
            raise SpliceError(f"it has no table of the oid {one.oid}")
        if one.oid in with_rows:
            raise SpliceError(f"pg_dump did not leave out the rows of the table of the oid {one.oid}")
    if len({one.oid for one in rows}) != len(rows):
        raise SpliceError("a table would be in it twice")


def _first_free(head: ArchiveHead) -> int:
    """The first dump id that neither an entry has nor a dependency names."""
    return 1 + max(max((entry.dump_id, *entry.dependencies)) for entry in head.entries)


def _pieces(head: ArchiveHead, content: bytes, layout: TocLayout) -> Iterator[_Piece]:
    start = layout.count_position + INT_BYTES
    for entry, end in zip(head.entries, layout.entry_ends, strict=True):
        own = content[start:end]
        yield _Piece(own, entry, _EntryNames.of(own).place if entry.desc == "TABLE DATA" else (b"", b""))
        start = end


def _entry_of_rows(head: ArchiveHead, table_bytes: bytes, table: TocEntry, dump_id: int, rows: NewRows) -> _Piece:
    names = _EntryNames.of(table_bytes, has_relkinds=head.version >= (1, 16, 0))
    fields = [
        int_bytes(dump_id),
        int_bytes(1),  # It has data.
        _string_bytes(b"0"),
        _string_bytes(b"%d" % table.oid),
        _string_bytes(names.tag),
        _string_bytes(b"TABLE DATA"),
        int_bytes(Section.DATA),
        _string_bytes(None),
        _string_bytes(None),
        _string_bytes(rows.copy_statement),
        _string_bytes(names.namespace),
        _string_bytes(None),
        _string_bytes(None),
        *([int_bytes(0)] if head.version >= (1, 16, 0) else []),
        _string_bytes(names.owner),
        _string_bytes(b"false"),
        _string_bytes(b"%d" % table.dump_id),
        _string_bytes(None),
        _PLACE_NOT_SET,
    ]
    return _Piece(b"".join(fields), AddedRows(dump_id, rows.oid), names.place)


def _merged(pieces: Sequence[_Piece], new: Sequence[_Piece]) -> Iterator[_Piece]:
    """pg_dump sorts what is of one kind by namespace and name, byte by byte, and rows before all other data.

    So rows stand before the first rows of a greater name, or before the first entry behind them.
    """
    waiting = list(reversed(new))
    for piece in pieces:
        entry = piece.entry
        assert isinstance(entry, TocEntry)
        if entry.desc == "TABLE DATA":
            while waiting and waiting[-1].place < piece.place:
                yield waiting.pop()
        elif entry.section in (Section.DATA, Section.POST_DATA):
            while waiting:
                yield waiting.pop()
        yield piece
    yield from reversed(waiting)


@dataclass(frozen=True)
class _EntryNames:
    """What an entry's bytes say of whose it is, in the archive's own encoding."""

    tag: bytes
    namespace: bytes | None
    owner: bytes | None

    @property
    def place(self) -> tuple[bytes, bytes]:
        """Where rows stand among others."""
        return self.namespace or b"", self.tag

    @staticmethod
    def of(entry: bytes, *, has_relkinds: bool = False) -> _EntryNames:
        """Read an entry that ``HeadParser`` has read before; for its owner, say whether entries *have relkinds*."""
        position = 2 * INT_BYTES
        strings: list[bytes | None] = []
        # Until the owner: tableoid, oid, tag, desc; the section; defn, dropStmt, copyStmt, namespace, tablespace, tableam.
        for field in ("ssss", "i", "ssssss", "i" if has_relkinds else "", "s"):
            for kind in field:
                sign, number = INT.unpack_from(entry, position)
                position += INT_BYTES
                if kind == "s":
                    length = 0 if sign else number
                    strings.append(None if sign else entry[position : position + length])
                    position += length
        return _EntryNames(strings[2] or b"", strings[7], strings[10])
