# SPDX-License-Identifier: GPL-3.0-or-later
"""Standard input, output and error as a verb can rely on them: they are there, and take everything.

What cannot be printed, because the disk behind the output is full or nobody reads it any more, ends no backup halfway. It is told
when the verb has ended, and the exit code is then that of no success.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import TextIO

from typing_extensions import Buffer

from scalr_backup.core.errors import ExitCode

_SPELLED = "scalr-backup-spelled"


class _Steadfast(FileIO):
    """Where a stream leads to: it takes everything, and notes what it fails with."""

    failure: OSError | None = None

    def write(self, data: Buffer) -> int:
        """Write bytes."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            return memoryview(data).nbytes


class _Closed(_Steadfast):
    """In place of a stream that was closed before the process began."""

    def __init__(self) -> None:
        super().__init__(os.devnull, "w")

    def write(self, data: Buffer) -> int:
        """Note that somebody has tried."""
        self.failure = OSError(errno.EBADF, os.strerror(errno.EBADF))
        return memoryview(data).nbytes


def prepare() -> None:
    """Replace the streams that Python has made, or could not make."""
    codecs.register_error(_SPELLED, _spelled)
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 (it lasts as long as the process)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _steadfast(sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _steadfast(sys.stderr)


def ended(code: int) -> int:
    """Say where not all could be printed; the exit code is then that of no success, else *code*."""
    sys.stdout.flush()
    place = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(place, _Steadfast) or place.failure is None:
        return code
    if place.failure.errno != errno.EPIPE:  # Who has stopped reading knows.
        sys.stderr.write(f"The output cannot be written: {place.failure.strerror}.\n")
    sys.stderr.flush()
    return code or int(ExitCode.FAILED)


def _steadfast(stream: TextIO | None) -> TextIOWrapper:
    place = _Closed() if stream is None else _Steadfast(stream.fileno(), "w", closefd=False)
    encoding = "utf-8" if stream is None else stream.encoding
    return TextIOWrapper(BufferedWriter(place), encoding, errors=_SPELLED, line_buffering=True)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """Characters as JSON spells them, so that its lines stay whole."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
