# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about a container's roles: from the manifests of the chosen snapshots, or from another pass's.

A pass may have saved a database and not the roles: it was killed before its manifest, or ``pg_dumpall`` failed. Roles
belong to the cluster and change rarely, so those of the pass before are far better than bare names without passwords.
Row counts are not: they are true of one dump only, and never come from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scalr_backup.actions.backup.manifest import Manifests
from scalr_backup.core.model import Snapshot
from scalr_backup.core.roles import Globals, GlobalsError, parse_globals


@dataclass(frozen=True)
class KnownRoles:
    """The roles by each manifest that knows them, the newest first.

    *origin* is the manifest of another run that they come from, where no chosen one knows them; *complaints* tell of
    those that were passed over on the way.
    """

    sources: tuple[Globals, ...] = ()
    origin: Snapshot | None = None
    complaints: tuple[str, ...] = ()

    @property
    def newest(self) -> Globals:
        """The roles that the cluster had last: one that only an older manifest knows was dropped since."""
        return self.sources[0] if self.sources else Globals()

    def warnings(self, made: Sequence[str]) -> list[str]:
        """What the operator should know of them before the roles *made* are."""
        if self.origin is None or not made:
            return list(self.complaints)
        return [
            *self.complaints,
            f"The roles come from another pass, of {self.origin.time:%Y-%m-%d %H:%M} UTC (run {self.origin.run}): no "
            "manifest of the chosen snapshots has them.",
        ]


def known_roles(manifests: Manifests, container: str, snapshots: Sequence[Snapshot]) -> KnownRoles:
    """What the manifests know of the roles of a container, for these of its snapshots.

    Raises UnreadableManifestError or GlobalsError when a manifest of the chosen snapshots cannot be read.
    """
    newest_first = sorted(snapshots, key=lambda one: one.time, reverse=True)
    scripts = [manifests.cluster(one).get("globals") for one in newest_first]
    if own := [parse_globals(script) for script in dict.fromkeys(scripts) if script]:
        return KnownRoles(tuple(own))
    complaints: list[str] = []
    for manifest, cluster in manifests.others(container, snapshots, complaints):
        if script := cluster.get("globals"):
            try:
                return KnownRoles((parse_globals(script),), manifest, tuple(complaints))
            except GlobalsError as error:
                complaints.append(f"The run {manifest.run}: {error.message}")
    return KnownRoles(complaints=tuple(complaints))
