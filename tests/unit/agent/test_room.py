# SPDX-License-Identifier: GPL-3.0-or-later
"""How much room a restore takes, and when it gives up, in numbers."""

from __future__ import annotations

import pytest
from scalr_backup.core.room import (
    Claim,
    Gauge,
    LogSettings,
    Place,
    Survey,
    index_bytes,
    log_bytes,
    needs,
    shortage,
    sort_bytes,
)

MIB = 1024 * 1024
RESERVE = 256 * MIB


def place(directory, free=0, device="/dev/sda1", mount="/"):
    return Place(directory, device, mount, free, free)


def survey(log=None, settings=None, log_bytes=0, **tablespaces):
    tablespaces = tablespaces or {"pg_default": place("/data")}
    settings = settings or LogSettings(limit_bytes=0)
    return Survey(log or place("/data/pg_wal"), tablespaces, settings, log_bytes, 64 * MIB, 2)


# -- rows --------------------------------------------------------------------------------------------------

GROWN = [Claim(100, 10), Claim(50, 60), Claim(200, 20)]


@pytest.mark.parametrize(
    ("claims", "options", "most"),
    [
        ([], {}, 0),
        ([Claim(100)], {}, 100),
        ([Claim(100, 70)], {}, 100),
        ([Claim(100, 70)], {"keep_old": True}, 100),
        ([Claim(100, 70)], {"replace": True}, 30),
        # One that is larger than what it replaces leaves less for the next one.
        (GROWN, {}, 90 - 10 + 200),
        (GROWN, {"keep_old": True}, 350),
        (GROWN, {"replace": True}, 90 - 10 + 180),
        # One that is smaller leaves more.
        ([Claim(100, 500), Claim(100, 500)], {}, 100),
        ([Claim(100, 500)], {"replace": True}, -400),
    ],
)
def test_the_fullest_moment(claims, options, most):
    options = {"keep_old": False, "replace": False, **options}
    assert needs(claims, survey(), **options).data_bytes == most


# -- write-ahead log ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "settings", "present", "grows"),
    [
        (100, LogSettings(10_000), 0, 110),
        (100, LogSettings(10_000, checksums=True), 0, 210),
        (100_000, LogSettings(10_000), 0, 15_000),
        (100_000, LogSettings(10_000), 4_000, 11_000),
        (100_000, LogSettings(10_000), 40_000, 0),
        (100_000, LogSettings(10_000, kept_bytes=2_000), 0, 17_000),
        (100_000, LogSettings(10_000, hoards="a slot"), 4_000, 110_000),
    ],
)
def test_how_far_the_log_grows(data, settings, present, grows):
    assert log_bytes(data, settings, present) == grows


def test_all_databases_write_into_one_log():
    wanted = needs([Claim(100), Claim(100)], survey(settings=LogSettings(1000)), keep_old=False, replace=False)
    assert (wanted.data_bytes, wanted.log_bytes) == (200, 220)


# -- sorts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "jobs", "takes"),
    [
        ((), 2, 0),
        ((64, 10), 2, 0),
        ((65, 10), 2, 65),
        ((70, 90, 80), 1, 90),
        ((70, 90, 80), 2, 170),
        ((70, 90, 80), 8, 240),
        ((90,), 0, 90),
    ],
)
def test_what_is_sorted_at_once_outside_of_memory(sizes, jobs, takes):
    assert sort_bytes(sizes, jobs, 64) == takes


@pytest.mark.parametrize(
    ("described", "sizes"),
    [
        ({"largest_indexes": [5, 3]}, (5, 3)),
        # Of an earlier version's manifest, and of indexes that nobody has ever analysed.
        ({}, (20,)),
        ({"largest_indexes": [0]}, (20,)),
    ],
)
def test_the_largest_indexes_are_the_manifests_or_a_share(described, sizes):
    assert index_bytes(described, 100) == sizes


# -- volumes -----------------------------------------------------------------------------------------------


def short(claims, found, free=0):
    return shortage(claims, found, needs(claims, found, keep_old=False, replace=False), free)


def test_one_disk_mounted_twice_has_its_room_once():
    found = survey(
        log=place("/wal", 119 + RESERVE, mount="/wal"),
        settings=LogSettings(100),
        pg_default=place("/data", 209 + RESERVE, mount="/data"),
    )
    assert short([Claim(100)], found).wanted_bytes == 210 + RESERVE


def test_two_file_systems_in_memory_are_two():
    found = survey(
        log=place("/wal", 110 + RESERVE, "tmpfs", "/wal"),
        settings=LogSettings(100),
        pg_default=place("/data", 100 + RESERVE, "tmpfs", "/data"),
    )
    assert short([Claim(100)], found) is None


@pytest.mark.parametrize(("free", "is_short"), [(50 + RESERVE, False), (49 + RESERVE, True)])
def test_rows_in_tablespaces_have_the_room_of_all_their_volumes(free, is_short):
    found = survey(
        log=place("/wal", RESERVE, "/dev/wal"),
        pg_default=place("/data", 50 + RESERVE),
        fast=place("/fast", free, "/dev/fast"),
        other=place("/other", 999 * RESERVE, "/dev/other"),
    )
    lacking = short([Claim(100, tablespaces=frozenset({"pg_default", "fast"}))], found)
    assert (lacking is not None) is is_short


def test_a_database_that_lies_elsewhere_takes_nothing_of_the_data_directory():
    found = survey(
        log=place("/wal", RESERVE, "/dev/wal"), pg_default=place("/data"), fast=place("/fast", 2 * RESERVE, "/d")
    )
    assert short([Claim(100, tablespaces=frozenset({"fast"}))], found) is None
    assert short([Claim(100)], found).place.directory == "/data"


# -- while it runs -----------------------------------------------------------------------------------------


def test_a_restore_that_is_slow_may_use_all_but_the_reserve():
    gauge = Gauge(reserve_bytes=100)
    assert not gauge.is_low(0.0, 110)
    assert not gauge.is_low(10.0, 100)
    assert gauge.is_low(20.0, 99)


def test_a_restore_that_is_fast_gives_up_earlier():
    gauge = Gauge(reserve_bytes=100)
    looks = [(second / 2, 10_000 - 500 * second) for second in range(20)]
    last = next(free for now, free in looks if gauge.is_low(now, free))
    # A thousand a second, and two seconds to end it.
    assert last == 1500


def test_one_step_is_no_pace_and_what_becomes_free_is_none():
    gauge = Gauge(reserve_bytes=100)
    assert not gauge.is_low(0.0, 5000)
    assert not gauge.is_low(4.0, 3000)
    assert not gauge.is_low(6.0, 5000)
    assert not gauge.is_low(6.5, 4000)


def test_a_pace_that_is_over_is_forgotten():
    gauge = Gauge(reserve_bytes=100)
    gauge.is_low(0.0, 10_000)
    gauge.is_low(1.0, 1000)
    assert not gauge.is_low(10.0, 1000)
