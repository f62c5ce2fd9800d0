"""Thirty nights of one database through the agent, with the rows in heap order and in that of a key, side by side."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from scalr_backup.core.row_order import LEAST_BYTES

from benchmarks.figures import Arm, Night
from benchmarks.shop import Profile, day, first_day
from benchmarks.sides import in_turn
from tests.support.containers import AgentContainer, DatabaseContainer, docker

# What would happen at some moment of its own happens once a night instead: the rows lie on the same pages in every run.
STEADY_SERVER = ("-c", "autovacuum=off", "-c", "fsync=off", "-c", "max_wal_size=4GB")
# Every snapshot stays, and no pass prunes.
KEEP_ALL = {"last": 100_000, "daily": 0, "weekly": 0, "monthly": 0}
NEVER = "0 0 29 2 *"
PATIENCE_SECONDS = 3600.0


@dataclass(frozen=True)
class Plan:
    """What is run: *arms* are values of the configuration's ``row_order``."""

    nights: int
    scale: float
    arms: Sequence[str]
    image: str
    directory: Path
    # The weight of the containers beside others; Docker's own is 1024.
    cpu_shares: int = 1024


def run(plan: Plan, profile: Profile) -> Iterator[Night]:
    """The nights of one profile, each as it is over. Every arm backs up the same state of the same database."""
    with _database(plan) as database, ExitStack() as stack:
        agents = {arm: stack.enter_context(_agent(plan, arm, database)) for arm in plan.arms}
        for number in range(1, plan.nights + 1):
            changes = first_day(profile, plan.scale) if number == 1 else day(profile, number, plan.scale)
            database.sql(changes, timeout=PATIENCE_SECONDS)
            size = int(database.sql("SELECT pg_database_size(current_database())"))
            order = in_turn(plan.arms, number)
            arms = {arm: _back_up(agents[arm]) for arm in order}
            yield Night(number, size, {arm: arms[arm] for arm in plan.arms})


@contextmanager
def _database(plan: Plan) -> Iterator[DatabaseContainer]:
    name = f"scalr-nights-{secrets.token_hex(3)}"
    database = DatabaseContainer(name, command=STEADY_SERVER)
    try:
        database.start()
        _weigh(plan, name)
        yield database
    finally:
        database.remove()


@contextmanager
def _agent(plan: Plan, arm: str, database: DatabaseContainer) -> Iterator[AgentContainer]:
    """An agent with a repository of its own, made by its own verb."""
    directory = plan.directory / f"{database.name}-{arm}"
    agent = AgentContainer(directory, [database.name], plan.image)
    # Tables of a small database are as large beside it as those of a large one.
    least = round(LEAST_BYTES * min(1.0, plan.scale))
    agent.configure(row_order=arm, row_order_least_bytes=least, keep=KEEP_ALL, prune_schedule=NEVER)
    try:
        agent.start()
        agent.ok("init")
        _weigh(plan, agent.name)
        yield agent
    finally:
        agent.remove()


def _weigh(plan: Plan, container: str) -> None:
    """Let others on the machine go first, once a container is up: bytes do not depend on how long they take."""
    docker("update", "--cpu-shares", str(plan.cpu_shares), container)


def _back_up(agent: AgentContainer) -> Arm:
    """One pass by the verb, and what the repository takes up after it: all its files, as on a disk of any block size."""
    data = agent.ok("backup", timeout=PATIENCE_SECONDS)
    [outcome] = data["databases"]
    files = docker("exec", agent.name, "find", "/repository", "-type", "f", "-printf", "%s\\n").stdout
    return Arm(
        dump_bytes=outcome["bytes_read"],
        new_bytes=outcome["bytes_added"],
        stored_bytes=outcome["bytes_stored"],
        repository_bytes=sum(map(int, files.split())),
    )
