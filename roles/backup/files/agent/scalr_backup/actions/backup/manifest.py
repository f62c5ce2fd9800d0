# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass recorded of its dumps, read back for a restore or a drill.

A run without a manifest (it was killed, or plain restic made the snapshot) is *missing* one: its dump is complete all the
same, and only its rows cannot be verified. A manifest that exists but cannot be read is different: its content is unknown,
and a caller that needs it gets an error instead of going on as if there were none.

A manifest is data that anyone who may write to the repository may have written. It is read up to a limit, and its shape is
checked here, once.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import (
    InterruptedRunError,
    RepositoryLockedError,
    RepositoryMissingError,
    RepositoryUnreachableError,
    ResticError,
    ScalrBackupError,
    UnreadableManifestError,
    WrongPasswordError,
)
from scalr_backup.core.model import MANIFEST_PATH, PRE_RESTORE, Snapshot
from scalr_backup.core.records.manifest import MANIFEST_VERSION, ManifestCluster, ManifestDatabase
from scalr_backup.core.text import encoded
from scalr_backup.core.units import human_bytes
from scalr_backup.tools.restic.repository import Restic

# Counts of half a million tables fit. Anything larger is an attack on this host's memory.
MOST_BYTES = 32 * 1024 * 1024

# A restic that was killed, or lost its connection, may succeed the next time.
_ATTEMPTS = 3
_SECONDS_BETWEEN_ATTEMPTS = 0.5
# How many other passes' manifests are looked into for what the chosen one does not know; each costs a start of restic.
_MOST_LOOKED_INTO = 5
_MOST_COUNTED = 2**63 - 1
# What says nothing of a manifest: without its repository there is no restore at all.
_NOT_OF_THE_MANIFEST = (
    InterruptedRunError,
    RepositoryLockedError,
    RepositoryMissingError,
    RepositoryUnreachableError,
    WrongPasswordError,
)


