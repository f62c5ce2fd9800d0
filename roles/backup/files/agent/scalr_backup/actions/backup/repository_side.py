# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass asks of its repository besides the dumps: no more than is useful.

Each start of restic derives the repository's key again, which takes up to half a second of CPU time, and a store bills each
request. So the snapshots are listed once, when the pass begins, and for those that retention judges, the policy's own listing
is newer and takes precedence; locks are listed by the store itself, where it can be asked without restic; sizes, for which
restic walks through every snapshot, are measured once a day.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scalr_backup.actions.backup.result import PassResult
from scalr_backup.actions.repository import maintenance
from scalr_backup.actions.repository.debt import PruneDebt
from scalr_backup.actions.retention.policy import Plans, ask_policy
from scalr_backup.actions.retention.run import Forgotten, Retention, Wish
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import ScalrBackupError, TwoHostsError
from scalr_backup.core.model import Failure, Snapshot
from scalr_backup.core.progress import Emit, log
from scalr_backup.core.records.passes import PassRecord
from scalr_backup.core.records.repository import RepositoryRecord
from scalr_backup.tools.restic.repository import Restic

# Less than a day, so that a pass at the same time of the next day measures again.
_SIZES_LAST = timedelta(hours=20)


@dataclass(frozen=True)
class RepositoryAtStart:
    """The repository when the pass began: this host's snapshots, the ids of the locks on it, and how many stale ones went."""

    snapshots: tuple[Snapshot, ...]
    locks: tuple[str, ...]
    removed_locks: int


def open_repository(restic: Restic) -> RepositoryAtStart:
    """Prove that the repository can be used, and clear it of stale locks.

    Raises ResticError: a wrong password or a dead store ends the pass here.
    """
    restic.require_version()
    snapshots = restic.snapshots()
    removed, left = restic.clear_locks()
    return RepositoryAtStart(tuple(snapshots), tuple(left), removed)


