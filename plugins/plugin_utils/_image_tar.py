# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Tar archives of images, read without extracting anything: a few kinds of members, within bounds, and all else refused.

Python's ``tarfile`` is made to read whatever there is. An archive of ``docker save`` needs files, directories and the links
that its older releases make for a layer that occurs twice; whoever sends more than that sends something else.
"""

from __future__ import annotations

import gzip
import io
import posixpath
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

BLOCK: Final = 512
#: How much of a member is in memory at a time, in bytes.
CHUNK: Final = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*\Z")
_OCTAL = re.compile(rb"[0-7]{1,11}\Z")
_GZIP = b"\x1f\x8b"
_KINDS = {b"0": "file", b"\0": "file", b"5": "directory", b"2": "link"}


class RefusedError(Exception):
    """Why an archive is refused: a sentence."""


@dataclass(frozen=True)
class Limits:
    """What one archive may ask of the controller."""

    #: Bytes of the archive, not compressed; layers that are compressed themselves count once more as what they hold.
    bytes: int = 4 << 30
    members: int = 4096
    #: Bytes of one JSON document, and of all.
    document: int = 4 << 20
    documents: int = 32 << 20


@dataclass(frozen=True)
class Member:
    """The head of one member."""

    name: str
    kind: str
    size: int
    target: str


class Source:
    """An archive's bytes, from its first to its last, no more of them than there may be."""

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        self._stream, self._limits, self._left = stream, limits, limits.bytes

    def spend(self, count: int) -> None:
        """Count bytes that the archive costs."""
        self._left -= count
        if self._left < 0:
            raise RefusedError(f"The archive holds more than {self._limits.bytes} bytes.")

    def read(self, count: int) -> bytes:
        """Exactly *count* bytes, no more than CHUNK."""
        self.spend(count)
        try:
            data = self._stream.read(count)
        except (EOFError, OSError, zlib.error) as problem:
            raise RefusedError(f"The archive cannot be read: {problem}.") from problem
        if len(data) != count:
            raise RefusedError("The archive ends too early.")
        return data

    def members(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each member and its bytes, which must be read before the next member."""
        seen: set[str] = set()
        while (block := self.read(BLOCK)) != bytes(BLOCK):
            member = _parse(block)
            if member.name in seen:
                raise RefusedError(f"The archive has two members named {member.name}.")
            seen.add(member.name)
            if len(seen) > self._limits.members:
                raise RefusedError(f"The archive has more than {self._limits.members} members.")
            body = self._body(member.size)
            yield member, body
            for _rest in body:
                pass

    def _body(self, size: int) -> Iterator[bytes]:
        left = size
        while left > 0:
            data = self.read(min(left, CHUNK))
            left -= len(data)
            yield data
        if size % BLOCK:
            self.read(BLOCK - size % BLOCK)


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[Source]:
    """An archive, compressed or not."""
    with path.open("rb") as file:
        compressed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not compressed:
            yield Source(file, limits)
            return
        with gzip.GzipFile(fileobj=file, mode="rb") as plain, io.BufferedReader(plain, CHUNK) as buffered:
            yield Source(buffered, limits)


def followed(member: Member) -> str:
    """The name of the member that a link leads to."""
    name = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.target))
    if member.target.startswith("/") or not is_plain(name):
        raise RefusedError(f"The link {member.name} points outside the archive.")
    return name


def is_plain(name: str) -> bool:
    """Whether a name is a path that stays where it is put."""
    return bool(_NAME.match(name)) and not {".", ".."} & set(name.split("/"))


def head(name: str, size: int) -> bytes:
    """The head of a file of our own, in the format that every reader understands alike."""
    block = bytearray(BLOCK)

    def put(at: int, text: str) -> None:
        block[at : at + len(text)] = text.encode()

    put(0, name)
    for at, text in ((100, "0000644"), (108, "0000000"), (116, "0000000"), (124, f"{size:011o}"), (136, "00000000000")):
        put(at, text)
    put(148, " " * 8)
    put(156, "0")
    block[257:265] = b"ustar\x0000"
    put(148, f"{sum(block):06o}\0 ")
    return bytes(block)


def padding(size: int) -> bytes:
    """What follows the bytes of a file."""
    return bytes(-size % BLOCK)


def _parse(block: bytes) -> Member:
    if block[257:263] != b"ustar\0":
        raise RefusedError("The archive is not a tar archive as docker save writes it.")
    if _number(block[148:156], "checksum") != sum(block[:148]) + 8 * ord(" ") + sum(block[156:]):
        raise RefusedError("The archive is damaged: a checksum is wrong.")
    kind = _KINDS.get(block[156:157])
    name = _text(block[:100])
    if kind is None:
        raise RefusedError(f"The archive's member {name[:80]!r} is neither a file, a directory nor a link to a layer.")
    if kind == "directory":
        name = name.removesuffix("/")
    if any(block[345:500]) or not is_plain(name):
        raise RefusedError(f"The archive's member {name[:80]!r} has a name that no image contains.")
    size = _number(block[124:136], "size")
    if kind != "file" and size:
        raise RefusedError(f"The archive's member {name} has content, but is not a file.")
    return Member(name, kind, size, _text(block[157:257]))


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "replace")


def _number(field: bytes, what: str) -> int:
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    if not _OCTAL.match(digits):
        raise RefusedError(f"The archive is damaged: a {what} is not a number.")
    return int(digits, 8)
