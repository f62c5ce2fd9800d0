# SPDX-License-Identifier: GPL-3.0-or-later
"""Which runs are alive: each holds a lock (flock) on a file of its own for as long as its process lives.

All processes that share the agent's state directory see it, a drill's container too. The kernel lets go of the lock
however the process ends, so an unlocked file belongs to a killed run.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from scalr_backup.core.clock import utc_now
from scalr_backup.core.model import started_at

# A run that nothing is known of is another agent's, or one of this agent's whose record is lost, as before an update. It
# has a day, so that no live pass is disturbed; less an hour, so that the next nightly pass cleans up.
_BENEFIT_OF_DOUBT = timedelta(hours=23)


class Runs:
    """The runs of all agents that share a state directory."""

    def __init__(self, state_directory: Path) -> None:
        self._directory = state_directory / "runs"

    @contextmanager
    def alive(self, run: str) -> Iterator[None]:
        """Be known to be alive for as long as the block, or the process, lasts; before anything bears the run's id.

        Where the disk takes no file, nothing is known of the run, and it has the benefit of the doubt.
        """
        with ExitStack() as held:
            with suppress(OSError):
                held.enter_context(self._marked(run))
            yield

    @contextmanager
    def _marked(self, run: str) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._forget_old()
        path = self._directory / run
        with path.open("a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()

    def any_alive(self) -> bool:
        """Whether some process is at a run."""
        return any(self._is_held(path.name) for path in self._directory.glob("*"))

    def is_dead(self, run: str, now: datetime | None = None) -> bool:
        """Whether a run has left what it no longer needs.

        Ask only about a run that was seen at work: one that begins after that is not asked about.
        """
        held = self._is_held(run)
        return _is_old(run, now or utc_now()) if held is None else not held

    def _is_held(self, run: str) -> bool | None:
        """Whether the run's process lives; None where nothing is known of it."""
        try:
            with (self._directory / run).open("r", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # It is not there, or cannot be read.
            return None
        return False

    def _forget_old(self) -> None:
        """Drop the files of dead runs that count as dead without them."""
        now = utc_now()
        for path in self._directory.iterdir():
            if _is_old(path.name, now) and not self._is_held(path.name):
                with suppress(OSError):
                    path.unlink()


def _is_old(run: str, now: datetime) -> bool:
    started = started_at(run)
    return started is not None and now - started > _BENEFIT_OF_DOUBT
