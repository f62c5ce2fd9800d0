# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of each database: its last good backup, its roles, its last drill."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from scalr_backup.core.records.failures import FailureRecord, ObjectRecord
from scalr_backup.core.records.left_out import LeftOutRowsRecord
from scalr_backup.core.records.reading import Moment
from scalr_backup.core.records.row_order import DamagedIndexRecord


class FiguresRecord(TypedDict):
    """How large an earlier good backup was, and when it was made; up to release 0.6.0 that was the one before the last."""

    time: NotRequired[Moment]
    bytes_read: int | None
    rows: int | None


class FoundDamageRecord(DamagedIndexRecord):
    """A damaged index, and when a pass has found it."""

    time: Moment


class DatabaseRecord(TypedDict):
    """What is known of one database: its last try, and its last good backup.

    *repository* is the address, without a password, of the one that the last good backup went to; known since 0.8.0.
    """

    container: str
    database: str
    ok: bool
    run: NotRequired[str]
    last_tried: Moment
    error: NotRequired[FailureRecord | None]
    last_success: Moment | None
    repository: NotRequired[str | None]
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
    # Until a pass has read its table by an index.
    damaged_index: NotRequired[FoundDamageRecord]
    # What the last backup is measured against, and, where there are several a day, what the ones to come will be.
    previous: NotRequired[FiguresRecord]
    previous_later: NotRequired[FiguresRecord]


class RolesRecord(TypedDict):
    """Whether the roles of a container were saved when it was last backed up."""

    ok: bool
    error: FailureRecord | None
    time: Moment


class DrillRecord(TypedDict):
    """The result of the last drill of a database."""

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
