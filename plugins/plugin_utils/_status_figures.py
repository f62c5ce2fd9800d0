# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What the status page says, worked out of what the hosts have answered: no markup, and no clock but the given one.

A night is a date in the time zone of the host's schedule: the one on which the pass began.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone, tzinfo
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from ansible_collections.scalr.backup.plugins.plugin_utils._status_problems import (
    Card,
    Problem,
    cards,
    problems_of,
    silence,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_snapshots import Snapshot, by_database

#: How many nights the page looks back.
NIGHTS = 90

# A night of a database, one letter each.
GOOD, FAILED, MISSED, DUE, UNKNOWN = "g", "f", "m", "d", "u"

# How a database, a host or the fleet is, the worst first.
BAD, WARNING, NEW, SAFE = "bad", "warning", "new", "safe"
_WORST_FIRST = [BAD, WARNING, NEW, SAFE]

# The outcomes of a host that nothing is known of.
_SILENT = {"not reached", "without an answer"}

# A drill that could not be tried says nothing about the backup; agents before 0.4.0 have put it on record nevertheless.
_NO_VERDICT = {"no_memory", "no_image", "throwaway_container", "call_refused", "docker_unreachable"}
# What a container's failure as a whole is recorded under.
_WHOLE_CLUSTER = "*"
# Growth over less than a week is noise.
_SHORTEST_GROWTH = timedelta(days=7)

Entry = Mapping[str, Any]


def instant(text: str) -> datetime:
    """A moment as the agent writes it. Python before 3.11 reads neither a Z nor any number of decimals."""
    text = re.sub(r"[.](\d+)", lambda decimals: f".{decimals[1]:0<6.6}", text)
    return datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))


@dataclass(frozen=True)
class Series:
    """Numbers of successive nights; a night without a number has None."""

    first: date
    values: tuple[float | None, ...]

    @property
    def known(self) -> list[tuple[date, float]]:
        """The nights that have a number."""
        return [
            (self.first + timedelta(days=night), value) for night, value in enumerate(self.values) if value is not None
        ]

    @property
    def growth(self) -> float | None:
        """By what share the last number is larger than the first, or None where they are no week apart."""
        known = self.known
        if not known or known[-1][0] - known[0][0] < _SHORTEST_GROWTH or not known[0][1]:
            return None
        return known[-1][1] / known[0][1] - 1

    def filled(self) -> Series:
        """The same with the number of the night before where there is none."""
        filled: list[float | None] = []
        for value in self.values:
            filled.append(filled[-1] if value is None and filled else value)
        return Series(self.first, tuple(filled))


def total(several: Iterable[Series]) -> Series | None:
    """The sum of series that begin on about the same night; None where there is no number at all."""
    several = [series for series in several if series.known]
    if not several:
        return None
    sums = [
        None if all(value is None for value in night) else sum(value or 0 for value in night)
        for night in zip(*(series.values for series in several), strict=False)
    ]
    return Series(several[0].first, tuple(sums))


@dataclass(frozen=True)
class Database:
    """A database as the page shows it; sizes in bytes, durations and ages in seconds."""

    host: str
    container: str
    name: str
    condition: str
    verdict: str
    age_seconds: float | None
    error: str | None
    first_night: date
    nights: str
    codes: Mapping[date, str]
    dumps: Series
    bytes_read: float | None
    rows: int | None
    drill: Mapping[str, Any] | None
    # The newest first; None where the repository was not asked or did not answer.
    snapshots: tuple[Snapshot, ...] | None = None

    @property
    def full_name(self) -> str:
        """What it is called on its host."""
        return f"{self.container}/{self.name}"

    @property
    def place(self) -> tuple[Any, ...]:
        """Its place among all, by the names of host, container and database."""
        return _by_number(self.host), _by_number(self.container), self.name

    @property
    def rank(self) -> tuple[Any, ...]:
        """The worst first, the oldest of those first."""
        age = float("inf") if self.age_seconds is None else self.age_seconds
        worst = _WORST_FIRST.index(self.condition)
        return worst, -age if worst == 0 else 0, *self.place

    @property
    def recovery_seconds(self) -> float | None:
        """How long its last drill took to restore it."""
        return (self.drill or {}).get("recovery_seconds")

    @property
    def recorded_since(self) -> date | None:
        """The first night that is on record, or None."""
        unknown = len(self.nights) - len(self.nights.lstrip(UNKNOWN))
        return None if unknown == len(self.nights) else self.first_night + timedelta(days=unknown)

    def on(self, state: str) -> list[date]:
        """The nights that were so."""
        return [self.first_night + timedelta(days=number) for number, night in enumerate(self.nights) if night == state]


