# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.core.config import Config
from scalr_backup.core.schedule import lateness, missed, next_pass, previous_pass

MINUTE = timedelta(minutes=1)


def config(schedule="0 3 * * *", timezone="Europe/Paris", host="h", spread_minutes=0):
    return Config(host=host, repository="/r", schedule=schedule, timezone=timezone, spread_minutes=spread_minutes)


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def passes(settings, start, end):
    """Every pass that a server would run between two moments."""
    moment, found = start, []
    while (moment := next_pass(settings, moment)) < end:
        found.append(moment)
    return found


def test_three_o_clock_in_utc():
    assert next_pass(config(timezone="UTC"), utc("2026-11-22T02:59:59")) == utc("2026-11-22T03:00")
    assert next_pass(config(timezone="UTC"), utc("2026-11-22T03:00:01")) == utc("2026-11-23T03:00")


@pytest.mark.parametrize("schedule", ["0 3 * * *", "30 2 * * *", "0 2 * * *", "59 1 * * *"])
@pytest.mark.parametrize("change", ["2026-03-29", "2026-10-25"])
def test_one_pass_a_night_over_both_clock_changes(schedule, change):
    start = utc(f"{change}T12:00") - timedelta(days=2)
    found = passes(config(schedule), start, start + timedelta(days=4))
    assert len(found) == 4
    assert all(
        timedelta(hours=22) <= later - earlier <= timedelta(hours=26) for earlier, later in itertools.pairwise(found)
    )


def test_three_o_clock_in_paris_over_both_clock_changes():
    spring = passes(config(), utc("2026-03-27T12:00"), utc("2026-03-30T12:00"))
    assert spring == [utc("2026-03-28T02:00"), utc("2026-03-29T01:00"), utc("2026-03-30T01:00")]
    autumn = passes(config(), utc("2026-10-23T12:00"), utc("2026-10-26T12:00"))
    assert autumn == [utc("2026-10-24T01:00"), utc("2026-10-25T02:00"), utc("2026-10-26T02:00")]


@pytest.mark.parametrize("schedule", ["0 3 * * *", "30 2 * * *", "*/20 * * * *", "15 */6 * * *"])
@pytest.mark.parametrize("change", ["2026-03-29", "2026-10-25"])
def test_next_is_later_and_previous_is_earlier_at_every_minute(schedule, change):
    moment, settings = utc(f"{change}T00:00") - timedelta(hours=2), config(schedule)
    for _number in range(7 * 60):
        assert previous_pass(settings, moment) < moment < next_pass(settings, moment)
        moment += MINUTE


def test_a_pass_that_nobody_began_was_missed():
    installed = utc("2026-11-01T12:00")
    before = utc("2026-11-21T02:00:05")  # 03:00:05 in Paris
    assert not missed(config(), utc("2026-11-21T10:00"), before, installed)
    assert not missed(config(), utc("2026-11-22T01:59"), before, installed)
    assert missed(config(), utc("2026-11-22T02:00:01"), before, installed)
    assert missed(config(), utc("2026-11-25T10:00"), before, installed)


def test_an_agent_that_started_in_the_second_of_the_pass_still_runs_it():
    installed, before = utc("2026-11-01T12:00"), utc("2026-11-21T02:00:05")
    now = utc("2026-11-22T02:00:00.3")
    assert missed(config(), now, before, installed)


def test_nothing_was_missed_before_the_installation():
    installed = utc("2026-11-22T12:00")
    assert not missed(config(), utc("2026-11-22T13:00"), None, installed)
    assert missed(config(), utc("2026-11-23T13:00"), None, installed)


@pytest.mark.parametrize("change", ["2026-03-29", "2026-10-25"])
def test_a_pass_that_ran_is_not_missed_over_the_clock_changes(change):
    settings, installed = config("30 2 * * *"), utc("2026-01-01T00:00")
    started = passes(settings, utc(f"{change}T00:00") - timedelta(hours=2), utc(f"{change}T12:00"))[-1]
    for minutes in range(1, 12 * 60, 7):
        assert not missed(settings, started + minutes * MINUTE, started + timedelta(seconds=2), installed)


def test_without_a_spread_every_host_begins_at_the_scheduled_moment():
    assert {lateness(config(host=f"web{number}")) for number in range(40)} == {timedelta()}


def test_forty_hosts_are_spread_over_half_an_hour_and_each_keeps_its_moment():
    hosts = [config(timezone="UTC", host=f"web{number}", spread_minutes=30) for number in range(40)]
    nights = [[next_pass(host, utc(f"2026-11-{day}T12:00")) for host in hosts] for day in (21, 22)]

    assert all(utc("2026-11-22T03:00") <= moment < utc("2026-11-22T03:30") for moment in nights[0])
    assert [moment + timedelta(days=1) for moment in nights[0]] == nights[1]
    # Ten minutes of the thirty would have 13 of 40, if they were spread evenly.
    thirds = [(moment - utc("2026-11-22T03:00")) // timedelta(minutes=10) for moment in nights[0]]
    assert all(7 <= thirds.count(third) <= 20 for third in range(3))
    assert len(set(nights[0])) > 35


def test_the_moment_of_a_host_is_the_same_for_ever():
    # It would be no use if an upgrade moved every host to another moment of the night.
    assert lateness(config(host="web1", spread_minutes=30)) == timedelta(minutes=17, seconds=26)


@pytest.mark.parametrize("schedule", ["0 3 * * *", "30 2 * * *", "*/20 * * * *"])
@pytest.mark.parametrize("change", ["2026-03-29", "2026-10-25"])
def test_next_is_later_and_previous_is_earlier_for_a_host_that_begins_late(schedule, change):
    moment, settings = utc(f"{change}T00:00") - timedelta(hours=2), config(schedule, spread_minutes=720)
    for _number in range(7 * 60):
        assert previous_pass(settings, moment) < moment < next_pass(settings, moment)
        moment += MINUTE


def test_what_is_missed_is_the_hosts_own_moment():
    late = config(timezone="UTC", host="web1", spread_minutes=30)
    installed, last_night = utc("2026-11-01T12:00"), utc("2026-11-21T03:00") + lateness(late)
    due = utc("2026-11-22T03:00") + lateness(late)
    assert lateness(late) > MINUTE
    assert not missed(late, due - timedelta(seconds=1), last_night, installed)
    assert missed(late, due + timedelta(seconds=1), last_night, installed)
