"""A user at a controller: an inventory, the playbooks, a shell; and this machine's one agent, kept out of the tests' way."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.containers import STAND_INS, docker, far_hour
from tests.support.terminal import Answer, on_terminal

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
AGENT = "scalr-backup"
PROXY = f"{AGENT}-socket-proxy"
# Runs one file of the role's tasks, that of the image unless the variable part names another.
PART_OF_THE_ROLE = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: scalr.backup.backup
        tasks_from: "{{ part | default('image.yml') }}"
        apply:
          tags: [always]
      tags: [always]
"""
_STATE_VOLUME = f"{AGENT}-state"
_PARKED = "scalr-test-parked"
_PARKED_PROXY = f"{_PARKED}-socket-proxy"
_LOCK = Path(tempfile.gettempdir()) / "scalr-test-agent.lock"
# One hour for all inventories of a run, so that a second run of a playbook changes nothing.
_HOUR = far_hour()
# No test makes this machine start drills or passes by itself, and what other tests run is nobody's business here.
_UNDISTURBED = {
    "backup_drill": False,
    "backup_schedule": f"0 {_HOUR} * * *",
    "backup_check_schedule": f"30 {_HOUR} * * 0",
    "backup_report_unmatched": False,
}


def stand_ins() -> dict[str, str]:
    """The images that the agent's is made of, where there is no registry, as variables of the role."""
    return {f"backup_{name.lower()}": value for name, value in STAND_INS.items()}


@dataclass(frozen=True)
class Run:
    """How a command ended, and what it printed."""

    command: str
    exit_code: int
    output: str

    @property
    def text(self) -> str:
        """The output as one line: Ansible breaks sentences where it likes."""
        return " ".join(self.output.split())

    def recap(self, host: str) -> dict[str, int]:
        """The host's counts in the play recap."""
        found = re.search(rf"^{re.escape(host)} +: (.*)$", self.output, re.MULTILINE)
        assert found, self.output
        return {name: int(count) for name, count in (pair.split("=") for pair in found[1].split())}


def containers_of_the_agent() -> set[str]:
    """What the role has made on this machine, by name, id and age; another test's drill, which runs beside, is none of it."""
    columns = "{{.Names}} {{.ID}} {{.CreatedAt}}"
    listed = docker("ps", "--all", "--format", columns, "--filter", f"name=^{AGENT}").stdout.splitlines()
    return {line for line in listed if not line.startswith(f"{AGENT}-drill-")}


