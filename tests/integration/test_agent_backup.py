"""A pass over real containers: what is found, what is saved, what remains when a dump dies, and who is told."""

from __future__ import annotations

import json
import string
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.containers import (
    WAIT,
    AgentContainer,
    DatabaseContainer,
    docker,
    finish,
    wait_until,
)
from tests.support.turns import labelled

MakeDatabase = Callable[..., DatabaseContainer]

CANARY = "canary-row-4711-that-must-never-lie-on-a-disk"
# Every printable character that a password may have; the official image takes it as it is.
EVERY_CHARACTER = string.ascii_letters + string.digits + string.punctuation + " "
SHOP = f"""
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO customers SELECT i, '{CANARY} ' || i FROM generate_series(1, 20000) AS i;
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, note text);
INSERT INTO orders SELECT i, 1 + i % 20000, md5(i::text) FROM generate_series(1, 50000) AS i;
"""

# Ways in which a dump can die; ``$real`` is the container's own pg_dump.
DYING_DUMPS = {
    "at the start": "echo 'pg_dump: error: died at the start' >&2; exit 1",
    "in the middle": '"$real" "$@" | head -c 100000; echo "pg_dump: error: died in the middle" >&2; exit 1',
    "in the middle, exit 0": '"$real" "$@" | head -c 100000; exit 0',
    "at the end": '"$real" "$@"; echo "pg_dump: error: died at the end" >&2; exit 1',
    "without a byte": "exit 0",
    "with garbage": "head -c 100000 /dev/urandom; exit 0",
    "with garbage behind": '"$real" "$@"; echo more; exit 0',
    "killed": '"$real" "$@" | head -c 100000; kill -9 $$',
}
# A dump that writes a part, says so, and waits; what it waits for never comes.
HANGING_DUMP = '"$real" "$@" | { head -c 100000; touch /tmp/reached; sleep 100; }'
HELD_DUMP = f'{WAIT}; exec "$real" "$@"'


@pytest.fixture(scope="module")
def shop(make_database: MakeDatabase) -> DatabaseContainer:
    """A database container with two tables and two databases."""
    database = make_database("shop", environment={"POSTGRES_PASSWORD": EVERY_CHARACTER, "POSTGRES_DB": "shop"})
    database.sql(SHOP, "shop")
    database.sql("CREATE DATABASE second")
    return database


@pytest.fixture(scope="module")
def other(make_database: MakeDatabase) -> DatabaseContainer:
    """A small one beside it, large enough to be cut off in its data."""
    database = make_database("other")
    database.sql("CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2), (3)")
    database.sql(
        "CREATE TABLE u (x text); INSERT INTO u SELECT repeat(md5(i::text), 8) FROM generate_series(1, 4000) i"
    )
    return database


@pytest.fixture
def broken(other: DatabaseContainer) -> Iterator[DatabaseContainer]:
    """The small one, whose pg_dump a test may replace."""
    yield other
    other.unwrap("pg_dump")


def outcomes(data: dict) -> dict[str, dict]:
    """A pass's outcomes by ``container/database``."""
    return {f"{one['container']}/{one['database']}": one for one in data["databases"]}


def dump_of(agent: AgentContainer, container: str, database: str) -> list[dict]:
    """The snapshots of one database, which may have none."""
    snapshots = agent.ok("snapshots")["snapshots"]
    return [one for one in snapshots if (one["container"], one["database"]) == (container, database)]


