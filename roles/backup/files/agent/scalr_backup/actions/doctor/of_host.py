# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the agent's own environment: space, memory, schedule, versions, messages. Pure functions of what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from scalr_backup.actions.doctor.examined import FAILED, OK, WARNING, Examined, listed
from scalr_backup.actions.health import switch
from scalr_backup.actions.health.finding import FAILURE
from scalr_backup.actions.health.outbox import Recipients
from scalr_backup.actions.health.status import WAITING, Status
from scalr_backup.core import remedies
from scalr_backup.core.config import Config
from scalr_backup.core.records.host import HeartbeatRecord
from scalr_backup.core.room import WrittenTo
from scalr_backup.core.units import counted, human_bytes

_MIB = 1024 * 1024
# The agent's state and restic's cache need that much in any case, and that much to be at ease: packs are spooled there.
_LEAST_BYTES, _AT_EASE_BYTES = 64 * _MIB, 1024 * _MIB
# The agent and restic do not start with less: see the filter memory_limit.
LEAST_MEMORY = 192 * _MIB
# The first restic whose forget fails where a removal did.
_TELLS_FAILED_REMOVALS = (0, 19)
# What a check of its own shows.
_SHOWN_ELSEWHERE = {
    "clock_skew", "lock_too_old", "postgres_unmatched", "repository_nearly_full", "repository_on_host",
    switch.HEARTBEAT_FAILED,
}  # fmt: skip
_STATUS = "docker exec scalr-backup scalr-backup status"
_MOST_FINDINGS = 5


@dataclass(frozen=True)
class ScheduleFacts:
    """Whether the schedule is alive: *serving* says that the process runs that starts the passes."""

    serving: bool
    next_pass: datetime
    last_started: datetime | None
    missed: datetime | None
    under_way: str | None


def of_room(rooms: Sequence[WrittenTo], nearly_full_percent: int) -> Examined:
    """Whether the agent can write what it has to."""
    if closed := [one for one in rooms if not one.writable]:
        return Examined(
            FAILED,
            f"The agent cannot write to {listed([f'{one.path} ({one.what})' for one in closed])}.",
            cure="Make the agent's user, 64738, own the directory, or mount it writable; site.yml does both.",
        )
    full = [one for one in rooms if one.free_bytes < _LEAST_BYTES]
    tight = [one for one in rooms if one.free_bytes < _AT_EASE_BYTES or _percent(one) >= nearly_full_percent]
    details = tuple(
        f"{listed(names)}: {human_bytes(one.free_bytes)} of {human_bytes(one.total_bytes)} free"
        for one, names in _by_file_system(rooms)
    )
    cure = "Free some space on it, run prune.yml, or move the repository elsewhere."
    if full:
        return Examined(FAILED, f"There is no space left for {listed([one.what for one in full])}.", details, cure)
    if tight:
        return Examined(
            WARNING, f"There is little space left for {listed([one.what for one in tight])}.", details, cure
        )
    return Examined(OK, "There is enough free space.", details)


def _percent(room: WrittenTo) -> float:
    return 100 * (1 - room.free_bytes / room.total_bytes) if room.total_bytes else 0.0


def _by_file_system(rooms: Sequence[WrittenTo]) -> list[tuple[WrittenTo, list[str]]]:
    """Each file system once, with what is on it."""
    systems = {one.file_system: one for one in rooms}
    return [(one, [room.what for room in rooms if room.file_system == number]) for number, one in systems.items()]


def of_memory(limit_bytes: int | None) -> Examined:
    """Whether the agent's container has the memory that restic takes."""
    if limit_bytes is None:
        return Examined(OK, "The agent's container has no memory limit.")
    if limit_bytes < LEAST_MEMORY:
        return Examined(
            WARNING,
            f"The agent's container is limited to {human_bytes(limit_bytes)} of memory, and restic can be killed below "
            f"{human_bytes(LEAST_MEMORY)}.",
            cure="Raise backup_memory.",
        )
    return Examined(OK, f"The agent's container is limited to {human_bytes(limit_bytes)} of memory.")


