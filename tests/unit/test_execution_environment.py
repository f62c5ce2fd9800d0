"""The execution environment holds what a controller needs, in the versions that are tested here."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement


@pytest.fixture
def definition(checkout: Path) -> dict[str, Any]:
    """The definition of the execution environment."""
    return yaml.safe_load((checkout / "execution-environment.yml").read_text())


@pytest.fixture
def galaxy(checkout: Path) -> dict[str, Any]:
    """What the collection says of itself."""
    return yaml.safe_load((checkout / "galaxy.yml").read_text())


def requirements(path: Path, python: str) -> set[str]:
    """The lines of a list of requirements that hold for a version of Python."""
    found = set()
    for line in path.read_text().splitlines():
        text = line.partition("#")[0].strip()
        wanted = Requirement(text) if text else None
        if wanted and (wanted.marker is None or wanted.marker.evaluate({"python_version": python})):
            found.add(f"{wanted.name}{wanted.specifier}")
    return found


def test_it_names_what_a_controller_needs_and_nothing_else(checkout: Path, definition: dict[str, Any]) -> None:
    dependencies = definition["dependencies"]
    python = dependencies["python_interpreter"]["package_system"].removeprefix("python")

    named = {dependencies["ansible_core"]["package_pip"], *dependencies["python"]}

    assert named == requirements(checkout / "requirements/controller.txt", python)


def test_it_names_the_collections_that_this_one_depends_on_and_this_one(
    definition: dict[str, Any], galaxy: dict[str, Any]
) -> None:
    collections = definition["dependencies"]["galaxy"]["collections"]
    artifact = f"scalr-backup-{galaxy['version']}.tar.gz"

    assert {one["name"]: one["version"] for one in collections if "version" in one} == galaxy["dependencies"]
    assert [one["name"] for one in collections if one.get("type") == "file"] == [f"collections/{artifact}"]
    assert definition["additional_build_files"] == [{"src": artifact, "dest": "collections"}]


def test_whoever_builds_one_with_the_collection_gets_its_libraries(checkout: Path) -> None:
    meta = yaml.safe_load((checkout / "meta/execution-environment.yml").read_text())["dependencies"]
    named = {re.split("[<>=]", line)[0] for line in (checkout / meta["python"]).read_text().splitlines()}

    assert named == {"requests"}
    assert "openssh-client" in (checkout / meta["system"]).read_text()


def test_ansible_builder_accepts_it(checkout: Path, definition: dict[str, Any], tmp_path: Path) -> None:
    """It makes the context of a build of it; the build itself would need a registry."""
    (tmp_path / "execution-environment.yml").write_text((checkout / "execution-environment.yml").read_text())
    (tmp_path / definition["additional_build_files"][0]["src"]).write_bytes(b"")
    builder = Path(sys.executable).parent / "ansible-builder"

    done = subprocess.run(
        [builder, "create", "--output-filename", "Dockerfile"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    context = tmp_path / "context"
    assert definition["dependencies"]["ansible_core"]["package_pip"] in (context / "Dockerfile").read_text()
    # Where the galaxy stage looks for it.
    assert (context / "_build" / definition["dependencies"]["galaxy"]["collections"][-1]["name"]).exists()