class TestAPass:
    @pytest.mark.usefixtures("unlabelled")
    def test_saves_every_database_as_the_contract_says(
        self, agent: AgentContainer, shop: DatabaseContainer, other: DatabaseContainer
    ) -> None:
        data = agent.ok("backup", "--reason", "nightly", "--tag", "before-upgrade")

        found = outcomes(data)
        assert set(found) == {f"{shop.name}/shop", f"{shop.name}/second", f"{other.name}/postgres"}
        assert all(one["ok"] and one["error"] is None for one in found.values())
        assert found[f"{shop.name}/shop"]["rows"] == 70000
        assert found[f"{other.name}/postgres"]["rows"] == 4003
        assert found[f"{shop.name}/shop"]["bytes_read"] > 1_000_000
        assert data["failed"] == 0
        assert data["warnings"] == []
        assert data["retention"]["ok"]

        snapshots = {one["path"]: one for one in agent.ok("snapshots")["snapshots"]}
        one = snapshots[f"/{shop.name}/shop.dump"]
        assert one["id"] == found[f"{shop.name}/shop"]["snapshot_id"]
        assert (one["host"], one["run"], one["reason"]) == ("test-host", data["run"], "nightly")
        assert set(one["tags"]) == {shop.name, f"run={data['run']}", "nightly", "before-upgrade"}
        assert one["dump_bytes"] == found[f"{shop.name}/shop"]["bytes_read"]

    def test_writes_a_manifest_that_is_true_of_the_dumped_rows(
        self, agent: AgentContainer, shop: DatabaseContainer
    ) -> None:
        shop.sql("CREATE ROLE manifest_reader; ALTER DATABASE shop SET work_mem = '8MB'")
        data = agent.ok("backup", "--db", shop.name)
        manifest = json.loads(agent.restic("dump", data["manifest_snapshot_id"], "/manifest.json"))

        assert manifest["run"] == data["run"]
        (cluster,) = manifest["clusters"]
        assert cluster["container"] == shop.name
        assert cluster["image"].removeprefix("localhost/") == "postgres:17", "Podman says where an image is from"
        assert "CREATE ROLE manifest_reader" in cluster["globals"]
        described = {one["database"]: one for one in cluster["databases"]}["shop"]
        assert described["row_counts"] == {'"public"."customers"': 20000, '"public"."orders"': 50000}
        assert described["snapshot_id"] == outcomes(data)[f"{shop.name}/shop"]["snapshot_id"]
        assert {"name": "plpgsql", "version": "1.0", "schema": "pg_catalog"} in described["extensions"]
        assert described["settings"] == [{"role": None, "settings": ["work_mem=8MB"]}]
        assert 0 < described["head_bytes"] < 100_000

    def test_counts_rows_in_the_dumps_own_snapshot(self, agent: AgentContainer, broken: DatabaseContainer) -> None:
        """Rows that come while pg_dump runs are neither in the dump nor in the count."""
        broken.wrap("pg_dump", 'psql -U postgres -qc "INSERT INTO t VALUES (987654321)" >&2; exec "$real" "$@"')
        data = agent.ok("backup", "--db", broken.name)
        archive = agent.restic("dump", data["databases"][0]["snapshot_id"], f"/{broken.name}/postgres.dump")
        broken.sql("DELETE FROM t WHERE x = 987654321")

        assert data["databases"][0]["rows"] == 4003
        assert "987654321" not in archive

    def test_without_row_counts(self, agent: AgentContainer, other: DatabaseContainer) -> None:
        agent.configure(row_counts=False)
        assert agent.ok("backup", "--db", other.name)["databases"][0]["rows"] is None

    def test_stores_nearly_nothing_the_second_time(self, agent: AgentContainer, shop: DatabaseContainer) -> None:
        # restic cuts where a number of the repository's own says, after 8 MiB at the latest. The time of the dump is
        # in the first piece; so of 80 MB, however they are cut, an eighth is the most that can be new.
        shop.sql("CREATE DATABASE large")
        rows = "SELECT repeat(md5(i::text), 8) AS x FROM generate_series(1, 320000) AS i"
        shop.sql(f"CREATE TABLE t AS {rows}", "large")
        first = outcomes(agent.ok("backup", "--db", shop.name))[f"{shop.name}/large"]
        second = outcomes(agent.ok("backup", "--db", shop.name))[f"{shop.name}/large"]
        shop.sql("DROP DATABASE large")
        assert first["bytes_read"] > 80_000_000
        assert second["bytes_added"] < first["bytes_added"] / 8

    def test_is_remembered_when_the_agent_is_made_anew(self, agent: AgentContainer, other: DatabaseContainer) -> None:
        agent.ok("backup", "--db", other.name)
        docker("rm", "--force", agent.name)
        agent.start()

        status = agent.ok("status")
        assert status["healthy"]
        assert status["databases"][0]["container"] == other.name
        night = [
            entry for entry in agent.ok("history", "--days", "1")["entries"] if entry.get("container") == other.name
        ]
        assert night[-1]["ok"]
        assert night[-1]["bytes_read"] == status["databases"][0]["bytes_read"]
        assert docker("exec", agent.name, "scalr-backup", "health").returncode == 0

    def test_whose_manifest_has_no_roles_ends_with_3_and_is_a_problem(
        self, agent: AgentContainer, other: DatabaseContainer
    ) -> None:
        agent.ok("backup", "--db", other.name)
        other.wrap("pg_dumpall", 'echo "pg_dumpall: error: terminating connection" >&2; exit 1')
        try:
            call = agent.call("backup", "--db", other.name)
        finally:
            other.unwrap("pg_dumpall")
        assert call.exit_code == 3, call.output
        assert call.error["code"] == "roles_not_saved"
        assert f"The databases of {other.name} were saved, but its roles were not" in call.error["message"]
        assert call.data["failed"] == 0
        assert call.data["retention"]["removed"] == [], "the pass before has the last manifest with roles"
        assert any("its roles were not" in problem for problem in agent.call("status").data["problems"])
        saved = agent.ok("backup", "--db", other.name)
        assert saved["roles"] == {other.name: None}
        assert agent.ok("status")["healthy"]

    def test_goes_on_after_a_clock_that_was_ahead_by_the_command_of_the_finding(
        self, agent: AgentContainer, other: DatabaseContainer
    ) -> None:
        agent.ok("backup", "--db", other.name)
        database = agent.ok("snapshots", "--db", other.name)["snapshots"][0]["database"]
        agent.restic(
            "backup", "--host", "test-host", "--tag", "nightly", "--tag", "run=20300101T000000Z-0000",
            "--time", f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d %H:%M:%S}",
            "--stdin-filename", f"/{other.name}/{database}.dump", "--stdin-from-command", "--", "echo", "ahead",
        )  # fmt: skip
        call = agent.call("backup", "--db", other.name)
        assert call.exit_code == 1, call.output
        (finding,) = [one for one in agent.call("status").data["findings"] if one["code"] == "retention_failed"]
        words = finding["command"].split()
        assert words[:4] == ["docker", "exec", "scalr-backup", "scalr-backup"]
        assert len(agent.ok(*words[4:])["removed"]) >= 1
        assert agent.call("status").data["problems"] == []
        agent.ok("backup", "--db", other.name)

    def test_leaves_no_session_and_no_process_behind(self, agent: AgentContainer, other: DatabaseContainer) -> None:
        agent.ok("backup", "--db", other.name)
        assert other.sessions_of_agent() == 0
        assert other.processes("pg_dump") == 0
        assert other.processes("psql") == 0


