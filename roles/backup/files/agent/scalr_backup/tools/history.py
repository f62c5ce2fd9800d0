# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened, night by night: one JSON object a line for each database of a pass, each pass, and each drill.

``state.json`` says how things are; this file says how they came to be so. Lines are only ever added at its end, in one
write, so that a power cut costs at most the last one. What is older than ``KEEP`` goes, and of days with many passes that are
past a line for each database stays (``core/records/history_days.py``). Both are counted back from the last days that have lines,
and never from the time alone: a clock that is years ahead would take everything. Nothing here is secret.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import IO, cast

from scalr_backup.core.errors import CODES_OF_DRILLS_NOT_TRIED
from scalr_backup.core.model import DatabaseBackup
from scalr_backup.core.records.databases import DrillRecord
from scalr_backup.core.records.history import BACKUP, DRILL, PASS, BackupLine, DrillLine, Entry, Line, PassLine
from scalr_backup.core.records.history_days import thinned
from scalr_backup.core.records.passes import PassRecord
from scalr_backup.core.records.reading import faults
from scalr_backup.core.records.repository import RepositoryRecord
from scalr_backup.tools import own_disk

# A year and a month, so that this month can be laid beside the same one of last year.
KEEP = timedelta(days=400)
# The file is written anew only when its first line is older than it may be by so much, or when it has grown by so many bytes.
_SLACK = timedelta(days=30)
_GROWN = 1 << 20
# Every pass of the last days that have lines stays; a clock that is ahead for fewer takes nothing.
_WHOLE_DAYS = 9

# What each kind of line is held to; one of a kind that only a newer release knows has nothing but its time.
_SHAPES = {BACKUP: BackupLine, PASS: PassLine, DRILL: DrillLine}


