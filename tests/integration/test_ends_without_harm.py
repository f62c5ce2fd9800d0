"""What the agent ends in a database container, and the server beside it, which is the container's first process.

A child that it does not know and that ends by a signal makes the postmaster end every session. So the app keeps one open here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from scalr_backup.core.errors import LateAnswerError
from scalr_backup.core.model import Credentials
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.docker.exec_stream import ExecStream
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import Patience

from tests.support.containers import DatabaseContainer, docker, inside, wait_until

APPLICATION = "scalr-backup 20261122T030000Z-3f9a"
# All that a run of ours has in its environment, by number and name, whatever it is.
MARKED = r"""
for process in /proc/[0-9]*; do
  tr '\0' '\n' 2>/dev/null < "$process/environ" | grep -q '^SCALR_BACKUP_EXEC=' && cat "$process/comm"
done 2>/dev/null
:
"""
ARCHIVE = """
psql -qU postgres -c 'CREATE TABLE t AS SELECT n, n AS m FROM generate_series(1, 1000) AS n; CREATE INDEX ON t (n); CREATE INDEX ON t (m)'
psql -qU postgres -c 'CREATE DATABASE other'
pg_dump -U postgres -Fc -f /tmp/t.dump postgres
pg_restore -U postgres -d other --section=pre-data --section=data /tmp/t.dump
"""

VERSIONS = [17, *(pytest.param(version, marks=pytest.mark.thorough) for version in (15, 18))]


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest, make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    """A server as the official image runs it: its first process is the postmaster."""
    database = make_database(f"unharmed-{request.param}", image=f"postgres:{request.param}")
    inside(database.name, "sh", "-ec", ARCHIVE)
    return database


@pytest.fixture(params=["end", "leftovers"])
def ends(request: pytest.FixtureRequest) -> str:
    """Which of its two ways the agent ends what runs: it knows the command, or it finds what a killed run has left."""
    return str(request.param)


def client_of(server: DatabaseContainer, system_user: str | None = None) -> Postgres:
    return Postgres(DockerHost(), server.name, Credentials("postgres", system_user=system_user), APPLICATION)


@contextmanager
def app(server: DatabaseContainer) -> Iterator[None]:
    """A session of the app, which must be there at the end; nothing of ours may be."""
    argv = ["docker", "exec", "-i", server.name, "psql", "-XAtqU", "postgres"]
    server.wait()
    before = crashes(server)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdin
        assert session.stdout
        session.stdin.write("SELECT 'here';\n")
        session.stdin.flush()
        assert session.stdout.readline() == "here\n"
        yield
        wait_until(lambda: marked(server) == [], "nothing is left", seconds=20)
        assert crashes(server) == before
        assert session.communicate("SELECT 'still here';\n")[0] == "still here\n"


def crashes(server: DatabaseContainer) -> int:
    """How often the server has taken something for a crash."""
    log = docker("logs", server.name)
    return (log.stdout + log.stderr).count("terminating any other active server processes")


def marked(server: DatabaseContainer) -> list[str]:
    """The names of the processes that are ours."""
    return sorted(docker("exec", server.name, "sh", "-c", MARKED).stdout.split())


def finish(postgres: Postgres, stream: ExecStream, ends: str) -> None:
    if ends == "end":
        postgres.end_client(stream)
    else:
        assert postgres.end_leftovers(f"{APPLICATION}$") > 0


def test_a_client_that_a_shell_outlives(server: DatabaseContainer, ends: str) -> None:
    postgres = client_of(server)
    # Neither goes on by itself: the one asks the server, and the other, which has not connected, catches no signal yet.
    argv = ["psql", "-c", "SELECT pg_sleep(600)"] if ends == "end" else ["pg_restore", "--list"]
    with app(server), postgres.start_client(argv, 60) as stream:
        wait_until(lambda: marked(server) == [argv[0], "sh"], "it waits")
        finish(postgres, stream, ends)


def test_a_restore_of_several_jobs(server: DatabaseContainer, ends: str) -> None:
    postgres = client_of(server)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock'"
    lock = ["docker", "exec", "-i", server.name, "psql", "-XAtqU", "postgres", "other"]
    with app(server), subprocess.Popen(lock, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write("BEGIN; LOCK TABLE t; SELECT 'locked';\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "locked\n"
        with postgres.start_post_data("other", "/tmp/t.dump", None, 2, 60) as stream:
            wait_until(lambda: server.sql(waiting) == "2", "both jobs wait")
            finish(postgres, stream, ends)
        holder.communicate()


def test_a_shell_whose_program_hangs(server: DatabaseContainer) -> None:
    with app(server), pytest.raises(LateAnswerError):
        DockerHost().run(server.name, ["sh", "-c", "told=$(sleep 600) && echo $told; :"], silence_seconds=1)


@pytest.mark.thorough
def test_a_shell_that_always_starts_another_program(server: DatabaseContainer) -> None:
    stubborn = "trap '' TERM HUP INT PIPE; while :; do sleep 1; done"
    with app(server), pytest.raises(LateAnswerError):
        DockerHost().run(server.name, ["bash", "-c", stubborn], silence_seconds=1)


def test_a_session_of_another_account(server: DatabaseContainer, ends: str) -> None:
    postgres = client_of(server, "postgres")
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'"
    with (
        app(server),
        DockerHost()
        .as_account("postgres")
        .start_exec(server.name, ["psql", "-c", "SELECT pg_sleep(600)"], postgres.environment()) as stream,
    ):
        wait_until(lambda: server.sql(asleep) == "1", "it sleeps")
        finish(postgres, stream, ends)


@pytest.mark.thorough
def test_beside_another_first_process_nothing_has_to_stay(make_database: Callable[..., DatabaseContainer]) -> None:
    server = make_database("initialized", options=("--init",))
    orphan = "sleep 600 & exit 0"
    docker("exec", "--env", f"PGAPPNAME={APPLICATION}", "--env", "SCALR_BACKUP_EXEC=x", server.name, "sh", "-c", orphan)
    with app(server):
        assert marked(server) == ["sleep"]
        assert client_of(server).end_leftovers(f"{APPLICATION}$") == 1


@pytest.mark.thorough
def test_an_orphan_whose_end_would_be_taken_for_a_crash_stays_and_is_told(server: DatabaseContainer) -> None:
    orphan = "sleep 15 & exit 0"
    docker("exec", "--env", f"PGAPPNAME={APPLICATION}", "--env", "SCALR_BACKUP_EXEC=x", server.name, "sh", "-c", orphan)
    told: list[str] = []
    postgres = Postgres(
        DockerHost(), server.name, Credentials("postgres"), APPLICATION, patience=Patience(tell=told.append)
    )
    with app(server):
        assert postgres.end_leftovers(f"{APPLICATION}$") == 0
        assert marked(server) == ["sleep"]
        assert told[0].endswith(" sleep.")
