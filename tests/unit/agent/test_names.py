# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass makes of names that a restore has changed for a moment, or was killed while it had."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from scalr_backup.actions.backup.dump import Dumped
from scalr_backup.actions.backup.names import under_own_names
from scalr_backup.actions.backup.result import PassRequest, PassResult
from scalr_backup.actions.backup.run import Pass
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.model import Cluster, Container, Credentials, Database, Saved, aside_name, is_aside, kept_since
from scalr_backup.core.progress import nobody
from scalr_backup.tools.state import RestoreJournal, State

RUN = "20261122T030000Z-3f9a"
NEW, ASIDE = "scalr_restore_20261122t030000z_3f9a_1", "shop_aside_20261122t030000z-3f9a"
NOTED = RestoreJournal(RUN, "scalr-shop-db", "shop", NEW, "shop_before", False, ASIDE, 24001)


def cluster(*names):
    return Cluster(
        Container("c" * 64, "scalr-shop-db", "postgres:17", "sha256:aa", "running", "ok"),
        Credentials("app", None), "17.6", tuple(Database(name, len(name), "app", "UTF8") for name in names),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["shop", "x" * 63, "ü" * 31])
def test_a_name_aside_is_known_and_whose_it_is(name):
    aside = aside_name(name, RUN)
    assert len(aside.encode()) <= 63
    assert is_aside(aside)
    assert is_aside(aside, name)
    assert not is_aside(aside, "blog")
    assert kept_since(aside) is None


@pytest.mark.parametrize("name", ["shop", "shop_aside", "shop_aside_20261122", "_aside_20261122t030000z-3f9a"])
def test_a_name_that_only_sounds_alike_is_somebodys_own(name):
    assert not is_aside(name)


def test_a_cluster_is_seen_as_it_is_once_the_names_are_back(tmp_path):
    state = State(tmp_path)
    [same] = under_own_names(state, [cluster("shop", ASIDE)])
    assert [one.name for one in same.databases] == ["shop", ASIDE], "nothing is on record of it"
    state.open_journal(NOTED)
    for names in (("blog", "shop", ASIDE), ("blog", ASIDE)):
        [own] = under_own_names(state, [cluster(*names)])
        assert [(one.name, one.size_bytes) for one in own.databases] == [("blog", 4), ("shop", len(ASIDE))]


def passed(tmp_path, monkeypatch, listed, there, *, noted=None, closes=True):
    """A pass over what discovery listed, when this is there; a restore's journal is open until it is cleaned up."""
    state = State(tmp_path)
    if noted:
        state.open_journal(noted)

    def clean_up(*_arguments):
        if noted and closes:
            state.close_journal(noted)
        return []

    monkeypatch.setattr("scalr_backup.actions.leftovers.clean_up", clean_up)
    config = SimpleNamespace(host="h", repository="/repository", timezone="UTC", parallel=2, start_wait_seconds=0)
    discovery = SimpleNamespace(
        postgres=lambda *_arguments: SimpleNamespace(database_names=lambda: set(there)), is_coming=lambda _one: False
    )
    a_pass = Pass(Tools(config, discovery, None, state, nobody, threading.Event()))
    now = datetime(2026, 11, 22, 3, tzinfo=UTC)
    result = PassResult("r", "nightly", "h", now, now)
    dumped = []

    def dump(_cluster, database, _tags, **_options):
        dumped.append(database)
        return Dumped(Saved("aa", 10, 10, 5), {}, None, 1.0)

    clusters = under_own_names(state, [cluster(*listed)])
    a_pass._dump_all(SimpleNamespace(dump=dump), PassRequest(), result, clusters)
    a_pass._record(result)
    return sorted(dumped), state.known_databases()


def test_a_pass_that_looked_in_the_moment_saves_the_live_database_under_its_name(tmp_path, monkeypatch):
    dumped, known = passed(tmp_path, monkeypatch, ["shop", ASIDE], ["shop"], noted=NOTED)
    assert dumped == ["shop"]
    assert set(known) == {"scalr-shop-db/shop"}


def test_it_does_so_where_the_moment_was_over_before_the_journal_was_read(tmp_path, monkeypatch):
    dumped, known = passed(tmp_path, monkeypatch, ["shop", ASIDE], ["shop"])
    assert dumped == ["shop"]
    assert set(known) == {"scalr-shop-db/shop"}


def test_a_half_made_database_that_is_gone_is_no_failure(tmp_path, monkeypatch):
    """There was no live one, and the restore was killed."""
    dumped, known = passed(tmp_path, monkeypatch, ["blog", "shop"], ["blog"], noted=NOTED)
    assert dumped == ["blog"]
    assert set(known) == {"scalr-shop-db/blog"}


def test_a_database_that_is_gone_otherwise_is_one(tmp_path, monkeypatch):
    dumped, _known = passed(tmp_path, monkeypatch, ["blog", "shop"], ["shop"], noted=NOTED)
    assert dumped == ["blog", "shop"], "what its dump comes to is told"


@pytest.mark.parametrize("listed", [["blog", "shop", ASIDE], ["blog", ASIDE]])
def test_names_that_could_not_be_put_back_fail_that_database_and_no_other(tmp_path, monkeypatch, listed):
    dumped, known = passed(tmp_path, monkeypatch, listed, listed, noted=NOTED, closes=False)
    assert dumped == ["blog"]
    assert {key: one["ok"] for key, one in known.items()} == {"scalr-shop-db/blog": True, "scalr-shop-db/shop": False}
    assert ASIDE in known["scalr-shop-db/shop"]["error"]["message"]


def test_where_nobody_knows_of_the_restore_the_live_one_is_saved_as_it_is_called(tmp_path, monkeypatch):
    """The agent's state is lost, or the restore is another agent's."""
    dumped, known = passed(tmp_path, monkeypatch, ["shop", ASIDE], ["shop", ASIDE])
    assert dumped == [ASIDE]
    assert known["scalr-shop-db/shop"]["ok"] is False
