# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the head of an archive, byte by byte as it comes; the format is described in ``reader.py``."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import NamedTuple, NoReturn, TypeAlias

from scalr_backup.core.archive.head import (
    VERSIONS,
    ArchiveError,
    ArchiveHead,
    Section,
    TocEntry,
    UnknownFormatError,
    encoding_of,
)

# A head grows with the number of tables, indexes and functions, not with their rows; real ones are a few MB.
HEAD_LIMIT = 1 << 30
# No number in an archive has more. Python refuses some thousands with an error of its own.
_MOST_DIGITS = 20

_MAGIC = b"PGDMP"
_CUSTOM_FORMAT = 1
_COMPRESSIONS = ("none", "gzip", "lz4", "zstd")

INT = struct.Struct("<BI")
INT_BYTES = INT.size

# What an entry says of its data's place: unknown (a stream), this offset (a file), no data.
_OFFSET_NOT_SET, _OFFSET_SET, _OFFSET_NO_DATA = 1, 2, 3

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


Bytes: TypeAlias = bytes | bytearray | memoryview


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


class HeadParser:
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
        # Where the number of entries stands, and where each entry ends: whoever adds entries passes the others as they are.
        self.count_position = 0
        self.entry_ends: list[int] = []

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
                    self.count_position = start
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
            raise ArchiveError("This is not a pg_dump archive in custom format: it does not begin with PGDMP.", 0)
        self._take(len(_MAGIC))
        version = (self._byte(), self._byte(), self._byte())
        if version not in VERSIONS:
            self._refuse_new(
                f"the archive's version is {'.'.join(map(str, version))}, and only 1.14 to 1.16"
                " (PostgreSQL 12 to 18) are known"
            )
        int_bytes, offset_bytes, archive_format = self._byte(), self._byte(), self._byte()
        if int_bytes != 4:
            self._refuse_new(f"integers have {int_bytes} bytes, not 4")
        if offset_bytes != 8:
            self._refuse_new(f"file offsets have {offset_bytes} bytes, not 8")
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
            self._refuse_new(f"the compression algorithm {algorithm} is unknown")
        return _COMPRESSIONS[algorithm]

    def _time(self) -> datetime:
        second, minute, hour, day, month, year = [self._int() for _field in range(6)]
        self._int()  # whether it was daylight saving time
        try:
            # A leap second is number 60. The archive does not say in which time zone.
            return datetime(year + 1900, month + 1, day, hour, minute, min(second, 59))  # noqa: DTZ001
        except (ValueError, OverflowError):
            self._refuse("its creation time is not valid")

    def _read_count(self) -> int:
        count = self._int()
        if count < 0:
            self._refuse(f"the table of contents has {count} entries")
        return count

    def _take_entry(self) -> None:
        entry = self._read_entry()
        if entry.dump_id in self._dump_ids:
            self._refuse(f"two entries have the id {entry.dump_id}")
        self._dump_ids.add(entry.dump_id)
        self._entries.append(entry)
        self.entry_ends.append(self._position)
        if entry.desc == "ENCODING":
            # pg_dump writes this entry first, so that it is known for all others.
            self._codec = _CODECS.get(encoding_of(entry), _FALLBACK_CODEC)

    def _read_entry(self) -> TocEntry:
        dump_id = self._int()
        if dump_id <= 0:
            self._refuse(f"an entry of the table of contents has the id {dump_id}")
        dumper = self._int()
        if dumper not in (0, 1):
            self._refuse(f"the data flag of entry {dump_id} is {dumper}, neither 0 nor 1")
        tableoid, oid = self._number(), self._number()
        tag, desc = self._text(), self._text()
        if tag is None or desc is None:
            self._refuse(f"entry {dump_id} has no name")
        section = self._section()
        defn, drop_stmt, copy_stmt = self._text(), self._text(), self._text()
        namespace, tablespace, tableam = self._text(), self._text(), self._text()
        relkind = self._int() if self._has_relkinds else 0
        if not 0 <= relkind < 128:
            self._refuse_new(f"entry {dump_id} has the relkind {relkind}")
        owner = self._text()
        if (with_oids := self._string()) != b"false":
            self._refuse(f"entry {dump_id} has {with_oids!r} in its obsolete WITH OIDS field")
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
            self._refuse_new(f"an entry of the table of contents has the unknown section {number}")

    def _dependencies(self) -> tuple[int, ...]:
        dump_ids = []
        while (text := self._string()) is not None:
            dump_ids.append(self._parse_number(text))
        return tuple(dump_ids)

    def _data_position(self, dump_id: int, had_dumper: bool) -> int | None:
        state = self._byte()
        start = self._take(8)
        if state not in (_OFFSET_NOT_SET, _OFFSET_SET, _OFFSET_NO_DATA):
            self._refuse_new(f"the data offset of entry {dump_id} has the unknown state {state}")
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
            self._refuse(f"the archive's head exceeds the limit of {self._limit} bytes")
        if end > len(self.buffer):
            raise _ShortageError(end)
        self._position = end
        return start

    def _byte(self) -> int:
        return self.buffer[self._take(1)]

    def _int(self) -> int:
        sign: int
        magnitude: int
        sign, magnitude = INT.unpack_from(self.buffer, self._take(INT_BYTES))
        if sign > 1:
            self._refuse("expected a number")
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
            self._refuse(f"expected a number, found {text!r}")
        if len(text) > _MOST_DIGITS:
            self._refuse(f"expected a number, found {len(text)} digits")
        return int(text)

    def _refuse_new(self, what: str) -> NoReturn:
        raise UnknownFormatError(f"At byte {self._position} the archive cannot be read: {what}.", self._position)

    def _refuse(self, what: str) -> NoReturn:
        raise ArchiveError(f"At byte {self._position} the archive cannot be read: {what}.", self._position)
