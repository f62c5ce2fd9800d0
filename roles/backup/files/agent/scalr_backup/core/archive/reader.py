# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's custom archive format (``pg_dump -Fc``): the one file that knows it.

``ArchiveReader`` is fed with the bytes of an archive as they pass by. It reads the head (``ArchiveHead``),
and verifies that the archive is whole: pg_dump can die at any byte, and what it wrote until then looks like
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
17 and 18 write 1.16 (each entry has a relkind). Any other version is refused: a guess would turn into a bad
restore.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum, auto
from typing import NamedTuple, NoReturn, TypeAlias

from scalr_backup.core.errors import ScalrBackupError
from scalr_backup.core.sql import quote_identifier, unquote_identifier

VERSIONS = ((1, 14, 0), (1, 15, 0), (1, 16, 0))
# A head grows with the number of tables, indexes and functions, not with their rows; real ones are a few MB.
HEAD_LIMIT = 1 << 30

_MAGIC = b"PGDMP"
_CUSTOM_FORMAT = 1
_COMPRESSIONS = ("none", "gzip", "lz4", "zstd")

_INT = struct.Struct("<BI")
_INT_BYTES = _INT.size
_BLOCK_HEADER_BYTES = 1 + _INT_BYTES

_TABLE_DATA, _LARGE_OBJECTS = 1, 3

# What an entry says of its data's place: unknown (a stream), this offset (a file), no data.
_OFFSET_NOT_SET, _OFFSET_SET, _OFFSET_NO_DATA = 1, 2, 3

_ENCODING = re.compile(r"SET client_encoding = '([^']+)';")
_CREATE_DATABASE = re.compile(r'CREATE DATABASE (?:"(?:[^"]|"")+"|[^\s"]+) (?=WITH )')
# pg_dump writes it as the last option, and only where it is not pg_default.
_DATABASE_TABLESPACE = re.compile(r' TABLESPACE = ("(?:[^"]|"")+"|[^\s"\';]+)\Z')
_SETVAL = re.compile(r"SELECT pg_catalog\.setval\(.*, (-?\d+), (true|false)\);\s*\Z", re.DOTALL)
# Quoted identifiers, string constants, words, and whatever stands between them. pg_dump doubles a quote
# within quotes, also in constants that begin with E.
_SQL_WORD = re.compile(r'"(?:[^"]|"")*"|\'(?:[^\']|\'\')*\'|\w+|.', re.DOTALL)

# Python's names for PostgreSQL's encodings. SQL_ASCII means "unknown", and for EUC_TW and MULE_INTERNAL there
# is no codec: bytes that are no UTF-8 are kept as they are (surrogateescape).
_CODECS = {
    "UTF8": "utf-8",
    "EUC_JP": "euc_jp",
    "EUC_CN": "gb2312",
    "EUC_KR": "euc_kr",
    "EUC_JIS_2004": "euc_jis_2004",
    "SHIFT_JIS_2004": "shift_jis_2004",
    "SJIS": "cp932",
    "BIG5": "cp950",
    "GBK": "gbk",
    "GB18030": "gb18030",
    "UHC": "cp949",
    "JOHAB": "johab",
    "KOI8R": "koi8_r",
    "KOI8U": "koi8_u",
    "WIN866": "cp866",
    "WIN874": "cp874",
    **{f"WIN{page}": f"cp{page}" for page in range(1250, 1259)},
    **{f"ISO_8859_{part}": f"iso8859_{part}" for part in (5, 6, 7, 8)},
    **{f"LATIN{number}": f"iso8859_{part}" for number, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15, 16), start=1)},
}
_FALLBACK_CODEC = "utf-8"

# What makes a partition of a table or of an index, and what locks no other tables than one and its partitions.
_ATTACHMENTS = frozenset({"TABLE ATTACH", "INDEX ATTACH"})
_OF_ONE_TABLE = frozenset({"INDEX", "CONSTRAINT"})


Bytes: TypeAlias = bytes | bytearray | memoryview


class ArchiveError(ScalrBackupError):
    """What came is not a whole archive that this software knows; says what is wrong, and at which byte."""

    code = "unreadable_archive"

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class Section(IntEnum):
    """The part of a restore that an entry belongs to."""

    NONE = 1
    PRE_DATA = 2
    DATA = 3
    POST_DATA = 4


