# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded about an index that a pass found damaged: a pure rule."""

from __future__ import annotations

from scalr_backup.core.model import DatabaseBackup
from scalr_backup.core.records.databases import DatabaseRecord


def note_damage(entry: DatabaseRecord, outcome: DatabaseBackup, finished: str) -> None:
    """Note an index that was found damaged, once; forget it when its table was read by an index, or is no large one any more."""
    known = entry.get("damaged_index")
    if found := outcome.damaged_index:
        is_known = known is not None and known["index"] == found["index"]
        entry["damaged_index"] = {**found, "time": known["time"] if known and is_known else finished}
    elif known and outcome.row_order and outcome.row_order["why_not"] is None:
        # Whoever keeps the table in heap order, or sorts it, has not looked at its index.
        unseen = {table["relation"] for table in outcome.row_order["heap"]}
        unseen |= {table["relation"] for table in outcome.row_order["ordered"] if table["scan"] == "sort"}
        if known["relation"] not in unseen:
            del entry["damaged_index"]


def doubted_relations(entry: DatabaseRecord | None) -> frozenset[str]:
    """The tables of which an index was found damaged, by their names among row counts, until one has been read by it again."""
    known = entry.get("damaged_index") if entry else None
    return frozenset({known["relation"]}) if known else frozenset()
