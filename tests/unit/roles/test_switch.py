# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that fails puts back: the shell that the role runs on the host, on files and on a Docker of this test's own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

# Containers are files: their names, and in them which one it is and whether it runs. $REFUSED is a command that fails.
DOCKER = """#!/bin/sh
set -e
cd "$CONTAINERS"
for last; do :; done
case "$*" in $REFUSED) echo "cannot $1" >&2; exit 1 ;; esac
case "$1" in
container) if [ "$2" = ls ]; then ls; else cut -d' ' -f2 "$last"; fi ;;
stop) echo "$(cut -d' ' -f1 "$last") false" > "$last" ;;
start) echo "$(cut -d' ' -f1 "$last") true" > "$last" ;;
rename) [ ! -e "$3" ] && mv "$2" "$3" ;;
rm) rm "$last" ;;
esac
"""


class Host:
    """A directory with the agent's files, and a Docker."""

    def __init__(self, place: Path, derived: Any) -> None:
        self.directory = place / "backup"
        self.containers = place / "containers"
        self._commands = place / "commands"
        self._derived = derived
        for name in (self.directory / "config", self.directory / "secrets", self.containers, self._commands):
            name.mkdir(parents=True)
        self.command("docker", DOCKER)

    def command(self, name: str, script: str) -> None:
        """What a command does on this host."""
        (self._commands / name).write_text(script)
        (self._commands / name).chmod(0o755)

    def fills_up(self, command: str, arguments: str = "*") -> None:
        """From now on a command fails where its arguments match this pattern of the shell."""
        refuse = f'echo "{command}: No space left on device" >&2; exit 1'
        self.command(command, f'#!/bin/sh\ncase "$*" in {arguments}) {refuse} ;; esac\nexec /bin/{command} "$@"\n')

    def has_room(self, command: str) -> None:
        """The command works again."""
        (self._commands / command).unlink()

    def attempt(self, script: str, *arguments: object, refused: str = "") -> subprocess.CompletedProcess[str]:
        """Run one of the role's scripts as its tasks do; Docker refuses what matches."""
        path = f"{self._commands}:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", "-c", self._derived(script), "sh", *map(str, arguments)],
            check=False,
            env={**os.environ, "PATH": path, "CONTAINERS": str(self.containers), "REFUSED": refused},
            capture_output=True,
            text=True,
        )

    def run(self, script: str, *arguments: object) -> None:
        """Run one that has to succeed."""
        done = self.attempt(script, *arguments)
        assert done.returncode == 0, done.stderr

    def keep(self) -> None:
        """Keep the files in use."""
        self.run("__backup_keep_files", self.directory, "agent")

    @property
    def files(self) -> dict[str, tuple[int, str]]:
        """Every file: its mode, and what is in it."""
        found = [path for path in self.directory.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.directory)): (path.stat().st_mode, path.read_text()) for path in found}

    def write(self, text: str, *names: str) -> None:
        """Write the same text into some files."""
        for name in names:
            (self.directory / name).write_text(text)

    @property
    def states(self) -> dict[str, str]:
        """Every container: which one it is, and whether it runs."""
        return {path.name: path.read_text().strip() for path in self.containers.iterdir()}

    def has(self, **states: str) -> None:
        """These containers are there; an underscore in a name is a hyphen."""
        for name, state in states.items():
            (self.containers / name.replace("_", "-")).write_text(f"{state}\n")


@pytest.fixture
def host(tmp_path: Path, derived: Any) -> Host:
    """One on which nothing is deployed."""
    return Host(tmp_path, derived)


@pytest.fixture
def deployed(host: Host) -> Host:
    """One with an agent's files."""
    host.write("old", "config/config.json", "secrets/password")
    return host


def test_files_that_were_changed_added_or_removed_are_as_they_were(deployed):
    directory = deployed.directory
    (directory / "secrets/password").chmod(0o640)
    deployed.write("old", "secrets/ssh_private_key")
    (directory / "config/drill").mkdir()
    deployed.write("of another step", "config/drill/a.sql")
    before, config = deployed.files, (directory / "config").stat().st_ino

    deployed.keep()
    assert (directory / "previous").stat().st_mode & 0o777 == 0o700
    (directory / "secrets/password").unlink()
    (directory / "secrets/ssh_private_key").unlink()
    deployed.write("new", "config/config.json", "secrets/password", "secrets/copy password")
    deployed.run("__backup_put_back_files", directory)

    assert deployed.files == before
    # The containers go on seeing the directory that they were made with.
    assert (directory / "config").stat().st_ino == config
    assert sorted(path.name for path in directory.iterdir()) == ["config", "secrets"]


