# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verb answers: the ``data`` of its result line, as the JSON contract has it.

The schemas in ``docs/schemas`` are made from these types.
"""

from __future__ import annotations

from typing import Literal, NotRequired, final

from typing_extensions import TypedDict

from scalr_backup.core.new_data_answers import GrowthAnswer, NewDataAnswer
from scalr_backup.core.order_answers import RowOrderAnswer
from scalr_backup.core.records.databases import FoundDamageRecord
from scalr_backup.core.records.failures import FailureRecord, ObjectRecord
from scalr_backup.core.records.history import Entry
from scalr_backup.core.records.left_out import LeftOutRowsRecord
from scalr_backup.core.records.maintenance import KeptCount
from scalr_backup.core.records.passes import KeptCopyRecord, LeftOutDatabaseRecord, PassRecord, UnmatchedRecord
from scalr_backup.core.records.reading import Moment
from scalr_backup.core.slots import SlotAnswer

Severity = Literal["failure", "warning"]
Verdict = Literal["not_safe", "incomplete", "safe", "waiting", "nothing_to_back_up"]


class Result(TypedDict):
    """The last line of a verb with ``--json``, whose ``event`` is ``result``; without it the call has failed."""

    verb: str
    ok: bool
    changed: bool
    exit_code: int
    error: FailureRecord | None
    data: dict[str, object]


class JudgedDrill(TypedDict):
    """The last drill of a database."""

    ok: bool
    time: Moment
    age_seconds: int
    snapshot_id: str | None
    recovery_seconds: float | None
    error: FailureRecord | None


class JudgedDatabase(TypedDict):
    """A database that the agent is responsible for; it is *fresh* until its last good backup is *overdue_at* by the schedule.

    A backup in a repository other than the one configured now does not count; *elsewhere* is the address of that one.
    """

    container: str
    database: str
    ok: bool
    fresh: bool
    last_success: Moment | None
    age_seconds: int | None
    overdue_at: Moment | None
    snapshot_id: str | None
    bytes_read: int | None
    rows: int | None
    count_error: str | None
    archive_unchecked: str | None
    error: FailureRecord | None
    drill: JudgedDrill | None
    kept: KeptCount | None
    left_out: NotRequired[list[LeftOutRowsRecord]]
    new_data: NotRequired[NewDataAnswer | None]  # Since 0.7.0.
    damaged_index: NotRequired[FoundDamageRecord | None]  # Since 0.8.0.
    elsewhere: NotRequired[str | None]  # Since 0.8.0.


class JudgedCopy(TypedDict):
    """The second repository, and what is known of the last copy to it."""

    repository: str
    ok: bool | None
    fresh: bool
    last_success: Moment | None
    age_seconds: int | None
    overdue_at: Moment | None
    copied: int | None
    removed: list[str] | None
    error: FailureRecord | None


class FindingAnswer(TypedDict):
    """One thing that is wrong, and the command to run next."""

    code: str
    severity: Severity
    topic: str
    message: str
    command: str
    container: str
    database: str
    since: Moment | None
    last_good: Moment | None
    last_good_age_seconds: int | None
    cause: str
    reason: str
    about: list[str]
    remedy: str
    help: str


class BoxAnswer(TypedDict):
    """The outbox without its messages; *pending* counts them."""

    sent: int
    failed: int
    last_error: str | None
    pending: int


class StatusAnswer(TypedDict):
    """``status``."""

    host: str
    repository: str
    healthy: bool
    verdict: Verdict
    summary: str
    problems: list[str]
    findings: list[FindingAnswer]
    agent_version: str
    databases: list[JudgedDatabase]
    unmatched: list[UnmatchedRecord]
    last_pass: PassRecord | None
    schedule: str
    schedule_interval_seconds: int
    next_pass: Moment
    append_only: bool
    copy: JudgedCopy | None
    kept_databases: list[KeptCopyRecord]
    repository_growth: NotRequired[GrowthAnswer | None]  # Since 0.7.0.


class DrilledAnswer(TypedDict):
    """The result of a drill for one database; one that was not *tried* says nothing about the backup."""

    container: str
    database: str
    snapshot_id: str
    snapshot_time: Moment
    ok: bool
    tried: bool
    image: str | None
    tables: int | None
    rows: int | None
    recovery_seconds: float | None
    amcheck: str | None
    assertions: dict[str, int]
    error: FailureRecord | None
    own_image: bool
    objects: NotRequired[list[ObjectRecord]]


class DrillAnswer(TypedDict):
    """``drill``."""

    run: str
    host: str
    started: Moment
    finished: Moment
    duration_seconds: float
    failed: int
    not_tried: int
    warnings: list[str]
    databases: list[DrilledAnswer]


class DatabaseName(TypedDict):
    """A database, by its container."""

    container: str
    database: str


@final
class BackupPlanAnswer(TypedDict):
    """``backup --dry-run``: the databases that would be backed up."""

    plan: list[DatabaseName]


class HistoryAnswer(TypedDict):
    """``history``: what happened since then, oldest first; a night is a date of the *timezone*.

    *due_days* says how many passes were due on each date since this schedule took effect, and, where these are several,
    *due_lately* when those of the last two days were.
    """

    host: str
    timezone: str
    since: Moment
    entries: list[Entry]
    due_days: dict[str, int]
    due_lately: list[Moment]


class HealthAnswer(TypedDict):
    """``health``."""

    healthy: bool
    summary: str


class ToldService(TypedDict):
    """A service that a test was sent to, and why it did not accept it."""

    service: str
    error: str | None


class NotifyAnswer(BoxAnswer):
    """``notify``; *tested* is empty without ``--test``."""

    tested: list[ToldService]


class SnapshotAnswer(TypedDict):
    """A snapshot of this host."""

    id: str
    short_id: str
    time: Moment
    host: str
    container: str | None
    database: str | None
    path: str
    run: str | None
    reason: str | None
    tags: list[str]
    dump_bytes: int | None
    pinned: bool


class SnapshotsAnswer(TypedDict):
    """``snapshots``."""

    snapshots: list[SnapshotAnswer]


class FoundDatabase(TypedDict):
    """A database of a container that answers."""

    name: str
    size_bytes: int
    owner: str
    encoding: str
    # With --row-order.
    row_order: NotRequired[RowOrderAnswer]


class FoundContainer(TypedDict):
    """A container that discovery looked at, and what it holds where it answers."""

    name: str
    id: str
    image: str
    state: str
    status: Literal["ok", "stopped", "unreachable", "refused", "excluded"]
    reason: str | None
    server_version: str | None
    databases: list[FoundDatabase]
    kept_databases: list[KeptCopyRecord]
    left_out_databases: NotRequired[list[LeftOutDatabaseRecord]]


class DiscoverAnswer(TypedDict):
    """``discover``."""

    host: str
    containers: list[FoundContainer]
    unmatched: list[UnmatchedRecord]
    notes: list[str]
    warnings: list[str]
    next_pass: Moment
    repository_note: str


class DecisionAnswer(TypedDict):
    """Whether a dump stays, and why."""

    id: str
    short_id: str
    time: Moment
    container: str | None
    database: str | None
    reason: str | None
    keep: bool
    why: list[str]


class LookAnswer(TypedDict):
    """What a trusted place read before it pruned; *waiting* are packs that a later prune deletes, *deleted* those now deleted."""

    indexes: int
    packs: int
    bytes: int
    seconds: float
    waiting: int
    deleted: int


class ForgetAnswer(TypedDict):
    """``forget``; *decisions* are reported with ``--dry-run``, and *look* by a trusted place."""

    removed: list[str]
    kept: int
    pruned: bool
    suspects: list[str]
    warnings: list[str]
    decisions: list[DecisionAnswer]
    look: LookAnswer | None


class PinAnswer(TypedDict):
    """``pin`` and ``unpin``: a snapshot gets a new id when its tags change."""

    id: str
    was: str
    pinned: bool
    changed: bool


class OpenedAnswer(TypedDict):
    """``init``: the id is null where there is no repository yet."""

    repository: str
    created: bool
    repository_id: str | None


class RehearseAnswer(TypedDict):
    """``rehearse``: null for one that does not exist, or was no longer opened."""

    repository: OpenedAnswer | None
    copy: OpenedAnswer | None


class PruneAnswer(TypedDict):
    """``prune``; *deferred* says what it yielded to."""

    run: str
    deferred: str | None


class CheckAnswer(TypedDict):
    """``check``."""

    errors: Literal[0]
    read_data_subset: str | None


class ScheduledCheckAnswer(TypedDict):
    """``check --scheduled``: the parts of the data that were read, and *of* how many."""

    run: str
    parts: list[int]
    of: int | None
    deferred: str | None


class UnlockAnswer(TypedDict):
    """``unlock``: how many stale locks were removed."""

    removed: int


class ValidAddressesAnswer(TypedDict):
    """``validate --addresses``."""

    services: int
    valid: Literal[True]


class ValidAnswer(TypedDict):
    """``validate``; *notes* are sentences about what is allowed, but perhaps not intended."""

    host: str
    valid: Literal[True]
    notes: NotRequired[list[str]]


class ConnectedAnswer(TypedDict):
    """Who is connected to a database: how many sessions of one user, program and address."""

    user: str | None
    application: str
    address: str
    sessions: int


class PlannedSnapshot(TypedDict):
    """The snapshot that a database would be restored from."""

    id: str
    short_id: str
    time: Moment
    age_seconds: int
    dump_bytes: int | None
    rows: int | None
    run: str | None
    reason: str | None
    tags: list[str]
    server_version: str | None


class LiveAnswer(TypedDict):
    """What a restore or an undo is about to replace."""

    exists: bool
    size_bytes: int | None
    sessions: int
    connected: list[ConnectedAnswer]
    slots: NotRequired[list[SlotAnswer]]


class PlannedDatabase(LiveAnswer):
    """What would happen to one database; an undo has no *snapshot*, a restore no *old_database*."""

    database: str
    source_database: str | None
    needed_bytes: int
    old_database: str | None
    snapshot: PlannedSnapshot | None


class PlanSource(TypedDict):
    """Whose snapshots are restored."""

    host: str
    container: str


class RoomAnswer(TypedDict):
    """The space that a restore takes on the volumes of its target."""

    data_bytes: int
    log_bytes: int
    sort_bytes: int
    reserve_bytes: int
    wanted_bytes: int


class PlanAnswer(TypedDict):
    """What a restore would do, or the *undo* of one."""

    host: str
    container: str
    source: PlanSource
    strategy: str | None
    confirm: str
    undo: str | None
    server_version: str
    snapshot: str | None
    roles: list[str]
    databases: list[PlannedDatabase]
    missing: NotRequired[list[str]]
    # Owners whose code the restore runs with the rights of the agent's user; since 0.6.0.
    code_of: NotRequired[list[str]]
    free_bytes: int | None
    room: NotRequired[RoomAnswer]
    warnings: list[str]


class RestoredAnswer(TypedDict):
    """The result of a restore or an undo for one database."""

    database: str
    snapshot_id: str | None
    ok: bool
    safety_snapshot_id: str | None
    old_database: str | None
    kept_database: str | None
    lost_slots: NotRequired[list[SlotAnswer]]
    objects: NotRequired[list[ObjectRecord]]
    dropped_first: bool
    verified: dict[str, int] | None
    jobs: int
    seconds: dict[str, float]
    duration_seconds: float
    error: FailureRecord | None


class RestoreAnswer(TypedDict):
    """``restore``; with ``--plan`` no *run* and no *databases*."""

    run: str | None
    plan: PlanAnswer
    databases: list[RestoredAnswer]
    roles_created: list[str]
    warnings: list[str]
