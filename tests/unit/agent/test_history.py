# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent remembers of its nights, and how the verb tells it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.cli import app as cli
from scalr_backup.cli import wiring
from scalr_backup.core.config import parse_config
from scalr_backup.core.model import DatabaseBackup, Failure
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


def test_what_is_older_than_it_is_kept_goes_and_not_with_every_pass(state, tmp_path):
    file = tmp_path / "history.jsonl"
    state.record_pass(result("first", NOW - KEEP - timedelta(days=29)), [SHOP])
    state.record_pass(result("second", NOW - timedelta(days=1)), [SHOP])
    assert "first" in file.read_text()
    state.record_pass(result("third", NOW + timedelta(days=2)), [SHOP])
    assert {one["run"] for one in state.history.read(EVER)} == {"second", "third"}
    assert not file.with_suffix(".new").exists()


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
    State(tmp_path).record_pass(result(finished=yesterday, failed=1), [SHOP, LEDGER])
    told = json.loads(agent("--days", "2", "--json").stdout.splitlines()[-1])
    assert (told["data"]["host"], told["data"]["timezone"]) == ("web1", "UTC")
    assert [one["kind"] for one in told["data"]["entries"]] == ["backup", "backup", "pass"]
    shown = agent("--days", "2").stdout
    assert "FAILED: dump_failed" in shown
    assert "1.5 s" in shown


def test_a_history_without_anything_says_so(agent):
    assert "Nothing is recorded since" in agent().stdout


@pytest.mark.parametrize("days", ["0", "401", "-3"])
def test_days_that_make_no_sense_are_refused(agent, days):
    refused = agent(f"--days={days}", "--json")
    assert refused.exit_code == 2
    assert json.loads(refused.stdout)["error"]["message"] == f"--days must be a number from 1 to 400, not {days}."