@dataclass(frozen=True, slots=True)
class TocEntry:
    """One entry of the table of contents: an object, a property of an object, or the data of one.

    ``tableoid`` and ``oid`` name the object in the system catalogs. ``relkind`` is empty before version 1.16
    and for what is no relation. ``data_position`` is known only of an archive that pg_dump wrote to a file.
    """

    dump_id: int
    had_dumper: bool
    tableoid: int
    oid: int
    tag: str
    desc: str
    section: Section
    defn: str | None
    drop_stmt: str | None
    copy_stmt: str | None
    namespace: str | None
    tablespace: str | None
    tableam: str | None
    relkind: str
    owner: str
    dependencies: tuple[int, ...]
    data_position: int | None

    @property
    def label(self) -> str:
        """The entry in a sentence, such as ``TABLE DATA public.orders (entry 3412)``."""
        name = f"{self.namespace}.{self.tag}" if self.namespace else self.tag
        return f"{self.desc} {name} (entry {self.dump_id})"


@dataclass(frozen=True, slots=True)
class PostData:
    """The dump IDs of what is made after the data: indexes, keys, triggers, rules, policies and the like.

    What may be made *at_once*, by several jobs, comes first; the rest follows *in_order*, by one.
    """

    at_once: tuple[int, ...]
    in_order: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.at_once) + len(self.in_order)


