# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent remembers of its nights, and how the verb tells it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from scalr_backup.cli import app as cli
from scalr_backup.cli import wiring
from scalr_backup.core.config import parse_config
from scalr_backup.core.model import DatabaseBackup, Failure
from scalr_backup.core.records.history_days import thinned
from scalr_backup.tools import history
from scalr_backup.tools.history import KEEP
from scalr_backup.tools.state import State
from typer.testing import CliRunner

NOW = datetime(2026, 11, 22, 3, 5, tzinfo=UTC)
STARTED = (NOW - timedelta(minutes=5)).isoformat()
EVER = datetime(2000, 1, 1, tzinfo=UTC)
SHOP = DatabaseBackup("scalr-shop-db", "shop", ok=True, bytes_read=10, bytes_added=2, duration_seconds=1.5, rows=3)
LEDGER = DatabaseBackup("scalr-shop-db", "ledger", ok=False, error=Failure("dump_failed", "pg_dump said a secret"))


@pytest.fixture
def state(tmp_path):
    return State(tmp_path)


def result(run="20261122T030000Z-3f9a", finished=NOW, **changes):
    """The result of a pass, as the state is given it."""
    return {
        "run": run,
        "reason": "nightly",
        "started": (finished - timedelta(minutes=5)).isoformat(),
        "finished": finished.isoformat(),
        "failed": 0,
        "retention": {"ok": True, "removed": [], "error": None},
        "error": None,
        "copy": None,
        **changes,
    }


def drill(ok=True):
    return {
        "time": NOW.isoformat(),
        "run": "d",
        "container": "scalr-shop-db",
        "database": "shop",
        "ok": ok,
        "recovery_seconds": 4.2 if ok else None,
        "error": None if ok else {"code": "verification_failed", "message": "one row is missing"},
    }


def test_a_pass_adds_an_entry_for_each_database_and_one_for_itself(state):
    state.record_pass(result(failed=1), [SHOP, LEDGER])
    shop, ledger, whole = state.history.read(EVER)
    told = {
        "kind": "backup", "time": NOW.isoformat(), "started": STARTED, "run": "20261122T030000Z-3f9a", "reason": "nightly",
        "container": "scalr-shop-db", "database": "shop", "ok": True, "seconds": 1.5, "bytes_read": 10,
        "bytes_added": 2, "rows": 3, "error": None,
    }  # fmt: skip
    assert told.items() <= shop.items()
    assert (ledger["ok"], ledger["error"]) == (False, "dump_failed")
    assert whole == {
        "kind": "pass", "time": NOW.isoformat(), "started": STARTED, "run": "20261122T030000Z-3f9a", "reason": "nightly",
        "ok": False, "size_bytes": None, "snapshots": None, "error": None,
    }  # fmt: skip


def test_a_sentence_is_not_kept_only_its_code(state, tmp_path):
    state.record_pass(result(failed=1), [LEDGER])
    assert "secret" not in (tmp_path / "history.jsonl").read_text()


def test_the_size_of_the_repository_counts_only_when_it_was_measured_in_this_pass(state, tmp_path):
    measured = {"time": (NOW - timedelta(minutes=1)).isoformat(), "size_bytes": 4711, "snapshots": 12}
    (tmp_path / "state.json").write_text(json.dumps({"repository": measured}))
    state.record_pass(result("a"), [SHOP])
    state.record_pass(result("b", NOW + timedelta(days=1)), [SHOP])
    passes = [one for one in state.history.read(EVER) if one["kind"] == "pass"]
    assert [(one["size_bytes"], one["snapshots"]) for one in passes] == [(4711, 12), (None, None)]


def test_a_pass_that_is_recorded_again_after_its_copy_counts_once_and_as_it_ended(state):
    state.record_pass(result(), [SHOP])
    state.record_pass(result(finished=NOW + timedelta(minutes=9), copy={"ok": False}), [])
    kinds = [(one["kind"], one["ok"]) for one in state.history.read(EVER)]
    assert kinds == [("backup", True), ("pass", False)]


def test_a_pass_that_did_not_save_roles_was_not_good(state):
    state.record_pass(result(roles={"a": None, "b": {"code": "roles_not_saved", "message": "…"}}), [SHOP])
    assert [(one["kind"], one["ok"]) for one in state.history.read(EVER)] == [("backup", True), ("pass", False)]


