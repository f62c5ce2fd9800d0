# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's custom archive format (``pg_dump -Fc``): the one folder that knows it.

``ArchiveReader`` is fed with the bytes of an archive as they pass by. It has the head read (``parser.py``, into
``head.py``), and verifies that the archive is whole: pg_dump can die at any byte, and what it wrote until then looks like
a backup.

What pg_dump writes, by PostgreSQL's src/bin/pg_dump/pg_backup_archiver.c and pg_backup_custom.c:

* The head is a header and a table of contents (TOC). The header: ``PGDMP``, the format's version in three
  bytes, the size of an int, the size of a file offset, the format, the compression, when the archive was
  made, the name of the database, the versions of the server and of pg_dump. The TOC: the number of its
  entries, and the entries.
* An int is a sign byte and four bytes, least significant first. A string is its length as an int and its
  bytes; length -1 is NULL, which is not the empty string.
* After the head comes one block of data for each TOC entry that had a dumper, in the TOC's order, for an
  empty table too. A block is ``01``, the entry's dump id and chunks of table data; or ``03``, the entry's
  dump id and large objects, each its oid and chunks, with oid 0 after the last.
* A chunk is its length as an int and that many bytes; length 0 ends the chunks. Compression is within chunks,
  so the frame of a compressed archive is the same. Materialized views, sequences and statistics (PostgreSQL
  18) have TOC entries only, with the SQL that fills them.
* Nothing marks the archive's end: it is whole when the last block that the TOC announces has ended.

PostgreSQL 12 to 15 write version 1.14; 16 writes 1.15 (the compression is named, no longer a gzip level);
17 and 18 write 1.16 (each entry has a relkind). Any other version is an UnknownFormatError: a guess would turn into a bad
restore. What is known of such an archive, its server's own pg_restore says (``listing.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum, auto

from scalr_backup.core.archive.head import ArchiveError, ArchiveHead, TocEntry, TocLayout
from scalr_backup.core.archive.parser import HEAD_LIMIT, INT, INT_BYTES, Bytes, HeadParser

_BLOCK_HEADER_BYTES = 1 + INT_BYTES
# A row of a table's data has no more than PostgreSQL can hold in one piece of memory (MaxAllocSize, memutils.h).
MOST_CHUNK_BYTES = 1 << 30

_TABLE_DATA, _LARGE_OBJECTS = 1, 3


class TrustingReader:
    """Lets an archive of an unknown format pass; whether it is whole, whoever else reads it has to say."""

    def __init__(self, head: ArchiveHead | None = None) -> None:
        self.head = head
        self.head_bytes: bytes | None = None
        self.position = 0

    def feed(self, data: Bytes) -> None:
        """Take the archive's next bytes."""
        self.position += len(data)

    def close(self) -> None:
        """Take note that nothing follows."""


class _Stage(Enum):
    """What comes next in an archive."""

    HEAD = auto()
    BLOCK = auto()
    LARGE_OBJECT = auto()
    CHUNK = auto()
    END = auto()


