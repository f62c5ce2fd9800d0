# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills of real snapshots: they prove what restores and say what does not, in memory, and leave nothing behind."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from scalr_backup.core.errors import NoImageError, ThrowawayError
from scalr_backup.tools.docker.throwaway import Throwaway
from scalr_backup.tools.docker.throwaways import Throwaways

from tests.support.containers import (
    AgentContainer,
    Call,
    DatabaseContainer,
    docker,
    parse_call,
    wait_until,
)
from tests.support.drills import drill, drill_command, drills_of, end_drills, proxies_of
from tests.support.restores import save_as_manifest

SECRET_ROW = "Grace Hopper's card number"
SHOP = f"""
CREATE ROLE shop_owner LOGIN PASSWORD 'pa55word';
CREATE DATABASE shop OWNER shop_owner TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
CREATE DATABASE ledger;
\\connect shop
CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
INSERT INTO customers (name) SELECT 'Customer ' || n FROM generate_series(1, 999) AS n;
INSERT INTO customers (name) VALUES ('{SECRET_ROW.replace("'", "''")}');
CREATE TABLE orders (id serial PRIMARY KEY, customer bigint REFERENCES customers, note text);
INSERT INTO orders (customer, note) SELECT 1 + n % 1000, repeat(md5(n::text), 10) FROM generate_series(1, 5000) AS n;
CREATE INDEX ON orders (note, id);
ALTER TABLE orders OWNER TO shop_owner;
CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no changes here'; END $$;
CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no_ddl();
\\connect ledger
CREATE TABLE entries (amount numeric);
INSERT INTO entries SELECT n FROM generate_series(1, 42) AS n;
ALTER DATABASE ledger SET default_transaction_read_only = on;
"""
# A drill that comes to this one waits until the test lets it go, or until it is ended.
WAITS = "SELECT true FROM pg_sleep(120)"