def test_a_pass_that_could_not_begin_is_there_with_its_reason(state):
    state.record_pass(result(error={"code": "wrong_password", "message": "…"}), [])
    assert [(one["ok"], one["error"]) for one in state.history.read(EVER)] == [(False, "wrong_password")]


@pytest.mark.parametrize("ok", [True, False])
def test_a_drill_adds_an_entry(state, ok):
    state.record_drill(drill(ok))
    (entry,) = state.history.read(EVER)
    assert (entry["kind"], entry["ok"], entry["recovery_seconds"]) == ("drill", ok, 4.2 if ok else None)
    assert entry["error"] == (None if ok else "verification_failed")


def test_two_databases_whose_names_are_shown_alike_are_two(state, monkeypatch):
    """One has a byte of no known encoding in its name, and the other's name spells it out."""
    monkeypatch.setattr(history, "_GROWN", 1)
    raw, spelled = "caf\udce9", r"caf\xe9"
    for moment in hours_of(2):
        state.history.append([a_line(moment, database=raw), a_line(moment, ok=False, database=spelled)])
    assert len(state.history.read(EVER)) == 2 * HOURLY
    last = nights(state, 9)
    days = {one["database"]: one["day"] for one in state.history.read(EVER) if one["run"] not in last}
    assert {name: (day["good"], day["failed"]) for name, day in days.items()} == {
        raw: (HOURLY, 0),
        spelled: (0, HOURLY),
    }


def test_a_drill_that_an_earlier_version_could_not_try_is_none(state):
    drill = {
        "container": "c", "database": "d", "ok": False, "time": NOW.isoformat(), "run": "r", "recovery_seconds": None,
        "error": {"code": "call_refused", "message": "."},
    }  # fmt: skip
    state.record_drill(drill)
    state.record_drill({**drill, "run": "s", "error": {"code": "verification_failed", "message": "."}})
    assert [entry["run"] for entry in state.history.read(NOW)] == ["s"]


def test_only_what_is_asked_for_is_read(state):
    state.record_pass(result("old", NOW - timedelta(days=9)), [SHOP])
    state.record_pass(result("new"), [SHOP])
    assert {one["run"] for one in state.history.read(NOW - timedelta(days=2))} == {"new"}


def test_a_line_that_a_power_cut_has_torn_costs_itself_only(state, tmp_path):
    state.record_pass(result("a"), [SHOP])
    file = tmp_path / "history.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    state.record_drill(drill())
    assert [one["kind"] for one in state.history.read(EVER)] == ["backup", "drill"]


@pytest.mark.parametrize("junk", ["null", "[1]", '{"kind": "pass"}', '{"kind": "pass", "time": 5}', "\x00\xff", ""])
def test_what_is_no_entry_is_passed_over(state, tmp_path, junk):
    (tmp_path / "history.jsonl").write_bytes(junk.encode("latin-1") + b"\n")
    state.record_drill(drill())
    assert [one["kind"] for one in state.history.read(EVER)] == ["drill"]


def nights(state, days, last=NOW):
    """A pass a night, the last one at that moment; their runs."""
    moments = [last - timedelta(days=day) for day in reversed(range(days))]
    for at in moments:
        state.record_pass(result(f"{at:%Y%m%d}", at), [SHOP])
    return {f"{at:%Y%m%d}" for at in moments}


def runs(state):
    return {one["run"] for one in state.history.read(EVER)}


def test_what_is_older_than_it_is_kept_goes_and_not_with_every_pass(state, tmp_path):
    file = tmp_path / "history.jsonl"
    state.record_pass(result("first", NOW - KEEP - timedelta(days=37)), [SHOP])
    later = nights(state, 20)
    assert "first" in file.read_text()
    later |= nights(state, 2, NOW + timedelta(days=2))
    assert runs(state) == later
    assert not file.with_suffix(".new").exists()


AHEAD = datetime(2038, 1, 1, 3, 5, tzinfo=UTC)


