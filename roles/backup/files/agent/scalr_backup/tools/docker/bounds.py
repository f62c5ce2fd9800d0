# SPDX-License-Identifier: GPL-3.0-or-later
"""How long one answer of a container's program may take in all, and how much it may be."""

from __future__ import annotations

import time
from collections.abc import Callable

from scalr_backup.core.endings import Command
from scalr_backup.core.errors import LateAnswerError
from scalr_backup.core.spoken import MOST_BYTES, MOST_COMPLAINTS, too_much

# The number of standard output, as the engine's frames have it.
_STDOUT = 1
_SECONDS_BETWEEN = 0.5


class Bounds:
    """The limits of one answer, from now on: a drop every minute is not silence, and still never an answer."""

    def __init__(self, command: Command | str, seconds: float, most_bytes: int = MOST_BYTES) -> None:
        self._subject = str(command)
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._most = {True: most_bytes, False: MOST_COMPLAINTS}
        self._taken = {True: 0, False: 0}
        self._next = 0.0

    def take(self, kind: int, length: int, waiting: Callable[[], None] = lambda: None) -> None:
        """Take note of some bytes of a stream; who waits is told now and then, as in silence.

        Raises InvalidAnswerError, LateAnswerError, or what *waiting* raises.
        """
        said = kind == _STDOUT
        self._taken[said] += length
        if self._taken[said] > self._most[said]:
            raise too_much(self._subject, self._most[said])
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SECONDS_BETWEEN
            self.check(waiting)

    def check(self, waiting: Callable[[], None]) -> None:
        """What is called every half second of silence. Raises what *waiting* raises, and LateAnswerError."""
        waiting()
        self._require_time()

    def _require_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise LateAnswerError(f"{self._subject} has not answered within {self._seconds:.0f} s and was ended.")
