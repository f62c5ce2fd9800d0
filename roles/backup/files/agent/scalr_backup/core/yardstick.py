# SPDX-License-Identifier: GPL-3.0-or-later
"""Which earlier backup the last one is measured against, to see whether a database has lost much of what it held.

With a pass a night, that is the one before. With passes every hour, the one before would say so for an hour only, and never of
what goes within several: so it is one from half a day to a day before.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from scalr_backup.core.records.databases import DatabaseRecord, FiguresRecord

# A good backup that is so far from the one before it is measured against that one.
_APART = timedelta(hours=12)
# So long one is the measure, where there are more: then the next one is, which is younger by half of it.
_STAYS = timedelta(hours=24)


def measure_anew(entry: DatabaseRecord, good: datetime) -> None:
    """Note in a record, as it was before a backup that was *good* at a moment, what that one is measured against."""
    if entry["last_success"] is None:
        return
    before: FiguresRecord = {
        "time": entry["last_success"], "bytes_read": entry.get("bytes_read"), "rows": entry.get("rows"),
    }  # fmt: skip
    measure, later = entry.get("previous"), entry.get("previous_later")
    if measure is None or "time" not in measure or _is_of_the_future(measure, good) or _age(before, good) >= _APART:
        measure, later = before, None
    else:
        if _age(measure, good) >= _STAYS:
            measure, later = later or before, None
        if later is None and _age(measure, good) >= _APART:
            later = before
    entry["previous"] = measure
    entry.pop("previous_later", None)
    if later is not None:
        entry["previous_later"] = later


def _is_of_the_future(figures: FiguresRecord, now: datetime) -> bool:
    """Whether the clock was set back since: such figures would stay the measure until it gets there again."""
    return _age(figures, now) < timedelta()


def _age(figures: FiguresRecord, now: datetime) -> timedelta:
    return now - datetime.fromisoformat(figures["time"])
