# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The nights of a host, worked out of its history: how each was for a database, and pass by pass where there are several a day.

A night is a date in the time zone of the host's schedule: the one on which the pass began. How many passes were due on it, the
agent says; of one that does not, a single one a night is expected.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from ansible_collections.scalr.backup.plugins.plugin_utils._legible import number
from ansible_collections.scalr.backup.plugins.plugin_utils._status_series import Series

#: How many nights the page looks back.
NIGHTS = 90

# A night of a database, one letter each; PARTLY is one on which some of several passes saved it, FREE one without any due.
GOOD, PARTLY, FAILED, MISSED, DUE, FREE, UNKNOWN = "g", "p", "f", "m", "d", "n", "u"

# What a container's failure as a whole is recorded under.
_WHOLE_CLUSTER = "*"

Entry = Mapping[str, Any]


# All databases of a host have the same passes behind them, and each is looked at several times.
@lru_cache(maxsize=1 << 16)
def instant(text: str) -> datetime:
    """A moment as the agent writes it. Python before 3.11 reads neither a Z nor any number of decimals.

    Raises ValueError if it is none, or one of nobody knows which time zone.
    """
    text = re.sub(r"[.](\d+)", lambda decimals: f".{decimals[1]:0<6.6}", text)
    moment = datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


@dataclass(frozen=True)
class Past:
    """What became of a database: the states of its nights, a letter each, and of the passes of the last two days.

    *codes* are those of failures, by night; *counts* how many passes were good of how many, where several were due.
    *tries* are its entries in the history. *moments* are when the passes were due that *lately* has a letter for.
    """

    nights: str = ""
    codes: Mapping[date, str] = field(default_factory=dict)
    counts: Mapping[date, tuple[int, int]] = field(default_factory=dict)
    tries: tuple[Entry, ...] = ()
    lately: str = ""
    moments: tuple[datetime, ...] = ()


class Nights:
    """A host's nights, as far as they are on record."""

    def __init__(self, status: Entry, now: datetime) -> None:
        self._zone = zone_of(status.get("timezone"))
        self._dates: dict[str, date] = {}
        self.entries = list(status.get("history") or [])
        self.passes = [entry for entry in self.entries if entry["kind"] == "pass"]
        today = now.astimezone(self._zone).date()
        self.dates = [today - timedelta(days=back) for back in range(NIGHTS - 1, -1, -1)]
        next_pass = status.get("next_pass")
        self._due_today = today if next_pass and self._date(next_pass) == today else None
        self._due = {date.fromisoformat(night): int(count) for night, count in (status.get("due_days") or {}).items()}
        self._known_since = min(self._due, default=None)
        self._lately = tuple(instant(moment).astimezone(self._zone) for moment in status.get("due_lately") or ())
        self._broken = [entry for entry in self.passes if _code_of(entry)]
        self._of: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            if entry["kind"] == "backup":
                self._of.setdefault((entry["container"], entry["database"]), []).append(entry)

    @property
    def are_days(self) -> bool:
        """Whether several passes are due on a day."""
        return any(due > 1 for due in self._due.values())

    def of(self, container: str, database: str) -> Past:
        """What became of a database."""
        tries = self._of.get((container, database), [])
        clusters = self._of.get((container, _WHOLE_CLUSTER), [])
        failed = [*self._broken, *(one for one in [*clusters, *tries] if _failures(one))]
        failures: Counter[date] = Counter()
        codes = {}
        for one in failed:
            failures[self._night(one)] += _failures(one)
            codes[self._night(one)] = _code_of(one)
        good: Counter[date] = Counter()
        for one in tries:
            good[self._night(one)] += _successes(one)
        first = min((self._night(one) for one in tries), default=None)
        states = "".join(self._state(night, first, good[night], failures[night]) for night in self.dates)
        told = dict(zip(self.dates, states, strict=False))
        return Past(
            nights=states,
            codes={
                night: codes[night] for night, state in told.items() if state in {FAILED, PARTLY} and codes.get(night)
            },
            counts={
                night: (good[night], max(self._due[night], good[night] + failures[night]))
                for night, state in told.items()
                if self._due.get(night, 0) > 1 and state in {GOOD, PARTLY, FAILED, MISSED}
            },
            tries=tuple(tries),
            lately=self._pass_by_pass(tries, failed),
            moments=self._lately if tries else (),
        )

    def series(self, entries: Iterable[Entry], name: str) -> Series:
        """One number a night out of entries: the last."""
        numbers = {self._night(entry): number(entry, name) for entry in entries}
        return Series(self.dates[0], tuple(numbers.get(night) for night in self.dates))

    def sums(self, entries: Iterable[Entry], name: str) -> Series:
        """One number a night out of entries: their sum; one that stands for a whole day has the sum of that."""
        numbers: dict[date, float] = {}
        for entry in entries:
            night = self._night(entry)
            numbers[night] = numbers.get(night, 0) + (number(entry.get("day") or entry, name) or 0)
        return Series(self.dates[0], tuple(numbers.get(night) for night in self.dates))

    def _state(self, night: date, first: date | None, good: int, failures: int) -> str:
        if first is None or night < first:
            return UNKNOWN
        due = self._due.get(night, 0)
        if due > 1 and good and (failures or good < due):
            return PARTLY
        if good:
            return GOOD
        if failures:
            return FAILED
        if due == 0 and (night == self._due_today or night in self._due):
            return DUE
        is_free = due == 0 and self._known_since is not None and night >= self._known_since
        return FREE if is_free else MISSED

    def _pass_by_pass(self, tries: Iterable[Entry], failed: Iterable[Entry]) -> str:
        """How each pass of the last two days was; what began after one was due, and before the next, was that one."""
        states = [MISSED] * len(self._lately)
        for entries, state in ((failed, FAILED), ([one for one in tries if one["ok"]], GOOD)):
            for entry in entries:
                begun = bisect_right(self._lately, instant(entry.get("started") or entry["time"])) - 1
                if begun >= 0 and not entry.get("day"):
                    states[begun] = state
        return "".join(states)

    def _night(self, entry: Entry) -> date:
        return self._date(entry.get("started") or entry["time"])

    def _date(self, moment: str) -> date:
        known = self._dates.get(moment)
        if known is None:
            known = self._dates[moment] = instant(moment).astimezone(self._zone).date()
        return known


def _successes(entry: Entry) -> int:
    """How many good backups an entry tells of; one that stands for a whole day tells how many."""
    return int(entry["day"]["good"] if entry.get("day") else bool(entry["ok"]))


def _failures(entry: Entry) -> int:
    """How many failures it tells of; of a pass, whether it failed as a whole."""
    if entry["kind"] == "pass":
        return int(bool(_code_of(entry)))
    return int(entry["day"]["failed"] if entry.get("day") else not entry["ok"])


def _code_of(entry: Entry) -> str:
    return str((entry.get("day") or entry).get("error") or "")


def zone_of(name: str | None) -> tzinfo:
    """A time zone by its name; a controller that does not know it counts in UTC."""
    try:
        return ZoneInfo(name or "UTC")
    except (OSError, KeyError, ValueError):
        return timezone.utc
