# SPDX-License-Identifier: GPL-3.0-or-later
"""A host without Ansible: every command of docs/compose.md, as a newcomer types them, with a real database."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.containers import STAND_INS, DatabaseContainer, docker, far_hour, wait_until
from tests.support.documented import documented
from tests.support.terminal import Answer, on_terminal

# Its first test may be the one that builds the image, and gets Compose.
pytestmark = pytest.mark.timeout(900)

PLUGIN = ".cache/compose/docker-compose"


class Newcomer:
    """Somebody on a host of their own, in a directory with the compose file; all names on this machine are theirs."""

    def __init__(self, directory: Path, checkout: Path, docker_config: Path | None) -> None:
        self.name = f"test-compose-{secrets.token_hex(3)}"
        self.directory, self.home = directory, directory / "host"
        self.image = f"{self.name}:0"
        self._docker = {"DOCKER_CONFIG": str(docker_config)} if docker_config else {}
        shutil.copy(checkout / "compose.yaml", directory)
        (directory / "roles").symlink_to(checkout / "roles")
        names = {
            "services": {
                "agent": {"container_name": self.name},
                "socket-proxy": {"container_name": f"{self.name}-socket-proxy"},
            },
            "volumes": {
                volume: {"name": f"{self.name}-{volume}"} for volume in ("socket", "state", "cache", "repository")
            },
        }
        (directory / "compose.override.yaml").write_text(yaml.safe_dump(names))

    @property
    def environment(self) -> dict[str, str]:
        """As the test's, with a project of its own, which is built by what the other tests' image is: else nothing is cached."""
        own = {"COMPOSE_PROJECT_NAME": self.name, "COLUMNS": "200", "TERM": "dumb"}
        if docker("buildx", "version", check=False).returncode != 0:
            own["DOCKER_BUILDKIT"] = "0"
        return {**os.environ, **self._docker, **own}

    def write(self, **variables: str) -> None:
        """Add lines to .env."""
        with (self.directory / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in variables.items())

    def types(self, command: str, *, exit_code: int = 0) -> str:
        """Run a command line; all that it printed."""
        done = subprocess.run(
            ["bash", "-ec", command], cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == exit_code, f"{command}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def snapshots(self) -> dict[str, tuple[str, str]]:
        """Of each snapshot that is listed, its database and its reason."""
        listed = self.types(documented("docker compose exec agent scalr-backup snapshots"))
        row = rf"^([0-9a-f]{{8}}) .* {self.name}-shop-db +(\S+) +(\S+) "
        return {id_: (database, reason) for id_, database, reason in re.findall(row, listed, re.MULTILINE)}

    def proxy_listens(self) -> None:
        """Wait until the proxy has made its rules."""
        asks = ["exec", f"{self.name}-socket-proxy", "test", "-S", "/run/scalr-backup/docker.sock"]
        wait_until(lambda: docker(*asks, check=False).returncode == 0, "the proxy listens")

    def remove(self) -> None:
        """Take everything away, and what Compose has begun for a command that came to no end."""
        begun = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.name}").stdout
        docker("rm", "--force", "--volumes", self.name, *begun.split(), check=False)
        docker("volume", "rm", "--force", *(f"{self.name}-{one}" for one in ("socket", "state", "cache", "repository")))
        docker("network", "rm", f"{self.name}_default", check=False)
        docker("image", "rm", self.image, check=False)


@pytest.fixture(scope="module")
def docker_config(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """Where docker finds Compose, if it does not have it."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return None
    subprocess.run([checkout / "tests/platform/compose/fetch", checkout / PLUGIN], check=True)
    directory = tmp_path_factory.mktemp("docker-config")
    (directory / "cli-plugins").mkdir()
    (directory / "cli-plugins/docker-compose").symlink_to(checkout / PLUGIN)
    return directory


