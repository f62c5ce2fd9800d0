# SPDX-License-Identifier: GPL-3.0-or-later
"""``state.json``: what the agent knows of the host it is on, as every release so far has written it.

What every release wrote is required. What came later, or is not always there, may be missing. An entry that does not look
like this is damaged: it is left out, and said to be.
"""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from scalr_backup.core.records.left_out import LeftOutRowsRecord
from scalr_backup.core.records.reading import Moment

# Not written while it is 1: a document without a version is one of the first.
STATE_VERSION = 1
# Those parts of the document that hold an entry for each of several things: one that is damaged costs itself alone.
PARTS_OF_ENTRIES = frozenset(
    {"databases", "drills", "findings", "kept", "looks", "maintenance", "restores", "roles", "undos", "volumes"}
)


class FailureRecord(TypedDict):
    """Why something failed: a code for programs, a sentence for people."""

    code: str
    message: str


class ObjectRecord(TypedDict):
    """An object that could not be restored as it was saved: why, what became of it, and SQL that mends the live one.

    The outcome is ``failed``, ``not_valid`` (a constraint that does not look at the rows that are there), ``mended`` (made with
    a search path that it lacks by itself), ``unreachable`` (a drill has no other database than this one) or ``left_out``.
    """

    object: str
    cause: str
    mend: str | None
    outcome: str


# -- passes ------------------------------------------------------------------------------------------------


class RetentionRecord(TypedDict):
    """What the retention at the end of a pass came to; *removed* are ids of snapshots."""

    ok: bool
    removed: list[str]
    error: FailureRecord | None


class VolumeRecord(TypedDict):
    """The file system that a cluster's data directory lies on."""

    directory: str
    free_bytes: int
    total_bytes: int


class KeptCopyRecord(TypedDict):
    """A database that a restore has left beside the live one, and the command that drops it."""

    container: str
    database: str
    kept_since: Moment
    size_bytes: int
    command: str


class LeftOutDatabaseRecord(TypedDict):
    """A database that cannot be saved, and why."""

    container: str
    database: str
    why: str


class MatchesRecord(TypedDict, total=False):
    """What a pass over all containers did not find as before, or cannot save."""

    time: Moment
    gone: list[str]
    stopped: list[str]
    states: dict[str, str]
    kept: list[KeptCopyRecord]
    left_out: list[LeftOutDatabaseRecord]


class UnmatchedRecord(TypedDict):
    """A PostgreSQL container that nothing backs up, what shows the server, and what keeps it out."""

    name: str
    image: NotRequired[str]
    state: NotRequired[str]
    evidence: NotRequired[str]
    why: str


class OutcomeRecord(TypedDict):
    """What a pass came to for one database."""

    container: str
    database: str
    ok: bool
    snapshot_id: str | None
    bytes_read: int
    bytes_added: int
    bytes_stored: NotRequired[int]
    duration_seconds: float
    rows: int | None
    error: FailureRecord | None
    count_error: NotRequired[str | None]
    archive_unchecked: NotRequired[str | None]
    left_out: NotRequired[list[LeftOutRowsRecord]]


class CopyRecord(TypedDict):
    """What the last copy to the second repository came to; *last_success* is kept beside it in the state."""

    repository: str
    ok: bool
    time: Moment
    copied: int
    removed: list[str]
    error: FailureRecord | None
    last_success: NotRequired[Moment | None]


class PassRecord(TypedDict):
    """What a pass came to: the answer of the verb, as it was."""

    run: str
    reason: str
    host: NotRequired[str]
    started: Moment
    finished: Moment
    duration_seconds: NotRequired[float]
    databases: NotRequired[list[OutcomeRecord]]
    failed: int
    warnings: NotRequired[list[str]]
    retention: RetentionRecord
    manifest_snapshot_id: NotRequired[str | None]
    error: FailureRecord | None
    copy: NotRequired[CopyRecord | None]
    matches: NotRequired[MatchesRecord | None]
    roles: NotRequired[dict[str, FailureRecord | None]]
    unmatched: NotRequired[list[UnmatchedRecord]]
    notes: NotRequired[list[str]]
    volumes: NotRequired[dict[str, VolumeRecord | None]]


class RefusedPassRecord(TypedDict):
    """The last pass that could not even begin, and why."""

    time: Moment
    message: str


class RunningRecord(TypedDict, total=False):
    """Since when the agent runs a pass; empty while it does not."""

    since: Moment


# -- databases ---------------------------------------------------------------------------------------------


class FiguresRecord(TypedDict):
    """How large the good backup before the last one was."""

    bytes_read: int | None
    rows: int | None


class DatabaseRecord(TypedDict):
    """What is known of one database: its last try, and its last good backup."""

    container: str
    database: str
    ok: bool
    run: NotRequired[str]
    last_tried: Moment
    error: NotRequired[FailureRecord | None]
    last_success: Moment | None
    first_success: NotRequired[Moment]
    seconds: NotRequired[float]
    snapshot_id: NotRequired[str | None]
    bytes_read: NotRequired[int | None]
    bytes_added: NotRequired[int | None]
    bytes_stored: NotRequired[int | None]
    rows: NotRequired[int | None]
    count_error: NotRequired[str | None]
    archive_unchecked: NotRequired[str | None]
    left_out: NotRequired[list[LeftOutRowsRecord]]
    previous: NotRequired[FiguresRecord]


