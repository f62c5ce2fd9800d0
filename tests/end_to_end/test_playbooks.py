"""The playbooks as a user runs them: on this machine's Docker, against an agent and databases of the tests' own.

With SCALR_BACKUP_INSTALLED=1 everything here runs from an installed artifact and not from the checkout.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.containers import DatabaseContainer, docker, running, wait_until
from tests.support.controller import (
    AGENT,
    CHECKOUT,
    PROGRAMS,
    PROXY,
    Controller,
    Run,
    agent_set_aside,
    containers_of_the_agent,
    restic_from_image,
)
from tests.support.documented import documented
from tests.support.pager import TOKEN, Pager

pytestmark = pytest.mark.timeout(480)

HOST = "web1"
# The part of site.yml that configuration goes through; the whole of it runs in other tests.
CONFIG = ("--tags=config",)
# Two names in the inventory for one machine: what is on it is on both.
TWIN = "web2"
# Secrets that must never show anywhere.
STORE_SECRET = "canary-of-the-store-9d1f"
DATABASE_SECRET = "canary'of\"the$database 7c2e"

SHOP_ROWS = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, total numeric NOT NULL);
INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 5000) AS n;
INSERT INTO orders SELECT n, 1 + n % 5000, n * 0.99 FROM generate_series(1, 20000) AS n;
"""
ACCIDENT = "DROP TABLE orders; UPDATE customers SET name = 'oops'"


@dataclass
class Site:
    """A provisioned host with two database containers."""

    controller: Controller
    first_run: Run
    shop: DatabaseContainer
    wiki: DatabaseContainer
    directory: Path

    @property
    def names(self) -> dict[str, str]:
        """The documentation's example container, and this test's."""
        return {"scalr-foo-db": self.shop.name}

    @property
    def password(self) -> str:
        """The password that the role made."""
        return (self.directory / "passwords" / f"{HOST}.password").read_text().rstrip("\n")

    def agent_id(self) -> str:
        """Which container the agent runs in, and since when."""
        return docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", AGENT).stdout

    def verb(self, *arguments: str) -> dict:
        """The data of a verb's result."""
        done = docker("exec", AGENT, "scalr-backup", *arguments, "--json")
        return json.loads(done.stdout.splitlines()[-1])["data"]

    def snapshots(self) -> list[dict]:
        """What the repository holds of the shop."""
        return self.verb("snapshots", f"--db={self.shop.name}")["snapshots"]

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Mode and content of what the role wrote on the host and on the controller; not the build context."""
        roots = [
            self.directory / "backup" / "config",
            self.directory / "backup" / "secrets",
            self.directory / "passwords",
        ]
        found = [path for root in roots if root.exists() for path in [root, *root.rglob("*")]]
        return {str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"") for path in found}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection's artifact."""
    directory = tmp_path_factory.mktemp("artifact")
    subprocess.run(documented("make build").split(), cwd=CHECKOUT, check=True, capture_output=True)
    return Path(shutil.move(CHECKOUT / "scalr-backup-0.8.0.tar.gz", directory))


