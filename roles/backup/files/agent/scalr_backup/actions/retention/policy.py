# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshots may go.

restic's own policy engine decides, path by path and reason by reason; this file makes sure that it never
decides too much (law: retention never takes the last good snapshot):

* Nightly snapshots are judged among themselves. A snapshot that a restore took of a damaged database an hour
  after the good nightly one would otherwise be its day's newest, and the good one would go.
* A path is left alone when its database was not dumped well in this pass.
* A path is left alone while it holds a snapshot whose time cannot be true (``suspects.py``).
* Whatever the counts say, everything within ``keep_within`` of a path's newest snapshot stays: flooding a
  day with forged snapshots does not push the good ones out before somebody has had time to notice.
* A snapshot that holds nothing is not a backup, pinned or not, and goes before anything is counted.
* The newest snapshot of a path that holds a regular dump stays, whatever the policy says.
* Pinned snapshots stay if they hold something.
* A manifest stays as long as a dump of its run does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from scalr_backup.actions.recording import Noted, Record
from scalr_backup.actions.repository.debt import PruneDebt
from scalr_backup.actions.repository.maintenance import FORGET, PRUNE
from scalr_backup.actions.retention.memory import Memory
from scalr_backup.actions.retention.suspects import (
    SnapshotsLook,
    Suspects,
    find_suspects,
    next_look,
    removable_of_the_future,
)
from scalr_backup.actions.retention.witness import Witness
from scalr_backup.core.answers import DecisionAnswer, ForgetAnswer, LookAnswer
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config, duration_hours
from scalr_backup.core.errors import (
    AppendOnlyError,
    ForgedFilesError,
    ForgedSnapshotsError,
    UnknownSnapshotError,
)
from scalr_backup.core.model import MANIFEST_PATH, MANUAL, NIGHTLY, PINNED_TAG, PRE_RESTORE, Failure, Snapshot
from scalr_backup.core.progress import Emit, log, progress
from scalr_backup.core.records.maintenance import KeptCount
from scalr_backup.tools.restic.repository import Restic, RetentionGroup

# Safety snapshots cover the days after a restore in which its old data may be missed.
_KEEP_EVERY_PRE_RESTORE = "30d"
# After a manual backup, damage and another backup, the first one must still exist when the damage shows.
_KEEP_EVERY_MANUAL = "7d"

# Why a snapshot stays that no rule keeps.
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


@contextmanager
def unrecorded(_kind: str) -> Iterator[Noted]:
    """Record nothing."""
    yield Noted()


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