@dataclass(frozen=True, slots=True)
class ArchiveHead:
    """What an archive says of itself before its data.

    ``created`` is in the time zone of the machine where pg_dump ran, which the archive does not name.
    ``length`` is the number of bytes of header and TOC; data begins there.
    """

    version: tuple[int, int, int]
    compression: str
    created: datetime
    dbname: str
    server_version: str
    pg_dump_version: str
    entries: tuple[TocEntry, ...]
    length: int

    @property
    def data_entries(self) -> tuple[TocEntry, ...]:
        """The entries that have a block of data, in the order of the blocks."""
        return tuple(entry for entry in self.entries if entry.had_dumper)

    @property
    def encoding(self) -> str:
        """PostgreSQL's name of the encoding of the archive's text.

        It is the database's, unless pg_dump was told another.
        """
        for entry in self.entries:
            if entry.desc == "ENCODING":
                return _encoding_of(entry)
        return "SQL_ASCII"

    @property
    def database_entry(self) -> TocEntry:
        """The entry that creates the database; pg_dump records it in every custom archive."""
        for entry in self.entries:
            if entry.desc == "DATABASE":
                return entry
        raise ArchiveError("The archive's table of contents does not say how its database was created.", self.length)

    @property
    def extensions(self) -> tuple[str, ...]:
        """The names of the extensions that a restore creates, in the order of their creation.

        Those of ``template0``, which is plpgsql, are not among them.
        """
        return tuple(entry.tag for entry in self.entries if entry.desc == "EXTENSION")

    @property
    def owners(self) -> frozenset[str]:
        """The roles that own something in the archive, the database itself included."""
        return frozenset(entry.owner for entry in self.entries if entry.owner)

    @property
    def post_data(self) -> PostData:
        """What is made after the data, and what of it by several jobs.

        pg_restore's jobs know which tables two statements name, but not that one of them locks the partitions of
        its table as well (``identify_locking_dependencies`` in PostgreSQL's pg_backup_archiver.c): a foreign key to
        a partitioned table and an ``ALTER INDEX ... ATTACH PARTITION`` end in a deadlock if they meet. So where
        there are partitions, only what locks a single table, or its partitions below it, is made at once.
        """
        entries = self._after_the_data()
        if not any(entry.desc in _ATTACHMENTS for entry in self.entries):
            return PostData(at_once=tuple(entry.dump_id for entry in entries), in_order=())
        in_order: dict[int, None] = {}
        for entry in entries:
            # An index of a materialized view that is itself made after the data has to wait for it.
            if entry.desc not in _OF_ONE_TABLE or not in_order.keys().isdisjoint(entry.dependencies):
                in_order[entry.dump_id] = None
        at_once = tuple(entry.dump_id for entry in entries if entry.dump_id not in in_order)
        return PostData(at_once, tuple(in_order))

    @property
    def sequence_values(self) -> dict[str, tuple[int, bool]]:
        """For each sequence, its last value and whether it was handed out (``last_value``, ``is_called``).

        The keys are quoted like those of a manifest's row counts, ``"schema"."name"``.
        """
        return {
            f"{quote_identifier(entry.namespace or '')}.{quote_identifier(entry.tag)}": self._sequence_value(entry)
            for entry in self.entries
            if entry.desc == "SEQUENCE SET"
        }

    @property
    def database_tablespace(self) -> str | None:
        """The tablespace that was the database's default; None where it was ``pg_default``."""
        found = _DATABASE_TABLESPACE.search(self._database_options())
        return unquote_identifier(found.group(1)) if found else None

    @property
    def tablespaces(self) -> frozenset[str]:
        """Every tablespace that a restore asks for, by the database itself or by a table or an index."""
        named = {entry.tablespace for entry in self.entries} | {self.database_tablespace}
        return frozenset(name for name in named if name)

    def create_database_sql(self, new_name: str, owner: str | None = None, *, with_tablespace: bool = True) -> str:
        """The statement that creates an empty database like the archive's: same encoding, locale, tablespace.

        *owner* is the role that will own it; without it, the role that runs the statement. The owner of the
        dumped database is ``database_entry.owner``. Where ``database_tablespace`` does not exist, the statement
        works *with_tablespace* false: the database then lies where the server puts it by default.
        """
        options = self._database_options()
        if not with_tablespace:
            options = _DATABASE_TABLESPACE.sub("", options)
        if owner is not None:
            options += f" OWNER = {quote_identifier(owner)}"
        return f"CREATE DATABASE {quote_identifier(new_name)} {options};"

    def database_properties(self, name: str | None = None) -> tuple[str, ...]:
        """SQL texts that give the database its comment, security labels, privileges and settings.

        They are to be run by a superuser when the database stands under its final name and has its owner.
        They name the database as it was called when it was dumped, or *name*.
        """
        texts = [entry.defn for entry in self.entries if entry.defn and _is_database_property(entry)]
        if name is not None:
            texts = [_rename_database(text, name) for text in texts]
        if texts and not self._standard_conforming_strings:
            # Constants with backslashes were written for a server that is set like this.
            texts = [
                "SET standard_conforming_strings = off;\n",
                *texts,
                "RESET standard_conforming_strings;\n",
            ]
        return tuple(texts)

    def _after_the_data(self) -> list[TocEntry]:
        """The entries of the last section; comments and the like are of the section that they stand in.

        So it is to pg_restore, see ``_tocEntryRequired`` and its callers in PostgreSQL's pg_backup_archiver.c.
        """
        section, found = Section.PRE_DATA, []
        for entry in self.entries:
            section = section if entry.section is Section.NONE else entry.section
            if section is Section.POST_DATA:
                found.append(entry)
        return found

    def _database_options(self) -> str:
        """What the archive's CREATE DATABASE says after the database's name."""
        defn = self.database_entry.defn or ""
        beginning = _CREATE_DATABASE.match(defn)
        if beginning is None:
            raise ArchiveError(f"The archive's statement that creates its database reads {defn!r}.", self.length)
        return defn[beginning.end() :].rstrip().removesuffix(";")

    def _sequence_value(self, entry: TocEntry) -> tuple[int, bool]:
        found = _SETVAL.match(entry.defn or "")
        if found is None:
            raise ArchiveError(f"The archive does not say which value {entry.label} had.", self.length)
        return int(found.group(1)), found.group(2) == "true"

    @property
    def _standard_conforming_strings(self) -> bool:
        return not any(entry.desc == "STDSTRINGS" and "'off'" in (entry.defn or "") for entry in self.entries)


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
        self._head_parser: _HeadParser | None = _HeadParser(head_limit)
        self._head: ArchiveHead | None = None
        self._head_bytes: bytes | None = None
        self._blocks: tuple[TocEntry, ...] = ()
        self._finished_blocks = 0
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

    def _read_head(self, parser: _HeadParser, data: Bytes) -> None:
        head = parser.feed(data)
        if head is None:
            return
        self._head = head
        self._head_bytes = bytes(parser.buffer[: head.length])
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
                        f"At byte {offset}, in the data of {self._block.label},"
                        " stands something that is not the length of a chunk.",
                        offset,
                    )
                position += _INT_BYTES
                self._end_chunks()
            elif self._stage is _Stage.LARGE_OBJECT:
                if size - position < _INT_BYTES:
                    return position
                _sign, oid = _INT.unpack_from(data, position)  # oids above 2^31 are written as negative ints
                position += _INT_BYTES
                if oid:
                    self._stage = _Stage.CHUNK
                else:
                    self._end_block()
            elif self._stage is _Stage.BLOCK:
                if size - position < _BLOCK_HEADER_BYTES:
                    return position
                sign, dump_id = _INT.unpack_from(data, position + 1)
                self._begin_block(data[position], -dump_id if sign else dump_id, self._offset_of(data, position))
                position += _BLOCK_HEADER_BYTES
            else:
                offset = self._offset_of(data, position)
                raise ArchiveError(
                    f"The archive is complete at byte {offset}, but bytes of something else follow.", offset
                )
        return position

    def _offset_of(self, data: Bytes, position: int) -> int:
        """The place in the archive of a position in *data*, which holds the last bytes that were fed."""
        return self._fed - len(data) + position

    def _begin_block(self, kind: int, dump_id: int, offset: int) -> None:
        entry = self._block
        wanted_kind = _LARGE_OBJECTS if entry.desc == "BLOBS" else _TABLE_DATA
        if kind not in (_TABLE_DATA, _LARGE_OBJECTS):
            raise ArchiveError(
                f"At byte {offset}, where the data of {entry.label} should begin,"
                f" stands {kind}, which begins no block of data.",
                offset,
            )
        if dump_id != entry.dump_id:
            raise ArchiveError(
                f"At byte {offset}, where the data of {entry.label} should begin, stands {self._stranger(dump_id)}.",
                offset,
            )
        if kind != wanted_kind:
            found = "large objects" if kind == _LARGE_OBJECTS else "table data"
            raise ArchiveError(f"At byte {offset}, the block of data of {entry.label} is one of {found}.", offset)
        if entry.data_position not in (None, offset):
            raise ArchiveError(
                f"At byte {offset} begins the data of {entry.label}, which the table of contents announces"
                f" for byte {entry.data_position}.",
                offset,
            )
        self._stage = _Stage.LARGE_OBJECT if kind == _LARGE_OBJECTS else _Stage.CHUNK

    def _stranger(self, dump_id: int) -> str:
        """What a block is that stands in the place of another."""
        for index, entry in enumerate(self._blocks):
            if entry.dump_id == dump_id:
                if index < self._finished_blocks:
                    return f"a second time that of {entry.label}"
                return f"that of {entry.label}: blocks are missing or out of order"
        return f"a block for entry {dump_id}, which the table of contents does not announce"

    def _end_chunks(self) -> None:
        if self._block.desc == "BLOBS":
            self._stage = _Stage.LARGE_OBJECT
        else:
            self._end_block()

    def _end_block(self) -> None:
        self._finished_blocks += 1
        self._stage = _Stage.BLOCK if self._finished_blocks < len(self._blocks) else _Stage.END


