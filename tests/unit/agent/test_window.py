# SPDX-License-Identifier: GPL-3.0-or-later
"""The moment in which a new database stands under the live one's name, and how it ends whatever happens in it."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
from scalr_backup.actions import leftovers
from scalr_backup.actions.leftovers import put_back
from scalr_backup.actions.restore.run import Restore
from scalr_backup.actions.restore.window import run_under_final_name
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.errors import DockerUnreachableError, PostgresError, RestoreError
from scalr_backup.core.model import Credentials, kept_since
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.window import window_script
from scalr_backup.tools.state import RestoreJournal, State

NEW, ASIDE = "scalr_restore_20261122t030000z_3f9a_1", "shop_aside_20261122t030000z-3f9a"
JOURNAL = RestoreJournal("20261122T030000Z-3f9a", "scalr-shop-db", "shop", NEW, "shop_before", False)
# The oid of the half-made database, of the live one, and of somebody's own.
OURS, LIVE, OTHER = 24001, 16384, 24002
NOTED = RestoreJournal("20261122T030000Z-3f9a", "scalr-shop-db", "shop", NEW, "shop_before", False, ASIDE, OURS)
CREATE_CRON = "CREATE EXTENSION IF NOT EXISTS pg_cron WITH SCHEMA pg_catalog"


def shown(statement):
    """A statement as psql is shown it."""
    return statement.encode().hex()


def test_the_script_of_the_moment_ends_with_the_names_as_they_were():
    script = window_script("shop", NEW, ASIDE, [CREATE_CRON])
    forth, created = script.index(f'ALTER DATABASE "{NEW}" RENAME TO "shop"'), script.index(shown(CREATE_CRON))
    back = script.index(f'ALTER DATABASE "{ASIDE}" RENAME TO "shop"')
    assert forth < created < back
    assert script.index("ON_ERROR_STOP off") < forth, "an error in the middle must not keep the names from going back"
    assert "CONNECTION LIMIT" not in script, "the new database is closed until it is swapped in"


def test_the_psql_that_changes_the_names_never_leaves_its_connection():
    script = window_script("shop", NEW, ASIDE, [CREATE_CRON])
    assert "\\connect" not in script, "it might get no other"
    assert "another database has the name" in script, "what works under the name looks where it is"


def test_the_script_takes_names_as_they_are_and_shows_psql_no_statement():
    statement = 'CREATE EXTENSION "a\'b\\c"\n\\! id\n'
    script = window_script("it's", NEW, ASIDE, [statement])
    assert r"\setenv SCALR_BACKUP_THERE 'dbname=''it\\''s''" in script
    assert shown(statement) in script
    assert "EXTENSION" not in script


def saying(said):
    """A server whose script of the moment says this."""
    postgres = Postgres(
        None, "c", Credentials("postgres"), "scalr-backup r",
        facts={("c", "home"): "postgres", ("c", "without event triggers"): "-c event_triggers=off"},
    )  # fmt: skip

    class Saying(type(postgres)):
        def unstoppable(self, application=None):
            return self

        @contextmanager
        def session(self, *_arguments, **_options):
            yield SimpleNamespace(query=lambda _script: said)

    postgres.__class__ = Saying
    return postgres


@pytest.mark.parametrize(
    ("words", "failed"),
    [
        ("done", ""),
        ("psql:<stdin>:3: ERROR:  P0001: no luck\nLOCATION:  x", "ERROR:  no luck"),
        ("", "its psql could not be started"),
    ],
)
def test_what_became_of_the_moment_is_read(words, failed):
    back, told = saying([{"changed": True, "back": True, "said": words}]).while_named("shop", NEW, ASIDE, [])
    assert back
    assert told.endswith(failed)
    assert bool(told) is bool(failed)


def test_no_answer_is_an_error_and_no_accident():
    with pytest.raises(PostgresError, match="did not say whether the names were changed back"):
        saying([]).while_named("shop", NEW, ASIDE, [])


class Names:
    """A cluster that is only names with their oids, and what is in the half-made database."""

    application = "scalr-backup 20261122T030000Z-3f9a"

    def __init__(self, **oids):
        self.oids = dict(oids)
        self.written = False
        self.silent = 0
        self.ended = []
        self.dropped = []

    def database_oids(self):
        if self.silent:
            self.silent -= 1
            raise PostgresError("sorry, too many clients already", "53300")
        return dict(self.oids)

    def database_names(self):
        return set(self.database_oids())

    def end_leftovers(self, pattern):
        self.ended.append(pattern)
        return 0

    def holds_more_than_extensions(self, _name, *, rows):
        assert rows in (True, False)
        return self.written

    def rename_all(self, pairs):
        for name, new_name in pairs:
            assert new_name not in self.oids
            self.oids[new_name] = self.oids.pop(name)

    def keep_database(self, name, new_name):
        self.rename_all([(name, new_name)])

    def drop_database(self, name):
        self.dropped.append(self.oids.pop(name))

    def runs_at_work(self):
        return set()

    def heads(self):
        return set()

    def kept_open(self):
        return nullcontext()

    def half_made_databases(self):
        return {}


MOMENT = {"shop": OURS, ASIDE: LIVE}
KEPT = "shop_restored_20261122t030000z-3f9a"


@pytest.mark.parametrize(
    ("oids", "after"),
    [
        # Before it, and after it.
        ({"shop": LIVE, NEW: OURS}, {"shop": LIVE, NEW: OURS}),
        ({NEW: OURS}, {NEW: OURS}),
        # In it: with a live database, and without.
        (MOMENT, {"shop": LIVE, NEW: OURS}),
        ({"shop": OURS}, {NEW: OURS}),
        # Somebody has taken the half-made one away.
        ({ASIDE: LIVE}, {"shop": LIVE}),
        ({ASIDE: LIVE, "mine": OURS}, {"shop": LIVE, "mine": OURS}),
        # Or has renamed both by hand: the live one is not touched, whatever its limit of connections.
        ({"shop": LIVE, "anything": OURS}, {"shop": LIVE, "anything": OURS}),
        # Or has made a database of his own: nothing is touched.
        ({"shop": OTHER}, {"shop": OTHER}),
        ({"shop": OTHER, ASIDE: LIVE}, {"shop": OTHER, ASIDE: LIVE}),
        ({}, {}),
    ],
)
def test_the_next_run_puts_the_names_back_and_touches_nobody_elses_database(oids, after):
    server = Names(**oids)
    obstacle = put_back(server, NOTED)
    assert server.oids == after
    assert (obstacle is not None) is (oids == {"shop": OTHER, ASIDE: LIVE})


def test_of_a_journal_that_does_not_say_which_is_ours_no_database_is_touched():
    for oids in (MOMENT, {"shop": OURS}):
        server = Names(**oids)
        assert (put_back(server, replace(NOTED, new_oid=None)) is not None) is (ASIDE in oids)
        assert server.oids == oids


def test_a_journal_says_which_database_is_ours_and_one_of_an_earlier_version_does_not(tmp_path):
    state = State(tmp_path)
    state.open_journal(NOTED)
    assert State(tmp_path).journal(NEW) == NOTED
    state.open_journal(JOURNAL)
    assert state.read()["restores"][NEW].keys() == {"run", "container", "database", "new", "old", "keep_old"}
    assert state.journals() == [JOURNAL]
    state.open_journal(replace(NOTED, new_oid=None))
    assert state.journals() == [replace(NOTED, new_oid=None)]


def clean_up(state, server):
    discovery = SimpleNamespace(postgres=lambda *_arguments: server)
    cluster = SimpleNamespace(container=SimpleNamespace(name="scalr-shop-db"), credentials=None)
    return leftovers.clean_up(state, discovery, cluster)


@pytest.mark.parametrize("written", [False, True])
def test_what_somebody_wrote_into_a_half_made_database_is_kept_by_the_next_run(tmp_path, written):
    state, server = State(tmp_path), Names(**MOMENT)
    server.written = written
    state.open_journal(NOTED)
    told = clean_up(state, server)
    assert server.oids == ({"shop": LIVE, KEPT: OURS} if written else {"shop": LIVE})
    assert server.dropped == ([] if written else [OURS])
    assert any(KEPT in one for one in told) is written
    assert state.journals() == []
    assert kept_since(KEPT), "it is listed as what a restore has kept"


def test_a_database_that_somebody_has_renamed_is_left_alone(tmp_path):
    state, server = State(tmp_path), Names(shop=LIVE, by_hand=OURS)
    state.open_journal(NOTED)
    clean_up(state, server)
    assert server.oids == {"shop": LIVE, "by_hand": OURS}
    assert (server.dropped, state.journals()) == ([], [])


@pytest.mark.parametrize("failed", ["", "no luck"])
def test_the_moment_is_noted_before_it_begins_and_forgotten_after_it(tmp_path, failed):
    state, seen = State(tmp_path), []

    def while_named(live, new, aside, statements):
        seen.append((live, new, aside, tuple(statements), state.journals()))
        return True, failed

    server = Names(**{"shop": LIVE, NEW: OURS})
    server.while_named = while_named
    with suppress(RestoreError):
        run_under_final_name(state, server, server, JOURNAL, ["CREATE EXTENSION x"])
    [(live, new, aside, statements, journals)] = seen
    assert (live, new, aside, statements) == ("shop", NEW, ASIDE, ("CREATE EXTENSION x",))
    assert journals == [NOTED]
    assert state.journals() == [JOURNAL]


def lost(error, *, left=MOMENT, silent=0):
    """A cluster in which the moment begins and its end is not heard of."""
    server = Names(**{"shop": LIVE, NEW: OURS})

    def while_named(*_arguments):
        server.oids, server.silent = dict(left), silent
        if error is None:
            return False, ""
        raise error

    server.while_named = while_named
    return server


@pytest.mark.parametrize("error", [DockerUnreachableError("gone"), PostgresError("gone"), IndexError("gone")])
@pytest.mark.parametrize("silent", [0, 2])
def test_a_lost_answer_is_looked_after_at_once(tmp_path, monkeypatch, error, silent):
    monkeypatch.setattr("scalr_backup.actions.restore.window._AGAIN_SECONDS", 0.0)
    server, state = lost(error, silent=silent), State(tmp_path)
    with pytest.raises(RestoreError, match="gone"):
        run_under_final_name(state, server, server, JOURNAL, [])
    assert set(server.ended) == {f"{server.application} moment$"}, "what else the run has at work goes on"
    assert server.oids == {"shop": LIVE, NEW: OURS}
    assert state.journals() == [JOURNAL]


def test_names_that_are_not_back_are_put_back_afterwards(tmp_path):
    server = lost(None)
    run_under_final_name(State(tmp_path), server, server, JOURNAL, [])
    assert server.oids == {"shop": LIVE, NEW: OURS}


def test_what_somebody_wrote_in_the_moment_is_kept_and_the_restore_fails(tmp_path):
    server = Names(**{"shop": LIVE, NEW: OURS})
    server.written = True
    server.while_named = lambda *_arguments: (True, "")
    with pytest.raises(RestoreError, match=f"kept as {KEPT}"):
        run_under_final_name(State(tmp_path), server, server, JOURNAL, [])
    assert server.oids == {"shop": LIVE, KEPT: OURS}


@pytest.mark.parametrize(("left", "silent"), [(MOMENT, 99), ({"shop": OTHER, ASIDE: LIVE}, 0)])
def test_a_restore_that_cannot_put_the_names_back_leaves_its_journal_to_the_next_run(
    tmp_path, monkeypatch, left, silent
):
    monkeypatch.setattr("scalr_backup.actions.restore.window._PATIENCE_SECONDS", -1.0)
    server, state = lost(PostgresError("gone"), left=left, silent=silent), State(tmp_path)
    with pytest.raises(RestoreError, match=f"may be called {ASIDE} now, and the next run puts it back"):
        run_under_final_name(state, server, server, JOURNAL, [])
    restore = Restore(Tools(None, None, None, state, lambda _event: None, None))
    result = SimpleNamespace(warnings=[], run=JOURNAL.run)
    flight = SimpleNamespace(result=result, journal=JOURNAL, tidier=server)
    restore._remove_half_made(flight)
    assert len(result.warnings) == 1
    assert state.journals() == [NOTED]
    with pytest.raises(RestoreError, match="may have been named"):
        leftovers.require_own_name(state, "scalr-shop-db", "shop")
    leftovers.require_own_name(state, "scalr-shop-db", "blog")
    # The server answers again.
    server.silent, server.oids = 0, dict(MOMENT)
    restore._remove_half_made(flight)
    assert server.oids == {"shop": LIVE}
    assert state.journals() == []
