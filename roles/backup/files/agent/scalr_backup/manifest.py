# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass recorded of its dumps, read back for a restore."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from scalr_backup.errors import ResticError
from scalr_backup.model import MANIFEST_PATH, Snapshot
from scalr_backup.restic import Restic


class Manifests:
    """The manifests among a host's snapshots, each read when it is first asked for."""

    def __init__(self, restic: Restic, snapshots: Sequence[Snapshot]) -> None:
        self._restic = restic
        manifests = [one for one in snapshots if one.path == MANIFEST_PATH and one.run and not one.empty]
        claims = Counter(one.run for one in manifests)
        # A run saves one. Of two, somebody has forged one, perhaps to have a restore make roles of his own: neither counts.
        self._by_run = {one.run: one for one in manifests if claims[one.run] == 1}
        self._disputed = {run for run, count in claims.items() if count > 1}
        self._read: dict[str, dict[str, Any]] = {}

    def read(self, snapshots: Sequence[Snapshot]) -> None:
        """Read the manifests of some snapshots, which may happen while something else is done."""
        for snapshot in snapshots:
            self._document(snapshot.run)

    def is_disputed(self, snapshot: Snapshot) -> bool:
        """Whether several manifests claim to be that of a snapshot's run."""
        return snapshot.run in self._disputed

    def describe(self, snapshot: Snapshot) -> dict[str, Any]:
        """What the manifest of a snapshot's run says of its database; empty when there is no such manifest.

        A snapshot without a manifest is still a whole dump: only its rows cannot be verified against a count.
        """
        for database in self.cluster(snapshot).get("databases", []):
            if database.get("snapshot_id") in snapshot.ids:
                return dict(database)
        return {}

    def cluster(self, snapshot: Snapshot) -> dict[str, Any]:
        """What the manifest of a snapshot's run says of its cluster; of a safety snapshot, nothing is said."""
        for cluster in self._document(snapshot.run).get("clusters", []):
            if any(database.get("snapshot_id") in snapshot.ids for database in cluster.get("databases", [])):
                return dict(cluster)
        return {}

    def _document(self, run: str | None) -> dict[str, Any]:
        if run is None or run not in self._by_run:
            return {}
        if run not in self._read:
            self._read[run] = self._load(self._by_run[run])
        return self._read[run]

    def _load(self, manifest: Snapshot) -> dict[str, Any]:
        try:
            with self._restic.dump(manifest.id, MANIFEST_PATH, glance=True) as stream:
                document = json.loads(b"".join(stream.chunks()))
        except (ResticError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}
