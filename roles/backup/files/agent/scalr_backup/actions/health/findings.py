# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong on this host: one list, which the status shows, metrics count, and alerts are made of.

A failure means that something cannot be restored as of last night, or that this is unknown. A warning means
that it will come to that unless somebody acts within days. A pure function of what is on record and of the time.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeGuard

from scalr_backup.actions.discovery import not_saved
from scalr_backup.actions.documents import FILTERED
from scalr_backup.actions.health.finding import FAILURE, WARNING, Finding, LastGood, Subject
from scalr_backup.actions.health.finding import caused as _caused
from scalr_backup.actions.health.finding import playbook as _playbook
from scalr_backup.actions.health.finding import verb as _verb
from scalr_backup.actions.health.indexes import of_damaged_indexes
from scalr_backup.actions.health.passes import of_passes
from scalr_backup.actions.health.refusals import of_refusals
from scalr_backup.actions.health.switch import TEST, of_switch
from scalr_backup.actions.health.upkeep import of_the_copy, of_upkeep
from scalr_backup.actions.missing import code_of
from scalr_backup.core import remedies
from scalr_backup.core.address import redact_address
from scalr_backup.core.answers import JudgedCopy, JudgedDatabase
from scalr_backup.core.clock import is_in_the_future
from scalr_backup.core.config import Config
from scalr_backup.core.errors import ForgedSnapshotsError
from scalr_backup.core.left_out import lacks
from scalr_backup.core.model import kept_since
from scalr_backup.core.naming import EngineNames
from scalr_backup.core.recognition import WHAT_TO_DO, sentence
from scalr_backup.core.records.databases import FiguresRecord, RolesRecord
from scalr_backup.core.records.host import BoxRecord, ClockRecord, NotedFinding
from scalr_backup.core.records.passes import MatchesRecord, PassRecord, UnmatchedRecord, VolumeRecord
from scalr_backup.core.records.repository import RepositoryRecord
from scalr_backup.core.records.state import StateRecord
from scalr_backup.core.schedule import MANY, due_between
from scalr_backup.core.units import human_age, human_bytes, printable
from scalr_backup.tools.state import Damage

REPOSITORY_ON_HOST = "repository_on_host"

# How many names a sentence lists.
_LISTED = 10
# A clock that is off by more makes stores refuse what is signed by it, and snapshots land on the wrong night.
SKEW_SECONDS = 60
# A skew that was seen so long ago says nothing of today's clock.
_SKEW_COUNTS = timedelta(days=2)


def find(
    config: Config,
    document: StateRecord,
    databases: Sequence[JudgedDatabase],
    copy: JudgedCopy | None,
    now: datetime,
    *,
    unmatched: Sequence[UnmatchedRecord] = (),
    is_overdue: bool,
    lost_with_host: bool = False,
    damage: Damage | None = None,
) -> tuple[Finding, ...]:
    """Find everything, failures first.

    *databases*, *copy* and *unmatched*, PostgreSQL containers that nothing backs up, are as the status judges them;
    *is_overdue* says that nothing was ever backed up for too long, *lost_with_host* that no repository lies elsewhere, and
    *damage* what of the record cannot be read or written.
    Since when is known of what has been noted before (``alerts.py``).
    """
    # Commands of the engine want its own name of a container.
    look = document.get("look")
    called = EngineNames(look.get("called", {}) if look else {})
    found = [
        # The first warning stands beside the word that all is safe.
        *_of_place(config, lost_with_host=lost_with_host),
        *_of_damage(damage, document),
        *_of_databases(config, databases, called, now),
        *_of_roles(config, document.get("roles") or {}, databases, called),
        *_of_drills(config, databases),
        *_of_uncounted(config, databases),
        *_of_unchecked(config, databases),
        *_of_left_out(databases),
        *of_damaged_indexes(databases, called),
        *_of_untested(config, document, databases, now),
        *of_passes(config, document, now),
        *of_upkeep(config, document, copy),
        *_of_copy(config, copy, document.get("last_pass"), now),
        *_of_emptiness(config, is_overdue=is_overdue),
        *_of_unmatched(unmatched),
        *_of_matches(config, document.get("matches", {}), called),
        *_shrunk(config, document, databases),
        *_of_room(config, document.get("repository")),
        *_of_volumes(config, document.get("volumes") or {}, databases, called),
        *_of_locks(config, document.get("repository"), now),
        *_of_clock(document.get("clock"), now),
        *of_refusals(document.get("refused"), now),
        *_of_messages(document.get("notifications", {})),
        *of_switch(document.get("heartbeat")),
    ]
    noted = document.get("findings") or {}
    told = [_told(one, noted) for one in found]
    return tuple(sorted(told, key=lambda one: one.severity != FAILURE))


