# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The agent's events as lines for people: plain ones, which read well on a terminal and in the log of a pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeGuard

from ansible_collections.scalr.backup.plugins.plugin_utils._units import (
    human_bytes,
    human_elapsed,
    human_rate,
    human_time_left,
    printable,
)

_Event = dict[str, Any]
# A container and a database in it.
_Key = tuple[str, str]

# After so many seconds without news the last line is said again, with the time that has passed.
_SILENCE_SECONDS = 10
# A run over very many small databases tells of the last of them.
_LINES_AT_ONCE = 3


class Lines:
    """The lines of one call, made as its output comes in; *host* stands at the beginning of each.

    What was said stays true: of a database that is done no progress is shown any more, and no amount below one that was shown.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._seen = 0
        # The one that was heard of last stands at the end.
        self._activities: dict[_Key, _Activity] = {}
        self._over: set[_Key] = set()
        self._told: float | None = None

    @property
    def seen(self) -> int:
        """How many lines of the agent's output have been taken in."""
        return self._seen

    def take(self, output: str, now: float) -> list[str]:
        """Take in what the agent has printed since the last time, and return the lines to show.

        *output* may end within a line, which is left for the next time. *now* is a time in seconds, on any clock.
        """
        if self._told is None:
            self._told = now
        # Not splitlines(): it also splits at characters that JSON may hold unescaped.
        complete = output.replace("\r\n", "\n").split("\n")[:-1]
        self._seen += len(complete)
        said: list[str | _Key] = []
        for event in filter(None, map(_event, complete)):
            key = str(event.get("container")), str(event.get("database"))
            if event["event"] == "log":
                self._end(event, key, said)
                said.append(self._line(event, _message(event)))
            elif event["event"] == "progress" and self._advance(event, key, now):
                # Of one database only the latest news is a line, in its place among all others.
                said = [*(one for one in said if one != key), key]
        return self._remember(self._written(said, now), now)

    def _end(self, event: _Event, key: _Key, said: list[str | _Key]) -> None:
        """Forget what was going on with a database that is done, for good or ill."""
        if "ok" in event and event.get("database"):
            self._over.add(key)
            self._activities.pop(key, None)
            if key in said:
                said.remove(key)

    def _advance(self, event: _Event, key: _Key, now: float) -> bool:
        """Take in what is being done to a database, where that is news; a new phase is a new activity."""
        if key in self._over:
            return False
        activity = self._activities.pop(key, None)
        if activity is None or activity.event.get("phase") != event.get("phase"):
            activity = _Activity(now)
        self._activities[key] = activity
        return activity.advance(event, may_begin_again=not event.get("database"))

    def _written(self, said: list[str | _Key], now: float) -> list[str]:
        shown = [one for one in said if isinstance(one, tuple)][-_LINES_AT_ONCE:]
        return [
            one if isinstance(one, str) else self._news(one, now)
            for one in said
            if isinstance(one, str) or one in shown
        ]

    def _news(self, key: _Key, now: float) -> str:
        activity = self._activities[key]
        return self._line(activity.event, activity.describe(now))

    def _remember(self, said: list[str], now: float) -> list[str]:
        if said:
            self._told = now
        elif self._activities and self._told is not None and now - self._told >= _SILENCE_SECONDS:
            self._told = now
            return [self._news(next(reversed(self._activities)), now)]
        return said

    def _line(self, event: _Event, text: str) -> str:
        names = "/".join(str(event[key]) for key in ("container", "database") if event.get(key))
        return printable(f"{self._host} {names}: {text}" if names else f"{self._host}: {text}")


class _Activity:
    """One phase of one database, and how far it is; how fast it goes the agent says."""

    def __init__(self, now: float) -> None:
        self.event: _Event = {}
        self._began = now

    def advance(self, event: _Event, *, may_begin_again: bool) -> bool:
        """Take in the latest event of the phase; False where it is behind the one before."""
        amount, known = _amount(event), _amount(self.event)
        if amount is not None and known is not None and amount < known and not may_begin_again:
            return False
        self.event = event
        return True

    def describe(self, now: float) -> str:
        """The phase, and how far it is: bytes, rows and other things done, rate, time left, time passed."""
        event = self.event
        parts = [str(event.get("phase", "")).replace("-", " ")]
        if _is_number(event.get("bytes")):
            parts.append(_of(event["bytes"], event.get("total_bytes"), human_bytes))
        if _is_number(event.get("rows")):
            parts.append(_of(event["rows"], event.get("total_rows"), "{:,}".format) + " rows")
        if _is_number(event.get("done")):
            parts.append(_of(event["done"], event.get("total"), "{:,}".format))
        if _is_number(event.get("bytes_per_second")):
            parts.append(human_rate(event["bytes_per_second"]))
        if _is_number(event.get("seconds_left")):
            parts.append(human_time_left(event["seconds_left"]))
        elapsed = event.get("elapsed_seconds")
        passed = elapsed if _is_number(elapsed) else now - self._began
        if passed >= 1:
            parts.append(human_elapsed(passed))
        return ", ".join(parts)


def process(line: str) -> tuple[Any, Any] | None:
    """The process that a line of the output says is at work, as its number and its start, or None."""
    event = _event(line)
    if event is None or event["event"] != "process":
        return None
    return event.get("id"), event.get("started")


def _event(line: str) -> _Event | None:
    """An event, or None where the line is none: what else is printed there is no news."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _message(event: _Event) -> str:
    level = str(event.get("level"))
    error = event.get("error")
    reason = error.get("message") if isinstance(error, dict) else None
    text = ": ".join(str(part) for part in (event.get("message"), reason) if part)
    return f"{level.upper()}: {text}" if level in {"warning", "error"} else text


def _amount(event: _Event) -> float | None:
    """How much is done, in bytes or in things; None where that is not known."""
    amount = event.get("bytes", event.get("done"))
    return amount if _is_number(amount) else None


def _of(done: float, total: object, said: Callable[[float], str]) -> str:
    """So many of so many, with a percentage where the total is known and right."""
    if not _is_number(total) or total < max(done, 1):
        return said(done)
    return f"{said(done)} of {said(total)} ({int(100 * done / total)} %)"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63
