# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The agent's events as lines for people: plain ones, which read well on a terminal and in the log of a pipeline."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, TypeGuard

from ansible.module_utils.common.text.formatters import bytes_to_human
from ansible_collections.scalr.backup.plugins.filter.duration import duration

_Event = dict[str, Any]

# A rate is that of the last so many seconds: long enough to be steady, short enough to notice a stall.
_RATE_SECONDS = 20
# After so many seconds without news the last line is said again, with the time that has passed.
_SILENCE_SECONDS = 10
# A run over very many small databases tells of the last of them.
_LINES_AT_ONCE = 3


class Lines:
    """The lines of one call, made as its output comes in; *host* stands at the beginning of each."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._seen = 0
        self._activities: dict[tuple[str, str], _Activity] = {}
        self._told: float | None = None
        self._last: _Activity | None = None

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
        said: list[str] = []
        changed: dict[tuple[str, str], _Activity] = {}
        for event in filter(None, map(_event, complete)):
            if event["event"] == "log":
                said.append(self._line(event, _message(event)))
            elif event["event"] == "progress":
                key = str(event.get("container")), str(event.get("database"))
                changed.pop(key, None)
                changed[key] = self._activity(key, event, now)
        said += [self._line(one.event, one.describe(now)) for one in list(changed.values())[-_LINES_AT_ONCE:]]
        return self._remember(said, list(changed.values()), now)

    def _activity(self, key: tuple[str, str], event: _Event, now: float) -> _Activity:
        """What is being done to a database; a new phase is a new activity."""
        activity = self._activities.get(key)
        if activity is None or activity.event.get("phase") != event.get("phase"):
            activity = self._activities[key] = _Activity(now)
        activity.add(event, now)
        return activity

    def _remember(self, said: list[str], changed: list[_Activity], now: float) -> list[str]:
        if changed:
            self._last = changed[-1]
        if said:
            self._told = now
        elif self._last is not None and self._told is not None and now - self._told >= _SILENCE_SECONDS:
            self._told = now
            return [self._line(self._last.event, self._last.describe(now))]
        return said

    def _line(self, event: _Event, text: str) -> str:
        names = "/".join(str(event[key]) for key in ("container", "database") if event.get(key))
        return printable(f"{self._host} {names}: {text}" if names else f"{self._host}: {text}")


class _Activity:
    """One phase of one database, and how fast it goes."""

    def __init__(self, now: float) -> None:
        self.event: _Event = {}
        self._began = now
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, event: _Event, now: float) -> None:
        """Take in the latest event of the phase."""
        self.event = event
        amount, _total = _amount(event)
        if amount is None:
            return
        self._samples.append((now, amount))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _RATE_SECONDS:
            self._samples.popleft()

    def describe(self, now: float) -> str:
        """The phase, and how far it is: bytes, rows and other things done, rate, time left, time passed."""
        event = self.event
        parts = [str(event.get("phase", "")).replace("-", " ")]
        if _is_number(event.get("bytes")):
            parts.append(_of(event["bytes"], event.get("total_bytes"), bytes_to_human))
            parts += self._speed()
        if _is_number(event.get("rows")):
            parts.append(_of(event["rows"], event.get("total_rows"), "{:,}".format) + " rows")
        if _is_number(event.get("done")):
            parts.append(_of(event["done"], event.get("total"), "{:,}".format))
        elapsed = event.get("elapsed_seconds")
        passed = elapsed if _is_number(elapsed) else now - self._began
        if passed >= 1:
            parts.append(f"{duration(int(passed) if passed >= 10 else passed)} so far")
        return ", ".join(parts)

    def _speed(self) -> list[str]:
        """The rate and the time left, as far as they can be told."""
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        if ended <= began or last <= first:
            return []
        rate = (last - first) / (ended - began)
        parts = [f"{bytes_to_human(rate)}/s"]
        amount, total = _amount(self.event)
        if total is not None and amount is not None and total > amount:
            parts.append(f"{duration(max(1, round((total - amount) / rate)))} left")
        return parts


def printable(text: str) -> str:
    """A text that cannot steer a terminal: names of databases and words of servers may be in it."""
    return "".join(character if character.isprintable() else "?" for character in text)


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


def _amount(event: _Event) -> tuple[float | None, float | None]:
    """How many bytes are done, and how many there are; None for what is not known."""
    amount, total = event.get("bytes"), event.get("total_bytes")
    return amount if _is_number(amount) else None, total if _is_number(total) else None


def _of(done: float, total: object, said: Callable[[float], str]) -> str:
    """So many of so many, with a percentage where the total is known and right."""
    if not _is_number(total) or total < max(done, 1):
        return said(done)
    return f"{said(done)} of {said(total)} ({int(100 * done / total)} %)"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 2**63
