# SPDX-License-Identifier: GPL-3.0-or-later
"""What the socket proxy has refused, as the agent remembers it: counts that outlive the proxy's own.

The proxy counts from zero each time that it starts, and says which start it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from scalr_backup.core.records.host import RefusedRecord

# What is counted: a call that the agent never makes; a command in a container that is not its; a look into one; an exec that
# is not as the agent's, or not its own; and what could not be judged.
KINDS = ("call", "container", "look", "exec", "unjudged")
# The agent itself looks where it may not when an operator names such a container for a restore.
_INNOCENT = {"look"}


def merged(before: RefusedRecord | None, told: Mapping[str, Any], now: datetime) -> RefusedRecord:
    """What is on record after the proxy has told its counts; *before* is what was there."""
    begun, refused = str(told.get("begun")), told.get("refused")
    counts = (
        {kind: _count(refused.get(kind)) for kind in KINDS} if isinstance(refused, dict) else dict.fromkeys(KINDS, 0)
    )
    known = before["counted"] if before and before["begun"] == begun else {}
    if any(counts[kind] < known.get(kind, 0) for kind in KINDS):
        known = {}  # No count falls: whatever it calls itself, it began anew.
    new = {kind: counts[kind] - known.get(kind, 0) for kind in KINDS}
    total = {kind: (before["total"].get(kind, 0) if before else 0) + new[kind] for kind in KINDS}
    record: RefusedRecord = {"begun": begun, "counted": counts, "total": total}
    if any(new[kind] for kind in KINDS if kind not in _INNOCENT):
        record["last"] = now.isoformat()
    elif before and "last" in before:
        record["last"] = before["last"]
    return record


def suspicious(record: RefusedRecord) -> int:
    """How many calls somebody made that the agent never makes."""
    return sum(count for kind, count in record["total"].items() if kind not in _INNOCENT)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
