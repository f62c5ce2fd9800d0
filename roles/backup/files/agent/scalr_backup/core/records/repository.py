# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``state.json`` holds of a repository: what it was measured at, and whether a prune is owed."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from scalr_backup.core.records.reading import Moment


class OwedRecord(TypedDict):
    """When a repository last came to hold data that no snapshot needs."""

    repository: str
    time: Moment


class RepositoryRecord(TypedDict):
    """What the repository was measured at: its locks and its room at *time*, what it takes up when it was *sized*."""

    time: Moment
    repository: NotRequired[str]
    sized: NotRequired[Moment]
    size_bytes: NotRequired[int | None]
    uncompressed_bytes: NotRequired[int | None]
    snapshots: NotRequired[int | None]
    locks: NotRequired[int | None]
    oldest_lock: NotRequired[Moment | None]
    free_bytes: NotRequired[int | None]
    total_bytes: NotRequired[int | None]
