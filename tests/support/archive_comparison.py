# SPDX-License-Identifier: GPL-3.0-or-later
"""Two archives of one snapshot held against each other: table of contents field by field, data block by block.

It reads the format by itself, by PostgreSQL's src/bin/pg_dump/pg_backup_archiver.c and pg_backup_custom.c, and shares no line with
the agent, whose archives it judges. Everything stays bytes, as the archive has it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

TABLE_DATA, LARGE_OBJECTS = 1, 3
# What ends the rows of a table: the line that ends them for psql, and two empty ones (dumpTableData_copy).
END_OF_ROWS = b"\\.\n\n\n"
# How much a pg_dump that does not write a piece a row writes in one.
PIECE = 128 * 1024
_INT = struct.Struct("<BI")
_SHOWN = 200


class BrokenArchiveError(Exception):
    """What was read is no archive."""


@dataclass(frozen=True)
class Entry:
    """One entry of the table of contents."""

    dump_id: int
    had_dumper: int
    tableoid: bytes | None
    oid: bytes | None
    tag: bytes | None
    desc: bytes | None
    section: int
    defn: bytes | None
    drop_stmt: bytes | None
    copy_stmt: bytes | None
    namespace: bytes | None
    tablespace: bytes | None
    tableam: bytes | None
    relkind: int
    owner: bytes | None
    with_oids: bytes | None
    dependencies: tuple[int, ...]
    offset_state: int
    offset: bytes

    @property
    def label(self) -> str:
        """The entry in a line of a report."""
        names = (self.desc, self.namespace, self.tag)
        return " ".join(name.decode(errors="backslashreplace") for name in names if name is not None)


# All that has to be the same; ids are each archive's own, and dependencies are compared by what they mean.
_COMPARED = tuple(one.name for one in fields(Entry) if one.name not in {"dump_id", "dependencies"})


@dataclass(frozen=True)
class Block:
    """The data of one entry: pieces of a table's rows, or those of each large object by its oid."""

    kind: int
    dump_id: int
    pieces: tuple[bytes, ...] = ()
    large_objects: tuple[tuple[int, tuple[bytes, ...]], ...] = ()

    @property
    def lines(self) -> list[bytes]:
        """The rows of a table, without what ends them. Raises BrokenArchiveError where that is not there."""
        whole = b"".join(self.pieces)
        if not whole:
            return []
        if not whole.endswith(END_OF_ROWS) or not (whole == END_OF_ROWS or whole.endswith(b"\n" + END_OF_ROWS)):
            raise BrokenArchiveError(f"the rows of {self.dump_id} end with {whole[-20:]!r}")
        return whole.removesuffix(END_OF_ROWS).split(b"\n")[:-1]

    @property
    def is_a_piece_a_row(self) -> bool:
        """Whether each piece is exactly one row; what ends them is one more."""
        return not self.pieces or (
            self.pieces[-1] == END_OF_ROWS and all(one.find(b"\n") == len(one) - 1 for one in self.pieces[:-1])
        )


@dataclass(frozen=True)
class Archive:
    """A whole archive, taken apart."""

    version: tuple[int, int, int]
    compression: int
    # When it was made, by the clock of the machine.
    created: tuple[int, ...]
    dbname: bytes | None
    server_version: bytes | None
    pg_dump_version: bytes | None
    entries: tuple[Entry, ...]
    blocks: tuple[Block, ...]
    head_bytes: int

    def entry(self, dump_id: int) -> Entry:
        """The entry of an id."""
        return next(entry for entry in self.entries if entry.dump_id == dump_id)

    def table_data(self, namespace: str, tag: str) -> Block:
        """The data of a table; its names are in UTF-8."""
        wanted = (b"TABLE DATA", namespace.encode(), tag.encode())
        [found] = [one.dump_id for one in self.entries if (one.desc, one.namespace, one.tag) == wanted]
        return next(block for block in self.blocks if block.dump_id == found)


