# SPDX-License-Identifier: GPL-3.0-or-later
"""Events of a run: what a terminal draws, ``--json`` prints and the log keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
Emit = Callable[[Event], None]


def progress(phase: str, **facts: Any) -> Event:
    """Something is under way; *facts* are bytes, names, counts."""
    return {"event": "progress", "phase": phase, **facts}


def log(level: str, message: str, **facts: Any) -> Event:
    """Something worth a line in the log."""
    return {"event": "log", "level": level, "message": message, **facts}


def nobody(event: Event) -> None:
    """Listen to nothing."""


def with_run(emit: Emit, run: str) -> Emit:
    """Tell the same listener, with the run's id in each event."""

    def tell(event: Event) -> None:
        emit({**event, "run": run})

    return tell


class Pace:
    """How fast each thing that is under way goes, and when it is time to say so again.

    What begins is told of at once by its own event; *every* seconds later it is due for the first time.
    """

    def __init__(self, every: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._known: dict[tuple[Any, ...], _Activity] = {}

    def due(self, event: Event) -> dict[str, Any] | None:
        """The facts to tell of an event of progress; None when it is too early for that."""
        key = tuple(event.get(name) for name in ("run", "container", "database"))
        now, amount = self._clock(), event.get("bytes", event.get("done"))
        activity = self._known.get(key)
        if activity is None or activity.phase != event["phase"]:
            activity = self._known[key] = _Activity(event["phase"], now)
        if amount is not None and activity.first is None:
            activity.first = (now, amount)
        if now - activity.told < self._every:
            return None
        activity.told = now
        return {name: value for name, value in event.items() if name != "event"} | activity.speed(event, now)


class _Activity:
    def __init__(self, phase: str, now: float) -> None:
        self.phase = phase
        self.told = now
        self.first: tuple[float, float] | None = None

    def speed(self, event: Event, now: float) -> dict[str, int]:
        """Bytes per second since the first of them, and the seconds that are left, as far as these can be told."""
        amount = event.get("bytes", event.get("done"))
        total = event.get("total_bytes", event.get("total"))
        if amount is None or self.first is None or now <= self.first[0] or amount <= self.first[1]:
            return {}
        rate = (amount - self.first[1]) / (now - self.first[0])
        facts = {"bytes_per_second": round(rate)} if "bytes" in event else {}
        if total and total > amount:
            facts["seconds_left"] = max(1, round((total - amount) / rate))
        return facts
