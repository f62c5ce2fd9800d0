"""The password of a repository changed, a page for the safe made, and that page followed after everything was lost."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.containers import DatabaseContainer, docker
from tests.support.controller import AGENT, Controller, Run, agent_set_aside
from tests.support.documented import documented

pytestmark = pytest.mark.timeout(480)

HOST = "web1"
STORE_SECRET = "canary-of-the-store-1c9e"
SHOP_ROWS = """
CREATE ROLE shop_app LOGIN PASSWORD 'hunter2';
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 5000) AS n;
ALTER TABLE customers OWNER TO shop_app;
ALTER DATABASE shop SET work_mem = '5MB';
CREATE DATABASE "odd name's 50%/x" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
"""
# Where a change of the password is cut off: when each of these has begun, at once or a moment later.
STEPS = [
    "Write the new password to the journal",
    "Add the new password to the repository",
    "Switch to the new password on the host",
    "Switch to the new password on the controller",
    "Remove the old password from the repository",
]


@dataclass
class Site:
    """A provisioned host with a database container, and a first backup of it."""

    controller: Controller
    shop: DatabaseContainer

    @property
    def backup(self) -> Path:
        """The agent's directory on the host."""
        return self.controller.directory / "backup"

    @property
    def password(self) -> str:
        """The password that the agent uses."""
        return (self.backup / "secrets/password").read_text()

    @property
    def on_controller(self) -> str:
        """The one that the controller keeps."""
        return (self.controller.directory / f"passwords/{HOST}.password").read_text().rstrip("\n")

    @property
    def journal(self) -> str:
        """The new password of a change that is under way."""
        path = self.backup / "rotation/new"
        return path.read_text() if path.exists() else ""

    def opens(self, password: str) -> bool:
        """Whether plain restic opens the repository with a password."""
        repository = f"RESTIC_REPOSITORY={self.controller.directory}/repository"
        command = ["--env", f"RESTIC_PASSWORD={password}", "--env", repository, AGENT, "restic", "cat", "config"]
        return docker("exec", *command, "--no-lock", "--no-cache", check=False).returncode == 0

    def escrow_keys(self) -> int:
        """How many keys are for a safe."""
        done = docker("exec", AGENT, "scalr-backup", "key", "list", "--json")
        keys = json.loads(done.stdout.splitlines()[-1])["data"]["keys"]
        return sum(key["user"] == "scalr-backup-escrow" for key in keys)

    def fingerprint(self) -> dict[str, object]:
        """Rows, roles, and what belongs to the databases themselves."""
        properties = (
            "SELECT datname, pg_encoding_to_char(encoding), datcollate FROM pg_database ORDER BY 1;"
            "SELECT rolname, rolpassword FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1;"
            "SELECT setconfig FROM pg_db_role_setting"
        )
        return {"rows": self.shop.fingerprint("shop"), "beside": self.shop.sql(properties)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One host, this machine, with one app."""
    directory = tmp_path_factory.mktemp("keys")
    prefix = f"scalr-test-{secrets.token_hex(3)}"
    variables = {
        "backup_containers": [f"{prefix}-*-db"],
        "backup_directory": str(directory / "backup"),
        "backup_repository": str(directory / "repository"),
        "backup_password_directory": str(directory / "passwords"),
        "backup_environment": {"AWS_SECRET_ACCESS_KEY": STORE_SECRET},
    }
    shop = DatabaseContainer(f"{prefix}-shop-db", environment={"POSTGRES_PASSWORD": "p", "POSTGRES_DB": "shop"})
    try:
        shop.start().sql(SHOP_ROWS, "shop")
        with agent_set_aside():
            controller = Controller(directory, HOST, variables)
            controller.play("site")
            controller.play("backup")
            yield Site(controller, shop)
    finally:
        shop.remove()
        docker("volume", "rm", "--force", "scalr-recovery-cache", check=False)


def cut_off(site: Site, step: str, seconds: float) -> str:
    """Start a change of the password, and kill it and all that it has started when a step has begun."""
    process = subprocess.Popen(
        ["ansible-playbook", "rotate_password.yml"],
        cwd=site.controller.working_directory,
        env={**site.controller.environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if line.startswith("TASK") and f": {step}]" in line:
            time.sleep(seconds)
            break
    else:
        pytest.fail(f"it never came to {step!r}:\n{output}")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return output


class Commands(HTMLParser):
    """What a reader of the page types: the text of every ``pre.sh``."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A block of commands begins."""
        if tag == "pre" and ("class", "sh") in attrs:
            self._inside = True
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        """It ends."""
        self._inside = self._inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        """A part of it."""
        if self._inside:
            self.blocks[-1] += data


@dataclass
class Kit:
    """A page, and the run that made it."""

    path: Path
    run: Run

    @property
    def page(self) -> str:
        """Its source."""
        return self.path.read_text()

    @property
    def password(self) -> str:
        """The one that stands on it."""
        line = next(line for line in "".join(Commands(self.page).blocks).splitlines() if "RESTIC_PASSWORD=" in line)
        return line.partition("=")[2]


@pytest.fixture(scope="module")
def kit(site: Site) -> Kit:
    """A page."""
    path = site.controller.directory / "kit.html"
    command = documented(
        "ansible-playbook recovery_kit.yml -e kit=~/recovery-kit.html", {"~/recovery-kit.html": str(path)}
    )
    return Kit(path, site.controller.shell(f"{command} -vvv --diff"))


class TestRecoveryKit:
    """recovery_kit.yml."""

    def test_is_for_its_owner_only_and_nothing_of_it_was_shown(self, site: Site, kit: Kit) -> None:
        assert stat.S_IMODE(kit.path.stat().st_mode) == 0o600
        assert str(kit.path) in kit.run.text
        for secret in (kit.password, site.password, STORE_SECRET):
            assert secret not in kit.run.output
        assert not any(kit.password.encode() in path.read_bytes() for path in site.backup.rglob("*") if path.is_file())

    def test_has_a_password_of_its_own_and_only_the_names_of_the_credentials(self, site: Site, kit: Kit) -> None:
        assert site.opens(kit.password)
        assert site.password not in kit.page
        assert STORE_SECRET not in kit.page
        assert "export AWS_SECRET_ACCESS_KEY=&#39;FILL IN&#39;" in kit.page


class TestRotation:
    """rotate_password.yml."""

    def test_changes_the_password_everywhere_and_shows_it_nowhere(self, site: Site) -> None:
        before = site.password

        run = site.controller.shell(documented("ansible-playbook rotate_password.yml") + " -vvv --diff")

        after = site.password
        assert (site.opens(before), site.opens(after)) == (False, True)
        assert (after != before, site.on_controller) == (True, after)
        assert stat.S_IMODE((site.backup / "secrets/password").stat().st_mode) == 0o640
        assert not (site.backup / "rotation").exists()
        keys = site.controller.shell(documented("docker exec scalr-backup scalr-backup key list")).output
        assert [line.split()[2] for line in keys.splitlines() if "this host's" in line] == [HOST]
        assert not any(secret in run.output for secret in (before, after))

    @pytest.mark.timeout(900)
    @pytest.mark.thorough
    def test_cut_off_anywhere_a_password_on_file_opens_and_a_second_run_finishes(self, site: Site) -> None:
        before, chosen = site.password, ""
        for number, step in enumerate(STEPS):
            cut_off(site, step, number % 3 * 0.7)
            assert site.opens(site.password) or site.opens(site.journal), step
            assert site.opens(site.on_controller) or site.opens(site.journal), step
            if chosen and site.journal:
                assert site.journal == chosen, "it goes on with the password that it had chosen"
            chosen = chosen or site.journal
            if step == "Switch to the new password on the controller":
                refused = site.controller.play("site", exit_code=None)
                assert "was interrupted: run rotate_password.yml, which finishes it" in refused.text

        site.controller.play("rotate_password")

        assert not site.opens(before)
        assert site.opens(site.password)
        assert site.on_controller == site.password
        assert not (site.backup / "rotation").exists()

    def test_the_next_run_of_the_role_accepts_it(self, site: Site) -> None:
        assert site.controller.play("site").recap(HOST)["changed"] == 0

    def test_a_wrong_password_on_the_host_is_a_sentence(self, site: Site) -> None:
        file = site.backup / "secrets/password"
        right = file.read_text()
        file.write_text("something else")
        try:
            run = site.controller.play("rotate_password", exit_code=None)
        finally:
            file.write_text(right)
        assert "Wrong password for the repository" in run.text
        assert not (site.backup / "rotation").exists()


class TestRecoveryKitLater:
    """The page, after the password has been changed, and after everything else was lost."""

    def test_still_opens_after_the_changes_of_the_password(self, site: Site, kit: Kit) -> None:
        assert site.opens(kit.password)

    @pytest.mark.thorough
    def test_a_new_one_may_make_the_old_one_worthless(self, site: Site, kit: Kit) -> None:
        other = Kit(site.controller.directory / "other.html", kit.run)
        arguments = ["-e", f"kit={other.path}", "-e", "with_credentials=true", "-e", "replace=true"]

        site.controller.play("recovery_kit", *arguments)

        assert STORE_SECRET in other.page
        assert (site.opens(kit.password), site.opens(other.password), site.escrow_keys()) == (False, True, 1)
        shutil.copy(other.path, kit.path)

    @pytest.mark.thorough
    def test_a_place_that_is_none_is_a_sentence(self, site: Site) -> None:
        before = site.escrow_keys()
        for path, sentence in (
            ("", "kit is empty: give it a value, or leave it out."),
            ("/", "it is a directory"),
            ("/no/such/x.html", "no directory /no/such"),
        ):
            assert sentence in site.controller.play("recovery_kit", "-e", f"kit={path}", exit_code=None).text
        assert site.escrow_keys() == before

    def test_brings_the_rows_back_where_nothing_of_this_software_is(self, site: Site, kit: Kit) -> None:
        """A machine with Docker and this page: the commands of the page, and no other."""
        before = site.fingerprint()
        script = "\n".join(Commands(kit.page).blocks)
        site.shop.remove()

        done = docker(
            "run", "--rm", "--interactive", "--network", "none",
            "--volume", f"{shutil.which('docker')}:/usr/local/bin/docker:ro",
            "--volume", "/var/run/docker.sock:/var/run/docker.sock",
            "debian:trixie-slim", "bash", stdin=script, check=False,
        )  # fmt: skip

        assert "/shop.dump is back." in done.stdout, done.stdout + done.stderr
        assert site.fingerprint() == before
