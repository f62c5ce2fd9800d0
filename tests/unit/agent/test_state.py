# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass leaves on record, and when the next one has to make up for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.core.config import Config
from scalr_backup.core.jobs import PASS
from scalr_backup.core.model import MANUAL, NIGHTLY, WHOLE_CLUSTER, DatabaseBackup, Failure
from scalr_backup.tools.state import State

CONFIG = Config(host="web1", repository="/repository", spread_minutes=0, timezone="UTC", schedule="0 3 * * *")
INSTALLED = datetime(2026, 11, 1, tzinfo=UTC)
LAST_NIGHT = datetime(2026, 11, 21, 3, tzinfo=UTC)
TONIGHT = datetime(2026, 11, 22, 3, tzinfo=UTC)
STOPPED = {"code": "interrupted", "message": "The pass was told to stop."}
REFUSED = {"code": "wrong_password", "message": "No."}


@pytest.fixture
def state(tmp_path):
    return State(tmp_path)


def good(name):
    return DatabaseBackup(
        "shop-db", name, ok=True, snapshot_id="aa", bytes_read=9, bytes_added=9, bytes_stored=9, rows=1
    )


def bad(name, code="dump_failed"):
    return DatabaseBackup("shop-db", name, ok=False, error=Failure(code, "no luck"))


def record(state, *outcomes, run="r", reason=NIGHTLY, error=None):
    finished = (TONIGHT + timedelta(minutes=5)).isoformat()
    result = {
        "run": run, "reason": reason, "started": TONIGHT.isoformat(), "finished": finished, "error": error,
        "matches": None, "volumes": {}, "failed": 0, "retention": {"ok": True, "removed": [], "error": None},
    }  # fmt: skip
    state.record_pass(result, list(outcomes))


def begin(state, moment, *outcomes, **facts):
    state.nightly_started(moment + timedelta(seconds=2))
    if facts.pop("ends", True):
        record(state, *outcomes, **facts)


def missed(state, now):
    return PASS.missed(CONFIG, state.read(), INSTALLED, now)


@pytest.mark.parametrize("error", [None, REFUSED])
def test_a_pass_that_came_to_an_end_is_not_made_up_for(state, error):
    begin(state, LAST_NIGHT)
    begin(state, TONIGHT, error=error)
    assert not missed(state, TONIGHT + timedelta(minutes=9))


@pytest.mark.parametrize("end", [{"ends": False}, {"error": STOPPED}], ids=["killed", "told to stop"])
def test_a_pass_that_came_to_no_end_is_made_up_for_at_the_next_start_but_not_for_ever(state, end):
    begin(state, LAST_NIGHT)
    for minute in range(2):
        begin(state, TONIGHT + timedelta(minutes=minute), **end)
        assert missed(state, TONIGHT + timedelta(minutes=9))
    begin(state, TONIGHT + timedelta(minutes=2), **end)
    assert not missed(state, TONIGHT + timedelta(minutes=9))
    tomorrow = TONIGHT + timedelta(days=1)
    assert missed(state, tomorrow + timedelta(minutes=9)), "the next night is another one"
    begin(state, tomorrow, **end)
    assert missed(state, tomorrow + timedelta(minutes=9))


def test_the_very_first_pass_is_made_up_for_too(state):
    begin(state, TONIGHT, ends=False)
    assert missed(state, TONIGHT + timedelta(minutes=9))


def test_one_that_came_to_an_end_counts_again_from_there(state):
    begin(state, LAST_NIGHT, ends=False)
    begin(state, LAST_NIGHT + timedelta(minutes=1))
    begin(state, TONIGHT, ends=False)
    assert missed(state, TONIGHT + timedelta(minutes=9))
    record(state, reason=MANUAL)
    assert missed(state, TONIGHT + timedelta(minutes=9)), "a pass by hand may be one of a single database"


def test_what_a_stopped_pass_had_not_saved_is_as_it_was_before(state):
    record(state, good("shop"), bad("blog"))
    before = state.known_databases()
    record(state, bad("shop", "interrupted"), bad("blog", "interrupted"), bad("new", "interrupted"), error=STOPPED)
    assert state.known_databases() == before


def test_what_was_said_of_a_whole_cluster_is_over_when_one_of_its_databases_was_saved(state):
    record(state, bad(WHOLE_CLUSTER, "unreachable"))
    assert set(state.known_databases()) == {"shop-db/*"}
    record(state, good("shop"))
    assert set(state.known_databases()) == {"shop-db/shop"}


@pytest.mark.parametrize("names", [("*", "shop"), ("shop", "*")])
def test_a_database_may_have_the_name_that_stands_for_a_whole_cluster(state, names):
    for _night in range(2):
        record(state, *(good(name) for name in names))
        assert set(state.known_databases()) == {"shop-db/*", "shop-db/shop"}
    record(state, bad("*"), good("shop"))
    assert state.known_databases()["shop-db/*"]["ok"] is False


DAMAGE = {"relation": '"public"."events"', "table": "public.events", "index": "public.events_pkey"}


def in_order(*ordered, heap=(), why_not=None, scan="index"):
    """What a dump says of the order of its tables, as far as a damaged index is concerned."""
    return {
        "ordered": [{"relation": one, "key": ["id"], "bytes": 1, "scan": scan} for one in ordered],
        "heap": [{"relation": one, "bytes": 1, "reason": "r", "cure": None} for one in heap],
        "why_not": why_not,
    }


def damage_after(state, *dumps):
    """What is on record of a damaged index after dumps that said so of the order of their tables."""
    for facts in dumps:
        record(state, replace(good("shop"), **facts))
    return state.read()["databases"]["shop-db/shop"].get("damaged_index")


FOUND = {"damaged_index": DAMAGE, "row_order": in_order(heap=[DAMAGE["relation"]], why_not="not in order")}


class TestADamagedIndex:
    def test_is_on_record_since_it_was_found(self, state):
        found = damage_after(state, FOUND)
        assert found == {**DAMAGE, "time": (TONIGHT + timedelta(minutes=5)).isoformat()}
        assert damage_after(state, FOUND) == found

    @pytest.mark.parametrize(
        "order",
        [
            in_order(why_not="off"),
            in_order("other", heap=[DAMAGE["relation"]]),
            in_order(DAMAGE["relation"], scan="sort"),
            None,
        ],
        ids=["switched off", "left in heap order", "sorted without the index", "not told"],
    )
    def test_stays_while_nobody_reads_its_table_by_the_index(self, state, order):
        assert damage_after(state, FOUND, {"row_order": order})

    @pytest.mark.parametrize("order", [in_order(DAMAGE["relation"]), in_order()], ids=["read", "gone"])
    def test_is_over_when_its_table_was_read_by_the_index_or_is_no_large_one_any_more(self, state, order):
        assert damage_after(state, FOUND, {"row_order": order}) is None

    def test_does_not_end_by_a_dump_that_failed(self, state):
        damage_after(state, FOUND)
        record(state, bad("shop"))
        assert state.read()["databases"]["shop-db/shop"]["damaged_index"]


def test_an_installation_in_the_future_is_dated_anew(state):
    assert state.first_started(INSTALLED + timedelta(days=3650)) == INSTALLED + timedelta(days=3650)
    assert state.first_started(INSTALLED) == INSTALLED
    assert state.first_started(INSTALLED + timedelta(days=9)) == INSTALLED
