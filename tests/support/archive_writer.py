# SPDX-License-Identifier: GPL-3.0-or-later
"""A writer of archives, as small as the format allows: what pg_dump's WriteInt, WriteStr, WriteHead and WriteToc do."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from scalr_backup.core.archive.head import Section


def integer(number: int) -> bytes:
    return struct.pack("<BI", number < 0, abs(number))


def string(text: str | bytes | None) -> bytes:
    if text is None:
        return integer(-1)
    data = text if isinstance(text, bytes) else text.encode()
    return integer(len(data)) + data


def chunks(*pieces: bytes) -> bytes:
    return b"".join(integer(len(piece)) + piece for piece in pieces) + integer(0)


@dataclass(frozen=True)
class Entry:
    dump_id: int
    desc: str = "TABLE"
    tag: str | bytes = "t"
    had_dumper: bool = False
    section: int = Section.PRE_DATA
    defn: str | bytes | None = None
    copy_stmt: str | None = None
    namespace: str | None = "public"
    tablespace: str | None = None
    tableam: str | None = None
    relkind: str = ""
    owner: str = "app"
    dependencies: tuple[int, ...] = ()
    offset_state: int | None = None
    data_position: int = 0
    oid: int = 16384
    tableoid: int = 1259
    drop_stmt: str | None = ""

    def encode(self, version: tuple[int, int, int]) -> bytes:
        state = self.offset_state or (1 if self.had_dumper else 3)
        return b"".join(
            (
                integer(self.dump_id),
                integer(self.had_dumper),
                string(str(self.tableoid)),
                string(str(self.oid)),
                string(self.tag),
                string(self.desc),
                integer(self.section),
                string(self.defn),
                string(self.drop_stmt),
                string(self.copy_stmt),
                string(self.namespace),
                string(self.tablespace),
                string(self.tableam),
                integer(ord(self.relkind) if self.relkind else 0) if version >= (1, 16, 0) else b"",
                string(self.owner),
                string("false"),
                *(string(str(dump_id)) for dump_id in self.dependencies),
                string(None),
                bytes([state]),
                struct.pack("<Q", self.data_position),
            )
        )


@dataclass(frozen=True)
class Block:
    dump_id: int
    pieces: tuple[bytes, ...] = (b"1\tone\n", b"\\.\n\n\n")

    def encode(self) -> bytes:
        return b"\x01" + integer(self.dump_id) + chunks(*self.pieces)


@dataclass(frozen=True)
class LargeObjects:
    dump_id: int
    objects: tuple[tuple[int, tuple[bytes, ...]], ...] = ()

    def encode(self) -> bytes:
        objects = b"".join(
            # PostgreSQL writes an oid as if it were a signed int.
            integer(oid if oid < 1 << 31 else oid - (1 << 32)) + chunks(*pieces)
            for oid, pieces in self.objects
        )
        return b"\x03" + integer(self.dump_id) + objects + integer(0)


@dataclass(frozen=True)
class Archive:
    version: tuple[int, int, int] = (1, 16, 0)
    magic: bytes = b"PGDMP"
    sizes: tuple[int, int] = (4, 8)
    format: int = 1
    compression: int = 0
    time: tuple[int, ...] = (58, 59, 23, 31, 11, 126, 0)
    dbname: str | bytes = "shop"
    entries: Sequence[Entry] = ()
    count: int | None = None
    blocks: Sequence[Block | LargeObjects] = field(default=())

    @property
    def header(self) -> bytes:
        compression = integer(self.compression) if self.version < (1, 15, 0) else bytes([self.compression])
        return b"".join(
            (
                self.magic,
                bytes(self.version),
                bytes(self.sizes),
                bytes([self.format]),
                compression,
                *(integer(part) for part in self.time),
                string(self.dbname),
                string("17.6 (Debian 17.6-1)"),
                string("18.1"),
            )
        )

    @property
    def head(self) -> bytes:
        count = len(self.entries) if self.count is None else self.count
        return self.header + integer(count) + b"".join(entry.encode(self.version) for entry in self.entries)

    def encode(self) -> bytes:
        return self.head + b"".join(block.encode() for block in self.blocks)


ENCODING = Entry(1, "ENCODING", "ENCODING", defn="SET client_encoding = 'UTF8';\n", namespace=None, owner="")
STDSTRINGS = Entry(2, "STDSTRINGS", "STDSTRINGS", defn="SET standard_conforming_strings = 'on';\n", namespace=None)
DATABASE = Entry(
    3,
    "DATABASE",
    "shop",
    defn="CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C';\n",
    namespace=None,
)
TABLE = Entry(10, "TABLE", "orders", defn="CREATE TABLE public.orders ();\n", tableam="heap", relkind="r")


def data_of(dump_id: int, tag: str = "t") -> Entry:
    return Entry(
        dump_id,
        "TABLE DATA",
        tag,
        had_dumper=True,
        section=Section.DATA,
        copy_stmt="COPY public.t (id) FROM stdin;\n",
        dependencies=(10,),
    )


LARGE_OBJECT_DATA = Entry(30, "BLOBS", "BLOBS", had_dumper=True, section=Section.DATA, namespace=None, owner="")
WHOLE = Archive(
    entries=(ENCODING, STDSTRINGS, DATABASE, TABLE, data_of(20, "a"), data_of(21, "b"), LARGE_OBJECT_DATA),
    blocks=(
        Block(20),
        Block(21, (b"x" * 300,)),
        LargeObjects(30, ((16400, (b"hello", b"world")), (4_000_000_000, ()))),
    ),
)
