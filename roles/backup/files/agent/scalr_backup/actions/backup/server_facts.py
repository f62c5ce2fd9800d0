# SPDX-License-Identifier: GPL-3.0-or-later
"""What a manifest has of a server beside its databases; what cannot be found out, the manifest does without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scalr_backup.core.extensions import SHARED_SETTINGS
from scalr_backup.core.model import Volume
from scalr_backup.tools.postgres.cluster import Postgres

_LIBRARIES, _DIRECTORY = "shared_preload_libraries", "data_directory"


@dataclass(frozen=True)
class ServerFacts:
    """The libraries that a server loads, its data directory, and what the server of a drill has to have in common with it."""

    libraries: str | None = None
    directory: str | None = None
    shared: Mapping[str, str] = field(default_factory=dict)


def server_facts(postgres: Postgres) -> ServerFacts:
    """What the agent's user may read of it; all in one session, each of which costs a process in the container."""
    try:
        found = postgres.readable_settings([_LIBRARIES, _DIRECTORY, *SHARED_SETTINGS])
    except Exception:  # noqa: BLE001 (the manifest of the others does without)
        return ServerFacts()
    shared = {name: value for name, value in found.items() if name in SHARED_SETTINGS}
    return ServerFacts(found.get(_LIBRARIES), found.get(_DIRECTORY), shared)


def volume_of(postgres: Postgres, directory: str | None) -> Volume | None:
    """How much room a cluster has; that it cannot be measured says nothing against its backups."""
    try:
        return postgres.volume(directory) if directory else None
    except Exception:  # noqa: BLE001
        return None