class TestDiscovery:
    def test_a_new_app_is_in_the_next_pass_without_an_edit(
        self, agent: AgentContainer, other: DatabaseContainer, make_database: MakeDatabase
    ) -> None:
        agent.ok("backup", "--db", other.name)
        new = make_database("new")
        try:
            assert f"{new.name}/postgres" in outcomes(agent.ok("backup"))
        finally:
            new.remove()

        gone = agent.ok("backup", "--reason", "nightly")
        assert any(f"{new.name}/postgres" in warning and "gone" in warning for warning in gone["warnings"])

    def test_labels_excludes_and_filters(
        self, agent: AgentContainer, other: DatabaseContainer, make_database: MakeDatabase, prefix: str
    ) -> None:
        labelled_out = make_database("out", labels={"scalr.backup": "false"})
        with labelled(f"{prefix}-elsewhere", "postgres:17") as labelled_in:
            statuses = {one["name"]: one["status"] for one in agent.ok("discover")["containers"]}
            assert statuses[labelled_out.name] == "excluded"
            assert statuses[labelled_in] == "stopped"

            agent.configure(exclude=[other.name])
            statuses = {one["name"]: one["status"] for one in agent.ok("discover")["containers"]}
            assert statuses[other.name] == "excluded"

            agent.configure(exclude=[], filter="contains(Name, 'nothing-is-called-so')")
            names = {one["name"] for one in agent.ok("discover")["containers"] if one["status"] != "excluded"}
            assert names == {labelled_in}, "the label includes whatever else is said"
        labelled_out.remove()

    def test_postgresql_that_no_rule_matches_is_told_until_it_is_matched_or_left_out(
        self, agent: AgentContainer, other: DatabaseContainer, prefix: str
    ) -> None:
        agent.configure(report_unmatched=True)
        name = f"{prefix}-myapp-postgres-1"
        options = ("run", "--detach", "--name", name, "--env", "POSTGRES_PASSWORD=x")
        docker(*options, "postgres:17")
        try:
            (found,) = (one for one in agent.ok("discover")["unmatched"] if one["name"] == name)
            assert (found["image"], found["state"]) == ("postgres:17", "running")
            # Tests beside this one have containers of their own, which this agent does not match either.
            status = agent.ok("status")
            assert (status["verdict"], status["healthy"]) == ("incomplete", True), "known before any pass"
            data = agent.ok("backup")
            assert name in {one["name"] for one in data["unmatched"]}
            (finding,) = (one for one in agent.ok("status")["findings"] if one["code"] == "postgres_unmatched")
            assert name in finding["about"]
            call = agent.call("backup", "--db", name)
            assert (call.exit_code, call.error["code"]) == (1, "unknown_database")
            assert f"{name} on test-host runs PostgreSQL" in call.error["message"]

            def unmatched() -> set[str]:
                agent.ok("discover")
                return {one["name"] for one in agent.ok("status")["unmatched"]}

            agent.configure(exclude=[name])
            assert name not in unmatched()
            agent.configure(exclude=[], filter=f"Name == '/{other.name}'", containers=[f"{prefix}-*"])
            assert name in unmatched()
            agent.configure(filter="")
            assert name not in unmatched()
            agent.configure(containers=[f"{prefix}-*-db"])
            docker("rm", "--force", name)
            docker(*options, "--label", "scalr.backup=false", "postgres:17")
            assert name not in unmatched()
        finally:
            docker("rm", "--force", "--volumes", name)

    @pytest.mark.usefixtures("unlabelled")
    def test_where_nothing_matches_there_is_nothing_to_back_up(self, agent: AgentContainer, prefix: str) -> None:
        agent.configure(containers=[f"{prefix}-nothing-*"])
        data = agent.ok("backup")
        assert data["databases"] == []
        status = agent.ok("status")
        assert status["verdict"] == "nothing_to_back_up"
        assert status["summary"].startswith("Nothing to back up")
        assert "Nothing to back up" in docker("exec", agent.name, "scalr-backup", "discover").stdout

    def test_a_stopped_match_is_reported(
        self, agent: AgentContainer, other: DatabaseContainer, make_database: MakeDatabase
    ) -> None:
        stopped = make_database("stopped")
        agent.ok("backup", "--db", stopped.name)
        docker("stop", "--time", "1", stopped.name)
        try:
            data = agent.ok("backup")
            assert any(stopped.name in warning and "exited" in warning for warning in data["warnings"])
            assert f"{other.name}/postgres" in outcomes(data)

            # What was asked for by its name is a failure, and so is a pass that saves nothing though there is something.
            by_name = agent.call("backup", "--db", stopped.name)
            assert by_name.exit_code == 3
            assert outcomes(by_name.data)[f"{stopped.name}/postgres"]["error"]["code"] == "container_stopped"
            assert f"docker start {stopped.name}" in by_name.error["message"]
            assert agent.call("backup", "--db", stopped.name, "--dry-run").exit_code == 3
            agent.configure(containers=[stopped.name])
            alone = agent.call("backup")
            assert (alone.exit_code, alone.error["code"]) == (3, "nothing_saved")
            assert not agent.ok("status")["healthy"]
        finally:
            stopped.remove()

    def test_one_that_restarts_all_the_time_is_a_failure_of_the_databases_that_it_held(
        self, agent: AgentContainer, other: DatabaseContainer, make_database: MakeDatabase
    ) -> None:
        loop = make_database("loop", options=["--restart", "always"])
        try:
            agent.ok("backup", "--db", loop.name)
            docker("exec", loop.name, "sh", "-c", "echo 'nonsense = 1' >> $PGDATA/postgresql.conf")
            docker("restart", "--time", "2", loop.name)
            restarts = ("inspect", "--format", "{{.RestartCount}}", loop.name)
            wait_until(lambda: int(docker(*restarts).stdout) > 3, "it has restarted a few times")

            call = agent.call("backup", "--reason", "nightly")
            assert call.exit_code == 3
            found = outcomes(call.data)
            assert not found[f"{loop.name}/postgres"]["ok"]
            assert found[f"{other.name}/postgres"]["ok"]
            status = agent.ok("status")
            assert "backup_failed" in {one["code"] for one in status["findings"] if one["container"] == loop.name}
            assert status["verdict"] == "not_safe"
        finally:
            loop.remove()

    def test_a_match_that_does_not_answer_is_a_failure_and_the_others_are_saved(
        self, agent: AgentContainer, other: DatabaseContainer, prefix: str
    ) -> None:
        silent = f"{prefix}-silent-db"
        docker("run", "--detach", "--name", silent, "--entrypoint", "sleep", "postgres:17", "600")
        try:
            call = agent.call("backup")
            assert call.exit_code == 3
            found = outcomes(call.data)
            assert not found[f"{silent}/*"]["ok"]
            assert found[f"{other.name}/postgres"]["ok"]
        finally:
            docker("rm", "--force", silent)

    @pytest.mark.parametrize(
        "environment",
        [
            {"POSTGRES_USER": "app", "POSTGRES_PASSWORD_FILE": "/etc/password", "POSTGRES_DB_FILE": "/etc/database"},
            {"POSTGRES_HOST_AUTH_METHOD": "trust"},
        ],
        ids=["files", "trust"],
    )
    def test_credentials(
        self, agent: AgentContainer, make_database: MakeDatabase, environment: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "password").write_text(EVERY_CHARACTER + "\n")
        (tmp_path / "database").write_text("from_file\n")
        options = [f"--volume={tmp_path}/{name}:/etc/{name}:ro" for name in ("password", "database")]
        database = make_database(
            f"credentials-{len(environment)}",
            environment=environment,
            options=options,
            user=environment.get("POSTGRES_USER", "postgres"),
        )
        try:
            # Also where the image would let a local connection pass without a password.
            hba = docker("exec", database.name, "sh", "-c", "cat $PGDATA/pg_hba.conf").stdout
            if "POSTGRES_PASSWORD_FILE" in environment:
                strict = hba.replace("trust", "scram-sha-256")
                docker("exec", "-i", database.name, "sh", "-c", "cat > $PGDATA/pg_hba.conf", stdin=strict)
                docker("exec", database.name, "sh", "-c", 'su postgres -c "$(command -v pg_ctl) -D $PGDATA reload"')
            (outcome,) = agent.ok("backup", "--db", database.name)["databases"]
            assert outcome["database"] == ("from_file" if "POSTGRES_DB_FILE" in environment else "postgres")
        finally:
            database.remove()

    def test_an_unknown_database_lists_what_there_is(self, agent: AgentContainer, other: DatabaseContainer) -> None:
        call = agent.call("backup", "--db", "scalr-nowhere-db")
        assert call.exit_code == 1
        assert call.error["code"] == "unknown_database"
        assert other.name in call.error["message"]
        assert "test-host" in call.error["message"]
        assert agent.ok("status")["last_pass"] is None, "a question about another host's database is no failed pass"


