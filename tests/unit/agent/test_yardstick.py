# SPDX-License-Identifier: GPL-3.0-or-later
"""What the last backup is measured against: last night's, or one of half a day ago and more where there are many."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.health.status import judge
from scalr_backup.core.config import Config
from scalr_backup.core.model import DatabaseBackup
from scalr_backup.core.yardstick import measure_anew
from scalr_backup.tools.state import State

START = datetime(2026, 11, 20, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)


def grown(rows, every, entry=None):
    """The record of a database after good backups with so many rows, one *every* so often."""
    entry = entry or {"last_success": None}
    for number, count in enumerate(rows):
        good = START + number * every
        measure_anew(entry, good)
        entry |= {"last_success": good.isoformat(), "bytes_read": 10 * count, "rows": count}
    return entry


def test_a_night_is_measured_against_the_night_before():
    entry = grown([100, 90, 80], 24 * HOUR)
    assert entry["previous"] == {"time": (START + 24 * HOUR).isoformat(), "bytes_read": 900, "rows": 90}
    assert "previous_later" not in entry
    assert "previous" not in grown([100], 24 * HOUR)


@pytest.mark.parametrize("every", [HOUR, HOUR / 4, 3 * HOUR, 6 * HOUR])
def test_an_hour_is_measured_against_what_was_half_a_day_ago_and_more(every):
    entry = {"last_success": None}
    passes = int(72 * HOUR / every)
    for number in range(passes):
        good = START + number * every
        measure_anew(entry, good)
        entry |= {"last_success": good.isoformat(), "bytes_read": 1, "rows": number}
        if number and good - START >= 12 * HOUR:
            age = good - datetime.fromisoformat(entry["previous"]["time"])
            assert 12 * HOUR - every <= age < 24 * HOUR + every


@pytest.mark.parametrize("lost_at", range(30, 56))
def test_what_is_lost_in_one_hour_is_seen_for_half_a_day(lost_at):
    seen = []
    for number in range(lost_at, lost_at + 48):
        entry = grown([100 if hour < lost_at else 10 for hour in range(number + 1)], HOUR)
        seen.append(entry["previous"]["rows"] == 100)
    assert seen[:12] == [True] * 12
    assert seen[-1] is False


def test_what_goes_little_by_little_within_hours_is_seen_too():
    rows = [1000] * 26 + [int(1000 * 0.8**hour) for hour in range(1, 7)]
    entry = grown(rows, HOUR)
    assert entry["rows"] < 0.3 * entry["previous"]["rows"]


def test_a_record_of_an_earlier_release_is_taken_on():
    entry = {
        "last_success": (START - HOUR).isoformat(), "bytes_read": 5, "rows": 5, "previous": {"bytes_read": 9, "rows": 9},
    }  # fmt: skip
    measure_anew(entry, START)
    assert entry["previous"] == {"time": (START - HOUR).isoformat(), "bytes_read": 5, "rows": 5}


def test_the_finding_says_since_when_the_database_shrank(tmp_path):
    state = State(tmp_path)
    for hour in range(4):
        good = START + hour * HOUR
        result = {
            "run": f"r{hour}", "reason": "nightly", "started": good.isoformat(), "finished": good.isoformat(), "failed": 0,
            "retention": {"ok": True, "removed": [], "error": None}, "error": None, "copy": None,
        }  # fmt: skip
        rows = 100 if hour < 2 else 10
        state.record_pass(result, [DatabaseBackup("c", "d", ok=True, bytes_read=1000, duration_seconds=1.0, rows=rows)])
    config = Config(host="web1", repository="/repository", schedule="0 * * * *")
    [finding] = judge(config, "/repository", state.read(), START, START + 3 * HOUR).findings
    # The pass of an hour ago had lost them already.
    words = "c/d shrank from 100 to 10 rows since its backup of 2026-11-20 03:00 UTC"
    assert (finding.code, finding.message.partition(":")[0] + ":00 UTC") == ("database_shrank", words)


def test_a_clock_that_was_ahead_leaves_no_measure_that_stays_for_ever():
    ahead = START + 400 * 24 * HOUR
    entry = {"last_success": ahead.isoformat(), "bytes_read": 10_000, "rows": 1000}
    entry["previous"] = {"time": ahead.isoformat(), "bytes_read": 10_000, "rows": 1000}
    entry = grown([10] * 30, HOUR, entry)
    assert entry["previous"]["rows"] == 10
