# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshots may go.

restic's own policy engine decides, path by path and reason by reason; this file makes sure that it never
decides too much (law: retention never takes the last good snapshot), and ``run.py`` does it:

* Nightly snapshots are judged among themselves. A snapshot that a restore took of a damaged database an hour
  after the good nightly one would otherwise be its day's newest, and the good one would go.
* A path is left alone when its database was not dumped well in this pass.
* A path is left alone while it holds a snapshot whose time cannot be true (``suspects.py``).
* Whatever the counts say, everything within ``keep_within`` of a path's newest snapshot stays: flooding a
  day with forged snapshots does not push the good ones out before somebody has had time to notice.
* restic counts that time back from the newest snapshot, which a clock that is years ahead may have dated. So it is counted back
  from before a long gap in the dates, too, until some days with snapshots have followed.
* A snapshot that holds nothing is not a backup, pinned or not, and goes before anything is counted.
* The newest snapshot of a path that holds a regular dump stays, whatever the policy says.
* Pinned snapshots stay if they hold something.
* A manifest stays as long as a dump of its run does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from scalr_backup.core.answers import DecisionAnswer
from scalr_backup.core.config import Config, duration_hours
from scalr_backup.core.model import MANIFEST_PATH, MANUAL, NIGHTLY, PINNED_TAG, PRE_RESTORE, Snapshot
from scalr_backup.core.records.maintenance import KeptCount
from scalr_backup.tools.restic.repository import Restic, RetentionGroup

# Safety snapshots cover the days after a restore in which its old data may be missed.
_KEEP_EVERY_PRE_RESTORE = "30d"
# After a manual backup, damage and another backup, the first one must still exist when the damage shows.
_KEEP_EVERY_MANUAL = "7d"
# Longer than a weekly schedule leaves: such a gap may be a leap of the clock while it lies between the last days with snapshots.
_LONG_GAP = timedelta(days=8)
_DAYS_LOOKED_AT = 9

# Why a snapshot stays that no rule keeps.
BEFORE_GAP = "within the time before a long gap"
PINNED_FOR_EVER = "pinned"
NEWEST_GOOD = "newest good backup"
NOT_BELIEVED = "its database has a snapshot with an impossible time"
NOT_JUDGED = "its database was not saved in this pass"
NO_RULE = "no rule applies to it"
# Why one goes.
IS_EMPTY = "holds nothing"
NOT_KEPT = "no rule keeps it"
# The same in a word or two, for a count of what stays, in the order in which one of several reasons is the one that counts.
_IN_SHORT = (PINNED_FOR_EVER, "within", "last", "hourly", "daily", "weekly", "monthly", "yearly", "newest")


# What restic's policy says of the snapshots of a reason, path by path.
Plans = Mapping[str, Sequence[RetentionGroup]]


@dataclass(frozen=True)
class Decision:
    """Whether a dump stays and why: restic's own words for the rules that keep it, or the law that does."""

    snapshot: Snapshot
    keep: bool
    why: tuple[str, ...]

    @property
    def in_short(self) -> str:
        """The one reason that counts, in a word, such as daily."""
        words = {reason.partition(" ")[0] for reason in self.why}
        return next((word for word in _IN_SHORT if word in words), "other")

    def as_dict(self) -> DecisionAnswer:
        """The decision as the JSON contract shows it."""
        one = self.snapshot
        return {
            "id": one.id,
            "short_id": one.short_id,
            "time": one.time.isoformat(),
            "container": one.container,
            "database": one.database,
            "reason": one.reason,
            "keep": self.keep,
            "why": list(self.why),
        }


def policies(rules: Mapping[str, int], within: str = "") -> dict[str, dict[str, int | str]]:
    """What ``restic forget`` keeps of the snapshots of each reason, by its names for the rules."""
    return {
        NIGHTLY: {**rules, **({"within": within} if within else {})},
        MANUAL: {**rules, "within": _longest(_KEEP_EVERY_MANUAL, within)},
        PRE_RESTORE: {"within": _longest(_KEEP_EVERY_PRE_RESTORE, within)},
    }


def choose_removable(groups: Sequence[RetentionGroup], sound: Sequence[Snapshot]) -> list[str]:
    """The ids that the policy would remove and the laws allow to remove, all among the *sound* snapshots."""
    newest = newest_by_path(sound)
    known = {snapshot.id for snapshot in sound}
    removable = []
    for group in groups:
        if group.path == MANIFEST_PATH:
            continue
        removable += [
            snapshot.id
            for snapshot in group.remove
            if snapshot.id in known and not snapshot.pinned and newest.get(group.path) != snapshot.id
        ]
    return removable


