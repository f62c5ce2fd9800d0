# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshots may go.

restic's own policy engine decides, path by path and reason by reason; this file makes sure that it never
decides too much (law: retention never takes the last good snapshot):

* Nightly snapshots are judged among themselves. A snapshot that a restore took of a damaged database an hour
  after the good nightly one would otherwise be its day's newest, and the good one would go.
* A path is left alone when its database was not dumped well in this pass.
* A path is left alone while it holds a snapshot whose time cannot be true (``suspects.py``).
* Whatever the counts say, everything within ``keep_within`` of a path's newest snapshot stays: who floods a day with
  snapshots of his own does not push the good ones out before somebody has had the time to notice.
* A snapshot that holds nothing is no backup, and goes before anything is counted.
* The newest snapshot of a path that holds a regular dump stays, whatever the policy says.
* Pinned snapshots stay.
* A manifest stays as long as a dump of its run does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from scalr_backup.config import Config, duration_hours
from scalr_backup.errors import AppendOnlyError, ForgedSnapshotsError, UnknownSnapshotError
from scalr_backup.model import MANIFEST_PATH, MANUAL, NIGHTLY, PINNED_TAG, PRE_RESTORE, Failure, Snapshot
from scalr_backup.progress import Emit, log, progress
from scalr_backup.restic import Restic, RetentionGroup
from scalr_backup.state import State, utc_now
from scalr_backup.suspects import Look, Suspects, find_suspects, next_look

# Safety snapshots are for the days after a restore in which somebody may miss what it replaced.
_KEEP_EVERY_PRE_RESTORE = "30d"
# Whoever backs up by hand, damages, and backs up again must still find the first one when the damage shows.
_KEEP_EVERY_MANUAL = "7d"


@dataclass(frozen=True)
class Forgotten:
    """What a retention run removed and kept: ids of snapshots, and how many stay.

    *suspects* are the ids of those that are not believed, *error* what to say of them; all else was done nevertheless.
    """

    removed: tuple[str, ...]
    kept: int
    pruned: bool
    suspects: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: Failure | None = None

    def as_dict(self) -> dict[str, Any]:
        """The outcome as the JSON contract shows it."""
        return {name: value for name, value in asdict(self).items() if name != "error"}


class Memory:
    """What a trusted place remembers of the snapshots of one host in one repository."""

    def __init__(self, state: State, repository_id: str, host: str) -> None:
        self._state = state
        self._key = f"{repository_id}/{host}"

    def recall(self) -> Look | None:
        """The last look; None before the first."""
        entry = self._state.look(self._key)
        return Look(datetime.fromisoformat(entry["time"]), frozenset(entry["ids"])) if entry else None

    def keep(self, look: Look) -> None:
        """Remember this one in its place."""
        self._state.record_look(self._key, {"time": look.time.isoformat(), "ids": sorted(look.ids)})


def forget(
    config: Config,
    restic: Restic,
    emit: Emit,
    *,
    only_paths: Collection[str] | None = None,
    dry_run: bool = False,
    prune: bool = True,
    memory: Memory | None = None,
    accept_late: bool = False,
) -> Forgotten:
    """Apply the policy to this host's snapshots, of all paths or of *only_paths*, and prune.

    With a *memory*, snapshots that came too late are suspects, unless they are accepted with *accept_late*.

    Raises AppendOnlyError where it is not for this host to remove anything, and ResticError when restic fails; a good
    prune never hides a bad forget, because it does not run then.
    """
    _require_the_right(config, dry_run=dry_run)
    emit(progress("forget"))
    now = utc_now()
    snapshots = restic.snapshots()
    last = memory.recall() if memory else None
    suspects = find_suspects(snapshots, now, None if accept_late else last)
    sound = [
        one for one in snapshots if one.path not in suspects.paths and (only_paths is None or one.path in only_paths)
    ]
    removed = [one.id for one in sound if one.empty and not one.pinned]
    if not dry_run:
        restic.forget_snapshots(removed)
    removable = _by_policy(config, restic, [one for one in sound if one.id not in removed])
    if MANIFEST_PATH not in suspects.paths:
        removable += orphaned_manifests(snapshots, [*removed, *removable])
    if not dry_run:
        restic.forget_snapshots(removable)
        if prune:
            emit(progress("prune"))
            restic.prune()
    removed += removable
    if removed and not dry_run:
        emit(log("info", f"{len(removed)} snapshots forgotten", snapshots=[one[:8] for one in removed]))
    if memory and not dry_run:
        memory.keep(next_look(snapshots, suspects, removed, now))
    return _forgotten(config, snapshots, suspects, last, removed, pruned=prune and not dry_run)


