# SPDX-License-Identifier: GPL-3.0-or-later
"""Podman in place of Docker Engine: root's, and that of a user without rights, both real, on a machine of their own.

What the product does there is what other tests say of Docker Engine: those that ask most of an engine run once more with
Podman's socket. Then the role and the playbooks, as docs/podman.md says.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.containers import build_agent_image, docker, far_hour, wait_until
from tests.support.controller import CHECKOUT, Controller

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(1800)]

IMAGE = "scalr-test-podman-host:trixie"
ROOTS = "/run/podman/podman.sock"
OF_A_USER = "/run/user/1000/podman/podman.sock"
# What asks most of an engine: execs that carry dumps, what an inspection says, throwaway containers, and both proxies.
SAME_AS_WITH_DOCKER = (
    "tests/integration/test_agent_backup.py::TestAPass",
    "tests/integration/test_agent_restore.py::test_a_damaged_database_comes_back_whole[17]",
    "tests/integration/test_agent_restore.py::test_a_restore_that_is_told_to_stop_cleans_up",
    "tests/integration/test_agent_drill.py::TestDrill::test_that_passes_says_what_it_compared_and_leaves_nothing[17]",
    "tests/integration/test_socket_proxy.py::test_refuses_every_other_call_of_the_engine_and_logs_it",
    "tests/integration/test_socket_proxy.py::test_events_tell_of_containers_and_of_no_command_line",
    "tests/integration/test_socket_proxy.py::test_what_was_sent_last_arrives_though_its_sender_has_ended",
)


@dataclass
class Machine:
    """A machine that has Podman and no Docker Engine; its directory is one of this machine's under the same name."""

    name: str
    directory: Path

    def shell(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a script on it, as root."""
        return docker("exec", "-i", self.name, "sh", "-c", script, check=check)

    def docker(self, socket: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the docker command on it, for one of its engines."""
        return docker("exec", "-i", self.name, "docker", "--host", f"unix://{socket}", *arguments, check=check)

    def load(self, socket: str, *images: str) -> None:
        """Give images of this machine to one of its engines, under the names that they have here."""
        save = subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE)
        load = ["docker", "exec", "-i", self.name, "docker", "--host", f"unix://{socket}", "load", "--quiet"]
        subprocess.run(load, stdin=save.stdout, check=True, capture_output=True, timeout=600)
        assert save.wait() == 0


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """The machine, whose engines run."""
    image = ["--build-arg", "PREPARED=podman", "--tag", IMAGE, str(CHECKOUT / "tests/platform/images/docker-host")]
    docker("build", "--quiet", *image, timeout=1200)
    name = f"scalr-test-podman-{secrets.token_hex(3)}"
    # All that "privileged" gives, but for SYS_RESOURCE: where that one is missing, "privileged" is refused. A user's containers
    # can have a /proc of their own only where nothing of the machine's is covered up.
    rights = ["--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--device-cgroup-rule=a *:* rwm"]
    rights += [f"--security-opt={one}=unconfined" for one in ("seccomp", "apparmor", "systempaths")]
    with tempfile.TemporaryDirectory(prefix="scalr-test-podman-") as directory:
        Path(directory).chmod(0o755)
        docker(
            "run", "--detach", "--init", "--name", name, "--hostname", name, *rights, "--device=/dev/fuse",
            "--device=/dev/net/tun", "--volume", f"{directory}:{directory}", IMAGE,
        )  # fmt: skip
        made = Machine(name, Path(directory))
        try:
            ready = f"test -S {ROOTS} && test -S {OF_A_USER} && docker --host unix://{OF_A_USER} version"
            wait_until(lambda: made.shell(ready, check=False).returncode == 0, "Podman answers")
            yield made
        finally:
            docker("rm", "--force", "--volumes", name, check=False)


