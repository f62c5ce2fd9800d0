"""A pass of the agent beside what can be had without it: the bare pipe into restic, and the script of the first design.

The plain sides have restic on this machine, as such scripts do, and repositories on the same disk as the agent's.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.shop import Profile, first_day
from benchmarks.timing import Contest, take_turn
from tests.support.containers import PASSWORD, AgentContainer, DatabaseContainer, docker

PIPE, SCRIPT, HEAP, KEY = "bare pipe", "first design's script", "pass, heap order", "pass, key order"
ARMS = {HEAP: "off", KEY: "auto"}
NEW_DATA, SAME_AGAIN = "new data", "the same again"
SCALE_OF_A_GIGABYTE = 4.2
SHOP = Profile("", "")
PATIENCE_SECONDS = 7200.0
# Nothing of the server's own happens while a side is timed.
STEADY_SERVER = ("-c", "autovacuum=off", "-c", "max_wal_size=8GB", "-c", "checkpoint_timeout=1h")
# As lying in the heap: no two neighbours of a key are neighbours there.
SCATTER = """
CREATE INDEX scattered ON {table} (md5(id::text));
CLUSTER {table} USING scattered;
DROP INDEX scattered;
"""
ONE_TABLE = """
CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL);
INSERT INTO items (title) SELECT md5(n::text) FROM generate_series(1, 1000) AS n;
"""


class Plain:
    """restic on this machine, with a repository of its own, and plain scripts that use it."""

    def __init__(self, directory: Path, image: str) -> None:
        directory.mkdir()
        program = directory / "restic"
        carrier = docker("create", image).stdout.strip()
        try:
            docker("cp", "--follow-link", f"{carrier}:/usr/local/bin/restic", str(program))
        finally:
            docker("rm", carrier)
        self._environment = {
            **os.environ,
            "PATH": f"{directory}:{os.environ['PATH']}",
            "RESTIC_REPOSITORY": str(directory / "repository"),
            "RESTIC_CACHE_DIR": str(directory / "cache"),
            "RESTIC_PASSWORD": PASSWORD,
        }
        self.run("restic init -q --repository-version 2")

    def run(self, script: str) -> None:
        """Run a script; a part of a pipe that fails is a failure. Raises CalledProcessError."""
        command = ["bash", "-c", f"set -eo pipefail; {script}"]
        subprocess.run(command, check=True, env=self._environment, stdout=subprocess.DEVNULL)

    def pipe(self, container: str, database: str) -> None:
        """The least that saves a dump: nothing is compressed before restic, and nothing else is done."""
        self.run(
            f"docker exec {container} pg_dump -U postgres -Fc -Z0 {database} "
            f"| restic backup -q --stdin --stdin-filename {database}.dump --host plain"
        )

    def script(self, container: str, database: str) -> None:
        """What the first design ran: pg_dump's own compression, then the retention."""
        self.run(
            f"docker exec {container} pg_dump -U postgres -Fc {database} "
            f"| restic backup -q --stdin --stdin-filename {database}.dump --host plain "
            "&& restic forget -q --prune --host plain --keep-daily 30"
        )


class Benches:
    """The contests; each makes what it needs, and takes it away."""

    def __init__(self, directory: Path, image: str, runs: int) -> None:
        self._directory, self._image, self._runs = directory, image, runs

    def in_order(self, gigabytes: float) -> Iterator[Contest]:
        """All sides on tables whose rows lie in order: with new data, then with the same again."""
        with _database() as database, self._agents(database) as agents:
            pipe, script = self._plain(), self._plain()
            sides = {
                PIPE: lambda: pipe.pipe(database.name, "postgres"),
                SCRIPT: lambda: script.script(database.name, "postgres"),
                **agents,
            }
            new, again = (Contest(f"{gigabytes:g} GB, {words}", PIPE) for words in (NEW_DATA, SAME_AGAIN))
            for turn in range(self._runs + 1):
                database.sql("DROP TABLE IF EXISTS users, orders, events; CHECKPOINT")
                self._fill(database, gigabytes, turn)
                take_turn(new, sides, turn)
                take_turn(again, sides, turn)
            yield new
            yield again

    def scattered(self, gigabytes: float) -> Iterator[Contest]:
        """Heap order against key order on tables whose rows lie anywhere, the same data again and again."""
        with _database() as database, self._agents(database) as agents:
            self._fill(database, gigabytes, 0)
            for table in ("users", "orders", "events"):
                database.sql(SCATTER.format(table=table), timeout=PATIENCE_SECONDS)
            database.sql("VACUUM ANALYZE; CHECKPOINT")
            contest = Contest(f"{gigabytes:g} GB, rows scattered, {SAME_AGAIN}", HEAP)
            for turn in range(self._runs + 1):
                take_turn(contest, agents, turn)
            yield contest

    def many(self, databases: int) -> Iterator[Contest]:
        """Many small databases: what a pass costs beside its bytes."""
        with _database() as database, self._agents(database) as agents:
            database.sql("CREATE DATABASE one")
            database.sql(ONE_TABLE, "one")
            names = ["one", *(f"small_{number}" for number in range(2, databases + 1))]
            for name in names[1:]:
                database.sql(f"CREATE DATABASE {name} TEMPLATE one")
            plain = self._plain()

            def pipes() -> None:
                for name in names:
                    plain.pipe(database.name, name)

            contest = Contest(f"{databases} databases of one table", PIPE)
            for turn in range(self._runs + 1):
                take_turn(contest, {PIPE: pipes, KEY: agents[KEY]}, turn)
            yield contest

    def _fill(self, database: DatabaseContainer, gigabytes: float, turn: int) -> None:
        database.sql(
            first_day(SHOP, gigabytes * SCALE_OF_A_GIGABYTE, seed=turn / 100, aged=False), timeout=PATIENCE_SECONDS
        )

    def _plain(self) -> Plain:
        return Plain(self._directory / f"plain-{secrets.token_hex(3)}", self._image)

    @contextmanager
    def _agents(self, database: DatabaseContainer) -> Iterator[Mapping[str, Callable[[], object]]]:
        """The sides of the agent: one for each order, as the role runs it but for the proxy."""
        with ExitStack() as stack:
            agents = {side: stack.enter_context(self._agent(database, arm)) for side, arm in ARMS.items()}
            yield {side: _backup_by(agent) for side, agent in agents.items()}

    @contextmanager
    def _agent(self, database: DatabaseContainer, arm: str) -> Iterator[AgentContainer]:
        agent = AgentContainer(self._directory / f"agent-{secrets.token_hex(3)}", [database.name], self._image)
        agent.configure(row_order=arm)
        try:
            agent.start()
            agent.ok("init")
            yield agent
        finally:
            agent.remove()


def _backup_by(agent: AgentContainer) -> Callable[[], object]:
    return lambda: agent.ok("backup", timeout=PATIENCE_SECONDS)


@contextmanager
def _database() -> Iterator[DatabaseContainer]:
    database = DatabaseContainer(f"scalr-passes-{secrets.token_hex(3)}", command=STEADY_SERVER)
    try:
        yield database.start()
    finally:
        database.remove()
