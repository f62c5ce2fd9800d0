# SPDX-License-Identifier: GPL-3.0-or-later
"""When passes are due: cron syntax in a time zone, daylight saving included (library cronsim)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

from scalr_backup.config import Config


def next_pass(config: Config, now: datetime) -> datetime:
    """The first scheduled moment after *now*, in UTC."""
    return next(moment for moment in _moments(config, now, reverse=False) if moment > now)


def previous_pass(config: Config, now: datetime) -> datetime:
    """The last scheduled moment before *now*, in UTC."""
    return next(moment for moment in _moments(config, now, reverse=True) if moment < now)


def missed(config: Config, now: datetime, last_started: datetime | None, first_started: datetime) -> bool:
    """Whether a pass was due, while nobody was there to begin it, since the last one or since the installation."""
    return previous_pass(config, now) > max(last_started or first_started, first_started)


def _moments(config: Config, now: datetime, *, reverse: bool) -> Iterator[datetime]:
    """The scheduled moments from about *now* on, in UTC.

    cronsim does not tell an hour from its repetition when clocks are set back, and may begin on the wrong side.
    """
    for moment in CronSim(config.schedule, now.astimezone(ZoneInfo(config.timezone)), reverse=reverse):
        yield moment.astimezone(UTC)
