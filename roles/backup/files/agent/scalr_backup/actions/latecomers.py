# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that are not up yet, and will be in a minute: they start, recover after a crash, or their container restarts.

A container that has no server to ask yet is asked again when the others are saved, for a bounded time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from scalr_backup.core.model import Container

# pg_isready's answers (PostgreSQL documentation, pg_isready, "Exit Status"): a server that is there and lets nobody in yet, by
# its SQLSTATE 57P03, and none that answers. Beyond the last, it was killed together with its container.
_NOT_YET, _SILENT, _SIGNALS = 1, 2, 128
# The entry point of a new container makes the cluster before there is a server.
_FIRST_MINUTES = timedelta(minutes=5)
_RESTARTS = {"restarting", "running"}


def may_come(container: Container) -> bool:
    """Whether a match that cannot be backed up now is asked again at the end of the pass."""
    return container.status == "unreachable" or (container.status == "stopped" and container.state in _RESTARTS)


def is_coming(state: str, readiness: int | None, started: datetime | None, now: datetime) -> bool:
    """Whether it is worth waiting for a server, by its container's state, pg_isready's answer, and since when it has run."""
    if state == "restarting" or readiness == _NOT_YET:
        return True
    if readiness is None or not (readiness == _SILENT or readiness > _SIGNALS):
        return False
    return state == "running" and started is not None and now - started < _FIRST_MINUTES
