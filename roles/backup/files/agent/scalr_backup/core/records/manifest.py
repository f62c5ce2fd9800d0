# SPDX-License-Identifier: GPL-3.0-or-later
"""``/manifest.json`` in the repository: what a pass knew of its dumps. ``actions/backup/manifest.py`` checks what it reads."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from scalr_backup.core.records.left_out import LeftOutRowsRecord
from scalr_backup.core.records.row_order import RowOrderRecord

MANIFEST_VERSION = 1


class ManifestExtension(TypedDict):
    """An extension that a database has."""

    name: str
    version: str
    schema: NotRequired[str]


class ManifestSettings(TypedDict):
    """Settings of a database, of one role or of all."""

    role: str | None
    settings: list[str]


class ManifestDatabase(TypedDict, total=False):
    """One dump: the database as the dump's own transaction saw it, and the snapshot. Empty where nothing is known."""

    database: str
    owner: str
    encoding: str
    size_bytes: int | None
    extensions: list[ManifestExtension] | None
    public_schema: bool | None
    settings: list[ManifestSettings]
    largest_indexes: list[int] | None
    snapshot_id: str
    dump_bytes: int
    head_bytes: int
    row_counts: dict[str, int] | None
    count_error: str | None
    archive_unchecked: str | None
    left_out: list[LeftOutRowsRecord] | None
    # Which tables' rows are in the order of a key.
    row_order: RowOrderRecord | None


class ManifestLeftOut(TypedDict):
    """A database that the pass found and could not save, and why."""

    database: str
    why: str


class ManifestCluster(TypedDict, total=False):
    """One cluster: its server, its roles, and its dumps. Empty where nothing is known."""

    container: str
    image: str | None
    image_id: str | None
    server_version: str | None
    shared_preload_libraries: str | None
    # Those that decide whether what the server holds can be restored; since 0.5.0.
    settings: dict[str, str]
    globals: str | None
    # Saved or not; since 0.4.0.
    all_databases: list[str] | None
    databases: list[ManifestDatabase]
    # Databases that the pass found and cannot save; later than the first releases.
    left_out: list[ManifestLeftOut] | None


class Manifest(TypedDict):
    """The document."""

    manifest_version: int
    agent_version: str
    run: str
    host: str
    started: str
    clusters: list[ManifestCluster]