class RepositorySide:
    """The repository of one pass, from its dumps' end to its own."""

    def __init__(self, tools: Tools, emit: Emit, result: PassResult, opened: RepositoryAtStart) -> None:
        self._config = tools.config
        self._restic = tools.restic
        self._state = tools.state
        self._emit = emit
        self._result = result
        self._opened = opened

    def ask_policy(self) -> Plans:
        """What restic's policy says of the snapshots that have this pass's reason; nothing where nothing is removed anyway.

        Raises ResticError.
        """
        if self._config.append_only or not self._result.paths(good=True):
            return {}
        return ask_policy(self._config, self._restic, self._result.reason)

    def conclude(self, last_pass: PassRecord | None, asked: Callable[[], Plans]) -> None:
        """Apply retention, unless another agent saves under this host's name, and measure.

        *asked* returns what the policy has said since the dumps ended, or raises why it could not.
        """
        try:
            snapshots = current(self._opened.snapshots, asked())
        except ScalrBackupError:
            snapshots = list(self._opened.snapshots)
        try:
            require_no_other_agent(
                self._config.host, self._restic.repository, self._state.agent_id(), last_pass, snapshots
            )
        except TwoHostsError as error:
            self._result.error = Failure(error.code, error.message)
            self._emit(log("error", error.message, run=self._result.run))
        else:
            self._apply_retention(snapshots, asked)
        self.measure()

    def _apply_retention(self, snapshots: Sequence[Snapshot], asked: Callable[[], Plans]) -> None:
        """Forget and prune, but only among the snapshots of databases that this pass has dumped well.

        A host that only adds does neither: prune.yml does it in its place. Where pruning has a schedule of its own, it is
        left to that.
        """
        good = self._result.paths(good=True)
        if self._config.append_only or not good:
            return
        try:
            forgotten = self._forget(snapshots, asked, good)
        except ScalrBackupError as error:
            self._result.retention = {"ok": False, "removed": [], "error": Failure(error.code, error.message).record}
            self._emit(log("error", f"Retention failed: {error.message}", run=self._result.run))
        else:
            disbelief = forgotten.error
            self._result.retention = {
                "ok": disbelief is None,
                "removed": list(forgotten.removed),
                "error": disbelief.record if disbelief else None,
            }
            if disbelief:
                self._emit(log("error", disbelief.message, run=self._result.run))

    def _forget(self, snapshots: Sequence[Snapshot], asked: Callable[[], Plans], good: Collection[str]) -> Forgotten:
        retention = Retention(
            self._config,
            self._restic,
            self._emit,
            record=maintenance.recorder(self._state, self._restic),
            debt=PruneDebt(self._state, self._restic.repository),
        )
        wish = Wish(only_paths=good, prune=not self._config.prune_schedule, only_when_due=True)
        return retention.forget(wish, snapshots, asked)

    def measure(self) -> None:
        """Note who holds the repository, how much room is left, and once a day how large it is.

        The dumps are good whatever comes of it, so a failure is a warning.
        """
        now = utc_now()
        try:
            room = self._restic.room()
            oldest = self._restic.oldest_lock(self._opened.locks)
        except (ScalrBackupError, LookupError, ValueError) as error:
            self._warn_unmeasured(error)
            return
        measured: RepositoryRecord = {
            **self._sizes(now),
            "time": now.isoformat(),
            "repository": self._restic.repository,
            "locks": len(self._opened.locks),
            "oldest_lock": oldest.isoformat() if oldest else None,
            "free_bytes": room[0] if room else None,
            "total_bytes": room[1] if room else None,
        }
        self._state.put(repository=measured)

    def _sizes(self, now: datetime) -> RepositoryRecord:
        """What is found out once a day; where it cannot be, what was found out last, which keeps its own time.

        A repository that is too large to be walked through may be the one that fills its disk: its room is on record all the
        same.
        """
        known = self._state.read().get("repository")
        if known is not None and known.get("repository", self._restic.repository) != self._restic.repository:
            known = None
        if known is not None and sizes_hold(known, self._restic.repository, now):
            return known
        try:
            self._restic.note_key()
            size = self._restic.size()
        except (ScalrBackupError, LookupError, ValueError) as error:
            self._warn_unmeasured(error)
            # An earlier release has written down one time for all.
            return {**known, "sized": known.get("sized", known["time"])} if known else {"time": now.isoformat()}
        return {
            "time": now.isoformat(),
            "sized": now.isoformat(),
            "size_bytes": size.stored_bytes,
            "uncompressed_bytes": size.uncompressed_bytes,
            "snapshots": size.snapshots,
        }

    def _warn_unmeasured(self, error: Exception) -> None:
        sentence = f"The repository was not measured: {error}"
        self._result.warnings.append(sentence)
        self._emit(log("warning", sentence, run=self._result.run))


def current(listed: Sequence[Snapshot], plans: Plans) -> list[Snapshot]:
    """The snapshots as they are by now, oldest first: of the reasons that the policy was asked for, what it has seen.

    The dumps of this pass are among those, and what somebody has removed since the beginning is not.
    """
    seen = {one.id: one for groups in plans.values() for group in groups for one in (*group.keep, *group.remove)}
    others = [one for one in listed if one.id not in seen and plans.keys().isdisjoint(one.tags)]
    return sorted([*others, *seen.values()], key=lambda one: one.time)


def require_no_other_agent(
    host: str, repository: str, own_id: str, last_pass: PassRecord | None, snapshots: Sequence[Snapshot]
) -> None:
    """Find out whether another agent has backed up under this host's name since this one did so last.

    A rebuilt host has no last pass of its own, and takes over from one that is silent.

    Raises TwoHostsError: retention would judge the snapshots of two hosts as those of one.
    """
    if last_pass is None:
        return
    since = datetime.fromisoformat(last_pass["started"])
    others = [one for one in snapshots if one.agent not in (None, own_id) and one.time > since]
    if others:
        raise TwoHostsError(
            f"Another agent backed up under the name {host} into {repository} at "
            f"{others[-1].time:%Y-%m-%d %H:%M} UTC, as happens when two inventories give two hosts the same name: the dumps of "
            "both are kept, and nothing is removed until each has its own name or repository."
        )


def sizes_hold(known: RepositoryRecord, repository: str, now: datetime) -> bool:
    """Whether the sizes on record were measured of this repository, and within the last day."""
    measured = known.get("sized")
    return (
        measured is not None
        and known.get("repository") == repository
        and timedelta() <= now - datetime.fromisoformat(measured) < _SIZES_LAST
    )