class _Cursor:
    """Reads what pg_dump's WriteInt, WriteStr and so on wrote."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self.data):
            raise BrokenArchiveError(f"it ends at byte {len(self.data)}, but {end} are announced")
        self.position, start = end, self.position
        return self.data[start:end]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        sign, magnitude = _INT.unpack(self.take(_INT.size))
        if sign > 1:
            raise BrokenArchiveError(f"no number at byte {self.position - _INT.size}")
        return -int(magnitude) if sign else int(magnitude)

    def string(self) -> bytes | None:
        length = self.number()
        return None if length < 0 else self.take(length)

    @property
    def is_at_end(self) -> bool:
        return self.position == len(self.data)


def read_archive(data: bytes) -> Archive:
    """Take an archive apart whose chunks are not compressed.

    Raises BrokenArchiveError where it is none, where its blocks are not those of its entries in their order, or where it
    does not end with the last of them.
    """
    cursor = _Cursor(data)
    if cursor.take(5) != b"PGDMP":
        raise BrokenArchiveError("it does not begin with PGDMP")
    version = (cursor.byte(), cursor.byte(), cursor.byte())
    if (layout := tuple(cursor.take(3))) != (4, 8, 1):
        raise BrokenArchiveError(f"its layout is {layout}")
    compression = cursor.byte() if version >= (1, 15, 0) else cursor.number()
    created = tuple(cursor.number() for _field in range(7))
    names = [cursor.string() for _name in range(3)]
    entries = tuple(_entry(cursor, version) for _number in range(cursor.number()))
    if len({entry.dump_id for entry in entries}) != len(entries):
        raise BrokenArchiveError("two entries have one id")
    head_bytes = cursor.position
    blocks = tuple(_block(cursor) for entry in entries if entry.had_dumper)
    if not cursor.is_at_end:
        raise BrokenArchiveError(f"more follows after byte {cursor.position}, where the last block ends")
    wanted = [entry.dump_id for entry in entries if entry.had_dumper]
    if (found := [block.dump_id for block in blocks]) != wanted:
        raise BrokenArchiveError(f"blocks {found} stand where the entries {wanted} announce theirs")
    return Archive(version, compression, created, *names, entries, blocks, head_bytes)


def _entry(cursor: _Cursor, version: tuple[int, int, int]) -> Entry:
    number, string = cursor.number, cursor.string
    return Entry(
        dump_id=number(), had_dumper=number(), tableoid=string(), oid=string(), tag=string(), desc=string(), section=number(),
        defn=string(), drop_stmt=string(), copy_stmt=string(), namespace=string(), tablespace=string(), tableam=string(),
        relkind=number() if version >= (1, 16, 0) else 0, owner=string(), with_oids=string(),
        dependencies=tuple(_dependencies(cursor)), offset_state=cursor.byte(), offset=cursor.take(8),
    )  # fmt: skip


def _dependencies(cursor: _Cursor) -> Iterator[int]:
    while (text := cursor.string()) is not None:
        yield int(text)


def _block(cursor: _Cursor) -> Block:
    kind, dump_id = cursor.byte(), cursor.number()
    if kind == TABLE_DATA:
        return Block(kind, dump_id, pieces=tuple(_pieces(cursor)))
    if kind != LARGE_OBJECTS:
        raise BrokenArchiveError(f"no block begins with {kind}")
    objects = []
    while oid := cursor.number():
        objects.append((oid, tuple(_pieces(cursor))))
    return Block(kind, dump_id, large_objects=tuple(objects))


def _pieces(cursor: _Cursor) -> Iterator[bytes]:
    while length := cursor.number():
        if length < 0:
            raise BrokenArchiveError(f"a piece has {length} bytes")
        yield cursor.take(length)


def differences(one: Archive, other: Archive) -> list[str]:
    """In what two archives of the same snapshot differ.

    Ids, the time, the order of rows and their pieces make no difference; nor does that of dependencies, in which pg_dump has
    them as the server happens to say them.
    """
    found = [
        f"{name}: {getattr(one, name)!r} is not {getattr(other, name)!r}"
        for name in ("version", "compression", "dbname", "server_version", "pg_dump_version")
        if getattr(one, name) != getattr(other, name)
    ]
    if [entry.label for entry in one.entries] != [entry.label for entry in other.entries]:
        return [*found, *_other_entries(one, other)]
    places = [{entry.dump_id: place for place, entry in enumerate(archive.entries)} for archive in (one, other)]
    for mine, theirs in zip(one.entries, other.entries, strict=True):
        found += [
            f"{mine.label}: {name} {getattr(mine, name)!r} is not {getattr(theirs, name)!r}"
            for name in _COMPARED
            if getattr(mine, name) != getattr(theirs, name)
        ]
        meant = [
            sorted(which.get(id_, -1) for id_ in entry.dependencies)
            for which, entry in zip(places, (mine, theirs), strict=True)
        ]
        if meant[0] != meant[1]:
            found.append(f"{mine.label}: depends on the entries {meant[0]}, not on {meant[1]}")
    if [block.kind for block in one.blocks] != [block.kind for block in other.blocks]:
        return [*found, "the blocks are not of the same kinds"]
    for block, theirs_too in zip(one.blocks, other.blocks, strict=True):
        found += [f"{one.entry(block.dump_id).label}: {what}" for what in _other_data(block, theirs_too)]
    return found


def _other_entries(one: Archive, other: Archive) -> Iterator[str]:
    mine, theirs = (Counter(entry.label for entry in archive.entries) for archive in (one, other))
    yield from (f"only the first has {label}" for label in mine - theirs)
    yield from (f"only the second has {label}" for label in theirs - mine)
    if mine == theirs:
        pairs = zip(one.entries, other.entries, strict=True)
        place, first, second = next(
            (place, a.label, b.label) for place, (a, b) in enumerate(pairs) if a.label != b.label
        )
        yield f"entry {place} is {first}, not {second}"


def _other_data(one: Block, other: Block) -> Iterator[str]:
    if one.kind == LARGE_OBJECTS:
        mine, theirs = ([(oid, b"".join(pieces)) for oid, pieces in block.large_objects] for block in (one, other))
        if mine != theirs:
            yield "large objects differ"
        return
    # Rows of a table are a multiset; a block of no piece at all is not one that ends after no row.
    if bool(one.pieces) != bool(other.pieces):
        yield f"{len(one.pieces)} pieces, not {len(other.pieces)}"
    rows, theirs_too = Counter(one.lines), Counter(other.lines)
    yield from (f"only the first has {row[:_SHOWN]!r}" for row in rows - theirs_too)
    yield from (f"only the second has {row[:_SHOWN]!r}" for row in theirs_too - rows)


def written(archive: Archive) -> bytes:
    """The bytes of an archive: what ``read_archive`` read, it gives back."""
    is_named = archive.version >= (1, 15, 0)
    return b"".join(
        (
            b"PGDMP", bytes(archive.version), bytes((4, 8, 1)),
            bytes([archive.compression]) if is_named else _number(archive.compression),
            *map(_number, archive.created), *map(_string, (archive.dbname, archive.server_version, archive.pg_dump_version)),
            _number(len(archive.entries)), *(_written_entry(entry, archive.version) for entry in archive.entries),
            *map(_written_block, archive.blocks),
        )
    )  # fmt: skip


def reframed(data: bytes, size: int = PIECE) -> bytes:
    """The same archive with its tables' data in pieces of another size, as newer releases of pg_dump write it."""
    archive = read_archive(data)
    blocks = []
    for block in archive.blocks:
        whole = b"".join(block.pieces)
        pieces = tuple(whole[start : start + size] for start in range(0, len(whole), size))
        blocks.append(replace(block, pieces=pieces))
    return written(replace(archive, blocks=tuple(blocks)))