def _told(finding: Finding, noted: Mapping[str, NotedFinding]) -> Finding:
    """With since when it is known to be so, and one line whatever names and words of others are in it."""
    before = noted.get(finding.key)
    since = before["since"] if before else finding.since
    return replace(finding, since=since, message=printable(finding.message), reason=printable(finding.reason))


def _subject(database: JudgedDatabase) -> Subject:
    return {
        "container": database["container"],
        "database": database["database"],
        "last_good": database["last_success"],
        "last_good_age_seconds": database["age_seconds"],
    }


def of_repository_on_host(config: Config) -> str:
    """The sentence for a host whose backups are lost with it."""
    copy = f" and its copy {redact_address(config.copy_to.repository)} are" if config.copy_to else " is"
    return (
        f"The repository {redact_address(config.repository)}{copy} on this host, so losing the host means losing its backups "
        "too: set backup_repository or backup_copy_repository to a place off this host, or "
        "backup_repository_on_host_accepted to true."
    )


def _of_place(config: Config, *, lost_with_host: bool) -> Iterator[Finding]:
    if lost_with_host:
        yield Finding(REPOSITORY_ON_HOST, WARNING, "place", of_repository_on_host(config), _playbook("site", config))


def _of_damage(damage: Damage | None, document: StateRecord) -> Iterator[Finding]:
    """A failure until a pass can be, and is, recorded again: before that, the age of the backups is unknown."""
    if damage is not None:
        code = "record_unwritable" if damage.unwritable else "record_damaged"
        severity = WARNING if "last_pass" in document and not damage.unwritable else FAILURE
        yield Finding(code, severity, "record", damage.sentence, damage.command)


def _of_databases(
    config: Config, databases: Sequence[JudgedDatabase], called: EngineNames, now: datetime
) -> Iterator[Finding]:
    for database in databases:
        if database["fresh"] and database["ok"]:
            continue
        if database["age_seconds"] is None:
            code, since = "never_backed_up", _never(config, database.get("elsewhere"))
        elif database["fresh"]:
            code, since = "backup_failed", "failed in its last pass"
        elif ahead := _in_the_future(database["last_success"], now):
            code, since = "backup_in_future", ahead
        else:
            code, since = "backup_too_old", _too_old(config, now, database["age_seconds"])
        reason = f": {database['error']['message']}" if database["error"] else ""
        again = _playbook("backup", config, database["container"])
        yield Finding(
            code, FAILURE, "backup", f"{_name(database)} {since}{reason}", **_subject(database),
            **_caused(database["error"], again, config, called[database["container"]]),
        )  # fmt: skip


def _never(config: Config, elsewhere: str | None) -> str:
    """That there is no backup; those in another repository do not come back from this one."""
    if elsewhere is None:
        return "was never backed up"
    return f"was never backed up to {redact_address(config.repository)}; its last backup is in {elsewhere}"


def _in_the_future(recorded: str | None, now: datetime) -> str | None:
    """What is wrong with a good backup that is dated in the future; None for another one, and where there is none."""
    if recorded is None or not is_in_the_future(moment := datetime.fromisoformat(recorded), now):
        return None
    return (
        f"has a last good backup dated {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC, ahead of this host's clock, so its age is "
        "unknown: correct the clock if it is wrong, then back up again"
    )


