# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that fails puts back: the shell that the role runs on the host, on files and on a Docker of this test's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.role_variables import role_variables

ROLE = Path(__file__).resolve().parents[3] / "roles/backup"
SCRIPTS = role_variables(ROLE)

# Containers are files: their names, and in them which one it is and whether it runs.
DOCKER = """#!/bin/sh
set -e
cd "$CONTAINERS"
for last; do :; done
case "$1" in
container) cut -d' ' -f2 "$last" ;;
stop) echo "$(cut -d' ' -f1 "$last") false" > "$last" ;;
start) echo "$(cut -d' ' -f1 "$last") true" > "$last" ;;
rename) [ ! -e "$3" ] && mv "$2" "$3" ;;
rm) rm "$last" ;;
esac
"""


def run(script, *arguments, **environment):
    """Run one of the role's scripts as its tasks do."""
    # The one expression in them is Docker's own, which Ansible leaves as it is.
    text = SCRIPTS[script].replace("{{ '{{.State.Running}}' }}", "{{.State.Running}}")
    command = ["sh", "-c", text, "sh", *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, **environment}, capture_output=True)


def files(directory):
    """Every file below a directory: its mode, and what is in it."""
    return {str(path): (path.stat().st_mode, path.read_text()) for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def directory(tmp_path):
    for name in ("config", "secrets"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_files_that_were_changed_added_or_removed_are_as_they_were(directory):
    (directory / "config/config.json").write_text("old")
    (directory / "secrets/password").write_text("old")
    (directory / "secrets/password").chmod(0o640)
    (directory / "secrets/ssh_private_key").write_text("old")
    (directory / "config/drill").mkdir()
    (directory / "config/drill/a.sql").write_text("of another step")
    before, config = files(directory), (directory / "config").stat().st_ino

    run("__backup_keep_files", directory)
    assert (directory / "before").stat().st_mode & 0o777 == 0o700
    (directory / "config/config.json").write_text("new")
    (directory / "secrets/password").unlink()
    (directory / "secrets/password").write_text("new")
    (directory / "secrets/ssh_private_key").unlink()
    (directory / "secrets/copy password").write_text("new")
    run("__backup_put_back_files", directory)

    assert files(directory) == before
    # The containers go on seeing the directory that they were made with.
    assert (directory / "config").stat().st_ino == config
    assert not (directory / "before").exists()


def test_of_a_first_deployment_no_file_stays(directory):
    run("__backup_keep_files", directory)
    (directory / "config/config.json").write_text("new")
    (directory / "secrets/password").write_text("new")
    run("__backup_put_back_files", directory)

    assert files(directory) == {}


def test_what_was_not_kept_is_not_put_back(directory):
    (directory / "config/config.json").write_text("new")
    run("__backup_put_back_files", directory)

    assert (directory / "config/config.json").read_text() == "new"


@pytest.fixture
def engine(tmp_path):
    """A Docker whose containers are files, and how its command is found."""
    containers = tmp_path / "containers"
    containers.mkdir()
    command = tmp_path / "bin/docker"
    command.parent.mkdir()
    command.write_text(DOCKER)
    command.chmod(0o755)
    return containers, {"PATH": f"{command.parent}:{os.environ['PATH']}", "CONTAINERS": str(containers)}


@pytest.mark.parametrize(
    ("found", "set_aside"),
    [
        ({}, {}),
        ({"agent": "old true"}, {"agent-before": "old false"}),
        # A run that was interrupted before it had a new one, …
        ({"agent-before": "old false"}, {"agent-before": "old false"}),
        # … when the new one did not run yet, …
        ({"agent-before": "old false", "agent": "new false"}, {"agent-before": "old false"}),
        # … and when it did, and was only not tidied up after.
        ({"agent-before": "old false", "agent": "new true"}, {"agent-before": "new false"}),
    ],
)
@pytest.mark.parametrize("half_made", [None, "newest false"])
def test_containers_are_set_aside_and_brought_back(engine, found, set_aside, half_made):
    containers, environment = engine
    for name, state in found.items():
        (containers / name).write_text(f"{state}\n")

    run("__backup_set_aside", "agent", **environment)
    assert {path.name: path.read_text().strip() for path in containers.iterdir()} == set_aside
    if half_made:
        (containers / "agent").write_text(f"{half_made}\n")
    run("__backup_bring_back", "agent", **environment)

    good = {name.removesuffix("-before"): state.replace("false", "true") for name, state in set_aside.items()}
    assert {path.name: path.read_text().strip() for path in containers.iterdir()} == good


def test_what_was_set_aside_goes_when_all_is_well(engine, directory):
    containers, environment = engine
    for name in ("agent", "agent-before", "proxy"):
        (containers / name).write_text("one true\n")
    run("__backup_keep_files", directory)

    run("__backup_forget_old", directory, "agent", "proxy", **environment)

    assert sorted(path.name for path in containers.iterdir()) == ["agent", "proxy"]
    assert not (directory / "before").exists()