@dataclass(frozen=True)
class Host:
    """A host as the page shows it."""

    name: str
    outcome: str
    summary: str
    condition: str
    databases: tuple[Database, ...] = ()
    problems: tuple[Problem, ...] = ()
    repository: str | None = None
    next_pass: str | None = None
    sizes: Series | None = None
    snapshots: int | None = None
    unmatched: tuple[str, ...] = ()
    bytes_read: float = 0
    bytes_stored: float = 0
    pass_seconds: float | None = None

    @property
    def answered(self) -> bool:
        """Whether anything is known of its databases."""
        return self.outcome not in _SILENT

    @property
    def dedup_ratio(self) -> float | None:
        """How many times as much was read as had to be stored."""
        return _ratio(self.bytes_read, self.bytes_stored)


@dataclass(frozen=True)
class Fleet:
    """All hosts, and what is true of them together."""

    now: datetime
    hosts: tuple[Host, ...]
    name: str = ""
    nights: int = field(default=NIGHTS)

    @cached_property
    def databases(self) -> list[Database]:
        """Every database, the worst first."""
        return sorted((one for host in self.hosts for one in host.databases), key=lambda one: one.rank)

    @cached_property
    def problems(self) -> list[Problem]:
        """What is wrong, failures first, and in the order of the hosts."""
        found = [problem for host in self.hosts for problem in host.problems]
        return sorted(found, key=lambda problem: problem.severity != "failure")

    @cached_property
    def cards(self) -> list[Card]:
        """The same, a card for each cause."""
        return cards(self.problems)

    @property
    def silent(self) -> list[Host]:
        """Hosts that nothing is known of."""
        return [host for host in self.hosts if not host.answered]

    @property
    def unmatched(self) -> list[str]:
        """PostgreSQL containers that nothing backs up."""
        return [name for host in self.hosts for name in host.unmatched]

    @property
    def unsafe(self) -> list[Database]:
        """Databases without what they should have."""
        return [one for one in self.databases if one.condition == BAD]

    @property
    def condition(self) -> str:
        """How the fleet is."""
        if any(host.condition == BAD for host in self.hosts):
            return BAD
        if not self.databases and not self.unmatched:
            return NEW
        return WARNING if any(problem.severity == "warning" for problem in self.problems) else SAFE

    @property
    def oldest(self) -> Database | None:
        """The database whose good backup is the oldest, among those that have one."""
        aged = [one for one in self.databases if one.age_seconds is not None]
        return max(aged, key=lambda one: one.age_seconds or 0) if aged else None

    @cached_property
    def counted_nights(self) -> list[Counter[str]]:
        """For every night, how many databases it was how for."""
        return [Counter(states) for states in zip(*(one.nights for one in self.databases), strict=False)]

    @property
    def good_share(self) -> float | None:
        """The share of good ones among all nights of all databases that are on record."""
        counted = sum(self.counted_nights, Counter())
        recorded = counted[GOOD] + counted[FAILED] + counted[MISSED]
        return counted[GOOD] / recorded if recorded else None

    @cached_property
    def repositories(self) -> dict[str, Series]:
        """The size of each repository; one that several hosts share counts once."""
        sizes: dict[str, Series] = {}
        for host in self.hosts:
            if host.sizes and host.repository and host.sizes.known:
                # A path is a place on the host itself.
                where = f"{host.name}:{host.repository}" if host.repository.startswith("/") else host.repository
                before = sizes.get(where)
                if before is None or before.known[-1] < host.sizes.known[-1]:
                    sizes[where] = host.sizes
        return sizes

    @cached_property
    def stored(self) -> Series | None:
        """The size of all repositories together."""
        return total(series.filled() for series in self.repositories.values())

    @cached_property
    def dumped(self) -> Series | None:
        """The size of all dumps of a night together."""
        return total(one.dumps.filled() for one in self.databases)

    @property
    def bytes_read(self) -> float:
        """How much was dumped in all nights."""
        return sum(host.bytes_read for host in self.hosts)

    @property
    def bytes_stored(self) -> float:
        """How much of it had to be stored."""
        return sum(host.bytes_stored for host in self.hosts)

    @property
    def dedup_ratio(self) -> float | None:
        """How many times as much was read as had to be stored."""
        return _ratio(self.bytes_read, self.bytes_stored)

    @property
    def proven(self) -> list[Database]:
        """Databases that have passed their last drill."""
        return [one for one in self.databases if one.drill and one.drill["ok"]]

    @property
    def recorded_since(self) -> date | None:
        """The first night that is on record, or None."""
        return min((night for one in self.databases if (night := one.recorded_since)), default=None)


