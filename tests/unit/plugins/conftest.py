# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A docker command that plays the agent's contract, and a way to run a module against it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.ansible_core import SENTENCE_ON_ONE_LINE, module_arguments
from tests.support.terminal import Answer, on_terminal

# Does what the scenario beside it says for the Docker command that it is called with, and notes how it was called.
FAKE_DOCKER = """#!{python}
import json, os, pathlib, subprocess, sys, time
here = pathlib.Path(__file__).parent
call = sys.argv[1:]
with (here / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(call) + "\\n")
(here / "engine").write_text(os.environ.get("DOCKER_HOST", ""))
if "-i" in call:
    (here / "stdin").write_text(sys.stdin.read())
words = [word for word in call if not word.startswith("-")]
# docker exec AGENT scalr-backup VERB, docker run IMAGE VERB
verb = words[3:4] if call[0] == "exec" else words[2:3]
verb = words[3:5] if verb == ["key"] else verb
scenario = json.loads((here / "scenario.json").read_text())
only = [option for option in call if option in ("--plan", "--dry-run")]
answer = scenario.get(" ".join(verb + only)) or scenario.get(" ".join(verb)) or scenario[call[0]]
subprocess.run(["sh", "-c", answer.get("before", "true")], check=True)
for line in answer.get("stdout", "").splitlines(keepends=True):
    sys.stdout.write(line)
    sys.stdout.flush()
    time.sleep(answer.get("pause", 0))
(here / "finished").open("a").write("x")
sys.stderr.write(answer.get("stderr", ""))
sys.exit(answer.get("rc", 0))
"""

# A connection to a host that does not answer.
GONE = """
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase
DOCUMENTATION = "{name: gone, short_description: does not answer, description: [It does not answer.], author: [nobody]}"
class Connection(ConnectionBase):
    transport = "gone"
    has_pipelining = True
    def _connect(self):
        raise AnsibleConnectionFailure("no route to host")
    exec_command = put_file = fetch_file = lambda self, *arguments, **options: self._connect()
    def close(self):
        pass
"""

# A connection on which nothing is run, because the inventory lacks the password of sudo: the error of no module.
NO_SUDO = """
from ansible.errors import AnsibleError
from ansible.plugins.connection import ConnectionBase
DOCUMENTATION = "{name: nosudo, short_description: refuses, description: [It refuses.], author: [nobody]}"
class Connection(ConnectionBase):
    transport = "nosudo"
    has_pipelining = True
    def _connect(self):
        return self
    def exec_command(self, cmd, in_data=None, sudoable=True):
        raise AnsibleError("Missing sudo password")
    put_file = fetch_file = lambda self, *arguments, **options: self.exec_command("")
    def close(self):
        pass
"""

# A connection to this machine, on which the commands in a directory, its address, go before all others.
MACHINE = """
from ansible.plugins.connection.local import Connection as Local
DOCUMENTATION = "{name: machine, short_description: a shell, description: [This machine.], author: [nobody]}"
class Connection(Local):
    transport = "machine"
    def exec_command(self, cmd, in_data=None, sudoable=True):
        return super().exec_command(f"PATH={self._play_context.remote_addr}:$PATH; {cmd}", in_data, sudoable)
"""

CHECKOUT = Path(__file__).resolve().parents[3]


