# SPDX-License-Identifier: GPL-3.0-or-later
"""The current time, read in one place: UTC, with its time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

# Clocks may differ by so much before a time that is still to come counts as impossible.
_SKEW = timedelta(hours=1)


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


def is_in_the_future(moment: datetime, now: datetime) -> bool:
    """Whether a recorded time cannot be true: a clock was ahead when it was recorded, or is behind now."""
    return moment > now + _SKEW


def has_elapsed(period: timedelta, since: datetime, now: datetime) -> bool:
    """Whether so much time has gone by; also where the clock was set back by as much, since nobody knows how long it was."""
    return abs(now - since) >= period
