# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of retention: what ``policy.py`` allows to go goes, and the repository is pruned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from scalr_backup.actions.recording import Noted, Record
from scalr_backup.actions.repository.debt import PruneDebt
from scalr_backup.actions.repository.maintenance import FORGET, PRUNE
from scalr_backup.actions.retention.memory import Memory
from scalr_backup.actions.retention.policy import (
    Decision,
    Plans,
    ask_missing,
    choose_removable,
    count_kept,
    explain,
    orphaned_manifests,
)
from scalr_backup.actions.retention.suspects import (
    SnapshotsLook,
    Suspects,
    find_suspects,
    next_look,
    removable_of_the_future,
)
from scalr_backup.actions.retention.witness import Witness
from scalr_backup.core.answers import ForgetAnswer, LookAnswer
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config
from scalr_backup.core.errors import (
    AppendOnlyError,
    ForgedFilesError,
    ForgedSnapshotsError,
    UnknownSnapshotError,
)
from scalr_backup.core.model import MANIFEST_PATH, Failure, Snapshot
from scalr_backup.core.progress import Emit, log, progress
from scalr_backup.tools.restic.repository import Restic, RetentionGroup


@contextmanager
def unrecorded(_kind: str) -> Iterator[Noted]:
    """Record nothing."""
    yield Noted()


@dataclass(frozen=True)
class Wish:
    """What a run is to do: to judge the snapshots of all paths, or of *only_paths*, and to prune.

    *accept_late* accepts snapshots that came too late, and *remove_future* removes those of the future first. A run that
    prunes *only_when_due* leaves it to its debt when that is.
    """

    only_paths: Collection[str] | None = None
    dry_run: bool = False
    prune: bool = True
    only_when_due: bool = False
    accept_late: bool = False
    remove_future: bool = False


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


@dataclass(frozen=True)
class _Judged:
    """A host's snapshots; those whose dates are believed, and that are judged; and those that go before anything is counted."""

    all: Sequence[Snapshot]
    suspects: Suspects
    sound: Sequence[Snapshot]
    useless: Sequence[str]