def of_schedule(facts: ScheduleFacts, config: Config) -> Examined:
    """Whether passes begin by themselves."""
    zone = ZoneInfo(config.timezone)
    due = f"{facts.next_pass.astimezone(zone):%Y-%m-%d %H:%M} {config.timezone}"
    if not facts.serving:
        return Examined(
            FAILED,
            "Nothing runs the schedule: there is no process scalr-backup serve in this container, so no pass starts by itself.",
            cure="Start the agent's container; its log says why it is not running.",
            command="docker logs --tail 50 scalr-backup",
        )
    if facts.under_way:
        return Examined(
            OK, f"The schedule runs ({config.schedule}); now: {facts.under_way}. The next pass is due {due}."
        )
    if facts.missed:
        when = f"{facts.missed.astimezone(zone):%Y-%m-%d %H:%M}"
        return Examined(
            WARNING,
            f"The pass of {when} has not run. The next one is due {due}.",
            cure="Look for the reason in the log, and back up now.",
            command="docker logs --tail 50 scalr-backup",
        )
    last = f"{facts.last_started.astimezone(zone):%Y-%m-%d %H:%M}" if facts.last_started else "none yet"
    return Examined(OK, f"The schedule runs ({config.schedule}): last pass {last}, next pass {due}.")


def of_versions(agent: str, restic: str) -> Examined:
    """Whether the programs belong together; PostgreSQL's clients are those of each database container."""
    seen = f"Agent {agent}, restic {restic}; pg_dump comes from each database container."
    numbers = tuple(int(part) for part in restic.split(".") if part.isdigit())
    if numbers < _TELLS_FAILED_REMOVALS:
        return Examined(
            WARNING,
            f"{seen} restic before 0.19 may not report that a removal failed.",
            cure=remedies.cure("restic_version"),
        )
    return Examined(OK, seen)


def of_recipients(
    recipients: Recipients,
    *,
    scraped: bool,
    beats: HeartbeatRecord | None = None,
    events: Sequence[str] = (FAILURE,),
    unwritten: str = "",
) -> Examined:
    """Whether anybody is told when backups fail.

    *scraped* says that metrics are to be had, *beats* how the heartbeat fares, *events* of what services are sent messages, and
    *unwritten* to which directory metrics should be written but cannot.
    """
    is_silent = bool(recipients.services) and FAILURE not in events
    ways = [
        *([counted(len(recipients.services), "notification service")] if recipients.services and not is_silent else []),
        *(["a heartbeat"] if recipients.heartbeat else []),
        *(["metrics"] if scraped else []),
    ]
    seen = f"Failures are reported by: {', '.join(ways)}."
    but = f"{seen} But" if ways else "Nobody is notified when backups fail:"
    if is_silent:
        cure = "Add failure to backup_notify_events."
        return Examined(WARNING, f"{but} failure is not among backup_notify_events.", cure=cure)
    if unwritten:
        cure = "Correct backup_metrics_textfile, or mount its place for the agent writable; site.yml does that."
        return Examined(WARNING, f"{but} the metrics cannot be written to {unwritten}.", cure=cure)
    if not ways:
        return Examined(
            WARNING,
            "Nobody is notified when backups fail: there is no notification service, no heartbeat and no metrics.",
            cure="Set backup_notify and backup_heartbeat_url, as docs/alerts.md shows.",
        )
    if recipients.heartbeat and (trouble := switch.deafness(beats)):
        cure = "Correct backup_heartbeat_url, or let this host reach that server."
        return Examined(WARNING, f"{but} {trouble[:1].lower()}{trouble[1:]}", cure=cure, command=switch.TEST)
    if recipients.services and not (recipients.heartbeat or scraped):
        cure = "A host that is down sends no message: set backup_heartbeat_url as well."
        return Examined(OK, seen, cure=cure)
    return Examined(OK, seen)


def of_backups(status: Status) -> Examined:
    """What the passes have put on record, without what other checks show."""
    findings = [one for one in status.findings if one.code not in _SHOWN_ELSEWHERE]
    failures = [one for one in findings if one.severity == FAILURE]
    if not findings:
        seen = "No pass has run yet, and none is overdue." if status.verdict == WAITING else status.summary
        return Examined(OK, seen)
    worst = (failures or findings)[0]
    return Examined(
        FAILED if failures else WARNING,
        f"{counted(len(findings), 'finding')} on record, {len(failures)} of them failures.",
        tuple(one.message for one in findings[:_MOST_FINDINGS]),
        worst.remedy,
        _STATUS if len(findings) > 1 else worst.command,
        worst.cause if worst.remedy else "",
    )
