# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that are put into an archive: their place in the table of contents, and their chunks."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scalr_backup.core.archive import rows
from scalr_backup.core.archive.head import VERSIONS, Section
from scalr_backup.core.archive.reader import ArchiveReader
from scalr_backup.core.archive.rows import END_OF_ROWS, RowChunks, SameRows, begin_block, end_block
from scalr_backup.core.archive.splice import AddedRows, NewRows, SpliceError, splice
from scalr_backup.core.errors import InvalidAnswerError
from scalr_backup.tools.postgres.copying import until_mark

from tests.support.archive_writer import DATABASE, ENCODING, STDSTRINGS, Archive, Block, Entry, chunks, integer


def table(dump_id, oid, tag, namespace="public", **more):
    return Entry(dump_id, "TABLE", tag, namespace=namespace, oid=oid, tableam="heap", relkind="r", **more)


def rows_of(dump_id, table_id, oid, tag, namespace="public", owner="app"):
    """What pg_dump writes of a table's rows."""
    return Entry(
        dump_id, "TABLE DATA", tag, had_dumper=True, section=Section.DATA, copy_stmt=f"COPY {oid}", namespace=namespace,
        dependencies=(table_id,), oid=oid, tableoid=0, drop_stmt=None, owner=owner,
    )  # fmt: skip


def read(archive):
    reader = ArchiveReader()
    reader.feed(archive.head)
    return reader


def spliced(archive, *oids):
    reader = read(archive)
    return splice(reader.head, reader.head_bytes, reader.layout, [NewRows(oid, f"COPY {oid}".encode()) for oid in oids])


BEFORE = (ENCODING, STDSTRINGS, DATABASE)
TABLES = (
    table(10, 1, "b"),
    table(11, 2, "a"),
    table(12, 3, "Z"),
    table(13, 4, "é"),
    table(14, 5, "b", namespace="app"),
)
SEQUENCE = Entry(40, "SEQUENCE SET", "s", section=Section.DATA)
INDEX = Entry(41, "INDEX", "i", section=Section.POST_DATA, dependencies=(10,))


class TestTheTableOfContents:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_has_the_rows_where_pg_dump_has_them_and_all_else_as_it_came(self, version):
        """By schema and name, byte by byte."""
        archive = Archive(version=version, entries=(*BEFORE, *TABLES, rows_of(20, 11, 2, "a"), SEQUENCE, INDEX))
        wanted = Archive(
            version=version,
            entries=(
                *BEFORE, *TABLES, rows_of(46, 14, 5, "b", "app"), rows_of(44, 12, 3, "Z"), rows_of(20, 11, 2, "a"),
                rows_of(43, 10, 1, "b"), rows_of(45, 13, 4, "é"), SEQUENCE, INDEX,
            ),
        )  # fmt: skip
        made = spliced(archive, 1, 3, 4, 5)
        ids = {43: 42, 44: 43, 45: 44, 46: 45}
        expected = wanted.entries
        renumbered = [e if e.dump_id not in ids else rows_of(ids[e.dump_id], *_of(e)) for e in expected]
        assert made.content == Archive(version=version, entries=renumbered).head
        assert [one.dump_id for one in made.blocks] == [45, 43, 20, 42, 44]
        assert [one.oid for one in made.blocks if isinstance(one, AddedRows)] == [5, 3, 1, 4]

    @pytest.mark.parametrize("rest", [(), (INDEX,), (SEQUENCE, INDEX), (Entry(42, "ACL", section=Section.NONE),)])
    def test_has_them_behind_all_that_they_need_where_no_other_rows_are(self, rest):
        made = spliced(Archive(entries=(*BEFORE, *TABLES, *rest)), 2)
        reader = ArchiveReader()
        reader.feed(made.content)
        at = [entry.desc for entry in reader.head.entries].index("TABLE DATA")
        behind = [entry for entry in rest if entry.section is not Section.NONE]
        assert at == len(reader.head.entries) - 1 - len(behind)

    def test_takes_no_number_that_another_entry_has_or_names(self):
        archive = Archive(
            entries=(*BEFORE, table(10, 1, "a"), Entry(11, "INDEX", section=Section.POST_DATA, dependencies=(500,)))
        )
        assert [one.dump_id for one in spliced(archive, 1).blocks] == [501]

    def test_keeps_the_owner_and_the_bytes_of_names(self):
        archive = Archive(entries=(*BEFORE, table(10, 1, b"caf\xe9", owner="o'wner")))
        made = spliced(archive, 1)
        assert made.content == Archive(entries=(*archive.entries, rows_of(11, 10, 1, b"caf\xe9", owner="o'wner"))).head

    @pytest.mark.parametrize(
        ("archive", "oids", "why"),
        [
            (Archive(entries=(*BEFORE, *TABLES)), (9,), "no table of the oid 9"),
            (Archive(entries=(*BEFORE, *TABLES, rows_of(20, 10, 1, "b"))), (1,), "did not leave out"),
            (Archive(entries=(*BEFORE, *TABLES, table(15, 1, "b2"))), (1,), "no table of the oid 1"),
            (Archive(entries=(*BEFORE, *TABLES)), (1, 1), "twice"),
            (Archive(entries=(*BEFORE, *TABLES), compression=1), (1,), "compressed"),
            (Archive(entries=(*BEFORE, *TABLES, Entry(2**31 - 1, "INDEX", section=Section.POST_DATA))), (1,), "no room"),
        ],
    )  # fmt: skip
    def test_that_is_not_as_expected_is_left_alone(self, archive, oids, why):
        with pytest.raises(SpliceError, match=why):
            spliced(archive, *oids)


