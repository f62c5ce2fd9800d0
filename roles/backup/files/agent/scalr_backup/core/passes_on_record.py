# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass leaves on record: its result, each database's outcome, and what it has taught of new data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from scalr_backup.core import new_data
from scalr_backup.core.damage import note_damage
from scalr_backup.core.errors import InterruptedRunError
from scalr_backup.core.growth import with_size
from scalr_backup.core.model import NIGHTLY, WHOLE_CLUSTER, DatabaseBackup, is_whole_cluster
from scalr_backup.core.new_data import NewBackup
from scalr_backup.core.records.databases import DatabaseRecord, RolesRecord
from scalr_backup.core.records.new_data import NewDataRecord, SizeRecord
from scalr_backup.core.records.passes import PassRecord
from scalr_backup.core.records.repository import RepositoryRecord
from scalr_backup.core.records.state import StateRecord
from scalr_backup.core.yardstick import measure_anew


@dataclass
class Learned:
    """What a pass has taught of new data: why a dump had to be all new, by ``container/database``, and sentences to tell."""

    anew: dict[str, str] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)

    def note(self, key: str, before: NewDataRecord | None, after: NewDataRecord) -> None:
        """What the record of one database says now that it did not before."""
        if anew := after["nights"][-1].get("anew"):
            self.anew[key] = anew
        if sentence := new_data.turn(before, after):
            self.sentences.append(f"{key}: {sentence}")


def record_pass(
    document: StateRecord,
    result: PassRecord,
    outcomes: Sequence[DatabaseBackup],
    repository: str | None,
    measured: RepositoryRecord | None,
) -> Learned:
    """Put a pass on record, as ``State.record_pass`` says; *measured* is what its repository was measured at in it."""
    learned = Learned()
    error = result["error"]
    was_stopped = error is not None and error["code"] == InterruptedRunError.code
    document["last_pass"] = result
    if result["reason"] == NIGHTLY and not was_stopped:
        document["nightly_unfinished"] = 0
    if (matches := result.get("matches")) is not None:
        document["matches"] = {**matches, "time": result["finished"]}
        if result["reason"] == NIGHTLY:
            document["nightly_looked"] = result["finished"]
    # Of one that does not tell any more nothing is known.
    volumes = {**document.get("volumes", {}), **result.get("volumes", {})}
    document["volumes"] = {container: volume for container, volume in volumes.items() if volume}
    document["roles"] = {**document.get("roles", {}), **_roles(result)}
    databases = document.setdefault("databases", {})
    for outcome in outcomes:
        if outcome.ok:
            _record_new_data(document, outcome, result, repository, learned)
        if outcome.error is None or outcome.error.code != InterruptedRunError.code:
            _record_outcome(databases, outcome, result, repository)
    if measured and repository is not None:
        _record_size(document, measured, repository)
    return learned


def _roles(result: PassRecord) -> dict[str, RolesRecord]:
    """Whether the roles of each container were saved, as this pass found it."""
    return {
        container: {"ok": failure is None, "error": failure, "time": result["finished"]}
        for container, failure in result.get("roles", {}).items()
    }


def _record_new_data(
    document: StateRecord, outcome: DatabaseBackup, result: PassRecord, repository: str | None, learned: Learned
) -> None:
    """Add a good backup to what is known of its database's new data; called before its outcome is recorded."""
    key = f"{outcome.container}/{outcome.database}"
    known = document.setdefault("new_data", {})
    database = document.get("databases", {}).get(key)
    before = known.get(key)
    added = NewBackup(
        started=datetime.fromisoformat(result["started"]),
        bytes_read=outcome.bytes_read,
        bytes_added=outcome.bytes_added,
        bytes_stored=outcome.bytes_stored,
        layout=new_data.layout(outcome.row_order),
    )
    is_first = database is None or database["last_success"] is None
    known[key] = new_data.after(before, added, is_first=is_first, repository=repository)
    learned.note(key, before, known[key])
    # Who is on record no more needs no series either.
    for gone in known.keys() - document.get("databases", {}).keys() - {key}:
        del known[gone]


def _record_size(document: StateRecord, measured: RepositoryRecord, repository: str) -> None:
    size = measured.get("size_bytes")
    if size is not None:
        one: SizeRecord = {"time": measured["time"], "size_bytes": size}
        document["sizes"] = with_size(document.get("sizes"), repository, one)


def _record_outcome(
    databases: dict[str, DatabaseRecord], outcome: DatabaseBackup, result: PassRecord, repository: str | None
) -> None:
    key = f"{outcome.container}/{outcome.database}"
    tried: DatabaseRecord = {
        "last_success": None,
        "container": outcome.container,
        "database": outcome.database,
        "ok": outcome.ok,
        "run": result["run"],
        "last_tried": result["finished"],
        "error": outcome.error.record if outcome.error else None,
    }
    if before := databases.get(key):
        tried = {**before, **tried, "last_success": before["last_success"]}
    databases[key] = entry = tried
    if outcome.ok:
        # Of a record that an earlier version began, the first that is known.
        entry.setdefault("first_success", entry["last_success"] or result["finished"])
        measure_anew(entry, datetime.fromisoformat(result["finished"]))
        entry["seconds"] = outcome.duration_seconds
        entry["last_success"] = result["finished"]
        entry["repository"] = repository
        entry["snapshot_id"] = outcome.snapshot_id
        entry["bytes_read"] = outcome.bytes_read
        entry["bytes_added"] = outcome.bytes_added
        entry["bytes_stored"] = outcome.bytes_stored
        entry["rows"] = outcome.rows
        entry["count_error"] = outcome.count_error
        entry["archive_unchecked"] = outcome.archive_unchecked
        entry["left_out"] = list(outcome.left_out)
        note_damage(entry, outcome, result["finished"])
    whole = f"{outcome.container}/{WHOLE_CLUSTER}"
    if outcome.ok and whole in databases and is_whole_cluster(databases[whole]):
        # The cluster answers again: what was said of it as a whole is over.
        del databases[whole]
