# SPDX-License-Identifier: GPL-3.0-or-later
"""Am I safe? Answered from what the passes recorded, without asking the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scalr_backup.config import Config
from scalr_backup.errors import NoMemoryError
from scalr_backup.model import name_fits
from scalr_backup.restic import redact
from scalr_backup.schedule import next_pass

# A night and two hours of grace.
FRESH = timedelta(hours=26)
# A database that nightly passes have not found for so long is given up, not unhealthy.
_GIVEN_UP = timedelta(days=14)
_ADDS_ONLY = " This host only adds: old snapshots go when prune.yml is run."


@dataclass(frozen=True)
class Status:
    """The health of a host's backups; healthy means that every database has a good snapshot younger than 26 h.

    What a drill found counts too: a backup that does not restore is none.
    """

    host: str
    repository: str
    problems: tuple[str, ...]
    databases: tuple[dict[str, Any], ...]
    last_pass: dict[str, Any] | None
    next_pass: datetime
    append_only: bool
    summary: str
    copy: dict[str, Any] | None = None

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """The status as the JSON contract shows it."""
        return {
            "host": self.host,
            "repository": self.repository,
            "healthy": self.healthy,
            "summary": self.summary,
            "problems": list(self.problems),
            "databases": list(self.databases),
            "last_pass": self.last_pass,
            "next_pass": self.next_pass.isoformat(),
            "append_only": self.append_only,
            "copy": self.copy,
        }


def judge(config: Config, repository: str, document: dict[str, Any], first_started: datetime, now: datetime) -> Status:
    """Judge the recorded state; a pure function of it and of the time."""
    entries = [
        entry
        for _key, entry in sorted(document.get("databases", {}).items())
        if not _given_up(entry, document.get("nightly_started")) and not name_fits(entry["container"], config.exclude)
    ]
    drills = document.get("drills", {})
    databases = tuple(
        _judge_database(entry, drills.get(f"{entry['container']}/{entry['database']}"), now) for entry in entries
    )
    last_pass = document.get("last_pass")
    problems = [_problem(database) for database in databases if not (database["fresh"] and database["ok"])]
    problems += [_problem_of_drill(database) for database in databases if _failed_its_drill(database)]
    problems += _problems_of_pass(last_pass)
    copy = _judge_copy(config, document.get("copy"), now)
    problems += _problems_of_copy(copy, last_pass)
    if not databases and now - first_started > FRESH:
        problems.append("No database has been backed up since the agent was installed.")
    return Status(
        host=config.host,
        repository=repository,
        problems=tuple(problems),
        databases=databases,
        last_pass=last_pass,
        next_pass=next_pass(config, now),
        append_only=config.append_only,
        summary=_summary(problems, databases) + (_ADDS_ONLY if config.append_only else ""),
        copy=copy,
    )


def _given_up(entry: dict[str, Any], nightly_started: str | None) -> bool:
    """Only nightly passes look for every database: where none runs, nothing is given up."""
    if nightly_started is None:
        return False
    return datetime.fromisoformat(nightly_started) - datetime.fromisoformat(entry["last_tried"]) > _GIVEN_UP


def _judge_database(entry: dict[str, Any], drill: dict[str, Any] | None, now: datetime) -> dict[str, Any]:
    last_success = entry.get("last_success")
    age = (now - datetime.fromisoformat(last_success)).total_seconds() if last_success else None
    return {
        "container": entry["container"],
        "database": entry["database"],
        "ok": entry["ok"],
        "fresh": age is not None and age < FRESH.total_seconds(),
        "last_success": last_success,
        "age_seconds": None if age is None else int(age),
        "snapshot_id": entry.get("snapshot_id"),
        "bytes_read": entry.get("bytes_read"),
        "rows": entry.get("rows"),
        "error": entry.get("error"),
        "drill": drill and _judge_drill(drill, now),
    }


def _judge_drill(drill: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {
        "ok": drill["ok"],
        "time": drill["time"],
        "age_seconds": int((now - datetime.fromisoformat(drill["time"])).total_seconds()),
        "snapshot_id": drill["snapshot_id"],
        "recovery_seconds": drill["recovery_seconds"],
        "error": drill["error"],
    }


def _failed_its_drill(database: dict[str, Any]) -> bool:
    """A drill that could not begin for want of memory says nothing against the backup: it is shown, and no problem.

    The drill itself has ended with an error and told what to do. A problem that only more memory could end would
    hide every other.
    """
    drill = database["drill"]
    return drill is not None and not drill["ok"] and drill["error"]["code"] != NoMemoryError.code


def _problem_of_drill(database: dict[str, Any]) -> str:
    return (
        f"{database['container']}/{database['database']} failed its last drill: {database['drill']['error']['message']}"
    )


def _problem(database: dict[str, Any]) -> str:
    name = f"{database['container']}/{database['database']}"
    if database["age_seconds"] is None:
        since = "was never backed up"
    elif database["fresh"]:
        since = "failed in its last pass"
    else:
        since = f"has no good backup younger than {database['age_seconds'] // 3600} h"
    reason = f": {database['error']['message']}" if database["error"] else ""
    return f"{name} {since}{reason}"


def _problems_of_pass(last_pass: dict[str, Any] | None) -> list[str]:
    if last_pass is None:
        return []
    problems = []
    if last_pass["error"]:
        problems.append(f"The last pass failed: {last_pass['error']['message']}")
    if last_pass["retention"]["error"]:
        problems.append(f"Retention failed: {last_pass['retention']['error']['message']}")
    return problems


def _judge_copy(config: Config, entry: dict[str, Any] | None, now: datetime) -> dict[str, Any] | None:
    """The second repository, where there is one; what was recorded of another one says nothing of this one."""
    if config.copy_to is None:
        return None
    repository = redact(config.copy_to.repository)
    known = entry if entry and entry["repository"] == repository else {}
    last_success = known.get("last_success")
    age = (now - datetime.fromisoformat(last_success)).total_seconds() if last_success else None
    return {
        "repository": repository,
        "ok": known.get("ok"),
        "fresh": age is not None and age < FRESH.total_seconds(),
        "last_success": last_success,
        "age_seconds": None if age is None else int(age),
        "copied": known.get("copied"),
        "removed": known.get("removed"),
        "error": known.get("error"),
    }


def _problems_of_copy(copy: dict[str, Any] | None, last_pass: dict[str, Any] | None) -> list[str]:
    """A copy that was never tried is no problem before a pass could have made it."""
    if copy is None or (copy["ok"] is None and last_pass is None):
        return []
    if copy["error"]:
        return [f"The copy to {copy['repository']} failed: {copy['error']['message']}"]
    if copy["age_seconds"] is None:
        return [f"Nothing has been copied to {copy['repository']} yet."]
    if not copy["fresh"]:
        return [f"The copy in {copy['repository']} is {copy['age_seconds'] // 3600} h old."]
    return []


def _summary(problems: list[str], databases: tuple[dict[str, Any], ...]) -> str:
    if problems:
        return f"NOT SAFE: {_count(problems, 'problem')}; first: {problems[0]}"
    if not databases:
        return "Waiting for the first pass."
    oldest = max(database["age_seconds"] for database in databases)
    age = f"{oldest // 3600} h {oldest % 3600 // 60} min"
    return f"Safe: {_count(databases, 'database')}, the oldest good backup is {age} old."


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"
