# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent does by itself: each job is a verb, has a schedule in the configuration, and leaves a trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from scalr_backup.core import schedule
from scalr_backup.core.config import Config
from scalr_backup.core.model import NIGHTLY
from scalr_backup.core.records.state import StateRecord

# How long after a job that came to no end, such as a check that gave way to a restore, it is tried again.
TRY_AGAIN_AFTER = timedelta(minutes=15)
# How often a pass is begun in one night that comes to no end.
_MOST_TRIES = 3


@dataclass(frozen=True)
class Job:
    """One of them: its *name* in the log, and the verb and options that do it.

    *schedule* reads its cron expression from the configuration; where that is empty it never runs by itself.
    *last_run* reads from the recorded state when it last ran. One that is *retried* and left no trace of having come to
    an end is tried again soon, not only when it is due the next time.
    """

    name: str
    arguments: tuple[str, ...]
    schedule: Callable[[Config], str]
    last_run: Callable[[StateRecord], str | None]
    retried: bool = False

    def next(self, config: Config, now: datetime) -> datetime | None:
        """When it is due next, in UTC; None where it never is."""
        cron = self.schedule(config)
        return schedule.next_moment(config, cron, now) if cron else None

    def due_between(self, config: Config, start: datetime, end: datetime) -> int:
        """How often it is due after *start* and before *end*, up to ``schedule.MANY``."""
        cron = self.schedule(config)
        return schedule.due_between(config, cron, start, end) if cron else 0

    def missed(self, config: Config, state: StateRecord, first_started: datetime, now: datetime) -> bool:
        """Whether it came due, unserved, since it last ran or since the installation."""
        cron, last = self.schedule(config), self.last_run(state)
        if not cron:
            return False
        last_run = datetime.fromisoformat(last) if last else None
        return schedule.missed_moment(config, cron, now, last_run, first_started)


def _last_maintenance(kind: str) -> Callable[[StateRecord], str | None]:
    def read(state: StateRecord) -> str | None:
        entry = state.get("maintenance", {}).get(kind)
        return entry["time"] if entry else None

    return read


def _last_pass(state: StateRecord) -> str | None:
    """When the last one began that came to an end, be it a bad one.

    One that did not, because the host went down, the agent was restarted or another run held the lock, is made up for; but
    one that has begun not for ever, as it may be the pass itself that takes the agent down.
    """
    unfinished = 0 < state.get("nightly_unfinished", 0) < _MOST_TRIES
    return state.get("nightly_before") if unfinished else state.get("nightly_started")


PASS = Job("pass", ("backup", "--reason", NIGHTLY), lambda config: config.schedule, _last_pass, retried=True)
PRUNE = Job(
    "prune", ("prune", "--scheduled"), lambda config: config.prune_schedule, _last_maintenance("prune"), retried=True
)
CHECK = Job(
    "check", ("check", "--scheduled"), lambda config: config.check_schedule, _last_maintenance("check"), retried=True
)
# In the order in which they run when several are due.
JOBS = (PASS, PRUNE, CHECK)
