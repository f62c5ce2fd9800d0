# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk that the agent's own record lies on: it may be full, read-only, or not the agent's to write to."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

from scalr_backup.core.errors import ScalrBackupError, UnwritableRecordError

Read = TypeVar("Read")

# A file takes no less of a disk than a block.
_BLOCK = 4096


@contextmanager
def taking(path: Path) -> Iterator[None]:
    """Write to a file of the record, or to one beside it that will take its place.

    Raises UnwritableRecordError in place of OSError.
    """
    try:
        yield
    except OSError as error:
        raise UnwritableRecordError(_sentence(path, _why(error))) from None


@contextmanager
def replacing(path: Path, new: Path, mode: int = 0o666) -> Iterator[IO[str]]:
    """Write a file beside another one, whose place it takes in one piece once all of it is on the disk.

    Raises OSError, and then leaves nothing of it.
    """
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        drop(new)
        raise


def giving(path: Path, read: Iterable[Read]) -> Iterator[Read]:
    """What is read of a file of the record. Raises ScalrBackupError in place of OSError."""
    try:
        yield from read
    except OSError as error:
        raise ScalrBackupError(
            f"The agent's record {path} cannot be read: {_why(error)}; the agent's user, 64738, must be able to."
        ) from None


def obstacle(path: Path) -> str | None:
    """Why a file of the record cannot be replaced, as a sentence, as far as that is seen without a try; None where it can."""
    try:
        size = path.stat().st_size if path.exists() else 0
        disk = os.statvfs(path.parent)
    except OSError as error:
        return _sentence(path, _why(error))
    code = None
    if disk.f_flag & os.ST_RDONLY:
        code = errno.EROFS
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        code = errno.EACCES
    # Some file systems count neither blocks nor files.
    elif (disk.f_blocks and disk.f_bavail * disk.f_frsize < max(size, _BLOCK)) or (disk.f_files and not disk.f_favail):
        code = errno.ENOSPC
    return None if code is None else _sentence(path, os.strerror(code))


def drop(path: Path) -> None:
    """Remove what could not be written to its end: it would keep what room there is from everything else."""
    with suppress(OSError):
        path.unlink()


def _sentence(path: Path, why: str) -> str:
    return (
        f"The agent's record {path} cannot be written: {why}. Backups go on without it; free space in the agent's volume, or "
        "make it writable."
    )


def _why(error: OSError) -> str:
    return error.strerror or str(error)
