# SPDX-License-Identifier: GPL-3.0-or-later
"""New data, night by night: what is a night like others, what is none, and when the order of rows does not pay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.core import new_data
from scalr_backup.core.growth import growth, with_size
from scalr_backup.core.model import NIGHTLY, DatabaseBackup, Failure
from scalr_backup.core.new_data import (
    JUDGED_NIGHTS,
    KEPT_NIGHTS,
    MOST_NEW,
    TRIED_AGAIN_AFTER,
    TRIED_AGAIN_DUMPS,
    NewBackup,
    after,
    last_night,
    least_new,
    order_pays,
    share_of_dump,
    turn,
)
from scalr_backup.core.units import whole_percent
from scalr_backup.tools.state import State

START = datetime(2026, 11, 1, 3, tzinfo=UTC)
DUMP = 1000
ORDERED = {"orders": DUMP}
HEAP: dict[str, int] = {}


def night(number, share, layout=ORDERED, *, hours=0, read=DUMP):
    """A backup so many nights after the first one."""
    started = START + timedelta(days=number, hours=hours)
    return NewBackup(started, read, round(share * read), round(share * read / 4), layout)


def record(*backups, before=None, first=True):
    """What is on record after some backups, the first of which is the first of all."""
    for number, backup in enumerate(backups):
        before = after(before, backup, is_first=first and number == 0)
    return before


def nights_in_order(count, share, *, start=0):
    return [night(start + number, share) for number in range(count)]


def given_up(share=0.83):
    """A database whose order of rows did not pay: the first backup, and as many nights as are judged."""
    return record(*nights_in_order(1 + JUDGED_NIGHTS, share))


def gives_up(*backups):
    """Whether order does not pay at any moment of these."""
    before = None
    for number, backup in enumerate(backups):
        before = after(before, backup, is_first=number == 0)
        if "given_up" in before:
            return True
    return False


def pays(kept, number):
    return order_pays(kept, START + timedelta(days=number)).pays


# -- which backups are a night -----------------------------------------------------------------------------


def test_a_first_backup_is_no_bad_night():
    kept = record(night(0, 1.0))
    assert [one.get("anew") for one in kept["nights"]] == ["first"]
    assert last_night(kept["nights"], START) is None


def test_one_into_another_repository_is_a_first_one_there_and_what_was_before_says_nothing_of_it():
    kept = after(None, night(0, 0.1), repository="/old")
    kept = after(kept, night(1, 0.1), repository="/old")
    kept = after(kept, night(2, 1.0), repository="s3:new")
    assert [one.get("anew") for one in kept["nights"]] == ["first"]
    kept = after(kept, night(3, 0.1), repository="s3:new")
    assert [one.get("anew") for one in kept["nights"]] == ["first", None]


def test_an_earlier_release_that_kept_no_series_leaves_no_first_backup():
    kept = after(None, night(0, 0.2, HEAP), is_first=False)
    assert [one.get("anew") for one in kept["nights"]] == [None]


@pytest.mark.parametrize(("before", "then"), [(HEAP, ORDERED), (ORDERED, HEAP), (ORDERED, {"orders by id": DUMP})])
def test_rows_in_another_order_are_no_bad_night(before, then):
    kept = record(night(0, 1.0, before), night(1, 0.1, before), night(2, 0.97, then), night(3, 0.1, then))
    assert [one.get("anew") for one in kept["nights"]] == ["first", None, "order", None]
    assert share_of_dump(last_night(kept["nights"], START + timedelta(days=2))) == 0.1


def test_a_small_table_in_another_order_changes_nothing_of_what_a_night_says():
    kept = record(night(0, 1.0, {"a": 900}), night(1, 0.9, {"a": 900, "b": 50}))
    assert [one.get("anew") for one in kept["nights"]] == ["first", None]


def test_another_order_that_costs_nothing_is_a_night_like_others():
    """As when rows go back to an order that the repository still has, or a table was dropped."""
    kept = record(night(0, 1.0), night(1, 0.1, HEAP))
    assert [one.get("anew") for one in kept["nights"]] == ["first", None]


def test_the_series_is_short():
    kept = record(*nights_in_order(40, 0.1))
    assert len(kept["nights"]) == KEPT_NIGHTS
    assert kept["nights"][-1]["time"] == (START + timedelta(days=39)).isoformat()


def ordered(relation, *key, size=1):
    """A table of a dump that is in order, as far as this is told by it."""
    return {"relation": relation, "key": list(key), "bytes": size}


def laid_out(*tables):
    return new_data.layout({"ordered": list(tables), "heap": [], "why_not": None})


def test_the_order_of_no_more_tables_is_remembered_than_can_be_large():
    kept = laid_out(*(ordered(f"public.t{number}", "id", size=number) for number in range(5000)))
    assert len(kept) == 256
    assert min(kept.values()) == 5000 - 256


def test_tables_are_told_apart_by_their_names_and_keys():
    others = [ordered('public."t\n"', "id"), ordered("public.t", "id", "x"), ordered("public.t", "id, x")]
    assert len(laid_out(ordered("public.t", "id"), *others)) == 4
    assert laid_out(ordered("public.t", "id")).keys() == laid_out(ordered("public.t", "id", size=9)).keys()
    assert new_data.layout(None) == {}


# -- a night of many dumps ---------------------------------------------------------------------------------


def test_the_passes_of_a_day_are_one_night():
    kept = record(night(0, 1.0), *(night(day, 0.05, hours=hour) for day in (1, 2) for hour in range(20)))
    assert [one["dumps"] for one in kept["nights"]] == [1, 20, 20]
    newest = last_night(kept["nights"], START + timedelta(days=2, hours=20))
    assert newest["bytes_added"] == 20 * 50
    assert share_of_dump(newest) == pytest.approx(1.0)
    assert least_new(newest) == pytest.approx(0.05)


def test_a_day_that_is_not_over_is_not_the_last_night_yet():
    kept = record(night(0, 1.0), *(night(1, 0.05, hours=hour) for hour in range(20)), night(2, 0.05))
    morning = START + timedelta(days=2)
    assert last_night(kept["nights"], morning)["dumps"] == 20
    assert last_night(kept["nights"], morning + timedelta(days=1))["dumps"] == 1, "it is over, however few there were"


def test_a_manual_backup_does_not_make_the_nights_after_it_look_unfinished():
    kept = record(night(0, 1.0), night(1, 0.1), night(2, 0.1), night(2, 0.0, hours=5), night(3, 0.3))
    assert share_of_dump(last_night(kept["nights"], START + timedelta(days=3))) == 0.3


def test_a_night_is_not_mixed_with_what_had_to_be_all_new_on_its_day():
    kept = record(night(0, 1.0), night(0, 0.1, hours=5), night(0, 0.98, HEAP, hours=6), night(0, 0.1, HEAP, hours=7))
    assert [(one.get("anew"), one["bytes_added"]) for one in kept["nights"]] == [
        ("first", 1000), (None, 100), ("order", 980), (None, 100),
    ]  # fmt: skip


# -- whether order pays ------------------------------------------------------------------------------------


def test_nothing_is_held_against_order_before_it_was_tried():
    assert order_pays(None, START).pays
    assert order_pays(record(night(0, 1.0)), START).pays
    assert order_pays(None, START).why == ""


def test_night_after_night_of_new_data_ends_it():
    kept = given_up()
    verdict = order_pays(kept, START + timedelta(days=6))
    assert not verdict.pays
    assert verdict.since == START + timedelta(days=5)
    assert verdict.why == (
        "auto gave up on 2026-11-06: 83 % of each dump was new although its rows were in order, so they are dumped in "
        "heap order; order is tried again after 2026-12-06"
    )


def test_it_is_asked_by_the_names_of_container_and_database():
    why = new_data.OrderHistory({"scalr-shop-db/shop": given_up()}, START + timedelta(days=6)).why_not
    assert why("scalr-shop-db", "shop").startswith("auto gave up on 2026-11-06: 83 %")
    assert why("scalr-shop-db", "blog") is None


def test_a_night_less_does_not():
    assert pays(record(*nights_in_order(JUDGED_NIGHTS, 0.83)), 9), "the first backup is none of them"


def test_neither_does_the_share_itself_nor_one_good_night_among_them():
    assert not gives_up(*nights_in_order(20, MOST_NEW))
    assert gives_up(*nights_in_order(20, MOST_NEW + 0.01))
    shares = [1.0, 0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9]
    assert not gives_up(*(night(number, share) for number, share in enumerate(shares)))


def test_heap_order_is_not_judged_by_it():
    assert not gives_up(*(night(number, 0.95, HEAP) for number in range(20)))


def test_nights_that_heap_order_lies_between_are_no_nights_on_end():
    """As when somebody had it off for a while."""
    shares = [(1.0, ORDERED), *[(0.9, ORDERED)] * 3, *[(0.9, HEAP)] * 3, *[(0.9, ORDERED)] * 4]
    assert not gives_up(*(night(number, *one) for number, one in enumerate(shares)))


@pytest.mark.parametrize("switches", [1, 3])
def test_a_switch_to_row_order_does_not_count(switches):
    """However often: each makes everything new once, and says nothing of the nights after it."""
    backups = [night(number, 0.6, HEAP) for number in range(2)]
    for number in range(switches):
        backups += [night(2 + 2 * number, 1.0), night(3 + 2 * number, 1.0, HEAP)]
    backups += nights_in_order(JUDGED_NIGHTS, 0.9, start=20)
    assert pays(record(*backups), 30), "the first of them is a switch itself"
    assert not pays(record(*backups, night(25, 0.9)), 30)


def test_five_passes_of_a_day_are_not_five_nights():
    kept = record(night(0, 1.0), *(night(1, 0.9, hours=hour) for hour in range(12)))
    assert pays(kept, 2)
    kept = record(*(night(day, 0.9, hours=hour) for day in range(2, 5) for hour in (0, 1)), before=kept, first=False)
    assert pays(kept, 5)
    assert not pays(record(night(5, 0.9), before=kept, first=False), 6)


def test_neither_are_five_of_a_day_that_switches_lie_between():
    backups = [night(0, 1.0)]
    for number in range(JUDGED_NIGHTS):
        backups += [
            night(1, 0.9, hours=4 * number), night(1, 1.0, HEAP, hours=4 * number + 1), night(1, 1.0, hours=4 * number + 2),
        ]  # fmt: skip
    assert not gives_up(*backups)


def test_what_is_not_in_order_is_not_held_against_what_is():
    """Half of the dump is a table that nobody can order, and always new: nothing is known of the other half."""
    half = {"orders": DUMP // 2}
    assert not gives_up(*(night(number, 0.75, half) for number in range(20)))
    assert gives_up(*(night(number, 0.95, half) for number in range(6)))


def test_a_night_of_the_plain_dump_between_ordered_ones_does_not_begin_the_count_anew():
    shares = [(1.0, ORDERED), *[(0.9, ORDERED)] * 3, (1.0, HEAP), (1.0, ORDERED), *[(0.9, ORDERED)] * 2]
    assert not pays(record(*(night(number, *one) for number, one in enumerate(shares))), 9)


# -- and again ---------------------------------------------------------------------------------------------


def heap_nights(kept, first, count, share=0.95):
    """Nights in heap order after auto has given up; the first is a switch."""
    return record(*(night(first + number, share, HEAP) for number in range(count)), before=kept, first=False)


def test_it_is_tried_again_after_a_month_of_nights():
    days = TRIED_AGAIN_AFTER.days
    kept = heap_nights(given_up(), 6, days)
    since = JUDGED_NIGHTS
    assert not pays(kept, since + days - 1)
    assert pays(kept, since + days)
    assert order_pays(kept, START + timedelta(days=since + days)).why == ""


def test_but_not_before_some_dumps_which_a_monthly_schedule_reaches_later():
    kept = given_up()
    for month in range(1, TRIED_AGAIN_DUMPS + 1):
        assert not pays(kept, 30 * month + 6)
        kept = after(kept, night(30 * month, 0.9, HEAP))
    assert pays(kept, 30 * TRIED_AGAIN_DUMPS + 6)


def test_a_new_try_needs_nights_of_its_own_to_fail_and_then_waits_again():
    kept = heap_nights(given_up(), 6, 30)
    kept = record(*nights_in_order(JUDGED_NIGHTS, 0.9, start=36), before=kept, first=False)
    assert "given_up" not in kept
    assert pays(kept, 41)
    kept = record(night(41, 0.9), before=kept, first=False)
    assert not pays(kept, 42)
    assert not pays(kept, 41 + 29)


def test_a_new_try_that_costs_nothing_at_first_is_not_judged_by_the_one_before():
    """As when nothing has changed since: the rows are in the repository in this order already, and the try is no switch."""
    kept = record(night(6, 0.95, HEAP), before=given_up(), first=False)
    kept = {**kept, "given_up": {**kept["given_up"], "time": START.isoformat(), "dumps": 30}}
    switched = record(night(40, 1.0), night(41, 0.9), before=kept, first=False)
    assert "given_up" not in switched, "nor one that is a switch"
    kept = record(night(40, 0.02), before=kept, first=False)
    assert "given_up" not in kept
    kept = record(*nights_in_order(JUDGED_NIGHTS - 1, 0.9, start=41), before=kept, first=False)
    assert pays(kept, 46), "the first of its nights was a good one"
    assert not pays(record(night(45, 0.9), before=kept, first=False), 46)


def test_a_try_that_pays_goes_on():
    kept = heap_nights(given_up(), 6, 30)
    kept = record(*nights_in_order(40, 0.1, start=36), before=kept, first=False)
    assert pays(kept, 80)


def test_each_turn_is_told_once():
    told, before = [], None
    backups = [*nights_in_order(6, 0.83), *(night(6 + number, 0.9, HEAP) for number in range(30)), night(36, 1.0)]
    for number, backup in enumerate(backups):
        kept = after(before, backup, is_first=number == 0)
        told += [(number, sentence)] if (sentence := turn(before, kept)) else []
        before = kept
    assert [number for number, _sentence in told] == [5, 36]
    assert told[0][1].startswith("auto gave up on 2026-11-06: 83 % of each dump was new")
    assert told[1][1] == "rows are dumped in order again, to see whether that pays off now."


@pytest.mark.parametrize(("share", "words"), [(0.0, "0 %"), (0.001, "< 1 %"), (0.834, "83 %"), (12.0, "1200 %")])
def test_shares_are_said_in_whole_percents(share, words):
    assert whole_percent(share) == words


# -- a repository ------------------------------------------------------------------------------------------


def sizes(*pairs, repository="/repository"):
    kept = None
    for hours, size in pairs:
        time = (START + timedelta(hours=hours)).isoformat()
        kept = with_size(kept, repository, {"time": time, "size_bytes": size})
    return kept


def test_a_repository_grows_by_so_much_a_night():
    found = growth(sizes((0, 1000), (24, 1400), (48, 1300), (96, 1800)))
    assert (found.since, found.bytes_a_night) == (START, 200)
    assert growth(sizes((0, 1000), (240, 400))).bytes_a_night == -60


@pytest.mark.parametrize("pairs", [(), ((0, 1000),), ((0, 1000), (5, 2000)), ((18, 1000), (22, 2000))])
def test_nothing_is_said_of_its_growth_before_a_night_is_over(pairs):
    assert growth(sizes(*pairs)) is None


def test_the_last_size_of_a_day_stays_and_no_more_days_than_are_told():
    kept = sizes((0, 1), (1, 2), *((24 * day, day) for day in range(1, 30)))
    assert len(kept["sizes"]) == KEPT_NIGHTS
    assert [one["size_bytes"] for one in sizes((0, 1), (1, 2))["sizes"]] == [2]


def test_another_repository_begins_anew():
    kept = sizes((0, 10**9), (24, 10**9))
    kept = with_size(kept, "s3:new", {"time": (START + timedelta(days=2)).isoformat(), "size_bytes": 5})
    assert (kept["repository"], len(kept["sizes"])) == ("s3:new", 1)


# -- as a pass records it ----------------------------------------------------------------------------------


def record_pass(state, number, backup, repository="/repository"):
    started = START + timedelta(days=number)
    result = {
        "run": f"r{number}", "reason": NIGHTLY, "started": started.isoformat(), "error": None, "failed": 0,
        "finished": (started + timedelta(minutes=5)).isoformat(), "retention": {"ok": True, "removed": [], "error": None},
    }  # fmt: skip
    return state.record_pass(result, [backup] if backup else [], repository)


def shop(share=0.9):
    order = {"ordered": [ordered("public.orders", "id", size=DUMP)], "heap": [], "why_not": None}
    return DatabaseBackup(
        "scalr-shop-db", "shop", ok=True, snapshot_id="aa", bytes_read=DUMP, bytes_added=round(share * DUMP),
        bytes_stored=100, row_order=order,
    )  # fmt: skip


def test_a_pass_keeps_the_series_says_the_turn_once_and_marks_the_history(tmp_path):
    state = State(tmp_path)
    told = [record_pass(state, number, shop()) for number in range(6)]
    assert [len(one) for one in told] == [0, 0, 0, 0, 0, 1]
    assert told[5][0].startswith("scalr-shop-db/shop: auto gave up on 2026-11-06: 90 % of each dump")
    kept = state.known_new_data()["scalr-shop-db/shop"]
    assert [one.get("anew") for one in kept["nights"]] == ["first", *[None] * 5]
    assert kept["repository"] == "/repository"
    lines = [one for one in state.history.read(START) if one["kind"] == "backup"]
    assert [one["anew"] for one in lines] == ["first", *[None] * 5]
    assert {one["bytes_ordered"] for one in lines} == {DUMP}


def test_a_failed_backup_says_nothing_of_new_data(tmp_path):
    state = State(tmp_path)
    record_pass(state, 0, DatabaseBackup("scalr-shop-db", "shop", ok=False, error=Failure("dump_failed", "no luck")))
    assert state.known_new_data() == {}
    record_pass(state, 1, shop(1.0))
    assert [one["anew"] for one in state.known_new_data()["scalr-shop-db/shop"]["nights"]] == ["first"]


def test_a_series_goes_with_its_database(tmp_path):
    state = State(tmp_path)
    record_pass(state, 0, shop())
    state.put(databases={})
    record_pass(state, 1, DatabaseBackup("scalr-blog-db", "blog", ok=True, bytes_read=9, bytes_added=9))
    assert set(state.known_new_data()) == {"scalr-blog-db/blog"}


def test_the_size_of_the_repository_is_kept_with_its_address(tmp_path):
    state = State(tmp_path)
    for number in range(3):
        time = (START + timedelta(days=number, minutes=4)).isoformat()
        state.put(repository={"time": time, "size_bytes": 1000 + 50 * number})
        record_pass(state, number, shop())
        # As it is recorded once more after a copy.
        record_pass(state, number, None, repository=None)
    # Not measured in this pass.
    record_pass(state, 9, shop())
    assert [one["size_bytes"] for one in state.read()["sizes"]["sizes"]] == [1000, 1050, 1100]
    assert growth(state.read()["sizes"]).bytes_a_night == 50
