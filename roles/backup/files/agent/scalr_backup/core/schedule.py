# SPDX-License-Identifier: GPL-3.0-or-later
"""When passes and maintenance are due: cron syntax in a time zone, daylight saving included (library cronsim).

Hosts that share a schedule do not all begin in the same second: each begins somewhat later, always by as much.

How old a good backup may be follows from the schedule, too: it is overdue when the pass that should have replaced it has
had its time, and some grace. That makes 26 hours for a nightly schedule and an hour and a half for an hourly one, and
leaves long gaps that are meant, such as nights and weekends, alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import groupby, islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from scalr_backup.core.clock import is_in_the_future
from scalr_backup.core.config import Config
from scalr_backup.core.records.schedule import ScheduleRecord

# What is judged by before anything else is known: the schedule that a host has when nobody chose one.
NIGHTLY_SCHEDULE: str = Config.model_fields["schedule"].default

# How late a pass may be before it is missed: half of the time until the next one, within these bounds.
_LEAST_GRACE, _MOST_GRACE = timedelta(minutes=10), timedelta(hours=2)
# For longer than this nobody waits for a pass only because the last one has taken so long.
_LONGEST_PASS = timedelta(hours=6)
# So many moments are counted one by one: what is more, is many.
MANY = 100
# More are not counted, so that nobody waits for a schedule of minutes.
_MOST_MOMENTS = 10_000

# A change of the clock is felt no longer than that.
_NEAR = timedelta(hours=3)


def next_pass(config: Config, now: datetime) -> datetime:
    """The first moment after *now* at which this host is to begin a pass, in UTC."""
    return next_moment(config, config.schedule, now)


def previous_pass(config: Config, now: datetime) -> datetime:
    """The last moment before *now* at which this host was to begin a pass, in UTC."""
    return previous_moment(config, config.schedule, now)


def missed(config: Config, now: datetime, last_started: datetime | None, first_started: datetime) -> bool:
    """Whether a pass came due, unserved, since the last one or since the installation."""
    return missed_moment(config, config.schedule, now, last_started, first_started)


@dataclass(frozen=True)
class Change:
    """The schedule became what it is at *since*; *before* is the one that it was, as a cron expression."""

    since: datetime
    before: str


def change_of(config: Config, record: ScheduleRecord | None, now: datetime) -> Change | None:
    """The last change of the schedule, by what is on record of it; None where nothing is known of one.

    One that is not on record yet happens now.
    """
    if record is None:
        return None
    if record["cron"] != config.schedule:
        return Change(now, record["cron"])
    return Change(datetime.fromisoformat(record["since"]), record["before"])


def overdue_at(
    config: Config, good: datetime, *, lasts: timedelta = timedelta(), change: Change | None = None
) -> datetime:
    """When a backup that was *good* at a moment is too old, unless another one comes; in UTC.

    *lasts* is how long a pass takes: so long after it is due the next good backup cannot be there. What was made before
    the schedule changed, and was not overdue then, waits for what the new one promises; else whoever
    changes a schedule from nights to hours would be told at once that everything is hours too old.
    """
    if change is None or good >= change.since:
        return _overdue_by(config, config.schedule, good, lasts)
    by_then = max(_overdue_by(config, cron, good, lasts) for cron in (change.before, config.schedule))
    return by_then if by_then <= change.since else _overdue_by(config, config.schedule, change.since, lasts)


def _overdue_by(config: Config, cron: str, good: datetime, lasts: timedelta) -> datetime:
    """The first of the moments by which one of the passes to come should have replaced it.

    A pass has its time from when it is due, and a good backup the interval from when it was made: a pass always takes
    about as long, so both come to the same, and one that was made by hand in between counts as long as any other.
    """
    lasts = min(lasts, _LONGEST_PASS)
    moments = _following(config, cron, good)
    before, due = previous_moment(config, cron, good + timedelta(microseconds=1)), next(moments)
    found: datetime | None = None
    for after in moments:
        interval = due - before
        candidate = max(due + lasts, good + interval) + grace(min(interval, after - due))
        found = candidate if found is None else min(found, candidate)
        if after >= found:
            break
        before, due = due, after
    # A schedule that ends, as the calendar's own limit does, leaves the last one due.
    return found or due + lasts + _MOST_GRACE


def grace(interval: timedelta) -> timedelta:
    """How late a pass may be whose neighbours are so far away."""
    return min(max(interval / 2, _LEAST_GRACE), _MOST_GRACE)


def interval_at(config: Config, now: datetime) -> timedelta:
    """How long it is from the last pass that was due to the next one."""
    return next_pass(config, now) - previous_pass(config, now)


def due_between(config: Config, cron: str, start: datetime, end: datetime) -> int:
    """How many of a cron expression's moments lie after *start* and before *end*; ``MANY`` of more than so many."""
    return sum(1 for _moment in islice(takewhile(lambda moment: moment < end, _following(config, cron, start)), MANY))