def _written_entry(entry: Entry, version: tuple[int, int, int]) -> bytes:
    return b"".join(
        (
            _number(entry.dump_id), _number(entry.had_dumper), _string(entry.tableoid), _string(entry.oid),
            _string(entry.tag), _string(entry.desc), _number(entry.section), _string(entry.defn), _string(entry.drop_stmt),
            _string(entry.copy_stmt), _string(entry.namespace), _string(entry.tablespace), _string(entry.tableam),
            _number(entry.relkind) if version >= (1, 16, 0) else b"", _string(entry.owner), _string(entry.with_oids),
            *(_string(str(dump_id).encode()) for dump_id in entry.dependencies), _string(None),
            bytes([entry.offset_state]), entry.offset,
        )
    )  # fmt: skip


def _written_block(block: Block) -> bytes:
    begin = bytes([block.kind]) + _number(block.dump_id)
    if block.kind == LARGE_OBJECTS:
        return begin + b"".join(_number(oid) + _chunks(pieces) for oid, pieces in block.large_objects) + _number(0)
    return begin + _chunks(block.pieces)


def _chunks(pieces: tuple[bytes, ...]) -> bytes:
    return b"".join(_string(piece) for piece in pieces) + _number(0)


def _string(content: bytes | None) -> bytes:
    return _number(-1) if content is None else _number(len(content)) + content


def _number(value: int) -> bytes:
    return _INT.pack(int(value < 0), abs(value))