def _by_number(name: str) -> list[str]:
    """What puts web2 before web10."""
    return [part.zfill(12) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _ratio(read: float, added: float) -> float | None:
    return read / added if read and added else None


def fleet(answers: Iterable[Mapping[str, Any]], now: datetime, name: str = "") -> Fleet:
    """The fleet out of what each host has answered.

    An answer has the host's ``name``, its ``outcome``, a ``summary``, and, where it has said anything, its ``status``
    with the ``history`` and the ``snapshots`` in it, as the module status_info returns them. *name* is what the fleet is called.
    """
    hosts = [_host(answer, now) for answer in answers]
    ordered = sorted(hosts, key=lambda host: (_WORST_FIRST.index(host.condition), _by_number(host.name)))
    return Fleet(now, tuple(ordered), name)


def _host(answer: Mapping[str, Any], now: datetime) -> Host:
    name, outcome, summary = str(answer["name"]), answer["outcome"], answer["summary"]
    if outcome in _SILENT:
        return Host(name, outcome, summary, BAD, problems=(silence(name, outcome, summary),))
    status = answer["status"]
    nights = _Nights(status, now)
    problems = problems_of(name, status)
    listed = by_database(status["snapshots"]) if status.get("snapshots") is not None else None
    databases = tuple(_database(name, entry, status, nights, listed) for entry in status.get("databases") or [])
    good = [entry for entry in nights.entries if entry["kind"] == "backup" and entry["ok"]]
    return Host(
        name=name,
        outcome=outcome,
        summary=summary,
        condition=_condition_of_host(outcome, problems, databases),
        databases=databases,
        problems=problems,
        repository=status.get("repository"),
        next_pass=status.get("next_pass"),
        sizes=nights.series([entry for entry in nights.passes if entry.get("size_bytes")], "size_bytes"),
        snapshots=next((entry["snapshots"] for entry in reversed(nights.passes) if entry.get("snapshots")), None),
        unmatched=tuple(str(one["name"]) for one in status.get("unmatched") or ()),
        bytes_read=sum(entry.get("bytes_read") or 0 for entry in good),
        bytes_stored=sum(_stored(entry) for entry in good),
        pass_seconds=(status.get("last_pass") or {}).get("duration_seconds"),
    )


def _stored(backup: Entry) -> float:
    """What a backup has added to its repository, compressed; agents before 0.3.0 have one number for it."""
    return backup.get("bytes_stored", backup.get("bytes_added")) or 0


def _condition_of_host(outcome: str, problems: tuple[Problem, ...], databases: tuple[Database, ...]) -> str:
    if outcome == "not safe" or any(one.condition == BAD for one in databases):
        return BAD
    if problems:
        return WARNING
    return SAFE if databases else NEW


def _database(
    host: str,
    entry: Entry,
    status: Entry,
    nights: _Nights,
    listed: Mapping[tuple[str, str], tuple[Snapshot, ...]] | None,
) -> Database:
    container, name = entry["container"], entry["database"]
    states, codes, tries = nights.of(container, name)
    condition, verdict = _judge(entry, status.get("findings"))
    return Database(
        host=host,
        container=container,
        name=name,
        condition=condition,
        verdict=verdict,
        age_seconds=entry.get("age_seconds"),
        error=(entry.get("error") or {}).get("message"),
        first_night=nights.dates[0],
        nights=states,
        codes=codes,
        dumps=nights.series([one for one in tries if one["ok"]], "bytes_read"),
        bytes_read=entry.get("bytes_read"),
        rows=entry.get("rows"),
        drill=entry.get("drill"),
        snapshots=None if listed is None else listed.get((container, name), ()),
    )


def _judge(entry: Entry, findings: list[Entry] | None) -> tuple[str, str]:
    """How a database is, in one word for the page and in a few for its reader."""
    drill = entry.get("drill")
    if not entry.get("last_success"):
        return BAD, "Never backed up"
    if not entry.get("fresh", True):
        return BAD, "No recent backup"
    if not entry["ok"]:
        return BAD, "Last try failed"
    if drill and not drill["ok"] and (drill.get("error") or {}).get("code") not in _NO_VERDICT:
        return BAD, "Drill failed"
    severities = {
        finding["severity"]
        for finding in findings or []
        if finding.get("container") == entry["container"] and finding.get("database") in {None, entry["database"]}
    }
    if "failure" in severities:
        return BAD, "Not safe"
    return (WARNING, "Warning") if "warning" in severities else (SAFE, "Safe")


class _Nights:
    """A host's nights, as far as they are on record."""

    def __init__(self, status: Entry, now: datetime) -> None:
        self._zone = _zone(status.get("timezone"))
        self.entries = list(status.get("history") or [])
        self.passes = [entry for entry in self.entries if entry["kind"] == "pass"]
        today = now.astimezone(self._zone).date()
        self.dates = [today - timedelta(days=back) for back in range(NIGHTS - 1, -1, -1)]
        next_pass = status.get("next_pass")
        self._due = today if next_pass and self._date(next_pass) == today else None
        self._broken = {self._night(entry): entry.get("error") or "" for entry in self.passes if entry.get("error")}
        self._of: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            if entry["kind"] == "backup":
                self._of.setdefault((entry["container"], entry["database"]), []).append(entry)

    def of(self, container: str, database: str) -> tuple[str, dict[date, str], list[Entry]]:
        """The states of a database's nights, a letter each, the codes of those that failed, and all tries."""
        tries = self._of.get((container, database), [])
        clusters = self._of.get((container, _WHOLE_CLUSTER), [])
        failures = {
            **self._broken,
            **{self._night(one): one["error"] or "" for one in [*clusters, *tries] if not one["ok"]},
        }
        good = {self._night(one) for one in tries if one["ok"]}
        first = min((self._night(one) for one in tries), default=None)
        states = "".join(self._state(night, first, good, failures) for night in self.dates)
        codes = {night: failures[night] for state, night in zip(states, self.dates, strict=False) if state == FAILED}
        return states, codes, tries

    def series(self, entries: Iterable[Entry], name: str) -> Series:
        """One number a night out of entries: the last."""
        numbers = {self._night(entry): entry.get(name) for entry in entries}
        return Series(self.dates[0], tuple(numbers.get(night) for night in self.dates))

    def _state(self, night: date, first: date | None, good: set[date], failures: Mapping[date, str]) -> str:
        if first is None or night < first:
            return UNKNOWN
        if night in good:
            return GOOD
        if night in failures:
            return FAILED
        return DUE if night == self._due else MISSED

    def _night(self, entry: Entry) -> date:
        return self._date(entry.get("started") or entry["time"])

    def _date(self, moment: str) -> date:
        return instant(moment).astimezone(self._zone).date()


def _zone(name: str | None) -> tzinfo:
    """A time zone by its name; a controller that does not know it counts in UTC."""
    try:
        return ZoneInfo(name or "UTC")
    except (OSError, KeyError, ValueError):
        return timezone.utc