class TestADumpThatDies:
    @pytest.mark.parametrize(
        "death",
        [
            one
            if one in ("in the middle, exit 0", "with garbage behind")
            else pytest.param(one, marks=pytest.mark.thorough)
            for one in DYING_DUMPS
        ],
    )
    def test_leaves_no_snapshot_and_stops_nobody(
        self, agent: AgentContainer, shop: DatabaseContainer, broken: DatabaseContainer, death: str
    ) -> None:
        broken.wrap("pg_dump", DYING_DUMPS[death])
        call = agent.call("backup")

        assert call.exit_code == 3
        assert not call.result["ok"]
        found = outcomes(call.data)
        failed = found[f"{broken.name}/postgres"]
        assert not failed["ok"]
        assert failed["error"]["code"] == "dump_failed"
        assert broken.name in failed["error"]["message"]
        if "died" in DYING_DUMPS[death]:
            assert f"died {death}" in failed["error"]["message"]
        assert found[f"{shop.name}/shop"]["ok"]
        assert dump_of(agent, broken.name, "postgres") == []
        assert f"/{broken.name}/postgres.dump" not in agent.restic("snapshots", "--json")
        assert broken.sessions_of_agent() == 0
        assert not agent.ok("status")["healthy"]

    def test_keeps_its_good_snapshots_from_retention(self, agent: AgentContainer, broken: DatabaseContainer) -> None:
        """With nothing to keep but one day, the failed database's old snapshots all stay."""
        agent.configure(keep={"last": 2, "daily": 0, "weekly": 0, "monthly": 0})
        for tag in ("pinned", "plain"):
            agent.ok("backup", "--reason", "nightly", "--db", broken.name, "--tag", tag)
        agent.configure(keep={"last": 1, "daily": 0, "weekly": 0, "monthly": 0})
        before = {one["time"] for one in dump_of(agent, broken.name, "postgres")}
        assert len(before) == 2

        broken.wrap("pg_dump", DYING_DUMPS["at the end"])
        assert agent.call("backup", "--reason", "nightly", "--db", broken.name).exit_code == 3
        assert {one["time"] for one in dump_of(agent, broken.name, "postgres")} == before

        broken.unwrap("pg_dump")
        data = agent.ok("backup", "--reason", "nightly", "--db", broken.name)
        assert len(data["retention"]["removed"]) == 2, "the plain one and the manifest of its run"
        assert [one["pinned"] for one in dump_of(agent, broken.name, "postgres")] == [True, False]

    def test_that_hangs_is_killed_with_its_pass_and_the_next_pass_cleans_up(
        self, agent: AgentContainer, broken: DatabaseContainer
    ) -> None:
        broken.wrap("pg_dump", HANGING_DUMP)
        process = agent.start_call("backup", "--db", broken.name)
        wait_until(broken.reached, "the dump hangs")
        agent.kill_processes("scalr_backup backup")
        agent.kill_processes("scalr_backup.actions.backup.producer")
        process.wait(timeout=60)
        assert broken.sessions_of_agent() > 0, "a killed pass leaves its transaction open: nothing to clean otherwise"

        broken.unwrap("pg_dump")
        data = agent.ok("backup", "--db", broken.name)
        assert any("killed run" in warning for warning in data["warnings"])
        assert broken.sessions_of_agent() == 0
        assert broken.processes("pg_dump") == 0
        assert agent.restic("list", "locks", "--no-lock") == ""

    def test_that_vanishes_with_its_container(
        self, agent: AgentContainer, broken: DatabaseContainer, make_database: MakeDatabase
    ) -> None:
        agent.configure(parallel=1)
        victim = make_database("zz-victim")
        broken.wrap("pg_dump", HELD_DUMP)
        process = agent.start_call("backup", "--db", broken.name, "--db", victim.name)
        wait_until(broken.reached, "the first dump waits")
        victim.remove()
        broken.let_go()
        call = finish(process)

        assert call.exit_code == 3
        found = outcomes(call.data)
        assert found[f"{broken.name}/postgres"]["ok"]
        assert not found[f"{victim.name}/postgres"]["ok"]
        assert victim.name in found[f"{victim.name}/postgres"]["error"]["message"]


