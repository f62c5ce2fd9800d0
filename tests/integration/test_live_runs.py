"""Runs beside each other on one server: only what a run that is dead has left is cleaned away."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker, finish, parse_call, wait_until
from tests.support.restores import leftovers, one_sentence, outcome_of, session

# A client program that says so and waits, until a file lets it go on.
HELD = 'touch /tmp/reached; while [ ! -e /tmp/go-on ]; do sleep 0.1; done; exec "$real" "$@"'
# psql is what the agent asks everything with: of a pass, its look at the server or what it asks after its roles is held.
HELD_LOOK, HELD_SETTINGS = (
    f'case "$PGAPPNAME" in *Z-*" {what}") {HELD};; esac; exec "$real" "$@"' for what in ("look", "roles")
)


@pytest.fixture(scope="module")
def shop(make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    """A server with one database that is restored over and over, and another one."""
    database = make_database("live", command=("-c", "max_prepared_transactions=2"))
    database.sql("CREATE ROLE shop_owner; CREATE DATABASE shop; CREATE DATABASE second")
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 100) AS n", "shop")
    return database


@pytest.fixture(autouse=True)
def unwrapped(shop: DatabaseContainer) -> Iterator[None]:
    """No test sees another one's held programs."""
    docker("exec", shop.name, "rm", "-f", "/tmp/go-on")
    yield
    docker("exec", shop.name, "touch", "/tmp/go-on")
    for program in ("psql", "pg_dumpall", "pg_dump"):
        shop.unwrap(program)


def go_on(shop: DatabaseContainer) -> None:
    docker("exec", shop.name, "touch", "/tmp/go-on")


def restored(agent: AgentContainer, shop: DatabaseContainer) -> list[str]:
    """Restore one database; what the restore warned of."""
    confirm = ["--confirm", shop.name]
    data = agent.ok("restore", "--db", shop.name, "--database", "shop", "--no-safety-snapshot", *confirm)
    return list(data["warnings"])


def is_whole(agent: AgentContainer, running: subprocess.Popen[str]) -> None:
    """The pass that was beside a restore ends well, and its manifest knows the roles."""
    call = finish(running)
    assert call.exit_code == 0, call.output
    assert call.data["warnings"] == []
    manifest = json.loads(agent.restic("dump", call.data["manifest_snapshot_id"], "/manifest.json"))
    assert "CREATE ROLE shop_owner" in manifest["clusters"][0]["globals"]
    assert {one["database"] for one in manifest["clusters"][0]["databases"]} == {"shop", "second"}


@pytest.mark.parametrize("program", [pytest.param("psql", marks=pytest.mark.thorough), "pg_dumpall"])
def test_a_restore_beside_a_live_pass_takes_nothing_of_it_for_a_leftover(
    agent: AgentContainer, shop: DatabaseContainer, program: str
) -> None:
    agent.ok("backup", "--db", shop.name)
    shop.wrap(program, HELD_LOOK if program == "psql" else HELD)
    running = agent.start_call("backup", "--db", shop.name)
    wait_until(shop.reached, f"the pass is at its {program}")
    warnings = restored(agent, shop)
    go_on(shop)
    is_whole(agent, running)
    assert warnings == []


def test_another_agent_beside_a_live_pass_takes_nothing_of_it_for_a_leftover(
    agent: AgentContainer, shop: DatabaseContainer, agent_image: str, tmp_path: Path
) -> None:
    """It shares no state with the one whose pass it is, so nobody tells it what is alive."""
    other = AgentContainer(tmp_path / "other", [shop.name], agent_image)
    try:
        other.start()
        other.ok("init")
        shop.wrap("pg_dumpall", HELD)
        running = agent.start_call("backup", "--db", shop.name)
        wait_until(shop.reached, "the pass is at its roles")
        shop.unwrap("pg_dumpall")
        data = other.ok("backup", "--db", shop.name)
        go_on(shop)
        is_whole(agent, running)
        assert data["warnings"] == []
    finally:
        other.remove()


@pytest.mark.parametrize(
    ("program", "script"),
    [
        pytest.param("psql", HELD_LOOK, marks=pytest.mark.thorough),
        pytest.param("pg_dumpall", HELD, marks=pytest.mark.thorough),
        ("psql", HELD_SETTINGS),
    ],
    ids=["at its look", "at its roles", "before its manifest"],
)
def test_a_killed_pass_is_cleaned_up_by_the_next_one_which_is_whole(
    agent: AgentContainer, shop: DatabaseContainer, program: str, script: str
) -> None:
    shop.wrap(program, script)
    running = agent.start_call("backup", "--db", shop.name)
    wait_until(shop.reached, f"the pass is at its {program}")
    agent.kill_processes("scalr_backup backup")
    running.communicate(timeout=60)
    shop.unwrap(program)
    call = agent.call("backup", "--db", shop.name)
    assert call.exit_code == 0, call.output
    manifest = json.loads(agent.restic("dump", call.data["manifest_snapshot_id"], "/manifest.json"))
    assert "CREATE ROLE shop_owner" in manifest["clusters"][0]["globals"]
    assert not leftovers(shop)
    assert docker("exec", agent.name, "ls", "-A", "/tmp").stdout == ""
    assert shop.processes("psql") + shop.processes("pg_dumpall") == 0