@dataclass
class House:
    """An app's database container, its agent with one pass in its repository, and drills as the role runs them."""

    agent: AgentContainer
    database: DatabaseContainer

    @property
    def name(self) -> str:
        return self.database.name

    def command(self, *arguments: str) -> list[str]:
        """What the host's timer starts."""
        return drill_command(self.agent, *arguments)

    def drill(self, *arguments: str) -> Call:
        """Drill this house's databases."""
        return self.drill_any("--db", self.name, *arguments)

    def drill_any(self, *arguments: str) -> Call:
        """Drill whatever the arguments say."""
        return drill(self.agent, *arguments)

    @contextmanager
    def drilling(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A drill that goes on while the test does something to it."""
        process = subprocess.Popen(
            self.command("--db", self.name, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            self.end()
            process.communicate(timeout=60)

    def end(self) -> None:
        """Leave no drill that another test would meet."""
        end_drills(self.agent)

    def running(self) -> str:
        """The container of the drill that runs."""
        (name,) = drills_of(self.agent)
        return name

    def signal(self, name: str) -> None:
        """Send a signal to the drill that runs."""
        docker("kill", "--signal", name, self.running())

    def throwaways(self) -> list[str]:
        """The throwaway containers of this agent."""
        agent_id = self.state()["agent_id"]
        return docker("ps", "--all", "--quiet", "--filter", f"label=scalr.backup.agent={agent_id}").stdout.split()

    def state(self) -> dict[str, Any]:
        return json.loads(docker("exec", self.agent.name, "cat", "/var/lib/scalr-backup/state.json").stdout)

    @contextmanager
    def recording_nothing(self, database: str | None = None) -> Iterator[None]:
        """Hold what the test does to leaving the record of drills as it was, or that of one database."""

        def recorded() -> list[Any]:
            drills = [one for one in self.state().get("drills", {}).values() if database in (None, one["database"])]
            written = docker("exec", self.agent.name, "cat", "/var/lib/scalr-backup/history.jsonl").stdout.splitlines()
            history = [one for one in map(json.loads, written) if one["kind"] == "drill"]
            return [drills, [one for one in history if database in (None, one["database"])]]

        before = recorded()
        yield
        assert recorded() == before

    def is_clean(self) -> bool:
        """Whether no drill has left anything: a container, a journal, a lock."""
        assert self.throwaways() == []
        assert not self.state().get("restores")
        assert "drill-" not in docker("exec", self.agent.name, "ls", "/var/lib/scalr-backup/locks").stdout
        return True

    def drills(self) -> dict[str, dict[str, Any]]:
        """What the status says of each database's last drill."""
        return {one["database"]: one["drill"] for one in self.agent.ok("status")["databases"]}

    @contextmanager
    def asserting(self, files: dict[str, str | bytes]) -> Iterator[None]:
        """Have assertions for a while, by their paths below the container's directory."""
        directory = self.agent._config_directory / "drill" / self.name
        try:
            for path, sql in files.items():
                (directory / path).parent.mkdir(parents=True, exist_ok=True)
                (directory / path).write_bytes(sql if isinstance(sql, bytes) else sql.encode())
            yield
        finally:
            for path in files:
                (directory / path).unlink()

    @contextmanager
    def falsified(self, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
        """Let the pass's manifest say something else for a while; of two in a run neither counts, so the other one leaves."""
        (original,) = self._manifests()
        manifest = json.loads(self.agent.restic("dump", original["id"], "/manifest.json"))
        change(manifest["clusters"][0])
        (run,) = [tag for tag in original["tags"] if tag.startswith("run=")]
        self.agent.restic("tag", "--remove", run, original["id"])
        (hidden,) = self._manifests()
        saved = save_as_manifest(self.agent, run.removeprefix("run="), json.dumps(manifest))
        try:
            yield
        finally:
            self.agent.restic("forget", saved)
            self.agent.restic("tag", "--add", run, hidden["id"])

    def _manifests(self) -> list[dict[str, Any]]:
        """The manifests of passes in the repository."""
        return [
            one
            for one in json.loads(self.agent.restic("snapshots", "--json"))
            if one["paths"] == ["/manifest.json"] and one["tags"]
        ]


def described(cluster: dict[str, Any], database: str) -> dict[str, Any]:
    return next(one for one in cluster["databases"] if one["database"] == database)


def outcome(call: Call, database: str) -> dict[str, Any]:
    return next(one for one in call.data["databases"] if one["database"] == database)


def wait_for_phase(process: subprocess.Popen[str], phase: str, database: str = "shop") -> list[str]:
    """Read the drill's lines until it tells of a phase; what was read."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        event = json.loads(line)
        if event.get("phase") == phase and event.get("database") == database:
            return read
    raise AssertionError(f"{phase} was never told: {''.join(read)}")


@pytest.fixture(scope="module")
def house(
    agent_image: str,
    make_database: Callable[..., DatabaseContainer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    database = make_database("shop")
    agent = AgentContainer(tmp_path_factory.mktemp("drill") / "agent", [database.name], agent_image, proxied=True)
    database.sql(SHOP)
    try:
        agent.start()
        agent.make_repository()
        agent.ok("backup")
        yield House(agent, database)
    finally:
        agent.remove()


@pytest.fixture(scope="module")
def variant() -> Iterator[Callable[[str], str]]:
    """Images that are PostgreSQL's with something else about them."""
    made: list[str] = []

    def make(instructions: str) -> str:
        made.append(docker("build", "--quiet", "-", stdin=f"FROM postgres:17\n{instructions}\n").stdout.strip())
        return made[-1]

    yield make
    for image in made:
        docker("rmi", "--force", image, check=False)


class TestDrill:
    @pytest.mark.parametrize(
        "version", [*(pytest.param(one, marks=pytest.mark.thorough) for one in ("15", "17")), "18"]
    )
    def test_that_passes_says_what_it_compared_and_leaves_nothing(
        self,
        version: str,
        agent: AgentContainer,
        make_database: Callable[..., DatabaseContainer],
    ) -> None:
        database = make_database(f"v{version}", image=f"postgres:{version}")
        database.sql(SHOP)
        house = House(agent, database)
        agent.ok("backup", "--db", database.name)
        before = portrait(database)
        call = house.drill()
        assert call.exit_code == 0, call.output
        assert call.data["failed"] == 0
        assert call.data["host"] == "test-host"
        shop, ledger = outcome(call, "shop"), outcome(call, "ledger")
        assert (shop["ok"], shop["tables"], shop["rows"], shop["error"]) == (True, 2, 6000, None)
        assert (ledger["ok"], ledger["tables"], ledger["rows"]) == (True, 1, 42)
        assert shop["container"] == database.name
        assert shop["image"].removeprefix("localhost/") == f"postgres:{version}", "Podman says where an image is from"
        assert shop["amcheck"] == ledger["amcheck"] == "passed"
        assert shop["assertions"] == {"passed": 0, "failed": 0}
        assert shop["snapshot_id"] in {one["id"] for one in agent.ok("snapshots")["snapshots"]}
        assert 0 < shop["recovery_seconds"] < call.data["duration_seconds"]
        assert portrait(database) == before
        assert house.is_clean()
        last = house.drills()["shop"]
        assert last == {
            "ok": True,
            "time": last["time"],
            "age_seconds": last["age_seconds"],
            "snapshot_id": shop["snapshot_id"],
            "recovery_seconds": shop["recovery_seconds"],
            "error": None,
        }

    def test_fails_for_the_database_whose_rows_differ_and_for_no_other(self, house: House) -> None:
        def one_row_more(cluster: dict[str, Any]) -> None:
            described(cluster, "shop")["row_counts"]['"public"."orders"'] += 1

        with house.falsified(one_row_more):
            call = house.drill()
        assert call.exit_code == 3, call.output
        assert call.data["failed"] == 1
        assert outcome(call, "shop")["ok"] is False
        assert outcome(call, "shop")["error"]["code"] == "verification_failed"
        assert '"public"."orders": 5001 expected, 5000 restored' in outcome(call, "shop")["error"]["message"]
        assert outcome(call, "ledger")["ok"] is True
        assert call.error["code"] == "databases_failed"
        status = house.agent.ok("status")
        assert not status["healthy"]
        assert any("shop failed its last drill: 1 tables" in problem for problem in status["problems"])
        assert house.is_clean()
        assert house.drill("--database", "shop").exit_code == 0
        assert house.agent.ok("status")["healthy"]

    def test_can_be_of_one_database_and_of_one_snapshot(self, house: House) -> None:
        (snapshot,) = [one for one in house.agent.ok("snapshots")["snapshots"] if one["database"] == "ledger"]
        for arguments in (["--database", "ledger"], ["--snapshot", snapshot["short_id"]]):
            call = house.drill(*arguments)
            assert [one["database"] for one in call.data["databases"]] == ["ledger"], call.output

    def test_of_what_is_unknown_is_refused_in_one_sentence(self, house: House) -> None:
        for arguments, code in (
            (["--database", "nope"], "unknown_database"),
            (["--snapshot", "x"], "unknown_snapshot"),
        ):
            call = house.drill(*arguments)
            assert (call.exit_code, call.error["code"]) == (1, code), call.output
        call = house.drill_any("--db", "nobody-*")
        assert (call.exit_code, call.error["code"]) == (1, "unknown_database")
        assert house.name in call.error["message"]

    def test_can_be_of_another_hosts_snapshots_in_another_repository(self, house: House) -> None:
        before = house.state().get("drills")
        house.agent.configure(host="elsewhere")
        try:
            call = house.drill("--from-host", "test-host", "--from-repository", "/repository", "--database", "ledger")
            unknown = house.drill("--from-host", "nobody")
        finally:
            house.agent.configure(host="test-host")
        assert call.exit_code == 0, call.output
        assert (call.data["host"], outcome(call, "ledger")["rows"]) == ("elsewhere", 42)
        assert (unknown.exit_code, unknown.error["code"]) == (1, "unknown_database")
        # It says nothing of this host's own backups.
        assert house.state().get("drills") == before
        assert house.is_clean()

    def test_reads_well_for_people(self, house: House) -> None:
        command = [*house.command("--db", house.name, "--database", "ledger")[:-1]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        table = done.stdout.splitlines()
        assert table[0].split("  ")[0] == "CONTAINER"
        assert "passed" in table[1]
        assert "42 in 1 table" in table[1].replace("\xa0", " ")
        assert table[-1].endswith(" s, 0 failed")
        assert "Traceback" not in done.stderr
        assert "Exception" not in done.stderr

    def test_is_refused_to_the_agent_itself_before_anything_is_begun(self, house: House) -> None:
        """Behind its proxy it may make no containers; the module and the host's script start one that may."""
        with house.recording_nothing():
            call = house.agent.call("drill", "--db", house.name)
        assert (call.exit_code, call.error["code"]) == (2, "drill_refused"), call.output
        assert "drill.yml" in call.error["message"]
        assert not call.events

    def test_needs_the_memory_that_it_may_use(self, house: House) -> None:
        def enormous(cluster: dict[str, Any]) -> None:
            described(cluster, "shop")["size_bytes"] = 10**13

        with house.falsified(enormous), house.recording_nothing("shop"):
            call = house.drill()
        assert (call.exit_code, call.error["code"]) == (2, "no_memory"), call.output
        assert (call.data["failed"], call.data["not_tried"]) == (0, 1)
        error = outcome(call, "shop")["error"]
        assert error["code"] == "no_memory"
        # Ten terabytes of files, and what a restore wants to see beside them.
        assert re.search(r"may need (9|10)\.\d TiB", error["message"])
        assert "from_host=test-host" in error["message"]
        assert outcome(call, "ledger")["ok"] is True
        phases = [event["phase"] for event in call.events if event.get("database") == "shop" and "phase" in event]
        assert phases == []
        assert [event["level"] for event in call.events if "could not be drilled" in event.get("message", "")] == [
            "warning"
        ]

    def test_of_a_manifest_that_cannot_be_read_fails_and_says_so(self, house: House) -> None:
        def wrong(cluster: dict[str, Any]) -> None:
            cluster["databases"] = "all of them"

        with house.falsified(wrong):
            call = house.drill("--database", "ledger")
        assert call.exit_code == 3, call.output
        assert outcome(call, "ledger")["error"]["code"] == "unreadable_manifest"
        assert not house.agent.call("status").data["healthy"]
        assert house.drill("--database", "ledger").exit_code == 0

    def test_loads_the_libraries_that_the_source_had_loaded(self, house: House) -> None:
        def preloading(cluster: dict[str, Any]) -> None:
            cluster["shared_preload_libraries"] = "auto_explain, pg_stat_statements"

        files: dict[str, str | bytes] = {
            "ledger/preload.sql": "SELECT current_setting('shared_preload_libraries') = 'auto_explain, pg_stat_statements'",
            # The assertions of a container that has one database in the drill may lie in its own directory.
            "whole.sql": "SELECT count(*) = 42 FROM entries",
        }
        with house.falsified(preloading), house.asserting(files):
            call = house.drill("--database", "ledger")
        assert call.exit_code == 0, call.output
        assert outcome(call, "ledger")["assertions"] == {"passed": 2, "failed": 0}


NO_LUCK = 'ENTRYPOINT ["sh", "-c", "echo no luck today; touch /etc/mine"]'


class TestThrowawayContainer:
    def test_has_no_disk_no_network_and_shows_no_secret(self, house: House) -> None:
        with house.asserting({"shop/wait.sql": WAITS}), house.drilling("--database", "shop") as process:
            read = wait_for_phase(process, "assertions")
            (throwaway,) = house.throwaways()
            (document,) = json.loads(docker("inspect", throwaway).stdout)
            one_shot = docker("top", house.running(), "-eo", "pid,args").stdout
            mounts = docker("exec", throwaway, "cat", "/proc/mounts").stdout
            rows = docker(
                "exec", throwaway, "psql", "-U", "postgres", "-Atc", "SELECT count(*) FROM customers", "shop"
            ).stdout
            writes = docker("exec", throwaway, "touch", "/etc/here", check=False).stderr
            house.signal("TERM")
            output = "".join([*read, *finish_any(process)])
        settings = document["HostConfig"]
        assert rows == "1000\n"
        assert document["Name"].startswith("/scalr-backup-drill-")
        assert document["Config"]["Labels"]["scalr.backup"] == "false"
        assert document["Mounts"] == []
        assert settings["Binds"] is None
        assert settings["ReadonlyRootfs"] is True
        assert "Read-only file system" in writes
        assert "tmpfs /var/lib/postgresql/data tmpfs" in mounts
        assert settings["NetworkMode"] == "none"
        assert set(document["NetworkSettings"]["Networks"]) == {"none"}
        assert settings["Memory"] == settings["MemorySwap"] > 0
        assert settings["AutoRemove"] is True
        assert settings["LogConfig"]["Type"] == "none"
        # A killed drill's container ends itself.
        assert document["Path"] == "timeout"
        (password,) = [
            entry.partition("=")[2] for entry in document["Config"]["Env"] if entry.startswith("POSTGRES_PASSWORD=")
        ]
        assert len(password) >= 32
        for text in (output, one_shot, " ".join(document["Args"]), docker("logs", house.agent.name).stdout):
            assert password not in text
            assert SECRET_ROW not in text
        assert "correct horse" not in output + one_shot
        assert house.is_clean()

    def test_is_refused_where_the_engine_would_give_it_a_volume(self) -> None:
        engine = Throwaways()
        image = engine.image("postgres:17")
        assert image is not None
        name = f"scalr-backup-drill-test-{secrets.token_hex(4)}"
        with pytest.raises(
            ThrowawayError, match="volume at /var/lib/postgresql/data, so rows would be written to disk"
        ):
            engine.create_throwaway(Throwaway(name, image, (), {}, {}, {"/tmp": 1 << 20}, 1 << 28, 60))
        assert docker("ps", "--all", "--quiet", "--filter", f"name={name}").stdout == ""

    def test_ends_itself_though_nobody_else_ends_it(self) -> None:
        engine = Throwaways()
        image = engine.image("postgres:17")
        assert image is not None
        tmpfs = {"/var/lib/postgresql/data": 1 << 28, "/run/postgresql": 1 << 20}
        environment = {"POSTGRES_PASSWORD": "x", "PGDATA": "/var/lib/postgresql/data/drill"}
        name = f"scalr-backup-drill-test-{secrets.token_hex(4)}"
        container = engine.create_throwaway(Throwaway(name, image, (), environment, {}, tmpfs, 1 << 29, 20))
        engine.start_throwaway(container)
        assert docker("ps", "--quiet", "--filter", f"name={name}").stdout
        wait_until(lambda: not docker("ps", "--all", "--quiet", "--filter", f"name={name}").stdout, "it is gone")

    @pytest.mark.parametrize(
        "instructions",
        [
            pytest.param("USER postgres", marks=pytest.mark.thorough),
            # As Bitnami's images are: another user, another volume, another variable, and places of their own to write to.
            """
            ENV BITNAMI_APP_NAME=postgresql PGDATA=
            VOLUME /bitnami/postgresql
            USER 999
            ENTRYPOINT ["bash", "-c", "export PGDATA=/bitnami/postgresql/data POSTGRES_PASSWORD=$POSTGRESQL_PASSWORD; \\
              touch /opt/bitnami/postgresql/conf/postgresql.conf && exec docker-entrypoint.sh $0 $@"]
            CMD ["postgres"]
            """,
        ],
        ids=["not root", "like Bitnami"],
    )
    def test_fits_images_that_do_not_run_as_root(
        self, house: House, variant: Callable[[str], str], instructions: str
    ) -> None:
        image = variant(instructions)
        call = house.drill("--image", image, "--database", "ledger")
        assert call.exit_code == 0, call.output
        assert outcome(call, "ledger")["image"] == image
        assert house.is_clean()

    def test_whose_image_does_not_start_by_itself_is_started_without_its_entry_point(
        self, house: House, variant: Callable[[str], str]
    ) -> None:
        """Some write where nothing may be written, or want variables that a drill does not know."""
        call = house.drill("--image", variant(NO_LUCK), "--database", "ledger")
        assert call.exit_code == 0, call.output
        assert house.is_clean()

    def test_that_does_not_start_says_why(self, house: House, variant: Callable[[str], str]) -> None:
        with house.recording_nothing():
            call = house.drill("--image", variant(f"{NO_LUCK}\nRUN rm /usr/lib/postgresql/17/bin/initdb"))
        assert (call.exit_code, call.error["code"]) == (2, "throwaway_container")
        assert [one["error"]["code"] for one in call.data["databases"]] == ["throwaway_container"] * 2
        assert "no luck today" in outcome(call, "shop")["error"]["message"]
        assert house.is_clean()

    def test_that_the_engine_does_not_make_says_why(self) -> None:
        engine = Throwaways()
        image = engine.image("postgres:17")
        assert image is not None
        spec = Throwaway("scalr-test-throwaway", image, (), {}, {}, {"nowhere": 2**20}, 2**26, 60)
        with pytest.raises(ThrowawayError, match=r"cannot be made: .*nowhere"):
            engine.create_throwaway(spec)

    def test_may_be_made_by_whoever_has_the_engine(self) -> None:
        Throwaways().require_throwaways()

    @pytest.mark.parametrize("name", ["postgres 17", "Postgres:17", "postgres:17:18", "localhost:1/nobody/postgres:17"])
    def test_of_a_name_that_no_image_has_cannot_be_made(self, name: str) -> None:
        engine = Throwaways()
        assert engine.image(name) is None
        with pytest.raises(NoImageError, match="is not on this host and cannot be pulled"):
            engine.pull(name, lambda: None)

    def test_of_an_image_that_nobody_has_is_refused(self, house: House) -> None:
        with house.recording_nothing():
            call = house.drill("--image", "postgres 17")
        assert (call.exit_code, call.error["code"]) == (2, "no_image"), call.output
        assert {one["error"]["code"] for one in call.data["databases"]} == {"no_image"}

    def test_of_an_image_that_is_too_old_says_nothing_about_the_backup(self, house: House) -> None:
        with house.recording_nothing():
            call = house.drill("--image", "postgres:15", "--database", "ledger")
        assert (call.exit_code, call.error["code"]) == (2, "older_server"), call.output


class TestInterrupted:
    @pytest.mark.parametrize(
        ("phase", "arguments", "done"),
        [
            ("container", ["--database", "shop"], []),
            pytest.param("data", ["--database", "shop"], [], marks=pytest.mark.thorough),
            ("assertions", [], ["ledger"]),
        ],
    )
    def test_drill_that_is_told_to_stop_leaves_nothing(
        self, house: House, phase: str, arguments: list[str], done: list[str]
    ) -> None:
        with house.asserting({"shop/wait.sql": WAITS}), house.drilling(*arguments) as process:
            read = wait_for_phase(process, phase)
            house.signal("TERM")
            lines = [*read, *finish_any(process, timeout=30)]
        result = json.loads(lines[-1])
        assert (result["exit_code"], result["error"]["code"]) == (1, "interrupted"), lines
        assert [one["database"] for one in result["data"]["databases"]] == done
        assert house.is_clean()

    def test_drill_that_is_killed_is_cleaned_up_by_the_next(self, house: House) -> None:
        with house.asserting({"shop/wait.sql": WAITS}), house.drilling("--database", "shop") as process:
            wait_for_phase(process, "assertions")
            second = parse_call(
                subprocess.run(house.command(), capture_output=True, text=True, timeout=60, check=False)
            )
            assert (second.exit_code, second.error["code"]) == (1, "busy")
            assert "A drill is already running: run 2" in second.error["message"]
            (left,) = house.throwaways()
            # Its proxy would clear up after it; without one it ends, and can clear up nothing itself.
            docker("kill", *proxies_of(drills_of(house.agent)))
            finish_any(process)
        assert house.throwaways() == [left]
        call = house.drill("--database", "ledger")
        assert call.exit_code == 0, call.output
        assert any("The throwaway container of the killed drill" in sentence for sentence in call.data["warnings"])
        assert house.is_clean()


class TestLooksThrough:
    def test_with_pg_amcheck_whose_findings_fail_the_drill(self, house: House, variant: Callable[[str], str]) -> None:
        finds = variant(
            "RUN printf '#!/bin/sh\\necho heap table shop.public.orders, block 7: xmin is not right; exit 2\\n' "
            "> /usr/local/sbin/pg_amcheck && chmod 755 /usr/local/sbin/pg_amcheck"
        )
        call = house.drill("--image", finds, "--database", "shop")
        assert call.exit_code == 3, call.output
        shop = outcome(call, "shop")
        assert (shop["amcheck"], shop["error"]["code"]) == ("failed", "amcheck_failed")
        assert "block 7" in shop["error"]["message"]
        assert shop["rows"] == 6000
        missing = variant("RUN rm $(command -v pg_amcheck)")
        call = house.drill("--image", missing, "--database", "shop")
        assert call.exit_code == 0, call.output
        assert outcome(call, "shop")["amcheck"] == "not in the image"

    def test_with_assertions_that_hold(self, house: House) -> None:
        files: dict[str, str | bytes] = {
            "shop/rows.sql": "SELECT count(*) = 1000, count(*) FILTER (WHERE id > 0) > 900 FROM customers -- all of them",
            "shop/several.sql": "SELECT true;\nSELECT id > 0 FROM orders WHERE id < 10;",
            "shop/not-for-us.txt": "SELECT false",
            "unused.sql": "SELECT false",
        }
        with house.asserting(files):
            call = house.drill()
        assert call.exit_code == 0, call.output
        assert outcome(call, "shop")["assertions"] == {"passed": 2, "failed": 0}
        assert outcome(call, "ledger")["assertions"] == {"passed": 0, "failed": 0}

    def test_with_assertions_that_do_not_hold(self, house: House) -> None:
        cases: dict[str, tuple[str | bytes, str]] = {
            "count": ("SELECT count(*) = 7 FROM customers", "1 of 1 values are not true"),
            "null": ("SELECT true, NULL::boolean", "1 of 2 values are not true"),
            "no-row": ("SELECT true WHERE false", "it returned no row"),
            "empty": ("", "it returned no row"),
            "quotes": ("SELECT max(name)::int > 0 FROM customers", 'invalid input syntax for type integer: "***"'),
            "nonsense": ("SELECT true; SELECT a FROM nowhere", 'relation "nowhere" does not exist'),
            "quote": ("SELECT 'it does not end", "unterminated quoted string"),
            "comment": ("SELECT true; /* it does not end", "unterminated /* comment"),
            "writes": ("DELETE FROM orders RETURNING true", "cannot execute DELETE in a read-only transaction"),
            "writes-later": (
                "COMMIT; DELETE FROM orders RETURNING true",
                "cannot execute DELETE in a read-only transaction",
            ),
            "bytes": (b"SELECT '\xff'", "it is not UTF-8"),
            "large": (b"-" * 70_000, "it is larger than 60.0 KiB"),
        }
        files = {f"shop/{name}.sql": sql for name, (sql, _why) in cases.items()} | {"shop/good.sql": "SELECT true"}
        with house.asserting(files):
            call = house.drill("--database", "shop")
        assert call.exit_code == 3, call.output
        shop = outcome(call, "shop")
        assert (shop["ok"], shop["amcheck"]) == (False, "passed")
        assert shop["assertions"] == {"passed": 1, "failed": len(cases)}
        assert shop["error"]["code"] == "assertions_failed"
        message = shop["error"]["message"]
        assert "Hopper" not in call.output
        assert message.startswith(f"{len(cases)} of {len(files)} assertions failed on the restored shop: bytes.sql: ")
        said = {part.partition(".sql: ")[0].rpartition(" ")[2]: part for part in message.split("; ")}
        assert {name for name, (_sql, why) in cases.items() if why not in said[name]} == set()


def portrait(database: DatabaseContainer) -> tuple[Any, ...]:
    """The app's container, which a drill has no business with."""
    state = docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}", database.name).stdout
    return state, database.databases(), database.fingerprint("shop"), database.sql("SELECT count(*) FROM pg_roles")


def finish_any(process: subprocess.Popen[str], timeout: float = 60) -> Sequence[str]:
    """The rest of what a drill says."""
    output, _nothing = process.communicate(timeout=timeout)
    return output.splitlines(keepends=True)
