# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of databases that a pass cannot even try: which are failures, which warnings, and when a pass has failed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.discovery import Discovered, HostLook
from scalr_backup.actions.missing import failures, gone, is_failure, named_and_empty, nothing_saved, refuse_excluded
from scalr_backup.core.errors import PartlyUnknownError, UnknownDatabaseError
from scalr_backup.core.model import Cluster, Container, Credentials, Database, LeftOut

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def container(state="running", status=None, name="scalr-a-db"):
    status = status or ("ok" if state == "running" else "stopped")
    return Container("1", name, "postgres:17", "1", state, status, None if status == "ok" else f"its state is {state}")


def discovered(*containers, databases=()):
    held = tuple(Database(name, 1, "o", "UTF8") for name in databases)
    clusters = tuple(Cluster(one, Credentials("u"), "17", held) for one in containers if one.status == "ok")
    return Discovered(containers, clusters, HostLook(containers, ()))


def known(*names, container="scalr-a-db", run="r2", days=1, saved=True):
    tried = (NOW - timedelta(days=days)).isoformat()
    return {
        f"{container}/{name}": {
            "container": container, "database": name, "run": run, "last_tried": tried, "last_success": tried if saved else None,
        }
        for name in names
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "by_default", "by_name"),
    [
        ("exited", False, True), ("created", False, True), ("removing", False, True),
        ("paused", True, True), ("restarting", True, True), ("dead", True, True), ("unheard-of", True, True),
    ],
)  # fmt: skip
def test_what_was_stopped_on_purpose_is_a_failure_where_it_was_asked_for_by_name(state, by_default, by_name):
    assert is_failure(container(state), ()) is by_default
    assert is_failure(container(state), ("scalr-*-db",)) is by_default
    assert is_failure(container(state), ("other", "scalr-a-db")) is by_name


def test_one_that_stops_under_the_look_or_does_not_answer_is_a_failure_and_others_are_none():
    assert is_failure(container("running", "stopped"), ())
    assert is_failure(container("running", "unreachable"), ())
    assert not is_failure(container(), ("scalr-a-db",))
    assert not is_failure(container("running", "excluded"), ())


def test_what_helps_names_the_container_as_the_engine_does():
    paused = replace(container("paused"), called="shop_db.1.ykfg6v0x1hqr")
    assert HostLook((paused, container(name="scalr-b-db")), ()).as_record(NOW)["called"] == {
        "scalr-a-db": paused.called
    }
    [outcome] = failures(paused, {})
    assert outcome.container == "scalr-a-db"
    assert outcome.error.message.endswith("run next: docker unpause shop_db.1.ykfg6v0x1hqr")


def test_each_database_that_it_held_at_last_has_failed_and_says_what_helps():
    before = {**known("dropped", run="r1", days=2), **known("shop", "ledger"), **known("other", container="scalr-b-db")}
    outcomes = failures(container("paused"), before)
    assert [(one.container, one.database, one.ok) for one in outcomes] == [
        ("scalr-a-db", "ledger", False), ("scalr-a-db", "shop", False),
    ]  # fmt: skip
    assert outcomes[0].error.code == "container_paused"
    assert "its state is paused" in outcomes[0].error.message
    assert "docker unpause scalr-a-db" in outcomes[0].error.message


def test_of_one_that_never_answered_the_whole_cluster_has_failed():
    assert [one.database for one in failures(container("restarting"), known("*", saved=False))] == ["*"]
    assert [one.database for one in failures(container("running", "unreachable"), {})] == ["*"]


def test_gone_is_what_was_saved_lately_and_nobody_sees_nor_accounts_for():
    before = {
        **known("shop", "ledger"), **known("old", days=20), **known("never", saved=False),
        **known("app", container="scalr-gone-db"), **known("app", container="scalr-b-db"),
    }  # fmt: skip
    found = discovered(container(), container("exited", name="scalr-b-db"), databases=["shop"])
    assert gone(found, before, NOW) == ["scalr-a-db/ledger", "scalr-gone-db/app"]


@pytest.mark.parametrize(
    ("found", "patterns", "lost", "said"),
    [
        (discovered(), (), [], None),
        (discovered(container("running", "excluded")), (), [], None),
        (discovered(container()), (), [], None),
        (discovered(), (), ["a/x", "b/y"], "Nothing was backed up: a/x is gone; b/y is gone."),
        (discovered(container("exited")), (), [], "Nothing was backed up: scalr-a-db: its state is exited."),
        (
            discovered(container("exited")),
            ("scalr-*",),
            ["b/y"],
            "Nothing was backed up: scalr-a-db: its state is exited.",
        ),
        (discovered(container()), ("scalr-a-db",), [], "Nothing was backed up: scalr-a-db holds no database."),
    ],
)
def test_nothing_saved_is_a_failure_where_there_was_something_to_save(found, patterns, lost, said):
    failure = nothing_saved(found, patterns, lost)
    assert (failure and failure.message) == said


def test_one_that_was_asked_for_by_name_and_holds_nothing_fails_a_pass_that_saves_another():
    full, empty = container(), container(name="scalr-b-db")
    clusters = (
        Cluster(full, Credentials("u"), "17", (Database("shop", 1, "o", "UTF8"),)),
        Cluster(empty, Credentials("u"), "17", ()),
    )
    found = Discovered((full, empty), clusters, HostLook((full, empty), ()))
    failure = named_and_empty(found, ["scalr-a-db", "scalr-b-db"])
    assert failure.code == "nothing_saved"
    assert "scalr-b-db" in failure.message
    assert named_and_empty(found, ["scalr-*"]) is None
    assert named_and_empty(found, []) is None


def test_what_lets_nobody_in_any_more_is_not_gone():
    one = container()
    left_out = Cluster(one, Credentials("u"), "17", (), left_out=(LeftOut("shop", "it does not allow connections"),))
    assert gone(Discovered((one,), (left_out,), HostLook((one,), ())), known("shop"), NOW) == []


def test_an_excluded_one_beside_others_is_told_apart_from_one_that_no_host_has():
    found = discovered(container("running", "excluded"), container(name="scalr-b-db"))
    with pytest.raises(PartlyUnknownError, match="scalr-a-db on web1 is excluded"):
        refuse_excluded(found, ["scalr-a-db", "scalr-b-db"], "web1")


@pytest.mark.parametrize("pattern", ["scalr-a-db", "scalr-*"])
def test_what_is_excluded_cannot_be_asked_for(pattern):
    excluded = container("running", "excluded")
    with pytest.raises(UnknownDatabaseError, match="scalr-a-db on web1 is excluded"):
        refuse_excluded(discovered(excluded), [pattern], "web1")
    refuse_excluded(discovered(excluded), [], "web1")
    refuse_excluded(discovered(excluded, container(name="scalr-b-db")), ["scalr-*"], "web1")
