# SPDX-License-Identifier: GPL-3.0-or-later
"""restic's version, remembered as long as its program is the same file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

Version = tuple[int, int, int]


def version_of(program: str, path: str, memory: Path, ask: Callable[[], Version | None]) -> Version | None:
    """The version of the program that is found by that name on the search *path*; *ask* asks it, where *memory* does not know.

    Place, size and both times are those of the file that was asked: whoever replaces it changes one of them.
    """
    found = shutil.which(program, path=path)
    identity: list[str | int] = []
    if found:
        with suppress(OSError):
            status = Path(found).stat()
            identity = [found, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    if identity and (known := _recall(memory, identity)):
        return known
    version = ask()
    if identity and version:
        with suppress(OSError):
            memory.write_text(json.dumps({"program": identity, "version": version}), encoding="utf-8")
    return version


def _recall(memory: Path, identity: list[str | int]) -> Version | None:
    """What is remembered of this very file; a memory that is not what was written is none."""
    try:
        known = json.loads(memory.read_bytes())
        if known["program"] != identity:
            return None
        major, minor, patch = (int(number) for number in known["version"])
    except (OSError, ValueError, TypeError, LookupError):
        return None
    return major, minor, patch