@dataclass(frozen=True)
class Forgotten:
    """What a retention run removed and kept: ids of snapshots, and how many stay.

    *suspects* are the ids of those that are not believed, *error* what to say of them; all else was done nevertheless.
    *decisions* tell of each dump why it stays or goes, the newest of each database first, where nothing was really removed.
    *look* is what a trusted place has read first.
    """

    removed: tuple[str, ...]
    kept: int
    pruned: bool
    suspects: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: Failure | None = None
    decisions: tuple[Decision, ...] = ()
    look: LookAnswer | None = None

    def as_dict(self) -> ForgetAnswer:
        """The outcome as the JSON contract shows it."""
        return {
            "removed": list(self.removed),
            "kept": self.kept,
            "pruned": self.pruned,
            "suspects": list(self.suspects),
            "warnings": list(self.warnings),
            "decisions": [decision.as_dict() for decision in self.decisions],
            "look": self.look,
        }


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
    remove_future: bool = False,
    snapshots: Sequence[Snapshot] | None = None,
    asked: Callable[[], Plans] = dict,
    record: Record = unrecorded,
    debt: PruneDebt | None = None,
    only_when_due: bool = False,
    witness: Witness | None = None,
) -> Forgotten:
    """Apply the policy to this host's snapshots, of all paths or of *only_paths*, and prune.

    With a *memory*, snapshots that came too late are suspects, unless they are accepted with *accept_late*. Those of the
    future are, unless they go first, with *remove_future*. *snapshots* are this host's, where the caller has just listed
    them, and *asked* returns what restic's policy has said of some reasons by now, or raises why it could not. A *debt* is
    told of what is removed, and where it prunes *only_when_due*, it is the one who knows. A *witness* reads what is new in the
    repository before anything is removed, and prunes by what it saw.

    Raises AppendOnlyError where it is not for this host to remove anything, ForgedFilesError where a witness sees that the
    repository is not what it says, and ResticError when restic fails; a good
    prune never hides a bad forget, because it does not run then.
    """
    _require_the_right(config, dry_run=dry_run)
    emit(progress("forget"))
    record = unrecorded if dry_run else record
    now = utc_now()
    with record(FORGET) as noted:
        snapshots = restic.snapshots() if snapshots is None else snapshots
        last = memory.recall() if memory else None
        if witness and witness.read_all:
            last = _accept_losses(snapshots, last, None if dry_run else memory)
        if losses := _require_no_losses(config, snapshots, last):
            emit(log("warning", losses[0]))
            last = _accept_losses(snapshots, last, None if dry_run else memory)
        if witness and prune:
            witness.look()
        ahead = removable_of_the_future(snapshots, now) if remove_future else []
        there = [one for one in snapshots if one.id not in ahead]
        suspects = find_suspects(there, now, None if accept_late else last)
        sound = [
            one for one in there if one.path not in suspects.paths and (only_paths is None or one.path in only_paths)
        ]
        useless = [*ahead, *(one.id for one in sound if one.empty)]
        removed, groups = _remove(
            config, restic, snapshots, sound, useless, suspects, memory, debt, asked, dry_run=dry_run
        )
        prune = prune and not dry_run and not (only_when_due and debt and not debt.is_due(now))
        decisions = explain(snapshots, groups, sound, suspects.paths, removed)
        shown = decisions if dry_run else ()
        forgotten = _forgotten(config, snapshots, suspects, removed, shown, pruned=prune)
        noted.facts["removed"], noted.facts["kept"] = len(removed), count_kept(decisions)
        noted.failure = forgotten.error
    if removed and not dry_run:
        emit(log("info", f"{len(removed)} snapshots forgotten", snapshots=[one[:8] for one in removed]))
    if memory and not dry_run:
        # Before the prune, which may fail: what is gone by now must not be missed by the next run.
        memory.keep(next_look(snapshots, suspects, removed, now))
    if prune:
        _prune(witness or restic, emit, record)
    warnings = (*forgotten.warnings, *losses)
    if witness:
        return replace(forgotten, look=witness.seen.as_dict(), warnings=(*warnings, *witness.seen.warnings))
    return replace(forgotten, warnings=warnings)


def _remove(
    config: Config,
    restic: Restic,
    snapshots: Sequence[Snapshot],
    sound: Sequence[Snapshot],
    useless: Sequence[str],
    suspects: Suspects,
    memory: Memory | None,
    debt: PruneDebt | None,
    asked: Callable[[], Plans],
    *,
    dry_run: bool,
) -> tuple[list[str], list[RetentionGroup]]:
    """Remove the *useless*, and then what the policy would of the other *sound* ones; returns what goes, and its groups."""
    if not dry_run:
        _forget_snapshots(restic, useless, memory, debt)
    judged = [one for one in sound if one.id not in useless]
    # What the policy said while the useless were there, it may have said because of them.
    groups = _ask_policy(config, restic, judged, {} if useless else asked())
    removable = choose_removable(groups, judged)
    if MANIFEST_PATH not in suspects.paths:
        removable += orphaned_manifests(snapshots, [*useless, *removable])
    if not dry_run:
        _forget_snapshots(restic, removable, memory, debt)
    return [*useless, *removable], groups


def _forget_snapshots(restic: Restic, ids: Sequence[str], memory: Memory | None, debt: PruneDebt | None) -> None:
    if memory:
        memory.set_out_to_remove(ids)
    if debt and ids:
        # Before they go: a run may end at any moment after that.
        debt.owe(utc_now())
    restic.forget_snapshots(ids)


def _prune(restic: Restic | Witness, emit: Emit, record: Record) -> None:
    with record(PRUNE):
        emit(progress("prune"))
        restic.prune(lambda done: emit(progress("prune", done=done.count, total=done.total, unit=done.unit)))


