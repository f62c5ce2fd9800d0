# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what a schedule makes is what the rules of retention keep: passes every hour are of little use if each removes the last.

restic decides what goes; this only counts, before anything is made, what it would leave of one day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from scalr_backup.core.config import Config, Keep, duration_hours
from scalr_backup.core.schedule import passes_between

_DAY = timedelta(days=1)
# With fewer hours of a day that have a pass, nobody means to go back by hours.
_FEWEST_HOURS = 3


def notes_on_keeping(config: Config, now: datetime) -> list[str]:
    """What an operator has to know of rules that throw most of a day's snapshots away; a sentence for each repository."""
    made = passes_between(config, now - _DAY, now)
    rules = [("backup_keep", config.keep)]
    if config.copy_to is not None:
        rules.append(("backup_copy_keep", config.copy_to.keep))
    return [note for name, keep in rules for note in _note(config, name, keep, made)]


def _note(config: Config, name: str, keep: Keep, made: Sequence[datetime]) -> list[str]:
    stay = kept_of(made, keep, config.keep_within)
    hours, hours_kept = {_hour(moment) for moment in made}, {_hour(moment) for moment in stay}
    if len(hours) < _FEWEST_HOURS or 2 * len(hours_kept) >= len(hours):
        return []
    return [
        f"The schedule {config.schedule} makes {len(made)} snapshots of each database a day, of which {name} keeps {len(stay)}: "
        "later passes remove the others. To be able to go back to an hour, not only to a day, add hourly to it, such as "
        "hourly: 48, or set backup_keep_within, such as 2d."
    ]


def kept_of(made: Sequence[datetime], keep: Keep, within: str) -> set[datetime]:
    """Which of a day's snapshots the rules leave when the last of them was made; *made* is in order, the earliest first."""
    if not made:
        return set()
    last = made[-1]
    of_hours = list({_hour(moment): moment for moment in made}.values())
    # The rules of days, weeks, months and years keep the same one of a single day: its last.
    stay = {last} | set(made[len(made) - min(keep.last, len(made)) :])
    stay |= set(of_hours[len(of_hours) - min(keep.hourly, len(of_hours)) :])
    return stay | {moment for moment in made if last - moment <= timedelta(hours=duration_hours(within))}


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
