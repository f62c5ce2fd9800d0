# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings that are no longer found because nobody looks any more: that is no word of their end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from scalr_backup.actions.health.findings import is_current
from scalr_backup.actions.missing import REPORT_GONE
from scalr_backup.core.answers import JudgedDatabase
from scalr_backup.core.records.state import StateRecord


def lapsed(
    document: StateRecord, given_up: Collection[tuple[str, str]], databases: Sequence[JudgedDatabase], now: datetime
) -> frozenset[str]:
    """The keys of those that were noted.

    *given_up* are the databases that count as retired, by container and name, and *databases* those that are still judged.
    """
    judged = {database["container"] for database in databases}
    about = {f"{container}/{database}" for container, database in given_up}
    about |= {f"{container}/" for container, _database in given_up if container not in judged}

    def has_lapsed(topic: str, name: str) -> bool:
        if topic == "clock":
            return not is_current(document.get("clock"), now)
        if topic == "switch":
            return not document.get("heartbeat")
        if topic == "gone":
            return not _was_seen_lately(document, name, now)
        return name in about

    return frozenset(key for key in document.get("findings") or {} if has_lapsed(*_parts(key)))


def _parts(key: str) -> tuple[str, str]:
    topic, _colon, name = key.partition(":")
    return topic, name


def _was_seen_lately(document: StateRecord, name: str, now: datetime) -> bool:
    """Whether a database has a backup so young that it would be missed if it were gone."""
    entry = document.get("databases", {}).get(name)
    last = entry["last_success"] if entry else None
    return last is not None and datetime.fromisoformat(last) > now - REPORT_GONE
