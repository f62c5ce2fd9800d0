# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass and a restore have in common: the tools they use, and where they report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from scalr_backup.actions.discovery import Discovery
from scalr_backup.core.config import Config
from scalr_backup.core.model import Cluster
from scalr_backup.core.progress import Emit, log, with_run
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import APPLICATION_PREFIX, LOOK
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import State


@dataclass(frozen=True)
class Tools:
    """The tools of one call; *cancelled* is set when it has been told to stop.

    *copy_to* opens the second repository, where there is one.
    """

    config: Config
    discovery: Discovery
    restic: Restic
    state: State
    emit: Emit
    cancelled: threading.Event
    copy_to: Callable[[], Restic] | None = None


class _Warned(Protocol):
    """What warnings are noted in."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def warnings(self) -> list[str]:
        """The sentences so far."""


class UseCase:
    """A use case over the tools of one call."""

    def __init__(self, tools: Tools) -> None:
        self._config = tools.config
        self._discovery = tools.discovery
        self._restic = tools.restic
        self._state = tools.state
        self._emit = tools.emit
        self._cancelled = tools.cancelled

    @contextmanager
    def _begun(self, run: str) -> Iterator[None]:
        """Every event from now on carries the run's id; what carries it on a server is not a leftover until the run ends."""
        self._emit = with_run(self._emit, run)
        with self._state.runs.alive(run):
            yield

    def _postgres(self, cluster: Cluster, name: str) -> Postgres:
        """A way to a cluster, under a name that its sessions show."""
        return self._discovery.postgres(cluster.container, cluster.credentials, f"{APPLICATION_PREFIX} {name}")

    def _look(self, cluster: Cluster) -> Postgres:
        """A way to a cluster for a look that no run is behind yet."""
        return self._discovery.postgres(cluster.container, cluster.credentials, LOOK)

    def _tidier(self, cluster: Cluster) -> Postgres:
        """A way to a cluster for tidying up, even after being told to stop."""
        return self._postgres(cluster, "cleanup").unstoppable()

    def _warn(self, result: _Warned, sentence: str) -> None:
        """Tell the operator now, and again in the result."""
        result.warnings.append(sentence)
        self._emit(log("warning", sentence, run=result.run))