class TestTwoAtOnce:
    def test_a_second_pass_is_refused_and_says_which_runs(
        self, agent: AgentContainer, broken: DatabaseContainer
    ) -> None:
        broken.wrap("pg_dump", HELD_DUMP)
        process = agent.start_call("backup", "--db", broken.name)
        wait_until(broken.reached, "the first pass dumps")
        second = agent.call("backup", "--db", broken.name)
        broken.let_go()
        first = finish(process)

        assert second.exit_code == 1
        assert second.error["code"] == "busy"
        assert first.exit_code == 0
        assert first.data["run"] in second.error["message"]

    def test_sigterm_ends_a_pass_cleanly(self, agent: AgentContainer, broken: DatabaseContainer) -> None:
        broken.wrap("pg_dump", HANGING_DUMP)
        process = agent.start_call("backup", "--db", broken.name)
        wait_until(broken.reached, "the dump hangs")
        agent.kill_processes("scalr_backup backup", "TERM")
        call = finish(process, timeout=60)

        assert call.exit_code == 1
        assert call.error["code"] == "interrupted"
        assert broken.sessions_of_agent() == 0
        assert dump_of(agent, broken.name, "postgres") == []
        assert agent.restic("list", "locks", "--no-lock") == ""


def restart_into_a_pass(agent: AgentContainer, database: DatabaseContainer, schedule: str) -> None:
    """Have the agent find at its start that it has missed a pass, whose dump hangs."""
    agent.configure(containers=[database.name], schedule=schedule)
    database.wrap("pg_dump", HANGING_DUMP)
    long_ago = '{"first_started": "2025-12-01T00:00:00+00:00"}'
    docker("exec", "-i", agent.name, "sh", "-c", "cat > /var/lib/scalr-backup/state.json", stdin=long_ago)
    docker("restart", "--time", "60", agent.name)
    wait_until(database.reached, "the missed pass runs at start")


