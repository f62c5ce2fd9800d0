# SPDX-License-Identifier: GPL-3.0-or-later
"""What judges ordered archives sees every way in which one may differ from a genuine one."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from tests.support.archive_comparison import (
    END_OF_ROWS,
    LARGE_OBJECTS,
    TABLE_DATA,
    Archive,
    Block,
    BrokenArchiveError,
    Entry,
    differences,
    read_archive,
    reframed,
    written,
)

TABLE = Entry(
    1, 0, b"1259", b"16384", b"t", b"TABLE", 2, b"CREATE TABLE t;\n", b"DROP TABLE t;\n", None, b"public", b"", b"heap",
    ord("r"), b"app", b"false", (), 3, bytes(8),
)  # fmt: skip
DATA = replace(
    TABLE, dump_id=2, had_dumper=1, tableoid=b"0", desc=b"TABLE DATA", section=3, defn=None, drop_stmt=None,
    copy_stmt=b"COPY t (a) FROM stdin;\n", tablespace=None, tableam=None, relkind=0, dependencies=(1,), offset_state=1,
)  # fmt: skip
LARGE = replace(DATA, dump_id=3, desc=b"BLOBS", tag=b"BLOBS", copy_stmt=None, dependencies=())
KEY = replace(TABLE, dump_id=4, tag=b"t t_pkey", desc=b"CONSTRAINT", section=4, dependencies=(1, 99))
ROWS = (b"1\tone\n", b"2\ttwo\n", b"2\ttwo\n", b"3\t\\\\.\n")
GENUINE = Archive(
    (1, 16, 0), 0, (1, 2, 3, 4, 5, 126, 0), b"shop", b"17.6", b"17.6", (TABLE, DATA, LARGE, KEY),
    (
        Block(TABLE_DATA, 2, (*ROWS, END_OF_ROWS)),
        Block(LARGE_OBJECTS, 3, large_objects=((7, (b"large", b"object")), (-294967296, ()))),
    ),
    0,
)  # fmt: skip


def read(archive: Archive) -> Archive:
    return read_archive(written(archive))


def with_entry(place: int, **changes: Any) -> Archive:
    entries = list(GENUINE.entries)
    entries[place] = replace(entries[place], **changes)
    return replace(GENUINE, entries=tuple(entries))


def with_rows(*pieces: bytes) -> Archive:
    return replace(GENUINE, blocks=(replace(GENUINE.blocks[0], pieces=pieces), GENUINE.blocks[1]))


@pytest.mark.parametrize("version", [(1, 14, 0), (1, 15, 0), (1, 16, 0)])
def test_what_is_read_is_what_was_written(version: tuple[int, int, int]) -> None:
    data = written(replace(GENUINE, version=version))
    archive = read_archive(data)
    assert written(archive) == data
    assert archive.blocks == GENUINE.blocks
    assert [entry.relkind for entry in archive.entries[:1]] == [ord("r") if version >= (1, 16, 0) else 0]
    assert data[archive.head_bytes :].startswith(b"\x01\x00\x02\x00\x00\x00")


def test_ids_order_of_rows_pieces_and_the_time_make_no_difference() -> None:
    ids = {1: 11, 2: 300, 3: 13, 4: 14, 99: 98}
    other = replace(
        with_rows(b"".join(reversed(ROWS)) + END_OF_ROWS),
        created=(9,) * 7,
        entries=tuple(
            replace(one, dump_id=ids[one.dump_id], dependencies=tuple(ids[id_] for id_ in one.dependencies))
            for one in GENUINE.entries
        ),
    )
    other = replace(other, blocks=tuple(replace(block, dump_id=ids[block.dump_id]) for block in other.blocks))
    assert differences(read(other), read(GENUINE)) == []


@pytest.mark.parametrize(
    "other",
    [
        replace(GENUINE, version=(1, 15, 0)),
        replace(GENUINE, dbname=b"shop2"),
        replace(GENUINE, pg_dump_version=b"17.7"),
        with_entry(0, tag=b"T"),
        with_entry(0, defn=b"CREATE TABLE t ();\n"),
        with_entry(0, tablespace=None),
        with_entry(1, oid=b"16385"),
        with_entry(1, tableoid=b"1259"),
        with_entry(1, copy_stmt=b"COPY t (b) FROM stdin;\n"),
        with_entry(1, owner=b"postgres"),
        with_entry(1, relkind=ord("r")),
        with_entry(1, offset_state=2),
        with_entry(1, offset=b"\x01" + bytes(7)),
        with_entry(1, section=2),
        with_entry(1, with_oids=b""),
        with_entry(1, dependencies=()),
        with_entry(1, dependencies=(4,)),
        with_entry(3, dependencies=(1, 1)),
        replace(GENUINE, entries=(DATA, TABLE, LARGE, KEY)),
        replace(GENUINE, entries=GENUINE.entries[:3]),
        with_rows(*ROWS[:3], END_OF_ROWS),
        with_rows(*ROWS[:2], ROWS[3], END_OF_ROWS),
        with_rows(*ROWS, b"4\t\n", END_OF_ROWS),
        with_rows(),
        replace(GENUINE, blocks=(GENUINE.blocks[0], replace(GENUINE.blocks[1], large_objects=((7, (b"large",)),)))),
    ],
    ids=itertools.count(),
)
def test_everything_else_is_one(other: Archive) -> None:
    assert differences(read(other), read(GENUINE))
    assert differences(read(GENUINE), read(other))


def test_rows_of_which_one_stands_twice_are_not_those_of_which_another_does() -> None:
    twice = with_rows(ROWS[0], *ROWS, END_OF_ROWS), with_rows(*ROWS, ROWS[3], END_OF_ROWS)
    assert differences(*map(read, twice)) == [
        "TABLE DATA public t: only the first has b'1\\tone'",
        "TABLE DATA public t: only the second has b'3\\t\\\\\\\\.'",
    ]


def test_a_table_without_rows_has_what_ends_them() -> None:
    archive = read(with_rows(END_OF_ROWS))
    assert archive.blocks[0].lines == []
    assert archive.table_data("public", "t").is_a_piece_a_row


def test_pieces_of_another_size_hold_the_same() -> None:
    data = written(GENUINE)
    cut = reframed(data, 5)
    assert cut != data
    archive = read_archive(cut)
    assert {len(piece) for piece in archive.blocks[0].pieces} == {5, 4}
    assert (archive.blocks[0].is_a_piece_a_row, GENUINE.blocks[0].is_a_piece_a_row) == (False, True)
    assert differences(archive, GENUINE) == []


def test_what_is_cut_off_or_out_of_order_is_no_archive() -> None:
    data = written(GENUINE)
    for length in range(len(data)):
        with pytest.raises(BrokenArchiveError):
            read_archive(data[:length])
    with pytest.raises(BrokenArchiveError, match="more follows"):
        read_archive(data + b"\0")
    for blocks in (GENUINE.blocks[::-1], (GENUINE.blocks[0], replace(GENUINE.blocks[1], dump_id=4))):
        with pytest.raises(BrokenArchiveError, match="announce"):
            read(replace(GENUINE, blocks=blocks))


@pytest.mark.parametrize("end", [b"\\.\n", b"\\.\n\n\n\n", b"", b"4\tfour\\.\n\n\n"])
def test_rows_that_end_otherwise_are_no_rows(end: bytes) -> None:
    with pytest.raises(BrokenArchiveError):
        _ = with_rows(*ROWS, end).blocks[0].lines