def test_of_a_first_deployment_no_file_stays(host):
    host.keep()
    host.write("new", "config/config.json", "secrets/password")
    host.run("__backup_put_back_files", host.directory)

    assert host.files == {}


def test_what_was_not_kept_is_not_put_back(host):
    host.write("new", "config/config.json")
    host.run("__backup_put_back_files", host.directory)

    assert host.files["config/config.json"][1] == "new"


def test_a_copy_that_is_incomplete_counts_as_none(deployed):
    before = deployed.files
    # What can be copied is copied, and the command fails nevertheless.
    deployed.command("cp", '#!/bin/sh\n/bin/cp -a config "$4"\necho "cp: No space left on device" >&2; exit 1\n')

    failed = deployed.attempt("__backup_keep_files", deployed.directory, "agent")
    deployed.run("__backup_put_back_files", deployed.directory)

    assert (failed.returncode, failed.stderr) == (1, "cp: No space left on device\n")
    assert deployed.files == before


def test_a_copy_of_an_earlier_release_counts_as_none(deployed):
    before = deployed.files
    (deployed.directory / "before/config").mkdir(parents=True)

    deployed.keep()
    deployed.run("__backup_put_back_files", deployed.directory)

    assert deployed.files == before
    assert not (deployed.directory / "before").exists()


def test_files_come_back_without_needing_space(deployed):
    before = deployed.files
    deployed.keep()
    deployed.write("new", "config/config.json", "secrets/password", "secrets/copy_password")
    deployed.fills_up("cp")

    deployed.run("__backup_put_back_files", deployed.directory)

    assert deployed.files == before


@pytest.mark.parametrize("refused", ['"previous previous.rest"', "*rest/secrets*"], ids=["all", "some"])
def test_what_could_not_be_put_back_is_told_and_put_back_by_the_next_run(deployed, refused):
    before = deployed.files
    deployed.keep()
    deployed.write("new", "config/config.json", "secrets/password", "secrets/copy_password")
    deployed.fills_up("mv", refused)

    failed = deployed.attempt("__backup_put_back_files", deployed.directory)

    assert (failed.returncode, failed.stderr) == (1, "mv: No space left on device\n")
    assert (Path(failed.stdout.strip()) / "secrets/password").read_text() == "old"
    # As long as it cannot be put back, no run changes anything.
    assert deployed.attempt("__backup_keep_files", deployed.directory, "agent").returncode == 1
    deployed.has_room("mv")
    deployed.keep()
    assert {name: file for name, file in deployed.files.items() if not name.startswith("previous/")} == before


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        # Interrupted before the new agent ran, or while nothing but files changed.
        ({"agent_before": "old false"}, "old"),
        ({"agent_before": "old false", "agent": "new false"}, "old"),
        ({"agent": "old true"}, "old"),
        # Its files are the good ones.
        ({"agent_before": "old false", "agent": "new true"}, "new"),
    ],
)
def test_what_an_interrupted_run_kept_is_put_back_unless_its_agent_ran(deployed, found, kept):
    deployed.keep()
    deployed.write("new", "config/config.json", "secrets/password")
    deployed.has(**found)

    deployed.keep()

    assert {name: text for name, (_mode, text) in deployed.files.items()} == {
        "config/config.json": kept,
        "secrets/password": kept,
        "previous/config/config.json": kept,
        "previous/secrets/password": kept,
    }


