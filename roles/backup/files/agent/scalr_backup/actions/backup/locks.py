# SPDX-License-Identifier: GPL-3.0-or-later
"""The locks of the containers that a pass dumps."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from scalr_backup.tools.locks import container_lock
from scalr_backup.tools.state import State

# Seconds that a pass waits for a restore into the same container.
_WAIT_FOR_RESTORE_SECONDS = 3600.0


class ContainerLocks:
    """Holds each container's lock from its first dump of the pass to its last, so that no restore comes between."""

    def __init__(self, state: State, run: str, databases: Counter[str], cancelled: threading.Event) -> None:
        self._state = state
        self._holder = f"pass {run} is dumping it"
        self._left = databases
        self._cancelled = cancelled
        self._guards = {container: threading.Lock() for container in databases}
        self._held: dict[str, ExitStack] = {}

    @contextmanager
    def hold(self, container: str, prepare: Callable[[], None]) -> Iterator[None]:
        """Hold the lock; before the container's first dump, and before any other of it begins, *prepare* runs.

        Raises BusyError when a restore into the container does not end within an hour.
        """
        try:
            with self._guards[container]:
                if container not in self._held:
                    with ExitStack() as stack:
                        stack.enter_context(self._lock(container))
                        prepare()
                        self._held[container] = stack.pop_all()
            yield
        finally:
            with self._guards[container]:
                self._left[container] -= 1
                if not self._left[container] and container in self._held:
                    self._held[container].close()

    def _lock(self, container: str) -> AbstractContextManager[None]:
        return self._state.locks.hold(
            container_lock(container), self._holder, _WAIT_FOR_RESTORE_SECONDS, self._cancelled.is_set
        )