def _too_old(config: Config, now: datetime, age_seconds: int) -> str:
    """How old the last good backup is, and what should have replaced it."""
    due = due_between(config, config.schedule, now - timedelta(seconds=age_seconds), now)
    count = {1: "a pass was", MANY: f"more than {MANY - 1} passes were"}.get(due, f"{due} passes were")
    return f"has no good backup younger than {human_age(age_seconds)}, although {count} due since (schedule {config.schedule})"


def _of_roles(
    config: Config, roles: Mapping[str, RolesRecord], databases: Sequence[JudgedDatabase], called: EngineNames
) -> Iterator[Finding]:
    """Once for each container that databases are backed up of."""
    for container in sorted({database["container"] for database in databases} & set(roles)):
        entry = roles[container]
        if error := entry["error"]:
            caused = _caused(error, _playbook("backup", config, container), config, called[container])
            yield Finding(
                "roles_not_saved",
                FAILURE,
                "roles",
                error["message"],
                container=container,
                since=entry["time"],
                **caused,
            )


def _of_drills(config: Config, databases: Sequence[JudgedDatabase]) -> Iterator[Finding]:
    for database in databases:
        drill = database["drill"]
        if drill is not None and not drill["ok"]:
            reason = drill["error"]["message"] if drill["error"] else "see the log"
            message = f"{_name(database)} failed its last drill: {reason}"
            again = _playbook("drill", config, database["container"])
            yield Finding(
                "drill_failed", FAILURE, "drill", message, since=drill["time"], **_subject(database),
                **_caused(drill["error"], again, config),
            )  # fmt: skip


def _of_unchecked(config: Config, databases: Sequence[JudgedDatabase]) -> Iterator[Finding]:
    """Dumps of a PostgreSQL that is newer than this agent."""
    for database in databases:
        if database["archive_unchecked"]:
            message = (
                f"The last backup of {_name(database)} is of a format that this agent does not know, so only pg_dump and "
                f"pg_restore have checked it: {database['archive_unchecked']}"
            )
            command = _playbook("site", config)
            yield Finding("archive_unchecked", WARNING, "archive", message, command, **_subject(database))


def _of_uncounted(config: Config, databases: Sequence[JudgedDatabase]) -> Iterator[Finding]:
    """Good dumps whose rows should have been counted and were not."""
    for database in databases:
        if database["count_error"]:
            message = (
                f"The rows of {_name(database)} could not be counted in its last backup, so a restore cannot verify them: "
                f"{database['count_error']}"
            )
            command = _playbook("backup", config, database["container"])
            yield Finding("rows_not_counted", WARNING, "counts", message, command, **_subject(database))


def _of_left_out(databases: Sequence[JudgedDatabase]) -> Iterator[Finding]:
    """Good dumps that lack rows, because pg_dump leaves them out."""
    for database in databases:
        if left_out := database.get("left_out"):
            message = lacks(f"The backup of {_name(database)}", left_out)
            command = _verb(f"snapshots --db {shlex.quote(database['container'])}")
            yield Finding("rows_left_out", WARNING, "left_out", message, command, **_subject(database))


def _of_untested(
    config: Config, document: StateRecord, databases: Sequence[JudgedDatabase], now: datetime
) -> Iterator[Finding]:
    """Databases not proved to restore for a long time: never drilled, or not lately. Once for the host.

    A drill that cannot be tried leaves no record, so this is what is seen of one that never can.
    """
    if not config.drill_overdue_days:
        return
    untested = []
    for database in databases:
        drill = database["drill"]
        if drill and is_in_the_future(datetime.fromisoformat(drill["time"]), now):
            drill = None
        recorded = document.get("databases", {}).get(_name(database))
        first = recorded.get("first_success") if recorded else None
        since = drill["time"] if drill else first or database["last_success"]
        if (
            (drill is None or drill["ok"])
            and since
            and now - datetime.fromisoformat(since) > timedelta(days=config.drill_overdue_days)
        ):
            untested.append((since, f"{_name(database)} ({f'last on {since[:10]}' if drill else 'never'})"))
    if untested:
        listed = ", ".join(words for _since, words in sorted(untested)[:_LISTED])
        more = f" and {len(untested) - _LISTED} more" if len(untested) > _LISTED else ""
        message = (
            f"No drill has proved for {config.drill_overdue_days} days that these backups restore: {listed}{more}. "
            "Running the drill shows what stops it."
        )
        yield Finding("drill_overdue", WARNING, "untested", message, _playbook("drill", config), since=min(untested)[0])