def test_what_the_agent_does_with_docker_it_does_with_podman(machine: Machine) -> None:
    machine.load(ROOTS, build_agent_image(), "postgres:15", "postgres:17", "postgres:18", "debian:trixie-slim")
    # A second socket of the same engine, at a place that this machine has, too.
    socket = machine.directory / "podman.sock"
    machine.shell(f"setsid --fork podman system service --time=0 unix://{socket} < /dev/null > /dev/null 2>&1")
    wait_until(socket.exists, "the socket")
    socket.chmod(0o660)
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-m", "thorough or not thorough", *SAME_AS_WITH_DOCKER]

    done = subprocess.run(
        [*command, f"--basetemp={machine.directory}/tests", f"--override-ini=cache_dir={machine.directory}/cache"],
        cwd=CHECKOUT,
        env={**os.environ, "DOCKER_HOST": f"unix://{socket}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1700,
    )

    assert done.returncode == 0, done.stdout


@contextmanager
def controller_of(machine: Machine, directory: Path, **variables: object) -> Iterator[Controller]:
    """A controller with the machine in its inventory."""
    controller = Controller(directory, machine.name, {})
    host = {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3"}
    known = {
        # Podman names what it has loaded so.
        "backup_image": f"localhost/{build_agent_image()}",
        "backup_containers": ["shop-db"],
        "backup_password_directory": str(directory / "passwords"),
        "backup_repository_on_host_accepted": True,
        "backup_drill": False,
        "backup_schedule": f"0 {far_hour()} * * *",
        "backup_check_schedule": f"30 {far_hour()} * * 0",
        **variables,
    }
    controller.inventory.write_text(json.dumps({"all": {"hosts": {machine.name: host}, "vars": known}}))
    yield controller


def test_no_engine_is_installed_beside_podman(machine: Machine, tmp_path: Path) -> None:
    with controller_of(machine, tmp_path) as controller:
        refused = controller.play("site", exit_code=None)
    assert f"{machine.name} has Podman but no Docker Engine, and the role installs none beside it" in refused.text
    assert refused.recap(machine.name)["changed"] == 0

    with controller_of(machine, tmp_path, backup_engine_socket="/run/nobody.sock") as controller:
        refused = controller.play("site", exit_code=None)
    assert f"No engine answers on /run/nobody.sock of {machine.name}" in refused.text
    assert machine.shell("command -v dockerd", check=False).returncode != 0


@pytest.mark.parametrize("socket", [ROOTS, OF_A_USER], ids=["root's", "a user's"])
def test_a_host_is_protected_by_the_playbooks(machine: Machine, tmp_path: Path, socket: str) -> None:
    machine.load(socket, build_agent_image(), "postgres:17")
    machine.docker(socket, "run", "--detach", "--name", "shop-db", "--env", "POSTGRES_PASSWORD=s3cret", "postgres:17")
    wait_until(lambda: sql(machine, socket, "SELECT 1", check=False) == "1", "the database answers", seconds=300)
    sql(machine, socket, "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) AS g")
    directory = f"/opt/scalr/{'root' if socket == ROOTS else 'user'}/backup"
    with controller_of(machine, tmp_path, backup_engine_socket=socket, backup_directory=directory) as controller:
        controller.play("site")
        again = controller.play("site").recap(machine.name)
        assert again["changed"] == 0
        controller.play("backup")
        sql(machine, socket, "DELETE FROM t WHERE g > 10")
        controller.play("restore", "-e", "db=shop-db", "-e", "confirm=shop-db")
        assert sql(machine, socket, "SELECT count(*) FROM t") == "1000"
        # Only with control groups of version 2 can a user's Podman limit what the drill's server takes.
        if socket == ROOTS or Path("/sys/fs/cgroup/cgroup.controllers").exists():
            assert "passed" in controller.play("drill").text
        else:
            assert "the engine does not limit its memory" in controller.play("drill", exit_code=None).text
        controller.play("status")
        controller.play("site", "-e", "backup_state=absent")
        assert machine.docker(socket, "ps", "--all", "--format", "{{.Names}}").stdout.split() == ["shop-db"]


def sql(machine: Machine, socket: str, text: str, *, check: bool = True) -> str:
    """What the database says."""
    arguments = ["exec", "shop-db", "psql", "-XAtq", "-U", "postgres", "-h", "127.0.0.1", "-c", text]
    return machine.docker(socket, *arguments, check=check).stdout.strip()
