# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new database is given of what its archive says of it: before its rows, with the swap, or not at all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from scalr_backup.actions.restore.properties import describe, sorted_by_time
from scalr_backup.core.archive.database import DatabaseSetting, Granted, Limit
from scalr_backup.core.errors import PostgresError, RestoreError
from scalr_backup.core.grammar import Comment, Grant, SecurityLabel, Setting
from scalr_backup.core.sqlstate import is_refusal

NEW = "scalr_restore_20261122t030000z_3f9a_1"
COMMENT = Comment("the shop")
LABEL = SecurityLabel("dummy", "secret")
GRANT = Granted(Grant(("CONNECT",), "app"), "boss")
LIMIT = Limit("CONNECTION LIMIT", "5")


def setting(name, role=None):
    return DatabaseSetting(Setting(name, ("x",)), role)


def head(*properties, extensions=()):
    return SimpleNamespace(properties=properties, extensions=extensions)


class Server:
    """A server that refuses statements in which certain words stand; what was set, and what was only tried."""

    def __init__(self, refused=(), sqlstate="22023"):
        self.refused, self.sqlstate = refused, sqlstate
        self.set, self.tried, self.sessions = [], [], 0

    def describe(self, database, statements, tried=()):
        self.sessions += 1
        for statement in (*statements, *tried):
            if word := next((word for word in self.refused if word in statement), None):
                raise PostgresError(f"c/postgres: ERROR:  no {word}", self.sqlstate)
            if statement in statements:
                assert database in statement
                self.set.append(statement)
        self.tried += tried


def names_of(properties):
    return [one.setting.name for one in properties]


def test_settings_that_rows_and_views_may_depend_on_come_before_them():
    wanted = ["app.tenant", "TimeZone", "lc_monetary", "default_toast_compression", "DateStyle"]
    early = sorted_by_time(head(COMMENT, *map(setting, wanted), setting("app.region", "app"))).early
    assert early == (COMMENT, *map(setting, wanted), setting("app.region", "app"))


@pytest.mark.parametrize(
    "name",
    [
        "role", "session_authorization", "default_transaction_read_only", "statement_timeout", "lock_timeout",
        "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout", "exit_on_error",
        "session_replication_role", "event_triggers", "row_security", "search_path", "default_tablespace",
        "temp_tablespaces", "temp_file_limit", "work_mem", "maintenance_work_mem", "array_nulls",
        "max_parallel_maintenance_workers", "log_statement", "Log_Min_Duration_Statement", "pgaudit.log", "ROLE",
        "session_preload_libraries", "plv8.start_proc", "plv8.boot_proc", "local_preload_libraries",
    ],
)  # fmt: skip
@pytest.mark.parametrize("role", [None, "postgres"])
def test_what_would_hinder_the_restore_or_runs_code_comes_with_the_swap(name, role):
    found = sorted_by_time(head(setting("a.b"), setting(name, role)))
    assert (found.early, found.late) == ((setting("a.b"),), (setting(name, role),))


def test_what_an_extension_has_otherwise_while_its_database_is_filled_comes_with_the_swap():
    name = "timescaledb.restoring"
    assert sorted_by_time(head(setting(name))).early == (setting(name),)
    assert sorted_by_time(head(setting(name), extensions=("timescaledb",))).late == (setting(name),)


def test_who_may_use_it_comes_with_the_swap_and_all_of_it():
    found = sorted_by_time(head(LABEL, COMMENT, GRANT, LIMIT))
    assert (found.early, found.strict) == ((COMMENT,), (LABEL, GRANT, LIMIT))


