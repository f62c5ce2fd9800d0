# SPDX-License-Identifier: GPL-3.0-or-later
"""When passes and maintenance are due: cron syntax in a time zone, daylight saving included (library cronsim).

Hosts that share a schedule do not all begin in the same second: each begins somewhat later, always by as much.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from scalr_backup.core.config import Config


def next_pass(config: Config, now: datetime) -> datetime:
    """The first moment after *now* at which this host is to begin a pass, in UTC."""
    return next_moment(config, config.schedule, now)


def previous_pass(config: Config, now: datetime) -> datetime:
    """The last moment before *now* at which this host was to begin a pass, in UTC."""
    return previous_moment(config, config.schedule, now)


def missed(config: Config, now: datetime, last_started: datetime | None, first_started: datetime) -> bool:
    """Whether a pass came due, unserved, since the last one or since the installation."""
    return missed_moment(config, config.schedule, now, last_started, first_started)


def next_moment(config: Config, cron: str, now: datetime) -> datetime:
    """The first moment after *now* of a cron expression in the host's time zone, this host's lateness added; in UTC."""
    late = lateness(config)
    return late + next(moment for moment in _moments(config, cron, now - late, reverse=False) if moment > now - late)


def previous_moment(config: Config, cron: str, now: datetime) -> datetime:
    """The last one before *now*."""
    late = lateness(config)
    return late + next(moment for moment in _moments(config, cron, now - late, reverse=True) if moment < now - late)


def missed_moment(config: Config, cron: str, now: datetime, last_run: datetime | None, first_started: datetime) -> bool:
    """Whether one has gone by since the last run, or since the installation."""
    return previous_moment(config, cron, now) > max(last_run or first_started, first_started)


def lateness(config: Config) -> timedelta:
    """How long after the scheduled moment this host begins: less than the spread, whole seconds, from its name alone."""
    spread_seconds = config.spread_minutes * 60
    if spread_seconds == 0:
        return timedelta()
    digest = hashlib.sha256(config.host.encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:8], "big") % spread_seconds)


def _moments(config: Config, cron: str, now: datetime, *, reverse: bool) -> Iterator[datetime]:
    """The scheduled moments from about *now* on, in UTC.

    cronsim does not tell an hour from its repetition when clocks are set back, and may begin on the wrong side.
    """
    for moment in CronSim(cron, now.astimezone(ZoneInfo(config.timezone)), reverse=reverse):
        yield moment.astimezone(UTC)
