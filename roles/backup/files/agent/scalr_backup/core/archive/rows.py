# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of a table as chunks of an archive: one chunk a row, as pg_dump has written them without compression until now.

Whatever writes larger pieces shifts all that follows a changed row, and restic finds little of it again. Rows are lines of
``COPY ... TO STDOUT`` in text format: a line feed within a value is written as two characters (PostgreSQL documentation,
"COPY"), so that each line feed ends a row. The format of chunks is described in ``reader.py``.
"""

from __future__ import annotations

from scalr_backup.core.archive.parser import INT, INT_BYTES

# A row may have 1 GB: a longer one than this is cut, always at the same places, and goes through piece by piece.
MOST_ROW_BYTES = 1 << 20
# What ends rows in pg_dump's own blocks, in a chunk of its own (dumpTableData_copy in pg_dump.c), and what ends chunks.
END_OF_ROWS = b"\\.\n\n\n"
END_OF_CHUNKS = INT.pack(0, 0)
_BLOCK_OF_ROWS = b"\x01"
# Lengths of rows whose chunk's head is remembered.
_MOST_HEADS = 1 << 14
# So many bytes at a time stay in the processor's cache: four times as many take twice as long.
_MOST_BATCH_BYTES = 1 << 16
# No pg_dump writes rows in pieces that are larger than this, unless they are rows.
_MOST_PIECE_BYTES = 1 << 18


class _Heads(dict[int, bytes]):
    """The heads of chunks by their lengths, made when they are first needed."""

    def __missing__(self, length: int) -> bytes:
        head = INT.pack(0, length)
        if length < _MOST_HEADS:
            self[length] = head
        return head


_HEADS = _Heads()


def begin_block(dump_id: int) -> bytes:
    """What stands before the rows of an entry."""
    return _BLOCK_OF_ROWS + INT.pack(0, dump_id)


def end_block() -> bytes:
    """What stands behind the rows of an entry, as pg_dump writes it."""
    return INT.pack(0, len(END_OF_ROWS)) + END_OF_ROWS + END_OF_CHUNKS


class RowChunks:
    """Makes chunks of rows that come in pieces of any size; counts rows, and holds at most a row's piece in memory."""

    def __init__(self) -> None:
        self.rows = 0
        self.bytes = 0
        # Whether all that has come was whole rows.
        self.is_between_rows = True
        self._held: list[bytes] = []
        self._held_bytes = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; returns the chunks of all that is complete."""
        if len(data) > _MOST_BATCH_BYTES:
            return b"".join(
                self.feed(data[at : at + _MOST_BATCH_BYTES]) for at in range(0, len(data), _MOST_BATCH_BYTES)
            )
        if not data:
            return b""
        self.bytes += len(data)
        self.is_between_rows = data.endswith(b"\n")
        end = data.rfind(b"\n") + 1
        if not end:
            return self._hold(data)
        whole = b"".join((*self._held, data[:end])) if self._held else data[:end]
        rest = data[end:]
        self._held, self._held_bytes = ([rest], len(rest)) if rest else ([], 0)
        chunks = self._chunks(whole)
        return chunks + self._cut_held() if self._held_bytes >= MOST_ROW_BYTES else chunks

    def close(self) -> bytes:
        """The chunk of what has come without a line's end."""
        held, self._held, self._held_bytes = b"".join(self._held), [], 0
        return INT.pack(0, len(held)) + held if held else b""

    def _hold(self, data: bytes) -> bytes:
        self._held.append(data)
        self._held_bytes += len(data)
        return self._cut_held() if self._held_bytes >= MOST_ROW_BYTES else b""

    def _cut_held(self) -> bytes:
        """The pieces of a long row that are complete."""
        held = b"".join(self._held)
        whole = len(held) - len(held) % MOST_ROW_BYTES
        self._held, self._held_bytes = [held[whole:]], len(held) - whole
        return _pieces(held[:whole])

    def _chunks(self, whole: bytes) -> bytes:
        # The speed of every backup with ordered tables hangs on these lines: each is a loop in C.
        lines = whole.splitlines(keepends=True)
        self.rows += whole.count(b"\n")
        if len(whole) > MOST_ROW_BYTES:
            return b"".join(map(_pieces, lines))
        parts = [b""] * (2 * len(lines))
        parts[0::2] = map(_HEADS.__getitem__, map(len, lines))
        parts[1::2] = lines
        return b"".join(parts)


class SameRows:
    """Passes a block of rows that pg_dump wrote, from its first byte to its last: one chunk a row, whatever it was before.

    What its first chunk is, all are: pg_dump writes each row by itself, or what fits its buffer. Holds no more than one chunk.
    """

    def __init__(self) -> None:
        self._passed_as_it_is = False
        self._rows: RowChunks | None = None
        self._held = b""
        # How many bytes of a chunk are still to come.
        self._left = 0
        # The last bytes of all rows so far: what ends rows is one chunk, wherever a piece ended.
        self._last = b""

    def feed(self, data: bytes) -> bytes:
        """Take the block's next bytes; returns what may be passed on."""
        if self._passed_as_it_is:
            return data
        data = self._held + data
        if self._rows is not None:
            return self._with_rows(data, self._rows)
        begins = len(begin_block(0))
        if (is_row := _begins_with_row(data, begins)) is None:
            self._held = data
            return b""
        if is_row:
            self._passed_as_it_is, self._held = True, b""
            return data
        self._rows = RowChunks()
        return data[:begins] + self._with_rows(data[begins:], self._rows)

    def _with_rows(self, data: bytes, rows: RowChunks) -> bytes:
        made, at = [], 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                known = self._last + piece
                self._last = known[-len(END_OF_ROWS) :]
                made.append(rows.feed(known[: -len(END_OF_ROWS)]))
                self._left -= len(piece)
                at += len(piece)
            elif len(data) - at < INT_BYTES:
                break
            else:
                _sign, self._left = INT.unpack_from(data, at)
                at += INT_BYTES
                if not self._left:
                    made.append(self._end(rows))
        self._held = data[at:]
        return b"".join(made)

    def _end(self, rows: RowChunks) -> bytes:
        if self._last == END_OF_ROWS:
            return rows.close() + end_block()
        return rows.feed(self._last) + rows.close() + END_OF_CHUNKS


def _begins_with_row(block: bytes, begins: int) -> bool | None:
    """Whether the first chunk of a block, which begins there, is a row or the end of rows; None where that has not come."""
    if len(block) < begins + INT_BYTES:
        return None
    _sign, length = INT.unpack_from(block, begins)
    start = begins + INT_BYTES
    if length > _MOST_PIECE_BYTES or not length:
        return True
    if len(block) < start + length:
        return None
    first = block[start : start + length]
    return first == END_OF_ROWS or first.find(b"\n") == length - 1


def _pieces(row: bytes) -> bytes:
    """A row, or whole pieces of one, as chunks of at most so many bytes."""
    if len(row) <= MOST_ROW_BYTES:
        return INT.pack(0, len(row)) + row
    cut = [row[place : place + MOST_ROW_BYTES] for place in range(0, len(row), MOST_ROW_BYTES)]
    return b"".join(part for piece in cut for part in (INT.pack(0, len(piece)), piece))