@pytest.fixture(scope="module")
def newcomer(
    agent_image: str, checkout: Path, docker_config: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Newcomer]:
    """One with an image that is built: the one of the other tests, out of the cache."""
    one = Newcomer(tmp_path_factory.mktemp("newcomer"), checkout, docker_config)
    try:
        yield one
    finally:
        one.remove()


@pytest.fixture(scope="module")
def shop(newcomer: Newcomer) -> Iterator[DatabaseContainer]:
    """A database that matches, with a hundred orders."""
    database = DatabaseContainer(f"{newcomer.name}-shop-db")
    try:
        database.start()
        database.sql("CREATE DATABASE shop")
        database.sql(
            "CREATE TABLE orders AS SELECT g AS id, 'order ' || g AS what FROM generate_series(1, 100) g", "shop"
        )
        yield database
    finally:
        database.remove()


def restore_on_a_terminal(newcomer: Newcomer, database: DatabaseContainer) -> None:
    """As somebody does who types the container's name when asked to."""
    restore = documented(
        "docker compose exec agent scalr-backup restore --db scalr-foo-db", {"scalr-foo-db": database.name}
    )
    ended, output = on_terminal(
        ["bash", "-ec", restore],
        cwd=newcomer.directory,
        environment=newcomer.environment,
        answer=Answer("Type", database.name),
    )
    assert ended == 0, output


def inspected(name: str) -> str:
    return docker("inspect", name).stdout


def test_first_backup_damage_and_first_restore(newcomer: Newcomer, shop: DatabaseContainer) -> None:
    newcomer.types(documented(
        r"""printf 'BACKUP_HOST=%s\nDOCKER_GROUP=%s\n' "$(hostname)" "$(stat -L -c %g /var/run/docker.sock)" > .env"""
    ))  # fmt: skip
    newcomer.write(
        BACKUP_CONTAINERS=f"{newcomer.name}-*-db",
        BACKUP_KEEP='{"daily": 14, "monthly": 12}',
        BACKUP_REPOSITORY_ON_HOST_ACCEPTED="true",
        BACKUP_REPORT_UNMATCHED="false",
        BACKUP_SCHEDULE=f"0 {far_hour()} * * *",
        BACKUP_CHECK_SCHEDULE=f"30 {far_hour()} * * 0",
        BACKUP_DIRECTORY=str(newcomer.home),
        BACKUP_IMAGE=newcomer.image,
        **{f"BACKUP_{name}": image for name, image in STAND_INS.items()},
    )
    newcomer.types(documented("docker compose build"))

    told = newcomer.types(documented("docker compose run --rm password"))
    password = (newcomer.home / "secrets/password").read_text()
    assert f"{newcomer.home}/secrets/password" in told
    assert "KEEP A COPY ON ANOTHER MACHINE" in told
    assert password not in told
    directory, file = (newcomer.home / "secrets").stat(), (newcomer.home / "secrets/password").stat()
    assert (directory.st_uid, directory.st_gid, directory.st_mode & 0o777) == (0, 64738, 0o750)
    assert (file.st_uid, file.st_gid, file.st_mode & 0o777) == (0, 64738, 0o640)

    newcomer.types(documented("docker compose up --detach"))
    newcomer.proxy_listens()
    newcomer.types(documented("docker compose exec agent scalr-backup init"))
    newcomer.types(documented("docker compose exec agent scalr-backup backup"))
    before = shop.fingerprint("shop")
    shop.sql("DELETE FROM orders WHERE id > 3", "shop")

    saved = newcomer.snapshots()
    restore_on_a_terminal(newcomer, shop)
    assert shop.fingerprint("shop") == before

    # Of the damaged state there is a snapshot now, and either is restored by its id.
    [damaged] = set(newcomer.snapshots()) - set(saved)
    assert newcomer.snapshots()[damaged] == ("shop", "pre-restore")
    [good] = [snapshot for snapshot, (database, _reason) in saved.items() if database == "shop"]
    for snapshot in (good, damaged):
        plan = f"docker compose exec agent scalr-backup restore --db {shop.name} --database shop --snapshot {snapshot} --plan"
        assert snapshot in newcomer.types(plan)

    assert "safe" in newcomer.types(documented("docker compose exec agent scalr-backup status")).lower()
    everything = inspected(newcomer.name) + inspected(f"{newcomer.name}-socket-proxy")
    assert password not in everything