def _of(entry):
    return entry.dependencies[0], entry.oid, entry.tag, entry.namespace


def cut(data, places):
    """*data* in pieces that end at these places."""
    ends = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True) if data[start:end]]


def chunks_of(data):
    """The chunks that stand in *data*, until a length of 0 or the end."""
    found, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at + 1 : at + 5], "little")
        at += 5
        if not length:
            assert at == len(data)
            break
        found.append(data[at : at + length])
        at += length
    return found


PLACES = st.lists(st.integers(0, 10_000), max_size=12)
LINES = st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")), max_size=12)


SHORT_LINES = st.lists(st.sampled_from([b"1", b"22", b"333\\t", b"\\\\N"]), min_size=2, max_size=40)


class TestRows:
    @given(LINES, PLACES)
    @example([b"x" * 16, b"", b"y" * 15, b"z" * 33], [3])
    def test_are_a_chunk_each_however_they_come_and_long_ones_are_cut_at_the_same_places(self, lines, places):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows, "MOST_ROW_BYTES", 16)
            patch.setattr(rows, "_MOST_BATCH_BYTES", 50)
            made = RowChunks()
            data = b"".join(line + b"\n" for line in lines)
            out = b"".join(made.feed(piece) for piece in cut(data, places))
        assert made.is_between_rows
        assert made.close() == b""
        assert (made.rows, made.bytes) == (len(lines), len(data))
        wanted = [
            (line + b"\n")[at : at + 16] for line in lines for at in range(0, len(line) + 1, 16)
        ]  # fmt: skip
        assert chunks_of(out) == wanted

    def test_that_end_within_one_are_not_whole(self):
        made = RowChunks()
        made.feed(b"1\n2")
        assert not made.is_between_rows
        assert made.close() == integer(1) + b"2"

    def test_hold_no_more_than_a_piece_of_a_row_in_memory(self):
        made = RowChunks()
        sizes = [len(made.feed(b"x" * 100_000)) for _ in range(50)]
        assert sum(sizes) > 4_000_000
        assert made._held_bytes < rows.MOST_ROW_BYTES

    def test_stand_in_a_block_as_pg_dump_writes_it(self):
        made = RowChunks()
        assert begin_block(7) + made.feed(b"1\tone\n") + end_block() == Block(7).encode()


class TestABlockOfPgDump:
    @given(PLACES)
    def test_that_has_a_chunk_a_row_passes_as_it_is(self, places):
        for block in (Block(7, (b"1\n", b"22\n", END_OF_ROWS)), Block(7, (END_OF_ROWS,)), Block(7, ())):
            same = SameRows()
            data = block.encode()
            assert b"".join(same.feed(piece) for piece in cut(data, places)) == data

    @given(SHORT_LINES, st.integers(5, 60), PLACES)
    def test_that_is_in_other_pieces_becomes_one(self, lines, size, places):
        data = b"".join(line + b"\n" for line in lines) + END_OF_ROWS
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        if pieces[0] == lines[0] + b"\n":
            pieces[:2] = [b"".join(pieces[:2])]
        same = SameRows()
        out = b"".join(same.feed(piece) for piece in cut(Block(7, tuple(pieces)).encode(), places))
        assert out[:6] == begin_block(7)
        assert out.endswith(integer(0))
        assert chunks_of(out[6:]) == [*(line + b"\n" for line in lines), END_OF_ROWS]

    def test_whose_first_row_is_long_is_not_held_in_memory(self):
        same = SameRows()
        begins = begin_block(7) + integer(1 << 29)
        assert same.feed(begins) == begins
        assert same.feed(b"x" * 1000) == b"x" * 1000

    def test_of_an_empty_table_is_whole(self):
        assert chunks(END_OF_ROWS) == end_block()


MARK = b"\\.0123456789abcdef\n"


class TestTheEndOfRows:
    @given(LINES, PLACES)
    def test_is_found_however_it_comes(self, lines, places):
        data = b"".join(line.replace(b"\\", b"\\\\") + b"\n" for line in lines)
        assert b"".join(until_mark(cut(data + MARK, places), MARK, "psql")) == data

    @pytest.mark.parametrize("lie", [b"\\.\n", b"1\n\\.\n2\n", b"\\.0123456789\n"])
    @given(PLACES)
    def test_is_no_other_line_that_begins_so(self, lie, places):
        with pytest.raises(InvalidAnswerError, match="not a row"):
            list(until_mark(cut(lie + b"2\n" * 20 + MARK, places), MARK, "psql"))

    def test_is_not_taken_for_granted(self):
        with pytest.raises(InvalidAnswerError, match="ends too early"):
            list(until_mark([b"1\n", MARK[:-1]], MARK, "psql"))

    def test_within_a_row_is_none(self):
        data = b"1" + MARK + b"2\n"
        assert b"".join(until_mark([data[:12], data[12:], MARK], MARK, "psql")) == data
