# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that a newer pg_dump writes in pieces become chunks of one row each, byte for byte as an older one writes them."""

from __future__ import annotations

import pytest
from scalr_backup.core.archive.rows import END_OF_ROWS, SameRows, begin_block

from tests.support.archive_comparison import TABLE_DATA, Archive, Block, written

ROWS = tuple(b"%d\t%s\n" % (number, b"x" * (number % 40)) for number in range(300))
WHOLE = b"".join(ROWS) + END_OF_ROWS
EMPTY = Archive((1, 16, 0), 0, (0,) * 7, b"", b"", b"", (), (), 0)


def block(*pieces: bytes) -> bytes:
    archive = Archive(
        *(getattr(EMPTY, name) for name in list(Archive.__dataclass_fields__)[:7]), (Block(TABLE_DATA, 7, pieces),), 0
    )
    return written(archive)[len(written(EMPTY)) :]


@pytest.mark.parametrize("size", [7, 64, *range(len(WHOLE) - 7, len(WHOLE) + 1)])
@pytest.mark.parametrize("step", [1, 5, 10**6])
def test_wherever_pieces_and_frames_end(size: int, step: int) -> None:
    pieces = block(*(WHOLE[at : at + size] for at in range(0, len(WHOLE), size)))
    assert pieces.startswith(begin_block(7))
    same = SameRows()
    made = b"".join(same.feed(pieces[at : at + step]) for at in range(0, len(pieces), step))
    assert made == block(*ROWS, END_OF_ROWS)


def test_rows_of_an_older_one_pass_as_they_are() -> None:
    for rows in (block(*ROWS, END_OF_ROWS), block(END_OF_ROWS), block()):
        same = SameRows()
        assert b"".join(same.feed(rows[at : at + 5]) for at in range(0, len(rows), 5)) == rows
