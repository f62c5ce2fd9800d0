# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions of an undo, over a cluster that is only names."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from scalr_backup.actions.restore.result import preview
from scalr_backup.actions.restore.undo import Undo, UndoRequest
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.errors import (
    DockerUnreachableError,
    NotConfirmedError,
    PostgresError,
    RoomUnknownError,
    UnknownDatabaseError,
    UnknownRunError,
)
from scalr_backup.core.model import old_name
from scalr_backup.core.progress import nobody
from scalr_backup.tools.locks import container_lock
from scalr_backup.tools.postgres.cluster import LiveDatabase
from scalr_backup.tools.state import KeptDatabase, RestoreJournal, State

RUN, OTHER_RUN = "20261122T030000Z-3f9a", "20261121T030000Z-0001"
CONTAINER = "scalr-shop-db"
OLD = old_name("shop", RUN)
NEW = "scalr_restore_20261122t030000z_3f9a_1"
KEPT = KeptDatabase(RUN, CONTAINER, "shop", OLD)


class Names:
    """A cluster that is only the names of its databases, each with a word for what it holds."""

    def __init__(self, **databases):
        self.databases = databases
        self.fails = False
        self.loses_the_answer = False
        # How often it does not answer after its swap.
        self.silent = 0
        self.silent_after = 0

    def unstoppable(self):
        return self

    def database_names(self):
        return set(self.databases)

    def kept_open(self):
        return nullcontext()

    def half_made_databases(self):
        return {}

    application = "scalr-backup run"
    container = CONTAINER

    def end_leftovers(self, _pattern):
        if self.silent:
            self.silent -= 1
            raise DockerUnreachableError("nobody there")
        return 0

    def runs_at_work(self):
        return set()

    def heads(self):
        return set()

    def room(self):
        raise RoomUnknownError("df has not answered.")

    def live_database(self, name):
        return LiveDatabase(size_bytes=1, sessions=0) if name in self.databases else None

    def drop_database(self, name):
        del self.databases[name]

    def swap(self, live, new, old, properties):
        assert properties == ()
        self.silent = self.silent_after
        if self.fails:
            raise PostgresError("canceling statement due to lock timeout")
        if old is not None:
            self.databases[old] = self.databases.pop(live)
        self.databases[live] = self.databases.pop(new)
        if self.loses_the_answer:
            raise DockerUnreachableError("the connection broke")


@pytest.fixture
def state(tmp_path):
    return State(tmp_path)


def undo_of(state, postgres):
    cluster = SimpleNamespace(container=SimpleNamespace(name=CONTAINER), credentials=None, server_version="17.6")
    discovery = SimpleNamespace(
        cluster=lambda name, _application, anywhere: cluster if name == CONTAINER and anywhere else None,
        postgres=lambda *_arguments: postgres,
    )
    config = SimpleNamespace(host="web-1")
    return Undo(Tools(config, discovery, None, state, nobody, threading.Event()))


def run(state, postgres, run_id=RUN, container=None, confirm=CONTAINER):
    return undo_of(state, postgres).run(UndoRequest(run_id, container, confirm))


def test_what_was_kept_takes_its_place_again_and_what_it_replaces_is_kept(state):
    state.keep(KEPT)
    postgres = Names(shop="restored", **{OLD: "replaced"})
    result = run(state, postgres, RUN.lower())
    [outcome] = result.databases
    assert outcome.ok
    assert outcome.old_database == old_name("shop", result.run)
    assert postgres.databases == {"shop": "replaced", outcome.old_database: "restored"}
    assert state.kept() == [KeptDatabase(result.run, CONTAINER, "shop", outcome.old_database)]

    again = run(state, postgres, result.run)
    assert postgres.databases["shop"] == "restored"
    assert [one.run for one in state.kept()] == [again.run]


def test_a_database_that_is_gone_is_put_back_and_nothing_is_kept_in_its_place(state):
    state.keep(KEPT)
    postgres = Names(**{OLD: "replaced"})
    [outcome] = run(state, postgres).databases
    assert outcome.ok
    assert outcome.old_database is None
    assert postgres.databases == {"shop": "replaced"}
    assert state.kept() == []


@pytest.mark.parametrize("request_", [(OTHER_RUN, None), (RUN, "scalr-blog-db")])
def test_an_unknown_run_is_refused_and_the_known_ones_are_listed(state, request_):
    state.keep(KEPT)
    postgres = Names(shop="restored", **{OLD: "replaced"})
    with pytest.raises(UnknownRunError, match=rf"{RUN} \(of {CONTAINER}\)"):
        run(state, postgres, *request_)
    assert postgres.databases == {"shop": "restored", OLD: "replaced"}


def test_where_no_restore_kept_anything_that_is_said(state):
    with pytest.raises(UnknownRunError, match="those that did: none"):
        run(state, Names(shop="x"))


def test_what_somebody_dropped_cannot_come_back_nor_can_what_was_kept_beside_it(state):
    beside = KeptDatabase(RUN, CONTAINER, "blog", old_name("blog", RUN))
    state.keep(KEPT)
    state.keep(beside)
    postgres = Names(shop="restored", blog="restored", **{OLD: "replaced"})
    with pytest.raises(UnknownDatabaseError, match=beside.old):
        run(state, postgres)
    assert postgres.databases["shop"] == "restored"


@pytest.mark.parametrize("word", [None, "", "scalr-blog-db", CONTAINER.upper()])
def test_nothing_happens_without_the_word(state, word):
    state.keep(KEPT)
    postgres = Names(shop="restored", **{OLD: "replaced"})
    with pytest.raises(NotConfirmedError, match=CONTAINER):
        run(state, postgres, confirm=word)
    assert postgres.databases == {"shop": "restored", OLD: "replaced"}
    assert state.kept() == [KEPT]


