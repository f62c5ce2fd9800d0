# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipes of docs/how-to and docs/explanation, command by command, in one house: an agent, an app's database, and a shell.

What needs the controller is run by the end-to-end tests; what is here runs on the host.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.containers import PASSWORD, AgentContainer, DatabaseContainer, docker
from tests.support.controller import restic_from_image
from tests.support.documented import documented
from tests.support.drills import SCRIPT, end_drills
from tests.support.turns import nothing_labelled

SHOP = """
CREATE ROLE shop_app LOGIN PASSWORD 'a password that comes along';
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, total numeric NOT NULL);
CREATE INDEX ON orders (customer_id);
INSERT INTO customers SELECT n, 'customer ' || n, n || '@example.com' FROM generate_series(1, 500) AS n;
INSERT INTO orders SELECT n, 1 + n % 500, n * 0.99 FROM generate_series(1, 2000) AS n;
GRANT SELECT ON orders TO shop_app;
"""
RESTIC = "/var/cache/scalr-backup/restic"


@dataclass
class House:
    """A host with an app's database and the agent, which has backed it up once."""

    agent: AgentContainer
    shop: DatabaseContainer
    directory: Path
    before: dict[str, str]
    path: str
    # What a test calls otherwise than the pages do.
    others: dict[str, str] = field(default_factory=dict)

    def run(self, command: str, *, exit_code: int = 0, stdin: str | None = None) -> str:
        """Run a command of the documentation as a user on the host; what it printed, its errors too."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-ec", self._here(command)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            cwd=self.directory,
            env={**os.environ, "HOME": str(self.directory), "PATH": self.path, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == exit_code, f"{self._here(command)} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """What a user has exported who works with plain restic."""
        return {"RESTIC_CACHE_DIR": str(self.directory / "cache")}

    @property
    def stem(self) -> str:
        """What the names of this house's containers begin with."""
        return self.shop.name.removesuffix("-db")

    def _here(self, command: str) -> str:
        """The command with this house's names; the agent is called by its container's and its program's name alike."""
        command = re.sub(r"\bscalr-backup (?=scalr-backup |restic )", f"{self.agent.name} ", command)
        for example, name in {**self.others, "scalr-foo-db": self.shop.name, "scalr-foo-": f"{self.stem}-"}.items():
            command = command.replace(example, name)
        return command

    def ids(self) -> list[str]:
        """The shop's snapshots, the oldest first."""
        found = self.agent.ok("snapshots", "--db", self.shop.name, "--database", "shop")["snapshots"]
        return [one["short_id"] for one in sorted(found, key=lambda one: one["time"])]