class ArchiveReader:
    """Reads an archive's head and verifies that the archive is whole, while its bytes pass by.

    They come in pieces of any size. The head is kept, and nothing of the data. After an error every further
    call raises the same error.
    """

    def __init__(self, head_limit: int = HEAD_LIMIT) -> None:
        self._head_parser: HeadParser | None = HeadParser(head_limit)
        self._head: ArchiveHead | None = None
        self._head_bytes: bytes | None = None
        self._blocks: tuple[TocEntry, ...] = ()
        self._finished_blocks = 0
        self._block_ends: list[int] = []
        self._layout: TocLayout | None = None
        self._kind = _TABLE_DATA
        self._stage = _Stage.HEAD
        self._fed = 0
        # The last bytes of a piece, where they are too few to be understood; and how many of the next piece's
        # first bytes belong to a chunk and are passed over.
        self._carry = b""
        self._skip = 0
        self._error: ArchiveError | None = None

    @property
    def head(self) -> ArchiveHead | None:
        """The archive's head; None until it has come whole."""
        return self._head

    @property
    def head_bytes(self) -> bytes | None:
        """The head's bytes as they came; None until it has come whole.

        They are an archive without its data: enough for pg_restore to list it, or to restore its schema.
        """
        return self._head_bytes

    @property
    def layout(self) -> TocLayout | None:
        """Where the entries stand in ``head_bytes``; None until the head has come whole."""
        return self._layout

    def take_block_ends(self) -> list[int]:
        """The places in the archive at which blocks of data have ended since this was last asked."""
        ends, self._block_ends = self._block_ends, []
        return ends

    @property
    def buffered(self) -> bytes:
        """All that was fed, as long as the head is not complete."""
        return bytes(self._head_parser.buffer) if self._head_parser else b""

    @property
    def position(self) -> int:
        """The number of bytes fed so far."""
        return self._fed

    def feed(self, data: Bytes) -> None:
        """Take the archive's next bytes; *data* is not kept, so its buffer may be used again.

        Raises ArchiveError as soon as the bytes cannot be those of an archive.
        """
        if self._error is not None:
            raise self._error
        self._fed += len(data)
        try:
            if self._head_parser is None:
                self._read_blocks(data)
            else:
                self._read_head(self._head_parser, data)
        except ArchiveError as error:
            self._error = error
            raise

    def close(self) -> ArchiveHead:
        """Take note that nothing follows, and return the head of what has proved to be a whole archive.

        Raises ArchiveError if something is missing.
        """
        if self._error is not None:
            raise self._error
        if self._head is None or self._stage is not _Stage.END:
            self._error = ArchiveError(self._what_is_missing(), self._fed)
            raise self._error
        return self._head

    @property
    def _block(self) -> TocEntry:
        """The entry whose block is being read, or comes next."""
        return self._blocks[self._finished_blocks]

    def _what_is_missing(self) -> str:
        if not self._fed:
            return "The archive is empty."
        if self._head_parser is not None:
            return f"The archive ends at byte {self._fed}, within its {self._head_parser.place}."
        between_blocks = self._stage is _Stage.BLOCK and not self._carry
        return (
            f"The archive ends at byte {self._fed}, {'before' if between_blocks else 'within'} the data of"
            f" {self._block.label}, after {self._finished_blocks} of {len(self._blocks)} blocks of data."
        )

    def _read_head(self, parser: HeadParser, data: Bytes) -> None:
        head = parser.feed(data)
        if head is None:
            return
        self._head = head
        self._head_bytes = bytes(parser.buffer[: head.length])
        self._layout = TocLayout(parser.count_position, tuple(parser.entry_ends))
        self._blocks = head.data_entries
        self._stage = _Stage.BLOCK if self._blocks else _Stage.END
        self._head_parser = None
        self._read_blocks(parser.buffer[head.length :])

    def _read_blocks(self, data: Bytes) -> None:
        if self._carry:
            data = b"".join((self._carry, data))
            self._carry = b""
        position = self._walk(data, self._skip) if self._skip < len(data) else self._skip
        self._skip = max(0, position - len(data))
        if self._skip > MOST_CHUNK_BYTES:
            raise ArchiveError(
                f"After byte {self._fed}, in the data of {self._block.label}: not a valid chunk length.", self._fed
            )
        self._carry = bytes(data[position:])

    def _walk(self, data: Bytes, position: int) -> int:
        """Go on from *position* as far as *data* can be understood.

        The position reached may lie beyond the end of *data*: what comes next starts there.
        """
        size = len(data)
        while position < size:
            if self._stage is _Stage.CHUNK:
                position, ended = _pass_chunks(data, position)
                if not ended:
                    return position
                if data[position]:
                    offset = self._offset_of(data, position)
                    raise ArchiveError(
                        f"At byte {offset}, in the data of {self._block.label}: not a valid chunk length.",
                        offset,
                    )
                position += INT_BYTES
                self._end_chunks(self._offset_of(data, position))
            elif self._stage is _Stage.LARGE_OBJECT:
                if size - position < INT_BYTES:
                    return position
                _sign, oid = INT.unpack_from(data, position)  # oids above 2^31 are written as negative ints
                position += INT_BYTES
                if oid:
                    self._stage = _Stage.CHUNK
                else:
                    self._end_block(self._offset_of(data, position))
            elif self._stage is _Stage.BLOCK:
                if size - position < _BLOCK_HEADER_BYTES:
                    return position
                sign, dump_id = INT.unpack_from(data, position + 1)
                self._begin_block(data[position], -dump_id if sign else dump_id, self._offset_of(data, position))
                position += _BLOCK_HEADER_BYTES
            else:
                offset = self._offset_of(data, position)
                raise ArchiveError(f"The archive is complete at byte {offset}, but more bytes follow.", offset)
        return position

    def _offset_of(self, data: Bytes, position: int) -> int:
        """The place in the archive of a position in *data*, which holds the last bytes that were fed."""
        return self._fed - len(data) + position

    def _begin_block(self, kind: int, dump_id: int, offset: int) -> None:
        entry = self._block
        # Of data that only a newer pg_dump knows, the block itself says what it holds.
        wanted_kind = {"BLOBS": _LARGE_OBJECTS, "TABLE DATA": _TABLE_DATA}.get(entry.desc, kind)
        if kind not in (_TABLE_DATA, _LARGE_OBJECTS):
            raise ArchiveError(
                f"At byte {offset}, where the data of {entry.label} should begin: {kind} does not start a data block.",
                offset,
            )
        if dump_id != entry.dump_id:
            raise ArchiveError(
                f"At byte {offset}, where the data of {entry.label} should begin, the archive holds "
                f"{self._stranger(dump_id)}.",
                offset,
            )
        if kind != wanted_kind:
            found = "large objects" if kind == _LARGE_OBJECTS else "table data"
            raise ArchiveError(f"At byte {offset}, the data block of {entry.label} holds {found}.", offset)
        if entry.data_position not in (None, offset):
            raise ArchiveError(
                f"The data of {entry.label} begins at byte {offset}, but the table of contents says byte "
                f"{entry.data_position}.",
                offset,
            )
        self._kind = kind
        self._stage = _Stage.LARGE_OBJECT if kind == _LARGE_OBJECTS else _Stage.CHUNK

    def _stranger(self, dump_id: int) -> str:
        """What a block is that stands in the place of another."""
        for index, entry in enumerate(self._blocks):
            if entry.dump_id == dump_id:
                if index < self._finished_blocks:
                    return f"the data of {entry.label} again"
                return f"the data of {entry.label}: blocks are missing or out of order"
        return f"a block for entry {dump_id}, which is not in the table of contents"

    def _end_chunks(self, offset: int) -> None:
        if self._kind == _LARGE_OBJECTS:
            self._stage = _Stage.LARGE_OBJECT
        else:
            self._end_block(offset)

    def _end_block(self, offset: int) -> None:
        self._block_ends.append(offset)
        self._finished_blocks += 1
        self._stage = _Stage.BLOCK if self._finished_blocks < len(self._blocks) else _Stage.END


def read_head(reader: ArchiveReader, chunks: Iterator[bytes]) -> tuple[ArchiveHead, bytes]:
    """Read on until the table of contents is complete; returns it and all that was read.

    Raises ArchiveError when the archive ends before.
    """
    beginning = bytearray()
    for chunk in chunks:
        beginning += chunk
        reader.feed(chunk)
        if reader.head is not None:
            return reader.head, bytes(beginning)
    return reader.close(), bytes(beginning)


def _pass_chunks(data: Bytes, position: int) -> tuple[int, bool]:
    """Step from chunk to chunk; return where the next length stands, and whether it ends the chunks.

    A length of 0 ends them, and so does one with a sign, which is no length. The place may lie beyond the end
    of *data*.
    """
    # The speed of every backup hangs on this loop: uncompressed, pg_dump writes one chunk a row.
    unpack = INT.unpack_from
    try:
        while True:
            sign, length = unpack(data, position)
            if sign or not length:
                return position, True
            position += INT_BYTES + length
    except struct.error:
        return position, False
