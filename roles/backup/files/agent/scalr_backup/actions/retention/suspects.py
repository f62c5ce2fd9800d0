# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshots are not trusted, because their times are impossible.

Whoever takes over a host has its access to the repository. On an append-only host, that is adding snapshots only, but
with any date. Counted among the others, snapshots from the future would be the newest for ever and fill every count,
and snapshots from the past would be the last ones of their days, in place of the good ones.

* From the future is what is dated after the clock here, apart from a small tolerance.
* Too late is what a trusted place sees for the first time although it is older than its last look. Only a place with
  its own memory can tell, since everything in the repository can be forged.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scalr_backup.core.model import PRE_RESTORE, Snapshot

# A dump bears the time when it began, and is in the repository when it has ended.
_LONGEST_DUMP = timedelta(hours=24)
# How many snapshots a sentence names.
_NAMED = 3


@dataclass(frozen=True)
class SnapshotsLook:
    """What a trusted place saw when it last looked at a host's snapshots: its time, and the ids of all it believed.

    *going* are those that it has set out to remove since, which are not missed whether they are gone or not. Up to release
    0.5.0 nobody wrote that down (*is_certain* is false then): what is gone may have been removed here by a run that failed.
    """

    time: datetime
    ids: frozenset[str]
    going: frozenset[str] = frozenset()
    is_certain: bool = True

    def missing(self, snapshots: Sequence[Snapshot]) -> frozenset[str]:
        """The ids of what was there then, and is not any more, although nobody here set out to remove it."""
        return self.ids - self.going - {snapshot.id for snapshot in snapshots}

    def joined_with(self, other: SnapshotsLook) -> SnapshotsLook:
        """Both as one, the later of them, which saw whatever either saw."""
        return SnapshotsLook(
            max(self.time, other.time),
            self.ids | other.ids,
            self.going | other.going,
            self.is_certain and other.is_certain,
        )


@dataclass(frozen=True)
class Suspects:
    """The snapshots of a host that are not believed."""

    from_the_future: tuple[Snapshot, ...] = ()
    too_late: tuple[Snapshot, ...] = ()

    @property
    def all(self) -> tuple[Snapshot, ...]:
        """Every one of them."""
        return self.from_the_future + self.too_late

    @property
    def paths(self) -> set[str]:
        """Where nothing can be judged as long as they are there."""
        return {snapshot.path for snapshot in self.all}

    def sentence(self, host: str) -> str:
        """What the operator should know of them."""
        kinds = (
            (self.from_the_future, "dated in the future"),
            (self.too_late, "older than the last look here, but were not there then"),
        )
        found = "; ".join(f"{len(ones)} {_are(ones)} {how}: {_named(ones)}" for ones, how in kinds if ones)
        paths = sorted(self.paths)
        more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
        return (
            f"Snapshots of {host} cannot be trusted, and nothing was removed of {', '.join(paths[:_NAMED])}{more}: "
            f"{found}. Either a clock was wrong, or they are forged, which means that the host is compromised: check "
            f"both before you remove them. {self._way_on()}"
        )

    def _way_on(self) -> str:
        """How retention goes on once the clock is right, or the host is ours again."""
        if not self.from_the_future:
            return "prune.yml removes them with -e remove=ID, or accepts them with -e accept_late=true."
        last = max(one.time for one in self.from_the_future)
        return (
            "On the host, scalr-backup forget --remove-future removes those dated in the future; from a trusted "
            f"place, prune.yml does with -e remove=ID. If left alone, they count again from {last:%Y-%m-%d %H:%M} UTC "
            "on."
        )


def find_suspects(snapshots: Sequence[Snapshot], now: datetime, last: SnapshotsLook | None) -> Suspects:
    """Whom not to believe; without a last look nothing is too late."""
    future = [snapshot for snapshot in snapshots if snapshot.is_from_the_future(now)]
    late = [snapshot for snapshot in snapshots if last and _came_too_late(snapshot, last, now)]
    return Suspects(tuple(future), tuple(late))


def removable_of_the_future(snapshots: Sequence[Snapshot], now: datetime) -> list[str]:
    """The ids of what is dated in the future and may go, so that retention can go on.

    The only good dump of a database, which holds something, stays however it is dated; a manifest goes with the last dump of its run.
    """
    believed = [one for one in snapshots if not one.is_from_the_future(now)]
    safe = {one.path for one in believed if not one.empty and one.reason != PRE_RESTORE}
    ahead = [one for one in snapshots if one.is_from_the_future(now)]
    gone = [one.id for one in ahead if one.container and (one.empty or one.path in safe)]
    runs = {one.run for one in snapshots if one.container and one.id not in gone}
    return gone + [one.id for one in ahead if not one.container and one.run not in runs]


def next_look(
    snapshots: Sequence[Snapshot], suspects: Suspects, removed: Collection[str], now: datetime
) -> SnapshotsLook:
    """What to remember: suspects are not, so that they are suspects the next time too."""
    forgotten = set(removed) | {snapshot.id for snapshot in suspects.all}
    return SnapshotsLook(now, frozenset(snapshot.id for snapshot in snapshots if snapshot.id not in forgotten))


def _came_too_late(snapshot: Snapshot, last: SnapshotsLook, now: datetime) -> bool:
    # A last look of the future was by a clock that was ahead: whatever came since would be older.
    return snapshot.id not in last.ids and snapshot.time < min(last.time, now) - _LONGEST_DUMP


def _are(snapshots: Sequence[Snapshot]) -> str:
    return "is" if len(snapshots) == 1 else "are"


def _named(snapshots: Sequence[Snapshot]) -> str:
    newest = sorted(snapshots, key=lambda one: one.time, reverse=True)
    named = ", ".join(f"{one.short_id} of {one.time:%Y-%m-%d %H:%M} ({one.path})" for one in newest[:_NAMED])
    return f"{named} and {len(newest) - _NAMED} more" if len(newest) > _NAMED else named
