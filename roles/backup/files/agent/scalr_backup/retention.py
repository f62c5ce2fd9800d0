# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshots may go.

restic's own policy engine decides, path by path and reason by reason; this file makes sure that it never
decides too much (law: retention never takes the last good snapshot):

* Nightly snapshots are judged among themselves. A snapshot that a restore took of a damaged database an hour
  after the good nightly one would otherwise be its day's newest, and the good one would go.
* A path is left alone when its database was not dumped well in this pass.
* The newest snapshot of a path that holds a regular dump stays, whatever the policy says.
* Pinned snapshots stay.
* A manifest stays as long as a dump of its run does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from scalr_backup.config import Config
from scalr_backup.model import MANIFEST_PATH, MANUAL, NIGHTLY, PINNED_TAG, PRE_RESTORE, Snapshot
from scalr_backup.progress import Emit, log, progress
from scalr_backup.restic import Restic, RetentionGroup

# Safety snapshots are for the days after a restore in which somebody may miss what it replaced.
_KEEP_PRE_RESTORE = {"within": "30d"}
# Whoever backs up by hand, damages, and backs up again must still find the first one when the damage shows.
_KEEP_EVERY_MANUAL = "7d"


@dataclass(frozen=True)
class Forgotten:
    """What a retention run removed and kept: ids of snapshots, and how many stay."""

    removed: tuple[str, ...]
    kept: int
    pruned: bool


def forget(
    config: Config,
    restic: Restic,
    emit: Emit,
    *,
    only_paths: Collection[str] | None = None,
    dry_run: bool = False,
    prune: bool = True,
) -> Forgotten:
    """Apply the policy to this host's snapshots, of all paths or of *only_paths*, and prune.

    Raises ResticError when restic fails; a good prune never hides a bad forget, because it does not run then.
    """
    emit(progress("forget"))
    snapshots = restic.snapshots()
    reasons = {snapshot.reason for snapshot in snapshots}
    groups = [
        group
        for reason, keep in policies(config.keep.rules).items()
        if reason in reasons
        for group in restic.forget_plan(reason, keep, PINNED_TAG)
    ]
    removable = choose_removable(groups, snapshots, only_paths)
    removable += orphaned_manifests(snapshots, removable)
    if not dry_run:
        restic.forget_snapshots(removable)
        if removable:
            emit(log("info", f"{len(removable)} snapshots forgotten", snapshots=[one[:8] for one in removable]))
        if prune:
            emit(progress("prune"))
            restic.prune()
    return Forgotten(tuple(removable), len(snapshots) - len(removable), prune and not dry_run)


def policies(rules: Mapping[str, int]) -> dict[str, dict[str, int | str]]:
    """What ``restic forget`` keeps of the snapshots of each reason, by its names for the rules."""
    return {
        NIGHTLY: {**rules},
        MANUAL: {**rules, "within": _KEEP_EVERY_MANUAL},
        PRE_RESTORE: {**_KEEP_PRE_RESTORE},
    }


def choose_removable(
    groups: Sequence[RetentionGroup], snapshots: Sequence[Snapshot], only_paths: Collection[str] | None
) -> list[str]:
    """The ids that the policy would remove and the laws allow to remove."""
    newest = newest_by_path(snapshots)
    removable = []
    for group in groups:
        if group.path == MANIFEST_PATH or (only_paths is not None and group.path not in only_paths):
            continue
        removable += [
            snapshot.id for snapshot in group.remove if not snapshot.pinned and newest.get(group.path) != snapshot.id
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
