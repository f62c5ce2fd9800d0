# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a run stands while the very database that it stands in goes away and comes back."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest
from scalr_backup.core.archive.database import DatabaseDefinition
from scalr_backup.core.errors import PostgresError
from scalr_backup.core.model import Credentials
from scalr_backup.tools.postgres.cluster import Postgres

NEW = "scalr_restore_20261122t030000z_3f9a_1"
_CHANGE = re.compile(r'(DROP|CREATE|ALTER) DATABASE (?:IF EXISTS )?"([^"]+)"(?: RENAME TO "([^"]+)")?')


class Cluster(Postgres):
    """A server that has some databases, and changes none that a session stands in."""

    def __init__(self, *names, home=None):
        facts = {("c", "without event triggers"): "", ("c", "limits"): ""}
        super().__init__(None, "c", Credentials("postgres", None, home=home), "scalr-backup r 1", facts=facts)
        self.names = set(names)

    def unstoppable(self, _application=None):
        return self

    @contextmanager
    def session(self, database, *_options, **_settings):
        self.enter(database)
        yield Session(self, database)

    def enter(self, database):
        if database not in self.names:
            raise PostgresError(f"c/{database}: psql ended with 2")

    def query(self, database, sql):
        self.enter(database)
        if asked := re.search("datallowconn.* datname = '([^']+)'", sql):
            return [True] if asked[1] in self.names else []
        return [True] if "to_jsonb(true)" in sql else []

    def execute(self, database, *statements):
        with self.session(database) as session:
            session.run(statements)


class Session:
    def __init__(self, cluster, database):
        self.cluster, self.database = cluster, database

    def query(self, _sql):
        return []

    def run(self, statements):
        for verb, name, other in _CHANGE.findall("\n".join(statements)):
            assert self.database not in (name, other), "nobody stands in what is changed"
            if verb == "DROP" or other:
                self.cluster.names.remove(name)
            if verb == "CREATE" or other:
                self.cluster.names.add(other or name)


@pytest.mark.parametrize(("live", "home"), [("postgres", None), ("app", "app"), ("postgres", "postgres")])
def test_the_database_that_a_run_stands_in_is_replaced(live, home):
    cluster = Cluster("postgres", "template1", *([home] if home else []), home=home)
    assert cluster._home == live
    cluster.drop_database(live)
    assert cluster.names.isdisjoint({live})
    cluster.create_database(NEW, DatabaseDefinition(()), "owner", with_tablespace=True)
    cluster.end_sessions(NEW)
    assert cluster.database_names() == set(), "whatever is asked is answered"
    cluster.swap(live, NEW, None, ())
    assert cluster.names == {"postgres", "template1", live}
    assert cluster._home == live, "as it is there again"


@pytest.mark.parametrize(("live", "home"), [("postgres", None), ("app", "app")])
def test_it_is_swapped_with_another(live, home):
    cluster = Cluster("postgres", "template1", NEW, *([home] if home else []), home=home)
    cluster.swap(live, NEW, "old", ())
    assert cluster.names == {"postgres", "template1", live, "old"}
    cluster.drop_database("old")
    assert cluster._home == live


def test_where_template1_is_the_only_one_left_and_is_replaced_the_one_of_the_variables_is_stood_in():
    cluster = Cluster("app", "template1", NEW)
    cluster._credentials = Credentials("postgres", None, "app")
    assert cluster._home == "template1"
    cluster.swap("template1", NEW, "old", ())
    assert cluster.names == {"app", "template1", "old"}


def test_one_whose_drop_is_interrupted_is_not_stood_in_any_more():
    cluster = Cluster("app", "postgres", "template1", home="app")
    assert cluster._home == "app"

    def interrupted(*_arguments):
        cluster.names.remove("app")
        raise PostgresError("c/postgres: the server ended")

    cluster.execute = interrupted
    with pytest.raises(PostgresError, match="the server ended"):
        cluster.drop_database("app")
    assert cluster._home == "postgres"
