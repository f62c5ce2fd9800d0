# SPDX-License-Identifier: GPL-3.0-or-later
"""Events of a run: what a terminal draws, ``--json`` prints and the log keeps."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
Emit = Callable[[Event], None]

# A rate is that of the last so many seconds: long enough to be steady, short enough to notice a stall.
_RATE_SECONDS = 20.0


def progress(phase: str, **facts: Any) -> Event:
    """Something is under way; *facts* are bytes, names, counts."""
    return {"event": "progress", "phase": phase, **facts}


def log(level: str, message: str, **facts: Any) -> Event:
    """Something worth a line in the log."""
    return {"event": "log", "level": level, "message": message, **facts}


def starting_over(**names: Any) -> Event:
    """What was done to a database did not succeed, and is done again from the beginning: what follows is no step back."""
    return progress("starting-over", **names, starts_over=True)


def nobody(event: Event) -> None:
    """Listen to nothing."""


def with_run(emit: Emit, run: str) -> Emit:
    """Tell the same listener, with the run's id in each event."""

    def tell(event: Event) -> None:
        emit({**event, "run": run})

    return tell


def amount_of(event: Event) -> float | None:
    """How much is done, in bytes or in things; None where nothing is measured."""
    amount = event.get("bytes", event.get("done"))
    return amount if isinstance(amount, int | float) else None


def total_of(event: Event) -> float | None:
    """How much there is to do; None where nobody knows."""
    total = event.get("total_bytes", event.get("total"))
    return total if isinstance(total, int | float) else None


class Course:
    """What several threads tell, so that nothing ever runs backwards, and with it how fast it goes.

    Of a database that is done no progress is told any more, none of a phase that it has left, and no amount below one that
    was told already, unless it is said to start over. What concerns no database, such as a prune, has stages that begin
    again from nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[Any, ...], _Activity] = {}
        self._over: set[tuple[Any, ...]] = set()

    def take(self, event: Event) -> Event | None:
        """The same event, with the rate and the time left where they are known; None where it comes too late."""
        key = tuple(event.get(name) for name in ("run", "container", "database"))
        with self._lock:
            if event["event"] == "log" and "ok" in event and event.get("database"):
                self._over.add(key)
            if event["event"] != "progress":
                return event
            if key in self._over:
                return None
            if event.get("starts_over"):
                self._known.pop(key, None)
            activity = self._known.setdefault(key, _Activity())
            if not activity.advance(event, self._clock(), may_begin_again=not event.get("database")):
                return None
            return event | activity.speed(event)


class _Activity:
    """What is done to one database, or to none: its phase, and how far that was lately."""

    def __init__(self) -> None:
        self._phase = ""
        self._left: set[str] = set()
        self._samples: deque[tuple[float, float]] = deque()

    def advance(self, event: Event, now: float, *, may_begin_again: bool) -> bool:
        """Take in an event of progress; False where it would be a step back."""
        if event["phase"] != self._phase:
            if event["phase"] in self._left and not may_begin_again:
                return False
            self._left.add(self._phase)
            self._phase = event["phase"]
            self._samples.clear()
        amount = amount_of(event)
        if amount is None:
            return True
        if self._samples and amount < self._samples[-1][1]:
            if not may_begin_again:
                return False
            self._samples.clear()
        self._samples.append((now, amount))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _RATE_SECONDS:
            self._samples.popleft()
        return True

    def speed(self, event: Event) -> dict[str, int]:
        """Bytes per second, and the seconds that are left, as far as these can be told."""
        amount, total = amount_of(event), total_of(event)
        if amount is None:
            return {}
        (began, first), (now, _latest) = self._samples[0], self._samples[-1]
        if now <= began or amount <= first:
            return {}
        rate = (amount - first) / (now - began)
        facts = {"bytes_per_second": round(rate)} if "bytes" in event else {}
        if total and total > amount:
            facts["seconds_left"] = max(1, round((total - amount) / rate))
        return facts


class Pace:
    """When it is time to say again how far a thing is.

    What begins is told of at once by its own event; *every* seconds later it is due for the first time.
    """

    def __init__(self, every: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._told: dict[tuple[Any, ...], tuple[str, float]] = {}

    def due(self, event: Event) -> dict[str, Any] | None:
        """The facts to tell of an event of progress; None when it is too early for that."""
        key = tuple(event.get(name) for name in ("run", "container", "database"))
        now = self._clock()
        phase, told = self._told.get(key, ("", now))
        if phase != event["phase"]:
            self._told[key] = (event["phase"], now)
            return None
        if now - told < self._every:
            return None
        self._told[key] = (phase, now)
        return {name: value for name, value in event.items() if name != "event"}