class FakeDocker:
    """A docker command first on the PATH, whose agent is well and answers what a test says."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True)
        self._scenario: dict[str, dict[str, Any]] = {
            "version": {"stdout": "20.10.24\n"},
            "container": {"stdout": "running\n"},
        }
        command = directory / "docker"
        command.write_text(FAKE_DOCKER.format(python=sys.executable))
        command.chmod(0o755)

    def engine_is_down(self) -> None:
        """No engine answers."""
        down = {"rc": 1, "stderr": "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.\n"}
        self._play("version", down)
        self._play("container", down)
        self._play("exec", down)

    def agents_image_is(self, image: str) -> None:
        """The agent's container was made of this image, and mounts its configuration; a drill's proxy can be started."""
        mount = '{{range .Mounts}}{{if eq .Destination "%s"}}{{.%s}}{{end}}{{end}}'
        self._play("container", {"stdout": f"{image}\n"})
        self._play("{{.Image}} " + mount % ("/etc/scalr-backup", "Source"), {"stdout": f"{image} /opt/a b/config\n"})
        self._play("/opt/scalr-backup/socket-proxy/drill.cfg", {"stdout": "c0ffee" + "0" * 58 + "\n"})
        self._play(mount % ("/run/scalr-backup", "Name"), {"stdout": "cafe\n"})

    def drill_proxy_fails(self, stderr: str) -> None:
        """The container of a drill's proxy does not start."""
        self._play("/opt/scalr-backup/socket-proxy/drill.cfg", {"rc": 125, "stderr": stderr})

    def agent_is(self, state: str) -> None:
        """The agent's container is there and does not run."""
        self._play("container", {"stdout": f"{state}\n"})
        self._play("exec", {"rc": 1, "stderr": "Error response from daemon: Container 4f66 is not running\n"})

    def agent_is_missing(self) -> None:
        """There is no container of the agent's name."""
        missing = {"rc": 1, "stderr": "Error: No such container: scalr-backup\n"}
        self._play("container", missing)
        self._play("exec", missing)

    def agent_prints(self, stdout: str, *, stderr: str = "", rc: int = 0, to: str = "exec") -> None:
        """The agent prints just this, to any verb or to one in particular."""
        self._play(to, {"stdout": stdout, "stderr": stderr, "rc": rc})

    def agent_returns(
        self,
        data: dict[str, Any],
        *,
        to: str = "exec",
        changed: bool = False,
        exit_code: int = 0,
        error: tuple[str, str] | None = None,
        rc: int | None = None,
        events: Sequence[dict[str, Any]] = (),
        pause: float = 0,
        before: str = "true",
    ) -> None:
        """The agent reports progress, and then this result, to any verb or to one in particular.

        After each line it pauses, a number of seconds; *before* is a command that it runs first.
        """
        result = {
            "event": "result",
            "verb": "any",
            "ok": error is None,
            "changed": changed,
            "exit_code": exit_code,
            "error": error and {"code": error[0], "message": error[1]},
            "data": data,
        }
        events = events or [{"event": "progress", "done": 1}, {"event": "log", "message": "so far so good"}]
        stdout = "".join(json.dumps(event) + "\n" for event in [*events, result])
        self._play(to, {"stdout": stdout, "rc": exit_code if rc is None else rc, "pause": pause, "before": before})

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call so far."""
        calls = self._directory / "calls.jsonl"
        return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    @property
    def finished(self) -> int:
        """How many calls have come to their end."""
        finished = self._directory / "finished"
        return len(finished.read_text()) if finished.exists() else 0

    @property
    def engine(self) -> str:
        """The engine that the last call was for, as Docker's own variable says; empty where it says nothing."""
        return (self._directory / "engine").read_text()

    @property
    def stdin(self) -> str:
        """What the agent was given on its standard input."""
        return (self._directory / "stdin").read_text()

    @property
    def verb(self) -> list[str]:
        """What the agent was asked, from its verb on, with or without standard input."""
        execs = [[word for word in call if word != "-i"] for call in self.calls if call[0] == "exec"]
        assert len(execs) == 1, execs
        assert execs[0][:3] == ["exec", "scalr-backup", "scalr-backup"]
        assert execs[0][-1] == "--json"
        return execs[0][3:-1]

    def _play(self, command: str, answer: dict[str, Any]) -> None:
        self._scenario[command] = answer
        (self._directory / "scenario.json").write_text(json.dumps(self._scenario))


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """The fake docker command."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return FakeDocker(tmp_path / "bin")


@dataclass
class Fleet:
    """Some hosts, each with its own fake docker command, and the playbooks that run on them."""

    directory: Path
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    # Of all of them, and of the controller.
    variables: dict[str, Any] = field(default_factory=dict)
    seconds: float = 120

    def host(self, name: str) -> FakeDocker:
        """Another host. Its Python finds the fake docker command first."""
        docker = FakeDocker(self.directory / name / "bin")
        python = self.directory / name / "python"
        python.write_text(f'#!/bin/sh\nPATH={self.directory}/{name}/bin:$PATH exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.hosts[name] = {"ansible_connection": "local", "ansible_python_interpreter": str(python)}
        return docker

    def machine(self, name: str, **commands: str) -> None:
        """Another host, on which these commands of the shell do what a test says, and which has no Python but that.

        It is this machine nevertheless: run nothing on it but with --check.
        """
        directory = self.directory / name / "commands"
        directory.mkdir(parents=True)
        for command, script in commands.items():
            (directory / command).write_text(f"#!/bin/sh\n{script}\n")
            (directory / command).chmod(0o755)
        self._plugin("machine", MACHINE)
        self.hosts[name] = {
            "ansible_connection": "machine",
            "ansible_host": str(directory),
            "ansible_python_interpreter": str(directory / "python"),
        }

    def _plugin(self, name: str, source: str) -> None:
        plugin = self.directory / f"connection/{name}.py"
        plugin.parent.mkdir(exist_ok=True)
        plugin.write_text(source)

    def unreachable_host(self, name: str) -> None:
        """Another host, which does not answer."""
        self._plugin("gone", GONE)
        self.hosts[name] = {"ansible_connection": "gone"}

    def host_without_sudo(self, name: str) -> None:
        """Another host, on which no module can be started."""
        self._plugin("nosudo", NO_SUDO)
        self.hosts[name] = {"ansible_connection": "nosudo"}

    def run(self, playbook: str, *arguments: str, **extra_vars: object) -> subprocess.CompletedProcess[str]:
        """Run a playbook as a user would, without a terminal."""
        return subprocess.run(
            self._command(playbook, *arguments, **extra_vars),
            cwd=CHECKOUT / "playbooks",
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self.seconds,
            check=False,
        )

    def run_on_terminal(self, playbook: str, columns: int, answer: Answer | None = None, **extra_vars: object) -> str:
        """What a user sees of a playbook on a terminal of so many columns, in colours; *answer* is typed when it is asked for."""
        environment = {name: value for name, value in self._environment.items() if name != "COLUMNS"}
        environment |= {"TERM": "xterm-256color", "ANSIBLE_NOCOLOR": "false"}
        command = self._command(playbook, **extra_vars)
        where = CHECKOUT / "playbooks"
        return on_terminal(command, cwd=where, environment=environment, answer=answer, columns=columns)[1]

    def start(self, playbook: str, *arguments: str, **extra_vars: object) -> subprocess.Popen[str]:
        """Start a playbook, in a process group of its own, and read along."""
        return subprocess.Popen(
            self._command(playbook, *arguments, **extra_vars),
            cwd=CHECKOUT / "playbooks",
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _command(self, playbook: str, *arguments: str, **extra_vars: object) -> list[str]:
        inventory = self.directory / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": self.hosts, "vars": self.variables}}))
        return ["ansible-playbook", f"{playbook}.yml", "-i", str(inventory), "-e", json.dumps(extra_vars), *arguments]

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_BECOME_ALLOW_SAME_USER": "false",
            "ANSIBLE_CONNECTION_PLUGINS": str(self.directory / "connection"),
            **SENTENCE_ON_ONE_LINE,
            "ANSIBLE_NOCOLOR": "true",
            "COLUMNS": "400",
        }


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """No hosts yet."""
    return Fleet(tmp_path)


RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Run a module as Ansible does, and return the result that it prints."""

    def run(name: str, *, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.scalr.backup.plugins.modules.{name}")
        with module_arguments({**arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit) as end:
            module.main()
        result = json.loads(capsys.readouterr().out)
        assert bool(end.value.code) is bool(result.get("failed"))
        return result

    return run