def forget_named(
    config: Config, restic: Restic, ids: Sequence[str], *, dry_run: bool = False, memory: Memory | None = None
) -> Forgotten:
    """Remove the snapshots of this host that are named by their ids or the beginnings of these, whatever they are.

    A *memory* does not miss them later.

    Raises AppendOnlyError, UnknownSnapshotError when an id fits none or several, and ResticError.
    """
    _require_the_right(config, dry_run=dry_run)
    snapshots = restic.snapshots()
    removed = [_the_one(snapshots, wanted, config.host) for wanted in ids]
    if not dry_run:
        restic.forget_snapshots(removed)
        if memory and (last := memory.recall()):
            memory.keep(Look(last.time, last.ids.difference(removed)))
    return Forgotten(tuple(removed), len(snapshots) - len(removed), pruned=False)


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
    """The id of the newest regular dump of each path; of any dump where there is no regular one."""
    by_time = sorted(snapshots, key=lambda snapshot: snapshot.time)
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


def _require_the_right(config: Config, *, dry_run: bool) -> None:
    if config.append_only and not dry_run:
        raise AppendOnlyError(
            f"{config.host} only adds to its repository (append_only), and removes nothing: run prune.yml, which does it "
            "from a trusted place with a key of its own."
        )


def _by_policy(config: Config, restic: Restic, sound: Sequence[Snapshot]) -> list[str]:
    reasons = {snapshot.reason for snapshot in sound}
    groups = [
        group
        for reason, keep in policies(config.keep.rules, config.keep_within).items()
        if reason in reasons
        for group in restic.forget_plan(reason, keep, PINNED_TAG)
    ]
    return choose_removable(groups, sound)


def _forgotten(
    config: Config,
    snapshots: Sequence[Snapshot],
    suspects: Suspects,
    last: Look | None,
    removed: Sequence[str],
    *,
    pruned: bool,
) -> Forgotten:
    error = Failure(ForgedSnapshotsError.code, suspects.sentence(config.host)) if suspects.all else None
    ids = tuple(snapshot.id for snapshot in suspects.all)
    return Forgotten(
        tuple(removed), len(snapshots) - len(removed), pruned, ids, _losses(config, snapshots, last), error
    )


def _losses(config: Config, snapshots: Sequence[Snapshot], last: Look | None) -> tuple[str, ...]:
    missing = last.missing(snapshots) if last else frozenset()
    if last is None or not missing:
        return ()
    return (
        f"{len(missing)} snapshots of {config.host} that were here on {last.time:%Y-%m-%d %H:%M} UTC are gone, and it was "
        f"not this place that removed them: {', '.join(sorted(one[:8] for one in missing))}.",
    )


def _the_one(snapshots: Sequence[Snapshot], wanted: str, host: str) -> str:
    found = [snapshot.id for snapshot in snapshots if wanted and snapshot.id.startswith(wanted)]
    if len(found) != 1:
        raise UnknownSnapshotError(
            f"{len(found) or 'No'} snapshots of {host} have an id that begins with {wanted!r}; nothing was removed."
        )
    return found[0]


def _longest(*durations: str) -> str:
    return max(durations, key=duration_hours)
