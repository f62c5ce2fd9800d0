# SPDX-License-Identifier: GPL-3.0-or-later
"""The container that the agent runs in: its memory, its processes, and the directories that it writes to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from scalr_backup.core.room import WrittenTo

# Where the role mounts a place in node_exporter's directory.
TEXTFILE_DIRECTORY = Path(os.environ.get("SCALR_BACKUP_TEXTFILE", "/run/scalr-backup-textfile"))
_PROCESSES = Path("/proc")
# Where the kernel tells the limit: of control groups of version 2, and of version 1, whose limit is a number without end.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_ENDLESS = 1 << 60


def memory_limit() -> int | None:
    """How many bytes of memory the container may have; None for as many as there are."""
    for path in _LIMITS:
        with suppress(OSError, ValueError):
            limit = int(path.read_text(encoding="ascii"))
            return limit if limit < _ENDLESS else None
    return None


def is_serving(processes: Path = _PROCESSES) -> bool:
    """Whether a process of this container runs the schedule."""
    return any(_serves(words) for words in _command_lines(processes))


def _serves(words: list[bytes]) -> bool:
    """``python -m scalr_backup serve``, which the command of the image turns into."""
    return b"scalr_backup" in words and words[words.index(b"scalr_backup") + 1 :][:1] == [b"serve"]


def _command_lines(processes: Path) -> Iterator[list[bytes]]:
    for path in processes.glob("[0-9]*/cmdline"):
        # One that has ended meanwhile says nothing.
        with suppress(OSError):
            yield path.read_bytes().split(b"\0")


def written_to(what: str, path: str) -> WrittenTo:
    """The room that a directory has, and whether the agent may write there; not, where it cannot even be looked at."""
    try:
        found, file_system = os.statvfs(path), Path(path).stat().st_dev
    except OSError:
        return WrittenTo(what, path, -1, 0, 0, writable=False)
    # As df has it: what is kept for root, or by a quota, is neither free nor used.
    there_is = found.f_blocks - found.f_bfree + found.f_bavail
    writable = os.access(path, os.W_OK | os.X_OK)
    return WrittenTo(
        what, path, file_system, found.f_bavail * found.f_frsize, there_is * found.f_frsize, writable=writable
    )
