# SPDX-License-Identifier: GPL-3.0-or-later
"""What no limit of time, no index and no event trigger of a server may do to our sessions and client programs."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

import pytest
from scalr_backup.core.errors import SilentCommandError
from scalr_backup.core.model import Credentials
from scalr_backup.tools.docker.exec_stream import ExecResult
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.limits import without_limits
from scalr_backup.tools.postgres.queries import count_rows
from scalr_backup.tools.postgres.session import SqlSession

LIFTED = "-c default_transaction_read_only=off -c statement_timeout=0 -c temp_file_limit=-1"
REPLICA = "-c session_replication_role=replica"


class Notes:
    """A server that notes how it is called, and what is written to it; it says nothing."""

    def __init__(self):
        self.calls = []
        self.written = []
        self.seconds = []

    def start_exec(self, _container, argv, environment, **options):
        self.seconds.append(options.get("silence_seconds"))
        self.calls.append((argv, environment))
        raise SilentCommandError("nothing")

    def run(self, _container, argv, environment=None, **options):
        self.seconds.append(options.get("silence_seconds"))
        self.calls.append((argv, environment or {}))
        return ExecResult(0, b"", "")

    def how_it_ended(self, *_arguments):
        return "it ended"

    def options_of(self, program):
        """What the calls of a program say to its sessions."""
        return [environment["PGOPTIONS"] for argv, environment in self.calls if argv[0] == program]


@pytest.fixture
def server():
    return Notes()


def postgres(server, triggers=REPLICA):
    facts = {("c", "home"): "postgres", ("c", "without event triggers"): triggers, ("c", "limits"): LIFTED}
    facts["c", "home encoding"] = "UTF8"
    return Postgres(server, "c", Credentials("postgres"), "scalr-backup r", facts=facts)


def test_only_limits_that_the_server_knows_are_named():
    assert without_limits(["statement_timeout=0", "temp_file_limit=-1"]) == LIFTED
    assert without_limits([]) == "-c default_transaction_read_only=off"


@pytest.mark.parametrize(
    ("program", "call"),
    [
        ("pg_restore", lambda one: one.start_restore("new", 1.0)),
        ("pg_restore", lambda one: one.start_post_data("new", None, None, 1, 1.0)),
        ("pg_dumpall", lambda one: one.globals_sql()),
        ("pg_amcheck", lambda one: one.check_relations("new", 1)),
        ("psql", lambda one: one.run_read_only("new", "SELECT true")),
    ],
)
def test_no_limit_of_the_server_ends_a_client_program(server, program, call):
    with suppress(Exception):
        call(postgres(server))
    [options] = server.options_of(program)
    assert options.startswith(LIFTED)


def test_an_assertion_keeps_the_hour_that_it_has(server):
    with suppress(Exception):
        postgres(server).run_read_only("new", "SELECT true")
    assert server.options_of("psql")[0].split("statement_timeout=")[-1].startswith("3600000")


def test_a_script_of_many_such_assertions_has_a_day(server):
    with suppress(Exception):
        postgres(server).run_read_only("new", "SELECT true")
    assert server.seconds == [24 * 3600.0]


def test_a_busy_server_has_minutes_to_end_what_was_left(server):
    with suppress(SilentCommandError):
        postgres(server).end_leftovers("scalr-backup r$")
    assert server.seconds == [300.0]


@pytest.mark.parametrize(
    "start",
    [
        lambda one: one.start_restore("new", 1.0),
        lambda one: one.start_post_data("new", None, None, 1, 1.0),
        lambda one: one.start_post_data("new", "/dev/shm/head", None, 4, 1.0),
    ],
    ids=["before the data, and the data", "after it, from a stream", "after it, by several jobs"],
)
def test_event_triggers_keep_still_in_every_section(server, start):
    with pytest.raises(SilentCommandError):
        start(postgres(server))
    assert REPLICA in server.options_of("pg_restore")[0]


def test_a_session_lifts_the_limits_before_its_first_query():
    written = []
    stream = SimpleNamespace(
        write=lambda data, _waiting: written.append(data.decode()), frames=lambda _waiting: iter(())
    )
    SqlSession(stream, "c/shop", lambda: None)
    [first] = written
    assert all(name in first for name in ("transaction_timeout", "idle_session_timeout", "statement_timeout"))
    assert "\\gset" in first, "it must print nothing among the answers"


def test_rows_are_counted_without_asking_an_index():
    asked = []

    def query(sql, _most=None):
        asked.append(sql)
        return []

    count_rows(SimpleNamespace(query=query))
    before = asked[: next(number for number, sql in enumerate(asked) if "count(*)" in sql)]
    said = " ".join(before)
    for kind in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"):
        assert f"SET {kind} = off" in said
    assert "SET enable_seqscan = on" in said


@pytest.mark.parametrize("is_closed", [True, False])
def test_in_a_database_that_nobody_else_enters_tables_of_other_owners_are_counted_by_a_query(is_closed):
    """COPY of all that a role owns takes far longer, and a restore waits for the counts."""
    asked = []

    def query(sql, _most=None):
        asked.append(sql)
        return []

    count_rows(SimpleNamespace(query=query), is_closed=is_closed)
    [counting] = [sql for sql in asked if "count(*)" in sql]
    assert "pg_depend" in counting, "code that is there already is never run"
    assert ("relowner" not in counting) == is_closed
