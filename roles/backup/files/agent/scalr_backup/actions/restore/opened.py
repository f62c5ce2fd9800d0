# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive's head before anything is restored: read here, or listed by the target's own pg_restore if its format is unknown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from scalr_backup.core.archive.head import ArchiveHead, UnknownFormatError
from scalr_backup.core.archive.reader import ArchiveReader, TrustingReader, read_head
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.stock import list_archive


@dataclass(frozen=True)
class OpenedArchive:
    """An archive whose head is known; *beginning* is all that was read for that, and *reader* takes what follows."""

    head: ArchiveHead
    beginning: bytes
    reader: ArchiveReader | TrustingReader

    @property
    def head_bytes(self) -> bytes:
        """The head as it came; nothing where it was not read here."""
        return self.reader.head_bytes or b""


def open_archive(postgres: Postgres, name: str, chunks: Iterator[bytes]) -> OpenedArchive:
    """Read on until the head is known; *name* is what a list in the target's memory is called meanwhile.

    Raises ArchiveError, or UnreadableArchiveError in pg_restore's words.
    """
    reader = ArchiveReader()
    try:
        head, beginning = read_head(reader, chunks)
    except UnknownFormatError:
        listed, beginning = list_archive(postgres, name, reader.buffered, chunks)
        trusting = TrustingReader(listed)
        trusting.feed(beginning)
        return OpenedArchive(listed, beginning, trusting)
    return OpenedArchive(head, beginning, reader)
