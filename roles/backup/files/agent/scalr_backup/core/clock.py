# SPDX-License-Identifier: GPL-3.0-or-later
"""The time, asked for in one place: UTC, and aware of it."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)
