# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that the socket proxy has refused although the agent never makes them: somebody else does, or has taken it over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from scalr_backup.actions.health.finding import WARNING, Finding
from scalr_backup.core import refusals
from scalr_backup.core.records.host import RefusedRecord

# So long an attempt stays among what is wrong: a week, in which somebody looks.
_SHOWN = timedelta(days=7)


def of_refusals(record: RefusedRecord | None, now: datetime) -> Iterator[Finding]:
    """Find attempts of the last days: a warning, since nothing of the backups is wrong yet."""
    last = record.get("last") if record else None
    if record is None or last is None or now - datetime.fromisoformat(last) > _SHOWN:
        return
    count = refusals.suspicious(record)
    message = (
        f"Somebody asked the socket proxy for what the agent never does, {count} time{'' if count == 1 else 's'} so far: it "
        "refused, and logged each call. Find out who; if nobody here did it, take the agent for compromised."
    )
    yield Finding("calls_refused", WARNING, "refused", message, "docker logs scalr-backup-socket-proxy", since=last)