@pytest.mark.usefixtures("unlabelled")
def test_the_proxy_has_its_rules_from_the_file_and_not_from_the_agent(
    newcomer: Newcomer, shop: DatabaseContainer
) -> None:
    rules = json.loads(docker("exec", f"{newcomer.name}-socket-proxy", "cat", "/etc/scalr-backup/config.json").stdout)
    assert rules["containers"] == [f"{newcomer.name}-*-db"]
    other = DatabaseContainer(f"other-{newcomer.name}-db")
    found = {}
    try:
        other.start()
        for patterns in (rules["containers"][0], other.name):
            # What somebody could tell the agent who has taken it over.
            taken_over = [
                "exec",
                "--env",
                f"BACKUP_CONTAINERS={patterns}",
                newcomer.name,
                "scalr-backup",
                "discover",
                "--json",
            ]
            result = json.loads(docker(*taken_over, check=False).stdout.splitlines()[-1])
            found[patterns] = {
                one["name"]: [database["name"] for database in one["databases"]]
                for one in result["data"].get("containers", [])
            }
    finally:
        other.remove()
    assert found[rules["containers"][0]] == {shop.name: ["shop"]}
    assert not found[other.name].get(other.name)


def test_credentials_of_a_store_are_written_where_the_agent_reads_them(newcomer: Newcomer) -> None:
    (newcomer.directory / "store.env").write_text("AWS_ACCESS_KEY_ID=key\n")
    newcomer.types(documented(
        "install -m 0640 -o root -g 64738 /dev/stdin /opt/scalr/services/backup/secrets/environment < store.env",
        {"/opt/scalr/services/backup": str(newcomer.home)},
    ))  # fmt: skip
    assert (
        docker("exec", newcomer.name, "cat", "/run/secrets/scalr-backup/environment").stdout
        == "AWS_ACCESS_KEY_ID=key\n"
    )
    (newcomer.home / "secrets/environment").unlink()


def test_a_variable_that_nobody_knows_stops_agent_and_proxy(newcomer: Newcomer) -> None:
    path = newcomer.directory / ".env"
    before = path.read_text()
    try:
        newcomer.write(BACKUP_SCHEDUEL="0 4 * * *")
        for service in ("password", "agent", "socket-proxy"):
            output = newcomer.types(f"docker compose run --rm --no-deps {service}", exit_code=2)
            assert "BACKUP_SCHEDUEL: did you mean BACKUP_SCHEDULE?" in output, service
        told = newcomer.types(documented("docker compose run --rm --no-deps agent doctor"), exit_code=1)
        assert "did you mean BACKUP_SCHEDULE?" in told
    finally:
        path.write_text(before)


