# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""What the status page says in words and numbers."""

from __future__ import annotations

from datetime import date, datetime, timezone

from ansible_collections.scalr.backup.plugins.plugin_utils._status_figures import BAD, WARNING, Fleet
from ansible_collections.scalr.backup.plugins.plugin_utils._status_nights import instant
from ansible_collections.scalr.backup.plugins.plugin_utils._units import (
    NOTHING,
    counted,
    human_age,
    human_bytes,
    whole_percent,
)

MINUS = "\N{MINUS SIGN}"


def headline(fleet: Fleet) -> str:
    """How the fleet is, in one sentence; what is worst goes first."""
    databases, unsafe, silent = len(fleet.databases), len(fleet.unsafe), len(fleet.silent)
    if unsafe and databases == 1:
        return "The database is not safe."
    if unsafe:
        return f"{unsafe} of {databases} databases {'is' if unsafe == 1 else 'are'} not safe."
    if silent:
        return f"{silent} of {counted(len(fleet.hosts), 'host')} did not answer."
    return _headline_without_failures(fleet)


def _headline_without_failures(fleet: Fleet) -> str:
    """The sentence where no database is unsafe, and every host has answered."""
    troubled = sum(host.condition == BAD for host in fleet.hosts)
    all_of_them = "The database is" if len(fleet.databases) == 1 else f"All {len(fleet.databases)} databases are"
    if troubled and fleet.databases:
        return f"Every database has a good backup, but {counted(troubled, 'host has', 'hosts have')} a problem."
    if troubled:
        return f"{counted(troubled, 'host has', 'hosts have')} a problem."
    if fleet.unmatched:
        them = counted(len(fleet.unmatched), "PostgreSQL container is", "PostgreSQL containers are")
        return f"{all_of_them} safe, but {them} not backed up." if fleet.databases else f"{them} not backed up."
    if not fleet.databases:
        return "There is nothing to back up yet."
    if fleet.condition == WARNING:
        return f"{all_of_them} safe, but {counted(len(fleet.problems), 'issue needs', 'issues need')} attention."
    return f"{all_of_them} safe."


def details(fleet: Fleet) -> str:
    """What is to be said beside it."""
    said = [*_of_failures(fleet), *_of_the_safe(fleet)]
    if upcoming := min((host.next_pass for host in fleet.hosts if host.next_pass), default=None):
        said.append(f"The next pass starts {soon(upcoming, fleet.now)}.")
    return " ".join(said)


def _of_failures(fleet: Fleet) -> list[str]:
    said = []
    safe = len(fleet.databases) - len(fleet.unsafe)
    if fleet.unsafe and safe:
        have, whose = ("one has", "its") if safe == 1 else (f"{safe} have", "their")
        said.append(f"The other {have} a good backup as recent as {whose} schedule requires.")
    if fleet.unsafe and fleet.silent:
        said.append(f"{counted(len(fleet.silent), 'host')} did not answer.")
    return said


def _of_the_safe(fleet: Fleet) -> list[str]:
    if fleet.oldest and not fleet.unsafe:
        which = "The good backup" if len(fleet.databases) == 1 else "The oldest good backup"
        return [f"{which} is {human_age(fleet.oldest.age_seconds)} old."]
    if not fleet.databases and not fleet.silent:
        waiting = sum(host.outcome != "nothing to back up" for host in fleet.hosts)
        where = counted(waiting, "host is waiting for its", "hosts are waiting for their")
        if not waiting:
            return ["A database appears here once its container matches backup_containers."]
        return [f"{where} first pass. A database appears here once its container matches backup_containers."]
    return []


def percent(share: float) -> str:
    """A growth."""
    if abs(share) < 0.0005:
        return "no change"
    sign = "+" if share > 0 else MINUS
    return f"{sign}{abs(share) * 100:.{0 if abs(share) >= 0.1 else 1}f} %"


def share_of_dump(share: float | None) -> str | None:
    """How much of a dump is new."""
    return None if share is None else f"{whole_percent(share)} of a dump"


def more_a_night(size: float) -> str:
    """By how much something grows or shrinks a night."""
    return f"{'+' if size > 0 else MINUS}{human_bytes(abs(size))} a night"


def ratio(value: float | None) -> str:
    """How many times as much."""
    return NOTHING if value is None else f"{value:.{0 if value >= 10 else 1}f}\N{MULTIPLICATION SIGN}"


def ago(seconds: float | None) -> str:
    """How long ago something was."""
    return "Never" if seconds is None else f"{human_age(seconds)} ago"


def roughly(seconds: float) -> str:
    """An age in its largest unit only."""
    words = human_age(seconds).split(" ")
    return " ".join(words[:2])


def soon(moment: str, now: datetime) -> str:
    """How far away something is that is to come."""
    seconds = (instant(moment) - now).total_seconds()
    return f"in {human_age(seconds)}" if seconds > 0 else "now"


def clock(moment: str) -> str:
    """A moment to the minute."""
    return f"{instant(moment).astimezone(timezone.utc):%a %d %b, %H:%M} UTC"


def day(when: date, *, year: bool = False) -> str:
    """A date in few letters."""
    return f"{when.day} {when:%b %Y}" if year else f"{when.day} {when:%b}"
