# SPDX-License-Identifier: GPL-3.0-or-later
"""Logical replication slots, as plans and results name them."""

from __future__ import annotations

from typing_extensions import TypedDict


class SlotAnswer(TypedDict):
    """A logical replication slot of a database, and who reads it; null where nobody does, or who may not be seen."""

    name: str
    plugin: str | None
    active: bool
    consumer: str | None
