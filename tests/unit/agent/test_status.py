# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.health.status import judge
from scalr_backup.cli import app as cli
from scalr_backup.cli import wiring
from scalr_backup.core.config import Config
from scalr_backup.tools.state import State
from typer.testing import CliRunner

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=100)
CONFIG = Config(host="web1", repository="/repository")


def ago(**duration):
    return (NOW - timedelta(**duration)).isoformat()


def entry(container="scalr-shop-db", database="shop", ok=True, good=9.0, tried=9.0, error=None):
    """A database whose last good backup and last try are so many hours old."""
    return {
        "container": container,
        "database": database,
        "ok": ok,
        "run": "r",
        "last_tried": ago(hours=tried),
        "last_success": None if good is None else ago(hours=good),
        "error": error and {"code": "dump_failed", "message": error},
        "snapshot_id": "aa",
        "bytes_read": 10,
        "rows": 3,
    }


def document(*entries, nightly=9.0, error=None, retention=None):
    return {
        "databases": {f"{one['container']}/{one['database']}": one for one in entries},
        "nightly_started": ago(hours=nightly),
        "last_pass": {"error": error, "retention": {"ok": retention is None, "removed": [], "error": retention}},
    }


def judged(state, first_started=LONG_AGO, config=CONFIG):
    return judge(config, "/repository", state, first_started, NOW)


def test_a_night_with_every_database_is_safe():
    status = judged(document(entry(), entry(database="ledger", good=9.5)))
    assert status.healthy
    assert status.summary == "Safe: 2 databases, the oldest good backup is 9 h 30 min old."
    assert status.next_pass == datetime(2026, 11, 23, 3, tzinfo=UTC)
    assert [one["ok"] for one in status.databases] == [True, True]
    assert status.as_dict()["problems"] == []


def test_copies_that_restores_have_kept_are_no_databases_of_the_app_and_are_shown():
    """Versions before have backed them up: what is on record of them makes no host unsafe, nor does it count."""
    name = "shop_before_restore_20261122t030000z-3f9a"
    copy = {
        "container": "scalr-shop-db",
        "database": name,
        "kept_since": ago(hours=9),
        "size_bytes": 9,
        "command": "dropdb",
    }
    state = document(entry(), entry(database=name, good=90, ok=False, error="gone"))
    state["drills"] = {f"scalr-shop-db/{name}": {"ok": False, "error": {"code": "restore_failed", "message": "."}}}
    state["matches"] = {"gone": [f"scalr-shop-db/{name}"], "stopped": [], "kept": [copy], "time": ago(hours=9)}
    status = judged(state)
    assert status.findings == ()
    assert [one["database"] for one in status.databases] == ["shop"]
    assert status.summary.startswith("Safe: 1 database,")
    assert status.as_dict()["kept_databases"] == [copy]
    assert judged(document(entry())).as_dict()["kept_databases"] == []


def test_one_failure_among_many_is_not_safe():
    failed = entry(database="ledger", ok=False, good=20, error="the dump was empty")
    status = judged(document(entry(), failed))
    assert not status.healthy
    assert status.problems == ("scalr-shop-db/ledger failed in its last pass: the dump was empty",)


def test_a_good_backup_is_too_old_after_a_night_and_two_hours():
    assert judged(document(entry(good=25.9))).healthy
    status = judged(document(entry(good=26)))
    too_old = "has no good backup younger than 1 d 2 h, although a pass was due since (schedule 0 3 * * *)"
    assert status.problems == (f"scalr-shop-db/shop {too_old}",)


def test_a_database_that_was_never_backed_up():
    status = judged(document(entry(ok=False, good=None, error="no password")))
    assert status.problems == ("scalr-shop-db/shop was never backed up: no password",)
    assert status.databases[0]["age_seconds"] is None


def test_a_failed_pass_and_a_failed_retention_are_problems_although_every_dump_is_good():
    status = judged(document(entry(), error={"code": "manifest", "message": "no manifest"}))
    assert status.problems == ("The last pass failed: no manifest",)
    status = judged(document(entry(), retention={"code": "repository_locked", "message": "locked"}))
    assert status.problems == ("Retention failed: locked",)


def test_a_fresh_agent_waits_and_an_old_one_without_any_backup_is_not_safe():
    assert judged({}, first_started=NOW - timedelta(hours=1)).summary == "Waiting for the first pass."
    assert judged({}, first_started=NOW - timedelta(hours=1)).healthy
    assert not judged({}, first_started=NOW - timedelta(hours=27)).healthy


