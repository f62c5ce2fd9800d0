# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clock on the wall says, where daylight saving repeats an hour or leaves one out."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo


def shown(moment: datetime, timezone: str) -> str:
    """A moment on that clock, with the offset where the clock alone would leave open which one is meant."""
    local = moment.astimezone(ZoneInfo(timezone))
    return f"{local:%Y-%m-%d %H:%M:%S}{offset(local) if is_repeated(local) else ''}"


def is_repeated(local: datetime) -> bool:
    """Whether the clock shows this time twice; not of a time with an offset of its own."""
    return _offsets(local)[0] > _offsets(local)[1]


def is_left_out(local: datetime) -> bool:
    """Whether the clock never shows this time."""
    return _offsets(local)[0] < _offsets(local)[1]


def offset(local: datetime) -> str:
    """Its distance from UTC, such as ``+02:00``."""
    return local.isoformat()[-6:]


def choice(text: str, timezone: str) -> str | None:
    """Which moment is meant by a time that a clock shows twice or never, as a sentence; None for any other."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    # A day begins at a time that nobody has given.
    if moment.tzinfo is not None or len(text) <= len("2026-10-25"):
        return None
    earlier = moment.replace(tzinfo=ZoneInfo(timezone), fold=0)
    if is_repeated(earlier):
        later = earlier.replace(fold=1)
        return (
            f"{text} happened twice in {timezone}, because the clocks went back: the earlier one was used, "
            f"{earlier.astimezone(UTC):%H:%M} UTC. For the later one, give {text}{offset(later)}."
        )
    if is_left_out(earlier):
        # There and back again, it is a time that the clock shows.
        real = earlier.astimezone(UTC).astimezone(earlier.tzinfo)
        return f"{text} never happened in {timezone}, because the clocks went forward: it was read as {real:%H:%M}."
    return None


def _offsets(local: datetime) -> tuple[float, float]:
    first, second = (local.replace(fold=fold).utcoffset() for fold in (0, 1))
    return (first.total_seconds() if first else 0.0), (second.total_seconds() if second else 0.0)