def newest_by_path(snapshots: Sequence[Snapshot]) -> dict[str, str]:
    """The id of the newest regular dump of each path; of any dump where there is no regular one. What holds nothing is none."""
    by_time = sorted((one for one in snapshots if not one.empty), key=lambda snapshot: snapshot.time)
    newest = {snapshot.path: snapshot.id for snapshot in by_time}
    newest.update({snapshot.path: snapshot.id for snapshot in by_time if snapshot.reason != PRE_RESTORE})
    return newest


def orphaned_manifests(snapshots: Sequence[Snapshot], removed: Collection[str]) -> list[str]:
    """The ids of manifests whose run has no dump left once *removed* is gone."""
    gone = set(removed)
    runs = {snapshot.run for snapshot in snapshots if snapshot.container and snapshot.id not in gone}
    return [
        snapshot.id
        for snapshot in snapshots
        if snapshot.path == MANIFEST_PATH and not snapshot.pinned and snapshot.run not in runs
    ]


def explain(
    snapshots: Sequence[Snapshot],
    groups: Sequence[RetentionGroup],
    judged: Sequence[Snapshot],
    unbelieved: Collection[str],
    removed: Collection[str],
) -> tuple[Decision, ...]:
    """Why each dump stays or goes; *unbelieved* are paths. By database, the newest first."""
    reasons = {name: words for group in groups for name, words in group.reasons.items()}
    known = {one.id for one in judged}
    newest = set(newest_by_path(judged).values())

    def why(one: Snapshot) -> tuple[str, ...]:
        if one.id in removed:
            return (IS_EMPTY if one.empty else NOT_KEPT,)
        if one.path in unbelieved:
            return (NOT_BELIEVED,)
        words = tuple(word for word in reasons.get(one.id, ()) if not word.startswith("has tags"))
        laws = (
            *((PINNED_FOR_EVER,) if one.pinned and not one.empty else ()),
            *((NEWEST_GOOD,) if one.id in newest else ()),
        )
        return (*laws, *words) or ((NO_RULE,) if one.id in known else (NOT_JUDGED,))

    dumps = sorted((one for one in snapshots if one.container), key=lambda one: one.time, reverse=True)
    return tuple(Decision(one, one.id not in removed, why(one)) for one in sorted(dumps, key=lambda one: one.path))


def count_kept(decisions: Sequence[Decision]) -> dict[str, KeptCount]:
    """How many dumps stay of each database, as ``container/database``, and how many of them for which reason."""
    counts: dict[str, Counter[str]] = {}
    for one in decisions:
        if one.keep and not one.snapshot.empty:
            counts.setdefault(f"{one.snapshot.container}/{one.snapshot.database}", Counter())[one.in_short] += 1
    return {name: {"snapshots": count.total(), "why": dict(count.most_common())} for name, count in counts.items()}


def ask_policy(config: Config, restic: Restic, reason: str) -> Plans:
    """What restic's policy says of the snapshots that have a reason; nothing where it has none for that. Raises ResticError."""
    keep = policies(config.keep.rules, config.keep_within).get(reason)
    return {} if keep is None else {reason: restic.forget_plan(reason, keep, PINNED_TAG)}


def ask_missing(config: Config, restic: Restic, sound: Sequence[Snapshot], asked: Plans) -> list[RetentionGroup]:
    """What the policy says of the reasons that sound snapshots have; of those that it was *asked* for, what it said.

    What it would remove although it was within the time before a long gap, it keeps.
    """
    reasons, gaps = {snapshot.reason for snapshot in sound}, _long_gaps(sound)
    return [
        _spare(group, timedelta(hours=duration_hours(str(keep.get("within", "")))), gaps)
        for reason, keep in policies(config.keep.rules, config.keep_within).items()
        if reason in reasons
        for group in (asked if reason in asked else ask_policy(config, restic, reason))[reason]
    ]


def _long_gaps(snapshots: Iterable[Snapshot]) -> list[datetime]:
    """The last moments before the long gaps between the last days with snapshots."""
    moments = sorted(snapshot.time for snapshot in snapshots)
    last_of_days = list({moment.astimezone(UTC).date(): moment for moment in moments}.values())[-_DAYS_LOOKED_AT:]
    return [before for before, after in pairwise(last_of_days) if after - before > _LONG_GAP]


def _spare(group: RetentionGroup, within: timedelta, gaps: Sequence[datetime]) -> RetentionGroup:
    """The same, but what was within the time of the newest one before a gap stays."""
    times = [one.time for one in (*group.keep, *group.remove)]
    newest = [max((time for time in times if time <= gap), default=gap) for gap in gaps]
    spared = {one.id: one for one in group.remove if any(last - within < one.time <= last for last in newest)}
    return replace(
        group,
        keep=(*group.keep, *spared.values()),
        remove=tuple(one for one in group.remove if one.id not in spared),
        reasons={**group.reasons, **dict.fromkeys(spared, (BEFORE_GAP,))},
    )


def _longest(*durations: str) -> str:
    return max(durations, key=duration_hours)