def forget_named(
    config: Config,
    restic: Restic,
    ids: Sequence[str],
    *,
    dry_run: bool = False,
    memory: Memory | None = None,
    debt: PruneDebt | None = None,
) -> Forgotten:
    """Remove the snapshots of this host that are named by their ids or the beginnings of these, whatever they are.

    A *memory* does not miss them later, and a *debt* is told of what they leave behind.

    Raises AppendOnlyError, UnknownSnapshotError when an id fits none or several, and ResticError.
    """
    _require_the_right(config, dry_run=dry_run)
    snapshots = restic.snapshots()
    removed = [_the_one(snapshots, wanted, config.host) for wanted in ids]
    if not dry_run:
        _forget_snapshots(restic, removed, memory, debt)
        if memory and (last := memory.recall()):
            memory.keep(replace(last, ids=last.ids.difference(removed), going=last.going.difference(removed)))
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


def _require_the_right(config: Config, *, dry_run: bool) -> None:
    if config.append_only and not dry_run:
        raise AppendOnlyError(
            f"{config.host} is append-only (append_only) and removes nothing: run prune.yml, which removes snapshots "
            "from a trusted place with its own key."
        )


def ask_policy(config: Config, restic: Restic, reason: str) -> Plans:
    """What restic's policy says of the snapshots that have a reason; nothing where it has none for that. Raises ResticError."""
    keep = policies(config.keep.rules, config.keep_within).get(reason)
    return {} if keep is None else {reason: restic.forget_plan(reason, keep, PINNED_TAG)}


def _ask_policy(config: Config, restic: Restic, sound: Sequence[Snapshot], asked: Plans) -> list[RetentionGroup]:
    """What the policy says of the reasons that sound snapshots have; of those that it was *asked* for, what it said."""
    reasons = {snapshot.reason for snapshot in sound}
    return [
        group
        for reason in policies(config.keep.rules, config.keep_within)
        if reason in reasons
        for group in (asked if reason in asked else ask_policy(config, restic, reason))[reason]
    ]


def _forgotten(
    config: Config,
    snapshots: Sequence[Snapshot],
    suspects: Suspects,
    removed: Sequence[str],
    decisions: tuple[Decision, ...],
    *,
    pruned: bool,
) -> Forgotten:
    error = Failure(ForgedSnapshotsError.code, suspects.sentence(config.host)) if suspects.all else None
    ids = tuple(snapshot.id for snapshot in suspects.all)
    return Forgotten(tuple(removed), len(snapshots) - len(removed), pruned, ids, (), error, decisions)


def _accept_losses(
    snapshots: Sequence[Snapshot], last: SnapshotsLook | None, memory: Memory | None
) -> SnapshotsLook | None:
    """The last look without what is gone, which is remembered at once: whoever has everything read again has accepted it."""
    if last is None:
        return None
    last = replace(last, ids=last.ids & {snapshot.id for snapshot in snapshots})
    if memory:
        memory.keep(last)
    return last


def _require_no_losses(config: Config, snapshots: Sequence[Snapshot], last: SnapshotsLook | None) -> tuple[str, ...]:
    """Raise ForgedFilesError where snapshots are gone that were there: their data would be useless to a prune.

    Returns what is to be said where a release that did not write down what it removed may have removed them itself.
    """
    missing = last.missing(snapshots) if last else frozenset()
    if last is None or not missing:
        return ()
    names = ", ".join(sorted(one[:8] for one in missing))
    gone = f"{len(missing)} snapshots of {config.host} that were here on {last.time:%Y-%m-%d %H:%M} UTC are gone"
    if not last.is_certain:
        return (
            f"{gone}: {names}. If the last prune.yml, of release 0.5.0 or earlier, failed, it has removed them itself; "
            "otherwise find out who did it.",
        )
    raise ForgedFilesError(
        f"{gone}, and this place did not remove them: {names}. Nothing was removed, and "
        "their data is still there: find out who did it, then do what docs/ransomware.md says under Forged files."
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
