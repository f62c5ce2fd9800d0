"""Restores that are killed, told to stop, or lose a container, in each of their phases.

The database container runs without an init, as most do: what a client leaves there is the postmaster's to reap.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.containers import AgentContainer, Call, DatabaseContainer, docker, finish, wait_until
from tests.support.restores import half_made, leftovers, one_sentence, outcome_of, portrait, session

# A phase lasts as long as a file of its name lies in the container: functions of the database's own wait for it.
CONTENT = """
CREATE FUNCTION public.held(integer, phase text) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
  WHILE (pg_catalog.pg_stat_file('/tmp/hold-' OPERATOR(pg_catalog.||) $2, true)).size IS NOT NULL LOOP
    PERFORM pg_catalog.pg_sleep(0.1);
  END LOOP;
  RETURN $1;
END $$;
CREATE TABLE public.a (n integer CHECK (public.held(n, 'data') = n));
INSERT INTO public.a SELECT generate_series(1, 3);
CREATE TABLE public.b AS SELECT n, repeat(md5(n::text), 20) AS note FROM generate_series(1, 4500) AS n;
CREATE TABLE public.c AS SELECT n FROM generate_series(1, 10) AS n;
CREATE INDEX ON public.b (public.held(n, 'indexes'));
CREATE INDEX ON public.c (public.held(n, 'indexes'));
CREATE INDEX ON public.c (n);
CREATE TABLE public.d AS SELECT 1 AS n;
ALTER TABLE public.d OWNER TO shop_owner;
"""
# What holds up a restore from outside, and how a phase that stands still shows.
ADMINISTRATOR = {
    "roles": "LOCK TABLE pg_authid IN SHARE MODE",
    "swap": "COMMENT ON DATABASE shop IS 'an administrator works'",
}
STANDS_STILL = {
    "roles": "application_name ~ '^scalr-backup 2' AND wait_event_type = 'Lock'",
    "data": "query LIKE 'COPY public.a %' AND state = 'active'",
    "indexes": "query LIKE 'CREATE INDEX%' AND query LIKE '%held%'",
    "verify": "query LIKE '%count(*)%' AND wait_event_type = 'Lock'",
    "analyze": "query LIKE 'ANALYZE%' AND wait_event = 'PgSleep'",
    "swap": "query LIKE 'ALTER DATABASE%' AND wait_event_type = 'Lock'",
}
PHASES = tuple(STANDS_STILL)


@dataclass
class House:
    """A shop in a container without an init, its agent, and what its snapshot holds."""

    agent: AgentContainer
    database: DatabaseContainer
    good: dict[str, Any]
    snapshot: str
    started: str

    def arguments(self) -> list[str]:
        name = self.database.name
        return ["--db", name, "--database", "shop", "--snapshot", self.snapshot, "--confirm", name]

    def restore(self) -> Call:
        return self.agent.call("restore", *self.arguments(), "--no-safety-snapshot")

    def start(self) -> subprocess.Popen[str]:
        return self.agent.start_call("restore", *self.arguments(), "--no-safety-snapshot")

    def waits(self, restore: subprocess.Popen[str], activity: str) -> None:
        """Wait until a backend of the restore, or of what it does, stands still there."""
        count = f"SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {activity}"

        def is_so() -> bool:
            assert restore.poll() is None, restore.communicate()[0]
            return self.database.sql(count) != "0"

        wait_until(is_so, activity)

    def is_over(self, activity: str) -> None:
        """Wait until no backend does that any more."""
        count = f"SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {activity}"
        wait_until(lambda: self.database.sql(count) == "0", f"the end of {activity}")

    @contextmanager
    def held(self, *phases: str) -> Iterator[None]:
        """Hold what waits for a file."""
        files = [f"/tmp/hold-{phase}" for phase in phases]
        docker("exec", self.database.name, "touch", *files)
        try:
            yield
        finally:
            docker("exec", self.database.name, "rm", "-f", *files, check=False)

    def is_whole(self, damaged: dict[str, str]) -> None:
        """The live database is as it was, and its server has never stopped."""
        assert self.database.fingerprint("shop") == damaged
        assert self.database.sql("SELECT pg_postmaster_start_time()") == self.started
        log = docker("logs", self.database.name)
        assert "terminating any other active server processes" not in log.stdout + log.stderr

    def nothing_is_left(self) -> None:
        """No database, session, process, or file is left of any run."""
        assert not leftovers(self.database)
        assert docker("exec", self.database.name, "sh", "-c", "ls /dev/shm | grep scalr || :").stdout == ""


def spoil(database: DatabaseContainer) -> dict[str, str]:
    database.sql("DELETE FROM public.b WHERE n % 2 = 0; INSERT INTO public.c VALUES (0)", "shop")
    return database.fingerprint("shop")


@pytest.fixture(scope="module")
def house(
    agent_image: str,
    prefix: str,
    make_database: Callable[..., DatabaseContainer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    """The house of the whole module."""
    agent = AgentContainer(tmp_path_factory.mktemp("house"), [f"{prefix}-*-db"], agent_image)
    try:
        agent.start()
        agent.make_repository()
        database = make_database("house")
        database.sql("CREATE ROLE shop_owner; CREATE ROLE late_comer; CREATE DATABASE shop")
        database.sql(CONTENT, "shop")
        saved = agent.ok("backup", "--db", database.name, "--tag", "pinned")["databases"][0]["snapshot_id"]
        started = database.sql("SELECT pg_postmaster_start_time()")
        yield House(agent, database, portrait(database, "shop"), saved, started)
    finally:
        agent.remove()


@pytest.fixture(autouse=True)
def at_rest(house: House) -> Iterator[None]:
    """No test sees another one's accident."""
    yield
    docker("exec", house.database.name, "sh", "-c", "rm -f /tmp/hold-*")
    house.agent.kill_processes("scalr_backup restore")


