"""A host whose agent comes from a registry, by its digest: deployed, upgraded, and left."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.containers import DatabaseContainer, build_agent_image, docker, running
from tests.support.controller import AGENT, PROXY, Controller, agent_set_aside
from tests.support.registry import Registry, registry

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]

HOST = "web1"


@dataclass
class Site:
    """A controller, and a registry with two images of this release's agent."""

    controller: Controller
    registry: Registry
    shop: DatabaseContainer
    first: str
    second: str


def engines_id(name: str) -> str:
    """What the engine calls an image; empty if it has none of that name."""
    return docker("image", "inspect", "--format", "{{.Id}}", name, check=False).stdout.strip()


def images_in_use() -> set[str]:
    """The images of the agent and of its proxy, by name."""
    return set(docker("inspect", "--format", "{{.Config.Image}}", AGENT, PROXY).stdout.split())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Nothing is deployed yet."""
    directory = tmp_path_factory.mktemp("site")
    shop = DatabaseContainer(f"scalr-test-{secrets.token_hex(3)}-db", environment={"POSTGRES_PASSWORD": "p"})
    variables = {
        "backup_containers": [shop.name],
        "backup_directory": str(directory / "backup"),
        "backup_repository": str(directory / "repository"),
        "backup_repository_on_host_accepted": True,
        "backup_password_directory": str(directory / "passwords"),
    }
    agent, next_agent = build_agent_image(), f"scalr-test-next:{secrets.token_hex(3)}"
    recipe = f"FROM {agent}\nLABEL next=1\n"
    subprocess.run(
        ["docker", "build", "--tag", next_agent, "-"], input=recipe, text=True, check=True, capture_output=True
    )
    with agent_set_aside(), running(shop), registry() as there:
        name = f"{there.address}/scalr/scalr-backup"
        digests = [there.push(image, "scalr/scalr-backup:1") for image in (agent, next_agent)]
        shop.sql("CREATE TABLE goods AS SELECT n FROM generate_series(1, 100) AS n")
        yield Site(Controller(directory, HOST, variables), there, shop, *(f"{name}@{digest}" for digest in digests))
        for digest in digests:
            docker("image", "rm", "--force", f"{name}@{digest}", check=False)
    docker("image", "rm", next_agent, check=False)


def test_it_is_deployed_and_works(site: Site) -> None:
    play, image = site.controller.play, ["-e", f"backup_image={site.first}"]

    play("site", *image)
    assert images_in_use() == {site.first}
    assert play("site", *image).recap(HOST)["changed"] == 0
    assert play("site", *image, "--check", "--diff").recap(HOST)["changed"] == 0

    assert site.shop.name in play("backup").output
    play("drill", "-e", f"db={site.shop.name}")


def test_another_digest_replaces_it_and_the_earlier_image_goes(site: Site) -> None:
    before = docker("exec", AGENT, "cat", "/var/lib/scalr-backup/state.json").stdout

    site.controller.play("site", "-e", f"backup_image={site.second}")

    assert images_in_use() == {site.second}
    assert engines_id(site.first) == ""
    after = docker("exec", AGENT, "cat", "/var/lib/scalr-backup/state.json").stdout
    assert json.loads(after)["last_pass"] == json.loads(before)["last_pass"]


def test_the_controller_can_pull_it_for_hosts_that_cannot(site: Site) -> None:
    image = ["-e", f"backup_image={site.first}", "-e", "backup_image_from=controller"]

    site.controller.play("site", *image)

    (shipped,) = images_in_use()
    assert shipped.startswith("scalr-backup:")
    assert shipped.endswith(f"-{site.first.partition('@sha256:')[2][:12]}")
    assert site.controller.play("site", *image).recap(HOST)["changed"] == 0


def test_in_the_end_it_goes_with_the_agent(site: Site) -> None:
    image = ["-e", f"backup_image={site.second}"]
    site.controller.play("site", *image)

    site.controller.play("site", *image, "-e", "backup_state=absent")

    assert docker("container", "inspect", AGENT, check=False).returncode != 0
    assert engines_id(site.second) == ""