def _of_copy(config: Config, copy: JudgedCopy | None, last_pass: PassRecord | None, now: datetime) -> Iterator[Finding]:
    """A copy that was never tried is not wrong before a pass could have made it."""
    if copy is None or (copy["ok"] is None and last_pass is None):
        return
    age = copy["age_seconds"]
    if copy["error"]:
        message = f"The copy to {copy['repository']} failed: {copy['error']['message']}"
    elif age is None:
        message = f"Nothing has been copied to {copy['repository']} yet."
    elif ahead := _in_the_future(copy["last_success"], now):
        message = f"The copy in {copy['repository']} {ahead}."
    elif not copy["fresh"]:
        message = f"The copy in {copy['repository']} is {human_age(age)} old."
    else:
        return
    last_good: LastGood = {"last_good": copy["last_success"], "last_good_age_seconds": age}
    caused = _caused(copy["error"], _verb("copy"), config)
    if caused["cause"] == ForgedSnapshotsError.code:  # Anything else may be wrong with either of the two.
        caused = of_the_copy(caused)
    yield Finding("copy_failed", FAILURE, "copy", message, **last_good, **caused)


def _of_emptiness(config: Config, *, is_overdue: bool) -> Iterator[Finding]:
    if is_overdue:
        message = "No database has been backed up since the agent was installed."
        yield Finding("nothing_backed_up", FAILURE, "emptiness", message, _playbook("backup", config))


def notes_on(unmatched: Sequence[UnmatchedRecord]) -> list[str]:
    """What an operator has to know of PostgreSQL that nothing backs up: a sentence or none."""
    if not unmatched:
        return []
    names = [container["name"] for container in unmatched]
    rejected = [one["name"] for one in unmatched if one["why"] == FILTERED]
    by_filter = f" backup_filter rejects {', '.join(rejected[:_LISTED])}." if rejected else ""
    return [f"{sentence(names, most=_LISTED)}.{by_filter} {WHAT_TO_DO}"]


def _of_unmatched(unmatched: Sequence[UnmatchedRecord]) -> Iterator[Finding]:
    """One finding for all of them, since one rule may match them all."""
    names = tuple(container["name"] for container in unmatched)
    for message in notes_on(unmatched):
        yield Finding("postgres_unmatched", WARNING, "unmatched", message, _verb("discover"), about=names)


def _of_matches(config: Config, matches: MatchesRecord, called: EngineNames) -> Iterator[Finding]:
    """What the last pass over all containers has looked for and not found as it was."""
    for name in matches.get("gone", ()):
        # Databases are named by whoever may create them, containers without a slash.
        container, _slash, database = name.partition("/")
        if kept_since(database):
            continue
        message = f"{name} was backed up before and is gone."
        command = _verb(f"snapshots --db {shlex.quote(container)}")
        yield Finding(
            "database_gone", WARNING, "gone", message, command, container, database, since=matches.get("time")
        )
    for one in matches.get("left_out", ()):
        yield Finding(
            "database_left_out", WARNING, "not_saved", not_saved(one), _verb("discover"), one["container"],
            one["database"], since=matches.get("time"),
        )  # fmt: skip
    for container in matches.get("stopped", ()):
        state = (matches.get("states") or {}).get(container, "exited")
        how = "is not running" if state in {"created", "exited"} else f"is {state}"
        message = f"{container} matches but is not backed up, because it {how}."
        name = called[container]
        command = remedies.command(code_of(state), config.host, name) or f"docker start {name}"
        yield Finding(
            "container_stopped", WARNING, "stopped", message, command, container,
            since=matches.get("time"),
        )  # fmt: skip