class TestServe:
    def test_runs_a_pass_that_was_missed_and_ends_it_cleanly_when_stopped(
        self, agent: AgentContainer, broken: DatabaseContainer
    ) -> None:
        restart_into_a_pass(agent, broken, "* * * * *")

        started = time.monotonic()
        docker("stop", "--time", "100", agent.name)
        assert time.monotonic() - started < 200, "SIGTERM ends it, not Docker's patience"
        assert docker("inspect", "--format", "{{.State.ExitCode}}", agent.name).stdout.strip() == "0"
        assert broken.sessions_of_agent() == 0
        events = {line["event"] for line in agent.log_lines()}
        assert "A pass was missed while the agent was down; it runs now." in events

    def test_makes_up_once_for_a_pass_that_was_cut_short(
        self, agent: AgentContainer, broken: DatabaseContainer
    ) -> None:
        def said(event: str) -> int:
            return sum((line["event"], line.get("job")) == (event, "pass") for line in agent.log_lines())

        missed, planned = "A pass was missed while the agent was down; it runs now.", "The next pass is scheduled."
        before = said(missed)
        # Once a year: nothing but the restart can make it run again.
        restart_into_a_pass(agent, broken, "0 3 1 1 *")
        docker("stop", "--time", "100", agent.name)
        broken.unwrap("pg_dump")

        starts = said(planned)
        for start in (1, 2):
            docker("start" if start == 1 else "restart", agent.name)
            wait_until(lambda start=start: said(planned) == starts + start, "what was missed is made up for")

        assert said(missed) == before + 2, "the pass that was cut short, and the one that made up for it"
        status = agent.ok("status")
        assert [(one["container"], one["ok"]) for one in status["databases"]] == [(broken.name, True)]

    def test_takes_a_changed_schedule_without_a_restart(self, agent: AgentContainer) -> None:
        agent.configure(schedule="17 4 * * *")
        wait_until(
            lambda: any("T04:17:00" in str(line.get("due")) for line in agent.log_lines()), "the new schedule is logged"
        )
        agent.configure(schedule="never")
        wait_until(
            lambda: any("never" in str(line.get("reason")) for line in agent.log_lines()), "the bad one is refused"
        )
        assert docker("inspect", "--format", "{{.State.Running}}", agent.name).stdout.strip() == "true"


