# SPDX-License-Identifier: GPL-3.0-or-later
"""A pass with ordered tables whose parts are killed, wherever it stands: no snapshot remains, and nothing in the container."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker, finish, inside, wait_until

# By their names, the tables' data stands in an archive so: ordered, as it lies, ordered.
TABLES = """
CREATE TABLE a (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text);
INSERT INTO a (note) SELECT repeat(md5(n::text), 8) FROM generate_series(1, 12000) AS n;
UPDATE a SET note = note || '!' WHERE id % 3 = 0;
CREATE TABLE b AS SELECT id, note FROM a;
CREATE TABLE c (LIKE a INCLUDING ALL);
INSERT INTO c (note) SELECT note FROM a;
ANALYZE;
"""
# Passes a program's output on, and stops for ever within it: no look at a catalog is that long.
UNTIL = r"""
fifo=$(mktemp -u); mkfifo "$fifo"
"$real" "$@" <&0 > "$fifo" & child=$!
perl -e '
  while (($got = sysread(STDIN, $piece, 65536)) > 0) {
    if (($passed += $got) > 1000000) {
      open(F, ">/tmp/victim"); print F "$ARGV[0] $$"; close F; rename("/tmp/victim", "/tmp/reached");
      sleep 1 until -e "/tmp/go";
    }
    syswrite(STDOUT, $piece);
  }' "$child" < "$fifo"
rm -f "$fifo"; wait "$child"
"""
# What runs instead of a program of the container, and of which one.
STAGES = {
    "before the head": ("pg_dump", "echo $$ > /tmp/victim; mv /tmp/victim /tmp/reached; exec sleep 600"),
    "in an ordered block": ("psql", UNTIL),
    "in a plain block": ("pg_dump", f'[ ! -e /tmp/reached ] || exec "$real" "$@"\n{UNTIL}'),
    "at the end": ("pg_dump", '"$real" "$@"; echo $$ > /tmp/victim; mv /tmp/victim /tmp/reached; exec sleep 600'),
}


def stop(agent: AgentContainer, signal: str) -> None:
    agent.kill_processes("scalr_backup backup", signal)


def kill_all_of_the_agent(agent: AgentContainer, _database: DatabaseContainer) -> None:
    stop(agent, "KILL")
    agent.kill_processes("scalr_backup.actions.backup.producer")


def end_the_pass(agent: AgentContainer, _database: DatabaseContainer) -> None:
    stop(agent, "TERM")


def kill_the_producer(agent: AgentContainer, _database: DatabaseContainer) -> None:
    agent.kill_processes("scalr_backup.actions.backup.producer")


def end_the_producer(agent: AgentContainer, _database: DatabaseContainer) -> None:
    agent.kill_processes("scalr_backup.actions.backup.producer", "TERM")


def kill_the_program(_agent: AgentContainer, database: DatabaseContainer) -> None:
    """The very psql or pg_dump that stands there, and what passes its output on."""
    inside(database.name, "sh", "-c", "kill -9 $(cat /tmp/reached)")


def end_the_sessions(_agent: AgentContainer, database: DatabaseContainer) -> None:
    """As an administrator may who finds a transaction that has been open for too long."""
    database.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^scalr-backup [0-9]{8}T'"
    )
    inside(database.name, "touch", "/tmp/go")


def kill_the_server(_agent: AgentContainer, database: DatabaseContainer) -> None:
    docker("kill", database.name)


KILLS: dict[str, Callable[[AgentContainer, DatabaseContainer], None]] = {
    "the agent": kill_all_of_the_agent,
    "the pass": end_the_pass,
    "the producer": kill_the_producer,
    "the producer, gently": end_the_producer,
    "the program": kill_the_program,
    "the sessions": end_the_sessions,
    "the server": kill_the_server,
}
TRIED_AGAIN = {
    ("in an ordered block", "the program"),
    ("in an ordered block", "the sessions"),
    ("in a plain block", "the program"),
}
BY_DEFAULT = {
    ("before the head", "the pass"),
    ("in an ordered block", "the sessions"),
    ("in a plain block", "the producer"),
    ("at the end", "the server"),
}


@pytest.fixture(scope="module")
def made(make_database: Callable[..., DatabaseContainer], keeper: AgentContainer) -> DatabaseContainer:
    database = make_database("killed", options=["--init"])
    database.sql(TABLES)
    keeper.configure(row_order="auto", row_order_least_bytes=0)
    return database


@pytest.fixture
def database(made: DatabaseContainer, keeper: AgentContainer) -> Iterator[DatabaseContainer]:
    """The one database, which is as before after each test."""
    yield made
    docker("start", made.name)
    made.wait()
    for program in ("psql", "pg_dump"):
        made.unwrap(program)


@pytest.mark.parametrize(
    ("stage", "victim"),
    [
        pytest.param(stage, victim, marks=[] if (stage, victim) in BY_DEFAULT else pytest.mark.thorough)
        for stage in STAGES
        for victim in KILLS
    ],
)
def test_what_is_killed_leaves_no_snapshot_and_no_session(
    keeper: AgentContainer, database: DatabaseContainer, stage: str, victim: str
) -> None:
    before = snapshots(keeper)
    program, script = STAGES[stage]
    inside(database.name, "rm", "-f", "/tmp/go")
    database.wrap(program, script)
    process = keeper.start_call("backup", "--db", database.name)
    wait_until(database.reached, stage)
    KILLS[victim](keeper, database)

    added = 0
    if victim == "the agent":
        process.communicate(timeout=60)
    else:
        call = finish(process, timeout=120)
        # What reads rows in order, and a pg_dump that waits for it, is what a plain dump does without: it is dumped once more.
        added = int((stage, victim) in TRIED_AGAIN)
        assert (call.exit_code == 0) == bool(added), call.output
        if added:
            assert call.data["databases"][0]["rows"] == 36000
            assert any("in heap order" in warning for warning in call.data["warnings"])
    assert len(snapshots(keeper) - before) == added
    if victim == "the server":
        docker("start", database.name)
        database.wait()
    database.unwrap(program)
    if victim != "the agent":
        assert left(database) == (0, 0, 0)
    data = keeper.ok("backup", "--db", database.name)
    assert data["databases"][0]["rows"] == 36000
    assert left(database) == (0, 0, 0)
    assert len(snapshots(keeper) - before) == added + 1


def left(database: DatabaseContainer) -> tuple[int, int, int]:
    """What of a run is still there: sessions, and programs."""
    return database.sessions_of_agent(), database.processes("pg_dump"), database.processes("psql")


def snapshots(agent: AgentContainer) -> set[str]:
    """The dumps in the repository, as restic itself lists them."""
    listed = json.loads(agent.restic("snapshots", "--json"))
    return {one["id"] for one in listed if one["paths"][0].endswith(".dump")}