@pytest.mark.parametrize(
    ("found", "set_aside"),
    [
        ({}, {}),
        ({"agent": "old true"}, {"agent-before": "old false"}),
        # A run that was interrupted before it had a new one, …
        ({"agent_before": "old false"}, {"agent-before": "old false"}),
        # … when the new one did not run yet, …
        ({"agent_before": "old false", "agent": "new false"}, {"agent-before": "old false"}),
        # … and when it did, and was only not tidied up after.
        ({"agent_before": "old false", "agent": "new true"}, {"agent-before": "new false"}),
    ],
)
@pytest.mark.parametrize("half_made", [None, "newest false"])
def test_containers_are_set_aside_and_brought_back(host, found, set_aside, half_made):
    host.has(**found)

    host.run("__backup_set_aside", "agent")
    assert host.states == set_aside
    if half_made:
        host.has(agent=half_made)
    host.run("__backup_bring_back", "agent", "set aside")

    assert host.states == {
        name.removesuffix("-before"): state.replace("false", "true") for name, state in set_aside.items()
    }


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ({}, {}),
        # The old one is not what a run has made that set nothing aside.
        ({"agent": "old true"}, {"agent": "old true"}),
        ({"agent_before": "old false", "agent": "new true"}, {"agent-before": "old false", "agent": "new true"}),
        # What an interrupted run has left is brought back all the same.
        ({"agent_before": "old false"}, {"agent": "old true"}),
        ({"agent_before": "old false", "agent": "new false"}, {"agent": "old true"}),
    ],
)
def test_a_container_that_was_not_set_aside_stays(host, found, left):
    host.has(**found)
    host.run("__backup_bring_back", "agent", "")
    assert host.states == left


@pytest.mark.parametrize("refused", ["stop*", "rename*", "container?ls*", "container?inspect*", "rm*"])
@pytest.mark.parametrize(
    "found", [{"agent": "old true"}, {"agent": "old true", "agent_before": "older false"}], ids=["alone", "beside"]
)
def test_one_that_could_not_be_set_aside_goes_on(host, found, refused):
    host.has(**found)
    failed = host.attempt("__backup_set_aside", "agent", refused=refused)
    host.run("__backup_bring_back", "agent", "set aside" if failed.returncode == 0 else "")
    assert host.states["agent"] == "old true"


def test_nothing_goes_as_long_as_the_engine_does_not_list_its_containers(host):
    host.has(agent="newest true", agent_before="old false")
    failed = host.attempt("__backup_bring_back", "agent", "set aside", refused="container?ls*")
    assert (failed.returncode, failed.stderr) == (1, "cannot container\n")
    assert host.states == {"agent": "newest true", "agent-before": "old false"}


def test_what_was_set_aside_goes_when_all_is_well(deployed):
    deployed.has(agent="one true", agent_before="one true", proxy="one true")
    deployed.keep()

    deployed.run("__backup_forget_old", deployed.directory, "agent", "proxy")

    assert sorted(deployed.states) == ["agent", "proxy"]
    assert sorted(path.name for path in deployed.directory.iterdir()) == ["config", "secrets"]


def test_which_containers_were_set_aside(derived):
    results = [{"item": "agent", "rc": 0}, {"item": "proxy", "rc": 1, "failed": True}]
    assert derived("__backup_set_aside_now", __backup_aside={"results": results}) == ["agent"]
    assert derived("__backup_set_aside_now", __backup_aside={}) == []


WELL = {"rc": 0, "cmd": [], "stderr": ""}


@pytest.mark.parametrize(
    ("files", "containers", "sentence"),
    [
        (WELL, [WELL], "The agent on web1 was left unchanged."),
        (
            {"rc": 1, "cmd": [], "stderr": "mv: Read-only file system", "stdout_lines": ["/opt/x/previous.rest"]},
            [WELL],
            "The old configuration and secrets could not be put back: mv: Read-only file system. They are in "
            "/opt/x/previous.rest on web1; remove the cause, then run site.yml again, which puts them back first.",
        ),
        (
            WELL,
            [{"item": "scalr-backup", "rc": 1, "cmd": [], "stderr": "Cannot connect to the Docker daemon"}],
            "Failed to bring back scalr-backup on web1: Cannot connect to the Docker daemon. The agent may not run there; "
            "remove the cause, then run site.yml again.",
        ),
    ],
    ids=["all", "no files", "no containers"],
)
def test_what_was_not_rolled_back_is_told(derived, files, containers, sentence):
    told = derived(
        "__backup_rolled_back",
        __backup_old_config={"repository": "/repository"},
        __backup_files_back=files,
        __backup_containers_back={"results": containers},
    )
    assert told == sentence
