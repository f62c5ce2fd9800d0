# SPDX-License-Identifier: GPL-3.0-or-later
"""What survives the container: the outcome of the last pass, of each database, of drills, and of restores under way.

One document (``state_file.py``), and beside it the locks (``locks.py``), the history and the runs. Nothing here is secret.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

from typing_extensions import Unpack

from scalr_backup.core import new_data
from scalr_backup.core.clock import is_in_the_future
from scalr_backup.core.errors import UnwritableRecordError
from scalr_backup.core.model import DatabaseBackup
from scalr_backup.core.passes_on_record import Learned, record_pass
from scalr_backup.core.records.databases import DatabaseRecord, DrillRecord
from scalr_backup.core.records.history import Entry
from scalr_backup.core.records.host import BoxRecord
from scalr_backup.core.records.maintenance import MaintenanceOutcome, MaintenanceRecord, SeenRecord
from scalr_backup.core.records.new_data import NewDataRecord
from scalr_backup.core.records.passes import CopyRecord, PassRecord
from scalr_backup.core.records.repository import OwedRecord
from scalr_backup.core.records.restores import KeptRecord, RestoreRecord, UndoRecord
from scalr_backup.core.records.state import StateRecord
from scalr_backup.core.schedule import NIGHTLY_SCHEDULE
from scalr_backup.tools.history import History, entries_of_pass, entry_of_drill, measured_in
from scalr_backup.tools.locks import Locks
from scalr_backup.tools.runs import Runs
from scalr_backup.tools.state_file import Change, StateFile

STATE_DIRECTORY = Path(os.environ.get("SCALR_BACKUP_STATE", "/var/lib/scalr-backup"))

# A scheduled pass that begins so long after the last one does not make up for it.
_ANOTHER_NIGHT = timedelta(hours=12)
# By how much the seconds of an outcome may be off.
_ROUNDED = timedelta(seconds=0.1)


@dataclass(frozen=True)
class RestoreJournal:
    """What a restore has made and must not leave behind."""

    run: str
    container: str
    database: str
    new: str
    old: str
    keep_old: bool
    # While the new database stands under the live one's name for a moment: what the live one is called then.
    aside: str | None = None
    # Which of those two the new one is, then.
    new_oid: int | None = None

    @classmethod
    def of(cls, record: RestoreRecord) -> RestoreJournal:
        """As it was written down."""
        return cls(
            record["run"], record["container"], record["database"], record["new"], record["old"], record["keep_old"],
            record.get("aside"), record.get("new_oid"),
        )  # fmt: skip

    @property
    def record(self) -> RestoreRecord:
        """As it is written down."""
        record: RestoreRecord = {
            "run": self.run, "container": self.container, "database": self.database, "new": self.new, "old": self.old,
            "keep_old": self.keep_old,
        }  # fmt: skip
        if self.aside is not None:
            record["aside"] = self.aside
        if self.new_oid is not None:
            record["new_oid"] = self.new_oid
        return record

    @property
    def kept(self) -> KeptDatabase:
        """What it keeps, once it has swapped and was to keep the old database."""
        return KeptDatabase(self.run, self.container, self.database, self.old)


@dataclass(frozen=True)
class KeptDatabase:
    """What a restore has replaced and kept, and may be undone with."""

    run: str
    container: str
    database: str
    old: str

    @classmethod
    def of(cls, record: KeptRecord) -> KeptDatabase:
        """As it was written down."""
        return cls(record["run"], record["container"], record["database"], record["old"])

    @property
    def record(self) -> KeptRecord:
        """As it is written down."""
        return {"run": self.run, "container": self.container, "database": self.database, "old": self.old}


@dataclass(frozen=True)
class UndoJournal:
    """A kept database that is on its way back, and what it replaces, if there is something."""

    kept: KeptDatabase
    replaced: KeptDatabase | None

    @classmethod
    def of(cls, record: UndoRecord) -> UndoJournal:
        """As it was written down."""
        replaced = record["replaced"]
        return cls(KeptDatabase.of(record["kept"]), KeptDatabase.of(replaced) if replaced else None)

    @property
    def record(self) -> UndoRecord:
        """As it is written down."""
        return {"kept": self.kept.record, "replaced": self.replaced.record if self.replaced else None}

    def has_swapped(self, names: Collection[str]) -> bool:
        """Whether it is back, by the names of the cluster's databases."""
        return self.kept.old not in names and (self.replaced is None or self.replaced.old in names)


