# SPDX-License-Identifier: GPL-3.0-or-later
"""Am I safe? Answered from what the passes recorded, without asking the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Final

from scalr_backup import __version__
from scalr_backup.actions.discovery import still_unmatched
from scalr_backup.actions.health.finding import FAILURE, Finding
from scalr_backup.actions.health.findings import find
from scalr_backup.actions.health.lapsed import lapsed
from scalr_backup.actions.health.worth import judge_growth, judge_new_data
from scalr_backup.core.address import redact_address
from scalr_backup.core.answers import JudgedCopy, JudgedDatabase, JudgedDrill, StatusAnswer, Verdict
from scalr_backup.core.clock import is_in_the_future
from scalr_backup.core.config import Config
from scalr_backup.core.errors import CODES_OF_DRILLS_NOT_TRIED
from scalr_backup.core.model import is_whole_cluster, kept_since, name_fits
from scalr_backup.core.new_data_answers import GrowthAnswer, NewDataAnswer
from scalr_backup.core.recognition import sentence
from scalr_backup.core.records.databases import DatabaseRecord, DrillRecord
from scalr_backup.core.records.host import LookRecord
from scalr_backup.core.records.maintenance import KeptCount
from scalr_backup.core.records.passes import CopyRecord, KeptCopyRecord, PassRecord, UnmatchedRecord
from scalr_backup.core.records.state import StateRecord
from scalr_backup.core.schedule import change_of, interval_at, next_pass, overdue_at
from scalr_backup.core.units import counted, human_age
from scalr_backup.core.without_role import words_here
from scalr_backup.tools.state import Damage

# A look at the containers that is older says nothing of them; it is put on record every hour.
_LOOK_COUNTS = timedelta(hours=26)
# A database that scheduled passes have not found for so long counts as retired, not unhealthy.
_GIVEN_UP = timedelta(days=14)
# But not before so many of them have looked, where they are rare.
_LOOKS_BEFORE_GIVEN_UP = 2
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
    """What the health check answers, which is about the backups alone: every database has a good one, as young as scheduled."""

    ok: bool
    sentence: str


@dataclass(frozen=True)
class Status:
    """The health of a host's backups; healthy means that every database has a good snapshot, as young as the schedule asks.

    What a drill found counts too: a backup that does not restore is not a backup.
    """

    host: str
    repository: str
    findings: tuple[Finding, ...]
    databases: tuple[JudgedDatabase, ...]
    last_pass: PassRecord | None
    schedule: str
    interval: timedelta
    next_pass: datetime
    # When an agent that has backed up nothing since it was installed should have.
    first_overdue: datetime
    append_only: bool
    summary: str
    health: Health
    verdict: Verdict
    unmatched: tuple[UnmatchedRecord, ...] = ()
    copy: JudgedCopy | None = None
    kept_databases: tuple[KeptCopyRecord, ...] = ()
    growth: GrowthAnswer | None = None
    # The keys of noted findings that nobody looks at any more: that they are not found again is no word of their end.
    lapsed: frozenset[str] = frozenset()

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
            "schedule": self.schedule,
            "schedule_interval_seconds": int(self.interval.total_seconds()),
            "next_pass": self.next_pass.isoformat(),
            "append_only": self.append_only,
            "copy": self.copy,
            "kept_databases": list(self.kept_databases),
            "repository_growth": self.growth,
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
    """Judge the recorded state; a pure function of it, of the time, and of whether a role has configured this agent.

    *lost_with_host* says that no repository lies elsewhere, *damage* what of the record cannot be read or written.
    """
    look = document.get("look")
    given_up = _given_up(config, document, now)
    entries = _still_to_back_up(config, document, given_up)
    deadline = _deadlines(config, document, entries, now)
    databases = _judge_databases(config, repository, document, entries, deadline, now)
    copy = _judge_copy(config, document.get("copy"), deadline, now)
    unmatched = tuple(still_unmatched(config, look)) if look else ()
    is_idle = not databases and not unmatched and _is_idle(look, now)
    first_overdue = deadline(first_started)
    is_overdue = not databases and not is_idle and now > first_overdue
    found = find(
        config, document, databases, copy, now,
        unmatched=unmatched, is_overdue=is_overdue, lost_with_host=lost_with_host, damage=damage,
    )  # fmt: skip
    findings = tuple(one.said(words_here()) for one in found)
    verdict = _verdict(findings, databases, unmatched, is_idle=is_idle)
    return Status(
        host=config.host,
        repository=repository,
        findings=findings,
        databases=databases,
        last_pass=document.get("last_pass"),
        schedule=config.schedule,
        interval=interval_at(config, now),
        next_pass=next_pass(config, now),
        first_overdue=first_overdue,
        append_only=config.append_only,
        summary=_summary(verdict, findings, databases, unmatched) + (_ADDS_ONLY if config.append_only else ""),
        health=_judge_health(config, databases, is_overdue=is_overdue, is_idle=is_idle),
        verdict=verdict,
        unmatched=unmatched,
        copy=copy,
        kept_databases=tuple(document.get("matches", {}).get("kept", ())),
        growth=judge_growth(document.get("sizes"), repository),
        lapsed=lapsed(document, given_up, databases, now),
    )


def _deadlines(
    config: Config, document: StateRecord, entries: Sequence[DatabaseRecord], now: datetime
) -> Callable[[datetime], datetime]:
    """When what was good at a moment is overdue; most databases of a pass share one, which is worked out once."""
    change = change_of(config, document.get("schedule"), now)
    lasts = _lasts(document.get("last_pass"), entries)
    return cache(lambda good: overdue_at(config, good, lasts=lasts, change=change))


def _lasts(last_pass: PassRecord | None, entries: Sequence[DatabaseRecord]) -> timedelta:
    """How long a pass takes: as long as the last one, or, where that was over a few databases, the longest of all dumps."""
    dumps = [entry.get("seconds", 0.0) for entry in entries]
    return timedelta(seconds=max([last_pass.get("duration_seconds", 0.0) if last_pass else 0.0, *dumps]))


def _given_up(config: Config, document: StateRecord, now: datetime) -> frozenset[tuple[str, str]]:
    """Those on record that count as retired, by container and name."""
    looked = document.get("nightly_looked") or document.get("nightly_started")
    if looked and is_in_the_future(datetime.fromisoformat(looked), now):
        looked = None
    after = max(_GIVEN_UP, _LOOKS_BEFORE_GIVEN_UP * interval_at(config, now))
    entries = document.get("databases", {}).values()
    return frozenset(
        (entry["container"], entry["database"]) for entry in entries if _was_given_up(entry, looked, after)
    )


def _still_to_back_up(
    config: Config, document: StateRecord, given_up: Collection[tuple[str, str]]
) -> list[DatabaseRecord]:
    """Those on record that are still to be backed up."""
    return [
        entry
        for _key, entry in sorted(document.get("databases", {}).items())
        if (entry["container"], entry["database"]) not in given_up
        and not name_fits(entry["container"], config.exclude)
        # Earlier versions have backed them up, too.
        and not kept_since(entry["database"])
        and not _never_was(entry, document.get("look"))
    ]


def _judge_databases(
    config: Config,
    repository: str,
    document: StateRecord,
    entries: Sequence[DatabaseRecord],
    deadline: Callable[[datetime], datetime],
    now: datetime,
) -> tuple[JudgedDatabase, ...]:
    drills = document.get("drills", {})
    forgot = document.get("maintenance", {}).get("forget")
    kept = forgot.get("kept", {}) if forgot else {}
    new_data = document.get("new_data", {})
    is_off = config.row_order == "off"
    return tuple(
        _judge_database(
            _in_repository(entry, repository),
            drills.get(name),
            kept.get(name),
            deadline,
            judge_new_data(new_data.get(name), now, is_off=is_off),
            now,
        )
        for entry in entries
        for name in [f"{entry['container']}/{entry['database']}"]
    )


def _is_idle(look: LookRecord | None, now: datetime) -> bool:
    """Whether a recent look saw no container to back up."""
    return look is not None and look.get("matching") == [] and now - datetime.fromisoformat(look["time"]) < _LOOK_COUNTS


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


def _was_given_up(entry: DatabaseRecord, looked: str | None, given_up: timedelta) -> bool:
    """Only scheduled passes look for every database: where none runs, or none comes to look, nothing is given up."""
    if looked is None:
        return False
    return datetime.fromisoformat(looked) - datetime.fromisoformat(entry["last_tried"]) > given_up


def _never_was(entry: DatabaseRecord, look: LookRecord | None) -> bool:
    """Whether a container of which nothing was ever saved is not there any more: there is nothing to do about it."""
    if (
        entry["last_success"] is not None
        or look is None
        or entry["container"] in look.get("matching", [entry["container"]])
    ):
        return False
    return datetime.fromisoformat(look["time"]) > datetime.fromisoformat(entry["last_tried"])


@dataclass(frozen=True)
class _Age:
    """How old something that was good last is, in seconds, and when it is overdue; both None where it never was good."""

    seconds: int | None
    overdue: datetime | None
    fresh: bool

    @property
    def overdue_at(self) -> str | None:
        """The moment as an answer shows it."""
        return self.overdue.isoformat() if self.overdue else None


def _age(last_success: str | None, deadline: Callable[[datetime], datetime], now: datetime) -> _Age:
    if last_success is None:
        return _Age(None, None, fresh=False)
    good = datetime.fromisoformat(last_success)
    overdue = deadline(good)
    return _Age(int((now - good).total_seconds()), overdue, fresh=now < overdue and not is_in_the_future(good, now))


def _in_repository(entry: DatabaseRecord, repository: str) -> DatabaseRecord:
    """What is known of a database's backups in a repository: nothing, where its last good one went to another."""
    return (
        entry if entry.get("repository") in (None, repository) else {**entry, "last_success": None, "snapshot_id": None}
    )