# What an operator's transaction says beside its lock; no message may repeat it.
LOCK = "BEGIN; LOCK TABLE public.t; SELECT 'held' /* canary-query */;"


def wait_for_lock(shop: DatabaseContainer) -> None:
    waiting = "wait_event_type = 'Lock' AND application_name ~ '^scalr-backup 2'"
    wait_until(
        lambda: shop.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {waiting}") != "0", "it waits for the lock"
    )


def test_a_dump_that_waits_for_a_lock_says_for_whom_and_ends_when_it_is_told_to(
    agent: AgentContainer, shop: DatabaseContainer
) -> None:
    with session(shop, "shop") as operator:
        assert operator(LOCK) == "held"
        running = agent.start_call("backup", "--db", shop.name)
        wait_for_lock(shop)
        assert running.stdout
        told = next(line for line in running.stdout if "waits for the table" in line)
        agent.kill_processes("scalr_backup backup", "TERM")
        call = finish(running)
        assert operator("COMMIT; SELECT 'never ended';") == "never ended"
    assert call.exit_code == 1, call.output
    assert one_sentence(call)["code"] == "interrupted"
    assert leftovers(shop) == set()
    assert "public.t, locked by process " in told
    assert "user postgres, application psql, idle in transaction, since 2" in told
    assert "canary" not in told + call.output


@pytest.mark.parametrize(
    "anew",
    [
        pytest.param("TRUNCATE t; INSERT INTO t SELECT generate_series(1, 150)", marks=pytest.mark.thorough),
        "CREATE TABLE n AS SELECT generate_series(1, 150) AS n; DROP TABLE t; ALTER TABLE n RENAME TO t",
        # The lock of the green one finds no table of that name.
        "ALTER TABLE t RENAME TO blue; ALTER TABLE green RENAME TO t",
    ],
    ids=["emptied", "replaced", "renamed with another"],
)
def test_a_table_that_is_made_anew_while_a_dump_waits_for_it_has_its_rows_in_that_dump(
    agent: AgentContainer, shop: DatabaseContainer, anew: str
) -> None:
    """An older snapshot sees neither the rows that were there nor those that came: pg_dump would save none."""
    shop.sql("CREATE TABLE green AS SELECT generate_series(1, 150) AS n", "shop")
    with session(shop, "shop") as operator:
        assert operator(f"BEGIN; {anew}; SELECT 'held';") == "held"
        running = agent.start_call("backup", "--db", shop.name)
        wait_for_lock(shop)
        assert operator("COMMIT; SELECT 'done';") == "done"
        call = finish(running)
    assert call.exit_code == 0, call.output
    [rows] = [one["rows"] for one in call.data["databases"] if one["database"] == "shop"]
    others = int(shop.sql("SELECT count(*) FROM blue", "shop")) if "blue" in anew else 150
    shop.sql(
        "DROP TABLE t; DROP TABLE IF EXISTS blue, green; CREATE TABLE t AS SELECT generate_series(1, 100) AS n", "shop"
    )
    assert rows == 150 + others


def test_a_dump_that_waited_for_a_lock_in_vain_names_what_and_whom(
    agent: AgentContainer, shop: DatabaseContainer
) -> None:
    """A prepared transaction has no process that could be found in pg_stat_activity."""
    agent.configure(lock_wait_seconds=20)
    with session(shop, "shop") as operator:
        assert operator(LOCK) == "held"
        assert operator("PREPARE TRANSACTION 'month end'; SELECT 'prepared';") == "prepared"
        call = agent.call("backup", "--db", shop.name)
        assert operator("ROLLBACK PREPARED 'month end'; SELECT 1;") == "1"
    assert call.exit_code == 3, call.output
    (failed,) = [one["error"] for one in call.data["databases"] if not one["ok"]]
    locked = "gave up waiting for the table public.t, locked by a prepared transaction (month end)"
    assert locked in failed["message"]
    assert "canary" not in call.output


def test_a_restore_whose_swap_waited_in_vain_names_whom(agent: AgentContainer, shop: DatabaseContainer) -> None:
    agent.ok("backup", "--db", shop.name)
    with session(shop, "postgres") as operator:
        assert operator("BEGIN; COMMENT ON DATABASE shop IS 'being renamed'; SELECT 'held';") == "held"
        confirm = ["--no-safety-snapshot", "--confirm", shop.name]
        call = agent.call("restore", "--db", shop.name, "--database", "shop", *confirm)
    assert call.exit_code == 1, call.output
    message = outcome_of(call)["error"]["message"]
    assert "changed nothing" in message
    assert "the database shop, locked by process " in message


def test_a_verb_that_is_told_to_end_before_it_has_begun_prints_its_result_line(agent: AgentContainer) -> None:
    told = "kill -TERM $$; exec scalr-backup discover --json"
    call = parse_call(docker("exec", agent.name, "env", "--block-signal=TERM", "sh", "-c", told, check=False))
    assert call.exit_code == 1
    assert one_sentence(call)["code"] == "interrupted"
