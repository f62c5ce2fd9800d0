# SPDX-License-Identifier: GPL-3.0-or-later
"""How a restore and an undo begin: with the operator's word, alone in the container, over nothing that was left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scalr_backup.actions import leftovers
from scalr_backup.actions.restore.result import PlanType, RestoreResult
from scalr_backup.actions.use_case import UseCase
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import NotConfirmedError
from scalr_backup.core.model import Cluster, new_run_id
from scalr_backup.tools.locks import container_lock


class Replacing(UseCase):
    """A use case that replaces databases of one container."""

    def _require_word(self, given: str | None, wanted: str, refusal: str) -> None:
        """Raises NotConfirmedError with the *refusal*, where the operator has not given the word that the plan wants."""
        if given != wanted:
            raise NotConfirmedError(refusal)

    @contextmanager
    def _alone_in(self, container: str, plan: PlanType, does: str, where: str) -> Iterator[RestoreResult[PlanType]]:
        """Begin the run of a plan; whoever wants the container meanwhile is told what this run *does* *where*.

        Raises BusyError while the container is being dumped or restored.
        """
        result = RestoreResult(new_run_id(), plan)
        holder = f"{does} {result.run} {where}, since {utc_now():%Y-%m-%d %H:%M:%S} UTC"
        with self._begun(result.run), self._state.locks.hold(container_lock(container), holder):
            yield result

    def _clean_up(self, result: RestoreResult[PlanType], cluster: Cluster) -> bool:
        """Remove what earlier runs left; tells whether there was anything."""
        removed = leftovers.clean_up(self._state, self._discovery, cluster)
        for sentence in removed:
            self._warn(result, sentence)
        return bool(removed)