@pytest.mark.parametrize("grown", [1, 1 << 20])
@pytest.mark.parametrize("leap", [AHEAD, NOW + KEEP + timedelta(days=60)])
@pytest.mark.parametrize("days", [1, 8])
def test_a_clock_that_is_ahead_for_some_nights_takes_nothing(state, monkeypatch, grown, leap, days):
    """Nor do the lines of those nights, once the clock is right again."""
    monkeypatch.setattr(history, "_GROWN", grown)
    told = nights(state, 90)
    told |= nights(state, days, leap)
    state.record_drill({**drill(), "time": leap.isoformat()})
    told |= nights(state, 10, NOW + timedelta(days=10))
    assert runs(state) == told | {"d"}


@pytest.mark.parametrize("grown", [1, 1 << 20])
def test_a_clock_that_is_set_back_takes_nothing(state, monkeypatch, grown):
    monkeypatch.setattr(history, "_GROWN", grown)
    told = nights(state, 90)
    told |= nights(state, 20, datetime(2000, 2, 1, tzinfo=UTC))
    assert runs(state) == told


def test_what_a_clock_that_was_ahead_has_left_keeps_nothing_else(state, monkeypatch):
    monkeypatch.setattr(history, "_GROWN", 1)
    told = nights(state, 3, AHEAD)
    nights(state, 3, NOW - KEEP - timedelta(days=10))
    told |= nights(state, 9)
    assert runs(state) == told


HOURLY = 24
TOKYO = ZoneInfo("Asia/Tokyo")


def a_line(moment, ok=True, database="shop", **changes):
    """What a pass at that moment has left of one database."""
    return {
        "kind": "backup", "time": moment.isoformat(), "started": moment.isoformat(), "run": f"r{moment:%j%H%M}",
        "reason": "nightly", "container": "c", "database": database, "ok": ok, "seconds": 1.0, "bytes_read": 100 if ok else 7,
        "bytes_added": 10 if ok else 0, "bytes_stored": 4 if ok else 0, "rows": 3, "error": None if ok else "dump_failed",
        **changes,
    }  # fmt: skip


def a_pass(moment, error=None, **changes):
    return {
        "kind": "pass", "time": moment.isoformat(), "started": moment.isoformat(), "run": f"r{moment:%j%H%M}",
        "reason": "nightly", "ok": error is None, "size_bytes": None, "snapshots": None, "error": error, **changes,
    }  # fmt: skip


def hours_of(day):
    return [datetime(2026, 11, day, hour, tzinfo=UTC) for hour in range(HOURLY)]


def test_of_a_day_long_past_a_line_for_each_database_stays_with_what_all_came_to():
    lines = [line for moment in hours_of(2) for line in (a_line(moment, ok=moment.hour not in {3, 23}), a_pass(moment))]
    shop, whole = thinned(lines, date(2026, 11, 3))
    assert shop["time"] == "2026-11-02T22:00:00+00:00"
    assert (shop["ok"], shop["bytes_read"]) == (True, 100)
    assert shop["day"] == {
        "good": 22, "failed": 2, "bytes_read": 2200, "bytes_added": 220, "bytes_stored": 88, "error": "dump_failed",
    }  # fmt: skip
    assert whole["day"] == {"good": 24, "failed": 0, "error": None}
    assert list(thinned(lines, date(2026, 11, 2))) == lines


def test_a_day_is_one_of_the_zone_that_passes_are_scheduled_in():
    """Of a day in Tokyo on which everything failed from 15:00 on, no failure is told of the day after."""
    begin = datetime(2026, 11, 2, tzinfo=TOKYO)
    moments = [(begin + timedelta(hours=hour)).astimezone(UTC) for hour in range(3 * HOURLY)]
    lines = [a_line(at, ok=not begin + timedelta(hours=15) <= at < begin + timedelta(hours=24)) for at in moments]
    kept = list(thinned(lines, date(2026, 11, 5), TOKYO))
    dates = [datetime.fromisoformat(one["started"]).astimezone(TOKYO).date().day for one in kept]
    assert [(day, one["day"]["good"], one["day"]["failed"]) for day, one in zip(dates, kept, strict=True)] == [
        (2, 15, 9), (3, 24, 0), (4, 24, 0),
    ]  # fmt: skip


