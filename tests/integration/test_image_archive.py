"""One host hands over the agent's image for others: what a taken host can make of it, with a real engine and the real role."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.containers import docker
from tests.support.controller import PART_OF_THE_ROLE, Controller, Run, stand_ins
from tests.support.image_archives import IMAGE, as_docker_20_saves, layer_of

# Goes before the real command, on all hosts: what the taken one would say, the engine of the others does not.
DOCKER = """#!/bin/sh
if [ "$1 $2" = "image save" ]; then exec cp {handed_over} "$4"; fi
if [ -e {lie} ] && [ "$1 $2 $3" = "image inspect --format" ]; then cat {lie}; exit; fi
exec {docker} "$@"
"""
# Of a base image without a way to Debian's mirrors; nothing is installed, whatever the network of this machine.
OFFLINE = """FROM debian:trixie-slim
RUN printf '%s\\n' '#!/bin/sh' 'echo "E: No way to the mirrors" >&2; exit 100' > /usr/bin/apt-get
"""


def engines_id(name: str) -> str:
    """What the engine calls an image; empty if it has none of that name."""
    return docker("image", "inspect", "--format", "{{.Id}}", name, check=False).stdout.strip()


def built(name: str, directory: Path, text: str) -> str:
    """A small image, in which one layer occurs twice; its id."""
    (directory / "file").write_text(text)
    dockerfile = "FROM scratch\nCOPY file /file\nCOPY file /file\nLABEL twice=1\n"
    (directory / "Dockerfile").write_text(dockerfile)
    docker("build", "--quiet", "--tag", name, str(directory))
    return engines_id(name)


@dataclass
class Fleet:
    """web1 hands over an image; web2 and web3 are to load it, which is this machine's engine."""

    directory: Path
    image: str
    victim: str
    id: str
    victims_id: str

    @property
    def handed_over(self) -> Path:
        return self.directory / "handed_over.tar"

    def ship(
        self,
        *,
        known: str,
        exit_code: int,
        said: str = "",
        more: dict[str, dict[str, str]] | None = None,
        limit: str = "!web1",
    ) -> Run:
        """Run the role's part; *known* is what the operator says the image is."""
        programs = self.directory / "bin"
        programs.mkdir(exist_ok=True)
        lie = self.directory / "lie"
        lie.write_text(said) if said else lie.unlink(missing_ok=True)
        paths = {"handed_over": self.handed_over, "lie": lie, "docker": shutil.which("docker")}
        (programs / "docker").write_text(DOCKER.format(**paths))
        (programs / "docker").chmod(0o755)
        (self.directory / "play.yml").write_text(PART_OF_THE_ROLE)
        controller = Controller(self.directory, "web1", {})
        host = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "backup_image": self.image,
            "backup_image_from": "web1",
            "backup_image_id": known,
        }
        hosts = {
            name: {**host, "backup_directory": str(self.directory / name), **(more or {}).get(name, {})}
            for name in ("web1", "web2", "web3", *(more or {}))
        }
        inventory = self.directory / "fleet.json"
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        path = f"{programs}:{controller.environment['PATH']}"
        command = ["ansible-playbook", str(self.directory / "play.yml"), "-i", str(inventory), "--limit", limit]
        return controller.run(command, exit_code=exit_code, PATH=path, XDG_CACHE_HOME=str(self.directory / "cache"))

    @property
    def archives(self) -> list[Path]:
        """What the controller has kept."""
        return sorted((self.directory / "cache/scalr-backup").iterdir())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, dict[str, Path]]]:
    """An agent's image and another app's, and archives that docker save has made of them; the engine has the app's only."""
    directory, unique = tmp_path_factory.mktemp("images"), secrets.token_hex(3)
    image, victim = f"scalr-test-shipped-{unique}:1", f"scalr-test-victim-{unique}:17"
    archives = {"honest": directory / "honest.tar", "both": directory / "both.tar", "other": directory / "other.tar"}
    ids = {"victim": built(victim, directory, "the app's")}
    ids["image"] = built(image, directory, "the agent's")
    docker("image", "save", "--output", str(archives["honest"]), image)
    # The agent's image, and under the other app's name what the taken host likes.
    docker("tag", image, victim)
    docker("image", "save", "--output", str(archives["both"]), image, victim)
    built(image, directory, "something else")
    docker("image", "save", "--output", str(archives["other"]), image)
    docker("image", "rm", image)
    built(victim, directory, "the app's")
    assert engines_id(victim) == ids["victim"]
    yield f"{image} {ids['image']}", f"{victim} {ids['victim']}", archives
    docker("image", "rm", "--force", image, victim, check=False)


@pytest.fixture
def fleet(images: tuple[str, str, dict[str, Path]], tmp_path: Path) -> Iterator[Fleet]:
    image, victim, _archives = images
    yield Fleet(tmp_path, *(pair[0] for pair in (image.split(), victim.split())), image.split()[1], victim.split()[1])
    docker("image", "rm", image.split()[0], check=False)


@pytest.fixture
def archives(images: tuple[str, str, dict[str, Path]]) -> dict[str, Path]:
    return images[2]