@pytest.fixture(scope="module")
def installed(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path that holds the installed artifact and what it depends on, and nothing of the checkout."""
    collections = tmp_path_factory.mktemp("installed")
    shutil.copytree(
        CHECKOUT / ".ansible/collections/ansible_collections/community", collections / "ansible_collections/community"
    )
    command = documented(
        "ansible-galaxy collection install ansible-backup/scalr-backup-0.8.0.tar.gz",
        {"ansible-backup/scalr-backup-0.8.0.tar.gz": str(artifact)},
    )
    # Galaxy may be out of reach, and has nothing to give here.
    arguments = [*command.split()[1:], "--offline", "--collections-path", str(collections)]
    # Away from the checkout, whose ansible.cfg would say that the collection is there already.
    subprocess.run([PROGRAMS / "ansible-galaxy", *arguments], cwd=collections, check=True, capture_output=True)
    return collections


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Controller]:
    """A controller whose one host, under two names, is this machine; nothing is provisioned yet."""
    directory = tmp_path_factory.mktemp("site")
    prefix = f"scalr-test-{secrets.token_hex(3)}"
    variables = {
        "prefix": prefix,
        "backup_containers": [f"{prefix}-*-db"],
        "backup_directory": str(directory / "backup"),
        "backup_repository": str(directory / "repository"),
        "backup_password_directory": str(directory / "passwords"),
        "backup_environment": {"AWS_SECRET_ACCESS_KEY": STORE_SECRET},
    }
    collections = request.getfixturevalue("installed") if os.environ.get("SCALR_BACKUP_INSTALLED") else None
    with agent_set_aside():
        yield Controller(directory, HOST, variables, collections)


@pytest.fixture(scope="module")
def databases(controller: Controller) -> Iterator[tuple[DatabaseContainer, DatabaseContainer]]:
    """Two apps' databases."""
    prefix = controller.variables["prefix"]
    settings = {"POSTGRES_PASSWORD": DATABASE_SECRET}
    shop = DatabaseContainer(f"{prefix}-shop-db", environment={**settings, "POSTGRES_DB": "shop"})
    wiki = DatabaseContainer(f"{prefix}-wiki-db", image="postgres:15", environment={**settings, "POSTGRES_DB": "wiki"})
    with running(shop, wiki):
        shop.sql(SHOP_ROWS, "shop")
        shop.sql("CREATE ROLE shop_reader LOGIN PASSWORD 'a hash of this is in the manifest'")
        wiki.sql(
            "CREATE TABLE pages AS SELECT n AS id, md5(n::text) AS body FROM generate_series(1, 1000) AS n", "wiki"
        )
        yield shop, wiki


@pytest.fixture(scope="module")
def provisioned(controller: Controller, databases: tuple[DatabaseContainer, DatabaseContainer]) -> Site:
    """The host after a first run of site.yml."""
    return Site(controller, controller.play("site"), *databases, directory=controller.directory)


@pytest.fixture(scope="module")
def saved(provisioned: Site) -> Site:
    """The host after a first backup."""
    provisioned.controller.play("backup")
    return provisioned


@pytest.fixture
def site(saved: Site) -> Iterator[Site]:
    """The host with the shop as it was backed up, whatever a test does to it."""
    before = saved.shop.fingerprint("shop")
    yield saved
    if saved.shop.fingerprint("shop") != before:
        saved.shop.sql("DROP TABLE IF EXISTS orders, customers;" + SHOP_ROWS, "shop")


@pytest.fixture
def broken_dump(site: Site) -> Iterator[None]:
    """The wiki's pg_dump dies."""
    site.wiki.wrap("pg_dump", "echo 'disk on fire' >&2; exit 1")
    yield
    site.wiki.unwrap("pg_dump")


@pytest.fixture
def newcomer(site: Site) -> Iterator[DatabaseContainer]:
    """A new and empty database container; without the label that opens it to every agent, those of other tests too."""
    newcomer = DatabaseContainer(f"{site.controller.variables['prefix']}-newcomer-db", image="postgres:18")
    with running(newcomer):
        yield newcomer


@pytest.fixture
def gone(site: Site) -> str:
    """The name of a host that has backed up the same databases into the same repository, and is no more."""
    config = site.directory / "backup/config/config.json"
    own = config.read_text()
    name = f"web-{secrets.token_hex(3)}"
    config.write_text(json.dumps({**json.loads(own), "host": name}))
    try:
        site.verb("backup", f"--db={site.shop.name}")
    finally:
        config.write_text(own)
    return name


def on_the_machine() -> dict[str, set[str]]:
    """What the role might leave in Docker.

    The throwaway containers of another test's drill are none of it, nor is what another test's trusted prune remembers.
    """
    listings = {
        "volumes": ["volume", "ls", "--format", "{{.Name}}", "--filter", f"name={AGENT}"],
        "images": ["images", "--format", "{{.Repository}}:{{.Tag}}", AGENT],
    }
    found = {what: set(docker(*command).stdout.splitlines()) for what, command in listings.items()}
    others = (f"{AGENT}-drill-", f"{AGENT}-prune")
    found["volumes"] = {name for name in found["volumes"] if not name.startswith(others)}
    return {**found, "containers": containers_of_the_agent()}


class TestSite:
    """site.yml."""

    def test_check_mode_on_a_fresh_host_changes_nothing(self, controller: Controller) -> None:
        machine, files = on_the_machine(), set(controller.directory.rglob("*"))

        run = controller.play("site", "--check", "--diff")

        assert run.recap(HOST)["changed"] > 0
        assert "WOULD BE GENERATED" in run.text
        assert on_the_machine() == machine
        assert set(controller.directory.rglob("*")) == files

    def test_a_first_run_makes_a_password_and_says_so_loudly(self, provisioned: Site) -> None:
        on_host = provisioned.directory / "backup/secrets/password"

        assert len(provisioned.password) >= 40
        assert on_host.read_text() == provisioned.password
        assert stat.S_IMODE((provisioned.directory / f"passwords/{HOST}.password").stat().st_mode) == 0o600
        assert stat.S_IMODE(on_host.stat().st_mode) == 0o640
        assert stat.S_IMODE((provisioned.directory / "backup").stat().st_mode) == 0o700
        assert "KEEP A COPY SOMEWHERE ELSE" in provisioned.first_run.text

    def test_a_first_run_says_what_will_be_backed_up(self, provisioned: Site) -> None:
        names = f"({provisioned.shop.name}, {provisioned.wiki.name})"

        assert f"{HOST} backs up 2 databases in 2 containers {names}" in provisioned.first_run.text

    def test_the_container_has_no_more_rights_than_it_needs(self, provisioned: Site) -> None:
        document = json.loads(docker("inspect", AGENT).stdout)[0]
        host = document["HostConfig"]

        assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
        assert host["PortBindings"] in ({}, None)
        assert document["Config"]["User"] == "64738:64738"
        assert (host["PidsLimit"], host["CpuShares"], host["NanoCpus"]) == (4096, 512, 0)
        assert 192 << 20 <= host["Memory"] < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        proxy = json.loads(docker("inspect", PROXY).stdout)[0]["HostConfig"]
        assert (proxy["Memory"], proxy["CpuShares"], proxy["PidsLimit"]) == (512 << 20, 512, 32)
        assert not any(mount["Destination"].endswith("/docker.sock") for mount in document["Mounts"])
        assert not any(secret in json.dumps(document) for secret in (provisioned.password, STORE_SECRET))

    def test_a_second_run_changes_nothing(self, provisioned: Site) -> None:
        agent, files = provisioned.agent_id(), provisioned.files()

        run = provisioned.controller.shell(documented("ansible-playbook site.yml"))

        assert run.recap(HOST)["changed"] == 0, run.output
        assert (provisioned.agent_id(), provisioned.files()) == (agent, files)
        assert "GENERATED" not in run.text

    @pytest.mark.thorough
    def test_a_changed_schedule_only_rewrites_the_configuration(self, provisioned: Site) -> None:
        agent = provisioned.agent_id()

        changed = json.dumps({"backup_schedule": "30 4 * * *"})
        run = provisioned.controller.play("site", *CONFIG, "--extra-vars", changed)

        assert run.recap(HOST)["changed"] == 1
        assert provisioned.agent_id() == agent
        assert "T04:30:00" in provisioned.verb("status")["next_pass"]
        wait_until(
            lambda: "T04:30:00" in docker("logs", AGENT).stdout.splitlines()[-1], "the running agent takes it over", 20
        )

    def test_a_match_with_power_over_the_host_is_refused_before_anything_changes(self, provisioned: Site) -> None:
        agent, files = provisioned.agent_id(), provisioned.files()
        docker("run", "--detach", "--name", "scalr-root-test", "--pid=host", "debian:trixie-slim", "sleep", "600")
        try:
            names = json.dumps({"backup_containers": [provisioned.shop.name, "scalr-root-test"]})
            run = provisioned.controller.play("site", *CONFIG, "--extra-vars", names, exit_code=2)
        finally:
            docker("rm", "--force", "scalr-root-test")

        assert "scalr-root-test is refused: " in run.text
        assert "because it shares the host's process namespace" in run.text
        assert (provisioned.agent_id(), provisioned.files()) == (agent, files)

    def test_a_test_message_reaches_whoever_is_to_be_told(self, provisioned: Site) -> None:
        pager = Pager()
        told = json.dumps({"backup_notify": [pager.webhook], "backup_heartbeat_url": pager.switch})
        command = " ".join([documented("ansible-playbook site.yml -e backup_notify_test=true"), *CONFIG])

        run = provisioned.controller.shell(f"{command} -vvv --diff --extra-vars '{told}'")
        pager.wait_for("This is a test")
        docker(*documented("docker exec scalr-backup scalr-backup notify --test").split()[1:])
        assert len(pager.messages) == 2
        assert TOKEN not in run.output + docker("inspect", AGENT).stdout + docker("logs", AGENT).stdout
        assert stat.S_IMODE((provisioned.directory / "backup/secrets/notify").stat().st_mode) == 0o640

        pager.refuses = True
        run = provisioned.controller.shell(f"{command} --extra-vars '{told}'", exit_code=2)
        assert "json (number 1 of backup_notify) refused the message, or did not answer." in run.text
        pager.server.shutdown()

    def test_directories_that_were_made_anew_are_seen(self, provisioned: Site) -> None:
        """Containers go on seeing the directories that they were made with, though these are removed.

        The run of the role also takes back what the test before it has configured.
        """
        agent, config = provisioned.agent_id(), provisioned.directory / "backup/config"
        shutil.copytree(config, config.with_name("saved"))
        shutil.rmtree(config)
        config.with_name("saved").rename(config)

        run = provisioned.controller.play("site")

        assert run.recap(HOST)["failed"] == 0
        assert provisioned.agent_id() != agent
        assert {found["status"] for found in provisioned.verb("discover")["containers"]} == {"ok"}

    @pytest.mark.parametrize(
        ("variable", "value", "sentence"),
        [
            ("backup_filter", "Config.Labels.app == ", r"filter: .* does not parse at position \d+"),
            pytest.param(
                "backup_schedule",
                "every night",
                r"schedule: 'every night' is not a cron expression",
                marks=pytest.mark.thorough,
            ),
            pytest.param(
                "backup_repository",
                "relative/directory",
                r"repository: it must be an absolute path",
                marks=pytest.mark.thorough,
            ),
        ],
    )
    def test_a_configuration_that_makes_no_sense_is_refused(
        self, provisioned: Site, variable: str, value: str, sentence: str
    ) -> None:
        agent, files = provisioned.agent_id(), provisioned.files()

        run = provisioned.controller.play("site", *CONFIG, "--extra-vars", json.dumps({variable: value}), exit_code=2)

        assert re.search(sentence, run.text)
        assert (provisioned.agent_id(), provisioned.files()) == (agent, files)

    @pytest.fixture
    def image_without_proxy(self) -> Iterator[str]:
        """An image whose agent is good, and whose proxy's container cannot be started."""
        image = f"scalr-test-no-proxy:{secrets.token_hex(3)}"
        current = docker("inspect", "--format", "{{.Config.Image}}", AGENT).stdout.strip()
        recipe = f"FROM {current}\nUSER root\nRUN rm /usr/sbin/haproxy\nUSER 64738:64738\n"
        subprocess.run(
            ["docker", "build", "--tag", image, "-"], input=recipe, text=True, check=True, capture_output=True
        )
        yield image
        docker("image", "rm", image)

    def test_containers_that_cannot_be_made_leave_the_old_ones(
        self, provisioned: Site, image_without_proxy: str
    ) -> None:
        agent, files = provisioned.agent_id().split()[0], provisioned.files()

        changes = {"backup_image": image_without_proxy, "backup_schedule": "15 5 * * *"}
        run = provisioned.controller.play("site", "--extra-vars", json.dumps(changes), exit_code=2)

        assert f"The agent on {HOST} was left unchanged." in run.text
        assert "haproxy" in run.text
        assert (provisioned.agent_id().split()[0], provisioned.files()) == (agent, files)
        assert {found["status"] for found in provisioned.verb("discover")["containers"]} == {"ok"}
        assert "before" not in docker("ps", "--all", "--format", "{{.Names}}", "--filter", f"name=^{AGENT}").stdout
        assert not (provisioned.directory / "backup/before").exists()

    def test_a_run_that_would_change_the_password_stops(self, provisioned: Site) -> None:
        agent, files = provisioned.agent_id(), provisioned.files()

        run = provisioned.controller.play("site", *CONFIG, "-e", "backup_password=another", exit_code=2)

        assert f"{HOST} already has a password for {provisioned.directory}/repository" in run.text
        assert (provisioned.agent_id(), provisioned.files()) == (agent, files)

    def test_a_missing_repository_stops_a_later_run(self, provisioned: Site) -> None:
        repository, elsewhere = provisioned.directory / "repository", provisioned.directory / "elsewhere"
        elsewhere.mkdir()
        for path in list(repository.iterdir()):
            path.rename(elsewhere / path.name)

        try:
            run = provisioned.controller.play("site", *CONFIG, exit_code=2)

            assert f"The repository {repository} that {HOST} has backed up to" in run.text
            assert "is missing" in run.text
            assert list(repository.iterdir()) == []
        finally:
            for path in list(elsewhere.iterdir()):
                path.rename(repository / path.name)


class TestBackup:
    """backup.yml."""

    def test_every_database_is_saved_and_shown(self, site: Site) -> None:
        run = (
            site.controller.shell(
                documented("ansible-playbook backup.yml") + f" -i {site.controller.inventory} --limit {HOST}"
            )
            if not site.controller.collections
            else site.controller.play("backup")
        )

        for container, database, rows in ((site.shop, "shop", 25000), (site.wiki, "wiki", 1000)):
            assert re.search(rf"{HOST} +{container.name} +{database} +saved +[0-9a-f]{{8}} .* {rows} ", run.output)
        assert run.recap(HOST)["failed"] == 0

    def test_one_that_fails_does_not_stop_the_others(self, site: Site, broken_dump: None) -> None:
        before = site.verb("snapshots")["snapshots"]

        run = site.controller.play("backup", exit_code=2)

        assert re.search(rf"{site.shop.name} +shop +saved ", run.output)
        assert re.search(rf"{site.wiki.name} +wiki +.*disk on fire", run.output)
        assert run.recap(HOST)["failed"] == 1
        # The night before stays when tonight's fails; retention is none of a failed database's business.
        assert {one["id"] for one in before if one["container"] == site.wiki.name} < {
            one["id"] for one in site.verb("snapshots")["snapshots"]
        }
        assert site.snapshots()[-1]["id"] not in {one["id"] for one in before}

    def test_the_status_says_what_failed_until_it_is_saved_again(self, site: Site, broken_dump: None) -> None:
        site.controller.play("backup", "-e", f"db={site.wiki.name}", exit_code=2)
        bad = site.controller.play("status", exit_code=2)
        site.wiki.unwrap("pg_dump")
        site.controller.play("backup", "-e", f"db={site.wiki.name}")
        good = site.controller.shell(documented("ansible-playbook status.yml"))

        assert re.search(rf"{site.wiki.name} +wiki +.*disk on fire", bad.output)
        assert "NOT SAFE" in bad.text
        assert f"{HOST} yes" in good.text
        assert "Safe: 2 databases" in good.text

    def test_a_password_that_does_not_open_the_repository(self, site: Site) -> None:
        password = site.directory / "backup/secrets/password"
        password.write_text("not this one")

        try:
            run = site.controller.play("backup", exit_code=2)
        finally:
            password.write_text(site.password)

        assert "password" in run.text
        assert "not this one" not in run.text

    @pytest.mark.thorough
    def test_an_unknown_database(self, site: Site) -> None:
        run = site.controller.play("backup", "-e", "db=scalr-nobody-db", exit_code=2)

        assert "No host has a database container scalr-nobody-db" in run.text
        assert site.shop.name in run.text


class TestRestoreRefuses:
    """restore.yml with input that cannot be meant: one sentence, non-zero, nothing changed.

    The playbook's part in each of these is in the unit tests, too, and the agent's in the integration tests.
    """

    def refused(self, site: Site, *arguments: str) -> Run:
        live, snapshots = site.shop.fingerprint("shop"), len(site.snapshots())

        run = site.controller.play("restore", *arguments, exit_code=2)

        assert site.shop.fingerprint("shop") == live
        assert len(site.snapshots()) == snapshots
        return run

    @pytest.mark.thorough
    def test_no_database(self, site: Site) -> None:
        assert "Set the container to restore" in self.refused(site).text

    def test_an_unknown_database(self, site: Site) -> None:
        run = self.refused(site, "-e", "db=scalr-nobody-db", "-e", "confirm=scalr-nobody-db")

        assert "No host has a database container scalr-nobody-db" in run.text
        assert f"{HOST} has {site.shop.name}, {site.wiki.name}" in run.text

    @pytest.mark.thorough
    def test_a_database_on_several_hosts(self, site: Site) -> None:
        twins = site.controller.write_inventory("twins.yml", HOST, TWIN)
        arguments = ["-e", f"db={site.shop.name}", "-e", f"confirm={site.shop.name}"]

        run = site.controller.play("restore", *arguments, inventory=twins, exit_code=2)

        assert f"2 hosts have a database container {site.shop.name}" in run.text
        assert f"{HOST} has {site.shop.name}" in run.text
        assert f"{TWIN} has {site.shop.name}" in run.text

    def test_a_wrong_confirmation(self, site: Site) -> None:
        run = self.refused(site, "-e", f"db={site.shop.name}", "-e", f"confirm={site.wiki.name}")

        assert f"confirm is {site.wiki.name}, but must be {site.shop.name}." in run.text

    @pytest.mark.thorough
    def test_no_confirmation_and_no_terminal(self, site: Site) -> None:
        run = self.refused(site, "-e", f"db={site.shop.name}")

        assert "Nothing was restored" in run.text
        assert f"-e confirm={site.shop.name}" in run.text

    @pytest.mark.thorough
    def test_an_unknown_snapshot(self, site: Site) -> None:
        arguments = ["-e", f"db={site.shop.name}", "-e", f"confirm={site.shop.name}", "-e", "snapshot=ffffffff"]

        run = self.refused(site, *arguments)

        assert "There is no snapshot" in run.text
        assert site.snapshots()[-1]["short_id"] in run.text

    @pytest.mark.thorough
    def test_a_snapshot_of_another_database(self, site: Site) -> None:
        other = site.verb("snapshots", f"--db={site.wiki.name}")["snapshots"][0]["short_id"]
        arguments = ["-e", f"db={site.shop.name}", "-e", f"confirm={site.shop.name}", "-e", f"snapshot={other}"]

        assert f"/{site.wiki.name}/wiki.dump" in self.refused(site, *arguments).text

    def test_a_stopped_container(self, site: Site) -> None:
        docker("stop", site.wiki.name)
        try:
            run = site.controller.play(
                "restore", "-e", f"db={site.wiki.name}", "-e", f"confirm={site.wiki.name}", exit_code=2
            )
        finally:
            docker("start", site.wiki.name)
            site.wiki.wait()

        assert f"{site.wiki.name} on {HOST} is exited; start it" in run.text


class TestRestore:
    """restore.yml."""

    def test_with_the_name_typed_at_the_prompt(self, site: Site) -> None:
        before = site.shop.fingerprint("shop")
        site.shop.sql(ACCIDENT, "shop")

        command = documented("ansible-playbook restore.yml -e db=scalr-foo-db", site.names)
        run = site.controller.shell_on_terminal(command, answer=site.shop.name)

        snapshot = r"[0-9a-f]{8} +\d{4}-\d\d-\d\dT[\d:]{8}Z +\d+"
        assert f"Restore of {site.shop.name} on {HOST}" in run.text
        assert re.search(rf"shop +[\d.]+ MiB +\d+ +{snapshot}", run.output)
        assert re.search(r"shop +restored +[0-9a-f]{8} +[0-9a-f]{8} ", run.output)
        # What the agent did meanwhile was shown as plain lines, as it happened.
        assert re.search(rf"^{HOST} {site.shop.name}/shop: \w+", run.output, re.MULTILINE)
        assert site.shop.fingerprint("shop") == before
        assert site.shop.databases() == {"postgres", "shop"}

    def test_with_another_name_typed_at_the_prompt(self, site: Site) -> None:
        site.shop.sql(ACCIDENT, "shop")
        damaged = site.shop.fingerprint("shop")

        command = f"ansible-playbook restore.yml -e db={site.shop.name}"
        run = site.controller.shell_on_terminal(command, answer="shop", exit_code=2)

        assert f"the answer was shop, but must be {site.shop.name}." in run.text
        assert site.shop.fingerprint("shop") == damaged

    def test_to_a_time_keeping_what_was_there_and_back_again(self, site: Site) -> None:
        before, moment = site.shop.fingerprint("shop"), site.snapshots()[-1]["time"]
        site.shop.sql(ACCIDENT, "shop")
        damaged = site.shop.fingerprint("shop")

        when = {**site.names, "2026-11-22T01:30": moment}
        shown = documented("ansible-playbook restore.yml -e db=scalr-foo-db -e snapshot=2026-11-22T01:30 --check", when)
        plan = site.controller.shell(shown)
        command = documented("ansible-playbook restore.yml -e db=scalr-foo-db -e snapshot=2026-11-22T01:30", when)
        more = f" -e confirm={site.shop.name} -e database=shop -e keep_old=true -e safety_snapshot=false"
        assert f"Restore of {site.shop.name} on {HOST}" in plan.text
        assert (plan.recap(HOST)["changed"], site.shop.fingerprint("shop")) == (0, damaged)
        run = site.controller.shell(command + more)

        kept = next(name for name in site.shop.databases() if name.startswith("shop_before_restore_"))
        assert site.shop.fingerprint("shop") == before
        assert site.shop.fingerprint(kept) == damaged

        # The host that knows this run is found by itself, and an undo can be undone.
        of_restore = re.search(r"ansible-playbook scalr\.backup\.restore -e undo=(\S+)", run.output)[1]
        command = documented(
            "ansible-playbook restore.yml -e undo=20261122T101500Z-3f9a", {"20261122T101500Z-3f9a": of_restore}
        )
        undone = site.controller.shell_on_terminal(command, answer=site.shop.name)
        assert site.shop.fingerprint("shop") == damaged
        assert re.search(r"shop +put back ", undone.output)
        of_undo = re.search(r"ansible-playbook scalr\.backup\.restore -e undo=(\S+)", undone.output)[1]
        site.controller.play("restore", "-e", f"undo={of_undo}", "-e", f"confirm={site.shop.name}")
        assert site.shop.fingerprint("shop") == before
        for name in site.shop.databases() - {"postgres", "shop"}:
            site.shop.sql(f'DROP DATABASE "{name}"')

    @pytest.mark.thorough
    def test_to_a_tag(self, site: Site) -> None:
        site.controller.shell(
            documented("ansible-playbook backup.yml -e db=scalr-foo-db -e extra_tags=before-upgrade", site.names)
        )
        before = site.shop.fingerprint("shop")
        tagged = site.snapshots()[-1]["short_id"]
        site.shop.sql(ACCIDENT, "shop")
        site.controller.play("backup", "-e", f"db={site.shop.name}")

        command = documented(
            "ansible-playbook restore.yml -e db=scalr-foo-db -e snapshot=tag=before-upgrade", site.names
        )
        run = site.controller.shell(f"{command} -e confirm={site.shop.name}")

        assert re.search(rf"shop +restored +{tagged} ", run.output)
        assert site.shop.fingerprint("shop") == before
        site.verb("backup", f"--db={site.shop.name}")

    @pytest.mark.thorough
    def test_into_another_container_under_another_name(self, site: Site, newcomer: DatabaseContainer) -> None:
        """The host that has it is found."""
        before = site.shop.fingerprint("shop")
        names = {**site.names, "scalr-new-db": newcomer.name}

        first = documented("ansible-playbook restore.yml -e db=scalr-foo-db -e target=scalr-new-db", names)
        run = site.controller.shell(f"{first} -e confirm={newcomer.name}")
        command = documented(
            "ansible-playbook restore.yml -e db=scalr-foo-db -e database=shop -e database_as=shop_yesterday", site.names
        )
        site.controller.shell(f"{command} -e confirm={site.shop.name}")

        assert (
            f"Restore of {site.shop.name} into {newcomer.name} on {HOST}. These databases will be created:" in run.text
        )
        assert "0 B" not in run.text
        assert newcomer.fingerprint("shop") == before
        assert site.shop.fingerprint("shop") == site.shop.fingerprint("shop_yesterday") == before
        site.shop.sql("DROP DATABASE shop_yesterday")

    def test_from_a_host_that_is_gone(self, site: Site, gone: str) -> None:
        before = site.shop.fingerprint("shop")
        site.shop.sql(ACCIDENT, "shop")

        command = documented(
            "ansible-playbook restore.yml -e db=scalr-foo-db -e from_host=web9", {**site.names, "web9": gone}
        )
        run = site.controller.shell(f"{command} -e confirm={site.shop.name}")

        assert f"Restore of {site.shop.name} of {gone} on {HOST}." in run.text
        assert site.shop.fingerprint("shop") == before

    @pytest.mark.thorough
    def test_from_another_hosts_own_repository(self, site: Site, gone: str, tmp_path: Path) -> None:
        """The inventory knows its repository, the controller its password."""
        before = site.shop.fingerprint("shop")
        site.shop.sql(ACCIDENT, "shop")
        # The only place of this host that the agent can look into is its own repository's directory.
        theirs = site.directory / "repository/of-another-host"
        self.copy_repository(site, theirs, "another password")
        inventory = json.loads(site.controller.inventory.read_text())
        inventory["all"]["hosts"][gone] = {"ansible_connection": "local", "backup_repository": str(theirs)}
        inventory["all"]["hosts"][HOST] |= {"backup_repository": site.controller.variables["backup_repository"]}
        path = tmp_path / "hosts.json"
        path.write_text(json.dumps(inventory))
        (site.directory / f"passwords/{gone}.password").write_text("another password\n")
        arguments = ["-e", f"db={site.shop.name}", "-e", f"from_host={gone}", "-e", f"confirm={site.shop.name}"]

        try:
            run = site.controller.play("restore", "-vvv", *arguments, "--limit", HOST, inventory=path)
        finally:
            shutil.rmtree(theirs)
            (site.directory / f"passwords/{gone}.password").unlink()

        assert site.shop.fingerprint("shop") == before
        assert "another password" not in run.output

    @staticmethod
    def copy_repository(site: Site, theirs: Path, password: str) -> None:
        """A second repository with the same snapshots, under a password of its own."""
        own = "/run/secrets/scalr-backup/password"
        script = (
            f"export RESTIC_CACHE_DIR=/tmp/cache RESTIC_REPOSITORY={theirs}; printf %s '{password}' > /tmp/password;"
            f"export RESTIC_PASSWORD_FILE=/tmp/password RESTIC_FROM_REPOSITORY={site.directory}/repository;"
            f"export RESTIC_FROM_PASSWORD_FILE={own}; restic init --copy-chunker-params && restic copy;"
            "result=$?; rm -r /tmp/password /tmp/cache; exit $result"
        )
        docker("exec", AGENT, "sh", "-c", script)

    def test_where_there_is_no_room_for_two(self, site: Site) -> None:
        before = site.shop.fingerprint("shop")
        site.shop.sql(ACCIDENT, "shop")

        command = documented("ansible-playbook restore.yml -e db=scalr-foo-db -e restore_strategy=replace", site.names)
        refused = site.controller.shell(f"{command} -e confirm={site.shop.name}", exit_code=2)
        run = site.controller.shell_on_terminal(
            command, answer=f"replace {site.shop.name}", prompt=f"Type replace {site.shop.name}"
        )

        assert f"confirm is {site.shop.name}, but must be replace {site.shop.name}." in refused.text
        assert "DROPPED FIRST" in run.text
        assert site.shop.fingerprint("shop") == before

    @pytest.mark.thorough
    def test_where_an_object_cannot_be_made_again(self, site: Site) -> None:
        site.shop.sql(
            """
            CREATE TABLE parts (id int PRIMARY KEY);
            CREATE TABLE uses AS SELECT 7 AS part;
            ALTER TABLE uses ADD CONSTRAINT uses_part FOREIGN KEY (part) REFERENCES parts NOT VALID;
            UPDATE pg_constraint SET convalidated = true WHERE conname = 'uses_part';
            """,
            "shop",
        )
        try:
            site.controller.play("backup")
            command = documented("ansible-playbook restore.yml -e db=scalr-foo-db -e on_error=skip", site.names)
            refused = site.controller.shell(f"{command} -e confirm={site.shop.name} -e on_error=stop", exit_code=2)
            run = site.controller.shell(f"{command} -e confirm={site.shop.name}")
            assert "DROP CONSTRAINT uses_part, ADD CONSTRAINT uses_part" in refused.text
            assert "NOT VALID" in run.text
            assert site.shop.sql("SELECT convalidated FROM pg_constraint WHERE conname = 'uses_part'", "shop") == "f"
            assert site.shop.sql("SELECT part FROM uses", "shop") == "7"
        finally:
            site.shop.sql("DROP TABLE uses, parts", "shop")
            site.controller.play("backup")


class TestDrill:
    """drill.yml, and what starts it every month."""

    def test_every_database_is_proved_and_the_status_says_so(self, site: Site) -> None:
        site.controller.play("backup")
        run = site.controller.shell(documented("ansible-playbook drill.yml"))
        status = site.controller.play("status")

        for container, database, rows in ((site.shop, "shop", 25000), (site.wiki, "wiki", 1000)):
            row = rf"{HOST} +{container.name} +{database} +passed +[0-9a-f]{{8}} .* {container.image} .* {rows} "
            assert re.search(row, run.output), run.output
            assert re.search(rf"{container.name} +{database} .* passed \d", status.output), status.output
        assert re.search(rf"^{HOST} {site.shop.name}/shop: \w+", run.output, re.MULTILINE)
        state = json.loads(docker("exec", AGENT, "cat", "/var/lib/scalr-backup/state.json").stdout)
        mine = f"label=scalr.backup.agent={state['agent_id']}"
        assert docker("ps", "--all", "--quiet", "--filter", mine).stdout == ""

    def test_an_assertion_that_does_not_hold_fails_it_until_it_does(self, site: Site, tmp_path: Path) -> None:
        agent = site.agent_id()
        assertion = tmp_path / f"{site.shop.name}/shop/orders.sql"
        assertion.parent.mkdir(parents=True)
        drill = documented("ansible-playbook drill.yml -e db=scalr-foo-db", site.names)
        script = documented(
            "/opt/scalr/services/backup/drill --db scalr-foo-db",
            {**site.names, "/opt/scalr/services/backup": f"{site.directory}/backup"},
        )

        assertion.write_text("SELECT count(*) > 20000 FROM orders")
        site.controller.play("site", "--tags=drill", "-e", f"backup_drill_assertions={tmp_path}")
        bad = site.controller.shell(drill, exit_code=2)
        unwell = site.controller.play("status", exit_code=2)
        assertion.write_text("SELECT count(*) = 20000 FROM orders")
        site.controller.play("site", "--tags=drill", "-e", f"backup_drill_assertions={tmp_path}")
        # What the timer starts.
        good = site.controller.shell(script)
        well = site.controller.play("status")

        assert re.search(rf"{site.shop.name} +shop +.*orders.sql", bad.output), bad.output
        assert "NOT SAFE" in unwell.text
        assert re.search(r"shop +FAILED|FAILED \d", unwell.output), unwell.output
        assert site.shop.name in good.output
        assert "Safe: 2 databases" in well.text
        assert site.agent_id() == agent

    def test_of_a_container_that_nobody_has(self, site: Site) -> None:
        run = site.controller.play("drill", "-e", "db=scalr-nobody-db", exit_code=2)

        assert "No host has a database container scalr-nobody-db." in run.text


class TestDocumentedCommands:
    """What else the documentation shows, as it stands there: on the controller, on the host, and by hand."""

    @pytest.mark.parametrize(
        ("command", "shown"),
        [
            (documented("ansible-playbook backup.yml -e db=scalr-foo-db -e extra_tags=pinned"), " saved "),
            (documented("ansible-playbook check.yml -e read_data_subset=5%"), "web1 intact 5%"),
            (documented("ansible-playbook prune.yml"), " pruned "),
            (documented("ansible-doc scalr.backup.database_restore"), "Restores the databases of a container"),
        ],
    )
    def test_on_the_controller(self, site: Site, command: str, shown: str) -> None:
        run = site.controller.shell(command.replace("scalr-foo-db", site.shop.name))

        assert shown in run.text
        assert site.snapshots()[-1]["pinned"] or "pinned" not in command

    @pytest.mark.parametrize(
        ("command", "shown"),
        [
            (documented("docker exec scalr-backup scalr-backup status"), "Safe: 2 databases"),
            (documented("docker exec scalr-backup scalr-backup discover"), "shop ("),
            (documented("docker exec scalr-backup scalr-backup backup --db scalr-foo-db"), "0 failed"),
            (documented("docker exec scalr-backup scalr-backup snapshots --db scalr-foo-db"), " manual "),
            (documented("docker logs --tail 20 scalr-backup"), '"event": "The next pass is scheduled."'),
        ],
    )
    def test_on_the_host(self, site: Site, command: str, shown: str) -> None:
        assert shown in site.controller.shell(command.replace("scalr-foo-db", site.shop.name)).text

    def test_restore_on_the_host(self, site: Site) -> None:
        before = site.shop.fingerprint("shop")
        site.shop.sql(ACCIDENT, "shop")
        command = documented("docker exec -it scalr-backup scalr-backup restore --db scalr-foo-db", site.names)

        site.controller.shell_on_terminal(command, answer=site.shop.name)

        assert site.shop.fingerprint("shop") == before

    def test_restore_without_this_software(self, site: Site, tmp_path: Path) -> None:
        before = site.shop.fingerprint("shop")
        snapshot = next(one for one in reversed(site.snapshots()) if one["reason"] == "manual")
        manifest = self.manifest_of(site, snapshot["run"])
        site.shop.sql(ACCIDENT, "shop")
        site.shop.sql("DROP ROLE shop_reader")
        path = {"scalr-foo-db": site.shop.name}
        ids = {**path, "5f0c8e1b": snapshot["short_id"]}

        run = site.controller.shell(
            "\n".join(
                [
                    documented(
                        "export RESTIC_REPOSITORY=/var/lib/docker/volumes/scalr-backup-repository/_data",
                        {"/var/lib/docker/volumes/scalr-backup-repository/_data": f"{site.directory}/repository"},
                    ),
                    documented(
                        "export RESTIC_PASSWORD_FILE=/opt/scalr/services/backup/secrets/password",
                        {"/opt/scalr/services/backup": f"{site.directory}/backup"},
                    ),
                    documented("restic snapshots --path /scalr-foo-db/shop.dump", path),
                    documented("restic snapshots --path /manifest.json"),
                    documented(
                        "restic dump 6d1e0a2f /manifest.json | python3 -c 'import json, sys; "
                        '[print(c["globals"]) for c in json.load(sys.stdin)["clusters"] if c["container"] == "scalr-foo-db"]'
                        "' | docker exec -i scalr-foo-db psql --username postgres --dbname postgres",
                        {**path, "6d1e0a2f": manifest},
                    ),
                    documented("docker exec scalr-foo-db createdb --username postgres shop_restored", path),
                    documented(
                        "restic dump 5f0c8e1b /scalr-foo-db/shop.dump | docker exec -i scalr-foo-db "
                        "pg_restore --username postgres --dbname shop_restored --exit-on-error",
                        ids,
                    ),
                    documented(
                        "docker exec scalr-foo-db psql --username postgres --dbname shop_restored --command '\\dt+'",
                        path,
                    ),
                    documented(
                        "docker exec scalr-foo-db psql --username postgres --dbname postgres "
                        "--command 'ALTER DATABASE shop RENAME TO shop_before' "
                        "--command 'ALTER DATABASE shop_restored RENAME TO shop'",
                        path,
                    ),
                ]
            ),
            PATH=f"{restic_from_image(tmp_path)}:{os.environ['PATH']}",
            RESTIC_CACHE_DIR=str(tmp_path / "cache"),
        )

        assert snapshot["short_id"] in run.text
        assert site.shop.fingerprint("shop") == before
        assert site.shop.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'shop_reader'") == "1"
        site.shop.sql("DROP DATABASE shop_before")

    @staticmethod
    def manifest_of(site: Site, run: str) -> str:
        """The id of a run's manifest, which the agent's own list leaves out."""
        password = ["--password-file", "/run/secrets/scalr-backup/password", "--no-cache", "--no-lock", "--json"]
        command = ["restic", "-r", f"{site.directory}/repository", *password]
        found = docker("exec", AGENT, *command, "snapshots", "--path", "/manifest.json", "--tag", f"run={run}").stdout
        return str(json.loads(found)[0]["short_id"])

    def test_restic_of_the_agent(self, site: Site) -> None:
        command = documented(
            "docker exec -e RESTIC_REPOSITORY=/repository -e RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password "
            "-e RESTIC_CACHE_DIR=/var/cache/scalr-backup/restic scalr-backup restic snapshots",
            {"=/repository": f"={site.directory}/repository"},
        )

        assert f"/{site.shop.name}/shop.dump" in site.controller.shell(command).text


class TestInstalled:
    """The artifact, installed, without a checkout anywhere near."""

    def test_the_artifact_holds_what_users_need_and_nothing_else(self, artifact: Path) -> None:
        with tarfile.open(artifact) as archive:
            files = {name for name in archive.getnames() if archive.getmember(name).isfile()}

        top = {name.split("/")[0] for name in files}
        assert top <= {
            "CHANGELOG.md", "CHANGELOG.rst", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "COPYING", "FILES.json",
            "LICENSES", "MAINTAINERS", "MANIFEST.json", "README.md", "REUSE.toml", "SECURITY.md",
            "changelogs", "docs", "meta", "playbooks", "plugins", "roles",
        }  # fmt: skip
        hidden = {name for name in files if any(part.startswith(".") for part in name.split("/"))}
        assert hidden == {"roles/backup/files/agent/.dockerignore"}
        assert not [
            name for name in files if re.search(r"(^|/)(__pycache__|tests|test_\w+\.py|.*\.pyc|inventory)(/|$)", name)
        ]
        agent = CHECKOUT / "roles/backup/files/agent"
        wanted = {
            *(f"playbooks/{path.name}" for path in (CHECKOUT / "playbooks").glob("*.yml")),
            *(str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "plugins").rglob("*.py")),
            *(f"roles/backup/templates/{path.name}" for path in (CHECKOUT / "roles/backup/templates").iterdir()),
            "roles/backup/files/drill",
            *(str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "docs").rglob("*.md")),
            *(str(path.relative_to(CHECKOUT)) for path in (agent / "scalr_backup").rglob("*.py")),
            *(f"roles/backup/files/agent/{name}" for name in ("Dockerfile", "requirements.txt", "scalr-backup")),
            *(f"roles/{role}/README.md" for role in ("backup", "docker")),
        }
        assert wanted <= files

    def test_the_playbooks_run_by_their_full_names(self, site: Site, installed: Path) -> None:
        controller = Controller(
            site.directory, HOST, site.controller.variables, installed, transcript=site.controller.transcript
        )
        before = site.shop.fingerprint("shop")
        confirm = f" -e confirm={site.shop.name}"

        provisioned = controller.shell(documented("ansible-playbook scalr.backup.site -i hosts.yml"))
        saved = controller.shell(documented("ansible-playbook scalr.backup.backup -i hosts.yml"))
        site.shop.sql(ACCIDENT, "shop")
        controller.shell(
            documented("ansible-playbook scalr.backup.restore -i hosts.yml -e db=scalr-foo-db", site.names) + confirm
        )
        status = controller.shell(documented("ansible-playbook scalr.backup.status -i hosts.yml"))

        # What the artifact builds is what the checkout builds: the agent stays as it is.
        assert provisioned.recap(HOST)["changed"] <= 1
        assert re.search(rf"{site.shop.name} +shop +saved ", saved.output)
        assert site.shop.fingerprint("shop") == before
        assert "Safe: 2 databases" in status.text


def test_nothing_that_was_printed_or_logged_holds_a_secret(site: Site) -> None:
    password = site.password
    for name, arguments in {
        "site": ["--diff", "-e", "backup_timezone=Europe/Berlin"],
        "backup": [],
        "restore": ["-e", f"db={site.shop.name}", "-e", f"confirm={site.shop.name}"],
        "status": [],
    }.items():
        site.controller.play(name, "-vvv", *arguments)

    logs = docker("logs", AGENT)
    shown = "\n".join([*site.controller.transcript, logs.stdout, logs.stderr, docker("inspect", AGENT).stdout])
    in_other_clothes = [base64.b64encode(password.encode()).decode(), json.dumps(DATABASE_SECRET)[1:-1]]
    for secret in (password, STORE_SECRET, DATABASE_SECRET, *in_other_clothes):
        assert secret not in shown
