# SPDX-License-Identifier: GPL-3.0-or-later
"""What is copied to the second repository when somebody has added snapshots of his own to the first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scalr_backup.actions.repository.copy import to_copy
from scalr_backup.core.model import NIGHTLY, Snapshot

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


def snapshot(name, days_ago, size=100):
    return Snapshot(name, NOW - timedelta(days=days_ago), "h", "/c/d.dump", (NIGHTLY,), size)


def test_a_snapshot_of_the_future_is_not_copied_and_does_not_end_all_copies():
    old, forged, new = snapshot("old", 2), snapshot("forged", -400), snapshot("new", 1)
    assert to_copy([old, forged, new], [old], NOW) == ["new"]
    assert to_copy([old, forged, new], [old, forged], NOW) == ["new"], "also where it is in the copy already"


def test_what_holds_nothing_is_not_copied():
    assert to_copy([snapshot("old", 2), snapshot("empty", 1, 0)], [], NOW) == ["old"]


def test_what_holds_nothing_in_the_copy_is_not_its_newest():
    assert to_copy([snapshot("old", 2), snapshot("new", 1)], [snapshot("empty", 0, 0)], NOW) == ["old", "new"]