def _judge_database(
    entry: DatabaseRecord,
    drill: DrillRecord | None,
    kept: KeptCount | None,
    deadline: Callable[[datetime], datetime],
    new_data: NewDataAnswer | None,
    now: datetime,
) -> JudgedDatabase:
    age = _age(entry["last_success"], deadline, now)
    return {
        "container": entry["container"],
        "database": entry["database"],
        "ok": entry["ok"],
        "fresh": age.fresh,
        "last_success": entry["last_success"],
        "age_seconds": age.seconds,
        "overdue_at": age.overdue_at,
        "snapshot_id": entry.get("snapshot_id"),
        "bytes_read": entry.get("bytes_read"),
        "rows": entry.get("rows"),
        "count_error": entry.get("count_error"),
        "archive_unchecked": entry.get("archive_unchecked"),
        "error": entry.get("error"),
        "drill": None if drill is None or _was_not_tried(drill) else _judge_drill(drill, now),
        "kept": kept,
        "left_out": entry.get("left_out", []),
        "new_data": new_data,
        "damaged_index": entry.get("damaged_index"),
        "elsewhere": None if entry["last_success"] else entry.get("repository"),
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


def _judge_copy(
    config: Config, entry: CopyRecord | None, deadline: Callable[[datetime], datetime], now: datetime
) -> JudgedCopy | None:
    """The second repository, where there is one; what was recorded of another one says nothing of this one."""
    if config.copy_to is None:
        return None
    repository = redact_address(config.copy_to.repository)
    known = entry if entry and entry["repository"] == repository else None
    last_success = known.get("last_success") if known else None
    age = _age(last_success, deadline, now)
    return {
        "repository": repository,
        "ok": known["ok"] if known else None,
        "fresh": age.fresh,
        "last_success": last_success,
        "age_seconds": age.seconds,
        "overdue_at": age.overdue_at,
        "copied": known["copied"] if known else None,
        "removed": known["removed"] if known else None,
        "error": known["error"] if known else None,
    }


def _judge_health(config: Config, databases: tuple[JudgedDatabase, ...], *, is_overdue: bool, is_idle: bool) -> Health:
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
        named = f"{', '.join(stale[:_NAMED])}{more}"
        return Health(ok=False, sentence=f"No good backup as young as the schedule {config.schedule} asks: {named}.")
    if is_overdue:
        return Health(ok=False, sentence=_NOTHING_YET)
    if not databases:
        return Health(ok=True, sentence=_NOTHING_HERE if is_idle else _NOT_YET)
    every = f"all {counted(len(databases), 'database')}"
    return Health(ok=True, sentence=f"Good backups as young as the schedule {config.schedule} asks: {every}.")


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
        return f"NOT SAFE: {counted(len(problems), 'problem')}; first: {problems[0]}"
    doubt = f" {counted(len(warnings), 'warning')}; first: {warnings[0]}" if warnings else ""
    if verdict == INCOMPLETE:
        rest = f" {_reassurance(databases)}" if databases else ""
        return f"NOT COMPLETE: {sentence([one['name'] for one in unmatched], most=_NAMED)}.{rest}{doubt}"
    return (_NOTHING_HERE if verdict == NOTHING else _reassurance(databases)) + doubt


def _reassurance(databases: tuple[JudgedDatabase, ...]) -> str:
    if not databases:
        return _NOT_YET
    oldest = max(database["age_seconds"] or 0 for database in databases)
    return f"Safe: {counted(len(databases), 'database')}, the oldest good backup is {human_age(oldest)} old."