class TestTheRepository:
    def test_a_wrong_password_is_one_sentence(self, agent: AgentContainer, other: DatabaseContainer) -> None:
        agent.set_password("not this one")
        for verb in (["init"], ["backup", "--db", other.name], ["snapshots"], ["check"]):
            call = agent.call(*verb)
            assert call.exit_code == 1
            assert call.error["code"] == "wrong_password"
            assert "not this one" not in call.output

    def test_a_missing_repository_is_made_only_by_init(self, agent: AgentContainer, other: DatabaseContainer) -> None:
        agent.ok("backup", "--db", other.name)
        agent.configure(repository="/repository/elsewhere")
        [finding] = [one for one in agent.ok("status")["findings"] if one["container"] == other.name]
        assert finding["code"] == "never_backed_up"
        assert "was never backed up to /repository/elsewhere; its last backup is in /repository" in finding["message"]
        call = agent.call("backup", "--db", other.name)
        assert call.exit_code == 1
        assert call.error["code"] == "repository_missing"
        assert agent.call("init", "--must-exist").error["code"] == "repository_missing"
        assert agent.ok("init", "--dry-run")["created"]
        assert agent.call("snapshots").error["code"] == "repository_missing", "a dry run makes nothing"
        assert agent.call("init").result["changed"]
        assert not agent.call("init").result["changed"]
        assert not agent.ok("status")["healthy"], "a repository that holds nothing is no backup"
        assert agent.ok("backup", "--db", other.name)["failed"] == 0
        assert not [one for one in agent.ok("status")["findings"] if one["container"] == other.name]

    def test_an_unreachable_store_is_one_sentence_in_bounded_time(self, agent: AgentContainer) -> None:
        agent.configure(repository="s3:http://127.0.0.1:9/bucket", answer_seconds=8)
        agent.set_environment(AWS_ACCESS_KEY_ID="canary-key", AWS_SECRET_ACCESS_KEY="canary-secret")
        started = time.monotonic()
        call = agent.call("backup")
        assert time.monotonic() - started < 200
        assert call.exit_code == 1
        assert call.error["code"] == "repository_unreachable"
        assert "canary" not in call.output
        assert not agent.ok("status")["healthy"]

    def test_check_finds_a_damaged_pack(self, agent: AgentContainer, other: DatabaseContainer) -> None:
        agent.ok("backup", "--db", other.name)
        agent.ok("check", "--read-data-subset", "100%")
        pack = docker("exec", agent.name, "sh", "-c", "find /repository/data -type f | head -1").stdout.strip()
        # Its first blob's nonce, which is random: a single byte might be what it was.
        damage = f"chmod u+w {pack}; printf %s {'x' * 16} | dd of={pack} conv=notrunc bs=16"
        docker("exec", agent.name, "sh", "-c", damage)
        call = agent.call("check", "--read-data-subset", "100%")
        assert call.exit_code == 1
        assert not call.result["ok"]

    def test_unlock_removes_stale_locks(self, agent: AgentContainer, broken: DatabaseContainer) -> None:
        broken.wrap("pg_dump", HANGING_DUMP)
        process = agent.start_call("backup", "--db", broken.name)
        wait_until(broken.reached, "the dump hangs")
        agent.kill_processes("scalr_backup backup")
        agent.kill_processes("scalr_backup.actions.backup.producer")
        process.wait(timeout=60)
        assert agent.ok("unlock")["removed"] == 1
        assert agent.ok("unlock")["removed"] == 0