def test_a_pass_that_ends_after_midnight_is_of_the_day_on_which_it_began():
    lines = [a_line(moment + timedelta(minutes=90), started=moment.isoformat()) for moment in hours_of(2)]
    assert [one["day"]["good"] for one in thinned(lines, date(2026, 11, 3))] == [24]


def test_the_passes_zone_is_the_one_that_thins_and_a_drill_thins_nothing(state, monkeypatch):
    monkeypatch.setattr(history, "_GROWN", 1)
    moments = [datetime(2026, 10, 1, hour, tzinfo=UTC) for hour in range(HOURLY)]
    state.history.append([a_line(moment) for moment in moments], zone=None)
    for day in range(9):
        state.record_drill({**drill(), "run": f"d{day}", "time": (NOW - timedelta(days=day)).isoformat()})
    assert len(state.history.read(EVER)) == HOURLY + 9
    state.record_pass(result(), [], zone=TOKYO)
    days = [one["day"]["good"] for one in state.history.read(EVER) if one.get("day")]
    assert days == [15, 9]


def test_a_clock_that_leaps_ahead_thins_nothing_of_the_last_week(state, monkeypatch):
    monkeypatch.setattr(history, "_GROWN", 1)
    moments = [NOW - timedelta(hours=hour) for hour in reversed(range(7 * HOURLY))]
    state.history.append([a_line(moment) for moment in moments])
    state.history.append([a_line(AHEAD)])
    assert len(state.history.read(EVER)) == 7 * HOURLY + 1


def test_a_dump_that_had_to_be_all_new_is_in_no_sum():
    lines = [a_line(moment, anew="order" if moment.hour == 0 else None) for moment in hours_of(2)]
    kept = [one for one in thinned(lines, date(2026, 11, 3)) if one["kind"] == "backup"]
    assert [(one.get("anew"), one.get("day", {}).get("good")) for one in kept] == [("order", None), (None, 23)]


def test_what_stands_for_a_day_already_is_counted_as_it_is():
    lines = [a_line(moment) for moment in hours_of(2)]
    (once,) = thinned(lines[:20], date(2026, 11, 3))
    (twice,) = thinned([once, *lines[20:]], date(2026, 11, 3))
    (whole,) = thinned(lines, date(2026, 11, 3))
    assert twice == whole


def test_nights_and_drills_stay_as_they_are():
    nights = [line for day in range(2, 9) for line in (a_line(hours_of(day)[3]), a_pass(hours_of(day)[3]))]
    by_hand = [a_line(hours_of(9)[hour], run=f"m{hour}", reason="manual") for hour in (9, 10)]
    drills = [{**drill(), "kind": "drill", "error": None, "run": f"d{number}"} for number in range(9)]
    lines = [*nights, *by_hand, *drills]
    assert list(thinned(lines, date(2026, 12, 1))) == lines


def test_a_pass_that_was_recorded_again_counts_once_in_its_day():
    lines = [line for moment in hours_of(2) for line in (a_pass(moment), a_pass(moment, size_bytes=moment.hour))]
    (whole,) = thinned(lines, date(2026, 11, 3))
    assert (whole["size_bytes"], whole["day"]["good"]) == (23, 24)


def test_the_last_size_that_is_known_stays_and_the_last_reason_of_a_failure():
    lines = [a_pass(moment, "wrong_password" if moment.hour > 20 else None) for moment in hours_of(2)]
    lines[20]["size_bytes"] = 4711
    (whole,) = thinned(lines, date(2026, 11, 3))
    assert (whole["size_bytes"], whole["day"]) == (4711, {"good": 21, "failed": 3, "error": "wrong_password"})


def test_a_dump_that_had_to_be_all_new_is_in_no_sum_of_a_day():
    lines = [a_line(moment, bytes_added=10, anew="first" if moment.hour == 0 else None) for moment in hours_of(2)]
    first, rest = thinned(lines, date(2026, 11, 3))
    assert first == lines[0]
    assert (rest["day"]["good"], rest["day"]["bytes_added"]) == (23, 230)