def test_one_container_goes_on_where_the_two_have_ended(newcomer: Newcomer, shop: DatabaseContainer) -> None:
    newcomer.types(documented("docker compose down"))
    assert docker("container", "inspect", newcomer.name, check=False).returncode != 0
    version = yaml.safe_load((newcomer.directory / "compose.yaml").read_text())["services"]["agent"]["image"]
    assert version.endswith(":0.8.0}")
    newcomer.types(documented(
        'docker run --detach --name scalr-backup --hostname "$(hostname)" --env-file .env --init --restart unless-stopped --stop-timeout 120 --read-only --cap-drop ALL --security-opt no-new-privileges --group-add "$(stat -L -c %g /var/run/docker.sock)" --tmpfs /tmp:size=64m --memory 2g --cpu-shares 512 --pids-limit 4096 --volume /var/run/docker.sock:/var/run/docker.sock --volume /opt/scalr/services/backup/secrets:/run/secrets/scalr-backup:ro --volume scalr-backup-state:/var/lib/scalr-backup --volume scalr-backup-cache:/var/cache/scalr-backup --volume scalr-backup-repository:/repository ghcr.io/scalr/scalr-backup:0.8.0',  # noqa: E501
        {
            "--name scalr-backup": f"--name {newcomer.name}",
            "/opt/scalr/services/backup": str(newcomer.home),
            **{f" scalr-backup-{one}:": f" {newcomer.name}-{one}:" for one in ("state", "cache", "repository")},
            "ghcr.io/scalr/scalr-backup:0.8.0": newcomer.image,
        },
    ))  # fmt: skip
    listed = docker("exec", newcomer.name, "scalr-backup", "snapshots", "--json").stdout.splitlines()[-1]
    assert f"/{shop.name}/shop.dump" in listed
    assert docker("exec", newcomer.name, "scalr-backup", "backup", check=False).returncode == 0


def test_the_two_go_on_where_the_one_has_ended_with_a_repository_in_a_directory(
    newcomer: Newcomer, shop: DatabaseContainer
) -> None:
    assert "Conflict" in newcomer.types("docker compose up --detach", exit_code=1)
    newcomer.types(documented("docker stop scalr-backup", {"scalr-backup": newcomer.name}))
    newcomer.types(documented("docker rm scalr-backup", {"scalr-backup": newcomer.name}))

    backups = newcomer.directory / "backups"
    newcomer.types(documented("install -d -m 0700 -o 64738 -g 64738 /srv/backups", {"/srv/backups": str(backups)}))
    override = newcomer.directory / "compose.override.yaml"
    names = yaml.safe_load(override.read_text())
    names["services"]["agent"]["volumes"] = [f"{backups}:/srv/backups"]
    override.write_text(yaml.safe_dump(names))
    newcomer.write(BACKUP_REPOSITORY="/srv/backups")
    newcomer.types("docker compose up --detach")
    newcomer.proxy_listens()
    newcomer.types("docker compose exec agent scalr-backup init")
    newcomer.types("docker compose exec agent scalr-backup backup")
    assert "shop" in {database for database, _reason in newcomer.snapshots().values()}


def test_the_databases_of_a_lost_host_come_back_on_another(newcomer: Newcomer, shop: DatabaseContainer) -> None:
    """The directory stands for the store elsewhere: it is all that is left, beside the copies of the secrets."""
    before = shop.fingerprint("shop")
    for file, content in {
        "password.saved": (newcomer.home / "secrets/password").read_text(),
        "store.env": "AWS_ACCESS_KEY_ID=key\n",
    }.items():
        (newcomer.directory / file).write_text(content)
    newcomer.types("docker compose down --volumes")
    shutil.rmtree(newcomer.home)
    shop.remove()

    directory = {"/opt/scalr/services/backup": str(newcomer.home)}
    for command in (
        documented("install -d -m 0750 -o root -g 64738 /opt/scalr/services/backup/secrets", directory),
        documented(
            "install -m 0640 -o root -g 64738 /dev/stdin /opt/scalr/services/backup/secrets/password < password.saved",
            directory,
        ),
        documented(
            "install -m 0640 -o root -g 64738 /dev/stdin /opt/scalr/services/backup/secrets/environment < store.env",
            directory,
        ),
        documented("docker compose build"),
        documented("docker compose up --detach"),
    ):
        newcomer.types(command)
    made = (newcomer.home / "secrets").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (0, 64738, 0o750)
    newcomer.proxy_listens()
    assert "shop" in {database for database, _reason in newcomer.snapshots().values()}
    shop.start()
    restore_on_a_terminal(newcomer, shop)
    assert shop.fingerprint("shop") == before
