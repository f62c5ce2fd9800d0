"""An agent over its life on a host: replaced without cutting off what it does, and taken away without losing a backup."""

from __future__ import annotations

import json
import re
import secrets
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.containers import DatabaseContainer, docker, running, wait_until
from tests.support.controller import AGENT, Controller, agent_set_aside
from tests.support.documented import documented

pytestmark = pytest.mark.timeout(480)

HOST = "web1"
# Holds the lock of a pass as a pass does, until it is told to end.
BUSY = """
import os, time
from scalr_backup.tools.locks import PASS_LOCK
from scalr_backup.tools.state import State
with State().locks.hold(PASS_LOCK, "run r1 (nightly)"):
    while not os.path.exists("/tmp/end"):
        time.sleep(0.5)
"""


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller that has provisioned this machine, whose repository has one snapshot."""
    directory = tmp_path_factory.mktemp("fleet")
    environment = {"POSTGRES_PASSWORD": "s3cret", "POSTGRES_DB": "shop"}
    database = DatabaseContainer(f"scalr-test-{secrets.token_hex(3)}-db", environment=environment)
    variables = {
        "backup_containers": [database.name],
        "backup_directory": str(directory / "backup"),
        "backup_repository": str(directory / "repository"),
        "backup_password_directory": str(directory / "passwords"),
    }
    with agent_set_aside(), running(database):
        controller = Controller(directory, HOST, variables)
        controller.play("site")
        controller.play("backup")
        yield controller


@pytest.fixture(scope="module")
def next_version(controller: Controller) -> Iterator[str]:
    """The image of another version of the agent."""
    name = f"scalr-test-next:{secrets.token_hex(3)}"
    current = docker("inspect", "--format", "{{.Image}}", AGENT).stdout.strip()
    build = ["docker", "build", "--quiet", "--tag", name, "-"]
    subprocess.run(build, input=f"FROM {current}\nLABEL next=1\n", text=True, check=True, capture_output=True)
    yield name
    docker("image", "rm", name, check=False)


@contextmanager
def pass_under_way() -> Iterator[Callable[[], object]]:
    """The agent does something until the function is called that this gives."""
    package = ["--env", "PYTHONPATH=/opt/scalr-backup/package"]
    docker("exec", "--detach", *package, AGENT, "/opt/scalr-backup/bin/python", "-c", BUSY)
    lock = "/var/lib/scalr-backup/locks/pass"
    wait_until(lambda: docker("exec", AGENT, "test", "-s", lock, check=False).returncode == 0, "the pass has begun")

    def end() -> object:
        return docker("exec", AGENT, "touch", "/tmp/end", check=False)

    try:
        yield end
    finally:
        end()


@pytest.fixture(scope="module")
def built_image(controller: Controller) -> Iterator[str]:
    """The image that the role has built, which is there again after the tests: rebuilding it takes a minute."""
    name = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "scalr-backup:*-????????????").stdout.split()[
        0
    ]
    docker("tag", name, "scalr-test-kept:fleet")
    yield name
    docker("tag", "scalr-test-kept:fleet", name)
    docker("image", "rm", "scalr-test-kept:fleet")


def agent_id() -> str:
    return docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", AGENT).stdout


def config_of(controller: Controller) -> dict:
    return json.loads((controller.directory / "backup/config/config.json").read_text())


def state() -> dict:
    """What the agent remembers, but for its last look, which site.yml has it take."""
    document = json.loads(docker("exec", AGENT, "cat", "/var/lib/scalr-backup/state.json").stdout)
    return {name: entry for name, entry in document.items() if name != "look"}


@pytest.mark.thorough
class TestUpgrade:
    """Another image, while a pass runs."""

    def test_a_pass_has_its_time_to_end(self, controller: Controller, next_version: str) -> None:
        agent, remembered, config = agent_id(), state(), config_of(controller)
        upgrade = ["-e", f"backup_image={next_version}", "-e", "backup_parallel=3"]

        with pass_under_way() as end:
            refused = controller.play("site", *upgrade, "-e", "backup_upgrade_wait=0", exit_code=2)
            # What the agent that runs may not understand is not written before it has gone.
            assert (agent_id(), config_of(controller)) == (agent, config)

            # What needs no other container waits for nobody.
            unchanged = controller.play("site", "-e", "backup_upgrade_wait=0")
            assert agent_id() == agent

            output = self.play_until_it_waits(controller, end, *upgrade)

        assert f"The agent on {HOST} is still busy after 0.0 s (pass: run r1 (nightly))" in refused.text
        assert unchanged.recap(HOST)["changed"] == 0, unchanged.output
        assert re.search(rf"^{HOST} .* failed=0 ", output, re.MULTILINE), output
        assert docker("inspect", "--format", "{{.Config.Image}}", AGENT).stdout.strip() == next_version
        assert config_of(controller)["parallel"] == 3
        assert state() == remembered

    def test_one_host_first_as_the_page_says(self, controller: Controller) -> None:
        for command in (
            documented("ansible-playbook site.yml --limit web1 --check --diff"),
            documented("ansible-playbook site.yml --limit web1"),
            documented("ansible-playbook backup.yml --limit web1"),
            documented("ansible-playbook status.yml --limit web1"),
        ):
            run = controller.shell(command, ANSIBLE_INVENTORY=str(controller.inventory))
            assert run.recap(HOST)["failed"] == 0

    def play_until_it_waits(self, controller: Controller, end: Callable[[], object], *arguments: str) -> str:
        """Run site.yml, and call a function as soon as it waits; returns what it printed."""
        command = ["ansible-playbook", "site.yml", *arguments]
        options = {"cwd": controller.working_directory, "env": controller.environment, "text": True}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
            output = []
            for line in process.stdout:
                output.append(line)
                if "RETRYING" in line:
                    assert end().returncode == 0
        assert any("RETRYING" in line for line in output), "".join(output)
        return "".join(output)


class TestDecommission:
    """site.yml -e backup_state=absent."""

    def test_check_mode_removes_nothing(self, controller: Controller) -> None:
        before, files = agent_id(), sorted(controller.directory.rglob("*"))

        run = controller.play("site", "-e", "backup_state=absent", "--check")

        assert run.recap(HOST)["changed"] > 0
        assert f"{HOST} would no longer have an agent" in run.text
        assert agent_id() == before
        assert sorted(controller.directory.rglob("*")) == files

    def test_the_agent_goes_and_the_backups_stay(self, controller: Controller, built_image: str) -> None:
        directory = controller.directory
        on_controller = directory / f"passwords/{HOST}.password"
        password = on_controller.read_text()
        # As after a move to another controller: the host alone has the password, and that of an earlier repository.
        on_controller.unlink()
        (directory / "backup/secrets/password.1.old~").write_text("an earlier one")

        run = controller.shell(
            documented("ansible-playbook site.yml -e backup_state=absent --limit web7", {"web7": HOST})
        )

        assert run.recap(HOST)["failed"] == 0
        assert docker("container", "inspect", AGENT, check=False).returncode != 0
        volumes = set(docker("volume", "ls", "--format", "{{.Name}}").stdout.split())
        for volume in ("state", "cache", "socket"):
            # An agent that was set aside for this test has volumes of the same names.
            used = docker("ps", "--all", "--quiet", "--filter", f"volume={AGENT}-{volume}").stdout
            assert used or f"{AGENT}-{volume}" not in volumes
        if not docker("ps", "--all", "--quiet", "--filter", f"ancestor={built_image}").stdout:
            assert docker("image", "ls", "--quiet", built_image).stdout == ""
        assert not (directory / "backup").exists()
        assert on_controller.read_text() == password
        assert stat.S_IMODE(on_controller.stat().st_mode) == 0o600
        assert (directory / f"passwords/{HOST}.password.1.old~").read_text() == "an earlier one\n"
        assert "an earlier one" not in run.output
        assert password.strip() not in run.output
        assert f"the repository {directory}/repository" in run.text
        assert f"in {on_controller} on this controller" in run.text

        self.snapshots_are_read_as_it_says(run.output, directory, on_controller)

    def snapshots_are_read_as_it_says(self, said: str, directory: Path, password_file: Path) -> None:
        line = next(line for line in said.splitlines() if line.startswith("To read it: restic "))
        mounts = ["--volume", f"{directory}:{directory}"]
        arguments = [*line.removeprefix("To read it: restic ").split(), "--password-file", str(password_file)]
        shown = docker("run", "--rm", "--network", "none", *mounts, "restic/restic:0.19.1", *arguments).stdout
        assert "/shop.dump" in shown

    def test_a_second_time_there_is_nothing_left_to_do(self, controller: Controller) -> None:
        run = controller.shell(documented("ansible-playbook site.yml -e backup_state=absent"))

        assert run.recap(HOST)["changed"] == 0, run.output
        assert "no longer has an agent" not in run.text
