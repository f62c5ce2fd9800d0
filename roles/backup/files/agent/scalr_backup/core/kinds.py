# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of problem that a status can find: how severe it is, and what it means, in the words of docs/alerts.md."""

from __future__ import annotations

from typing import NamedTuple

from scalr_backup.core.answers import Severity


class Kind(NamedTuple):
    """What findings of one code have in common."""

    severity: Severity
    meaning: str


# A code never changes its meaning; something new gets a new one.
KINDS = {
    "index_damaged": Kind(
        "warning",
        (
            "an index returns a different number of rows than its table has, so the app does not see all of them; "
            "the backup has them, as it was made without the index. Reported until a pass has read the table by "
            "the index again"
        ),
    ),
    "backup_failed": Kind(
        "failure",
        "the last backup of the database failed; the previous one is not overdue yet",
    ),
    "backup_in_future": Kind(
        "failure",
        (
            "the last good backup of the database, by its record, was made later than now: the clock was set back, so "
            "its age is unknown and it does not count until another one is made"
        ),
    ),
    "backup_too_old": Kind(
        "failure",
        (
            "the database has no good backup as young as the schedule asks: 26 hours on a nightly schedule, "
            "an hour and a half on an hourly one"
        ),
    ),
    "never_backed_up": Kind(
        "failure",
        "the database was found and tried, but the configured repository has no good backup of it",
    ),
    "roles_not_saved": Kind(
        "failure",
        ("the databases of a container were saved but its roles were not; a restore uses those of an earlier pass"),
    ),
    "nothing_backed_up": Kind(
        "failure",
        (
            "the first pass after the installation is overdue and there is no backup at all, although there "
            "is, or may be, something to back up"
        ),
    ),
    "pass_failed": Kind(
        "failure",
        (
            "the pass as a whole failed: the repository rejects a key or a certificate, does not answer, or "
            "has a different password"
        ),
    ),
    "pass_refused": Kind(
        "failure",
        "a scheduled pass could not even start",
    ),
    "retention_failed": Kind(
        "failure",
        "the pass could not forget or prune, or refused to because of forged snapshots",
    ),
    "forget_failed": Kind(
        "failure",
        "the last separate run of this operation failed",
    ),
    "prune_failed": Kind(
        "failure",
        "the last separate run of this operation failed",
    ),
    "check_failed": Kind(
        "failure",
        "the last separate run of this operation failed",
    ),
    "copy_failed": Kind(
        "failure",
        "the second repository is not up to date",
    ),
    "copy_forget_failed": Kind(
        "failure",
        "the last separate run of this operation on the second repository failed",
    ),
    "copy_prune_failed": Kind(
        "failure",
        "the last separate run of this operation on the second repository failed",
    ),
    "copy_check_failed": Kind(
        "failure",
        "the last separate run of this operation on the second repository failed",
    ),
    "drill_failed": Kind(
        "failure",
        ("the newest snapshot of the database could not be restored, or did not match what was backed up"),
    ),
    "repository_on_host": Kind(
        "warning",
        (
            "no repository is off the host, so losing the host means losing its backups; sent once, and shown"
            " until `backup_repository_on_host_accepted` is true"
        ),
    ),
    "rows_not_counted": Kind(
        "warning",
        (
            "the last backup is complete, but its rows could not be counted, so a restore cannot be verified "
            "against them"
        ),
    ),
    "archive_unchecked": Kind(
        "warning",
        (
            "a PostgreSQL that is newer than the agent wrote the last backup: `pg_dump` succeeded and the "
            "container's own `pg_restore` read it to its end, but the agent could not check its structure; a "
            "restore of it uses that `pg_restore`, in one stream. Update the agent"
        ),
    ),
    "rows_left_out": Kind(
        "warning",
        (
            "the last backup is complete, but `pg_dump` leaves out rows of these relations, so no restore "
            "brings them back: what a backup does not hold"
        ),
    ),
    "drill_overdue": Kind(
        "warning",
        ("databases that have passed no drill for `backup_drill_overdue_days`, because none ran or none could start"),
    ),
    "postgres_unmatched": Kind(
        "warning",
        (
            "the host has PostgreSQL containers that nothing backs up: no rule matches them, or "
            "`backup_filter` rejects them; how they are found"
        ),
    ),
    "database_gone": Kind(
        "warning",
        "a database that had good backups no longer exists; reported for two weeks",
    ),
    "database_left_out": Kind(
        "warning",
        (
            "a database cannot be backed up, because it does not allow connections or an interrupted `DROP "
            "DATABASE` left it unusable; its backups from before stay"
        ),
    ),
    "container_stopped": Kind(
        "warning",
        (
            "a container matches but is not running, so it is not backed up; if it is paused or keeps "
            "restarting, its databases are `backup_failed` too"
        ),
    ),
    "database_shrank": Kind(
        "warning",
        (
            "the dump or the number of rows fell by more than `backup_shrink_percent` from one backup to the "
            "next, or, if there are several a day, since one of 12 to 24 hours before"
        ),
    ),
    "repository_nearly_full": Kind(
        "warning",
        ("the file system of a repository in a directory is `backup_nearly_full_percent` full"),
    ),
    "volume_nearly_full": Kind(
        "warning",
        "the file system with a container's data was that full in the last pass",
    ),
    "pass_runs_long": Kind(
        "warning",
        (
            "a scheduled pass has been running for more than `backup_pass_hours`: it hangs, or the next pass "
            "has to wait for it"
        ),
    ),
    "pass_outlasts_schedule": Kind(
        "warning",
        (
            "the last scheduled pass was still running when the next came due, so there are fewer passes than"
            " the schedule asks for: leave more time between passes in `backup_schedule`, or find in the "
            "`history` what takes so long"
        ),
    ),
    "lock_too_old": Kind(
        "warning",
        "a lock on the repository is older than `backup_lock_hours`",
    ),
    "clock_skew": Kind(
        "warning",
        "the clocks of the host and the heartbeat server differ by more than a minute",
    ),
    "record_damaged": Kind(
        "warning",
        (
            "part of the agent's own state cannot be read and is ignored; a failure until the next pass has "
            "recorded it again. The damaged file is `state.json.damaged` beside `state.json`, in the agent's "
            "volume; remove it to clear this"
        ),
    ),
    "record_unwritable": Kind(
        "failure",
        (
            "the agent's own state cannot be written, because the disk of its volume is full, read-only or not its own: "
            "backups go on, but their results are not recorded, and nothing is restored"
        ),
    ),
    "agent_outdated": Kind(
        "warning",
        ("the agent is older than the collection that queries it; seen from the controller only"),
    ),
    "calls_refused": Kind(
        "warning",
        (
            "the socket proxy refused calls that the agent never makes: someone else makes them, or has "
            "taken over the agent; reported for a week. What was refused says where the calls are listed"
        ),
    ),
    "heartbeat_failed": Kind(
        "warning",
        "at least two calls in a row to the dead man's switch failed, so it cannot tell whether this host is up",
    ),
    "not_delivered": Kind(
        "warning",
        "messages are queued because a service does not accept them",
    ),
}
