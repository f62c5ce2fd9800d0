# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows the data: indexes, keys, triggers and the like, by several jobs.

pg_restore goes on after an error, and names what it could not make. What several jobs could not make together, one may:
they lock each other out, and share memory, connections and locks that a container may have too little of. So that is
tried again by one, whatever the reason was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from scalr_backup.actions.restore.listener import ITEM_OF_ONE_JOB, ITEM_OF_SEVERAL_JOBS, Listener
from scalr_backup.actions.restore.request import DatabasePlan
from scalr_backup.core.archive.head import ArchiveHead
from scalr_backup.core.archive.trouble import Trouble, are_all_named, errors_of, troubles, words_not_of_rows
from scalr_backup.core.errors import DockerUnreachableError, RestoreError
from scalr_backup.core.units import counted
from scalr_backup.tools.postgres.cluster import Postgres

# A restored index can take hours in which pg_restore says nothing and reads nothing.
SILENCE_SECONDS = 24 * 3600.0


class TogetherError(RestoreError):
    """Several jobs failed in a way that does not tell what they have made: all has to be made again, by one."""


@dataclass(frozen=True)
class Step:
    """Some of what comes after the data: how much, by how many jobs; from a head at a path, and what a list says of it.

    Without a path, the head comes as a stream, and without a list all of it counts.
    """

    count: int
    jobs: int
    path: str | None = None
    use_list: str | None = None
    frugal: bool = False


@dataclass
class Finished:
    """What was made: by how many jobs, what could not be, and what one job had to make after several."""

    jobs: int = 1
    troubles: list[Trouble] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Finisher:
    """Makes what follows the data in one half-made database, from an archive's head."""

    def __init__(
        self,
        postgres: Postgres,
        plan: DatabasePlan,
        new: str,
        head: ArchiveHead,
        head_bytes: bytes,
        stop_if_told: Callable[[], None],
    ) -> None:
        self._postgres = postgres
        self._plan = plan
        self._new = new
        self._head = head
        self._head_bytes = head_bytes
        self._stop_if_told = stop_if_told

    def finish(self, most_jobs: int, tell: Callable[[int], None]) -> Finished:
        """Make all of it; *tell* is called with the number of items that are done.

        Raises TogetherError, or RestoreError where that may not be tried once more.
        """
        finished, done = Finished(), 0
        try:
            for step in self._steps(most_jobs):
                found = self._make(step, partial(_tell_beyond, tell, done))
                done += step.count
                finished.jobs = max(finished.jobs, step.jobs)
                finished.troubles += self._again(step, found, finished) if found else ()
        finally:
            # One that cannot be removed now, because its container restarts, is when all is made again.
            with suppress(DockerUnreachableError):
                self._postgres.remove_heads(self._new)
        return finished

    def _steps(self, most_jobs: int) -> list[Step]:
        """What to make one after the other: all of it by one job where several have no use, or no room."""
        post_data = self._head.post_data
        path, processors = self._postgres.put_head(self._new, self._head_bytes)
        jobs = min(most_jobs, processors, len(post_data.at_once))
        if path is not None and jobs > 1:
            if not post_data.in_order:
                return [Step(post_data.count, jobs, path)]
            at_once = self._list("at_once", post_data.at_once)
            in_order = self._list("in_order", post_data.in_order)
            if at_once is not None and in_order is not None:
                return [
                    Step(len(post_data.at_once), jobs, path, at_once),
                    Step(len(post_data.in_order), 1, path, in_order),
                ]
        return [Step(post_data.count, 1, frugal=most_jobs == 1)]

    def _list(self, name: str, dump_ids: Iterable[int]) -> str | None:
        return self._postgres.put_list(f"{self._new}.{name}", dump_ids)

    def _again(self, step: Step, found: tuple[Trouble, ...], finished: Finished) -> tuple[Trouble, ...]:
        """Let one job alone try what could not be made; returns what it cannot make either."""
        if step.frugal:
            return found
        try:
            use_list = self._list("again", [trouble.entry.dump_id for trouble in found])
            if use_list is None:
                raise TogetherError(found[0].sentence)
            remain = self._make(replace(step, jobs=1, use_list=use_list, frugal=True), lambda _items: None)
        except TogetherError:
            raise
        except (RestoreError, DockerUnreachableError) as error:
            # A container that restarts runs nothing for a moment, and a server that was brought down takes nobody in before it has recovered.
            raise TogetherError(error.message) from None
        left = {trouble.entry.dump_id for trouble in remain}
        if made := [trouble for trouble in found if trouble.entry.dump_id not in left]:
            # So many that nobody wants to read them, perhaps: the first tells what it was.
            finished.warnings.append(
                f"Several jobs at once could not create {counted(len(made), 'object')} of {self._plan.database}; one job then did: "
                f"{made[0].sentence}"
            )
            finished.jobs = 1
        return remain

    def _make(self, step: Step, tell: Callable[[int], None]) -> tuple[Trouble, ...]:
        """Run a step; returns what could not be made.

        Raises TogetherError or RestoreError in pg_restore's words where that is unknown.
        """
        with self._postgres.start_post_data(
            self._new, step.path, step.use_list, step.jobs, SILENCE_SECONDS,
            tablespaces=self._plan.tablespaces, frugal=step.frugal,
        ) as target:  # fmt: skip
            listener = Listener(target, ITEM_OF_ONE_JOB if step.jobs == 1 else ITEM_OF_SEVERAL_JOBS)
            if step.path is None:
                try:
                    target.write(self._head_bytes, self._stop_if_told)
                    target.end_input()
                except (BrokenPipeError, ConnectionResetError):
                    pass  # It has read what it needs, or has failed and says so.

            def wait() -> None:
                self._stop_if_told()
                tell(listener.items)

            if listener.exit_code(wait) == 0:
                return ()
            # Told to stop, or ended by whoever watches the room: that is why, and nothing is tried again.
            self._stop_if_told()
            found = troubles(listener.messages, self._head, step.jobs)
            if are_all_named(listener.messages, errors_of(found), step.jobs):
                return found
            failure = listener.failure(words_not_of_rows(found, self._head))
            raise failure if step.frugal else TogetherError(failure.message)


def _tell_beyond(tell: Callable[[int], None], done: int, items: int) -> None:
    tell(done + items)