def test_state_that_was_lost_is_not_safe():
    assert not judged({}).healthy


def test_a_database_that_every_night_misses_is_given_up_in_the_end():
    gone = entry(database="gone", good=13 * 24, tried=13 * 24)
    assert not judged(document(entry(), gone)).healthy
    gone = entry(database="gone", good=15 * 24, tried=15 * 24)
    assert judged(document(entry(), gone)).healthy


def test_nothing_is_given_up_by_a_pass_that_has_not_looked_yet_or_never_does():
    # For 15 days the agent was down, or every pass failed before it could look: what it will find is not known.
    old = entry(good=15 * 24, tried=15 * 24)
    status = judged({**document(old, nightly=0.1), "nightly_looked": ago(days=15)})
    assert [one.code for one in status.findings] == ["backup_too_old"]
    assert not status.health.ok
    assert judged({**document(old, nightly=0.1), "nightly_looked": ago(hours=0.1)}).databases == ()


def test_nothing_is_given_up_while_no_pass_looks_for_it():
    # For 20 nights no pass ran; then somebody backs up one container by hand.
    forgotten = entry(container="scalr-blog-db", good=20 * 24, tried=20 * 24)
    status = judged(document(entry(good=0.1, tried=0.1), forgotten, nightly=20 * 24))
    assert not status.healthy
    assert "scalr-blog-db" in status.summary


def test_an_excluded_container_is_nobodys_problem():
    config = Config(host="web1", repository="/repository", exclude=("scalr-test-*",))
    failed = entry(container="scalr-test-db", ok=False, good=None, error="no")
    assert judged(document(entry(), failed), config=config).healthy
    assert not judged(document(entry(), failed)).healthy


def test_a_host_that_only_adds_says_who_removes():
    status = judged(document(entry()), config=CONFIG.model_copy(update={"append_only": True}))
    assert status.healthy
    assert status.summary.endswith(" This host is append-only: only prune.yml removes old snapshots.")
    assert status.as_dict()["append_only"] is True


COPY = "s3:https://s3.test/copies"
WITH_COPY = Config.model_validate({"host": "web1", "repository": "/repository", "copy": {"repository": COPY}})


def copied(hours, ok=True, repository=COPY):
    """The record of a copy, the last good one of which is so many hours old."""
    return {
        "repository": repository, "ok": ok, "time": ago(hours=hours), "last_success": ago(hours=hours), "copied": 2,
        "removed": [], "error": None if ok else {"code": "repository_refused", "message": "wrong key"},
    }  # fmt: skip


def with_copy(copy):
    return judged({**document(entry()), **({"copy": copy} if copy else {})}, config=WITH_COPY)


def test_a_good_copy_is_shown_and_no_problem():
    status = with_copy(copied(9))
    assert status.healthy
    assert (status.as_dict()["copy"]["fresh"], status.as_dict()["copy"]["age_seconds"]) == (True, 9 * 3600)


def test_a_copy_is_a_problem_of_its_own_beside_a_good_backup():
    assert with_copy(copied(9, ok=False)).problems == (f"The copy to {COPY} failed: wrong key",)
    assert with_copy(copied(30)).problems == (f"The copy in {COPY} is 1 d 6 h old.",)
    assert with_copy(None).problems == (f"Nothing has been copied to {COPY} yet.",)
    assert with_copy(copied(9, repository="another one")).problems == (f"Nothing has been copied to {COPY} yet.",)


def test_a_copy_that_no_pass_could_make_yet_is_waited_for():
    assert judged({}, first_started=NOW - timedelta(hours=1), config=WITH_COPY).healthy


def test_without_a_second_repository_nothing_is_said_of_one():
    assert judged({**document(entry()), "copy": copied(30)}).healthy
    assert judged(document(entry())).as_dict()["copy"] is None