class History:
    """The file, and the lock that keeps two writers apart."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "history.jsonl"
        self._lock = directory / "locks" / "history"

    def append(self, entries: Iterable[Entry], zone: tzinfo | None = UTC) -> None:
        """Add entries, and drop what is too old by the last days that have lines up to the time of the last of them.

        Days of the *zone* that are past are thinned; who does not know the zone of the passes leaves that to them.

        Raises UnwritableRecordError when the disk does not take them.
        """
        lines = [_line(entry) for entry in entries]
        if not lines:
            return
        with own_disk.taking(self._file), self._lock.open("a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with self._file.open("ab+") as file:
                before = file.seek(0, os.SEEK_END)
                file.write((_end_of_torn_line(file) + "".join(lines)).encode())
                file.flush()
                os.fsync(file.fileno())
                has_grown = before // _GROWN != file.tell() // _GROWN
            now = datetime.fromisoformat(json.loads(lines[-1])["time"])
            first = next(self._entries(), None)
            if has_grown or _is_too_old(first, now):
                begin = self._begin_of_last_days(now, zone or UTC)
                if begin is not None and (has_grown or _is_too_old(first, begin)):
                    self._write_anew(begin, zone)

    def read(self, since: datetime) -> list[Entry]:
        """Every entry since then, in the order in which they were written.

        A pass is recorded again after its copy to a second repository: what was said last of something counts.

        Raises ScalrBackupError when the disk does not give them.
        """
        latest: dict[tuple[object, ...], Entry] = {}
        for entry in own_disk.giving(self._file, self._entries()):
            if _time_of(entry) >= since and not _is_drill_not_tried(entry):
                key = entry["kind"], entry.get("run"), entry.get("container"), entry.get("database")
                latest.pop(key, None)
                latest[key] = entry
        return list(latest.values())

    def _entries(self) -> Iterator[Entry]:
        """All that can be read; a line that a power cut has torn is none."""
        try:
            file = self._file.open(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        with file:
            for line in file:
                if (entry := _parsed(line)) is not None:
                    yield entry

    def _begin_of_last_days(self, now: datetime, zone: tzinfo) -> datetime | None:
        """When the first of the last days began that have lines, none of the future; None of fewer than stay whole."""
        times = (_time_of(entry) for entry in self._entries())
        days = sorted({moment.astimezone(zone).date() for moment in times if moment <= now})
        return datetime.combine(days[-_WHOLE_DAYS], time.min, zone) if len(days) >= _WHOLE_DAYS else None

    def _write_anew(self, begin: datetime, zone: tzinfo | None) -> None:
        """Drop what is too old, counted from there, and thin what lies before; only a day of it is in memory at a time."""
        kept: Iterator[Entry] = (entry for entry in self._entries() if _time_of(entry) >= begin - KEEP)
        if zone is not None:
            kept = thinned(kept, begin.date(), zone)
        with own_disk.replacing(self._file, self._file.with_suffix(".new")) as file:
            file.writelines(map(_line, kept))


def entries_of_pass(
    result: PassRecord,
    outcomes: Iterable[DatabaseBackup],
    repository: RepositoryRecord | None,
    anew: Mapping[str, str],
) -> list[Entry]:
    """What a pass adds: an entry for each database, and one for itself.

    *repository* is what was last measured of it; what was measured before this pass says nothing of it. *anew* says by
    ``container/database`` why everything in a dump had to be new.
    """
    backups: list[Entry] = [
        _entry_of_backup(result, outcome, anew.get(f"{outcome.container}/{outcome.database}")) for outcome in outcomes
    ]
    return [*backups, _entry_of_pass(result, measured_in(result, repository))]


def measured_in(result: PassRecord, repository: RepositoryRecord | None) -> RepositoryRecord | None:
    """What a repository was measured at in a pass; None where it was not, and the record is of an earlier one.

    Sizes are measured once a day: what an earlier pass has measured is that one's.
    """
    return repository if repository and repository.get("sized", repository["time"]) >= result["started"] else None


def _entry_of_backup(result: PassRecord, outcome: DatabaseBackup, anew: str | None) -> BackupLine:
    return {
        "kind": "backup",
        "time": result["finished"],
        "started": result["started"],
        "run": result["run"],
        "reason": result["reason"],
        "container": outcome.container,
        "database": outcome.database,
        "ok": outcome.ok,
        "seconds": outcome.duration_seconds,
        "bytes_read": outcome.bytes_read,
        "bytes_added": outcome.bytes_added,
        "bytes_stored": outcome.bytes_stored,
        "bytes_ordered": outcome.bytes_ordered,
        "anew": anew,
        "rows": outcome.rows,
        "error": outcome.error.code if outcome.error else None,
    }


def _entry_of_pass(result: PassRecord, measured: RepositoryRecord | None) -> PassLine:
    copied = result.get("copy")
    ok = not (
        result["failed"]
        or any((result.get("roles") or {}).values())
        or result["error"]
        or result["retention"]["error"]
        or (copied and not copied["ok"])
    )
    return {
        "kind": "pass",
        "time": result["finished"],
        "started": result["started"],
        "run": result["run"],
        "reason": result["reason"],
        "ok": ok,
        "size_bytes": measured.get("size_bytes") if measured else None,
        "snapshots": measured.get("snapshots") if measured else None,
        "error": result["error"]["code"] if result["error"] else None,
    }


def entry_of_drill(drill: DrillRecord) -> DrillLine:
    """What the drill of one database adds."""
    return {
        "kind": "drill",
        "time": drill["time"],
        "run": drill.get("run"),
        "container": drill["container"],
        "database": drill["database"],
        "ok": drill["ok"],
        "recovery_seconds": drill["recovery_seconds"],
        "error": drill["error"]["code"] if drill["error"] else None,
    }


def _line(entry: Entry) -> str:
    """An entry as it is written; a byte of no known encoding stays what it is: spelled out, it may be another name."""
    return json.dumps(entry) + "\n"


def _is_drill_not_tried(entry: Entry) -> bool:
    """Whether an earlier version has written down a drill that it could not even try."""
    return entry["kind"] == "drill" and entry.get("error") in CODES_OF_DRILLS_NOT_TRIED


def _end_of_torn_line(file: IO[bytes]) -> str:
    """What is to be written before a new line: nothing, unless the last one has no end."""
    if file.seek(0, os.SEEK_END) == 0:
        return ""
    file.seek(-1, os.SEEK_END)
    return "" if file.read(1) == b"\n" else "\n"


def _parsed(line: str) -> Entry | None:
    """What a line says; None where it is torn, or not what a line of its kind looks like."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = entry.get("kind") if isinstance(entry, dict) else None
    shape = _SHAPES.get(kind, Line) if isinstance(kind, str) else Line
    return None if faults(shape, entry) else cast("Entry", entry)


def _is_too_old(entry: Entry | None, now: datetime) -> bool:
    """Whether a first line is so old that the file is written anew for it."""
    return entry is not None and _time_of(entry) <= now - KEEP - _SLACK


def _time_of(entry: Entry) -> datetime:
    """When it happened; aware, as everything that the agent writes."""
    return datetime.fromisoformat(entry["time"])
