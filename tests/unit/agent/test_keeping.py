# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the rules of retention keep what the schedule makes, and who is told that they do not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.cli import app as cli
from scalr_backup.core.config import Config, Keep
from scalr_backup.core.keeping import kept_of, notes_on_keeping
from typer.testing import CliRunner

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOURS = [NOW - timedelta(hours=back) for back in range(24, 0, -1)]
NIGHTS = {"daily": 30, "weekly": 4, "monthly": 6}
NONE = {"last": 0, "hourly": 0, "daily": 0, "weekly": 0, "monthly": 0, "yearly": 0}


def config(schedule, keep, **changes):
    keep = {**NONE, **keep}
    return Config.model_validate({"host": "h", "repository": "/r", "schedule": schedule, "keep": keep, **changes})


def notes(schedule, keep=None, **changes):
    return notes_on_keeping(config(schedule, keep or NIGHTS, **changes), NOW)


@pytest.mark.parametrize(
    ("keep", "within", "stay"),
    [
        ({"daily": 30}, "", 1),
        ({"yearly": 1}, "", 1),
        ({"hourly": 6, "daily": 30}, "", 6),
        ({"last": 3}, "", 3),
        ({"last": 3, "hourly": 5}, "", 5),
        ({"hourly": 100}, "", 24),
        ({"last": 100}, "", 24),
        ({"daily": 1}, "5h", 6),
        ({"daily": 1}, "2d", 24),
    ],
)
def test_what_the_rules_leave_of_a_day_of_hours(keep, within, stay):
    assert len(kept_of(HOURS, Keep(**{**NONE, **keep}), within)) == stay


def test_of_each_hour_the_rule_of_hours_keeps_the_last():
    quarters = [NOW - timedelta(minutes=15 * back) for back in range(8, 0, -1)]
    kept = kept_of(quarters, Keep(**{**NONE, "hourly": 2}), "")
    assert kept == {quarters[3], quarters[7]}
    assert kept_of([], Keep(), "") == set()


def test_hours_that_the_rules_of_days_throw_away_are_told():
    [note] = notes("0 * * * *")
    makes = "The schedule 0 * * * * makes 24 snapshots of each database a day, of which backup_keep keeps 1:"
    assert note.startswith(makes)
    assert "add hourly to it, such as hourly: 48, or set backup_keep_within, such as 2d." in note
    [note] = notes("* * * * *")
    assert "makes 1440 snapshots" in note


@pytest.mark.parametrize(
    ("schedule", "keep", "changes"),
    [
        ("0 3 * * *", NIGHTS, {}),
        ("0 3,15 * * *", NIGHTS, {}),
        ("0 3 * * 0", NIGHTS, {}),
        ("0 * * * *", {"hourly": 24, **NIGHTS}, {}),
        ("0 * * * *", {"hourly": 12}, {}),
        ("*/15 * * * *", {"hourly": 24}, {}),
        ("0 * * * *", {"last": 12}, {}),
        ("0 * * * *", NIGHTS, {"keep_within": "12h"}),
    ],
)
def test_rules_that_keep_what_is_made_are_none_to_speak_of(schedule, keep, changes):
    assert notes(schedule, keep, **changes) == []


@pytest.mark.parametrize("keep", [{"hourly": 11}, {"last": 11}])
def test_less_than_half_of_the_hours_is_too_little(keep):
    assert len(notes("0 * * * *", keep)) == 1


def test_the_copy_has_rules_of_its_own():
    copy = {"repository": "b2:bucket", "keep": {**NONE, **NIGHTS}}
    [note] = notes("0 * * * *", {"hourly": 48}, copy=copy)
    assert "of which backup_copy_keep keeps 1:" in note


def test_whoever_validates_a_configuration_is_told():
    document = json.dumps({"host": "h", "repository": "/r", "schedule": "0 * * * *"})
    said = CliRunner().invoke(cli.app, ["validate", "--json"], input=document)
    assert said.exit_code == 0
    told = json.loads(said.stdout.splitlines()[-1])["data"]
    assert told["valid"]
    assert len(told["notes"]) == 1
