# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that the socket proxy has refused and the agent never makes: somebody else does, or has taken over the agent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from scalr_backup.actions.health.finding import WARNING, Finding
from scalr_backup.core import refusals
from scalr_backup.core.records.host import RefusedRecord
from scalr_backup.core.units import counted

# So long an attempt stays among what is wrong: a week, in which somebody looks.
_SHOWN = timedelta(days=7)


def of_refusals(record: RefusedRecord | None, now: datetime) -> Iterator[Finding]:
    """Find attempts of the last days: a warning, since nothing of the backups is wrong yet."""
    last = record.get("last") if record else None
    if record is None or last is None or now - datetime.fromisoformat(last) > _SHOWN:
        return
    count = refusals.suspicious(record)
    message = (
        f"The socket proxy has refused calls that the agent never makes, {counted(count, 'time')} so far, and logged each "
        "of them. Find out who makes them; if nobody here does, treat the agent as compromised."
    )
    yield Finding("calls_refused", WARNING, "refused", message, "docker logs scalr-backup-socket-proxy", since=last)