def _pass_chunks(data: Bytes, position: int) -> tuple[int, bool]:
    """Step from chunk to chunk; return where the next length stands, and whether it ends the chunks.

    A length of 0 ends them, and so does one with a sign, which is no length. The place may lie beyond the end
    of *data*.
    """
    # The speed of every backup hangs on this loop: uncompressed, pg_dump writes one chunk a row.
    unpack = _INT.unpack_from
    try:
        while True:
            sign, length = unpack(data, position)
            if sign or not length:
                return position, True
            position += _INT_BYTES + length
    except struct.error:
        return position, False


class _ShortageError(Exception):
    """What is being read reaches to the offset *needed*, and the bytes have not come yet."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed


class _Header(NamedTuple):
    """What stands before the table of contents."""

    version: tuple[int, int, int]
    compression: str
    created: datetime
    dbname: bytes
    server_version: bytes
    pg_dump_version: bytes


class _HeadParser:
    """Reads the head step by step: header, number of entries, entry after entry.

    A step that lacks bytes is begun anew when they have come.
    """

    def __init__(self, limit: int) -> None:
        self.buffer = bytearray()
        self._limit = limit
        self._position = 0
        self._needed = 1
        self._header: _Header | None = None
        self._count: int | None = None
        self._codec = _FALLBACK_CODEC
        self._has_relkinds = False
        self._entries: list[TocEntry] = []
        self._dump_ids: set[int] = set()

    @property
    def place(self) -> str:
        """The step that is not complete, in words."""
        if self._header is None:
            return "header"
        if self._count is None:
            return "table of contents"
        return f"table of contents, after {len(self._entries)} of {self._count} entries"

    def feed(self, data: Bytes) -> ArchiveHead | None:
        """Take the next bytes; return the head when it is complete."""
        self.buffer += data
        if len(self.buffer) < self._needed:
            return None
        while True:
            start = self._position
            try:
                if self._header is None:
                    self._header = self._read_header()
                    self._has_relkinds = self._header.version >= (1, 16, 0)
                elif self._count is None:
                    self._count = self._read_count()
                elif len(self._entries) < self._count:
                    self._take_entry()
                else:
                    return self._finish(self._header)
            except _ShortageError as shortage:
                self._position = start
                self._needed = shortage.needed
                return None

    def _finish(self, header: _Header) -> ArchiveHead:
        return ArchiveHead(
            version=header.version,
            compression=header.compression,
            created=header.created,
            dbname=header.dbname.decode(self._codec, "surrogateescape"),
            server_version=header.server_version.decode(self._codec, "surrogateescape"),
            pg_dump_version=header.pg_dump_version.decode(self._codec, "surrogateescape"),
            entries=tuple(self._entries),
            length=self._position,
        )

    def _read_header(self) -> _Header:
        if not _MAGIC.startswith(self.buffer[: len(_MAGIC)]):
            raise ArchiveError("This is not an archive of pg_dump's custom format: it does not begin with PGDMP.", 0)
        self._take(len(_MAGIC))
        version = (self._byte(), self._byte(), self._byte())
        if version not in VERSIONS:
            self._refuse(
                f"the archive's version is {'.'.join(map(str, version))}, and only 1.14 to 1.16"
                " (PostgreSQL 12 to 18) are known"
            )
        int_bytes, offset_bytes, archive_format = self._byte(), self._byte(), self._byte()
        if int_bytes != 4:
            self._refuse(f"ints have {int_bytes} bytes, not 4")
        if offset_bytes != 8:
            self._refuse(f"file offsets have {offset_bytes} bytes, not 8")
        if archive_format != _CUSTOM_FORMAT:
            self._refuse(f"the archive's format is {archive_format}, not {_CUSTOM_FORMAT} (custom)")
        return _Header(
            version=version,
            compression=self._compression(version),
            created=self._time(),
            dbname=self._string() or b"",
            server_version=self._string() or b"",
            pg_dump_version=self._string() or b"",
        )

    def _compression(self, version: tuple[int, int, int]) -> str:
        if version < (1, 15, 0):
            # A level: 0 is none, 1 to 9 and -1 (the default) are gzip's.
            level = self._int()
            if not -1 <= level <= 9:
                self._refuse(f"the compression level is {level}")
            return "gzip" if level else "none"
        algorithm = self._byte()
        if algorithm >= len(_COMPRESSIONS):
            self._refuse(f"the compression has the unknown number {algorithm}")
        return _COMPRESSIONS[algorithm]

    def _time(self) -> datetime:
        second, minute, hour, day, month, year = [self._int() for _field in range(6)]
        self._int()  # whether it was daylight saving time
        try:
            # A leap second is number 60. The archive does not say in which time zone.
            return datetime(year + 1900, month + 1, day, hour, minute, min(second, 59))  # noqa: DTZ001
        except (ValueError, OverflowError):
            self._refuse("the archive does not say when it was made")

    def _read_count(self) -> int:
        count = self._int()
        if count < 0:
            self._refuse(f"the table of contents has {count} entries")
        return count

    def _take_entry(self) -> None:
        entry = self._read_entry()
        if entry.dump_id in self._dump_ids:
            self._refuse(f"a second entry has the id {entry.dump_id}")
        self._dump_ids.add(entry.dump_id)
        self._entries.append(entry)
        if entry.desc == "ENCODING":
            # pg_dump writes this entry first, so that it is known for all others.
            self._codec = _CODECS.get(_encoding_of(entry), _FALLBACK_CODEC)

    def _read_entry(self) -> TocEntry:
        dump_id = self._int()
        if dump_id <= 0:
            self._refuse(f"an entry of the table of contents has the id {dump_id}")
        dumper = self._int()
        if dumper not in (0, 1):
            self._refuse(f"whether entry {dump_id} has data is {dumper}, neither 0 nor 1")
        tableoid, oid = self._number(), self._number()
        tag, desc = self._text(), self._text()
        if tag is None or desc is None:
            self._refuse(f"entry {dump_id} has no name")
        section = self._section()
        defn, drop_stmt, copy_stmt = self._text(), self._text(), self._text()
        namespace, tablespace, tableam = self._text(), self._text(), self._text()
        relkind = self._int() if self._has_relkinds else 0
        if not 0 <= relkind < 128:
            self._refuse(f"entry {dump_id} has the relkind {relkind}")
        owner = self._text()
        if (with_oids := self._string()) != b"false":
            self._refuse(f"entry {dump_id} has {with_oids!r} where tables WITH OIDS once were marked")
        return TocEntry(
            dump_id=dump_id,
            had_dumper=bool(dumper),
            tableoid=tableoid,
            oid=oid,
            tag=tag,
            desc=desc,
            section=section,
            defn=defn,
            drop_stmt=drop_stmt,
            copy_stmt=copy_stmt,
            namespace=namespace,
            tablespace=tablespace,
            tableam=tableam,
            relkind=chr(relkind) if relkind else "",
            owner=owner or "",
            dependencies=self._dependencies(),
            data_position=self._data_position(dump_id, bool(dumper)),
        )

    def _section(self) -> Section:
        number = self._int()
        try:
            return Section(number)
        except ValueError:
            self._refuse(f"the unknown section {number} stands in an entry of the table of contents")

    def _dependencies(self) -> tuple[int, ...]:
        dump_ids = []
        while (text := self._string()) is not None:
            dump_ids.append(self._parse_number(text))
        return tuple(dump_ids)

    def _data_position(self, dump_id: int, had_dumper: bool) -> int | None:
        state = self._byte()
        start = self._take(8)
        if state not in (_OFFSET_NOT_SET, _OFFSET_SET, _OFFSET_NO_DATA):
            self._refuse(f"the place of the data of entry {dump_id} has the unknown state {state}")
        if had_dumper == (state == _OFFSET_NO_DATA):
            # pg_restore would pass over the data without a word.
            self._refuse(f"entry {dump_id} contradicts itself on whether it has data")
        return int.from_bytes(self.buffer[start : self._position], "little") if state == _OFFSET_SET else None

    # What pg_dump's WriteInt, WriteStr and so on wrote.

    def _take(self, length: int) -> int:
        """Step over *length* bytes; return where they begin."""
        start = self._position
        end = start + length
        if end > self._limit:
            self._refuse(f"the archive's head is longer than the {self._limit} bytes that this software accepts")
        if end > len(self.buffer):
            raise _ShortageError(end)
        self._position = end
        return start

    def _byte(self) -> int:
        return self.buffer[self._take(1)]

    def _int(self) -> int:
        sign: int
        magnitude: int
        sign, magnitude = _INT.unpack_from(self.buffer, self._take(_INT_BYTES))
        if sign > 1:
            self._refuse("there should be a number")
        return -magnitude if sign else magnitude

    def _string(self) -> bytes | None:
        length = self._int()
        if length < -1:
            self._refuse(f"a string has the length {length}")
        if length < 0:
            return None
        start = self._take(length)
        return bytes(self.buffer[start : self._position])

    def _text(self) -> str | None:
        string = self._string()
        return None if string is None else string.decode(self._codec, "surrogateescape")

    def _number(self) -> int:
        return self._parse_number(self._string() or b"")

    def _parse_number(self, text: bytes) -> int:
        if not text.isdigit():
            self._refuse(f"{text!r} should be a number")
        return int(text)

    def _refuse(self, what: str) -> NoReturn:
        raise ArchiveError(f"At byte {self._position} the archive cannot be read: {what}.", self._position)


def _encoding_of(entry: TocEntry) -> str:
    found = _ENCODING.match(entry.defn or "")
    return found.group(1) if found else "SQL_ASCII"


def _is_database_property(entry: TocEntry) -> bool:
    """pg_restore's own rule for what belongs to ``--create``."""
    if entry.desc in ("COMMENT", "ACL", "SECURITY LABEL"):
        return entry.tag.startswith("DATABASE ")
    return entry.desc == "DATABASE PROPERTIES"


def _rename_database(sql: str, name: str) -> str:
    """Put *name* wherever pg_dump's statements name the database.

    The name follows the word DATABASE. pg_dump writes keywords in upper case and quotes any name that is not
    all lower case, so that no name looks like this word.
    """
    words: list[str] = []
    name_is_next = False
    for word in _SQL_WORD.findall(sql):
        if name_is_next and not word.isspace():
            words.append(quote_identifier(name))
            name_is_next = False
        else:
            words.append(word)
            name_is_next = name_is_next or word == "DATABASE"
    return "".join(words)
