"""What the agent's image is made of: by which names, and from which state of Debian's archive."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.containers import AGENT_CONTEXT, STAND_INS, docker
from tests.support.controller import CHECKOUT

ROLE = AGENT_CONTEXT.parents[1]
BY_DIGEST = re.compile(r"[a-z/]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}")


@pytest.fixture
def image() -> Iterator[str]:
    name = f"scalr-test-parts:{secrets.token_hex(3)}"
    yield name
    docker("image", "rm", name, check=False)


def test_what_is_pulled_is_named_by_digest_and_in_one_way() -> None:
    arguments = dict(re.findall(r"^ARG (\w+_IMAGE)=(.+)$", (AGENT_CONTEXT / "Dockerfile").read_text(), re.MULTILINE))
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())

    assert arguments.keys() == STAND_INS.keys()
    for name, value in arguments.items():
        assert BY_DIGEST.fullmatch(value)
        assert defaults[f"backup_{name.lower()}"] == value
        # What the tests run instead has the same name.
        assert value.startswith(f"{STAND_INS[name]}@")


def apt_sources(image: str, snapshot: str) -> str:
    """Build the first stage, which needs no network; all that apt would read."""
    arguments = [f"--build-arg={name}={value}" for name, value in {**STAND_INS, "APT_SNAPSHOT": snapshot}.items()]
    docker("build", "--quiet", "--target", "debian", *arguments, "--tag", image, str(AGENT_CONTEXT))
    script = "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null; apt-get update --print-uris"
    return docker("run", "--rm", "--network", "none", image, "sh", "-c", script).stdout


def test_packages_come_from_the_archive_of_a_day(image: str) -> None:
    sources = apt_sources(image, "20261101T000000Z")

    lines = [line for line in sources.splitlines() if line.startswith("deb ")]
    assert [line.split("] ")[1] for line in lines] == [
        "http://snapshot.debian.org/archive/debian/20261101T000000Z trixie main",
        "http://snapshot.debian.org/archive/debian/20261101T000000Z trixie-updates main",
        "http://snapshot.debian.org/archive/debian-security/20261101T000000Z trixie-security main",
    ]
    assert all(
        "check-valid-until=no signed-by=/usr/share/keyrings/debian-archive-keyring.gpg" in line for line in lines
    )
    # apt itself understands them, and knows no other place.
    targets = re.findall(r"^'(http\S+)'", sources, re.MULTILINE)
    assert targets
    assert all(target.startswith("http://snapshot.debian.org/archive/") for target in targets)


def test_packages_come_from_todays_archive_otherwise(image: str) -> None:
    assert "snapshot.debian.org" not in apt_sources(image, "")


def test_every_library_is_named_with_its_hash() -> None:
    dockerfile = Path(AGENT_CONTEXT / "Dockerfile").read_text()
    assert dockerfile.count("pip install") == dockerfile.count("--require-hashes") == 1


def test_it_is_small_and_holds_nothing_that_installs_programs(agent_image: str) -> None:
    assert int(docker("inspect", "--format", "{{.Size}}", agent_image).stdout) < 250e6
    found = docker(
        "run", "--rm", "--network", "none", "--entrypoint", "sh", agent_image,
        "-c", "command -v apt apt-get perl pip; ls /opt/scalr-backup/lib/python3*/site-packages | grep -x pip; true",
    ).stdout  # fmt: skip
    assert found == ""


def test_its_record_of_packages_is_whole_and_what_they_need_is_there(agent_image: str) -> None:
    """For scanners that look for known faults; and whatever a program of ours is linked to is still there."""
    script = """
      dpkg --audit
      for program in python3 haproxy ssh rclone restic openssl; do
        ldd "$(command -v $program)" 2> /dev/null | grep "not found"
      done
      for library in $(find /opt/scalr-backup /usr/lib/python3* -name '*.so*'); do ldd $library | grep "not found"; done
      dpkg-query --show --showformat='${Package}\n' haproxy rclone openssh-client python3.13
    """
    said = docker("run", "--rm", "--network", "none", "--entrypoint", "sh", agent_image, "-c", script).stdout
    assert sorted(said.split()) == ["haproxy", "openssh-client", "python3.13", "rclone"]


def test_it_says_what_it_is(agent_image: str) -> None:
    labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", agent_image).stdout)
    galaxy = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())
    said = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}

    assert said.pop("scalr.backup.own") == "true"
    assert said == {
        "title": "scalr-backup",
        "description": said["description"],
        "version": galaxy["version"],
        "licenses": galaxy["license"][0],
        "vendor": galaxy["authors"][0],
        "url": galaxy["repository"],
        "source": galaxy["repository"],
        "documentation": galaxy["documentation"],
    }


def test_what_is_compiled_does_not_name_the_time_of_its_source(agent_image: str) -> None:
    """So it is the same in each build, and good whatever times the files have."""
    script = """
import pathlib
flags = {int.from_bytes(path.read_bytes()[4:8], "little") for path in pathlib.Path("/opt").rglob("*.pyc")}
sources = [path for path in pathlib.Path("/opt/scalr-backup/package").rglob("*.py")]
assert sources and all((path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc").exists() for path in sources)
print(flags)
"""
    python = ["--entrypoint", "/opt/scalr-backup/bin/python", agent_image]
    assert docker("run", "--rm", "--network", "none", *python, "-c", script).stdout == "{1}\n"


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_whoever_builds_a_commit_gets_the_same_layers(image: str) -> None:
    """Twice without a cache, and with another umask. Today's packages, because Debian's archive of a day may be out of reach."""
    arguments = " ".join(f"--build-arg={name}={value}" for name, value in STAND_INS.items())
    environment = {**os.environ, "APT_SNAPSHOT": "", "BUILD_ARGS": f"{arguments} --no-cache"}
    layers = []
    for mask in ("022", "027"):
        command = f"umask {mask} && exec tools/image {image}"
        subprocess.run(["sh", "-c", command], cwd=CHECKOUT, env=environment, check=True, capture_output=True)
        layers.append(docker("inspect", "--format", "{{json .RootFS.Layers}}", image).stdout)
        labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", image).stdout)
        # The next one takes its name, and nobody would find it any more.
        docker("image", "rm", image)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, check=True, capture_output=True, text=True)

    assert layers[0] == layers[1]
    assert labels["org.opencontainers.image.revision"] == commit.stdout.strip()