class Manifests:
    """The manifests among a host's snapshots, each read when it is first asked for."""

    def __init__(self, restic: Restic, snapshots: Sequence[Snapshot]) -> None:
        self._restic = restic
        self._snapshots = snapshots
        manifests = [one for one in snapshots if one.path == MANIFEST_PATH and one.run and not one.empty]
        claims = Counter(one.run for one in manifests)
        self._by_run = {str(one.run): one for one in manifests}
        # A run saves one. Of two, one is forged, perhaps to make a restore create extra roles: neither counts.
        self._disputed = {run for run, count in claims.items() if count > 1}
        self._left_out: set[str | None] = set()
        self._read: dict[str, tuple[ManifestCluster, ...] | UnreadableManifestError] = {}

    def leave_out(self, snapshots: Sequence[Snapshot]) -> None:
        """From now on, take the runs of some snapshots for runs without a manifest, on the operator's word."""
        self._left_out |= {one.run for one in snapshots}

    def read(self, snapshots: Sequence[Snapshot]) -> None:
        """Read the manifests of some snapshots, which may happen while something else is done.

        Raises UnreadableManifestError.
        """
        for snapshot in snapshots:
            self._clusters(snapshot.run)

    def has(self, snapshot: Snapshot) -> bool:
        """Whether there is a manifest of a snapshot's run."""
        return snapshot.run in self._by_run and snapshot.run not in self._left_out

    def describe(self, snapshot: Snapshot) -> ManifestDatabase:
        """What the manifest of a snapshot's run says of its database; empty when there is no manifest.

        Raises UnreadableManifestError.
        """
        for database in self.cluster(snapshot).get("databases", []):
            if database["snapshot_id"] in snapshot.ids:
                return database
        return {}

    def cluster(self, snapshot: Snapshot) -> ManifestCluster:
        """What the manifest of a snapshot's run says of its cluster; of a safety snapshot, nothing is said.

        Raises UnreadableManifestError.
        """
        for cluster in self._clusters(snapshot.run):
            if any(database["snapshot_id"] in snapshot.ids for database in cluster["databases"]):
                return cluster
        return {}

    def listed(self, run: str, container: str) -> frozenset[str] | None:
        """The databases that a run found in a container, saved or not; None where its manifest does not tell.

        One that cannot be read says nothing here: choosing its snapshots and asking for more raises the error.
        """
        try:
            clusters = self._clusters(run)
        except UnreadableManifestError:
            return None
        for cluster in clusters:
            names = cluster.get("all_databases")
            if cluster["container"] == container and names is not None:
                return frozenset(names)
        return None

    def others(
        self, container: str, chosen: Sequence[Snapshot], complaints: list[str]
    ) -> Iterator[tuple[Snapshot, ManifestCluster]]:
        """What the manifests of other runs than those of the chosen snapshots say of a container's cluster.

        First those up to the newest chosen snapshot, the newest first; then the later ones, the oldest first. Here,
        one that cannot be read is passed over, and *complaints* gets its sentence.
        """
        own = {one.run for one in chosen} | self._left_out
        newest = max(one.time for one in chosen)
        now = utc_now()
        runs = {one.run for one in self._snapshots if one.container == container and one.reason != PRE_RESTORE}
        manifests = sorted(
            (
                one
                for run, one in self._by_run.items()
                if run in runs and run not in own and not one.is_from_the_future(now)
            ),
            key=lambda one: one.time,
        )
        before = [one for one in manifests if one.time <= newest]
        after = [one for one in manifests if one.time > newest]
        for manifest in [*reversed(before), *after][:_MOST_LOOKED_INTO]:
            try:
                clusters = self._clusters(manifest.run)
            except UnreadableManifestError as error:
                complaints.append(error.message)
                continue
            yield from ((manifest, cluster) for cluster in clusters if cluster["container"] == container)

    def _clusters(self, run: str | None) -> tuple[ManifestCluster, ...]:
        """What a run's manifest says of each cluster; nothing where it has none. A failure is remembered too."""
        if run is None or run not in self._by_run or run in self._left_out:
            return ()
        if run not in self._read:
            self._read[run] = self._load(run, self._by_run[run])
        found = self._read[run]
        if isinstance(found, UnreadableManifestError):
            raise found
        return found

    def _load(self, run: str, manifest: Snapshot) -> tuple[ManifestCluster, ...] | UnreadableManifestError:
        if run in self._disputed:
            return _unreadable(run, "several claim to be it, but a run saves one, so the others are forged")
        try:
            return parse_manifest(self._content(manifest), run)
        except _NOT_OF_THE_MANIFEST:
            raise
        except ScalrBackupError as error:
            return _unreadable(run, error.message.rstrip("."))
        except (ValueError, RecursionError) as error:
            return _unreadable(run, str(error) if isinstance(error, _ShapeError) else "it is not valid JSON")

    def _content(self, manifest: Snapshot) -> bytes:
        """What a manifest holds.

        Raises the ScalrBackupError of the last attempt, or ValueError for one that is too large.
        """
        attempt = 1
        while True:
            try:
                return self._read_once(manifest)
            except ResticError as error:
                # An error of a kind of its own is the same in a second, or restic itself has tried again for minutes.
                if error.code != ResticError.code or attempt == _ATTEMPTS:
                    raise
            attempt += 1
            time.sleep(_SECONDS_BETWEEN_ATTEMPTS)

    def _read_once(self, manifest: Snapshot) -> bytes:
        content = bytearray()
        with self._restic.dump(manifest.id, MANIFEST_PATH, glance=True) as stream:
            for chunk in stream.chunks():
                content += chunk
                _require(len(content) <= MOST_BYTES, f"it is larger than {human_bytes(MOST_BYTES)}")
        return bytes(content)


class _ShapeError(ValueError):
    """A manifest is JSON, and not a manifest."""


