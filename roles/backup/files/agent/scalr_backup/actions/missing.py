# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass should have saved but could not even try: containers that are not running, databases that are gone.

A stopped container is a warning, and so is a removed database. One whose container is
paused, keeps restarting or vanishes while it is inspected is a failure, and so is whatever was asked for by name. A pass that
saves nothing although there was something to save has failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from scalr_backup.actions.discovery import Discovered
from scalr_backup.core import remedies
from scalr_backup.core.errors import (
    ContainerRefusedError,
    ContainerStoppedError,
    PartlyUnknownError,
    UnknownDatabaseError,
)
from scalr_backup.core.model import WHOLE_CLUSTER, Container, DatabaseBackup, Failure, is_whole_cluster, kept_since
from scalr_backup.core.records.databases import DatabaseRecord

# How long a database that is gone is reported before it counts as given up.
REPORT_GONE = timedelta(days=14)
# The code of a pass that had something to save and saved nothing.
NOTHING_SAVED = "nothing_saved"
UNREACHABLE = "unreachable"

# States that a container enters on purpose.
_AT_REST = {"created", "exited", "removing"}
# What a container is at that should run and does not; one that stops under the look restarts, or will not for long.
_CODES = {"paused": "container_paused", "restarting": "container_restarting", "running": "container_restarting"}

Known = Mapping[str, DatabaseRecord]


def code_of(state: str) -> str:
    """The code of the failure that is a container in this state."""
    return _CODES.get(state, ContainerStoppedError.code)


def refuse_excluded(discovered: Discovered, patterns: Sequence[str], host: str) -> None:
    """Raise UnknownDatabaseError where only what is excluded was asked for, PartlyUnknownError for one such by its name."""
    is_all = all(other.status == "excluded" for other in discovered.containers)
    refusal = UnknownDatabaseError if is_all else PartlyUnknownError
    for container in discovered.containers:
        if container.status == "excluded" and (not container.names.isdisjoint(patterns) or (patterns and is_all)):
            raise refusal(f"{container.name} on {host} is excluded: {container.reason}.")


def is_failure(container: Container, patterns: Sequence[str]) -> bool:
    """Whether it is a failure that this match cannot be backed up, and not just worth a warning."""
    if container.status == "stopped":
        return container.state not in _AT_REST or not container.names.isdisjoint(patterns)
    return container.status in (UNREACHABLE, "refused")


def failures(container: Container, known: Known) -> list[DatabaseBackup]:
    """The outcomes of a match that cannot be backed up: one for each database that it is known to hold, else one for all."""
    code, reason = container.code or UNREACHABLE, container.reason or ""
    if container.status == "refused":
        code, reason = ContainerRefusedError.code, f"{container.name} is refused: {reason}"
    elif container.status == "stopped":
        code = code_of(container.state)
        next_command = remedies.command(code, "", container.called or container.name)
        reason = f"{container.name} cannot be backed up: {reason}; run next: {next_command}"
    error = Failure(code, reason)
    names = _held(container.name, known) or [WHOLE_CLUSTER]
    return [DatabaseBackup(container.name, name, ok=False, error=error) for name in names]


def _held(container: str, known: Known) -> list[str]:
    """The databases that the last pass over a container has tried; others it held once."""
    entries = [one for one in known.values() if one["container"] == container and not is_whole_cluster(one)]
    last = max(entries, key=lambda one: one["last_tried"], default=None)
    names = (one["database"] for one in entries if last and one.get("run") == last.get("run"))
    return sorted(name for name in names if not kept_since(name))


def gone(discovered: Discovered, known: Known, now: datetime) -> list[str]:
    """Databases that had good backups lately and can no longer be seen."""
    seen = {
        (cluster.container.name, name)
        for cluster in discovered.clusters
        for name in (*(one.name for one in cluster.databases), *(one.name for one in cluster.left_out))
    }
    accounted_for = {container.name for container in discovered.containers if container.status != "ok"}
    return [
        key
        for key, entry in sorted(known.items())
        if entry["last_success"]
        and datetime.fromisoformat(entry["last_success"]) > now - REPORT_GONE
        and (entry["container"], entry["database"]) not in seen
        and entry["container"] not in accounted_for
        and not kept_since(entry["database"])
    ]


def named_and_empty(discovered: Discovered, patterns: Sequence[str]) -> Failure | None:
    """Why a pass has failed that was to save a container by its name which holds nothing that can be saved."""
    empty = [
        cluster.container.name
        for cluster in discovered.clusters
        if not cluster.container.names.isdisjoint(patterns) and not cluster.databases
    ]
    if not empty:
        return None
    return Failure(NOTHING_SAVED, f"Nothing was backed up of {', '.join(empty)}: no database there can be backed up.")


def nothing_saved(discovered: Discovered, patterns: Sequence[str], lost: Sequence[str]) -> Failure | None:
    """Why a pass that has nothing to dump has failed; None where there is nothing that it should have saved."""
    reasons = [f"{one.name}: {one.reason}" for one in discovered.containers if one.status == "stopped"]
    if not patterns:
        reasons += [f"{key} is gone" for key in lost]
    elif not reasons:
        reasons = [f"{one.name} holds no database" for one in discovered.containers]
    if not reasons:
        return None
    more = f" and {len(reasons) - 10} more" if len(reasons) > 10 else ""
    return Failure(NOTHING_SAVED, f"Nothing was backed up: {'; '.join(reasons[:10])}{more}.")