@contextmanager
def in_phase(house: House, phase: str) -> Iterator[subprocess.Popen[str]]:
    """A restore that stands still in a phase, until the end of the block."""
    with ExitStack() as held:
        indexes = held.enter_context(ExitStack())
        if phase in {"roles", "swap"}:
            administrator = held.enter_context(session(house.database, "postgres"))
            assert administrator(f"BEGIN; {ADMINISTRATOR[phase]}; SELECT 'held';") == "held"
        elif phase == "data":
            held.enter_context(house.held("data"))
        else:
            indexes.enter_context(house.held("indexes"))
        restore = house.start()
        if phase in {"indexes", "verify", "analyze"}:
            house.waits(restore, "query LIKE 'CREATE INDEX%' AND query LIKE '%held%'")
        if phase == "indexes":
            wait_until(lambda: house.database.processes("pg_restore") >= 2, "several jobs")
        if phase in {"verify", "analyze"}:
            [new] = half_made(house.database)
            reader = held.enter_context(session(house.database, new))
            assert reader("BEGIN; LOCK TABLE public.a; SELECT 'held';") == "held"
            indexes.close()
            house.waits(restore, "query LIKE '%count(*)%' AND wait_event_type = 'Lock'")
        if phase == "analyze":
            held.enter_context(house.held("indexes"))
            assert reader("COMMIT; SELECT 'free';") == "free"
        house.waits(restore, STANDS_STILL[phase])
        yield restore


@pytest.mark.parametrize(
    "phase",
    [one if one in ("data", "indexes", "swap") else pytest.param(one, marks=pytest.mark.thorough) for one in PHASES],
)
def test_a_restore_killed_in_any_phase_is_cleaned_up_by_the_next_one(house: House, phase: str) -> None:
    damaged = spoil(house.database)
    if phase == "roles":
        house.database.sql("REASSIGN OWNED BY shop_owner TO postgres", "shop")
        house.database.sql("DROP ROLE shop_owner")
        damaged = house.database.fingerprint("shop")
    with in_phase(house, phase) as restore:
        house.agent.kill_processes("scalr_backup restore")
        restore.communicate()
        if phase != "swap":
            house.is_whole(damaged)
    if phase == "swap":
        # Its transaction may be with the server already, and happen wholly now that the administrator has ended. While it
        # commits, there is no database to connect to for a moment.
        house.is_over("query LIKE 'ALTER DATABASE%' AND state <> 'idle'")
        if house.database.fingerprint("shop") == house.good["rows"]:
            damaged = house.good["rows"]
    house.is_whole(damaged)

    call = house.restore()

    assert call.exit_code == 0, call.output
    told = " ".join(call.data["warnings"])
    if phase == "swap":
        assert "was killed before its swap" in told or "had swapped" in told
    elif phase != "roles":
        assert "was killed before its swap" in told
    assert portrait(house.database, "shop") == house.good
    house.nothing_is_left()
    house.is_whole(house.good["rows"])


