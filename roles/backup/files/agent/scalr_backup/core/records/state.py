# SPDX-License-Identifier: GPL-3.0-or-later
"""``state.json``: what the agent knows of the host it is on, as every release so far has written it.

What every release wrote is required. What came later, or is not always there, may be missing. An entry that does not look
like this is damaged: it is left out, and said to be.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from scalr_backup.core.records.databases import DatabaseRecord, DrillRecord, RolesRecord
from scalr_backup.core.records.host import (
    BoxRecord,
    ClockRecord,
    DigestRecord,
    HeartbeatRecord,
    LookRecord,
    NotedFinding,
    RefusedRecord,
)
from scalr_backup.core.records.maintenance import MaintenanceRecord, SeenRecord
from scalr_backup.core.records.new_data import NewDataRecord, SizesRecord
from scalr_backup.core.records.passes import (
    CopyRecord,
    MatchesRecord,
    PassRecord,
    RefusedPassRecord,
    RunningRecord,
    VolumeRecord,
)
from scalr_backup.core.records.reading import Moment
from scalr_backup.core.records.repository import OwedRecord, RepositoryRecord
from scalr_backup.core.records.restores import KeptRecord, RestoreRecord, UndoRecord
from scalr_backup.core.records.schedule import ScheduleRecord

# Not written while it is 1: a document without a version is one of the first.
STATE_VERSION = 1
# Those parts of the document that hold an entry for each of several things: one that is damaged costs itself alone.
PARTS_OF_ENTRIES = frozenset(
    {
        "databases", "drills", "findings", "kept", "looks", "maintenance", "new_data", "owed", "restores", "roles", "undos",
        "volumes",
    }
)  # fmt: skip


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
    new_data: dict[str, NewDataRecord]
    roles: dict[str, RolesRecord]
    volumes: dict[str, VolumeRecord]
    drills: dict[str, DrillRecord]
    restores: dict[str, RestoreRecord]
    kept: dict[str, KeptRecord]
    undos: dict[str, UndoRecord]
    copy: CopyRecord
    maintenance: dict[str, MaintenanceRecord]
    owed: dict[str, OwedRecord]
    repository: RepositoryRecord
    sizes: SizesRecord
    looks: dict[str, SeenRecord]
    findings: dict[str, NotedFinding]
    notifications: BoxRecord
    heartbeat: HeartbeatRecord
    clock: ClockRecord
    refused: RefusedRecord
    digest: DigestRecord
    told_success: DigestRecord
    schedule: ScheduleRecord