class RolesRecord(TypedDict):
    """Whether the roles of a container were saved when it was last backed up."""

    ok: bool
    error: FailureRecord | None
    time: Moment


class DrillRecord(TypedDict):
    """What the last drill of a database came to."""

    run: NotRequired[str]
    time: Moment
    container: str
    database: str
    ok: bool
    error: FailureRecord | None
    recovery_seconds: float | None
    snapshot_id: NotRequired[str]
    snapshot_time: NotRequired[Moment]
    tried: NotRequired[bool]
    image: NotRequired[str | None]
    own_image: NotRequired[bool]
    tables: NotRequired[int | None]
    rows: NotRequired[int | None]
    amcheck: NotRequired[str | None]
    assertions: NotRequired[dict[str, int]]
    objects: NotRequired[list[ObjectRecord]]


# -- restores ----------------------------------------------------------------------------------------------


class KeptRecord(TypedDict):
    """A database that a restore has replaced and kept, under the name *old*."""

    run: str
    container: str
    database: str
    old: str


class RestoreRecord(KeptRecord):
    """What a restore has made and must not leave behind: the journal of one under way, or of one that was killed."""

    new: str
    keep_old: bool
    aside: NotRequired[str]
    new_oid: NotRequired[int]


class UndoRecord(TypedDict):
    """The journal of an undo: what is on its way back, and what it replaces."""

    kept: KeptRecord
    replaced: KeptRecord | None


# -- repositories ------------------------------------------------------------------------------------------


class RotationRecord(TypedDict):
    """Which part of a repository's data was read when, by its number, and which of them are damaged."""

    parts: int
    since: Moment
    read: dict[str, Moment]
    damaged: NotRequired[list[int]]


class KeptCount(TypedDict):
    """How many snapshots of a database stay, and how many of them for which reason."""

    snapshots: int
    why: dict[str, int]


class MaintenanceFacts(TypedDict, total=False):
    """What a check, a forget or a prune reports besides how it ended."""

    run: str
    rotation: RotationRecord
    removed: int
    kept: dict[str, KeptCount]


class MaintenanceOutcome(MaintenanceFacts):
    """How one ended."""

    time: Moment
    ok: bool
    error: FailureRecord | None
    seconds: NotRequired[float]
    repository: str


class MaintenanceRecord(MaintenanceOutcome):
    """How the last one ended, and when a good one last did."""

    last_success: NotRequired[Moment | None]


class RepositoryRecord(TypedDict):
    """What the repository was measured at."""

    time: Moment
    size_bytes: NotRequired[int | None]
    uncompressed_bytes: NotRequired[int | None]
    snapshots: NotRequired[int | None]
    locks: NotRequired[int | None]
    oldest_lock: NotRequired[Moment | None]
    free_bytes: NotRequired[int | None]
    total_bytes: NotRequired[int | None]


class SeenRecord(TypedDict):
    """Which snapshots of somebody were seen at the last look at them."""

    time: Moment
    ids: list[str]


# -- the host, and what it was told of ---------------------------------------------------------------------


class LookRecord(TypedDict):
    """What a look at the containers of the host has found."""

    time: Moment
    matching: NotRequired[list[str]]
    unmatched: NotRequired[list[UnmatchedRecord]]


class PendingRecord(TypedDict):
    """A message on its way: *to* are the services that have not accepted it yet."""

    kind: str
    title: str
    body: str
    time: Moment
    tries: int
    next: Moment
    to: list[str]


class BoxRecord(TypedDict, total=False):
    """The outbox: counts, the last error, and what waits."""

    sent: int
    failed: int
    last_error: str | None
    pending: list[PendingRecord]


class ClockRecord(TypedDict):
    """By how much the host's clock is ahead of a server's."""

    time: Moment
    skew_seconds: float


class NotedFinding(TypedDict):
    """A finding that was reported, since when it is known, and how often it was reported."""

    code: str
    severity: Literal["failure", "warning"]
    message: str
    since: Moment
    told: Moment
    times: int
    about: NotRequired[list[str]]


class DigestRecord(TypedDict):
    """When the weekly digest was last sent."""

    time: Moment


class StateRecord(TypedDict, total=False):
    """The document: each part is there once there is something to say."""

    version: int
    agent_id: str
    first_started: Moment
    nightly_started: Moment | None
    nightly_before: Moment | None
    nightly_unfinished: int
    nightly_looked: Moment | None
    last_pass: PassRecord
    refused_pass: RefusedPassRecord
    running: RunningRecord
    matches: MatchesRecord
    look: LookRecord
    databases: dict[str, DatabaseRecord]
    roles: dict[str, RolesRecord]
    volumes: dict[str, VolumeRecord]
    drills: dict[str, DrillRecord]
    restores: dict[str, RestoreRecord]
    kept: dict[str, KeptRecord]
    undos: dict[str, UndoRecord]
    copy: CopyRecord
    maintenance: dict[str, MaintenanceRecord]
    repository: RepositoryRecord
    looks: dict[str, SeenRecord]
    findings: dict[str, NotedFinding]
    notifications: BoxRecord
    clock: ClockRecord
    digest: DigestRecord
