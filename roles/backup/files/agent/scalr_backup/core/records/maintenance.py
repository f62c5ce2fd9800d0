# SPDX-License-Identifier: GPL-3.0-or-later
"""What the maintenance of a repository came to: what was read, what stays, and what was seen in it."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from scalr_backup.core.records.failures import FailureRecord
from scalr_backup.core.records.reading import Moment


class RotationRecord(TypedDict):
    """Which part of a repository's data was read when, by its number, and which of them are damaged."""

    parts: int
    since: Moment
    read: dict[str, Moment]
    damaged: NotRequired[list[int]]


class KeptCount(TypedDict):
    """How many snapshots of a database stay, and how many of them for which reason."""

    snapshots: int
    why: dict[str, int]


class MaintenanceFacts(TypedDict, total=False):
    """What a check, a forget or a prune reports besides how it ended."""

    run: str
    rotation: RotationRecord
    removed: int
    kept: dict[str, KeptCount]


class MaintenanceOutcome(MaintenanceFacts):
    """How one ended."""

    time: Moment
    ok: bool
    error: FailureRecord | None
    seconds: NotRequired[float]
    repository: str


class MaintenanceRecord(MaintenanceOutcome):
    """How the last one ended, and when a good one last did."""

    last_success: NotRequired[Moment | None]


class SeenRecord(TypedDict):
    """Which snapshots of somebody were seen at the last look at them; *going* are those that a run has since begun to remove."""

    time: Moment
    ids: list[str]
    going: NotRequired[list[str]]
