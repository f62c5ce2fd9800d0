# SPDX-License-Identifier: GPL-3.0-or-later
"""Am I safe? Answered from what the passes recorded, without asking the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from scalr_backup import __version__
from scalr_backup.actions.discovery import still_unmatched
from scalr_backup.actions.health.finding import FAILURE, Finding
from scalr_backup.actions.health.findings import find
from scalr_backup.core.answers import JudgedCopy, JudgedDatabase, JudgedDrill, StatusAnswer, Verdict
from scalr_backup.core.config import Config
from scalr_backup.core.errors import CODES_OF_DRILLS_NOT_TRIED
from scalr_backup.core.model import is_whole_cluster, kept_since, name_fits
from scalr_backup.core.recognition import sentence
from scalr_backup.core.records.state import (
    CopyRecord,
    DatabaseRecord,
    DrillRecord,
    KeptCopyRecord,
    KeptCount,
    LookRecord,
    PassRecord,
    StateRecord,
    UnmatchedRecord,
)
from scalr_backup.core.schedule import next_pass
from scalr_backup.core.units import human_age
from scalr_backup.tools.restic.stores import redact
from scalr_backup.tools.state import Damage

# A night and two hours of grace.
FRESH = timedelta(hours=26)
# A database that nightly passes have not found for so long counts as retired, not unhealthy.
_GIVEN_UP = timedelta(days=14)
# How many databases the health check names: Docker keeps the first 4096 bytes of what it says.
_NAMED = 10
_NOTHING_YET = "No database has been backed up since the agent was installed."
_NOT_YET = "Waiting for the first pass."
_NOTHING_HERE = "Nothing to back up: no container on this host matches."
# How a host is, in one word for programs.
NOT_SAFE: Final = "not_safe"
INCOMPLETE: Final = "incomplete"
SAFE: Final = "safe"
WAITING: Final = "waiting"
NOTHING: Final = "nothing_to_back_up"
_ADDS_ONLY = " This host is append-only: only prune.yml removes old snapshots."


@dataclass(frozen=True)
class Health:
    """What the health check answers, which is about the backups alone: every database has a good one younger than 26 h."""

    ok: bool
    sentence: str


@dataclass(frozen=True)
class Status:
    """The health of a host's backups; healthy means that every database has a good snapshot younger than 26 h.

    What a drill found counts too: a backup that does not restore is not a backup.
    """

    host: str
    repository: str
    findings: tuple[Finding, ...]
    databases: tuple[JudgedDatabase, ...]
    last_pass: PassRecord | None
    next_pass: datetime
    append_only: bool
    summary: str
    health: Health
    verdict: Verdict
    unmatched: tuple[UnmatchedRecord, ...] = ()
    copy: JudgedCopy | None = None
    kept_databases: tuple[KeptCopyRecord, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """The sentences of what has failed."""
        return tuple(one.message for one in self.findings if one.severity == FAILURE)

    def as_dict(self) -> StatusAnswer:
        """The status as the JSON contract shows it."""
        return {
            "host": self.host,
            "repository": self.repository,
            "healthy": self.healthy,
            "verdict": self.verdict,
            "summary": self.summary,
            "problems": list(self.problems),
            "findings": [one.as_dict() for one in self.findings],
            "agent_version": __version__,
            "databases": list(self.databases),
            "unmatched": list(self.unmatched),
            "last_pass": self.last_pass,
            "next_pass": self.next_pass.isoformat(),
            "append_only": self.append_only,
            "copy": self.copy,
            "kept_databases": list(self.kept_databases),
        }


def judge(
    config: Config,
    repository: str,
    document: StateRecord,
    first_started: datetime,
    now: datetime,
    *,
    lost_with_host: bool = False,
    damage: Damage | None = None,
) -> Status:
    """Judge the recorded state; a pure function of it and of the time.

    *lost_with_host* says that no repository lies elsewhere, *damage* what of the record cannot be read.
    """
    look = document.get("look")
    databases = _judge_databases(config, document, now)
    copy = _judge_copy(config, document.get("copy"), now)
    unmatched = tuple(still_unmatched(config, look)) if look else ()
    is_idle = not databases and not unmatched and _is_idle(look, now)
    is_overdue = not databases and not is_idle and now - first_started > FRESH
    findings = find(
        config, document, databases, copy, now,
        unmatched=unmatched, is_overdue=is_overdue, lost_with_host=lost_with_host, damage=damage,
    )  # fmt: skip
    verdict = _verdict(findings, databases, unmatched, is_idle=is_idle)
    return Status(
        host=config.host,
        repository=repository,
        findings=findings,
        databases=databases,
        last_pass=document.get("last_pass"),
        next_pass=next_pass(config, now),
        append_only=config.append_only,
        summary=_summary(verdict, findings, databases, unmatched) + (_ADDS_ONLY if config.append_only else ""),
        health=_judge_health(databases, is_overdue=is_overdue, is_idle=is_idle),
        verdict=verdict,
        unmatched=unmatched,
        copy=copy,
        kept_databases=tuple(document.get("matches", {}).get("kept", ())),
    )


def _judge_databases(config: Config, document: StateRecord, now: datetime) -> tuple[JudgedDatabase, ...]:
    """Those on record that are still to be backed up."""
    entries = [
        entry
        for _key, entry in sorted(document.get("databases", {}).items())
        if not _given_up(entry, document.get("nightly_looked") or document.get("nightly_started"))
        and not name_fits(entry["container"], config.exclude)
        # Earlier versions have backed them up, too.
        and not kept_since(entry["database"])
        and not _never_was(entry, document.get("look"))
    ]
    drills = document.get("drills", {})
    forgot = document.get("maintenance", {}).get("forget")
    kept = forgot.get("kept", {}) if forgot else {}
    return tuple(
        _judge_database(entry, drills.get(name), kept.get(name), now)
        for entry in entries
        for name in [f"{entry['container']}/{entry['database']}"]
    )


def _is_idle(look: LookRecord | None, now: datetime) -> bool:
    """Whether a recent look saw no container to back up."""
    return look is not None and look.get("matching") == [] and now - datetime.fromisoformat(look["time"]) < FRESH


def _verdict(
    findings: Sequence[Finding], databases: Sequence[object], unmatched: Sequence[object], *, is_idle: bool
) -> Verdict:
    if any(one.severity == FAILURE for one in findings):
        return NOT_SAFE
    if unmatched:
        return INCOMPLETE
    if databases:
        return SAFE
    return NOTHING if is_idle else WAITING


def _given_up(entry: DatabaseRecord, nightly_looked: str | None) -> bool:
    """Only nightly passes look for every database: where none runs, or none comes to look, nothing is given up."""
    if nightly_looked is None:
        return False
    return datetime.fromisoformat(nightly_looked) - datetime.fromisoformat(entry["last_tried"]) > _GIVEN_UP


def _never_was(entry: DatabaseRecord, look: LookRecord | None) -> bool:
    """Whether a container of which nothing was ever saved is not there any more: there is nothing to do about it."""
    if (
        entry["last_success"] is not None
        or look is None
        or entry["container"] in look.get("matching", [entry["container"]])
    ):
        return False
    return datetime.fromisoformat(look["time"]) > datetime.fromisoformat(entry["last_tried"])


def _judge_database(
    entry: DatabaseRecord, drill: DrillRecord | None, kept: KeptCount | None, now: datetime
) -> JudgedDatabase:
    last_success = entry["last_success"]
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
        "count_error": entry.get("count_error"),
        "archive_unchecked": entry.get("archive_unchecked"),
        "error": entry.get("error"),
        "drill": None if drill is None or _was_not_tried(drill) else _judge_drill(drill, now),
        "kept": kept,
        "left_out": entry.get("left_out", []),
    }


def _was_not_tried(drill: DrillRecord) -> bool:
    """Whether an earlier version has recorded a drill that it could not even try: it says nothing."""
    error = drill["error"]
    return not drill["ok"] and error is not None and error["code"] in CODES_OF_DRILLS_NOT_TRIED


def _judge_drill(drill: DrillRecord, now: datetime) -> JudgedDrill:
    return {
        "ok": drill["ok"],
        "time": drill["time"],
        "age_seconds": int((now - datetime.fromisoformat(drill["time"])).total_seconds()),
        "snapshot_id": drill.get("snapshot_id"),
        "recovery_seconds": drill["recovery_seconds"],
        "error": drill["error"],
    }


def _judge_copy(config: Config, entry: CopyRecord | None, now: datetime) -> JudgedCopy | None:
    """The second repository, where there is one; what was recorded of another one says nothing of this one."""
    if config.copy_to is None:
        return None
    repository = redact(config.copy_to.repository)
    known = entry if entry and entry["repository"] == repository else None
    last_success = known.get("last_success") if known else None
    age = (now - datetime.fromisoformat(last_success)).total_seconds() if last_success else None
    return {
        "repository": repository,
        "ok": known["ok"] if known else None,
        "fresh": age is not None and age < FRESH.total_seconds(),
        "last_success": last_success,
        "age_seconds": None if age is None else int(age),
        "copied": known["copied"] if known else None,
        "removed": known["removed"] if known else None,
        "error": known["error"] if known else None,
    }


def _judge_health(databases: tuple[JudgedDatabase, ...], *, is_overdue: bool, is_idle: bool) -> Health:
    """Judge by the age of good backups alone: what else is wrong is for the status to say, and for alerts.

    A cluster that could not be asked what it holds counts by its databases, where these are known.
    """
    known = {database["container"] for database in databases if not is_whole_cluster(database)}
    stale = [
        f"{database['container']}/{database['database']}"
        for database in databases
        if not database["fresh"] and not (is_whole_cluster(database) and database["container"] in known)
    ]
    if stale:
        more = f" and {len(stale) - _NAMED} more" if len(stale) > _NAMED else ""
        return Health(ok=False, sentence=f"No good backup younger than 26 h: {', '.join(stale[:_NAMED])}{more}.")
    if is_overdue:
        return Health(ok=False, sentence=_NOTHING_YET)
    if not databases:
        return Health(ok=True, sentence=_NOTHING_HERE if is_idle else _NOT_YET)
    return Health(ok=True, sentence=f"Good backups younger than 26 h: all {_count(databases, 'database')}.")


def _summary(
    verdict: str,
    findings: Sequence[Finding],
    databases: tuple[JudgedDatabase, ...],
    unmatched: Sequence[UnmatchedRecord],
) -> str:
    problems = [one.message for one in findings if one.severity == FAILURE]
    # What is not backed up at all has a sentence of its own.
    warnings = [one.message for one in findings if one.severity != FAILURE and not one.about]
    if problems:
        return f"NOT SAFE: {_count(problems, 'problem')}; first: {problems[0]}"
    doubt = f" {_count(warnings, 'warning')}; first: {warnings[0]}" if warnings else ""
    if verdict == INCOMPLETE:
        rest = f" {_reassurance(databases)}" if databases else ""
        return f"NOT COMPLETE: {sentence([one['name'] for one in unmatched], most=_NAMED)}.{rest}{doubt}"
    return (_NOTHING_HERE if verdict == NOTHING else _reassurance(databases)) + doubt


def _reassurance(databases: tuple[JudgedDatabase, ...]) -> str:
    if not databases:
        return _NOT_YET
    oldest = max(database["age_seconds"] or 0 for database in databases)
    return f"Safe: {_count(databases, 'database')}, the oldest good backup is {human_age(oldest)} old."


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"
