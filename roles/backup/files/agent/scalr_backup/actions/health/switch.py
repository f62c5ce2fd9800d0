# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the dead man's switch hears from this host: what is on record of the calls to it, and when they count as failed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from scalr_backup.actions.health.finding import WARNING, Finding, verb
from scalr_backup.core.records.host import HeartbeatRecord
from scalr_backup.tools.state import State

TEST = verb("notify --test")
HEARTBEAT_FAILED = "heartbeat_failed"

# As many calls as a pass makes: one alone may meet a server that is just being restarted.
_IN_A_ROW = 2


def note(state: State, error: str | None, now: datetime) -> None:
    """Put on record how a call ended."""
    before: HeartbeatRecord = state.read().get("heartbeat") or {}
    if error is None:
        state.put(heartbeat={"failed": 0})
    else:
        failed, since = before.get("failed", 0) + 1, before.get("since", now.isoformat())
        state.put(heartbeat={"failed": failed, "since": since, "error": error})


def forget(state: State) -> None:
    """There is no switch, or none any more: what was on record of it counts for nothing."""
    if state.read().get("heartbeat"):
        state.put(heartbeat={})


def deafness(record: HeartbeatRecord | None) -> str:
    """What is wrong, as a sentence; empty where nothing is."""
    failed = record.get("failed", 0) if record else 0
    if not record or failed < _IN_A_ROW:
        return ""
    why = record.get("error", "of an unknown error.")
    return f"The dead man's switch does not hear from this host: {failed} calls in a row failed, the last one because {why}"


def of_switch(record: HeartbeatRecord | None) -> Iterator[Finding]:
    """Find out whether the silence that it pages for would be the network's."""
    if message := deafness(record):
        since = record.get("since") if record else None
        yield Finding(HEARTBEAT_FAILED, WARNING, "switch", message, TEST, since=since)
