# SPDX-License-Identifier: GPL-3.0-or-later
"""Which database a name stands for, where a restore has changed names for a moment.

A restore whose extensions check the database's name gives the live one's name to the half-made database for a moment, and
another name to the live one (``actions/restore/window.py``). A pass may look at that moment, or after a restore was killed
in it: neither name may enter its records as what it seems to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from scalr_backup.actions import leftovers
from scalr_backup.core.errors import DumpError
from scalr_backup.core.model import Cluster, is_aside
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.state import RestoreJournal, State


def under_own_names(state: State, clusters: Iterable[Cluster]) -> tuple[Cluster, ...]:
    """Clusters as they are once the names are back that restores have changed."""
    return tuple(_under_own_names(cluster, state.journals(cluster.container.name)) for cluster in clusters)


def _under_own_names(cluster: Cluster, journals: Iterable[RestoreJournal]) -> Cluster:
    own = {journal.aside: journal.database for journal in journals if journal.aside is not None}
    live = [replace(one, name=own[one.name]) for one in cluster.databases if one.name in own]
    if not live:
        return cluster
    taken = {*own, *(one.name for one in live)}
    others = [one for one in cluster.databases if one.name not in taken]
    return replace(cluster, databases=tuple(sorted([*others, *live], key=lambda one: one.name)))


class Names:
    """The names of the databases that a pass dumps."""

    def __init__(self, state: State, clusters: Sequence[Cluster]) -> None:
        self._state = state
        self._clusters = clusters
        self._journals = {one.container.name: state.journals(one.container.name) for one in clusters}
        # What there is of containers in doubt, once what dead runs left there is removed.
        self._there: dict[str, set[str]] = {}

    def work(self) -> list[tuple[Cluster, str]]:
        """What to dump. What restores have replaced and not dropped yet is not: it goes before the dumps begin."""
        return [
            (cluster, database.name)
            for cluster in self._clusters
            for database in cluster.databases
            if database.name not in self._superfluous(cluster)
        ]

    def are_in_doubt(self, cluster: Cluster) -> bool:
        """Whether a restore was at work when the names were read, or has changed some."""
        return bool(self._journals.get(cluster.container.name)) or any(is_aside(one.name) for one in cluster.databases)

    def look(self, cluster: Cluster, postgres: Postgres) -> None:
        """Read the names again; no restore is at work now."""
        self._there[cluster.container.name] = postgres.database_names()

    def is_gone(self, cluster: Cluster, database: str) -> bool:
        """Whether a name that was read is not there any more because a restore had given it away for a moment."""
        container = cluster.container.name
        if container not in self._there or database in self._there[container] or self._aside(container, database):
            return False
        return is_aside(database) or any(one.database == database for one in self._journals[container])

    def require_own(self, cluster: Cluster, database: str) -> None:
        """Refuse a name that is still not its own database's. Raises DumpError."""
        container = cluster.container.name
        if aside := self._aside(container, database):
            raise DumpError(
                f"{container}/{database} was not dumped: the live database has been named {aside} since a restore was "
                f"interrupted, and {database} may be half-made. Once the names are restored, the next backup saves it."
            )

    def _aside(self, container: str, database: str) -> str | None:
        """What a live database is called, or may be, while another one has its name."""
        noted = [one.aside for one in self._state.journals(container) if one.aside and one.database == database]
        return next((name for name in (*noted, *self._there.get(container, ())) if is_aside(name, database)), None)

    def _superfluous(self, cluster: Cluster) -> set[str | None]:
        names = {database.name for database in cluster.databases}
        return {leftovers.superfluous(journal, names) for journal in self._journals[cluster.container.name]}
