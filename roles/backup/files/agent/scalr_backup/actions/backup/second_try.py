# SPDX-License-Identifier: GPL-3.0-or-later
"""Which dumps are tried a second time: at the end of the pass, and alone.

A server's connections, locks and memory are limited. A dump that fails for lack of them while others are running may succeed
when they are done; so may one that met a server that was just starting again. pg_dump and libpq report no SQLSTATE, so where
the server's own code is unknown, what is known decides: that others were running on the same server, or that nothing was
transferred yet, which costs little to try again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scalr_backup.core.errors import (
    CommandLostError,
    ContainerStoppedError,
    DumpError,
    DumpTooLargeError,
    InvalidAnswerError,
    InvalidDumpError,
    PostgresError,
    UnintelligibleDumpError,
)
from scalr_backup.core.sqlstate import LOCK_NOT_AVAILABLE, is_passing


class Company:
    """Who is at work in a container at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work: dict[str, set[object]] = {}
        self._had_company: set[object] = set()

    @contextmanager
    def at_work(self, container: str) -> Iterator[Callable[[], bool]]:
        """Be at work in a container; what is yielded says whether anybody else was at any time of it."""
        one = object()
        with self._lock:
            here = self._at_work.setdefault(container, set())
            here.add(one)
            if len(here) > 1:
                self._had_company |= here
        try:
            yield lambda: one in self._had_company
        finally:
            with self._lock:
                here.discard(one)


def deserves_another(error: Exception, *, had_company: bool) -> bool:
    """Whether a dump that failed so is tried again when the others are done; the second try takes fewer connections."""
    if isinstance(error, (InvalidDumpError, DumpTooLargeError, UnintelligibleDumpError, InvalidAnswerError)):
        # What is wrong, or too much, is so a second time.
        return False
    if isinstance(error, DumpError):
        return error.waited_for is None and (had_company or not error.begun)
    if isinstance(error, PostgresError):
        # Whoever held a lock for a quarter of an hour is not waited for twice.
        return error.sqlstate != LOCK_NOT_AVAILABLE and is_passing(error.sqlstate)
    return isinstance(error, (CommandLostError, ContainerStoppedError))
