# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What the status page says, worked out of what the hosts have answered: no markup, and no clock but the given one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._findings import severities
from ansible_collections.scalr.backup.plugins.plugin_utils._legible import number
from ansible_collections.scalr.backup.plugins.plugin_utils._status_nights import (
    FAILED,
    GOOD,
    MISSED,
    NIGHTS,
    PARTLY,
    UNKNOWN,
    Nights,
    Past,
    instant,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_problems import (
    Card,
    Problem,
    cards,
    problems_of,
    silence,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_series import (
    NewData,
    Series,
    comparable,
    new_data,
    total,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._status_snapshots import Snapshot, by_database

# How a database, a host or the fleet is, the worst first.
BAD, WARNING, NEW, SAFE = "bad", "warning", "new", "safe"
_WORST_FIRST = [BAD, WARNING, NEW, SAFE]

# The outcomes of a host that nothing is known of.
_SILENT = {"not reached", "without an answer"}

# A drill that could not be tried says nothing about the backup; agents before 0.4.0 have put it on record nevertheless.
_NO_VERDICT = {"no_memory", "no_image", "throwaway_container", "call_refused", "docker_unreachable"}
Entry = Mapping[str, Any]


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
    past: Past
    dumps: Series
    new: NewData
    bytes_read: float | None
    rows: int | None
    drill: Mapping[str, Any] | None
    # The newest first; None where the repository was not asked or did not answer.
    snapshots: tuple[Snapshot, ...] | None = None

    @property
    def nights(self) -> str:
        """The states of its nights, a letter each."""
        return self.past.nights

    @property
    def codes(self) -> Mapping[date, str]:
        """The codes of failures, by night."""
        return self.past.codes

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
        return number(self.drill or {}, "recovery_seconds")

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
    # By how many bytes the repository grows a night, less than nothing where it shrinks; None where that is not known.
    grows: float | None = None
    schedule: str | None = None
    are_days: bool = False
    overdue: datetime | None = None

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
        """The share of good ones among all nights of all databases that are on record.

        One on which some of several passes were good counts by how many.
        """
        counted = sum(self.counted_nights, Counter())
        recorded = counted[GOOD] + counted[PARTLY] + counted[FAILED] + counted[MISSED]
        partly = sum(
            good / due for one in self.databases for night in one.on(PARTLY) for good, due in [one.past.counts[night]]
        )
        return (counted[GOOD] + partly) / recorded if recorded else None

    @property
    def are_days(self) -> bool:
        """Whether several passes a day are due somewhere."""
        return any(host.are_days for host in self.hosts)

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

    @cached_property
    def added(self) -> Series | None:
        """The new data of all databases a night, where no dump had to be all new."""
        return total(one.new.nights for one in self.databases)

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
    # A host whose run ended before anything was noted has a name only, and must not cost the others the page.
    name, outcome = str(answer["name"]), answer.get("outcome", "without an answer")
    summary = answer.get("summary", "The host gave no answer.")
    if outcome in _SILENT:
        return Host(name, outcome, summary, BAD, problems=(silence(name, outcome, summary),))
    status = answer["status"]
    nights = Nights(status, now)
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
        bytes_read=sum(number(entry.get("day") or entry, "bytes_read") or 0 for entry in good),
        bytes_stored=sum(_stored(entry.get("day") or entry) for entry in good),
        grows=(status.get("repository_growth") or {}).get("bytes_a_night"),
        schedule=status.get("schedule"),
        are_days=nights.are_days,
        overdue=_overdue(status),
    )


def _overdue(status: Entry) -> datetime | None:
    """When the first of those backups is too old that are not yet: until then, the page is of use."""
    databases = status.get("databases") or []
    told = [instant(one["overdue_at"]) for one in databases if one.get("fresh") and one.get("overdue_at")]
    return min(told, default=None)


def _stored(backup: Entry) -> float:
    """What a backup has added to its repository, compressed; agents before 0.3.0 have one number for it."""
    return number(backup, "bytes_stored" if "bytes_stored" in backup else "bytes_added") or 0


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
    nights: Nights,
    listed: Mapping[tuple[str, str], tuple[Snapshot, ...]] | None,
) -> Database:
    container, name = entry["container"], entry["database"]
    past = nights.of(container, name)
    condition, verdict = _judge(entry, status.get("findings"))
    return Database(
        host=host,
        container=container,
        name=name,
        condition=condition,
        verdict=verdict,
        age_seconds=number(entry, "age_seconds"),
        error=(entry.get("error") or {}).get("message"),
        first_night=nights.dates[0],
        past=past,
        dumps=nights.series([one for one in past.tries if one["ok"]], "bytes_read"),
        new=new_data(entry.get("new_data") or {}, nights.sums(comparable(past.tries), "bytes_added")),
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
    found = severities(entry, findings or [])
    if "failure" in found:
        return BAD, "Not safe"
    return (WARNING, "Warning") if "warning" in found else (SAFE, "Safe")