@dataclass(frozen=True)
class Retention:
    """Removes what need not be kept of a host's snapshots.

    Those that came too late by its *memory* are suspects, and its *debt* is told of what is removed. A *witness* reads what is
    new in the repository before anything is removed, and prunes by what it saw.
    """

    config: Config
    restic: Restic
    emit: Emit
    memory: Memory | None = None
    debt: PruneDebt | None = None
    record: Record = unrecorded
    witness: Witness | None = None

    def forget(
        self, wish: Wish, snapshots: Sequence[Snapshot] | None = None, asked: Callable[[], Plans] = dict
    ) -> Forgotten:
        """Apply the policy, and prune.

        *snapshots* are this host's, where the caller has just listed them, and *asked* returns what restic's policy has said
        of some reasons by now, or raises why it could not.

        Raises AppendOnlyError where it is not for this host to remove anything, ForgedFilesError where a witness sees that
        the repository is not what it says, and ResticError when restic fails; a good prune never hides a bad forget, because
        it does not run then.
        """
        self._require_the_right(wish)
        self.emit(progress("forget"))
        record = unrecorded if wish.dry_run else self.record
        now = utc_now()
        with record(FORGET) as noted:
            snapshots = self.restic.snapshots() if snapshots is None else snapshots
            last, warnings = self._last_look(snapshots, wish)
            if self.witness and wish.prune:
                self.witness.look()
            there = self._judge(snapshots, last, wish, now)
            removed, groups = self._remove(there, asked, wish)
            pruned = self._prunes(wish, now)
            decisions = explain(snapshots, groups, there.sound, there.suspects.paths, removed)
            error = self._disbelief(there.suspects)
            noted.facts["removed"], noted.facts["kept"] = len(removed), count_kept(decisions)
            noted.failure = error
        if removed and not wish.dry_run:
            self.emit(log("info", f"{len(removed)} snapshots forgotten", snapshots=[one[:8] for one in removed]))
        if self.memory and not wish.dry_run:
            # Before the prune, which may fail: what is gone by now must not be missed by the next run.
            self.memory.keep(next_look(snapshots, there.suspects, removed, now))
        if pruned:
            self._prune()
        return Forgotten(
            tuple(removed),
            len(snapshots) - len(removed),
            pruned,
            tuple(snapshot.id for snapshot in there.suspects.all),
            (*warnings, *(self.witness.seen.warnings if self.witness else ())),
            error,
            decisions if wish.dry_run else (),
            self.witness.seen.as_dict() if self.witness else None,
        )

    def forget_named(self, ids: Sequence[str], *, dry_run: bool = False) -> Forgotten:
        """Remove the snapshots of this host that are named by their ids or the beginnings of these, whatever they are.

        The memory does not miss them later.

        Raises AppendOnlyError, UnknownSnapshotError when an id fits none or several, and ResticError.
        """
        self._require_the_right(Wish(dry_run=dry_run))
        snapshots = self.restic.snapshots()
        removed = [_the_one(snapshots, wanted, self.config.host) for wanted in ids]
        if not dry_run:
            self._forget_snapshots(removed)
            if self.memory and (last := self.memory.recall()):
                self.memory.keep(replace(last, ids=last.ids.difference(removed), going=last.going.difference(removed)))
        return Forgotten(tuple(removed), len(snapshots) - len(removed), pruned=False)

    def _require_the_right(self, wish: Wish) -> None:
        if self.config.append_only and not wish.dry_run:
            raise AppendOnlyError(
                f"{self.config.host} is append-only (append_only) and removes nothing: run prune.yml, which removes "
                "snapshots from a trusted place with its own key."
            )

    def _last_look(self, snapshots: Sequence[Snapshot], wish: Wish) -> tuple[SnapshotsLook | None, tuple[str, ...]]:
        """What was there at the last run, and what is to be said of it. Raises ForgedFilesError for what is gone since."""
        last = self.memory.recall() if self.memory else None
        if self.witness and self.witness.read_all:
            last = self._accept_losses(snapshots, last, wish)
        losses = _require_no_losses(self.config, snapshots, last)
        if losses:
            self.emit(log("warning", losses[0]))
            last = self._accept_losses(snapshots, last, wish)
        return last, losses

    def _accept_losses(
        self, snapshots: Sequence[Snapshot], last: SnapshotsLook | None, wish: Wish
    ) -> SnapshotsLook | None:
        """The last look without what is gone, which is remembered at once: whoever has everything read again accepts it."""
        if last is None:
            return None
        last = replace(last, ids=last.ids & {snapshot.id for snapshot in snapshots})
        if self.memory and not wish.dry_run:
            self.memory.keep(last)
        return last

    def _judge(self, snapshots: Sequence[Snapshot], last: SnapshotsLook | None, wish: Wish, now: datetime) -> _Judged:
        """Which snapshots the policy is asked about."""
        ahead = removable_of_the_future(snapshots, now) if wish.remove_future else []
        there = [one for one in snapshots if one.id not in ahead]
        suspects = find_suspects(there, now, None if wish.accept_late else last)
        sound = [
            one
            for one in there
            if one.path not in suspects.paths and (wish.only_paths is None or one.path in wish.only_paths)
        ]
        return _Judged(snapshots, suspects, sound, [*ahead, *(one.id for one in sound if one.empty)])

    def _remove(self, there: _Judged, asked: Callable[[], Plans], wish: Wish) -> tuple[list[str], list[RetentionGroup]]:
        """Remove the useless, and then what the policy would of the other sound ones; returns what goes, and its groups."""
        if not wish.dry_run:
            self._forget_snapshots(there.useless)
        judged = [one for one in there.sound if one.id not in there.useless]
        # What the policy said while the useless were there, it may have said because of them.
        groups = ask_missing(self.config, self.restic, judged, {} if there.useless else asked())
        removable = choose_removable(groups, judged)
        if MANIFEST_PATH not in there.suspects.paths:
            removable += orphaned_manifests(there.all, [*there.useless, *removable])
        if not wish.dry_run:
            self._forget_snapshots(removable)
        return [*there.useless, *removable], groups

    def _forget_snapshots(self, ids: Sequence[str]) -> None:
        if self.memory:
            self.memory.set_out_to_remove(ids)
        if self.debt and ids:
            # Before they go: a run may end at any moment after that.
            self.debt.owe(utc_now())
        self.restic.forget_snapshots(ids)

    def _prunes(self, wish: Wish, now: datetime) -> bool:
        is_left = wish.only_when_due and self.debt is not None and not self.debt.is_due(now)
        return wish.prune and not wish.dry_run and not is_left

    def _prune(self) -> None:
        with self.record(PRUNE):
            self.emit(progress("prune"))
            (self.witness or self.restic).prune(
                lambda done: self.emit(progress("prune", done=done.count, total=done.total, unit=done.unit))
            )

    def _disbelief(self, suspects: Suspects) -> Failure | None:
        return Failure(ForgedSnapshotsError.code, suspects.sentence(self.config.host)) if suspects.all else None


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
