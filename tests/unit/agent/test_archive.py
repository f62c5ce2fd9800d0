# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives built byte by byte, whole and broken, fed to the reader in pieces of every size."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scalr_backup.core.archive.head import VERSIONS, ArchiveError, ArchiveHead, PostData, Section
from scalr_backup.core.archive.reader import ArchiveReader

from tests.support.archive_writer import (
    DATABASE,
    ENCODING,
    LARGE_OBJECT_DATA,
    STDSTRINGS,
    TABLE,
    WHOLE,
    Archive,
    Block,
    Entry,
    LargeObjects,
    data_of,
    integer,
    string,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


def read(data: bytes, pieces: Iterable[int] = ()) -> ArchiveHead:
    """Feed *data* in pieces of these sizes, and the rest at once."""
    reader = ArchiveReader()
    position = 0
    for size in pieces:
        reader.feed(data[position : position + size])
        position += size
    reader.feed(data[position:])
    return reader.close()


def error_of(data: bytes) -> ArchiveError | None:
    """What the reader says, if anything; any other exception is a bug of the reader."""
    try:
        read(data)
    except ArchiveError as error:
        return error
    return None


def complaint(data: bytes | Archive) -> ArchiveError:
    """What the reader says of a broken archive; at once and byte by byte it must say the same."""
    encoded = data if isinstance(data, bytes) else data.encode()
    with pytest.raises(ArchiveError) as at_once:
        read(encoded)
    with pytest.raises(ArchiveError) as byte_by_byte:
        read(encoded, [1] * len(encoded))
    assert (str(byte_by_byte.value), byte_by_byte.value.offset) == (str(at_once.value), at_once.value.offset)
    assert str(at_once.value).endswith(".")
    return at_once.value


class TestWholeArchives:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_every_version(self, version: tuple[int, int, int]) -> None:
        archive = replace(WHOLE, version=version)
        head = read(archive.encode())
        assert head.version == version
        assert head.compression == "none"
        assert head.created == datetime(2026, 12, 31, 23, 59, 58)  # noqa: DTZ001
        assert (head.dbname, head.server_version, head.pg_dump_version) == (
            "shop",
            "17.6 (Debian 17.6-1)",
            "18.1",
        )
        assert head.encoding == "UTF8"
        assert head.length == len(archive.head)
        assert [entry.dump_id for entry in head.entries] == [1, 2, 3, 10, 20, 21, 30]
        assert [entry.dump_id for entry in head.data_entries] == [20, 21, 30]

    @pytest.mark.parametrize(("version", "relkind"), [((1, 15, 0), ""), ((1, 16, 0), "r")])
    def test_an_entry_in_full(self, version: tuple[int, int, int], relkind: str) -> None:
        table = replace(TABLE, tablespace="fast", dependencies=(1, 2))
        entry = read(Archive(version=version, entries=(ENCODING, table)).encode()).entries[1]
        assert (entry.dump_id, entry.had_dumper, entry.tableoid, entry.oid) == (10, False, 1259, 16384)
        assert (entry.tag, entry.desc, entry.section) == ("orders", "TABLE", Section.PRE_DATA)
        assert (entry.defn, entry.drop_stmt, entry.copy_stmt) == (
            "CREATE TABLE public.orders ();\n",
            "",
            None,
        )
        assert (entry.namespace, entry.tablespace, entry.tableam) == ("public", "fast", "heap")
        assert (entry.relkind, entry.owner, entry.dependencies) == (relkind, "app", (1, 2))
        assert entry.data_position is None
        assert entry.label == "TABLE public.orders (entry 10)"

    @pytest.mark.parametrize(
        ("version", "compression", "name"),
        [
            ((1, 14, 0), 0, "none"),
            ((1, 14, 0), -1, "gzip"),
            ((1, 14, 0), 9, "gzip"),
            ((1, 15, 0), 0, "none"),
            ((1, 15, 0), 1, "gzip"),
            ((1, 16, 0), 2, "lz4"),
            ((1, 16, 0), 3, "zstd"),
        ],
    )
    def test_compression(self, version: tuple[int, int, int], compression: int, name: str) -> None:
        assert read(replace(WHOLE, version=version, compression=compression).encode()).compression == name

    def test_without_data(self) -> None:
        assert read(Archive(entries=(ENCODING, TABLE)).encode()).data_entries == ()

    def test_an_empty_table_and_no_large_objects_have_blocks_too(self) -> None:
        archive = Archive(entries=(data_of(20), LARGE_OBJECT_DATA), blocks=(Block(20, ()), LargeObjects(30)))
        assert read(archive.encode()).data_entries

    def test_a_file_says_where_its_blocks_begin(self) -> None:
        entry = replace(data_of(20), offset_state=2)
        position = len(Archive(entries=(entry,)).head)
        archive = Archive(entries=(replace(entry, data_position=position),), blocks=(Block(20),))
        assert read(archive.encode()).entries[0].data_position == position

    def test_the_head_is_known_before_the_data_has_come(self) -> None:
        reader = ArchiveReader()
        reader.feed(WHOLE.head[:-1])
        assert (reader.head, reader.head_bytes) == (None, None)
        reader.feed(WHOLE.head[-1:])
        assert reader.head is not None
        assert reader.head.dbname == "shop"
        assert reader.head_bytes == WHOLE.head
        assert reader.position == len(WHOLE.head)

    def test_the_caller_may_use_its_buffer_again(self) -> None:
        reader = ArchiveReader()
        data, buffer = WHOLE.encode(), bytearray(7)
        for start in range(0, len(data), 7):
            piece = data[start : start + 7]
            buffer[: len(piece)] = piece
            reader.feed(memoryview(buffer)[: len(piece)])
        assert reader.close() == read(data)

    @pytest.mark.parametrize("chunk", [b"x" * 100, b"x" * 131_072])
    def test_data_leaves_nothing_in_memory(self, chunk: bytes) -> None:
        archive = Archive(entries=(data_of(20),), blocks=(Block(20, (chunk,) * (4_000_000 // len(chunk))),))
        data = memoryview(archive.encode())
        reader = ArchiveReader()
        tracemalloc.start()
        for start in range(0, len(data), 60_000):
            reader.feed(data[start : start + 60_000])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        reader.close()
        assert peak < 500_000

    def test_a_leap_second(self) -> None:
        assert read(replace(WHOLE, time=(60, 59, 23, 31, 11, 126, 0)).encode()).created.second == 59

    def test_an_unnamed_owner_is_the_empty_string(self) -> None:
        entry = replace(TABLE, owner=None)  # type: ignore[arg-type]
        assert read(Archive(entries=(entry,)).encode()).entries[0].owner == ""


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
pieces_of_data = st.lists(st.binary(min_size=1, max_size=40), max_size=5).map(tuple)


@st.composite
def archives(draw: st.DrawFn) -> Archive:
    entries: list[Entry] = [ENCODING]
    blocks: list[Block | LargeObjects] = []
    for dump_id in draw(st.lists(st.integers(2, 2**31 - 1), unique=True, max_size=6)):
        kind = draw(st.sampled_from(["TABLE", "TABLE DATA", "BLOBS"]))
        entries.append(
            Entry(
                dump_id,
                kind,
                draw(names),
                had_dumper=kind != "TABLE",
                section=draw(st.sampled_from(Section)),
                defn=draw(st.none() | names),
                namespace=draw(st.none() | names),
                relkind=draw(st.sampled_from(["", "r", "m"])),
                owner=draw(names),
                dependencies=tuple(draw(st.lists(st.integers(1, 99), max_size=3))),
            )
        )
        if kind == "TABLE DATA":
            blocks.append(Block(dump_id, draw(pieces_of_data)))
        elif kind == "BLOBS":
            oids = draw(st.lists(st.integers(1, 2**32 - 1), max_size=3))
            blocks.append(LargeObjects(dump_id, tuple((oid, draw(pieces_of_data)) for oid in oids)))
    version = draw(st.sampled_from(VERSIONS))
    return Archive(version=version, entries=entries, blocks=blocks, dbname=draw(names))


class TestAnyPieces:
    @given(archives(), st.lists(st.integers(0, 60)))
    def test_pieces_do_not_matter(self, archive: Archive, sizes: list[int]) -> None:
        data = archive.encode()
        head = read(data, sizes)
        assert head == read(data)
        assert head.length == len(archive.head)
        assert head.dbname == archive.dbname
        for entry, written in zip(head.entries, archive.entries, strict=True):
            assert entry.dump_id == written.dump_id
            assert (entry.tag, entry.desc, entry.defn) == (written.tag, written.desc, written.defn)
            assert (entry.namespace, entry.owner) == (written.namespace, written.owner)
            assert entry.dependencies == written.dependencies
            assert entry.relkind == (written.relkind if archive.version >= (1, 16, 0) else "")

    @given(archives(), st.lists(st.integers(0, 60)), st.data())
    def test_no_beginning_of_an_archive_passes(self, archive: Archive, sizes: list[int], data: Any) -> None:
        whole = archive.encode()
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(ArchiveError) as raised:
            read(whole[:cut], sizes)
        assert raised.value.offset == cut

    @given(st.binary(max_size=200), st.binary(max_size=200))
    @example(b"PGDMP\x01\x10\x00\x04\x08\x01\x00", b"")
    def test_nonsense_is_refused_in_words(self, beginning: bytes, end: bytes) -> None:
        for data in (beginning, WHOLE.header + beginning, WHOLE.head + beginning + end):
            error = error_of(data)
            assert error is None or 0 <= error.offset <= len(data)

    @given(st.integers(0, len(WHOLE.encode()) - 1), st.integers(1, 255))
    def test_one_wrong_byte_never_breaks_the_reader(self, place: int, change: int) -> None:
        data = bytearray(WHOLE.encode())
        data[place] ^= change
        error = error_of(bytes(data))
        assert error is None or 0 <= error.offset <= len(data)


class TestTruncation:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_every_truncation_is_detected(self, version: tuple[int, int, int]) -> None:
        whole = replace(WHOLE, version=version).encode()
        read(whole)
        for length in range(len(whole)):
            with pytest.raises(ArchiveError) as raised:
                read(whole[:length])
            assert raised.value.offset == length
            assert "empty" in str(raised.value) if length == 0 else f"ends at byte {length}," in str(raised.value)

    def test_empty(self) -> None:
        assert str(complaint(b"")) == "The archive is empty."

    def test_nothing_was_fed(self) -> None:
        with pytest.raises(ArchiveError, match="is empty"):
            ArchiveReader().close()

    @pytest.mark.parametrize("length", [3, 40])
    def test_in_the_header(self, length: int) -> None:
        assert str(complaint(WHOLE.encode()[:length])) == f"The archive ends at byte {length}, within its header."

    def test_before_the_table_of_contents(self) -> None:
        length = len(WHOLE.header)
        assert str(complaint(WHOLE.header)) == f"The archive ends at byte {length}, within its table of contents."

    def test_in_the_table_of_contents(self) -> None:
        length = len(replace(WHOLE, entries=WHOLE.entries[:2]).head) + 9
        assert str(complaint(WHOLE.encode()[:length])) == (
            f"The archive ends at byte {length}, within its table of contents, after 2 of 7 entries."
        )

    def test_before_the_data(self) -> None:
        assert str(complaint(WHOLE.head)) == (
            f"The archive ends at byte {len(WHOLE.head)}, before the data of TABLE DATA public.a (entry 20),"
            " after 0 of 3 blocks of data."
        )

    def test_between_two_blocks(self) -> None:
        data = replace(WHOLE, blocks=WHOLE.blocks[:1]).encode()
        assert str(complaint(data)) == (
            f"The archive ends at byte {len(data)}, before the data of TABLE DATA public.b (entry 21),"
            " after 1 of 3 blocks of data."
        )

    def test_in_a_block(self) -> None:
        data = replace(WHOLE, blocks=WHOLE.blocks[:2]).encode()[:-50]
        assert str(complaint(data)) == (
            f"The archive ends at byte {len(data)}, within the data of TABLE DATA public.b (entry 21),"
            " after 1 of 3 blocks of data."
        )

    def test_in_the_large_objects(self) -> None:
        data = WHOLE.encode()[:-5]
        assert str(complaint(data)) == (
            f"The archive ends at byte {len(data)}, within the data of BLOBS BLOBS (entry 30),"
            " after 2 of 3 blocks of data."
        )


class TestWrongHeads:
    def test_a_plain_dump(self) -> None:
        error = complaint(b"--\n-- PostgreSQL database dump\n--\n")
        assert "not a pg_dump archive in custom format" in str(error)
        assert error.offset == 0

    @pytest.mark.parametrize("beginning", [b"X", b"PGX", b"PGDM "])
    def test_what_cannot_become_an_archive_is_refused_at_once(self, beginning: bytes) -> None:
        with pytest.raises(ArchiveError, match="not a pg_dump archive"):
            ArchiveReader().feed(beginning)

    @pytest.mark.parametrize(
        ("archive", "words"),
        [
            (Archive(version=(1, 13, 0)), "version is 1.13.0"),
            (Archive(version=(1, 17, 0)), "version is 1.17.0"),
            (Archive(version=(1, 16, 1)), "version is 1.16.1"),
            (Archive(version=(2, 0, 0)), "version is 2.0.0"),
            (Archive(sizes=(8, 8)), "integers have 8 bytes"),
            (Archive(sizes=(4, 4)), "offsets have 4 bytes"),
            (Archive(format=3), r"format is 3, not 1 \(custom\)"),
            (Archive(compression=4), "compression algorithm 4 is unknown"),
            (Archive(version=(1, 14, 0), compression=10), "compression level is 10"),
            (Archive(time=(0, 0, 0, 31, 1, 126, 0)), "creation time is not valid"),
            (Archive(time=(0, 0, 0, 1, 1, 2**31 - 1, 0)), "creation time is not valid"),
            (Archive(count=-1), "has -1 entries"),
            (Archive(entries=(Entry(0),)), "has the id 0"),
            (Archive(entries=(Entry(-4),)), "has the id -4"),
            (Archive(entries=(Entry(5), Entry(5))), "two entries have the id 5"),
            (Archive(entries=(Entry(5, tag=None),)), "entry 5 has no name"),  # type: ignore[arg-type]
            (Archive(entries=(Entry(5, section=7),)), "unknown section 7"),
            (Archive(entries=(Entry(5, relkind="\u1234"),)), "relkind 4660"),
            (Archive(entries=(Entry(5, had_dumper=2),)), "neither 0 nor 1"),  # type: ignore[arg-type]
            (Archive(entries=(Entry(5, offset_state=9),)), "unknown state 9"),
            (Archive(entries=(Entry(5, offset_state=1),)), "entry 5 contradicts itself"),
            (Archive(entries=(replace(data_of(5), offset_state=3),)), "entry 5 contradicts itself"),
        ],
    )
    def test_is_refused(self, archive: Archive, words: str) -> None:
        error = complaint(archive)
        with pytest.raises(ArchiveError, match=words):
            raise error
        assert str(error).startswith(f"At byte {error.offset} ")

    def test_bytes_that_are_no_number(self) -> None:
        data = bytearray(Archive(entries=(Entry(5),)).encode())
        data[len(Archive().header)] = 7
        assert "expected a number" in str(complaint(bytes(data)))

    def test_an_oid_that_is_no_number(self) -> None:
        data = Archive(entries=(Entry(5),)).encode().replace(b"16384", b"1638x")
        assert "expected a number, found b'1638x'" in str(complaint(data))

    def test_an_oid_of_more_digits_than_python_reads(self) -> None:
        digits = b"9" * 5000
        data = Archive(entries=(Entry(5),)).encode().replace(string("16384"), integer(len(digits)) + digits)
        assert "expected a number, found 5000 digits" in str(complaint(data))

    def test_tables_with_oids(self) -> None:
        data = Archive(entries=(Entry(5),)).encode().replace(string("false"), string("true"))
        assert "b'true' in its obsolete WITH OIDS" in str(complaint(data))

    def test_a_string_of_negative_length(self) -> None:
        data = Archive(entries=(Entry(5),)).encode().replace(string("1259"), integer(-2))
        assert "a string has the length -2" in str(complaint(data))

    def test_a_head_beyond_the_limit(self) -> None:
        data = Archive(entries=(Entry(5, defn="x" * 1000),)).encode()
        reader = ArchiveReader(head_limit=500)
        with pytest.raises(ArchiveError, match="exceeds the limit of 500 bytes"):
            reader.feed(data[:400])  # the string's length is enough to know

    def test_an_error_lasts(self) -> None:
        reader = ArchiveReader()
        with pytest.raises(ArchiveError) as first:
            reader.feed(b"nonsense")
        with pytest.raises(ArchiveError) as second:
            reader.feed(WHOLE.encode())
        with pytest.raises(ArchiveError) as last:
            reader.close()
        assert first.value is second.value is last.value
        assert reader.position == len(b"nonsense")


class TestWrongBlocks:
    def test_flipped_order(self) -> None:
        error = complaint(replace(WHOLE, blocks=(WHOLE.blocks[1], WHOLE.blocks[0], WHOLE.blocks[2])))
        assert str(error) == (
            f"At byte {len(WHOLE.head)}, where the data of TABLE DATA public.a (entry 20) should begin, the archive holds the data"
            " of TABLE DATA public.b (entry 21): blocks are missing or out of order."
        )
        assert error.offset == len(WHOLE.head)

    @pytest.mark.parametrize("missing", [0, 1])
    def test_a_missing_block(self, missing: int) -> None:
        blocks = [block for index, block in enumerate(WHOLE.blocks) if index != missing]
        assert "blocks are missing or out of order" in str(complaint(replace(WHOLE, blocks=blocks)))

    def test_the_last_block_is_missing(self) -> None:
        assert "after 2 of 3 blocks" in str(complaint(replace(WHOLE, blocks=WHOLE.blocks[:2])))

    def test_a_block_twice(self) -> None:
        error = complaint(replace(WHOLE, blocks=(WHOLE.blocks[0], WHOLE.blocks[0])))
        assert "holds the data of TABLE DATA public.a (entry 20) again" in str(error)

    @pytest.mark.parametrize("dump_id", [99, -20, TABLE.dump_id])
    def test_a_block_that_no_entry_announces(self, dump_id: int) -> None:
        error = complaint(replace(WHOLE, blocks=(Block(dump_id),)))
        assert f"a block for entry {dump_id}, which is not in the table of contents" in str(error)

    def test_an_unknown_kind_of_block(self) -> None:
        data = WHOLE.head + b"\x02" + WHOLE.blocks[0].encode()[1:]
        assert "should begin: 2 does not start a data block" in str(complaint(data))

    def test_table_data_where_large_objects_should_be(self) -> None:
        error = complaint(Archive(entries=(LARGE_OBJECT_DATA,), blocks=(Block(30),)))
        assert "BLOBS BLOBS (entry 30) holds table data" in str(error)

    def test_large_objects_where_table_data_should_be(self) -> None:
        error = complaint(Archive(entries=(data_of(20),), blocks=(LargeObjects(20),)))
        assert "public.t (entry 20) holds large objects" in str(error)

    def test_a_block_that_is_not_where_the_table_of_contents_says(self) -> None:
        entry = replace(data_of(20), offset_state=2, data_position=7)
        assert "says byte 7" in str(complaint(Archive(entries=(entry,), blocks=(Block(20),))))

    def test_a_chunk_of_negative_length(self) -> None:
        head = Archive(entries=(data_of(20),)).head
        error = complaint(head + b"\x01" + integer(20) + integer(2) + b"ab" + integer(-3))
        assert "not a valid chunk length" in str(error)
        assert error.offset == len(head) + 6 + 7

    @pytest.mark.parametrize("archive", [WHOLE, Archive(entries=(ENCODING,))])
    def test_bytes_after_the_end(self, archive: Archive) -> None:
        whole = archive.encode()
        error = complaint(whole + b"\0")
        assert str(error) == f"The archive is complete at byte {len(whole)}, but more bytes follow."
        assert error.offset == len(whole)

    def test_a_second_archive_after_the_first(self) -> None:
        assert "more bytes follow" in str(complaint(WHOLE.encode() * 2))


# PostgreSQL's documentation, "Character Set Support".
POSTGRESQL_ENCODINGS = [
    *("BIG5", "EUC_CN", "EUC_JP", "EUC_JIS_2004", "EUC_KR", "EUC_TW", "GB18030", "GBK", "JOHAB", "KOI8R", "KOI8U"),
    *("MULE_INTERNAL", "SJIS", "SHIFT_JIS_2004", "SQL_ASCII", "UHC", "UTF8", "WIN866", "WIN874"),
    *(f"LATIN{number}" for number in range(1, 11)),
    *(f"ISO_8859_{part}" for part in range(5, 9)),
    *(f"WIN{page}" for page in range(1250, 1259)),
]


class TestEncodings:
    @pytest.mark.parametrize(
        ("encoding", "codec"),
        [("UTF8", "utf-8"), ("LATIN1", "latin-1"), ("LATIN9", "iso8859-15"), ("WIN1252", "cp1252")],
    )
    def test_names_are_text(self, encoding: str, codec: str) -> None:
        head = read(
            Archive(
                dbname="café".encode(codec),
                entries=(
                    replace(ENCODING, defn=f"SET client_encoding = '{encoding}';\n"),
                    replace(TABLE, tag="größe".encode(codec)),
                ),
            ).encode()
        )
        assert head.encoding == encoding
        assert (head.dbname, head.entries[1].tag) == ("café", "größe")

    @pytest.mark.parametrize("encoding", ["SQL_ASCII", "EUC_TW", "MULE_INTERNAL"])
    def test_bytes_that_nobody_can_name_are_kept(self, encoding: str) -> None:
        entries = (
            replace(ENCODING, defn=f"SET client_encoding = '{encoding}';\n"),
            replace(TABLE, tag=b"gr\xf6\xdfe"),
        )
        head = read(Archive(entries=entries).encode())
        assert head.entries[1].tag.encode("utf-8", "surrogateescape") == b"gr\xf6\xdfe"

    @pytest.mark.parametrize("encoding", POSTGRESQL_ENCODINGS)
    def test_every_encoding_that_postgresql_knows(self, encoding: str) -> None:
        entries = (replace(ENCODING, defn=f"SET client_encoding = '{encoding}';\n"), replace(TABLE, tag=b"plain \xff"))
        head = read(Archive(entries=entries).encode())
        assert head.encoding == encoding
        assert head.entries[1].tag.startswith("plain ")

    def test_without_a_word_on_it(self) -> None:
        assert read(Archive().encode()).encoding == "SQL_ASCII"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def head_of(*entries: Entry) -> ArchiveHead:
    return read(Archive(entries=(ENCODING, STDSTRINGS, *entries)).encode())


OPTIONS = "WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = icu LOCALE = 'C' ICU_LOCALE = 'x ; WITH y'"
odd_names = [
    '"',
    '" WITH TEMPLATE = x',
    "a WITH b",
    "Größe",
    "with",
    "a\nb",
    "'",
    "-x",
    "$1 \\1 {0}",
    "DATABASE",
]


class TestCreateDatabase:
    @pytest.mark.parametrize("old", ["shop", *map(quoted, odd_names)])
    @pytest.mark.parametrize("new", ["shop", *odd_names])
    def test_any_name_becomes_any_other(self, old: str, new: str) -> None:
        head = head_of(replace(DATABASE, defn=f"CREATE DATABASE {old} {OPTIONS};\n"))
        assert head.definition.create(new) == f"CREATE DATABASE {quoted(new)} {OPTIONS};"

    def test_with_an_owner(self) -> None:
        sql = head_of(DATABASE).definition.create("new", owner='o"p')
        assert sql == (
            'CREATE DATABASE "new" WITH TEMPLATE = template0 ENCODING = \'UTF8\' LOCALE = \'C\' OWNER = "o""p";'
        )

    def test_the_archive_does_not_say_how(self) -> None:
        with pytest.raises(ArchiveError, match="does not say how its database was created"):
            head_of(TABLE).definition  # noqa: B018

    def test_closed_to_all_but_superusers(self) -> None:
        assert head_of(DATABASE).definition.create("new", closed=True).endswith(" LOCALE = 'C' CONNECTION LIMIT = 0;")

    @pytest.mark.parametrize(
        "defn",
        [
            None,
            "CREATE DATABASE a b;",
            'CREATE DATABASE "a WITH TEMPLATE = x;',
            f"CREATE DATABASE a {OPTIONS}",
            f"CREATE DATABASE a {OPTIONS}; DROP DATABASE b;",
            f"CREATE DATABASE a {OPTIONS} -- x\n;",
            f"CREATE DATABASE a {OPTIONS}\n\\! id\n;",
            f"CREATE DATABASE a {OPTIONS} LOCALE = 'D';",
            f"CREATE DATABASE a {OPTIONS} TABLESPACE = a TABLESPACE = b;",
            f"CREATE DATABASE a {OPTIONS} TABLESPACE = ;",
            f"CREATE DATABASE a {OPTIONS} TABLESPACE = 'a';",
            f"CREATE DATABASE a {OPTIONS} OWNER = postgres;",
            f"CREATE DATABASE a {OPTIONS} STRATEGY = 'file_copy';",
            f"CREATE DATABASE a {OPTIONS} COLLATION_VERSION = :x;",
            f"CREATE DATABASE a {OPTIONS} COLLATION_VERSION = x;",
            f"CREATE DATABASE a {OPTIONS} COLLATION_VERSION = 1;",
            f"CREATE DATABASE a {OPTIONS} COLLATION_VERSION = '1' '2';",
            f"CREATE DATABASE a {OPTIONS} COLLATION_VERSION '1';",
            f"CREATE DATABASE a {OPTIONS} COLLATION_VERSION = '1' COLLATION_VERSION = '2';",
            f"CREATE DATABASE a {OPTIONS} collation_version = '1';",
            f"CREATE DATABASE a {OPTIONS} \"COLLATION\" = '1';",
            f"CREATE DATABASE a {OPTIONS} COLLATION2 = '1';",
            f"CREATE DATABASE a {OPTIONS} ÄÖ = '1';",
            f"CREATE DATABASE a {OPTIONS} {'X' * 42} = '1';",
            f"CREATE DATABASE a {OPTIONS} X = '1';",
            f"CREATE DATABASE a {OPTIONS} TEMPLATE = 'evil';",
            f"CREATE DATABASE a {OPTIONS} OWNER = 'postgres';",
            f"CREATE DATABASE a {OPTIONS} OID = '1';",
            f"CREATE DATABASE a {OPTIONS} IS_TEMPLATE = 'true';",
            f"CREATE DATABASE a {OPTIONS} ALLOW_CONNECTIONS = 'false';",
            f"CREATE DATABASE a {OPTIONS} CONNECTION LIMIT = '5';",
            f"CREATE DATABASE a {OPTIONS} CONNECTION = '5';",
            "CREATE DATABASE a WITH TEMPLATE = template1;",
            "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = UTF8;",
            "CREATE DATABASE a WITH TEMPLATE = template0 LOCALE_PROVIDER = 'libc';",
            "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = 'a\0b';",
            "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = E'\\x41';",
            "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = $$UTF8$$;",
            "CREATE DATABASE a WITH TEMPLATE = template0 ENCODING = 'a'",
        ],
    )
    def test_a_statement_that_pg_dump_does_not_write(self, defn: str | None) -> None:
        with pytest.raises(ArchiveError, match=r"^The archive's CREATE DATABASE statement cannot be parsed: .*\.$"):
            head_of(replace(DATABASE, defn=defn)).definition  # noqa: B018

    def test_what_stands_in_it_stands_in_quotes_of_ours(self) -> None:
        options = r"WITH TEMPLATE = template0 ENCODING = 'U\! '' :x' ICU_RULES = E'\\ \' '' x'"
        sql = head_of(replace(DATABASE, defn=f"CREATE DATABASE a {options};")).definition.create("b")
        assert sql == (
            r"""CREATE DATABASE "b" WITH TEMPLATE = template0 ENCODING = E'U\\! '' :x' ICU_RULES = E'\\ '' '' x';"""
        )

    @pytest.mark.parametrize("value", ["2.36", "it''s", "'; DROP DATABASE b; --'", r"\! id", ":x", "a\nb", "X = 'y'"])
    def test_an_option_of_a_release_to_come_is_written_anew(self, value: str) -> None:
        value = value.replace("'", "''")
        options = f"{OPTIONS} COLLATION_VERSION = '{value}' NEW_THING = 'x'"
        sql = head_of(replace(DATABASE, defn=f"CREATE DATABASE a {options};")).definition.create("b")
        ours = f"E'{value}'".replace("\\", "\\\\") if "\\" in value else f"'{value}'"
        assert sql == f"CREATE DATABASE \"b\" {OPTIONS} COLLATION_VERSION = {ours} NEW_THING = 'x';"


class TestTablespaces:
    @pytest.mark.parametrize(("sql", "name"), [("fast", "fast"), ('"fast ; ""Disk"" x"', 'fast ; "Disk" x')])
    def test_the_databases_own(self, sql: str, name: str) -> None:
        head = head_of(replace(DATABASE, defn=f"CREATE DATABASE shop {OPTIONS} TABLESPACE = {sql};\n"))
        assert head.database_tablespace == name
        assert head.definition.create("new") == f'CREATE DATABASE "new" {OPTIONS} TABLESPACE = {quoted(name)};'
        assert head.definition.create("new", with_tablespace=False) == f'CREATE DATABASE "new" {OPTIONS};'
        assert head.definition.create("new", owner="o", with_tablespace=False) == (
            f'CREATE DATABASE "new" {OPTIONS} OWNER = "o";'
        )

    @pytest.mark.parametrize("locale", ["C", "x TABLESPACE = y", 'x TABLESPACE = "y"'])
    def test_none(self, locale: str) -> None:
        options = f"WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = '{locale}'"
        head = head_of(replace(DATABASE, defn=f"CREATE DATABASE shop {options};\n"))
        assert head.database_tablespace is None
        assert head.tablespaces == frozenset()
        assert head.definition.create("new", with_tablespace=False) == f'CREATE DATABASE "new" {options};'

    def test_all_of_them(self) -> None:
        database = replace(DATABASE, defn=f"CREATE DATABASE shop {OPTIONS} TABLESPACE = fast;\n")
        index = Entry(12, "INDEX", "i", tablespace="")
        head = head_of(database, replace(TABLE, tablespace="big"), Entry(11, "INDEX", "j", tablespace="big"), index)
        assert head.tablespaces == {"fast", "big"}


def sequence_set(defn: str | None, tag: str = "orders_id_seq", namespace: str = "public") -> Entry:
    return Entry(40, "SEQUENCE SET", tag, section=Section.DATA, namespace=namespace, defn=defn)


class TestWhatIsToBeExpected:
    def test_extensions(self) -> None:
        entries = (
            Entry(5, "EXTENSION", "uuid-ossp", namespace=None, owner=""),
            Entry(6, "EXTENSION", "hstore", namespace=None, owner=""),
            Entry(7, "COMMENT", "EXTENSION hstore", namespace=None, owner=""),
        )
        assert head_of(*entries).extensions == ("uuid-ossp", "hstore")
        assert head_of().extensions == ()

    def test_owners(self) -> None:
        entries = (replace(DATABASE, owner="boss"), TABLE, Entry(5, "EXTENSION", "hstore", owner=""))
        assert read(Archive(entries=(ENCODING, *entries)).encode()).owners == {"boss", "app"}

    def test_the_number_of_what_follows_the_data(self) -> None:
        entries = (TABLE, *(Entry(number, "INDEX", "i", section=Section.POST_DATA) for number in (50, 51)))
        assert head_of(*entries).post_data == PostData(at_once=(50, 51), in_order=())
        assert head_of(*entries).post_data.count == 2

    def test_what_locks_partitions_of_others_waits_for_the_rest(self) -> None:
        """See ALTER INDEX ... ATTACH PARTITION and foreign keys to partitioned tables in ``ArchiveHead.post_data``."""
        view = Entry(50, "MATERIALIZED VIEW", "v", section=Section.POST_DATA)
        after = (
            ("INDEX", 51, (4,)), ("INDEX", 52, (50,)), ("CONSTRAINT", 54, (51,)),
            ("INDEX ATTACH", 55, (51, 54)), ("FK CONSTRAINT", 56, (54, 55)), ("CONSTRAINT", 57, (52,)),
        )  # fmt: skip
        entries = [Entry(n, desc, "x", section=Section.POST_DATA, dependencies=needs) for desc, n, needs in after]
        post_data = head_of(TABLE, view, *entries).post_data
        assert post_data == PostData(at_once=(51, 54), in_order=(50, 52, 55, 56, 57))

    def test_a_comment_is_of_the_section_that_it_stands_in(self) -> None:
        on_table = Entry(40, "COMMENT", "TABLE t", section=Section.NONE, dependencies=(1,))
        index = Entry(50, "INDEX", "i", section=Section.POST_DATA)
        on_index = Entry(51, "COMMENT", "INDEX i", section=Section.NONE, dependencies=(50,))
        attach = Entry(52, "INDEX ATTACH", "i", section=Section.POST_DATA)
        assert head_of(TABLE, on_table, index, on_index).post_data == PostData((50, 51), ())
        assert head_of(TABLE, on_table, index, on_index, attach).post_data == PostData((50,), (51, 52))

    def test_a_partitioned_table_without_an_index_counts_as_well(self) -> None:
        attach = Entry(9, "TABLE ATTACH", "p", section=Section.PRE_DATA)
        key = Entry(50, "FK CONSTRAINT", "k", section=Section.POST_DATA)
        assert head_of(TABLE, key).post_data == PostData((50,), ())
        assert head_of(TABLE, attach, key).post_data == PostData((), (50,))

    @pytest.mark.parametrize(
        ("defn", "value"),
        [
            ("SELECT pg_catalog.setval('public.orders_id_seq', 42, true);\n", (42, True)),
            ("SELECT pg_catalog.setval('public.orders_id_seq', 1, false);\n", (1, False)),
            ("SELECT pg_catalog.setval('public.orders_id_seq', -9223372036854775808, true);\n", (-(1 << 63), True)),
            ("SELECT pg_catalog.setval(E'public.\"a\\\\b'', 7, true)\nc\"', 42, false);\n", (42, False)),
        ],
    )
    def test_a_sequences_value(self, defn: str, value: tuple[int, bool]) -> None:
        assert head_of(sequence_set(defn)).sequence_values == {'"public"."orders_id_seq"': value}

    def test_sequences_of_any_name(self) -> None:
        entry = sequence_set("SELECT pg_catalog.setval('x', 2, true);\n", 'Odd ".seq', "S.x")
        assert head_of(entry).sequence_values == {'"S.x"."Odd "".seq"': (2, True)}
        assert head_of(TABLE).sequence_values == {}

    @pytest.mark.parametrize(
        "defn",
        [
            None,
            "SELECT setval('public.orders_id_seq', 1, true);\n",
            f"SELECT pg_catalog.setval('public.orders_id_seq', {'9' * 5000}, true);\n",
        ],
        ids=["none", "another statement", "no value of a sequence"],
    )
    def test_a_statement_that_says_no_value(self, defn: str | None) -> None:
        with pytest.raises(ArchiveError, match=r"the value of SEQUENCE SET public\.orders_id_seq \(entry 40\)"):
            head_of(sequence_set(defn)).sequence_values  # noqa: B018


def properties_of(name: str) -> tuple[str, ...]:
    """All that pg_dump says of a database apart from its creation, text by text; *name* is as it stands in SQL."""
    comment = f"COMMENT ON DATABASE {name} IS 'it''s DATABASE shop \\';\n"
    label = f"SECURITY LABEL FOR dummy ON DATABASE {name} IS 'secret';\n"
    privileges = (
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;\n"
        f'GRANT ALL ON DATABASE {name} TO "DATABASE shop";\n'
        f"REVOKE GRANT OPTION FOR CONNECT,TEMPORARY ON DATABASE {name} FROM app;\n"
        "SET SESSION AUTHORIZATION database;\n"
        f"GRANT CONNECT ON DATABASE {name} TO database WITH GRANT OPTION;\n"
        "RESET SESSION AUTHORIZATION;\n"
    )
    settings = (
        f"ALTER DATABASE {name} CONNECTION LIMIT = 5;\n"
        f"ALTER DATABASE {name} IS_TEMPLATE = true;\n"
        f"ALTER DATABASE {name} SET search_path TO 'shop', 'a b';\n"
        f"ALTER DATABASE {name} SET \"a.b\" TO E'\\\\ '' DATABASE shop';\n"
        f"ALTER ROLE database IN DATABASE {name} SET statement_timeout TO '5s';\n"
    )
    return comment, label, privileges, settings


def anew(name: str) -> tuple[str, ...]:
    """The same as a restore says it, of a database of this name: all names stand in quotes."""
    of = f"DATABASE {quoted(name)}"
    return (
        f"COMMENT ON {of} IS E'it''s DATABASE shop \\\\';",
        f"SECURITY LABEL FOR \"dummy\" ON {of} IS 'secret';",
        f"REVOKE ALL ON {of} FROM PUBLIC;",
        f'GRANT ALL ON {of} TO "DATABASE shop";',
        f'REVOKE GRANT OPTION FOR CONNECT, TEMPORARY ON {of} FROM "app";',
        'SET SESSION AUTHORIZATION "database";',
        f'GRANT CONNECT ON {of} TO "database" WITH GRANT OPTION;',
        "RESET SESSION AUTHORIZATION;",
        f"ALTER {of} CONNECTION LIMIT = 5;",
        f"ALTER {of} IS_TEMPLATE = true;",
        f"ALTER {of} SET \"search_path\" TO 'shop', 'a b';",
        f"ALTER {of} SET \"a.b\" TO E'\\\\ '' DATABASE shop';",
        f'ALTER ROLE "database" IN {of} SET "statement_timeout" TO \'5s\';',
    )


def property_entries(name: str) -> tuple[Entry, ...]:
    comment, label, privileges, settings = properties_of(name)
    return (
        DATABASE,
        Entry(4, "COMMENT", f"DATABASE {name}", defn=comment, section=Section.NONE),
        Entry(5, "SECURITY LABEL", f"DATABASE {name}", defn=label, section=Section.NONE),
        Entry(6, "ACL", f"DATABASE {name}", defn=privileges, section=Section.NONE),
        Entry(7, "DATABASE PROPERTIES", "shop", defn=settings),
        TABLE,
        Entry(11, "COMMENT", "TABLE orders", defn="COMMENT ON TABLE public.orders IS 'x';\n"),
        Entry(12, "ACL", "TABLE orders", defn="GRANT ALL ON TABLE public.orders TO x;\n"),
    )


class TestDatabaseProperties:
    def test_none(self) -> None:
        assert head_of(DATABASE, TABLE).database_properties() == ()

    def test_as_they_were_dumped(self) -> None:
        head = head_of(*property_entries("shop"))
        assert head.database_properties() == anew(head.dbname)
        assert head.unknown_properties == ()

    @pytest.mark.parametrize("old", ["shop", "database", *map(quoted, odd_names)])
    @pytest.mark.parametrize("new", ["shop", *odd_names])
    def test_for_another_name(self, old: str, new: str) -> None:
        assert head_of(*property_entries(old)).database_properties(new) == anew(new)

    def test_backslashes_of_an_old_fashioned_server(self) -> None:
        old = [
            replace(one, defn=(one.defn or "").replace("shop \\'", "shop \\\\'")) for one in property_entries("shop")
        ]
        off = replace(STDSTRINGS, defn="SET standard_conforming_strings = 'off';\n")
        head = read(Archive(entries=(ENCODING, off, *old)).encode())
        assert head.database_properties("shop") == anew("shop"), "since PostgreSQL 19 the setting cannot be off"

    @pytest.mark.parametrize("limit", [-1, 0, 999_999_999, 1_000_000_000, 2**31 - 1])
    def test_a_limit_may_be_as_large_as_a_server_takes(self, limit: int) -> None:
        text = f"ALTER DATABASE shop CONNECTION LIMIT = {limit};"
        head = head_of(DATABASE, Entry(7, "DATABASE PROPERTIES", "shop", defn=text))
        assert head.database_properties() == (f'ALTER DATABASE "shop" CONNECTION LIMIT = {limit};',)

    @pytest.mark.parametrize(
        "text",
        [
            "ALTER DATABASE shop CONNECTION LIMIT = 2147483648;",
            "ALTER DATABASE shop CONNECTION LIMIT = 00000000001;",
            "ALTER DATABASE shop CONNECTION LIMIT = ٣;",
            "ALTER DATABASE shop ALLOW_CONNECTIONS = false;",
            "ALTER DATABASE shop OWNER TO evil;",
            "ALTER DATABASE shop SET x TO 'y' 'z';",
            "ALTER DATABASE shop SET x FROM CURRENT;",
            "ALTER DATABASE shop SET work_mem TO '5MB'\n\\! id\n;",
            "ALTER ROLE evil SET x TO 'y';",
            "ALTER ROLE evil SUPERUSER;",
            "ALTER SYSTEM SET x TO 'y';",
            "UPDATE pg_database SET datname = 'x';",
            "COPY (SELECT 1) TO PROGRAM 'id';",
            "ALTER DATABASE shop SET x TO 'y'",
            "ALTER DATABASE",
            "SET SESSION AUTHORIZATION evil; DROP DATABASE shop;",
        ],
    )
    def test_what_is_not_known_is_told_and_never_run(self, text: str) -> None:
        head = head_of(DATABASE, Entry(7, "DATABASE PROPERTIES", "shop", defn=text))
        assert head.database_properties() == ()
        [told] = head.unknown_properties
        assert told.startswith("DATABASE PROPERTIES ")
        assert "evil" not in told

    def test_one_statement_that_is_not_known_costs_no_other(self) -> None:
        text = (
            "ALTER DATABASE shop CONNECTION LIMIT = 5;\n"
            "ALTER ROLE evil SUPERUSER;\n"
            "ALTER DATABASE shop SET a TO 'b';\n"
            "ALTER DATABASE shop SET NEW FOO TO 'y';\n"
            "ALTER ROLE app IN DATABASE shop SET c TO 'd';\n"
        )
        head = head_of(DATABASE, Entry(7, "DATABASE PROPERTIES", "shop", defn=text))
        assert head.database_properties() == (
            'ALTER DATABASE "shop" CONNECTION LIMIT = 5;',
            'ALTER DATABASE "shop" SET "a" TO \'b\';',
            'ALTER ROLE "app" IN DATABASE "shop" SET "c" TO \'d\';',
        )
        assert len(head.settings) == 2
        assert [told.partition(": ")[0] for told in head.unknown_properties] == [
            "DATABASE PROPERTIES public.shop (entry 7), statement 2", "DATABASE PROPERTIES public.shop (entry 7), statement 4",
        ]  # fmt: skip
        assert "evil" not in "".join(head.unknown_properties)

    def test_who_says_it_is_kept_with_what_is_said(self) -> None:
        """A statement about who speaks that is not understood leaves out all that it may be about."""
        text = (
            "ALTER DATABASE shop SET a TO 'b';\nSET SESSION AUTHORIZATION 'evil';\nALTER DATABASE shop SET c TO 'd';\n"
        )
        head = head_of(DATABASE, Entry(7, "DATABASE PROPERTIES", "shop", defn=text))
        assert head.database_properties() == ()
        assert len(head.unknown_properties) == 1

    @pytest.mark.parametrize(
        "text",
        [
            "GRANT ALL ON DATABASE shop TO evil; ALTER ROLE evil SUPERUSER;",
            "GRANT ALL ON TABLE shop TO evil;",
            "GRANT postgres TO evil;",
            "REVOKE ALL ON DATABASE shop FROM PUBLIC CASCADE;",
            "GRANT SET ON DATABASE shop TO evil;",
        ],
    )
    def test_privileges_that_are_not_known_stop_a_restore(self, text: str) -> None:
        head = head_of(DATABASE, Entry(6, "ACL", "DATABASE shop", defn=text, section=Section.NONE))
        with pytest.raises(
            ArchiveError, match=r"^ACL .*DATABASE shop \(entry 6\) of the archive cannot be parsed: .*\.$"
        ):
            head.database_properties()
