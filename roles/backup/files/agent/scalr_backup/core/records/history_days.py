# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of a day with many passes when it is past: one line for each database, with what the others came to.

A year of hourly passes over fifty databases would be two hundred megabytes of lines. What somebody asks of a day long past is
whether it was good, how large the dumps were, and what was new in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, tzinfo
from itertools import groupby
from typing import cast

from scalr_backup.core.records.history import BACKUP, PASS, BackupDay, BackupLine, Entry, PassDay, PassLine

# So many lines of a database, or of passes, stay as they are: a night, and a few backups by hand.
_MOST_OF_A_DAY = 3


def thinned(entries: Iterable[Entry], before: date, zone: tzinfo = UTC) -> Iterator[Entry]:
    """The same entries, of which days before that one are told in few lines; in order, a day at a time.

    A day is one of the *zone* that the passes are scheduled in, as the status page has it: what is told of one day of UTC
    would be shown on another date.
    """
    for day, found in groupby(entries, lambda entry: _day(entry, zone)):
        if day < before:
            yield from _thinned_day(list(found))
        else:
            yield from found


def _day(entry: Entry, zone: tzinfo) -> date:
    """The date on which a pass began; of a drill, when it ended."""
    began = entry.get("started")
    return datetime.fromisoformat(began if isinstance(began, str) else entry["time"]).astimezone(zone).date()


def _thinned_day(entries: Sequence[Entry]) -> list[Entry]:
    told_last: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        # As History.read has it: what was said last of something counts.
        key = entry["kind"], entry.get("run"), entry.get("container"), entry.get("database")
        told_last.pop(key, None)
        told_last[key] = entry
    kept = list(told_last.values())
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for entry in kept:
        # A dump that had to be all new is in no sum of what was new.
        if entry["kind"] in {BACKUP, PASS} and not entry.get("anew"):
            groups.setdefault((entry["kind"], entry.get("container"), entry.get("database")), []).append(entry)
    stays: dict[int, Entry] = {}
    goes: set[int] = set()
    for (kind, _container, _database), lines in groups.items():
        if len(lines) > _MOST_OF_A_DAY:
            goes.update(map(id, lines))
            one, total = (
                _backups(cast("list[BackupLine]", lines)) if kind == BACKUP else _passes(cast("list[PassLine]", lines))
            )
            stays[id(one)] = total
    return [stays.get(id(entry), entry) for entry in kept if id(entry) in stays or id(entry) not in goes]


def _backups(lines: Sequence[BackupLine]) -> tuple[BackupLine, BackupLine]:
    """The last good line, or the last one, and the same with the figures of all."""
    good = [line for line in lines if line["ok"]]
    one = (good or lines)[-1]
    days = [line.get("day") or _day_of_backup(line) for line in lines]
    total: BackupDay = {
        "good": sum(day["good"] for day in days),
        "failed": sum(day["failed"] for day in days),
        "bytes_read": sum(day["bytes_read"] for day in days),
        "bytes_added": sum(day["bytes_added"] for day in days),
        "bytes_stored": sum(day["bytes_stored"] for day in days),
        "error": next((day["error"] for day in reversed(days) if day["error"]), None),
    }
    return one, {**one, "day": total}


def _day_of_backup(line: BackupLine) -> BackupDay:
    # What failed is in no repository, whatever it has read.
    weighs = int(line["ok"])
    return {
        "good": weighs,
        "failed": 1 - weighs,
        "bytes_read": weighs * (line["bytes_read"] or 0),
        "bytes_added": weighs * (line["bytes_added"] or 0),
        "bytes_stored": weighs * (line.get("bytes_stored") or line["bytes_added"] or 0),
        "error": line["error"],
    }


def _passes(lines: Sequence[PassLine]) -> tuple[PassLine, PassLine]:
    """The last line that knows the repository's size, or the last one, and the same with what all came to."""
    measured = [line for line in lines if line["size_bytes"] is not None]
    one = (measured or lines)[-1]
    days: list[PassDay] = [
        line.get("day") or {"good": int(line["ok"]), "failed": int(not line["ok"]), "error": line["error"]}
        for line in lines
    ]
    total: PassDay = {
        "good": sum(day["good"] for day in days),
        "failed": sum(day["failed"] for day in days),
        "error": next((day["error"] for day in reversed(days) if day["error"]), None),
    }
    return one, {**one, "day": total}