def test_a_year_of_hourly_passes_stays_small(state, tmp_path, monkeypatch):
    """What is past has a line a day for each database; of the last week, and what has not grown enough yet, all is there."""
    monkeypatch.setattr(history, "_GROWN", 1 << 16)
    names = [f"db{number}" for number in range(4)]
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for day in range(40):
        moments = [begin + timedelta(days=day, hours=hour) for hour in range(HOURLY)]
        state.history.append(
            [line for at in moments for line in (*(a_line(at, database=one) for one in names), a_pass(at))]
        )
    entries = state.history.read(EVER)
    by_day = Counter(entry["time"][:10] for entry in entries)
    assert set(by_day.values()) == {len(names) + 1, HOURLY * (len(names) + 1)}
    whole = [day for day, lines in by_day.items() if lines > len(names) + 1]
    assert max(by_day) in whole
    assert 8 <= len(whole) <= 8 + 4
    assert (tmp_path / "history.jsonl").stat().st_size < 600_000
    assert (
        sum(entry.get("day", {"good": 1})["good"] for entry in entries if entry["kind"] == "backup") == 40 * HOURLY * 4
    )


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """The verb, on a host whose agent has one night behind it."""
    (tmp_path / "config.json").write_text(json.dumps({"host": "web1", "repository": "/repository"}))
    monkeypatch.setattr("scalr_backup.core.config.CONFIG_FILE", tmp_path / "config.json")
    monkeypatch.setattr("scalr_backup.tools.state.STATE_DIRECTORY", tmp_path)
    monkeypatch.setattr(wiring, "load_config", lambda: parse_config((tmp_path / "config.json").read_text(), "it"))
    return lambda *arguments: CliRunner().invoke(cli.app, ["history", *arguments])


def test_the_verb_tells_it_to_programs_and_to_people(agent, tmp_path):
    yesterday = datetime.now(UTC) - timedelta(days=1)
    State(tmp_path).record_pass(result(finished=yesterday, failed=1), [replace(SHOP, database="caf\udce9"), LEDGER])
    told = json.loads(agent("--days", "2", "--json").stdout.splitlines()[-1])
    assert (told["data"]["host"], told["data"]["timezone"]) == ("web1", "UTC")
    assert [one["kind"] for one in told["data"]["entries"]] == ["backup", "backup", "pass"]
    assert told["data"]["entries"][0]["database"] == r"caf\xe9"
    shown = agent("--days", "2").stdout
    assert "FAILED: dump_failed" in shown
    assert "1.5 s" in shown


def test_the_table_says_how_many_passes_of_a_day_were_good(agent, tmp_path):
    day = {"good": 23, "failed": 1, "bytes_read": 9, "bytes_added": 9, "bytes_stored": 9, "error": "dump_failed"}
    moment = datetime.now(UTC) - timedelta(days=9)
    State(tmp_path).history.append(
        [a_line(moment, day=day), a_pass(moment, day={"good": 24, "failed": 0, "error": None})]
    )
    shown = agent("--days", "30").stdout
    assert "23 of 24 ok, FAILED: dump_failed" in " ".join(shown.split())
    assert "24 of 24 ok" in shown


def test_the_verb_says_how_many_passes_were_due_since_the_schedule_is_what_it_is(agent, tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"host": "web1", "repository": "/repository", "schedule": "0 * * * *"})
    )
    since = (datetime.now(UTC) - timedelta(days=3)).replace(hour=12)
    State(tmp_path).put(schedule={"cron": "0 * * * *", "since": since.isoformat(), "before": "0 3 * * *"})
    told = json.loads(agent("--days", "30", "--json").stdout.splitlines()[-1])["data"]
    whole = [(since + timedelta(days=day)).date().isoformat() for day in (1, 2)]
    assert [told["due_days"][day] for day in whole] == [24, 24]
    assert min(told["due_days"]) == whole[0]
    assert 46 <= len(told["due_lately"]) <= 48


def test_a_history_without_anything_says_so(agent):
    assert "Nothing is recorded since" in agent().stdout


@pytest.mark.parametrize("days", ["0", "401", "-3"])
def test_days_that_make_no_sense_are_refused(agent, days):
    refused = agent(f"--days={days}", "--json")
    assert refused.exit_code == 2
    assert json.loads(refused.stdout)["error"]["message"] == f"--days must be a number from 1 to 400, not {days}."