# SIGTERM and SIGKILL part where something runs in the database's container, and in the swap.
@pytest.mark.parametrize(
    "phase", [one if one in ("data", "swap") else pytest.param(one, marks=pytest.mark.thorough) for one in PHASES]
)
def test_a_restore_told_to_stop_in_any_phase_leaves_nothing(house: House, phase: str) -> None:
    damaged = spoil(house.database)
    if phase == "roles":
        house.database.sql("REASSIGN OWNED BY shop_owner TO postgres", "shop")
        house.database.sql("DROP ROLE shop_owner")
        damaged = house.database.fingerprint("shop")
    began = time.monotonic()
    with in_phase(house, phase) as restore:
        house.agent.kill_processes("scalr_backup restore", "TERM")
        if phase in {"roles", "swap"}:
            # A transaction that has begun is waited for: either all of it or nothing.
            time.sleep(1)
        else:
            call = finish(restore)
    if phase in {"roles", "swap"}:
        call = finish(restore)
    if phase == "swap" and call.exit_code == 0:
        assert portrait(house.database, "shop") == house.good
        house.nothing_is_left()
        return
    assert call.exit_code == 1, call.output
    assert one_sentence(call)["code"] == "interrupted"
    assert time.monotonic() - began < 120
    house.nothing_is_left()
    house.is_whole(damaged)


def test_a_slow_phase_tells_every_few_seconds_that_it_goes_on(house: House) -> None:
    spoil(house.database)
    with house.held("data"):
        restore = house.start()
        house.waits(restore, "query LIKE 'COPY public.a %' AND state = 'active'")
        with house.held("indexes"):
            time.sleep(7)
            docker("exec", house.database.name, "rm", "/tmp/hold-data")
            house.waits(restore, "query LIKE 'CREATE INDEX%' AND query LIKE '%held%'")
            time.sleep(7)
    call = finish(restore)
    assert call.exit_code == 0, call.output
    for phase in ("data", "indexes-and-constraints"):
        told = [event.get("elapsed_seconds", 0) for event in call.events if event.get("phase") == phase]
        # Each tells its first moment, then every three seconds; on a busy machine a little later.
        assert told[-1] > 5
        assert len(told) >= 3, told
    assert outcome_of(call)["jobs"] == 2
    assert outcome_of(call)["seconds"]["data"] > 5
    assert outcome_of(call)["seconds"]["post_data"] > 5


def test_the_agents_container_is_killed(house: House) -> None:
    damaged = spoil(house.database)
    with in_phase(house, "indexes") as restore:
        docker("kill", house.agent.name)
        restore.communicate()
    docker("start", house.agent.name)
    house.is_whole(damaged)
    done = house.agent.ok("backup", "--db", house.database.name)
    assert any("was killed before its swap" in warning for warning in done["warnings"])
    house.nothing_is_left()
    house.is_whole(damaged)


def test_the_database_container_restarts_while_indexes_are_made_and_they_are_made_again(house: House) -> None:
    spoil(house.database)
    with in_phase(house, "indexes") as restore:
        docker("restart", "--time", "5", house.database.name)
        docker("exec", house.database.name, "rm", "-f", "/tmp/hold-indexes")
        call = finish(restore, timeout=240)
    assert call.exit_code == 0, call.output
    assert any("so it was loaded again with one" in warning for warning in call.data["warnings"])
    assert outcome_of(call)["jobs"] == 1
    assert portrait(house.database, "shop") == house.good
    house.nothing_is_left()
