# SPDX-License-Identifier: GPL-3.0-or-later
"""When a repository is pruned at the end of a pass: where it is owed, and once a day at most.

A prune reads every index and takes the repository for itself, so one that finds nothing to delete costs for nothing. It is
owed from the moment at which snapshots are about to be removed, and after a dump that failed, whose data nothing needs. A
process that is killed may leave such data without a word: so a prune runs once a week in any case. It runs at once where none
is on record as good, because then nobody knows what lies in the repository, and again where the last one has failed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from scalr_backup.actions.repository.maintenance import PRUNE
from scalr_backup.core.records.maintenance import MaintenanceRecord
from scalr_backup.tools.state import State

# Less than a day, so that a pass at the same time of the next day finds it due.
_AT_MOST = timedelta(hours=20)
# Also where nothing is known to be owed.
_AT_LEAST = timedelta(days=7) - timedelta(hours=4)


class PruneDebt:
    """What is on record of the prunes of one repository; *prefix* is that of its records' names."""

    def __init__(self, state: State, repository: str, prefix: str = "") -> None:
        self._state = state
        self._repository = repository
        self._kind = f"{prefix}{PRUNE}"

    def owe(self, now: datetime) -> None:
        """Remember that there is data, or will be at once, that no snapshot needs."""
        self._state.owe_prune(self._kind, self._repository, now)

    def is_due(self, now: datetime) -> bool:
        """Whether a pass is to prune."""
        last = self._state.maintenance(self._kind)
        known = last if last and last["repository"] == self._repository else None
        return is_due(known, now, owed=self._state.owes_prune(self._kind, self._repository))


def is_due(last: MaintenanceRecord | None, now: datetime, *, owed: bool) -> bool:
    """Whether a repository is to be pruned; *last* is what is on record of its last prune."""
    last_success = last.get("last_success") if last else None
    if last is None or not last["ok"] or last_success is None:
        return True
    ago = now - datetime.fromisoformat(last_success)
    # A record of the future says nothing: the clock was set back.
    return ago < timedelta() or ago >= (_AT_MOST if owed else _AT_LEAST)
