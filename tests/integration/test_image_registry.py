"""The agent's image from a registry: by its digest, whatever the registry has under a tag by now."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.support.containers import docker
from tests.support.controller import CHECKOUT, PART_OF_THE_ROLE, Controller, Run
from tests.support.registry import Registry, registry

RELEASE = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())["version"]


def engines_id(name: str) -> str:
    """What the engine calls an image; empty if it has none of that name."""
    return docker("image", "inspect", "--format", "{{.Id}}", name, check=False).stdout.strip()


@dataclass
class Place:
    """A registry that somebody else can write to, and this machine's engine, which is to run what is there."""

    registry: Registry
    name: str
    directory: Path

    def published(self, text: str, *, release: str = RELEASE) -> tuple[str, str]:
        """Publish a small image under the tag of this release; its digest, and its id. The engine has it no more."""
        (self.directory / "file").write_text(f"{text} {self.name}")
        label = f'LABEL scalr.backup.own=true org.opencontainers.image.version="{release}"'
        (self.directory / "Dockerfile").write_text(f"FROM scratch\nCOPY file /file\n{label}\n")
        local = f"scalr-test-{secrets.token_hex(4)}:1"
        docker("build", "--quiet", "--tag", local, str(self.directory))
        image = engines_id(local)
        digest = self.registry.push(local, f"{self.name}:{RELEASE}")
        docker("image", "rm", local)
        assert engines_id(image) == ""
        return digest, image

    @property
    def tagged(self) -> str:
        return f"{self.registry.address}/{self.name}:{RELEASE}"

    def by(self, digest: str) -> str:
        return f"{self.registry.address}/{self.name}@{digest}"

    def run(self, *images: str, options: Sequence[str] = (), exit_code: int = 0, **variables: str) -> Run:
        """Run the role's part, for a host with each image."""
        (self.directory / "play.yml").write_text(PART_OF_THE_ROLE)
        controller = Controller(self.directory, "host1", {})
        host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
        hosts = {
            f"host{number}": {**host, "backup_image": image, "backup_directory": str(self.directory / f"agent{number}")}
            for number, image in enumerate(images, start=1)
        }
        inventory = self.directory / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        command = ["ansible-playbook", str(self.directory / "play.yml"), "-i", str(inventory), *options]
        return controller.run(command, exit_code=exit_code)


@pytest.fixture(scope="module")
def running_registry() -> Iterator[Registry]:
    with registry() as running:
        yield running


@pytest.fixture
def place(running_registry: Registry, tmp_path: Path) -> Iterator[Place]:
    name = f"scalr/test-{secrets.token_hex(3)}"
    yield Place(running_registry, name, tmp_path)
    left = docker("image", "ls", "--digests", "--format", "{{.ID}}", f"{running_registry.address}/{name}").stdout
    for image in left.split():
        users = docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}").stdout
        docker("rm", "--force", *users.split(), check=False)
        docker("image", "rm", "--force", image, check=False)


def test_a_digest_is_pulled_once_whatever_the_tag_has_become(place: Place) -> None:
    digest, image = place.published("the agent")
    _other_digest, other = place.published("what somebody has put in its place")
    wanted = place.by(digest)

    rehearsal = place.run(wanted, options=["--check", "--diff"])
    assert engines_id(wanted) == ""
    assert rehearsal.recap("host1")["changed"] >= 1

    # With its tag as well, which is for people.
    both = [wanted, f"{place.tagged}@{digest}"]
    place.run(*both)
    assert engines_id(wanted) == image
    assert engines_id(other) == ""

    again = place.run(*both, options=["--check", "--diff"])
    assert [again.recap(host)["changed"] for host in ("host1", "host2")] == [0, 0]


def test_it_goes_with_the_agent_unless_somebody_uses_it(place: Place) -> None:
    digest, image = place.published("the agent")
    wanted, part = place.by(digest), {"part": "absent_image.yml"}
    docker("image", "pull", "--quiet", wanted)
    user = docker("create", wanted, "nothing").stdout.strip()

    assert place.run(wanted, **part).recap("host1")["changed"] == 0
    docker("rm", user)
    assert place.run(wanted, options=["--check", "--diff"], **part).recap("host1")["changed"] == 1
    assert engines_id(wanted) == image

    assert place.run(wanted, **part).recap("host1")["changed"] == 1
    assert engines_id(wanted) == ""
    assert place.run(wanted, **part).recap("host1")["changed"] == 0


def test_a_tag_with_the_images_id_is_pulled_and_held_to_it(place: Place) -> None:
    _digest, image = place.published("the agent")

    place.run(place.tagged, backup_image_id=image)
    assert engines_id(place.tagged) == image
    # What is on the host is taken as it is.
    assert place.run(place.tagged).recap("host1")["changed"] == 0
    docker("image", "rm", place.tagged)

    _digest, other = place.published("what somebody has put in its place")
    run = place.run(place.tagged, backup_image_id=image, exit_code=2)

    assert f"The registry's image {place.tagged} is {other}, not {image} as set in backup_image_id" in run.text
    assert engines_id(place.tagged) == engines_id(other) == ""


def test_what_is_not_fixed_or_does_not_fit_is_refused(place: Place) -> None:
    """Each in a sentence of its own, and before anything else is done on the host."""
    older, older_image = place.published("an older agent", release="0.0.1")
    _digest, image = place.published("whatever")
    unknown = place.by("sha256:" + "5f0c" * 16)
    wrong = [place.by(digest) for digest in ("sha256:5f0c", "latest", "sha512:" + "a" * 64)]
    sentences = {
        place.tagged: f"backup_image is {place.tagged}, which has no digest: anyone who can write to the registry decides what"
        f" runs here. Name it by its digest, as {place.registry.address}/{place.name}@sha256:…, which docker buildx imagetools"
        f" inspect {place.tagged} prints. Nothing was changed.",
        place.by(older): f"which is release 0.0.1 of the agent, but the collection is release {RELEASE}: use the same release"
        " of both. The agent was left unchanged.",
        unknown: f"Failed to pull the image {unknown} to host3:",
        **{name: f"backup_image is {name}: after @ there must be sha256: and 64 hexadecimal digits" for name in wrong},
    }  # fmt: skip

    run = place.run(*sentences, exit_code=2)

    for number, sentence in enumerate(sentences.values(), start=1):
        assert sentence in run.text
        assert run.recap(f"host{number}")["failed"] == 1
    assert engines_id(image) == ""
    # It says so again where it is there already.
    assert engines_id(place.by(older)) == older_image
    assert "which is release 0.0.1 of the agent" in place.run(place.by(older), exit_code=2).text
