# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A size, a rate, an age: said in the same words by the agent and by the collection."""

from __future__ import annotations

import pytest
from ansible_collections.scalr.backup.plugins.plugin_utils import _units as collection
from scalr_backup.core import units as agent

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
MINUTE, HOUR, DAY = 60, 3600, 86400

SIZES = [
    (None, "\N{EN DASH}"),
    (0, "0 B"),
    (0.4, "0 B"),
    (1, "1 B"),
    (1000, "1000 B"),
    (1023, "1023 B"),
    (1023.7, "1.0 KiB"),
    (KIB, "1.0 KiB"),
    (1024 * KIB - 1, "1.0 MiB"),
    (1000 * MIB, "1000.0 MiB"),
    (204_010_946, "194.6 MiB"),
    (GIB - 1, "1.0 GiB"),
    (GIB, "1.0 GiB"),
    (5.5 * TIB, "5.5 TiB"),
    (5000 * TIB, "5000.0 TiB"),
    (-1, "-1 B"),
    (-3 * MIB, "-3.0 MiB"),
]
DURATIONS = [
    (None, "\N{EN DASH}"),
    (-3, "0.0 s"),
    (0, "0.0 s"),
    (0.26, "0.3 s"),
    (9.94, "9.9 s"),
    (9.96, "10 s"),
    (10, "10 s"),
    (59.9, "59 s"),
    (MINUTE, "1 min"),
    (HOUR + 5, "1 h"),
    (11549, "3 h 12 min"),
    (2 * DAY + 3 * HOUR + 59, "2 d 3 h"),
]
AGES = [
    (None, "never"),
    (-3, "0 s"),
    (0, "0 s"),
    (0.9, "0 s"),
    (9.9, "9 s"),
    (MINUTE + 1, "1 min 1 s"),
    (9 * HOUR, "9 h"),
    (DAY - 1, "23 h 59 min"),
    (DAY, "1 d"),
    (40 * DAY + 5 * HOUR, "40 d 5 h"),
]
SIDES = pytest.mark.parametrize("units", [agent, collection], ids=["agent", "collection"])


@SIDES
@pytest.mark.parametrize(("count", "words"), SIZES)
def test_a_size_has_one_decimal_of_a_binary_unit(units, count, words):
    assert units.human_bytes(count) == words


@SIDES
@pytest.mark.parametrize(("seconds", "words"), DURATIONS)
def test_a_duration_has_two_units_and_below_ten_seconds_a_decimal(units, seconds, words):
    assert units.human_duration(seconds) == words


@SIDES
@pytest.mark.parametrize(("seconds", "words"), AGES)
def test_an_age_has_two_units_and_whole_seconds(units, seconds, words):
    assert units.human_age(seconds) == words


@SIDES
def test_how_fast_and_how_long_yet(units):
    assert units.human_rate(61.04 * MIB) == "61.0 MiB/s"
    assert [units.human_time_left(seconds) for seconds in (0, 0.3, 13.4, 170, 4000)] == [
        "1 s left", "1 s left", "13 s left", "2 min 50 s left", "1 h 6 min left",
    ]  # fmt: skip
    assert [units.human_elapsed(seconds) for seconds in (7.1, 75)] == ["7 s so far", "1 min 15 s so far"]


@SIDES
def test_nothing_steers_the_terminal(units):
    assert units.printable("shop\x1b]0;evil\x07\r\u202e\nü \N{SNOWMAN}") == "shop?]0;evil????ü \N{SNOWMAN}"


# What turns the direction of writing, what is seen as nothing or as a blank, what ends a line, and what steers a terminal.
UNSEEN = [
    *range(0x20), *range(0x7F, 0xA1), 0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810),
    *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x205F, 0x2070), 0x2800, 0x3000, 0x3164, 0xD800, 0xDC80, 0xDFFF,
    0xE000, *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080), *range(0xE0100, 0xE01F0),
]  # fmt: skip


@SIDES
def test_nothing_that_a_reader_cannot_see_is_shown(units):
    shown = {code: units.printable(f"a{chr(code)}b") for code in UNSEEN}
    assert {code for code, text in shown.items() if text != "a?b"} == set()
    assert units.printable("Grüße, 数据库 данные à") == "Grüße, 数据库 данные à"


@SIDES
def test_a_number_of_things_has_its_plural(units):
    assert [units.counted(number, "table") for number in (0, 1, 2, 2000)] == [
        "0 tables",
        "1 table",
        "2 tables",
        "2,000 tables",
    ]
    assert [units.counted(number, "host has", "hosts have") for number in (1, 2)] == ["1 host has", "2 hosts have"]
