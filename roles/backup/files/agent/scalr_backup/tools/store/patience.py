# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a store is waited for: in all, since one that sends a byte now and then is never silent for long.

A time-out of a socket begins anew with each byte, and before an answer's head is complete nothing of ours runs. So each wait
has a watchdog, which shuts the connection down when time is over or the run was told to stop.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from scalr_backup.core.errors import InterruptedRunError, RepositoryUnreachableError

# Bytes a second: a line that carries less is no use to a prune. restic asks for up to five files at a time.
SLOWEST = 16 << 10
# Whatever arrives: a listing of three million files in an hour needs 75 kB a second.
MOST_SECONDS = 3600.0
# Between two looks at the time, and at whether the run goes on.
_GLANCE_SECONDS = 0.5

_asking = threading.local()


class Wait:
    """One question to a store, all its attempts and pages included; what the caller does between two pieces does not count."""

    def __init__(self, shown: str, seconds: float, cancelled: threading.Event) -> None:
        """*shown* is the repository as messages name it; *seconds* grow with the bytes that arrive."""
        self._shown = shown
        self._allowed = seconds
        self._cancelled = cancelled
        self._spent = 0.0
        self._since: float | None = None
        self._line: socket.socket | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()

    def __enter__(self) -> Wait:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        self._hold(None)

    @property
    def left(self) -> float:
        """The seconds that are left."""
        with self._lock:
            running = time.monotonic() - self._since if self._since is not None else 0.0
            return self._allowed - self._spent - running

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the time until the end of the context, in which the store is waited for."""
        _asking.wait, self._since = self, time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._spent += time.monotonic() - self._since
                self._since = None
            _asking.wait = None

    def moved(self, count: int) -> None:
        """Hear of bytes that have arrived: they needed time."""
        with self._lock:
            self._allowed = min(self._allowed + count / SLOWEST, max(self._allowed, MOST_SECONDS))

    def require(self) -> None:
        """Raise RepositoryUnreachableError when time is over, InterruptedRunError when the run was told to stop."""
        if self._cancelled.is_set():
            raise InterruptedRunError(f"Told to stop while asking the store of the repository {self._shown}.")
        if self.left > 0:
            return
        raise RepositoryUnreachableError(
            f"The repository {self._shown} did not answer in full within {self._allowed:.0f} s; check the network and the "
            "address."
        )

    def _hold(self, line: socket.socket | None) -> None:
        with self._lock:
            if self._line is not None:
                self._line.close()
            self._line = line

    def _until_next_glance(self) -> float:
        """Seconds to wait: until the end, if that is near, and what is over is looked at now and then."""
        left = self.left
        return min(_GLANCE_SECONDS, left) if left > 0 else _GLANCE_SECONDS

    def _watch(self) -> None:
        while not self._done.wait(self._until_next_glance()):
            if self._cancelled.is_set() or self.left <= 0:
                with self._lock, suppress(OSError):
                    if self._line is not None:
                        self._line.shutdown(socket.SHUT_RDWR)


def _held(line: socket.socket) -> socket.socket:
    """A connection, noted for whoever waits for it in this thread; as a copy, since TLS takes the first one over."""
    wait: Wait | None = getattr(_asking, "wait", None)
    if wait is not None:
        wait._hold(socket.fromfd(line.fileno(), line.family, line.type))  # noqa: SLF001 (of this file)
    return line


class _EndableConnection(HTTPConnection):
    """A connection that its wait can end, from its first byte on."""

    def _new_conn(self) -> socket.socket:
        return _held(super()._new_conn())

    def request(self, *arguments: Any, **options: Any) -> None:
        """Ask once more on a connection that is there."""
        if self.sock is not None:
            _held(self.sock)
        super().request(*arguments, **options)


class _EndableSecureConnection(_EndableConnection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _EndableConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _EndableSecureConnection


POOLS = {"http": _Pool, "https": _SecurePool}