def due_days(config: Config, start: datetime, now: datetime) -> dict[str, int]:
    """How many passes were due on each date of the host's time zone since *start*; of a date without any there is nothing.

    A pass that has been due for less than its grace may still come, and does not count; its date is there. The date of
    *start* is left out, as part of it is, and so is what lies behind ``_MOST_MOMENTS`` moments.
    """
    zone = ZoneInfo(config.timezone)
    moments = list(
        islice(takewhile(lambda moment: moment > start, _preceding(config, config.schedule, now)), _MOST_MOMENTS)
    )
    counts: Counter[str] = Counter()
    settled = _settled(config, now)
    for moment in moments:
        counts[moment.astimezone(zone).date().isoformat()] += int(moment < settled)
    counts.pop(start.astimezone(zone).date().isoformat(), None)
    if len(moments) == _MOST_MOMENTS:
        counts.pop(moments[-1].astimezone(zone).date().isoformat(), None)
    return dict(sorted(counts.items()))


def due_lately(config: Config, start: datetime, now: datetime) -> list[datetime]:
    """When passes were due since *start* that have had their grace, in UTC: the last ``MANY``, the earliest first."""
    return passes_between(config, start, _settled(config, now))[-MANY:]


def passes_between(config: Config, start: datetime, end: datetime) -> list[datetime]:
    """When passes are due from *start* on and before *end*, in UTC: the last ``_MOST_MOMENTS``, the earliest first."""
    moments = takewhile(lambda moment: moment >= start, _preceding(config, config.schedule, end))
    return list(islice(moments, _MOST_MOMENTS))[::-1]


def _settled(config: Config, now: datetime) -> datetime:
    """What was due before that either came or did not."""
    return now - grace(interval_at(config, now))


def _preceding(config: Config, cron: str, now: datetime) -> Iterator[datetime]:
    """All moments before *now*, the last one first."""
    late = lateness(config)
    return (late + moment for moment in _moments(config, cron, now - late, reverse=True) if moment < now - late)


def _following(config: Config, cron: str, now: datetime) -> Iterator[datetime]:
    """All moments after *now*, this host's lateness added; in UTC."""
    late = lateness(config)
    return (late + moment for moment in _moments(config, cron, now - late, reverse=False) if moment > now - late)


def next_moment(config: Config, cron: str, now: datetime) -> datetime:
    """The first moment after *now* of a cron expression in the host's time zone, this host's lateness added; in UTC."""
    return next(_following(config, cron, now))


def previous_moment(config: Config, cron: str, now: datetime) -> datetime:
    """The last one before *now*."""
    return next(_preceding(config, cron, now))


def missed_moment(config: Config, cron: str, now: datetime, last_run: datetime | None, first_started: datetime) -> bool:
    """Whether one has gone by since the last run, or since the installation; a run in the future is none."""
    if last_run is None or is_in_the_future(last_run, now):
        last_run = first_started
    return previous_moment(config, cron, now) > max(last_run, first_started)


def lateness(config: Config) -> timedelta:
    """How long after the scheduled moment this host begins: less than the spread, whole seconds, from its name alone."""
    spread_seconds = config.spread_minutes * 60
    if spread_seconds == 0:
        return timedelta()
    digest = hashlib.sha256(config.host.encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:8], "big") % spread_seconds)


def _moments(config: Config, cron: str, now: datetime, *, reverse: bool) -> Iterator[datetime]:
    """The scheduled moments from about *now* on, in UTC.

    cronsim only counts on a clock that nobody changes, as it takes a change of half an hour for one of an hour, and finds
    other moments when it goes back than when it goes on. What the changes mean is Debian's rule: what happens every so often
    happens in both of two hours that the clock shows alike, and not in one that it leaves out; what happens at a time of the
    day happens once, and where the clock leaves that out, as soon as it goes on.
    """
    zone = ZoneInfo(config.timezone)
    before, shows, after = (
        (now + distance).astimezone(zone).replace(tzinfo=None) - distance for distance in (-_NEAR, timedelta(), _NEAR)
    )
    # Near a change, what lies behind now may be later on the clock, and what is to come earlier.
    start = max(before, shows) if reverse else min(shows, after)
    every_so_often = any(field.startswith("*") for field in cron.split()[:2])
    streams = (
        _shown(CronSim(cron, start, reverse=reverse), zone, fold, catch_up=not every_so_often)
        for fold in range(2 if every_so_often else 1)
    )
    return (moment for moment, _same in groupby(merge(*streams, reverse=reverse)))


def _shown(clock: Iterable[datetime], zone: ZoneInfo, fold: int, *, catch_up: bool) -> Iterator[datetime]:
    """When a clock on the wall shows what another one says that nobody changes: by *fold* the first time or the second.

    Where it leaves that out, it is when it goes on with *catch_up*, else never.
    """
    for said in clock:
        moment = _moment(said, zone, fold, catch_up=catch_up)
        if moment is not None:
            yield moment


def _moment(said: datetime, zone: ZoneInfo, fold: int, *, catch_up: bool) -> datetime | None:
    while True:
        moment = said.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) == said:
            return moment
        if not catch_up:
            return None
        said += timedelta(minutes=1)