def parse_manifest(content: bytes, run: str) -> tuple[ManifestCluster, ...]:
    """The clusters of a manifest, every field of the kind that its readers take it for.

    Raises ValueError where it is not the manifest of this run.
    """
    document = json.loads(content)
    # A lone surrogate is JSON, and no text that could be sent on or shown. But those of the roles' script are bytes.
    encoded(json.dumps(document, ensure_ascii=False))
    _require(isinstance(document, dict), "it is not an object")
    version = document.get("manifest_version", MANIFEST_VERSION)
    _require(_is_count(version), "its version is not a number")
    _require(
        version <= MANIFEST_VERSION,
        f"its version is {version}, and this agent knows {MANIFEST_VERSION}: a newer agent wrote it, so update this "
        "one",
    )
    _require(document.get("run", run) == run, f"it belongs to another run, {str(document.get('run'))[:60]!r}")
    clusters = document.get("clusters")
    _require(isinstance(clusters, list), "it lists no clusters")
    for cluster in clusters:
        _require_cluster(cluster)
    return tuple(clusters)


def require_readable_size(content: bytes) -> None:
    """Refuse to save a manifest that could not be read back.

    Raises UnreadableManifestError.
    """
    if len(content) > MOST_BYTES:
        raise UnreadableManifestError(
            f"it would be {human_bytes(len(content))}, and no more than {human_bytes(MOST_BYTES)} can be read back; without "
            "row counts (backup_row_counts: false) it is far smaller."
        )


def _require_cluster(cluster: Any) -> None:
    _require(isinstance(cluster, dict), "a cluster in it is not an object")
    _require(isinstance(cluster.get("container"), str), "a cluster in it has no container")
    for name in ("image", "image_id", "server_version", "shared_preload_libraries", "globals"):
        _require(isinstance(cluster.get(name), str | None), f"the {name} of a cluster in it is not a string")
    settings = cluster.get("settings", {})
    _require(isinstance(settings, dict), "the settings of a cluster in it are not an object")
    _require(all(isinstance(one, str) for one in settings.values()), "a setting of a cluster in it is not a string")
    _require(_is_list_of(str, cluster.get("all_databases", [])), "the names of a cluster's databases are not strings")
    _require(_is_list_of(dict, cluster.get("databases")), "a cluster in it lists no databases")
    for database in cluster["databases"]:
        _require_database(database)
    left_out = cluster.get("left_out") or []
    _require(_is_list_of(dict, left_out), "what a cluster in it leaves out is not a list")
    for one in left_out:
        known = isinstance(one.get("database"), str) and isinstance(one.get("why"), str)
        _require(known, "a database that it leaves out has no name or no reason")


def _require_database(database: Mapping[str, Any]) -> None:
    _require(
        bool(database.get("snapshot_id")) and isinstance(database["snapshot_id"], str), "a database has no snapshot"
    )
    size, counts = database.get("size_bytes"), database.get("row_counts")
    _require(size is None or _is_count(size), "the size of a database in it is not a number")
    _require(
        isinstance(database.get("public_schema"), bool | None), "the public_schema of a database is not true or false"
    )
    _require(counts is None or isinstance(counts, dict), "the row counts of a database in it are not an object")
    _require(all(_is_count(count) for count in (counts or {}).values()), "a row count in it is not a number")
    left_out = database.get("left_out") or []
    _require(_is_list_of(dict, left_out), "what a database in it leaves out is not a list")
    for one in left_out:
        names = isinstance(one.get("relation"), str) and isinstance(one.get("why"), str)
        known = names and isinstance(one.get("extension"), str | None)
        counted = one.get("rows") is None or _is_count(one["rows"])
        _require(known and counted, "a relation whose rows a database leaves out is malformed")
    extensions = database.get("extensions") or []
    _require(_is_list_of(dict, extensions), "the extensions of a database in it are not a list")
    for extension in extensions:
        known = isinstance(extension.get("name"), str) and isinstance(extension.get("version"), str)
        _require(known, "an extension in it has no name or no version")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_COUNTED


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, kind) for one in value)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _ShapeError(otherwise)


def _unreadable(run: str, reason: str) -> UnreadableManifestError:
    return UnreadableManifestError(
        f"The manifest of the run {run} cannot be read: {reason}. Run this again; if it persists, restore with "
        "without_manifest=true (--without-manifest): row counts are then not verified, and roles come from another "
        "run's manifest."
    )
