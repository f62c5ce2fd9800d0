# SPDX-License-Identifier: GPL-3.0-or-later
"""The locks that keep two runs from each other's work.

A lock is the kernel's (flock): it goes with the process that holds it, however that ends. A disk that takes nothing keeps nobody
from work: a lock can be held on a file that is only read, and without one, on a file in this container's memory, which all but
a drill's own container see.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from scalr_backup.core.errors import BusyError, InterruptedRunError
from scalr_backup.tools import own_disk

PASS_LOCK = "pass"  # noqa: S105 (a pass over all databases)
DRILL_LOCK = "drill"
_CONTAINER = "container-"
_TRUSTED = "trusted-"
# A file's name has 255 bytes at most, and Docker sets no limit to a container's.
_LONGEST_NAME = 200
_DIGEST_CHARACTERS = 32


def container_lock(container: str) -> str:
    """The name of the lock on a database container; a long one is cut, and carries a hash of the whole."""
    name = container.encode()
    if len(name) > _LONGEST_NAME:
        beginning = name[: _LONGEST_NAME - _DIGEST_CHARACTERS - 1].decode("utf-8", "ignore")
        container = f"{beginning}-{hashlib.sha256(name).hexdigest()[:_DIGEST_CHARACTERS]}"
    return f"{_CONTAINER}{container}"


def trusted_lock(repository_id: str) -> str:
    """The name of the lock on what a trusted place remembers of a repository; an id is what the repository says it is."""
    return f"{_TRUSTED}{hashlib.sha256(repository_id.encode()).hexdigest()[:_DIGEST_CHARACTERS]}"


class Locks:
    """The locks of this agent, files in its state directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "locks"
        with suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)

    def pass_runs(self) -> bool:
        """Whether some process is at a pass now, by schedule or by hand."""
        return _holder(self._directory / PASS_LOCK) is not None

    def under_way(self) -> str | None:
        """What a run that holds a lock says of itself, whichever it is; None while none is held."""
        # A pass, which holds containers too, is asked before them. What cannot be read is none.
        locks = sorted((lock for lock in self._directory.glob("*") if lock.name != "state"), reverse=True)
        return next((words for lock in locks if (words := _holder(lock))), None)

    def forget_containers(self, prefix: str) -> None:
        """Drop the locks of containers that are no more; nobody may be using one with such a name."""
        for lock in self._directory.glob(f"{container_lock(prefix)}*"):
            own_disk.drop(lock)

    @contextmanager
    def hold(
        self,
        name: str,
        holder: str,
        wait_seconds: float = 0.0,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Hold a lock; *holder* is what another run is told about the one that has it.

        Raises BusyError when it is still taken after *wait_seconds*.
        """
        with self._opened(name) as file:
            _acquire(file, name, wait_seconds, cancelled)
            _note(file, holder)
            try:
                yield
            finally:
                _note(file, "")
                fcntl.flock(file, fcntl.LOCK_UN)

    def _opened(self, name: str) -> FileIO:
        """The lock's file. Raises UnwritableRecordError where nothing at all can be written."""
        path = self._directory / name
        with suppress(OSError):
            return _open(path, "a+")
        with own_disk.taking(path):
            return FileIO(Path(tempfile.gettempdir()) / f"scalr-backup-lock-{name}", "a+")


def _holder(path: Path) -> str | None:
    """What the run that holds a lock says of itself; None while it is free.

    A run that was killed has left its words, which are wiped away then. Only for that moment is the lock taken, since
    somebody else's try would fail meanwhile.
    """
    with suppress(OSError), _open(path, "r+") as file:  # Its container may be gone.
        if words := _noted(file):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return words
            os.truncate(path, 0)
    return None


def _open(path: Path, mode: str) -> FileIO:
    """Open a lock's file to write to it, or else to read it. Raises OSError."""
    with suppress(OSError):
        return FileIO(path, mode)
    return FileIO(path, "r")


def _noted(file: FileIO) -> str:
    """What the holder of a lock says of itself; empty where it says nothing, or could not."""
    file.seek(0)
    return file.readall().decode("utf-8", "replace").strip()


def _note(file: FileIO, words: str) -> None:
    with suppress(OSError):
        file.seek(0)
        file.truncate()
        file.write(words.encode())


def _acquire(file: FileIO, name: str, wait_seconds: float, cancelled: Callable[[], bool]) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if cancelled():
                raise InterruptedRunError("Told to stop while waiting for another run.") from None
            if time.monotonic() >= deadline:
                holder = _noted(file) or "another run"
                raise BusyError(_busy_sentence(name, holder)) from None
            time.sleep(0.5)


def _busy_sentence(name: str, holder: str) -> str:
    already = {PASS_LOCK: "A pass is already running", DRILL_LOCK: "A drill is already running"}
    if name.startswith(_TRUSTED):
        return f"The trusted place works on this repository already: {holder}; try again when it has ended."
    what = already.get(name) or f"{name.removeprefix(_CONTAINER)} is in use"
    return f"{what}: {holder}; try again when it has ended."