@pytest.mark.parametrize(("good", "code"), [(True, 0), (False, 1)])
def test_the_verb_tells_by_its_exit_code_too_and_by_its_result_in_any_case(tmp_path, monkeypatch, good, code):
    monkeypatch.setattr("scalr_backup.tools.state.STATE_DIRECTORY", tmp_path)
    monkeypatch.setattr(wiring, "load_config", lambda: CONFIG)
    now = datetime.now(UTC).isoformat()
    one = entry(ok=good, error=None if good else "the dump was empty") | {"last_tried": now, "last_success": now}
    State(tmp_path).put(databases={"scalr-shop-db/shop": one})
    done = CliRunner().invoke(cli.app, ["status", "--json"])
    told = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == told["exit_code"] == code
    assert (told["ok"], told["data"]["healthy"]) == (good, good)
    assert (told["error"] or {}).get("code") == (None if good else "not_safe")
    assert told["data"]["databases"][0]["database"] == "shop"
    assert CliRunner().invoke(cli.app, ["status"]).exit_code == code


@pytest.mark.parametrize("database", ["*", "shop"])
def test_a_container_of_which_nothing_was_ever_saved_is_over_when_it_is_removed(database):
    state = document(entry(), entry("scalr-new-db", database, ok=False, good=None, tried=3, error="no"))
    state["look"] = {"time": ago(hours=1), "matching": ["scalr-shop-db", "scalr-new-db"], "unmatched": []}
    assert not judged(state).healthy
    state["look"]["matching"] = ["scalr-shop-db"]
    assert judged(state).healthy
    assert [one["container"] for one in judged(state).databases] == ["scalr-shop-db"]


def test_a_container_that_was_saved_once_is_not_over_because_it_is_gone():
    state = document(entry(), entry("scalr-new-db", ok=False, good=40, tried=3, error="no"))
    state["look"] = {"time": ago(hours=1), "matching": ["scalr-shop-db"], "unmatched": []}
    assert not judged(state).healthy


# -- what a night costs ------------------------------------------------------------------------------------


def night(days, added, **changes):
    """The new data of a database whose dumps have 1000 bytes."""
    known = {"time": ago(days=days), "dumps": 1, "bytes_read": 1000, "bytes_added": added, "bytes_stored": added // 4}
    return {**known, "bytes_ordered": 1000, **changes}


def new_data_of(record, config=CONFIG):
    status = judged({**document(entry()), "new_data": {"scalr-shop-db/shop": record}}, config=config)
    return status.as_dict()["databases"][0]["new_data"]


def test_each_database_says_what_is_new_in_it_a_night():
    known = new_data_of({"nights": [night(2, 1000, anew="first"), night(1, 81), night(0, 70)], "layout": {}})
    assert known["night"] == {
        "time": NOW.isoformat(), "dumps": 1, "bytes_read": 1000, "bytes_added": 70, "bytes_stored": 17,
        "bytes_ordered": 1000, "share": 0.07, "anew": None,
    }  # fmt: skip
    assert [(one["share"], one["anew"]) for one in known["nights"]] == [(1.0, "first"), (0.081, None), (0.07, None)]
    assert known["row_order"] == {
        "pays": True, "why_not": None, "given_up": None, "given_up_share": None, "tried_again": None,
    }  # fmt: skip


def test_a_record_of_an_earlier_release_says_nothing_of_it():
    assert judged(document(entry())).as_dict()["databases"][0]["new_data"] is None


@pytest.mark.parametrize("row_order", ["auto", "off"])
def test_auto_that_has_given_up_says_so_unless_rows_are_to_stay_as_they_lie_anyway(row_order):
    given_up = {"time": ago(days=9), "share": 0.83, "dumps": 9}
    config = CONFIG.model_copy(update={"row_order": row_order})
    known = new_data_of({"nights": [night(0, 900, bytes_ordered=0)], "layout": {}, "given_up": given_up}, config)
    assert known["row_order"]["pays"] is False
    assert known["row_order"]["given_up_share"] == 0.83
    assert bool(known["row_order"]["why_not"]) == (row_order == "auto")
    assert judged(document(entry())).healthy, "it is no problem of the backups"


@pytest.mark.parametrize(("repository", "grows"), [("/repository", 50), ("s3:https://s3.example.com/other", None)])
def test_the_repository_says_how_it_grows_and_another_one_nothing(repository, grows):
    sizes = [{"time": ago(days=4), "size_bytes": 1000}, {"time": ago(days=0), "size_bytes": 1200}]
    status = judged({**document(entry()), "sizes": {"repository": repository, "sizes": sizes}})
    growth = status.as_dict()["repository_growth"]
    assert growth == (grows and {"since": ago(days=4), "bytes_a_night": grows})
