# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass came to, for the host and for each database."""

from __future__ import annotations

from typing import NotRequired, final

from typing_extensions import TypedDict

from scalr_backup.core.records.failures import FailureRecord
from scalr_backup.core.records.left_out import LeftOutRowsRecord
from scalr_backup.core.records.reading import Moment


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
    """The result of a pass for one database."""

    container: str
    database: str
    ok: bool
    snapshot_id: str | None
    bytes_read: int
    bytes_added: int
    bytes_stored: NotRequired[int]
    bytes_ordered: NotRequired[int]
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


@final
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