def test_every_host_gets_the_one_image(fleet: Fleet, archives: dict[str, Path]) -> None:
    shutil.copy(archives["honest"], fleet.handed_over)

    run = fleet.ship(known=fleet.id, exit_code=2, more={"web4": {"backup_image_id": ""}})

    assert [run.recap(host)["failed"] for host in ("web2", "web3", "web4")] == [0, 0, 1], run.output
    assert engines_id(fleet.image) == fleet.id
    assert engines_id(fleet.victim) == fleet.victims_id
    assert [path.name.rpartition("1.tar.")[2] for path in fleet.archives] == ["gz", "gz.ids"]
    # Whoever does not say which image it must be runs none that another host has made.
    assert (
        "web4 would run whatever web1 sends: set backup_image_id to what this prints on a host that you trust"
        in run.text
    )
    assert "docker image inspect --format '{{.Id}}' " + fleet.image in run.text

    # What is there by that name is held to the id as well.
    again = fleet.ship(known=fleet.victims_id, exit_code=2)
    assert f"on web2 is {fleet.id}, not {fleet.victims_id} as set in backup_image_id" in again.text


def test_what_docker_load_would_take_over_reaches_no_host(fleet: Fleet, archives: dict[str, Path]) -> None:
    shutil.copy(archives["both"], fleet.handed_over)

    run = fleet.ship(known=fleet.id, exit_code=2)

    assert [run.recap(host)["failed"] for host in ("web2", "web3")] == [1, 1], run.output
    assert "Web1, set by backup_image_from, cannot provide the image." in run.text
    assert f"instead of only {fleet.image}. It was not shipped to any host." in run.text
    assert engines_id(fleet.image) == ""
    assert engines_id(fleet.victim) == fleet.victims_id
    assert fleet.archives == []


def test_the_only_host_is_told_one_reason_and_leaves_nothing_on_the_controller(
    fleet: Fleet, archives: dict[str, Path]
) -> None:
    """It has left the play by the time that its archive is removed, and nobody else is there to do it."""
    shutil.copy(archives["both"], fleet.handed_over)

    run = fleet.ship(known=fleet.id, exit_code=2, limit="web2")

    assert f"instead of only {fleet.image}. It was not shipped to any host." in run.text
    assert "Error while evaluating" not in run.text
    # One failure, and the sentence that tells it.
    assert (run.recap("web2")["rescued"], run.recap("web2")["failed"]) == (1, 1), run.output
    assert fleet.archives == []


def test_a_build_without_a_way_to_the_mirrors_says_why_and_what_to_do(fleet: Fleet) -> None:
    base = f"scalr-test-offline-{secrets.token_hex(3)}:1"
    (fleet.directory / "Dockerfile").write_text(OFFLINE)
    docker("build", "--quiet", "--tag", base, str(fleet.directory))
    builds = {**stand_ins(), "backup_base_image": base, "backup_image": "", "backup_image_id": ""}
    makers = {"own": {**builds, "backup_image_from": ""}, "sent": {**builds, "backup_image_from": "controller"}}
    try:
        here = fleet.ship(known="", exit_code=2, more=makers, limit="own")
        there = fleet.ship(known="", exit_code=2, more=makers, limit="sent")
    finally:
        docker("image", "rm", base, check=False)

    assert (
        "Failed to build the agent's image on own: it ended with: E: No way to the mirrors. If the host has no access to "
        "Debian's mirrors, set backup_image_from: controller. An agent already running there keeps running."
        in here.text
    )
    assert (
        "The controller, set by backup_image_from, cannot provide the image. Build the image on the controller: it ended "
        "with: E: No way to the mirrors." in there.text
    )
    assert "Error while evaluating" not in there.text
    assert fleet.archives == []


def test_another_image_under_the_right_name_reaches_no_host(fleet: Fleet, archives: dict[str, Path]) -> None:
    # As an earlier release has kept it, which believed every archive.
    kept = fleet.directory / "cache/scalr-backup" / f"{fleet.image.replace(':', '-')}.tar.gz"
    kept.parent.mkdir(parents=True)
    shutil.copy(archives["other"], kept)
    shutil.copy(archives["other"], fleet.handed_over)

    run = fleet.ship(known=fleet.id, exit_code=2)

    assert f"instead of {fleet.id}" in run.text
    assert engines_id(fleet.image) == ""


def test_an_engine_that_makes_something_else_of_it_is_left_as_it_was(fleet: Fleet, archives: dict[str, Path]) -> None:
    shutil.copy(archives["honest"], fleet.handed_over)
    other = f"sha256:{'0' * 64}"

    run = fleet.ship(known=fleet.id, exit_code=2, said=f"{other} linux/amd64")

    assert f"has the id {other}, but it must be {fleet.id} or sha256:" in run.text
    assert engines_id(fleet.image) == ""
    assert engines_id(fleet.victim) == fleet.victims_id


@pytest.mark.thorough
def test_a_made_up_archive_without_the_layers_it_names_reaches_no_host(fleet: Fleet) -> None:
    saved = as_docker_20_saves(layer_of(agent="backs up"))
    saved.members = {name: data.replace(IMAGE.encode(), fleet.image.encode()) for name, data in saved.members.items()}
    saved.members[f"{0:064x}/layer.tar"] = layer_of(agent="does something else")
    del saved.members["repositories"]
    saved.write(fleet.handed_over)

    run = fleet.ship(known=saved.id, exit_code=2)

    assert "Layer 1 in the archive is not the one that its configuration names." in run.text
    assert engines_id(fleet.image) == ""
