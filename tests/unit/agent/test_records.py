# SPDX-License-Identifier: GPL-3.0-or-later
"""What earlier releases wrote is read, and what is damaged is said and costs nothing but itself."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_origin, get_type_hints

import pytest
from scalr_backup.actions.backup.manifest import parse_manifest
from scalr_backup.actions.health.metrics import MetricFacts, samples
from scalr_backup.actions.health.status import judge
from scalr_backup.core.config import Config
from scalr_backup.core.jobs import JOBS
from scalr_backup.core.model import NIGHTLY, DatabaseBackup
from scalr_backup.core.records.manifest import Manifest
from scalr_backup.core.records.reading import faults
from scalr_backup.core.records.state import PARTS_OF_ENTRIES, StateRecord
from scalr_backup.tools.state import State

RECORDS = Path(__file__).parent / "records"
RELEASES = sorted(path.name for path in RECORDS.iterdir() if path.is_dir())
# What has come since the newest of them.
SINCE = {
    "new_data": {
        "scalr-shop-db/shop": {
            "repository": "/repository",
            "nights": [
                {
                    "time": "2026-11-20T03:00:00+00:00", "dumps": 1, "bytes_read": 1000, "bytes_added": 830,
                    "bytes_stored": 200, "bytes_ordered": 900, "anew": "first",
                },
            ],
            "layout": {"0123456789ab": 900},
            "given_up": {"time": "2026-11-20T03:00:00+00:00", "share": 0.83, "dumps": 3},
            "tried_since": "2026-10-20T03:00:00+00:00",
        },
    },
    "heartbeat": {"failed": 3, "since": "2026-11-20T03:00:00+00:00", "error": "the heartbeat server a.test answered 404."},
    "sizes": {"repository": "/repository", "sizes": [{"time": "2026-11-20T03:00:00+00:00", "size_bytes": 4711}]},
}  # fmt: skip
NEWEST = {**json.loads((RECORDS / RELEASES[-1] / "state.json").read_text()), **SINCE}
CONFIG = Config(host="web1", repository="/repository", check_schedule="0 5 * * 0")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EVER = datetime(2000, 1, 1, tzinfo=UTC)
SHOP = "scalr-shop-db/shop"


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    """Nobody pulls the plug here, and a busy disk would be waited for thousands of times."""
    monkeypatch.setattr("os.fsync", lambda _file: None)


def state_of(directory, document) -> State:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    (directory / "state.json").write_bytes(content)
    return State(directory)


def status_of(state):
    damage = state.damage()
    document = state.read()
    return judge(CONFIG, "/repository", document, state.first_started(NOW, document), NOW, damage=damage)


def record_a_pass(state):
    state.nightly_started(NOW)
    good = DatabaseBackup("scalr-shop-db", "shop", ok=True, snapshot_id="aa", bytes_read=9, rows=1)
    result = {
        "run": "r", "reason": NIGHTLY, "started": NOW.isoformat(), "finished": (NOW + timedelta(minutes=5)).isoformat(),
        "failed": 0, "retention": {"ok": True, "removed": [], "error": None}, "error": None, "databases": [good.as_dict()],
    }  # fmt: skip
    state.record_pass(result, [good])


def ask_everything(state):
    """Whatever reads the record, reads it."""
    document = state.read()
    judged = status_of(state)
    list(
        samples(
            MetricFacts("web1", "/repository", document, judged.as_dict(), judged.health.ok, NOW, judged.first_overdue)
        )
    )
    for job in JOBS:
        job.missed(CONFIG, document, NOW - timedelta(days=9), NOW)
    state.journals(), state.kept(), state.undos(), state.look("repo-id/web1"), state.maintenance("check")
    state.forget_containers("scalr-gone-")
    return judged


# -- what earlier releases wrote ---------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_the_state_of_each_release_is_read_whole(tmp_path, release):
    written = json.loads((RECORDS / release / "state.json").read_text())
    state = state_of(tmp_path, written)
    assert state.damage() is None
    assert state.read() == written
    judged = ask_everything(state)
    known = {one["database"]: one for one in judged.databases}
    assert known["shop"]["drill"]["recovery_seconds"] == 4.2
    assert known["ledger"]["error"]["code"] == "dump_failed"
    (journal,) = state.journals()
    assert (journal.database, journal.new, journal.keep_old) == ("shop", "shop_restored_20261119t080000z-0000", True)
    assert [one.database for one in state.kept()] == ["blog"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_pass_is_recorded_beside_what_each_release_wrote(tmp_path, release):
    written = json.loads((RECORDS / release / "state.json").read_text())
    state = state_of(tmp_path, written)
    record_a_pass(state)
    assert state.damage() is None
    after = state.read()
    assert after["databases"][SHOP]["last_success"] > written["databases"][SHOP]["last_success"]
    assert after["databases"]["scalr-shop-db/ledger"] == written["databases"]["scalr-shop-db/ledger"]
    for part in ("agent_id", "first_started", "drills", "restores", "kept"):
        assert after[part] == written[part]


@pytest.mark.parametrize("release", [one for one in RELEASES if (RECORDS / one / "history.jsonl").exists()])
def test_the_history_of_each_release_is_read_whole(tmp_path, release):
    content = (RECORDS / release / "history.jsonl").read_text()
    (tmp_path / "history.jsonl").write_text(content)
    assert State(tmp_path).history.read(EVER) == [json.loads(line) for line in content.splitlines()]


@pytest.mark.parametrize("release", RELEASES)
def test_the_manifest_of_each_release_is_read_whole(release):
    content = (RECORDS / release / "manifest.json").read_bytes()
    assert not faults(Manifest, json.loads(content))
    (cluster,) = parse_manifest(content, "20261121T030000Z-0001")
    assert cluster["globals"].startswith("CREATE ROLE")
    (database,) = cluster["databases"]
    assert (database["row_counts"], database["public_schema"]) == ({"public.orders": 4711}, True)


def test_what_only_a_newer_release_knows_is_kept(tmp_path):
    newer = {**NEWEST, "new_part": [1], "clock": {**NEWEST["clock"], "source": "ntp"}}
    state = state_of(tmp_path, newer)
    record_a_pass(state)
    assert state.damage() is None
    assert (state.read()["new_part"], state.read()["clock"]["source"]) == ([1], "ntp")


def test_a_part_with_an_entry_for_each_of_several_things_is_known_as_one():
    hints = get_type_hints(StateRecord)
    assert {name for name, kind in hints.items() if get_origin(kind) is dict} == PARTS_OF_ENTRIES


# -- what is damaged ---------------------------------------------------------------------------------------


def test_a_record_that_is_not_there_is_a_new_one(tmp_path):
    assert (State(tmp_path).read(), State(tmp_path).damage()) == ({}, None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not valid JSON"),
        (json.dumps(NEWEST).encode()[:-9], "not valid JSON"),
        (b"\x00" * 4096, "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "not a JSON object"),
    ],
)
def test_a_record_beyond_reading_is_said_and_keeps_no_pass_from_its_work(tmp_path, content, why):
    state = state_of(tmp_path, content)
    record_a_pass(state)
    assert state.read()["databases"][SHOP]["ok"]
    assert (tmp_path / "state.json.damaged").read_bytes() == content
    damage = state.damage()
    assert why in damage.sentence
    assert str(tmp_path / "state.json.damaged") in damage.sentence
    assert damage.command == f"docker exec scalr-backup rm {tmp_path}/state.json.damaged"
    (tmp_path / "state.json.damaged").unlink()
    assert state.damage() is None


def test_a_place_that_cannot_be_read_is_said(tmp_path):
    (tmp_path / "state.json").mkdir()
    state = State(tmp_path)
    assert "the file cannot be read: Is a directory" in state.damage().sentence
    record_a_pass(state)
    assert state.read()["last_pass"]["run"] == "r"
    assert "cannot be read" in state.damage().sentence


def test_a_damaged_entry_costs_itself_alone(tmp_path):
    document = copy.deepcopy(NEWEST)
    document["databases"][SHOP]["last_tried"] = 5
    document["restores"]["another"] = {"run": "r"}
    document["clock"] = {"time": "yesterday", "skew_seconds": 1}
    state = state_of(tmp_path, document)
    assert set(state.read()["databases"]) == {"scalr-shop-db/ledger", "scalr-blog-db/*"}
    assert [one.new for one in state.journals()] == ["shop_restored_20261119t080000z-0000"]
    assert "clock" not in state.read()
    sentence = state.damage().sentence
    assert "databases > scalr-shop-db/shop > last_tried" in sentence
    assert "restores > another > container" in sentence
    assert json.loads((tmp_path / "state.json.damaged").read_text()) == document
    record_a_pass(state)
    assert state.read()["databases"][SHOP]["ok"]
    assert state.read()["drills"] == NEWEST["drills"]


def test_a_damaged_series_of_new_data_costs_neither_the_database_nor_the_other_series(tmp_path):
    document = copy.deepcopy(NEWEST)
    document["new_data"]["scalr-shop-db/ledger"] = {**document["new_data"][SHOP], "nights": [{"time": "yesterday"}]}
    state = state_of(tmp_path, document)
    assert set(state.known_new_data()) == {SHOP}
    assert state.known_databases() == NEWEST["databases"]
    assert "new_data > scalr-shop-db/ledger > nights > 0 > time" in state.damage().sentence


def test_the_status_says_so_until_somebody_has_looked(tmp_path):
    state = state_of(tmp_path, {**NEWEST, "clock": 5})
    (found,) = [one for one in status_of(state).findings if one.code == "record_damaged"]
    assert (found.severity, found.command) == ("warning", f"docker exec scalr-backup rm {tmp_path}/state.json.damaged")
    (tmp_path / "state.json.damaged").unlink()
    assert "record_damaged" not in {one.code for one in status_of(state).findings}


def test_a_host_whose_whole_record_is_lost_is_not_safe_before_its_next_pass(tmp_path):
    state = state_of(tmp_path, b"{")
    assert status_of(state).verdict == "not_safe"
    record_a_pass(state)
    (found,) = [one for one in status_of(state).findings if one.code == "record_damaged"]
    assert found.severity == "warning"


def test_a_record_of_a_newer_version_says_what_to_do(tmp_path):
    state = state_of(tmp_path, {**NEWEST, "version": 2})
    assert "a newer agent wrote it, so update this one" in state.damage().sentence
    assert state.read() == NEWEST


def places(document, where=()):
    """The way to each value of a document."""
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        yield (*where, key)
        if isinstance(value, dict | list):
            yield from places(value, (*where, key))


def changed(document, where, value):
    document = copy.deepcopy(document)
    inner = document
    for key in where[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    return document


GONE = object()


def places_in(part):
    inside = NEWEST[part]
    return [(part, *rest) for rest in places(inside)] if isinstance(inside, dict | list) else []


@pytest.mark.parametrize("value", [GONE, {"odd": [1]}], ids=["gone", "odd"])
@pytest.mark.parametrize("part", NEWEST)
def test_whatever_is_damaged_is_asked_without_an_error_and_recorded_anew(tmp_path, part, value):
    for where in [(part,), *places_in(part)]:
        state = state_of(tmp_path, changed(NEWEST, where, value))
        ask_everything(state)
        record_a_pass(state)
        assert state.read()["databases"][SHOP]["snapshot_id"] == "aa", where
        for file in ("state.json.damaged", "history.jsonl"):
            (tmp_path / file).unlink(missing_ok=True)
