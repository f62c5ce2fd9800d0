# SPDX-License-Identifier: GPL-3.0-or-later
"""The locks that keep two runs from each other's work.

A lock is the kernel's (flock): it goes with the process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from scalr_backup.core.errors import BusyError, InterruptedRunError

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
        self._directory.mkdir(parents=True, exist_ok=True)

    def pass_runs(self) -> bool:
        """Whether some process is at a pass now, by schedule or by hand."""
        return _holder(self._directory / PASS_LOCK) is not None

    def under_way(self) -> str | None:
        """What a run that holds a lock says of itself, whichever it is; None while none is held."""
        # A pass, which holds containers too, is asked before them.
        locks = sorted((lock for lock in self._directory.iterdir() if lock.name != "state"), reverse=True)
        return next((words for lock in locks if (words := _holder(lock))), None)

    def forget_containers(self, prefix: str) -> None:
        """Drop the locks of containers that are no more; nobody may be using one with such a name."""
        for lock in self._directory.glob(f"{container_lock(prefix)}*"):
            lock.unlink(missing_ok=True)

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
        with (self._directory / name).open("a+", encoding="utf-8") as file:
            _acquire(file, name, wait_seconds, cancelled)
            file.seek(0)
            file.truncate()
            file.write(holder)
            file.flush()
            try:
                yield
            finally:
                file.seek(0)
                file.truncate()
                file.flush()
                fcntl.flock(file, fcntl.LOCK_UN)


def _holder(path: Path) -> str | None:
    """What the run that holds a lock says of itself; None while it is free.

    A run that was killed has left its words, which are wiped away then. Only for that moment is the lock taken, since
    somebody else's try would fail meanwhile.
    """
    try:
        with path.open("r+", encoding="utf-8") as file:
            words = file.read().strip()
            if not words:
                return None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return words
            file.truncate(0)
    except FileNotFoundError:
        pass  # Its container is gone.
    return None


def _acquire(file: TextIO, name: str, wait_seconds: float, cancelled: Callable[[], bool]) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if cancelled():
                raise InterruptedRunError("Told to stop while waiting for another run.") from None
            if time.monotonic() >= deadline:
                file.seek(0)
                holder = file.read().strip() or "another run"
                raise BusyError(_busy_sentence(name, holder)) from None
            time.sleep(0.5)


def _busy_sentence(name: str, holder: str) -> str:
    already = {PASS_LOCK: "A pass is already running", DRILL_LOCK: "A drill is already running"}
    if name.startswith(_TRUSTED):
        return f"The trusted place works on this repository already: {holder}; try again when it has ended."
    what = already.get(name) or f"{name.removeprefix(_CONTAINER)} is in use"
    return f"{what}: {holder}; try again when it has ended."
