# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from scalr_backup.core.config import Config
from scalr_backup.core.schedule import (
    MANY,
    Change,
    change_of,
    due_between,
    grace,
    interval_at,
    lateness,
    missed,
    next_pass,
    overdue_at,
    previous_pass,
)

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


EVERY_MINUTE, EVERY_HOUR = frozenset(range(60)), frozenset(range(24))
# Each with the minutes and the hours that it names, and whether it goes by: what happens every so often happens in both of
# two hours that the clock shows alike, and what happens at a time of the day once.
WALL_CLOCKS = {
    "* * * * *": (EVERY_MINUTE, EVERY_HOUR, True),
    "*/20 * * * *": ({0, 20, 40}, EVERY_HOUR, True),
    "0 * * * *": ({0}, EVERY_HOUR, True),
    "0 */2 * * *": ({0}, set(range(0, 24, 2)), True),
    "*/30 1-3 * * *": ({0, 30}, {1, 2, 3}, True),
    "30 2 * * *": ({30}, {2}, False),
    "45 1 * * *": ({45}, {1}, False),
    "0 3 * * *": ({0}, {3}, False),
    "15,45 1-3 * * *": ({15, 45}, {1, 2, 3}, False),
}
# Both changes of a year, and such of an hour, of half an hour and of two.
CHANGES = [
    ("Europe/Paris", "2026-03-29"),
    ("Europe/Paris", "2026-10-25"),
    ("Europe/London", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("Antarctica/Troll", "2026-03-29"),
    ("Antarctica/Troll", "2026-10-25"),
]


def said_by_the_clock(schedule, timezone, start, end):
    """The moments of a schedule as somebody with a clock on the wall would find them, minute by minute."""
    minutes, hours, again = WALL_CLOCKS[schedule]
    found, seen = [], start.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
    moment = start
    while moment < end:
        shown = moment.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
        # Whatever a clock that is set forward leaves out is due where it goes on, and a clock that is set back is waited for.
        new = [shown] if again else [seen + (n + 1) * MINUTE for n in range((shown - seen) // MINUTE)]
        if any(one.minute in minutes and one.hour in hours for one in new):
            found.append(moment)
        seen, moment = max(seen, shown), moment + MINUTE
    return found


@pytest.mark.parametrize("schedule", WALL_CLOCKS)
@pytest.mark.parametrize(("timezone", "change"), CHANGES)
def test_forward_and_back_find_what_the_clock_on_the_wall_says(schedule, timezone, change):
    settings = config(schedule, timezone)
    start, end = utc(f"{change}T00:00") - timedelta(hours=36), utc(f"{change}T00:00") + timedelta(hours=60)
    due = said_by_the_clock(schedule, timezone, start, end)

    assert passes(settings, due[0] - MINUTE, end) == due
    moment = utc(f"{change}T00:00") - timedelta(hours=6)
    while moment < utc(f"{change}T00:00") + timedelta(hours=30):
        assert previous_pass(settings, moment) == due[bisect_left(due, moment) - 1]
        assert next_pass(settings, moment) == due[bisect_right(due, moment)]
        # In between, and at the very moments of most schedules.
        moment += timedelta(minutes=7, seconds=30)


@pytest.mark.parametrize("good", ["2026-10-25T00:59", "2026-10-25T01:05", "2026-10-25T01:29", "2026-10-25T01:31"])
def test_an_alarm_comes_no_day_later_for_a_backup_of_the_hour_that_the_clock_shows_twice(good):
    # Due at 00:30 and at 01:30 of the next night.
    overdue = overdue_at(config("30 2 * * *"), utc(good), lasts=HOUR)
    assert utc("2026-10-26T04:30") <= overdue <= utc("2026-10-26T04:31")


@pytest.mark.parametrize(
    ("timezone", "schedule", "due"),
    [
        ("Europe/Paris", "45 2 * * *", "2026-10-25T00:45"),
        ("Europe/London", "45 1 * * *", "2026-10-25T00:45"),
        ("America/New_York", "45 1 * * *", "2026-11-01T05:45"),
    ],
)
def test_a_pass_is_missed_in_the_hour_that_the_clock_shows_twice(timezone, schedule, due):
    settings, installed = config(schedule, timezone), utc("2026-01-01T00:00")
    last_night = utc(due) - timedelta(days=1)
    for minutes in range(1, 120):
        assert missed(settings, utc(due) + minutes * MINUTE, last_night, installed)


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


def may_be(schedule, good, lasts=0, **options):
    """How old a backup may become that was good at a moment, where a pass takes so many minutes."""
    settings = config(schedule, **{"timezone": "UTC", **options})
    return overdue_at(settings, utc(good), lasts=lasts * MINUTE) - utc(good)


HOUR = timedelta(hours=1)
OFFICE = "0 8-18 * * 1-5"
FRIDAY, SUNDAY, MONDAY = "2026-11-20", "2026-11-22", "2026-11-23"


@pytest.mark.parametrize(
    ("schedule", "age"),
    [
        ("0 3 * * *", 26 * HOUR),
        ("0 */6 * * *", 8 * HOUR),
        ("0 * * * *", 90 * MINUTE),
        ("*/15 * * * *", 25 * MINUTE),
        ("* * * * *", 11 * MINUTE),
        ("0 3 * * 0", 7 * 24 * HOUR + 2 * HOUR),
        ("0 3 1 * *", 30 * 24 * HOUR + 2 * HOUR),  # From a 1st of November.
    ],
)
def test_a_good_backup_may_be_as_old_as_the_schedule_says_and_some_grace(schedule, age):
    assert may_be(schedule, "2026-11-01T03:00") == age


def test_the_grace_is_half_of_the_way_to_the_nearest_pass_and_bounded():
    assert [grace(HOUR), grace(4 * HOUR), grace(24 * HOUR), grace(MINUTE)] == [
        HOUR / 2,
        2 * HOUR,
        2 * HOUR,
        10 * MINUTE,
    ]


@pytest.mark.parametrize("lasts", [0, 10, 55])
def test_how_long_a_pass_takes_changes_nothing_while_it_is_done_before_the_next(lasts):
    # It ends as late after its moment as the one before it.
    good = f"2026-11-22T10:{lasts:02}"
    assert may_be("0 * * * *", good, lasts) == 90 * MINUTE
    assert may_be("0 3 * * *", f"2026-11-22T03:{lasts:02}", lasts) == 26 * HOUR


@pytest.mark.parametrize("lasts", [61, 90, 119])
def test_a_pass_that_outlasts_the_schedule_has_its_time_as_the_next_one_begins_later(lasts):
    # From 10:00 to 11:30, and the next one from 12:00 to 13:30.
    good = utc("2026-11-22T10:00") + lasts * MINUTE
    overdue = overdue_at(config("0 * * * *", timezone="UTC"), good, lasts=lasts * MINUTE)
    assert overdue == utc("2026-11-22T12:00") + lasts * MINUTE + HOUR / 2


def test_a_pass_that_took_a_day_is_not_waited_for_a_day():
    assert may_be("0 * * * *", "2026-11-22T10:00", lasts=24 * 60) == HOUR + 6 * HOUR + HOUR / 2


def test_a_backup_by_hand_counts_as_long_as_any_other():
    assert may_be("0 3 * * *", "2026-11-22T02:59") == 26 * HOUR
    assert may_be("0 3 * * *", "2026-11-22T14:00") == 26 * HOUR
    assert may_be("0 * * * *", "2026-11-22T10:59") == 90 * MINUTE


@pytest.mark.parametrize(
    ("good", "overdue"),
    [
        (f"{FRIDAY}T09:05", f"{FRIDAY}T10:35"),
        (f"{FRIDAY}T17:05", f"{FRIDAY}T18:35"),  # The last pass of the week failed.
        (
            f"{FRIDAY}T18:05",
            f"{MONDAY}T08:35",
        ),  # The weekend is no reason for an alert, and Monday's first pass is one.
        (f"{SUNDAY}T12:00", f"{MONDAY}T09:35"),
        (f"{MONDAY}T07:59", f"{MONDAY}T09:35"),
        (f"{MONDAY}T08:05", f"{MONDAY}T09:35"),
    ],
)
def test_a_gap_that_is_meant_is_waited_for_and_no_more(good, overdue):
    assert overdue_at(config(OFFICE, timezone="UTC"), utc(good), lasts=5 * MINUTE) == utc(overdue)


@pytest.mark.parametrize("good", [f"{FRIDAY}T18:05", "2026-11-19T18:05", f"{FRIDAY}T18:00:01"])
def test_what_is_overdue_does_not_become_fresh_again_by_waiting(good):
    settings = config(OFFICE, timezone="UTC")
    earlier = overdue_at(settings, utc(good) - MINUTE)
    assert earlier <= overdue_at(settings, utc(good))


@pytest.mark.parametrize("schedule", ["0 3 * * *", "30 2 * * *", "0 * * * *", "*/20 * * * *", OFFICE])
@pytest.mark.parametrize("change", ["2026-03-29", "2026-10-25"])
@pytest.mark.parametrize("spread_minutes", [0, 45])
def test_passes_in_time_are_never_overdue_over_the_clock_changes(schedule, change, spread_minutes):
    settings = config(schedule, spread_minutes=spread_minutes)
    start = utc(f"{change}T00:00") - timedelta(days=2)
    found = passes(settings, start, start + timedelta(days=4))
    for due, after in itertools.pairwise(found):
        # A pass that took two minutes, and the next one that takes nine.
        overdue = overdue_at(settings, due + 2 * MINUTE, lasts=2 * MINUTE)
        assert after + 9 * MINUTE < overdue <= after + 2 * HOUR + 2 * MINUTE


def test_a_night_is_an_hour_shorter_or_longer_when_the_clocks_change():
    nights = {"2026-03-28T02:00": 25, "2026-10-24T01:00": 27, "2026-11-22T02:00": 26}
    assert {good: may_be("0 3 * * *", good, timezone="Europe/Paris") / HOUR for good in nights} == nights


def test_the_spread_moves_what_is_due_and_not_how_old_it_may_be():
    late = config("0 * * * *", timezone="UTC", host="web1", spread_minutes=30)
    good = utc("2026-11-22T10:00") + lateness(late)
    assert overdue_at(late, good) == good + 90 * MINUTE


def test_a_schedule_that_changes_alarms_nobody_at_once():
    """From nights to hours at half past three: the backup of the night is 12 hours old, and no hour was missed yet."""
    change = Change(utc("2026-11-22T15:30"), "0 3 * * *")
    settings, night = config("0 * * * *", timezone="UTC"), utc("2026-11-22T03:10")
    assert overdue_at(settings, night) < change.since
    assert overdue_at(settings, night, change=change) == utc("2026-11-22T17:00")
    assert overdue_at(settings, utc("2026-11-22T16:05"), change=change) == utc("2026-11-22T17:35")


def test_what_was_overdue_stays_so_whatever_becomes_of_the_schedule():
    change = Change(utc("2026-11-22T15:30"), "0 3 * * *")
    for schedule in ("0 * * * *", "0 3 * * *", "30 4 * * *"):
        assert overdue_at(config(schedule, timezone="UTC"), utc("2026-11-20T03:10"), change=change) <= change.since
    # But where weeks were meant and are still, an agent that has just learnt to judge by them does so.
    weekly = overdue_at(config("0 3 * * 0", timezone="UTC"), utc("2026-11-18T03:10"), change=change)
    assert weekly > change.since


def test_a_change_is_what_is_on_record_or_happens_now():
    now = utc("2026-11-22T12:00")
    record = {"cron": "0 * * * *", "since": "2026-11-20T12:00:00+00:00", "before": "0 3 * * *"}
    assert change_of(config("0 * * * *"), None, now) is None
    assert change_of(config("0 * * * *"), record, now) == Change(utc("2026-11-20T12:00"), "0 3 * * *")
    assert change_of(config("0 5 * * *"), record, now) == Change(now, "0 * * * *")


def test_the_interval_is_from_the_last_pass_to_the_next():
    settings = config(OFFICE, timezone="UTC")
    assert interval_at(settings, utc(f"{FRIDAY}T09:30")) == HOUR
    assert interval_at(settings, utc(f"{SUNDAY}T09:30")) == 62 * HOUR


def test_moments_between_two_are_counted_up_to_many():
    settings = config(timezone="UTC")
    assert due_between(settings, "0 * * * *", utc("2026-11-22T10:00"), utc("2026-11-22T13:00")) == 2
    assert due_between(settings, "0 * * * *", utc("2026-11-22T10:01"), utc("2026-11-22T10:59")) == 0
    assert due_between(settings, "* * * * *", utc("2026-11-22T10:00"), utc("2027-11-22T10:00")) == MANY


def test_a_run_of_the_future_makes_up_for_nothing():
    installed, ahead = utc("2026-11-01T12:00"), utc("2036-11-21T02:00")
    assert missed(config(), utc("2026-11-22T02:00:01"), ahead, installed)
    slightly = utc("2026-11-22T02:10")
    assert not missed(config(), utc("2026-11-22T02:00:01"), slightly, installed)
