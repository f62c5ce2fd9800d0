# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs checks in parallel and in isolation: one that hangs or crashes fails alone, and the others still run.

A thread cannot be ended from outside. One that hangs is told to stop, and then abandoned: its late result is ignored.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from scalr_backup.actions.doctor.examined import FAILED, SKIPPED, Examined, of_error
from scalr_backup.core.errors import InterruptedRunError

_TICK_SECONDS = 0.1
# Seconds that those that were told to stop have to end what they have started: restic, or a psql in a container.
_LAST_SECONDS = 5.0


class NothingToLookAtError(Exception):
    """A look needs what another one could not get; its text names that."""


@dataclass(frozen=True)
class CheckUp:
    """One of them: *look* is told to stop when it has taken *seconds*, and begins when those that it comes *after* have ended."""

    name: str
    look: Callable[[threading.Event], Examined]
    seconds: float
    after: tuple[str, ...] = ()


@dataclass
class Made:
    """What every check came to, by its name, and how many seconds it took; *hangs* says that one is still under way at the end."""

    examined: dict[str, Examined] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    hangs: bool = False


@dataclass(frozen=True)
class _Running:
    check: CheckUp
    began: float
    stop: threading.Event
    thread: threading.Thread


def make(checks: Sequence[CheckUp], host: Callable[[], str], cancelled: threading.Event) -> Made:
    """Make all checks; *host* names this one in commands.

    Raises InterruptedRunError when told to stop.
    """
    made, running, waiting = Made(), dict[str, _Running](), list(checks)
    given_up: list[_Running] = []
    ended: queue.SimpleQueue[tuple[str, Examined]] = queue.SimpleQueue()
    while waiting or running:
        for check in [one for one in waiting if all(name in made.examined for name in one.after)]:
            waiting.remove(check)
            running[check.name] = _start(check, host, ended)
        if cancelled.is_set():
            _all_ended([*given_up, *running.values()])
            raise InterruptedRunError("Told to stop while checking; nothing was changed.")
        _take(ended, running, made)
        given_up += _give_up(running, made)
    made.hangs = not _all_ended(given_up)
    made.examined = {check.name: made.examined[check.name] for check in checks}
    return made


def _start(check: CheckUp, host: Callable[[], str], ended: queue.SimpleQueue[tuple[str, Examined]]) -> _Running:
    stop = threading.Event()

    def look() -> None:
        try:
            examined = check.look(stop)
        except NothingToLookAtError as missing:
            examined = Examined(SKIPPED, f"Skipped: it needs {missing}; see that check.")
        except Exception as error:  # noqa: BLE001 (whatever it is, the other checks are made)
            examined = of_error(error, host())
        ended.put((check.name, examined.harmless()))

    thread = threading.Thread(target=look, name=f"check {check.name}", daemon=True)
    thread.start()
    return _Running(check, time.monotonic(), stop, thread)


def _take(ended: queue.SimpleQueue[tuple[str, Examined]], running: dict[str, _Running], made: Made) -> None:
    """Take what has ended; what was given up does not count."""
    try:
        name, examined = ended.get(timeout=_TICK_SECONDS)
    except queue.Empty:
        return
    if one := running.pop(name, None):
        made.examined[name], made.seconds[name] = examined, time.monotonic() - one.began


def _give_up(running: dict[str, _Running], made: Made) -> list[_Running]:
    """Tell those to stop that have taken too long, and return them."""
    given_up = []
    for name, one in list(running.items()):
        taken = time.monotonic() - one.began
        if taken > one.check.seconds:
            one.stop.set()
            del running[name]
            made.examined[name] = Examined(
                FAILED,
                f"This check did not finish within {one.check.seconds:.0f} s and was abandoned.",
                cure="Find out what hangs: a mount, the store, the engine, or a database server.",
            )
            made.seconds[name] = taken
            given_up.append(one)
    return given_up


def _all_ended(stopped: Sequence[_Running]) -> bool:
    """Tell them to stop, and whether all have ended soon: whoever ends before them leaves behind what they have started."""
    for one in stopped:
        one.stop.set()
    deadline = time.monotonic() + _LAST_SECONDS
    for one in stopped:
        one.thread.join(max(0.0, deadline - time.monotonic()))
    return not any(one.thread.is_alive() for one in stopped)


def tally(examined: Mapping[str, Examined], verdict: str) -> list[str]:
    """The checks with a verdict."""
    return [name for name, one in examined.items() if one.verdict == verdict]