@dataclass
class Controller:
    """Runs playbooks as a user does: in ``playbooks/`` of a checkout, or by their full names where it is installed."""

    directory: Path
    host: str
    variables: Mapping[str, Any]
    collections: Path | None = None
    programs: Path = PROGRAMS
    transcript: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inventory = self.write_inventory("hosts.yml", self.host)

    def write_inventory(self, name: str, *hosts: str) -> Path:
        """An inventory in which every host is this machine."""
        self.directory.mkdir(parents=True, exist_ok=True)
        host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = self.directory / name
        variables = {**_UNDISTURBED, **stand_ins(), **self.variables}
        # JSON is YAML, and a password needs no quoting rules of our own.
        inventory.write_text(json.dumps({"all": {"hosts": dict.fromkeys(hosts, host), "vars": variables}}))
        return inventory

    def play(self, name: str, *arguments: str, inventory: Path | None = None, exit_code: int | None = 0) -> Run:
        """Run a playbook without a terminal."""
        named = f"scalr.backup.{name}" if self.collections else f"{name}.yml"
        command = ["ansible-playbook", named, "-i", str(inventory or self.inventory), *arguments]
        return self.run(command, exit_code=exit_code)

    def shell(self, script: str, *, exit_code: int | None = 0, **environment: str) -> Run:
        """Run command lines of the documentation."""
        return self.run(["bash", "-o", "pipefail", "-ec", self._here(script)], exit_code=exit_code, **environment)

    def run(self, command: Sequence[str], *, exit_code: int | None = 0, **environment: str) -> Run:
        """Run a command; one that ends otherwise than expected shows what it printed. None expects any failure."""
        done = subprocess.run(
            command,
            cwd=self.working_directory,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=480,
        )
        return self._ended(command, done.returncode, done.stdout, exit_code)

    def shell_on_terminal(
        self, script: str, *, answer: str, prompt: str = "Type the container's name", exit_code: int | None = 0
    ) -> Run:
        """Run a command line on a terminal of its own, and type an answer when it asks, for the container's name."""
        command = ["bash", "-ec", self._here(script)]
        found, output = on_terminal(
            command, cwd=self.working_directory, environment=self.environment, answer=Answer(prompt, answer)
        )
        return self._ended(command, found, output.replace("\r", ""), exit_code)

    def _here(self, script: str) -> str:
        """A command line for a checkout as it is where the collection is installed."""
        return re.sub(r"(?<=ansible-playbook )(\w+)\.yml", r"scalr.backup.\1", script) if self.collections else script

    @property
    def working_directory(self) -> Path:
        """Where the user stands; an installed collection is the same from everywhere."""
        return self.directory if self.collections else CHECKOUT / "playbooks"

    @property
    def environment(self) -> dict[str, str]:
        """The user's environment; nothing in it but the path says where the playbooks are."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        installed = {"ANSIBLE_COLLECTIONS_PATH": str(self.collections)} if self.collections else {}
        told = {
            "ANSIBLE_INVENTORY": str(self.inventory),
            "ANSIBLE_NOCOLOR": "true",
            "COLUMNS": "250",
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "TERM": "dumb",
        }
        return {**inherited, **installed, **told}

    def _ended(self, command: Sequence[str], found: int, output: str, expected: int | None) -> Run:
        run = Run(" ".join(command), found, output)
        self.transcript.append(output)
        assert found == expected if expected is not None else found != 0, (
            f"{run.command} exited with {found}:\n{output}"
        )
        return run


@contextmanager
def agent_set_aside() -> Iterator[None]:
    """Make room for a test's own agent: one that is on this machine stops, and comes back as it was.

    There is one agent on a host, with volumes of fixed names, so tests cannot have theirs beside it, nor two runs
    of the tests at once.
    """
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _bring_back()  # what an interrupted run left set aside
        if _is_there(AGENT):
            docker("stop", AGENT)
            docker("rename", AGENT, _PARKED)
            _copy_volume(_STATE_VOLUME, f"{_PARKED}-state")
        if _is_there(PROXY):
            docker("stop", PROXY)
            docker("rename", PROXY, _PARKED_PROXY)
        _empty_state()
        try:
            yield
        finally:
            remove_agent()
            _bring_back()


def remove_agent() -> None:
    """Remove the tests' agent and what it remembers; its configuration and repository lie with the test."""
    docker("rm", "--force", "--volumes", AGENT, PROXY, check=False)
    _empty_state()
    for volume in ("cache", "socket"):
        docker("volume", "rm", f"{AGENT}-{volume}", check=False)  # in use by an agent that is set aside, it stays


def _is_there(container: str) -> bool:
    return docker("container", "inspect", container, check=False).returncode == 0


def _bring_back() -> None:
    if _is_there(_PARKED_PROXY):
        docker("rm", "--force", "--volumes", PROXY, check=False)
        docker("rename", _PARKED_PROXY, PROXY)
        docker("start", PROXY)
    if not _is_there(_PARKED):
        return
    docker("rm", "--force", "--volumes", AGENT, check=False)
    _copy_volume(f"{_PARKED}-state", _STATE_VOLUME)
    docker("volume", "rm", f"{_PARKED}-state")
    docker("rename", _PARKED, AGENT)
    docker("start", AGENT)


def _copy_volume(source: str, target: str) -> None:
    script = "find /target -mindepth 1 -delete && cp -a /source/. /target/"
    volumes = ["--volume", f"{source}:/source:ro", "--volume", f"{target}:/target"]
    docker("run", "--rm", "--network", "none", *volumes, "debian:trixie-slim", "sh", "-c", script)


def _empty_state() -> None:
    if docker("volume", "rm", "--force", _STATE_VOLUME, check=False).returncode != 0:
        volumes = ["--volume", f"{_STATE_VOLUME}:/target"]
        script = "find /target -mindepth 1 -delete"
        docker("run", "--rm", "--network", "none", *volumes, "debian:trixie-slim", "sh", "-c", script)


def restic_from_image(directory: Path) -> Path:
    """The restic program out of its image, as somebody without this software would have it; returns its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    if shutil.which("restic") is None:
        container = docker("create", "restic/restic:0.19.1").stdout.strip()
        docker("cp", f"{container}:/usr/bin/restic", str(directory / "restic"))
        docker("rm", container)
    return directory