def test_a_swap_that_failed_leaves_everything_as_it_was(state):
    state.keep(KEPT)
    postgres = Names(shop="restored", **{OLD: "replaced"})
    postgres.fails = True
    result = run(state, postgres)
    [outcome] = result.databases
    assert not outcome.ok
    assert "changed nothing" in outcome.error.message
    assert result.exit_code == 1
    assert state.kept() == [KEPT]
    postgres.fails = False
    assert run(state, postgres).databases[0].ok


def test_a_swap_whose_answer_was_lost_has_happened(state):
    state.keep(KEPT)
    postgres = Names(shop="restored", **{OLD: "replaced"})
    postgres.loses_the_answer = True
    result = run(state, postgres)
    assert result.databases[0].ok
    assert postgres.databases["shop"] == "replaced"
    assert [one.run for one in state.kept()] == [result.run]


@pytest.mark.parametrize("happens", [True, False])
def test_a_server_that_comes_back_tells_what_became_of_the_swap(state, monkeypatch, happens):
    monkeypatch.setattr("scalr_backup.actions.restore.swap._AGAIN_SECONDS", 0.0)
    state.keep(KEPT)
    postgres = Names(shop="restored", **{OLD: "replaced"})
    postgres.loses_the_answer, postgres.fails, postgres.silent_after = happens, not happens, 5
    result = run(state, postgres)
    assert result.databases[0].ok is happens
    assert [one.run for one in state.kept()] == [result.run if happens else RUN]
    assert state.undos() == []


@pytest.mark.parametrize("happens", [True, False])
def test_a_server_that_vanishes_in_the_swap_leaves_no_phantom_and_the_next_run_notes_the_truth(
    state, monkeypatch, happens
):
    monkeypatch.setattr("scalr_backup.actions.restore.swap._PATIENCE_SECONDS", -1.0)
    state.keep(KEPT)
    postgres = Names(shop="restored", **{OLD: "replaced"})
    postgres.loses_the_answer, postgres.fails, postgres.silent_after = happens, not happens, 1
    result = run(state, postgres)
    [outcome] = result.databases
    assert not outcome.ok
    assert "completely or not at all" in outcome.error.message
    assert "changed nothing" not in outcome.error.message
    assert state.kept() == [KEPT]
    # What is there can be undone by its run, whichever it is, before anybody has noted it.
    there = result.run if happens else RUN
    assert undo_of(state, postgres).plan(UndoRequest(there)).databases[0].kept.run == there

    postgres.loses_the_answer, postgres.fails, postgres.silent_after = False, False, 0
    again = run(state, postgres, there)

    assert again.databases[0].ok
    assert state.undos() == []
    assert [one.run for one in state.kept()] == [again.run]
    assert any("had put scalr-shop-db/shop back" in sentence for sentence in again.warnings) is happens


def journal(keep_old):
    return RestoreJournal(RUN, CONTAINER, "shop", NEW, OLD, keep_old)


def test_a_restore_that_was_killed_right_after_its_swap_can_be_undone(state):
    state.open_journal(journal(keep_old=True))
    postgres = Names(shop="restored", **{OLD: "replaced"})
    assert undo_of(state, postgres).plan(UndoRequest(RUN)).databases[0].kept == KEPT
    result = run(state, postgres)
    assert result.databases[0].ok
    assert postgres.databases["shop"] == "replaced"
    assert state.journals() == []
    assert [one.run for one in state.kept()] == [result.run]


def test_one_that_was_killed_after_it_had_noted_what_it_keeps_is_undone_once(state):
    state.open_journal(journal(keep_old=True))
    state.keep(KEPT)
    postgres = Names(shop="restored", **{OLD: "replaced"})
    assert len(run(state, postgres).databases) == 1
    assert postgres.databases["shop"] == "replaced"


def test_one_that_was_killed_before_its_swap_has_kept_nothing(state):
    state.open_journal(journal(keep_old=True))
    with pytest.raises(UnknownRunError):
        run(state, Names(shop="live", **{NEW: "half"}))


def test_one_that_was_not_to_keep_anything_is_not_undone(state):
    state.open_journal(journal(keep_old=False))
    with pytest.raises(UnknownRunError):
        run(state, Names(shop="restored", **{OLD: "replaced"}))


def test_an_undo_holds_the_containers_lock(state, monkeypatch):
    state.keep(KEPT)
    held = []
    monkeypatch.setattr(state.locks, "hold", lambda name, holder: held.append((name, holder)) or threading.Lock())
    run(state, Names(shop="restored", **{OLD: "replaced"}))
    [(name, holder)] = held
    assert name == container_lock(CONTAINER)
    assert holder.startswith("undo ")


def test_the_plan_looks_like_a_restores(state):
    state.keep(KEPT)
    plan = undo_of(state, Names(shop="restored", **{OLD: "replaced"})).plan(UndoRequest(RUN)).as_dict()
    assert plan["undo"] == RUN
    assert plan["strategy"] is None
    # Two names need no room: that nobody can tell how much there is stands in nobody's way.
    assert plan["free_bytes"] is None
    assert plan["confirm"] == CONTAINER
    [database] = plan["databases"]
    assert database["old_database"] == OLD
    assert database["exists"] is True
    assert set(preview(undo_of(state, Names(shop="x", **{OLD: "y"})).plan(UndoRequest(RUN)))) == {
        "run",
        "plan",
        "databases",
        "roles_created",
        "warnings",
    }