@dataclass(frozen=True)
class Damage:
    """What cannot be read of the record, or that it is *unwritable*: a sentence, and the command that resolves it, or shows more."""

    sentence: str
    command: str
    unwritable: bool = False


class State:
    """The agent's state directory."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or STATE_DIRECTORY
        self.locks = Locks(self._directory)
        self._file = StateFile(self._directory)
        self.history = History(self._directory)
        self.runs = Runs(self._directory)
        # Why something is not in the history that this process was to add.
        self._not_in_history: str | None = None

    def read(self) -> StateRecord:
        """What can be read of the document; the rest counts as never recorded, and ``damage`` reports it."""
        return self._file.read()

    def damage(self) -> Damage | None:
        """What the operator must know of a document that cannot be written, or is damaged; None when all is well."""
        if sentence := self.obstacle():
            return Damage(sentence, f"docker exec scalr-backup df -h {self._directory}", unwritable=True)
        sentence = self._file.damage()
        return Damage(sentence, self._file.cure) if sentence else None

    def obstacle(self) -> str | None:
        """Why nothing can be put on record, as a sentence; None where it can be, and then what has waited for that is."""
        return self._file.obstacle()

    def unwritten(self) -> str | None:
        """Why something that this process was to put on record is not there, as a sentence; None where all of it is."""
        return self._file.unwritten() or self._not_in_history

    def changed(self) -> int | None:
        """When the document was last replaced, in nanoseconds; what differs from an earlier answer has changed."""
        return self._file.changed()

    def first_started(self, now: datetime, document: StateRecord | None = None) -> datetime:
        """When this agent first saw its state directory; *now* the first time, and where that is in the future.

        *document* is what was just read, if it was.
        """
        known = (self.read() if document is None else document).get("first_started")
        if known is not None and not is_in_the_future(first := datetime.fromisoformat(known), now):
            return first
        self.put(first_started=now.isoformat())
        return now

    def note_schedule(self, cron: str, now: datetime) -> None:
        """Keep which schedule passes have, since when, and which one they had before."""
        known = self.read().get("schedule")
        if known is not None and known["cron"] == cron:
            return
        # What an earlier version went by is not known: it judged every host as a nightly one.
        before = known["cron"] if known else NIGHTLY_SCHEDULE
        self.put(schedule={"cron": cron, "since": now.isoformat(), "before": before})

    def nightly_started(self, now: datetime) -> None:
        """Remember that a scheduled pass has begun; until one is recorded that was not told to stop, it is unfinished."""

        def change(document: StateRecord) -> None:
            before, unfinished = document.get("nightly_started"), document.get("nightly_unfinished", 0)
            if not unfinished or before is None or now - datetime.fromisoformat(before) > _ANOTHER_NIGHT:
                document["nightly_before"], unfinished = before, 0
            document["nightly_unfinished"] = unfinished + 1
            document["nightly_started"] = now.isoformat()

        self._change(change)

    def record_pass(
        self,
        result: PassRecord,
        outcomes: list[DatabaseBackup],
        repository: str | None = None,
        zone: tzinfo = UTC,
    ) -> list[str]:
        """Keep a pass's result and each database's outcome; *repository* is the address that the dumps went to.

        The history's days are those of the *zone* that passes are scheduled in.

        A database whose turn did not come, or did not end, when the pass was told to stop is as it was before. Returns, in
        sentences, what is known since this pass of whether the order of rows pays.
        """
        learned = Learned()

        def change(document: StateRecord) -> None:
            nonlocal learned
            measured = measured_in(result, document.get("repository"))
            learned = record_pass(document, result, outcomes, repository, measured)

        self._change(change)
        entries = entries_of_pass(result, outcomes, self.read().get("repository"), learned.anew)
        self._add_to_history(entries, zone)
        return learned.sentences

    def put(self, **parts: Unpack[StateRecord]) -> None:
        """Replace parts of the document that one file alone knows."""
        self._change(lambda document: document.update(parts))

    def change_box(self, change: Callable[[BoxRecord], object]) -> None:
        """Change the outbox; no other change comes between reading and writing."""
        self._change(lambda document: change(document.setdefault("notifications", {})))

    def known_databases(self) -> dict[str, DatabaseRecord]:
        """Every database that a pass has tried, by ``container/database``."""
        return dict(self.read().get("databases", {}))

    def known_new_data(self) -> dict[str, NewDataRecord]:
        """What of each database's dumps was new, by ``container/database``."""
        return dict(self.read().get("new_data", {}))

    def order_history(self, now: datetime) -> new_data.OrderHistory:
        """What past nights say of the order of rows."""
        return new_data.OrderHistory(self.known_new_data(), now)

    def open_journal(self, journal: RestoreJournal) -> None:
        """Write down what a restore is about to make, before it makes it. Raises UnwritableRecordError."""
        self._file.change(
            lambda document: document.setdefault("restores", {}).update({journal.new: journal.record}), at_once=True
        )

    def close_journal(self, journal: RestoreJournal) -> None:
        """Forget a restore that has left nothing behind."""
        self._change(lambda document: document.setdefault("restores", {}).pop(journal.new, None))

    def journal(self, new: str) -> RestoreJournal | None:
        """What is written down of the restore that makes this database."""
        entry = self.read().get("restores", {}).get(new)
        return RestoreJournal.of(entry) if entry else None

    def journals(self, container: str | None = None) -> list[RestoreJournal]:
        """Restores into a container, or into any, that have not closed their journal."""
        entries = [RestoreJournal.of(entry) for entry in self.read().get("restores", {}).values()]
        return [entry for entry in entries if container in (None, entry.container)]

    def agent_id(self) -> str:
        """What distinguishes this agent from others on the same engine, as long as its state exists."""
        new = secrets.token_hex(8)
        self._change(lambda document: document.setdefault("agent_id", new))
        return str(self.read()["agent_id"])

    def record_drill(self, entry: DrillRecord) -> None:
        """Keep the outcome of a database's drill in place of its last one's; *entry* names container and database."""
        key = f"{entry['container']}/{entry['database']}"
        self._change(lambda document: document.setdefault("drills", {}).update({key: entry}))
        self._add_to_history([entry_of_drill(entry)], zone=None)

    def record_copy(self, result: CopyRecord) -> None:
        """Keep the outcome of the last copy, and when the last good one was."""

        def change(document: StateRecord) -> None:
            before = document.get("copy")
            known = before.get("last_success") if before and before["repository"] == result["repository"] else None
            last_success = result["time"] if result["ok"] else known
            document["copy"] = {**result, "last_success": last_success}

        self._change(change)

    def record_maintenance(self, kind: str, outcome: MaintenanceOutcome) -> None:
        """Keep the outcome of the last check, forget or prune, and when the last good one was.

        *outcome* has at least ``time``, ``ok``, ``error`` and ``repository``; what it does not name stays as it was, unless
        that was said of another repository.
        """

        def change(document: StateRecord) -> None:
            entries = document.setdefault("maintenance", {})
            before = entries.get(kind)
            if before is None or before["repository"] != outcome["repository"]:
                entries[kind] = {**outcome, "last_success": outcome["time"] if outcome["ok"] else None}
            else:
                last_success = outcome["time"] if outcome["ok"] else before.get("last_success")
                entries[kind] = {**before, **outcome, "last_success": last_success}
            if outcome["ok"]:
                _settle(document.get("owed", {}), kind, outcome)

        self._change(change)

    def maintenance(self, kind: str) -> MaintenanceRecord | None:
        """What was recorded of the last one; None before the first."""
        return self.read().get("maintenance", {}).get(kind)

    def owe_prune(self, kind: str, repository: str, now: datetime) -> None:
        """Remember that the repository of this kind of prune holds data that no snapshot needs; a good one settles it."""
        entry: OwedRecord = {"repository": repository, "time": now.isoformat()}
        self._change(lambda document: document.setdefault("owed", {}).update({kind: entry}))

    def owes_prune(self, kind: str, repository: str) -> bool:
        """Whether it does."""
        owed = self.read().get("owed", {}).get(kind)
        return owed is not None and owed["repository"] == repository

    def look(self, key: str) -> SeenRecord | None:
        """What was seen of somebody's snapshots at the last look at them."""
        return self.read().get("looks", {}).get(key)

    def record_look(self, key: str, entry: SeenRecord) -> None:
        """Keep it in place of the last look's: what is removed goes by it. Raises UnwritableRecordError."""
        self._file.change(lambda document: document.setdefault("looks", {}).update({key: entry}), at_once=True)

    def forget_containers(self, prefix: str) -> None:
        """Drop journals and locks of removed containers; none of such a name may be in use."""

        def change(document: StateRecord) -> None:
            restores = document.get("restores", {})
            for new in [new for new, entry in restores.items() if entry["container"].startswith(prefix)]:
                del restores[new]

        self._change(change)
        self.locks.forget_containers(prefix)

    def keep(self, kept: KeptDatabase) -> None:
        """Remember where a replaced database is kept."""
        self._change(lambda document: document.setdefault("kept", {}).update({kept.old: kept.record}))

    def forget_kept(self, kept: KeptDatabase) -> None:
        """Forget one that no longer has that name."""
        self._change(lambda document: document.setdefault("kept", {}).pop(kept.old, None))

    def kept(self) -> list[KeptDatabase]:
        """Every replaced database that was kept, whether it is still there or not."""
        return [KeptDatabase.of(entry) for entry in self.read().get("kept", {}).values()]

    def open_undo(self, journal: UndoJournal) -> None:
        """Write down what an undo is about to swap, before it does. Raises UnwritableRecordError."""
        self._file.change(
            lambda document: document.setdefault("undos", {}).update({journal.kept.old: journal.record}), at_once=True
        )

    def close_undo(self, journal: UndoJournal, *, swapped: bool) -> None:
        """Forget an undo whose end is known, and note what is kept then."""

        def change(document: StateRecord) -> None:
            document.setdefault("undos", {}).pop(journal.kept.old, None)
            if swapped:
                kept = document.setdefault("kept", {})
                kept.pop(journal.kept.old, None)
                if journal.replaced is not None:
                    kept[journal.replaced.old] = journal.replaced.record

        self._change(change)

    def undos(self, container: str | None = None) -> list[UndoJournal]:
        """Undos in a container, or in any, whose end was not recorded."""
        entries = [UndoJournal.of(entry) for entry in self.read().get("undos", {}).values()]
        return [entry for entry in entries if container in (None, entry.kept.container)]

    def _change(self, change: Change) -> None:
        self._file.change(change)

    def _add_to_history(self, entries: list[Entry], zone: tzinfo | None) -> None:
        """Add to what happened; a disk that does not take it keeps nobody from work."""
        try:
            self.history.append(entries, zone)
        except UnwritableRecordError as error:
            self._not_in_history = error.message


def _settle(owed: dict[str, OwedRecord], kind: str, outcome: MaintenanceOutcome) -> None:
    """Strike out what a good prune has paid: what was owed of its repository before it began."""
    began = datetime.fromisoformat(outcome["time"]) - timedelta(seconds=outcome.get("seconds", 0.0))
    debt = owed.get(kind)
    if debt is None or debt["repository"] != outcome["repository"]:
        return
    if datetime.fromisoformat(debt["time"]) <= began + _ROUNDED:
        del owed[kind]
