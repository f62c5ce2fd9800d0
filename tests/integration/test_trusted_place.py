# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container that prunes for another host, as the module makes it: what it is given on the trusted machine."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.scalr.backup.plugins.module_utils._agent import Agent

from tests.support.containers import docker
from tests.support.turns import trusted_place

SECRETS = {"password": "canary of the repository", "environment": {"RESTIC_REST_PASSWORD": "canary of the store"}}
FORGET = ["forget", "--from-host=web1", "--from-secrets", "--keep=daily=1", "--json"]


class Container:
    """The container while it waits for its secrets, and after it has them."""

    def __init__(self, image: str, address: str, directory: Path) -> None:
        options = {
            "agent": "none",
            "engine_socket": None,
            "from_repository": address,
            "from_environment": SECRETS["environment"],
        }
        command = Agent(SimpleNamespace(params=options))._alone("docker", image)
        self._cid = directory / "cid"
        # Only so that this test finds it among those of others.
        command[2:2] = [f"--cidfile={self._cid}"]
        self._process = subprocess.Popen(
            [*command, *FORGET, f"--from-repository={address}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def until(self, word: str, *command: str) -> str:
        """What a docker command says of it, as soon as there is a certain word in that."""
        while self._process.poll() is None:
            if self._cid.exists():
                said = docker(
                    *command, self._cid.read_text(), *(["-eo", "pid,args"] if command == ("top",) else []), check=False
                )
                if said.returncode == 0 and word in said.stdout:
                    return str(said.stdout)
            time.sleep(0.1)
        raise AssertionError(self._process.communicate())

    def tell(self) -> None:
        """Give it its secrets."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(SECRETS))
        self._process.stdin.close()

    def end(self) -> None:
        """Remove it, if it is still there."""
        if self._cid.exists():
            docker("rm", "--force", self._cid.read_text(), check=False)
        self._process.kill()
        self._process.wait()


@pytest.fixture
def container(agent_image: str, tmp_path: Path) -> Iterator[Callable[[str], Container]]:
    """Start one for a store at an address."""
    started: list[Container] = []

    def start(address: str) -> Container:
        started.append(Container(agent_image, address, tmp_path))
        return started[-1]

    with trusted_place():
        yield start
        for one in started:
            one.end()


@pytest.mark.parametrize(
    ("address", "network"),
    [("rest:http://192.0.2.1:8000/web1/", "bridge"), ("rest:http://127.0.0.1:9/web1/", "host")],
    ids=["elsewhere", "here"],
)
def test_it_shares_the_machines_network_only_with_a_store_that_is_there(
    container: Callable[[str], Container], address: str, network: str
) -> None:
    (document,) = json.loads(container(address).until('"Running": true', "inspect"))

    settings = document["HostConfig"]
    assert settings["NetworkMode"] == network
    assert settings["PidsLimit"] == 512
    assert (settings["CapDrop"], settings["ReadonlyRootfs"], settings["Privileged"]) == (["ALL"], True, False)
    assert {one["Destination"] for one in document["Mounts"]} == {"/var/lib/scalr-backup", "/var/cache/scalr-backup"}
    assert "canary" not in json.dumps(document)


def test_its_secrets_are_neither_on_a_command_line_nor_in_what_the_engine_knows(
    container: Callable[[str], Container],
) -> None:
    # Who listens here never answers, so that what asks is there to be seen for a while.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"rest:http://127.0.0.1:{silent.getsockname()[1]}/web1/"
        one = container(address)
        one.until('"Running": true', "inspect")
        one.tell()
        silent.settimeout(60)
        asking, _address = silent.accept()
        with asking:
            processes = one.until("forget", "top")

    assert f"--from-repository={address}" in processes
    assert "canary" not in processes + one.until("Running", "inspect")