def test_a_server_that_takes_everything_is_asked_once():
    server = Server()
    given = describe(server, "shop", NEW, head(COMMENT, setting("a.b"), setting("role"), GRANT, LIMIT))
    assert server.sessions == 1
    assert server.set == [
        f"COMMENT ON DATABASE \"{NEW}\" IS 'the shop';",
        f'ALTER DATABASE "{NEW}" SET "a.b" TO \'x\';',
    ]
    assert len(server.tried) == 5
    assert given.warnings == ()
    assert given.waiting == (
        'ALTER DATABASE "shop" RESET ALL;',
        "ALTER DATABASE \"shop\" SET \"a.b\" TO 'x';",
        "ALTER DATABASE \"shop\" SET \"role\" TO 'x';",
        'SET SESSION AUTHORIZATION "boss";', 'GRANT CONNECT ON DATABASE "shop" TO "app";', "RESET SESSION AUTHORIZATION;",
        'ALTER DATABASE "shop" CONNECTION LIMIT = 5;',
    )  # fmt: skip


def test_settings_stand_in_the_order_in_which_they_were_dumped_and_those_that_are_there_stay():
    found = (setting("work_mem"), setting("a.b"), setting("c.d", "app"), setting("role", "boss"))
    assert describe(Server(), "shop", NEW, head(*found)).waiting == (
        'ALTER DATABASE "shop" RESET ALL;',
        "ALTER DATABASE \"shop\" SET \"work_mem\" TO 'x';", "ALTER DATABASE \"shop\" SET \"a.b\" TO 'x';",
        "ALTER ROLE \"boss\" IN DATABASE \"shop\" SET \"role\" TO 'x';",
    )  # fmt: skip


def test_a_database_of_which_nothing_is_said_asks_nobody():
    server = Server()
    assert describe(server, "shop", NEW, head()).waiting == ()
    assert server.sessions == 0


def test_what_the_server_refuses_is_left_out_by_itself_and_told():
    server = Server(refused=("TimeZone", "role", "c.d", "COMMENT"))
    given = describe(
        server, "shop", NEW,
        head(COMMENT, setting("TimeZone"), setting("a.b"), setting("role"), setting("work_mem"), setting("c.d", "app"), LIMIT),
    )  # fmt: skip
    assert [one for one in server.set if "a.b" in one]
    assert given.waiting == (
        'ALTER DATABASE "shop" RESET ALL;',
        "ALTER DATABASE \"shop\" SET \"a.b\" TO 'x';", "ALTER DATABASE \"shop\" SET \"work_mem\" TO 'x';",
        'ALTER DATABASE "shop" CONNECTION LIMIT = 5;',
    )  # fmt: skip
    assert given.warnings == (
        "The comment of shop was left out, because the server refuses it: c/postgres: ERROR:  no COMMENT",
        "The setting TimeZone of shop was left out, because the server refuses it: c/postgres: ERROR:  no TimeZone",
        "The setting c.d of the role app in shop was left out, because the server refuses it: c/postgres: ERROR:  no c.d",
        "The setting role of shop was left out, because the server refuses it: c/postgres: ERROR:  no role",
    )


@pytest.mark.parametrize("word", ["GRANT", "LABEL", "LIMIT"])
def test_a_restore_does_not_begin_without_what_says_who_may_use_it(word):
    with pytest.raises(RestoreError, match=f"no {word}"):
        describe(Server(refused=(word,)), "shop", NEW, head(setting("a.b"), LABEL, GRANT, LIMIT))


@pytest.mark.parametrize("sqlstate", [None, "08006", "40P01", "53300", "55P03", "57014", "57P01", "58030"])
def test_what_is_no_refusal_leaves_nothing_out(sqlstate):
    assert not is_refusal(sqlstate)
    with pytest.raises(PostgresError, match=r"no a\.b"):
        describe(Server(refused=("a.b",), sqlstate=sqlstate), "shop", NEW, head(setting("a.b")))


@pytest.mark.parametrize("sqlstate", ["22023", "42704", "42501", "0A000", "55P02", "22P05", "XX000"])
def test_what_the_server_says_of_the_statement_is_one(sqlstate):
    assert is_refusal(sqlstate)