@pytest.fixture(scope="module")
def house(
    agent_image: str,
    prefix: str,
    make_database: Callable[..., DatabaseContainer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    """The house of all recipes."""
    directory = tmp_path_factory.mktemp("host")
    (directory / "password").write_text("s3cret")
    agent = AgentContainer(tmp_path_factory.mktemp("house"), [f"{prefix}-*-db"], agent_image)
    agent.configure(host="web1")
    path = f"{restic_from_image(directory / 'bin')}:{os.environ['PATH']}"
    try:
        agent.start()
        agent.make_repository()
        shop = make_database("foo", environment={"POSTGRES_PASSWORD": "s3cret", "POSTGRES_DB": "shop"})
        shop.sql(SHOP, "shop")
        agent.ok("backup", "--reason", "nightly")
        yield House(agent, shop, directory, shop.fingerprint("shop"), path)
    finally:
        end_drills(agent)
        agent.remove()
        # Whichever of them has the volumes.
        for name in (f"{prefix}-foo-staging-db", f"{prefix}-foo-old", f"{prefix}-foo-db"):
            docker("rm", "--force", "--volumes", name, check=False)
        docker("volume", "rm", "--force", f"{prefix}-foo-staging-db", f"{prefix}-foo-db-18")


@pytest.fixture(autouse=True)
def intact(house: House) -> Iterator[None]:
    """No recipe sees another one's accident, and each leaves the app's data as it found them."""
    house.others.clear()
    yield
    assert house.shop.fingerprint("shop") == house.before


@pytest.fixture(scope="class")
def yesterday(house: House) -> Iterator[None]:
    """The shop of the last pass, beside the live one."""
    said = house.run(
        documented(
            "docker exec scalr-backup scalr-backup restore --db scalr-foo-db --database shop "
            "--database-as shop_yesterday --confirm scalr-foo-db"
        )
    )
    assert re.search(r"shop_yesterday +absent ", said)
    assert re.search(r"shop_yesterday: restored in .* s, 2,500 rows in 2 tables verified", said)
    yield
    house.run(documented("docker exec scalr-foo-db dropdb --username postgres shop_yesterday"))
    assert house.shop.databases() == {"postgres", "shop"}


@pytest.mark.usefixtures("yesterday")
class TestRestoreOneTable:
    """docs/how-to/restore-one-table.md."""

    def test_rows_that_were_deleted(self, house: House) -> None:
        house.shop.sql("DELETE FROM orders WHERE id % 3 = 0", "shop")

        house.run(
            documented(
                "docker exec scalr-foo-db pg_dump --username postgres --data-only --rows-per-insert 1000 "
                "--on-conflict-do-nothing --table public.orders shop_yesterday | docker exec -i scalr-foo-db "
                "psql --username postgres --dbname shop --quiet --single-transaction --set ON_ERROR_STOP=1"
            )
        )

        assert house.shop.fingerprint("shop") == house.before

    def test_a_table_that_was_dropped(self, house: House) -> None:
        schema = "pg_dump -U postgres --schema-only --no-comments --restrict-key=k shop"
        definitions = docker("exec", house.shop.name, *schema.split()).stdout
        house.shop.sql("DROP TABLE orders", "shop")

        house.run(
            documented(
                "docker exec scalr-foo-db pg_dump --username postgres --table public.orders shop_yesterday | docker exec -i "
                "scalr-foo-db psql --username postgres --dbname shop --quiet --single-transaction --set ON_ERROR_STOP=1"
            )
        )

        assert docker("exec", house.shop.name, *schema.split()).stdout == definitions

    def test_rows_that_were_changed(self, house: House) -> None:
        house.shop.sql("UPDATE customers SET name = 'oops'", "shop")

        house.run(
            documented(
                "docker exec scalr-foo-db psql --username postgres --dbname shop --quiet --command "
                "'CREATE TABLE customers_yesterday (LIKE customers)'"
            )
        )
        copied = house.run(
            documented(
                "docker exec scalr-foo-db psql --username postgres --dbname shop_yesterday --command "
                "'COPY customers TO STDOUT' | docker exec -i scalr-foo-db psql --username postgres --dbname shop "
                "--command 'COPY customers_yesterday FROM STDIN'"
            )
        )
        updated = house.run(
            documented(
                "docker exec scalr-foo-db psql --username postgres --dbname shop --command 'UPDATE customers SET name = "
                "y.name FROM customers_yesterday AS y WHERE y.id = customers.id AND y.name <> customers.name'"
            )
        )
        house.run(
            documented(
                "docker exec scalr-foo-db psql --username postgres --dbname shop --quiet --command "
                "'DROP TABLE customers_yesterday'"
            )
        )

        assert (copied, updated) == ("COPY 500\n", "UPDATE 500\n")


class TestStagingCopy:
    """docs/how-to/nightly-staging-copy.md."""

    def test_of_every_night(self, house: House) -> None:
        house.others["/srv/staging-password"] = str(house.directory / "password")
        (house.directory / "scrub.sql").write_text("UPDATE customers SET email = id || '@staging.invalid';")
        house.run(
            documented(
                "docker run --detach --name scalr-foo-staging-db --env POSTGRES_PASSWORD_FILE=/run/secrets/password --volume "
                "/srv/staging-password:/run/secrets/password:ro --volume scalr-foo-staging-db:/var/lib/postgresql/data postgres:17"
            )
        )
        staging = DatabaseContainer(f"{house.stem}-staging-db")
        staging.wait()
        copy = documented(
            "docker exec scalr-backup scalr-backup restore --db scalr-foo-db --target scalr-foo-staging-db "
            "--confirm scalr-foo-staging-db --no-safety-snapshot"
        )
        scrub = documented(
            "docker exec -i scalr-foo-staging-db psql --username postgres --dbname shop --quiet --single-transaction "
            "--set ON_ERROR_STOP=1 < scrub.sql"
        )

        first = house.run(copy)
        house.run(scrub)
        assert staging.sql("SELECT count(*) FROM customers WHERE email LIKE '%staging%'", "shop") == "500"
        house.agent.configure(filter="!ends_with(Name, '-staging-db')")
        try:
            second = house.run(copy)
            discovered = house.run("docker exec scalr-backup scalr-backup discover")
        finally:
            house.agent.configure(filter="")

        assert re.search(rf"{staging.name} +excluded ", discovered) or staging.name not in discovered
        assert re.search(r"shop +absent ", first)
        assert "2,500 rows in 2 tables verified" in second
        assert staging.fingerprint("shop") == house.before
        assert staging.databases() == {"postgres", "shop"}
        house.run(documented("docker rm --force scalr-foo-staging-db && docker volume rm scalr-foo-staging-db"))

    def test_the_line_in_cron_is_that_command(self, checkout: Path) -> None:
        page = (checkout / "docs/how-to/nightly-staging-copy.md").read_text()
        [line] = re.findall(r"^0 4 \* \* \* root (.*) > /var/log", page, re.MULTILINE)
        assert f"```sh\n{line}\n```" in page


class TestHourlyPasses:
    """docs/how-to/hourly-passes.md."""

    def test_looks(self, house: House) -> None:
        history = house.run(documented("docker exec scalr-backup scalr-backup history --days 2"))
        assert re.search(rf"backup +{house.shop.name} +shop +ok .* first ", history)
        assert "TOOK" in history
        assert "ADDED" in history
        forget = house.run(documented("docker exec scalr-backup scalr-backup forget --dry-run"))
        assert "newest good backup, daily snapshot" in forget

    def test_without_hours_to_keep_discover_says_what_would_go(self, house: House) -> None:
        keep, schedule = house.agent.config.get("keep"), house.agent.config["schedule"]
        discover = documented("docker exec scalr-backup scalr-backup discover")
        # No pass begins meanwhile, which would be one more in the history of the other tests.
        minute = (datetime.now(UTC).minute + 30) % 60
        try:
            house.agent.configure(schedule=f"{minute} * * * *")
            assert "hourly" in house.run(discover)
            house.agent.configure(keep={"hourly": 48, "daily": 30, "weekly": 4, "monthly": 6})
            assert "hourly" not in house.run(discover)
        finally:
            house.agent.config.pop("keep") if keep is None else None
            house.agent.configure(schedule=schedule)


class TestFromCron:
    """docs/how-to/from-a-pg_dump-cron.md."""

    def test_an_old_dump_is_tried_and_comes_along(self, house: House) -> None:
        with (house.directory / "shop.dump").open("wb") as file:
            dump = ["docker", "exec", house.shop.name, "pg_dump", "-U", "postgres", "-Fc", "shop"]
            subprocess.run(dump, stdout=file, check=True)
        house.run(documented("docker exec scalr-foo-db createdb --username postgres shop_old"))
        house.run(
            documented(
                "docker exec -i scalr-foo-db pg_restore --username postgres --dbname shop_old --exit-on-error < shop.dump"
            )
        )
        assert house.shop.fingerprint("shop_old") == house.before
        house.run(documented("docker exec scalr-foo-db dropdb --username postgres shop_old"))

        house.run(
            documented(
                "docker exec -i -e RESTIC_REPOSITORY=/repository -e RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password "
                "-e RESTIC_CACHE_DIR=/var/cache/scalr-backup/restic scalr-backup restic backup --stdin --stdin-filename "
                "/scalr-foo-db/shop.dump --host web1 --tag scalr-foo-db,manual,pinned --time '2026-10-01 03:00:00' < shop.dump"
            )
        )

        listed = house.run(documented("docker exec scalr-backup scalr-backup snapshots --db scalr-foo-db"))
        [old] = re.findall(
            rf"^(\w+) +2026-10-01 03:00:00 UTC +{house.shop.name} +shop +manual .* pinned", listed, re.MULTILINE
        )
        as_old = ["--database", "shop", "--database-as", "shop_old", "--snapshot", old]
        call = house.agent.call("restore", "--db", house.shop.name, *as_old, "--confirm", house.shop.name)
        assert call.exit_code == 0, call.output
        assert "no row counts" in " ".join(call.data["plan"]["warnings"])
        assert house.shop.fingerprint("shop_old") == house.before
        house.shop.sql("DROP DATABASE shop_old")


class TestExistingRepository:
    """docs/how-to/existing-restic-repository.md."""

    @pytest.fixture
    def existing(self, house: House) -> Iterator[House]:
        """A repository of version 1 that holds files and an old dump, and which the agent then uses."""
        place = "/var/lib/scalr-backup/existing"
        inside = (
            f"docker exec -i -e RESTIC_REPOSITORY={place} -e RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password "
            f"-e RESTIC_CACHE_DIR={RESTIC} {house.agent.name} restic"
        )
        house.run(f"{inside} init --repository-version 1")
        house.run(f"{inside} backup --stdin --stdin-filename /etc/hosts --host web1", stdin="127.0.0.1 localhost\n")
        dump = f"docker exec {house.shop.name} pg_dump --username postgres shop"
        house.run(f"{dump} | {inside} backup --stdin --stdin-filename /shop.sql --host web1")
        house.agent.configure(repository=place)
        # Whoever is root on the host would leave files there that the agent may not read.
        shim = house.directory / "bin/restic"
        shim.parent.mkdir(exist_ok=True)
        kept = shim.read_bytes() if shim.exists() else b""
        shim.unlink(missing_ok=True)
        shim.write_text(f'#!/bin/sh\nexec {inside} "$@"\n')
        shim.chmod(0o755)
        path, house.path = house.path, f"{shim.parent}:{house.path}"
        yield house
        house.path = path
        shim.write_bytes(kept) if kept else shim.unlink()
        house.agent.configure(repository="/repository")

    def test_what_was_there_stays_and_neither_retention_judges_the_others(self, existing: House) -> None:
        house = existing
        assert '"version": 1' in house.run(documented("restic cat config"))
        assert "upgrade_repo_v2: success" in house.run(documented("restic migrate upgrade_repo_v2"))

        house.agent.ok("backup", "--reason", "nightly", "--tag", "pinned")
        house.agent.ok("backup", "--reason", "nightly")
        said = house.run("docker exec scalr-backup scalr-backup forget --dry-run")
        assert len(re.findall(rf"^\w+ .* {house.shop.name} ", said, re.MULTILINE)) == 2
        # Two of somebody else, and of each pass the dump and its manifest.
        assert "0 removed, 6 kept" in said
        house.run(documented("restic dump --path /shop.sql latest /shop.sql > /dev/null"))

        filtered = house.run(documented("restic forget --path /etc/hosts --keep-daily 7 --dry-run"))
        assert "/etc/hosts" in filtered
        assert house.shop.name not in filtered
        # Without one, even what is pinned would go.
        unfiltered = json.loads(house.run("restic forget --keep-last 1 --dry-run --json --quiet"))
        removed = [one for group in unfiltered for one in group["remove"] or []]
        assert any("pinned" in (one["tags"] or []) for one in removed)


class TestUpgrade:
    """docs/how-to/upgrade-postgresql.md."""

    def test_rehearsed_done_and_undone(self, house: House) -> None:
        # The drill's script of this house's agent, where the role puts it.
        drill = house.directory / "drill"
        drill.write_text(SCRIPT.read_text().replace("agent=scalr-backup\n", f"agent={house.agent.name}\n"))
        drill.chmod(0o755)
        house.others.update(
            {
                "/opt/scalr/services/backup": str(house.directory),
                "/srv/foo-password": str(house.directory / "password"),
                "scalr-foo-db-18": f"{house.shop.name}-18",
            }
        )
        rehearsed = house.run(documented("/opt/scalr/services/backup/drill --db scalr-foo-db --image postgres:18"))
        assert re.search(r" shop +passed +\w+ .* 2,500 in 2 tables +passed ", rehearsed)

        house.run(documented("docker exec scalr-backup scalr-backup backup --db scalr-foo-db --tag before-upgrade"))
        house.run(documented("docker stop scalr-foo-db"))
        house.run(documented("docker rename scalr-foo-db scalr-foo-old"))
        house.run(
            documented(
                "docker run --detach --name scalr-foo-db --env POSTGRES_PASSWORD_FILE=/run/secrets/password --volume "
                "/srv/foo-password:/run/secrets/password:ro --volume scalr-foo-db-18:/var/lib/postgresql postgres:18"
            )
        )
        house.shop.wait()
        said = house.run(
            documented(
                "docker exec scalr-backup scalr-backup restore --db scalr-foo-db --snapshot tag=before-upgrade "
                "--confirm scalr-foo-db"
            )
        )
        assert "2,500 rows in 2 tables verified" in said
        assert house.shop.fingerprint("shop") == house.before
        assert house.shop.sql("SHOW server_version_num").startswith("18")
        assert house.shop.sql("SELECT rolpassword LIKE 'SCRAM%' FROM pg_authid WHERE rolname = 'shop_app'") == "t"
        assert house.shop.sql("SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'orders'", "shop") == "t"
        assert "0 failed" in house.run("docker exec scalr-backup scalr-backup backup --db scalr-foo-db")
        discovered = house.run("docker exec scalr-backup scalr-backup discover")
        assert re.search(rf"{house.shop.name} +ok +18\.", discovered)
        assert "old" not in discovered

        house.run(documented("docker rm --force scalr-foo-db"))
        house.run(documented("docker rename scalr-foo-old scalr-foo-db"))
        house.run(documented("docker start scalr-foo-db"))
        house.shop.wait()
        # The newest snapshot is of 18, and what can be restored here is older: it says so before anything happens.
        call = house.agent.call("restore", "--db", house.shop.name, "--confirm", house.shop.name)
        assert call.error["code"] == "older_server", call.output


class TestMoveToManaged:
    """docs/how-to/move-to-managed-postgresql.md; another container that nobody discovers stands for the provider's server."""

    @pytest.fixture
    def managed(self, prefix: str, house: House) -> Iterator[DatabaseContainer]:
        server = DatabaseContainer(f"{prefix}-managed").start()
        try:
            server.sql("CREATE ROLE shop LOGIN PASSWORD 'theirs'")
            server.sql("CREATE DATABASE shop OWNER shop")
            address = docker(
                "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", server.name
            ).stdout.strip()
            (house.directory / ".pgpass").write_text(f"{address}:5432:shop:shop:theirs\n")
            (house.directory / ".pgpass").chmod(0o600)
            # This server has no certificate.
            house.others["host=db.example.com user=shop dbname=shop sslmode=require"] = (
                f"host={address} user=shop dbname=shop sslmode=prefer"
            )
            yield server
        finally:
            server.remove()

    def test_its_rows_go_there_and_its_history_stays_until_it_is_let_go(
        self, house: House, managed: DatabaseContainer
    ) -> None:
        house.run(documented("docker exec scalr-backup scalr-backup backup --db scalr-foo-db --tag pinned"))
        newest = house.ids()[-1]
        house.others["5f0c8e1b"] = newest
        volume = docker("volume", "inspect", "--format", "{{.Mountpoint}}", f"{house.agent.name}-repository")
        house.others["/var/lib/docker/volumes/scalr-backup-repository/_data"] = volume.stdout.strip()
        house.others["/opt/scalr/services/backup/secrets/password"] = str(house.directory / "repository-password")
        secret = docker("exec", house.agent.name, "cat", "/run/secrets/scalr-backup/password").stdout
        (house.directory / "repository-password").write_text(secret)
        house.run(
            "\n".join(
                [
                    documented("export RESTIC_REPOSITORY=/var/lib/docker/volumes/scalr-backup-repository/_data"),
                    documented("export RESTIC_PASSWORD_FILE=/opt/scalr/services/backup/secrets/password"),
                    documented(
                        "restic dump 5f0c8e1b /scalr-foo-db/shop.dump | docker run --rm --interactive --volume "
                        '"$HOME/.pgpass:/root/.pgpass:ro" postgres:17 pg_restore --dbname '
                        "'host=db.example.com user=shop dbname=shop sslmode=require' --no-owner --no-privileges "
                        "--exit-on-error --single-transaction"
                    ),
                ]
            )
        )
        assert managed.fingerprint("shop") == house.before
        counted = house.run(
            documented(
                'docker run --rm --volume "$HOME/.pgpass:/root/.pgpass:ro" postgres:17 psql '
                "'host=db.example.com user=shop dbname=shop sslmode=require' --command 'ANALYZE' "
                "--command 'SELECT count(*) FROM orders'"
            )
        )
        assert re.search(r"^ +2000$", counted, re.MULTILINE)
        assert "2,500" in house.run("docker exec scalr-backup scalr-backup history --days 2")

        self.nothing_warns_of_it_and_nothing_goes_by_itself(house)
        self.it_restores_elsewhere(house, managed)
        self.it_is_aged_out(house, newest)

    @staticmethod
    def nothing_warns_of_it_and_nothing_goes_by_itself(house: House) -> None:
        before = house.ids()
        house.agent.configure(exclude=[house.shop.name])
        try:
            with nothing_labelled():
                house.agent.ok("backup", "--reason", "nightly")
                assert house.ids() == before
                status = house.agent.ok("status")
            # How full this machine is, is nobody's business here.
            assert {one["code"] for one in status["findings"]} <= {"repository_nearly_full"}
            assert status["databases"] == []
        finally:
            house.agent.configure(exclude=[])

    @staticmethod
    def it_restores_elsewhere(house: House, managed: DatabaseContainer) -> None:
        """Its container is excluded, and another one takes the rows."""
        managed.sql("DROP DATABASE shop")
        house.others["scalr-bar-db"] = managed.name
        house.agent.configure(exclude=[house.shop.name])
        try:
            said = house.run(
                documented(
                    "docker exec scalr-backup scalr-backup restore --db scalr-foo-db --target scalr-bar-db "
                    "--confirm scalr-bar-db"
                )
            )
        finally:
            house.agent.configure(exclude=[])
        assert "2,500 rows in 2 tables verified" in said

    @staticmethod
    def it_is_aged_out(house: House, pinned: str) -> None:
        listed = house.agent.ok("snapshots", "--db", house.shop.name)["snapshots"]
        tonight = max(one["time"] for one in listed)[:10]
        old = ["--tag", house.shop.name, "--tag", "nightly", "--host", "web1", "--time", "2026-05-31 03:00:00"]
        inside = f"-e RESTIC_REPOSITORY=/repository -e RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password -e RESTIC_CACHE_DIR={RESTIC}"
        name = f"/{house.shop.name}/shop.dump"
        docker(
            "exec", "-i", *inside.split(), house.agent.name, "restic", "backup", "--stdin", "--stdin-filename", name, *old,
            stdin="PGDMP of that day",
        )  # fmt: skip
        oldest = house.ids()[0]
        shown = house.run(
            documented(
                "docker exec scalr-backup scalr-backup snapshots --db scalr-foo-db | "
                """awk '/^[0-9a-f]/ && !/pinned/ && $2 < "2026-06-01"'"""
            )
        )
        assert [line.split()[0] for line in shown.splitlines()] == [oldest]
        said = house.run(
            documented(
                "docker exec scalr-backup scalr-backup snapshots --db scalr-foo-db | "
                """awk '/^[0-9a-f]/ && !/pinned/ && $2 < "2026-06-01" {print "--snapshot", $1}' | """
                "xargs --no-run-if-empty docker exec scalr-backup scalr-backup forget"
            )
        )
        assert "1 removed" in said
        assert oldest not in house.ids()
        # A day later, all would go that is not pinned.
        assert tonight > "2026-06-01"
        unpinned = [one["short_id"] for one in listed if not one["pinned"] and one["database"] == "shop"]
        house.others["5f0c8e1b"] = unpinned[0]
        assert "1 removed" in house.run(documented("docker exec scalr-backup scalr-backup forget --snapshot 5f0c8e1b"))
        assert unpinned[0] not in house.ids()
        assert pinned in house.ids()


class TestWhyNoStdin:
    """docs/explanation/why-no-stdin.md: what restic makes of a dump that dies."""

    def test_a_pipe_saves_what_came_and_a_command_does_not(self, house: House) -> None:
        house.others["RESTIC_REPOSITORY=/repository"] = "RESTIC_REPOSITORY=/tmp/torn"
        restic = (
            "docker exec -i -e RESTIC_REPOSITORY=/repository -e RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password "
            f"-e RESTIC_CACHE_DIR={RESTIC} scalr-backup restic"
        )
        house.run(f"{restic} init")
        dies = "sh -c 'echo half; exit 1'"
        piped = house.run(f"set +o pipefail; {dies} | {restic} backup --stdin --stdin-filename torn")
        assert re.search(r"snapshot \w+ saved", piped)
        command = house.run(f"{restic} backup --stdin-from-command --stdin-filename torn -- {dies}", exit_code=1)
        assert "saved" not in command
        assert len(json.loads(house.run(f"{restic} snapshots --json"))) == 1


class TestEmergency:
    """docs/emergency.md: what is for the host, and no other test runs."""

    def test_the_password_that_the_agent_has(self, house: House) -> None:
        house.others["exec scalr-backup cat"] = f"exec {house.agent.name} cat"
        shown = house.run(documented("docker exec scalr-backup cat /run/secrets/scalr-backup/password"))
        assert shown.strip() == PASSWORD

    def test_an_agent_that_is_stopped_keeps_its_log(self, house: House) -> None:
        house.others["scalr-backup-socket-proxy"] = house.shop.name
        house.others["stop scalr-backup"] = f"stop {house.agent.name}"
        house.others["logs scalr-backup"] = f"logs {house.agent.name}"
        house.run(documented("docker stop scalr-backup"))
        try:
            house.run(documented("docker logs scalr-backup > agent.log 2>&1"))
            house.run(documented("docker logs scalr-backup-socket-proxy > proxy.log 2>&1"))
            assert '"event"' in (house.directory / "agent.log").read_text()
            assert (house.directory / "proxy.log").stat().st_size > 0
        finally:
            docker("start", house.agent.name)
        assert house.agent.ok("status")["databases"]


class TestUninstall:
    """docs/how-to/uninstall.md, but for what the end-to-end tests do."""

    def test_the_volume_with_the_backups(self, house: House, prefix: str) -> None:
        volume = f"{prefix}-repository"
        docker("volume", "create", volume)
        house.run(documented("docker volume rm scalr-backup-repository").replace("scalr-backup-repository", volume))
        assert volume not in docker("volume", "ls", "--format", "{{.Name}}").stdout.split()
