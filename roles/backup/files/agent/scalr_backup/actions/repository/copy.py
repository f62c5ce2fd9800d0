# SPDX-License-Identifier: GPL-3.0-or-later
"""The second repository: what a pass has saved is copied there, with a retention of its own.

It is written after the first one has all it should have, and nothing that goes wrong here harms that one.

This host's snapshots that are newer than the newest copy of their path are copied. An older one that is not there was
removed by the copy's own retention: it would come and go every night. A snapshot dated in the future would be the newest
for ever, and is neither copied nor counted; one that holds nothing is no backup.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from scalr_backup.actions.repository import maintenance
from scalr_backup.actions.repository.apart import require_another
from scalr_backup.actions.repository.debt import PruneDebt
from scalr_backup.actions.retention.run import Forgotten, Retention, Wish
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.address import redact_address
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import CopyError, ScalrBackupError, UsageError
from scalr_backup.core.model import Failure, Snapshot, new_run_id
from scalr_backup.core.progress import log, progress, with_run
from scalr_backup.core.records.passes import CopyRecord
from scalr_backup.tools.locks import PASS_LOCK
from scalr_backup.tools.restic.repository import Restic


@dataclass(frozen=True)
class Copied:
    """The outcome of a copy: how many snapshots came, and which went, as the JSON contract shows it."""

    repository: str
    ok: bool
    time: str
    copied: int = 0
    removed: tuple[str, ...] = ()
    error: Failure | None = None

    def as_dict(self) -> CopyRecord:
        """The outcome as the JSON contract and the state show it."""
        return {
            "repository": self.repository,
            "ok": self.ok,
            "time": self.time,
            "copied": self.copied,
            "removed": list(self.removed),
            "error": self.error.record if self.error else None,
        }


class Copier:
    """Brings the second repository up to the first one."""

    def __init__(self, tools: Tools) -> None:
        """Raises UsageError where no second repository is configured."""
        if tools.config.copy_to is None or tools.copy_to is None:
            raise UsageError("There is no second repository: backup_copy_repository is not set.")
        self._copy_to = tools.config.copy_to
        self._open = tools.copy_to
        self._name = redact_address(self._copy_to.repository)
        self._config = tools.config
        self._source = tools.restic
        self._state = tools.state
        self._emit = tools.emit
        self._cancelled = tools.cancelled

    def run(self) -> Copied:
        """Copy now, in a run of its own.

        Raises BusyError while a pass runs, whose retention would wait for the copy. What fails is in the result.
        """
        self._emit = with_run(self._emit, new_run_id())
        holder = f"a copy to {self._name}, since {utc_now():%Y-%m-%d %H:%M:%S} UTC"
        with self._state.locks.hold(PASS_LOCK, holder, 0.0, self._cancelled.is_set):
            return self.copy()

    def copy(self, *, forget: bool = True, not_of: Collection[str] = ()) -> Copied:
        """Copy, remove what the copy's retention does not keep, and record it.

        Without *forget*, nothing is removed; nor is anything of the paths *not_of*. Never raises what explains itself:
        that is in the result.
        """
        copied, error = 0, None
        removed: tuple[str, ...] = ()
        try:
            self._emit(progress("copy"))
            target = self._open()
            require_another(self._source, target)
            copied, current = self._bring_over(target)
            if forget and (paths := current - set(not_of)):
                done = self._forget(target, paths)
                removed, error = done.removed, done.error
        except ScalrBackupError as failed:
            error = Failure(failed.code, failed.message)
            # What had been sent by then no snapshot needs.
            PruneDebt(self._state, self._name, maintenance.OF_COPY).owe(utc_now())
            self._emit(log("error", f"The copy to {self._name} failed: {failed.message}"))
        result = Copied(self._name, error is None, utc_now().isoformat(), copied, removed, error)
        self._state.record_copy(result.as_dict())
        if error is None:
            self._emit(log("info", "copied to the second repository", **result.as_dict()))
        return result

    def _bring_over(self, target: Restic) -> tuple[int, set[str]]:
        """How many snapshots were copied, and the paths whose newest snapshot is in the copy by now."""
        if removed := target.unlock():
            self._emit(log("warning", f"{removed} stale locks of a killed run were removed from the copy."))
        here = self._source.snapshots()
        wanted = to_copy(here, target.snapshots())
        target.copy_from(self._source, wanted)
        there = {one for snapshot in target.snapshots() for one in snapshot.ids}
        if left := [one for one in wanted if one not in there]:
            raise CopyError(
                f"{len(left)} of {len(wanted)} snapshots did not reach the copy: {left[0][:8]} is the first."
            )
        newest = {snapshot.path: snapshot for snapshot in _of_the_past(here) if not snapshot.empty}
        return len(wanted), {path for path, snapshot in newest.items() if snapshot.ids & there}

    def _forget(self, target: Restic, paths: Collection[str]) -> Forgotten:
        # Where the host only adds to its first repository, it still sees to this one, with the key that it has to it.
        config = self._config.model_copy(update={"keep": self._copy_to.keep, "append_only": False})
        retention = Retention(
            config,
            target,
            self._emit,
            record=maintenance.recorder(self._state, target, maintenance.OF_COPY),
            debt=PruneDebt(self._state, target.repository, maintenance.OF_COPY),
        )
        return retention.forget(Wish(only_paths=paths, prune=not self._config.prune_schedule, only_when_due=True))


def to_copy(here: Sequence[Snapshot], there: Sequence[Snapshot], now: datetime | None = None) -> list[str]:
    """The ids of the snapshots to copy, oldest first: an interrupted copy leaves only newer ones to do."""
    known = {one for snapshot in there for one in snapshot.ids}
    newest = {snapshot.path: snapshot.time for snapshot in _of_the_past(there, now) if not snapshot.empty}
    return [
        snapshot.id
        for snapshot in _of_the_past(here, now)
        if not snapshot.empty
        and not snapshot.ids & known
        and (snapshot.path not in newest or snapshot.time > newest[snapshot.path])
    ]


def _of_the_past(snapshots: Sequence[Snapshot], now: datetime | None = None) -> list[Snapshot]:
    """Those that can be true, oldest first."""
    moment = now or utc_now()
    return sorted((one for one in snapshots if not one.is_from_the_future(moment)), key=lambda snapshot: snapshot.time)
