# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``discover --row-order`` answers of each database; see ``answers.py``."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from scalr_backup.core.records.failures import FailureRecord


class OrderedTableAnswer(TypedDict):
    """A table whose rows are dumped in the order of a key; *reason* is why that keeps them in place.

    *descending* is whether the newest rows come first.
    """

    table: str
    bytes: int
    key: list[str]
    descending: bool
    index: str
    scan: Literal["sort", "index"]
    reason: str


class HeapTableAnswer(TypedDict):
    """A large table whose rows are dumped as they lie, why, and what would help."""

    table: str
    bytes: int
    reason: str
    cure: str | None


class RowOrderAnswer(TypedDict):
    """Which tables of a database are dumped in which order; *why_not* is why none is, *error* why that is unknown."""

    ordered: list[OrderedTableAnswer]
    heap: list[HeapTableAnswer]
    why_not: str | None
    error: FailureRecord | None