def _shrunk(config: Config, document: StateRecord, databases: Sequence[JudgedDatabase]) -> Iterator[Finding]:
    """A dump that is much smaller than the one before it, or holds far fewer rows: good, and perhaps not wanted."""
    if not config.shrink_percent:
        return
    for database in databases:
        entry = document.get("databases", {}).get(_name(database))
        before = entry.get("previous") if entry else None
        if entry is None or before is None:
            continue
        figures = (
            ("rows", before["rows"], entry.get("rows")),
            ("bytes", before["bytes_read"], entry.get("bytes_read")),
        )
        for unit, old, new in figures:
            if old and new is not None and new < old * (1 - config.shrink_percent / 100):
                message = (
                    f"{_name(database)} shrank from {old:,} to {new:,} {unit} {_since(before)}: if that "
                    "was not on purpose, pin an older snapshot before retention removes it."
                )
                command = _verb(f"snapshots --db {shlex.quote(database['container'])}")
                yield Finding(
                    "database_shrank", WARNING, "shrank", message, command, since=entry["last_success"],
                    **_subject(database),
                )  # fmt: skip
                break


def _since(figures: FiguresRecord) -> str:
    if "time" not in figures:
        return "between its last two backups"
    return f"since its backup of {datetime.fromisoformat(figures['time']).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _of_room(config: Config, repository: RepositoryRecord | None) -> Iterator[Finding]:
    free = repository.get("free_bytes") if repository else None
    full = _full(free, repository.get("total_bytes") if repository else None)
    if full is not None and full >= config.nearly_full_percent:
        message = f"The file system of the repository is {full:.0f} % full: {human_bytes(free)} are left."
        yield Finding("repository_nearly_full", WARNING, "room", message, _playbook("prune", config))


def _of_volumes(
    config: Config,
    volumes: Mapping[str, VolumeRecord],
    databases: Sequence[JudgedDatabase],
    called: EngineNames,
) -> Iterator[Finding]:
    """A cluster whose data has nearly no room left: once for each container that databases are backed up of."""
    for container in sorted({database["container"] for database in databases} & set(volumes)):
        volume = volumes[container]
        full = _full(volume["free_bytes"], volume["total_bytes"])
        if full is not None and full >= config.nearly_full_percent:
            message = (
                f"The volume of {container} is {full:.0f} % full: {human_bytes(volume['free_bytes'])} are left, and "
                "PostgreSQL stops when it is full."
            )
            command = f"docker exec {called[container]} df -h {shlex.quote(volume['directory'])}"
            yield Finding("volume_nearly_full", WARNING, "volume", message, command, container)


def _full(free: int | None, total: int | None) -> float | None:
    """By how many percent a file system is full; None where it was not measured."""
    return None if free is None or not total else 100 * (1 - free / total)


def _of_locks(config: Config, repository: RepositoryRecord | None, now: datetime) -> Iterator[Finding]:
    oldest = repository.get("oldest_lock") if repository else None
    if oldest and now - datetime.fromisoformat(oldest) > timedelta(hours=config.lock_hours):
        age = human_age((now - datetime.fromisoformat(oldest)).total_seconds())
        message = f"A lock on the repository is {age} old and blocks prune and check."
        yield Finding("lock_too_old", WARNING, "lock", message, _verb("unlock"), since=oldest)


def is_current(clock: ClockRecord | None, now: datetime) -> TypeGuard[ClockRecord]:
    """Whether what a server has told of the time says something of today's clock."""
    return clock is not None and now - datetime.fromisoformat(clock["time"]) <= _SKEW_COUNTS


def _of_clock(clock: ClockRecord | None, now: datetime) -> Iterator[Finding]:
    if not is_current(clock, now):
        return
    skew = clock["skew_seconds"]
    if abs(skew) > SKEW_SECONDS:
        direction = "ahead of" if skew > 0 else "behind"
        message = f"The host's clock is {human_age(abs(skew))} {direction} the clock of its heartbeat server."
        yield Finding("clock_skew", WARNING, "clock", message, "timedatectl status", since=clock["time"])


def _of_messages(notifications: BoxRecord) -> Iterator[Finding]:
    if notifications.get("pending") and notifications.get("last_error"):
        message = f"Messages cannot be delivered: {notifications['last_error']}"
        yield Finding("not_delivered", WARNING, "messages", message, TEST)


def _name(database: JudgedDatabase) -> str:
    return f"{database['container']}/{database['database']}"