class TestSecrets:
    def test_show_nowhere_while_a_dump_runs(self, agent: AgentContainer, shop: DatabaseContainer) -> None:
        agent.set_password("canary-repository-password")
        agent.configure(repository="/repository/canary")
        agent.ok("init")
        shop.wrap("pg_dump", HELD_DUMP)
        process = agent.start_call("backup", "--db", shop.name)
        wait_until(shop.reached, "a dump runs")
        every_argv = 'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline 2>/dev/null; echo; done'
        shown = [docker("exec", name, "sh", "-c", every_argv).stdout for name in (agent.name, shop.name)]
        shown.append(docker("inspect", agent.name).stdout)
        shop.let_go()
        call = finish(process)
        shop.unwrap("pg_dump")
        shown += [call.output, docker("logs", agent.name).stdout]
        state = docker("exec", agent.name, "cat", "/var/lib/scalr-backup/state.json").stdout
        shown.append(state)

        assert call.exit_code == 0, call.output
        for text in shown:
            assert "canary-repository-password" not in text
            assert EVERY_CHARACTER not in text
            assert EVERY_CHARACTER[:20] not in text

    def test_no_row_lies_in_cleartext_on_any_volume(self, agent: AgentContainer, shop: DatabaseContainer) -> None:
        agent.ok("backup", "--db", shop.name)
        search = f"grep -rl '{CANARY}' /repository /var/lib/scalr-backup /var/cache/scalr-backup /tmp | wc -l"
        assert docker("exec", agent.name, "sh", "-c", search).stdout.strip() == "0"
