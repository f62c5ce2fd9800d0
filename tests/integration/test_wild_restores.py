# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases as apps really run them: what they need beyond rows, and what stands in the way of their restore."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.containers import AgentContainer, Call, DatabaseContainer, docker
from tests.support.restores import leftovers, outcome_of


@pytest.fixture(scope="module")
def keeper(agent_image: str, prefix: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentContainer]:
    """The agent of the whole module."""
    container = AgentContainer(tmp_path_factory.mktemp("keeper"), [f"{prefix}-*-db"], agent_image)
    try:
        container.start()
        container.ok("init")
        yield container
    finally:
        container.remove()


@pytest.fixture(scope="module")
def plain(make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    """A server as it comes; each test has a database of its own in it."""
    return make_database("plain")


def made(server: DatabaseContainer, name: str, content: str) -> str:
    """A database with this content; its name."""
    server.sql(f"CREATE DATABASE {name}")
    server.sql(content, name)
    return name


def save(keeper: AgentContainer, server: DatabaseContainer) -> None:
    """Back up all of a server."""
    keeper.ok("backup", "--db", server.name)


def restore(keeper: AgentContainer, server: DatabaseContainer, name: str, *options: str) -> Call:
    """Restore one database from its newest snapshot, without a safety snapshot."""
    return keeper.call(
        "restore", "--db", server.name, "--database", name, "--no-safety-snapshot", "--confirm", server.name, *options
    )


# -- limits, indexes, event triggers -----------------------------------------------------------------------


LIMITS = {"15": "idle_session_timeout = '5s'", "17": "transaction_timeout = '5s'"}


@pytest.mark.parametrize("version", ["15", "17"])
def test_limits_of_time_end_neither_a_backup_nor_a_restore(
    version: str, make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database(f"limits{version}", image=f"postgres:{version}")
    # To count it, to verify it and to build its index takes longer than any of these limits.
    made(
        server,
        "shop",
        "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 200000) AS n; CREATE INDEX ON t (md5)",
    )
    server.sql(
        f"""
        ALTER SYSTEM SET {LIMITS[version]};
        ALTER ROLE postgres SET statement_timeout = '20ms';
        ALTER ROLE postgres SET lock_timeout = '1ms';
        ALTER SYSTEM SET idle_in_transaction_session_timeout = '20ms';
        ALTER DATABASE shop SET statement_timeout = '20ms';
        SELECT pg_reload_conf();
        """
    )
    saved = keeper.ok("backup", "--db", server.name)
    assert [one["rows"] for one in saved["databases"]] == [200000]
    assert not saved["warnings"]
    call = restore(keeper, server, "shop")
    assert call.exit_code == 0, call.output
    assert outcome_of(call)["verified"]["rows"] == 200000


def test_an_index_that_lacks_entries_does_not_make_a_count_too_small(
    plain: DatabaseContainer, keeper: AgentContainer
) -> None:
    made(
        plain,
        "indexed",
        """
        CREATE TABLE t AS SELECT n, repeat('x', 200) AS filler FROM generate_series(1, 20000) AS n;
        CREATE INDEX t_n ON t (n);
        UPDATE pg_index SET indisready = false WHERE indexrelid = 't_n'::regclass;
        INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(20001, 20100) AS n;
        UPDATE pg_index SET indisready = true WHERE indexrelid = 't_n'::regclass;
        """,
    )
    # The indexes are not cleaned, and the table's pages are known to be visible to all.
    plain.sql("VACUUM (FREEZE, ANALYZE, INDEX_CLEANUP OFF) t", "indexed")
    assert plain.sql("SELECT count(*) FROM t", "indexed") == "20000", "the planner trusts the index"
    saved = keeper.ok("backup", "--db", plain.name)
    assert {one["database"]: one["rows"] for one in saved["databases"]}["indexed"] == 20100
    call = restore(keeper, plain, "indexed")
    assert call.exit_code == 0, call.output
    assert outcome_of(call)["verified"]["rows"] == 20100


WATCHFUL_SQL = """
CREATE FUNCTION watchful_refuse() RETURNS event_trigger LANGUAGE plpgsql
  AS $$ BEGIN RAISE EXCEPTION 'no % after me', tg_tag; END $$;
CREATE EVENT TRIGGER watchful ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION watchful_refuse();
"""


@pytest.mark.parametrize("version", ["15", "17"])
def test_an_event_trigger_that_an_extension_brings_does_not_act_on_what_is_restored_after_it(
    version: str, make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database(f"watchful{version}", image=f"postgres:{version}")
    add_extension(server, "watchful", WATCHFUL_SQL)
    # The table was there before the extension; an archive has it after it.
    made(server, "shop", "CREATE TABLE t AS SELECT 1 AS n; CREATE EXTENSION watchful;")
    save(keeper, server)
    call = restore(keeper, server, "shop")
    assert call.exit_code == 0, call.output
    assert server.sql("SELECT evtname, evtenabled FROM pg_event_trigger", "shop") == "watchful|O"
    assert not leftovers(server)


# -- what several jobs cannot make, and one can ------------------------------------------------------------


def test_memory_that_helpers_would_share_and_the_container_lacks_is_done_without(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    # A join by several processes keeps its hash table in /dev/shm.
    planner = {"enable_mergejoin": "off", "enable_nestloop": "off", "parallel_setup_cost": "0", "work_mem": "64MB"}
    settings = [word for name, value in planner.items() for word in ("-c", f"{name}={value}")]
    server = make_database("narrow", options=["--shm-size", "3m"], command=["postgres", *settings])
    made(
        server,
        "shop",
        """
        SET max_parallel_workers_per_gather = 0;
        CREATE TABLE t AS SELECT n, md5(n::text) AS word FROM generate_series(1, 300000) AS n;
        CREATE MATERIALIZED VIEW pairs AS SELECT count(*) FROM t AS a JOIN t AS b USING (word);
        CREATE INDEX ON t (n);
        """,
    )
    refused = server.sql("REFRESH MATERIALIZED VIEW pairs", "shop", check=False)
    assert refused == "", "without helpers it works, with them it does not"
    save(keeper, server)
    call = restore(keeper, server, "shop")
    assert call.exit_code == 0, call.output
    [warning] = call.data["warnings"]
    assert "MATERIALIZED VIEW DATA public.pairs" in warning
    assert "shared memory" in warning
    assert server.sql("SELECT * FROM pairs", "shop") == "300000"


def add_extension(server: DatabaseContainer, name: str, sql: str, **control: str) -> None:
    """Put an extension that is SQL alone into a container."""
    facts = {"default_version": "1.0", "relocatable": "false", **control}
    lines = "".join(f"{key} = '{value}'\n" for key, value in facts.items())
    for ending, content in ((".control", lines), ("--1.0.sql", sql)):
        script = f"cat > $(ls -d /usr/share/postgresql/*/extension)/{name}{ending}"
        docker("exec", "-i", "-u", "root", server.name, "sh", "-c", script, stdin=content)
