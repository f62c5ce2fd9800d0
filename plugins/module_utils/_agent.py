# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The one file that knows how to call the agent.

The agent does the work; a module calls one of its verbs over ``docker exec`` and returns the answer.
On its standard output the agent prints JSON objects, one per line, and last exactly one
``{"event": "result", ...}``. A call without that last line has failed, whatever its exit code.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.scalr.backup.plugins.module_utils._address import objection, redact
from ansible_collections.scalr.backup.plugins.module_utils._network import network_options
from ansible_collections.scalr.backup.plugins.module_utils._together import MODULES, objections

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ansible.module_utils.basic import AnsibleModule

#: Of the collection, as galaxy.yml says.
VERSION = "0.8.0"

#: What every module of the collection accepts besides its own options.
AGENT_ARGUMENTS: dict[str, Any] = {
    "agent": {"type": "str", "default": "scalr-backup"},
    "engine_socket": {"type": "path"},
}

#: What a module also accepts if its verb reports progress.
PROGRESS_ARGUMENTS: dict[str, Any] = {
    "progress_file": {"type": "path"},
}

#: What a module also accepts if its verb restores snapshots, which another host may have made.
SOURCE_ARGUMENTS: dict[str, Any] = {
    "from_host": {"type": "str"},
    "from_repository": {"type": "str"},
    "from_password": {"type": "str", "no_log": True},
    "from_environment": {"type": "dict", "no_log": True},
    "from_copy": {"type": "bool", "default": False},
}

#: Names of regions or storage classes are not secret, and hiding them would hide half of a result.
_SHORTEST_SECRET = 4

#: Ansible reserves these words in a module's result, the last two for asynchronous tasks.
_RETURNED_AS = {"failed": "failed_databases", "started": "started_at", "finished": "finished_at"}

#: How much of the agent's standard error goes into a sentence about a call that ended early.
_TAIL_LINES = 3
_TAIL_CHARACTERS = 600

#: Sends a command's output to a file that only its owner can read, and first records the process there: its pid, and when
#: it was started, because pids are reused.
_TO_FILE = r"""umask 077
started=$(cut -d" " -f22 "/proc/$$/stat" 2>/dev/null)
printf '{"event": "process", "id": %d, "started": "%s"}\n' "$$" "$started" > "$0"
exec "$@" >> "$0"
"""

#: The engine's socket on a host that says nothing else, and in the containers that may use it.
_SOCKET = "/var/run/docker.sock"
_SCHEME = "unix://"

#: The privileges of a one-shot container.
_CONFINED = [
    "--rm",
    "--init",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
]

#: What a one-shot container of the agent may use; more memory than any index of restic's takes, and no more processes than it
#: has ever needed. The databases on this host come first with the processor.
_TEMPORARY = "--tmpfs=/tmp:size=64m"
_MODEST = ["--memory=4g", "--cpu-shares=512", "--pids-limit=512"]

#: A call beside the agent has what the agent has, except its way to the engine. In place of that it has one to a proxy of its
#: own, which makes throwaway containers and nothing else. The host's script does the same (roles/backup/files/drill).
_APART = [*_CONFINED, _TEMPORARY, *_MODEST, f"--volume=/dev/null:{_SOCKET}:ro"]
_PROXY = [
    "--detach",
    *_CONFINED,
    "--network=none",
    "--memory=256m",
    "--cpu-shares=512",
    "--pids-limit=64",
    "--no-healthcheck",
    "--volume=/run/scalr-backup",
    "--entrypoint=haproxy",
]
_PROXY_COMMAND = ["-db", "-f", "/opt/scalr-backup/socket-proxy/drill.cfg"]

#: What a call without an agent has: limits, a state volume, and a cache. Its network is that of its store.
_ALONE = [
    *_MODEST,
    "--volume=scalr-backup-prune:/var/lib/scalr-backup",
    "--volume=scalr-backup-prune-cache:/var/cache/scalr-backup",
]

#: Where the docker command is on hosts whose sudo passes a short PATH.
_DOCKER_DIRECTORIES = ["/usr/local/bin", "/snap/bin"]


class AgentError(Exception):
    """A call that failed. Its text is one sentence for the operator; ``code`` is the error code."""

    def __init__(self, message: str, code: str | None = None, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data: dict[str, Any] = data or {}


class _OddNumberError(Exception):
    """A number in an answer that is none. Its text is what stands there."""


class Agent:
    """The agent on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._container: str = module.params["agent"]
        given = module.params["engine_socket"] or ""
        if given:
            # Docker's own variable, which its command obeys.
            module.run_command_environ_update = {**module.run_command_environ_update, "DOCKER_HOST": _SCHEME + given}
        self._socket: str = given or _socket_of(os.environ.get("DOCKER_HOST", ""))

    def call(
        self,
        verb: str,
        *arguments: str,
        stdin: str | None = None,
        apart: bool = False,
        image: str | None = None,
        database_image: str | None = None,
        progress_file: str | None = None,
    ) -> tuple[bool, dict[str, Any]]:
        """Run one verb and return the agent's result as ``(changed, data)``.

        ``stdin`` is what the verb reads, ``apart`` runs it in a separate container beside the agent's, which may make throwaway
        containers, of ``database_image`` too, whatever that is; ``image`` runs it in one that needs no agent on this host, and
        ``progress_file`` is a file for the agent's output so far; it is removed at the end.

        Raises AgentError with the agent's own sentence if the verb failed, and with one of ours if the agent could not be
        called. An answer that cannot be read fails the module, whatever else the module knows.
        """
        docker = self._docker()
        enter = self._alone(docker, image) if image else self._enter(docker, apart, stdin is not None, database_image)
        command = [*enter, verb, *arguments, "--json"]
        rc, stdout, stderr = self._run(command, stdin, progress_file)

        try:
            result = _last_result(stdout)
        except _OddNumberError as odd:
            self._module.fail_json(
                msg=f"The agent's answer to {verb} cannot be read, because a number in it is {odd}: run site.yml, which updates "
                "the agent."
            )
        if result is None:
            raise AgentError(self._why_no_result(docker, verb, rc, stderr))

        data = result.get("data") or {}
        if not result.get("ok"):
            error = result.get("error") or {}
            message = error.get("message") or f"The agent's {verb} failed without giving a reason (exit code {rc})."
            raise AgentError(message, code=error.get("code"), data=data)
        if rc != 0:
            raise AgentError(
                f"The agent reported that its {verb} succeeded, but the docker command ended with exit code {rc}: "
                f"do not trust the result.{_tail(stderr)}",
                data=data,
            )
        return bool(result.get("changed")), data

    def _enter(self, docker: str, apart: bool, has_input: bool, database_image: str | None) -> list[str]:
        """The command before the verb."""
        # No -i if the verb reads nothing: a module's standard input belongs to Ansible's connection.
        interactive = ["-i"] if has_input else []
        if not apart:
            return [docker, "exec", *interactive, self._container, "scalr-backup"]
        found = self._inspect(docker, self._container, "{{.Image}}", "/etc/scalr-backup", "Source")
        if found is None:
            # It may have come back in the meantime.
            raise AgentError(self._why_no_agent(docker) or f"The container {self._container} could not be inspected.")
        image, _space, configuration = found.partition(" ")
        proxy, way = self._start_proxy(docker, image, configuration, database_image or "")
        # The proxy ends when the container of this name has ended, or when it does not come.
        named = [f"--name=scalr-backup-drill-{proxy[:12]}", f"--volumes-from={self._container}"]
        connected = [f"--volume={way}:/run/scalr-backup:ro", "--env=DOCKER_HOST=unix:///run/scalr-backup/docker.sock"]
        return [docker, "run", *interactive, *_APART, *named, *connected, image]

    def _start_proxy(self, docker: str, image: str, configuration: str, database_image: str) -> tuple[str, str]:
        """Start a proxy for one call; returns its container's id and the volume with its socket."""
        own = [
            f"--volume={self._socket}:{_SOCKET}",
            *self._socket_group(docker, image),
            f"--volume={configuration}:/etc/scalr-backup:ro",
            f"--env=DRILL_IMAGE={database_image}",
        ]
        command = [docker, "run", *_PROXY, *own, image, *_PROXY_COMMAND]
        rc, proxy, stderr = self._module.run_command(command, expand_user_and_vars=False)
        way = self._inspect(docker, proxy.strip(), "", "/run/scalr-backup", "Name") if rc == 0 else None
        if not way:
            raise AgentError(
                "The drill's proxy to the Docker engine could not be started; if this host's agent is an older release, "
                f"run site.yml.{_tail(stderr)}"
            )
        return proxy.strip(), way

    def _socket_group(self, docker: str, image: str) -> list[str]:
        """The group of the engine's socket, as an option: nothing in the container is root.

        An engine that runs as a user gives its containers numbers of that user's: only a container knows the group by its own.
        """
        try:
            owner = Path(self._socket).stat()
        except OSError:
            return []  # The docker command will report what is wrong.
        if owner.st_uid == 0:
            return [f"--group-add={owner.st_gid}"]
        mounted = f"--volume={self._socket}:{_SOCKET}"
        look = [
            docker,
            "run",
            *_CONFINED,
            "--network=none",
            mounted,
            "--entrypoint=stat",
            image,
            "-L",
            "-c",
            "%g",
            _SOCKET,
        ]
        rc, group, _stderr = self._module.run_command(look, expand_user_and_vars=False)
        return [f"--group-add={group.strip()}"] if rc == 0 else []

    def _inspect(self, docker: str, container: str, fact: str, destination: str, what: str) -> str | None:
        """A fact of a container, and where it has a mount from; None if there is no such container."""
        mount = '{{range .Mounts}}{{if eq .Destination "' + destination + '"}}{{.' + what + "}}{{end}}{{end}}"
        inspect = [docker, "container", "inspect", "--format", f"{fact} {mount}".strip(), container]
        rc, told, _stderr = self._module.run_command(inspect, expand_user_and_vars=False)
        return told.strip() if rc == 0 else None

    def _alone(self, docker: str, image: str) -> list[str]:
        """The command before the verb, to run the agent's image without an agent."""
        wanted = self._module.params
        network = network_options(wanted["from_repository"] or "", wanted["from_environment"] or {})
        return [docker, "run", "-i", *_CONFINED, _TEMPORARY, *_ALONE, *network, image]

    def _run(self, command: list[str], stdin: str | None, progress_file: str | None) -> tuple[int, str, str]:
        """Run a command and return its exit code and both of its outputs."""
        # Otherwise Ansible would expand "~" and "$" in the arguments, and both can be part of a database's name.
        options = {"expand_user_and_vars": False, "data": stdin, "binary_data": True}
        if progress_file is None:
            rc, stdout, stderr = self._module.run_command(command, **options)
            return rc, stdout, stderr
        try:
            rc, _nothing, stderr = self._module.run_command(["sh", "-c", _TO_FILE, progress_file, *command], **options)
            return rc, Path(progress_file).read_text(encoding="utf-8", errors="surrogateescape"), stderr
        except OSError as error:
            raise AgentError(f"Cannot read the agent's answer from {progress_file}: {error.strerror}.") from None
        finally:
            _remove(progress_file)

    def _docker(self) -> str:
        # In two steps, because the extra directories would otherwise precede the PATH.
        docker: str | None = self._module.get_bin_path("docker") or self._module.get_bin_path(
            "docker", opt_dirs=_DOCKER_DIRECTORIES
        )
        if docker is None:
            raise AgentError(
                "The docker command is not installed on this host: run site.yml, which installs Docker and the agent."
            )
        return docker

    def _why_no_result(self, docker: str, verb: str, rc: int, stderr: str) -> str:
        """Find out why a call returned no result, from Docker's current state and not from the wording of its errors."""
        broke_off = f"The agent's {verb} ended without a result (exit code {rc}).{_tail(stderr)}"
        return self._why_no_agent(docker) or broke_off

    def _why_no_agent(self, docker: str) -> str | None:
        """Why the agent cannot be called, or None if it is running."""
        engine_rc, _version, engine_stderr = self._module.run_command(
            [docker, "version", "--format", "{{.Server.Version}}"]
        )
        if engine_rc != 0:
            return f"The Docker engine does not answer on this host.{_tail(engine_stderr)}"

        inspect_rc, state, _stderr = self._module.run_command(
            [docker, "container", "inspect", "--format", "{{.State.Status}}", self._container],
            expand_user_and_vars=False,
        )
        if inspect_rc != 0:
            return f"This host has no container {self._container}: run site.yml, which deploys the agent."
        if state.strip() != "running":
            return (
                f"The agent's container {self._container} is {state.strip()}, not running: "
                f"docker logs {self._container} shows the cause, and site.yml repairs it."
            )
        return None


def _socket_of(address: str) -> str:
    """The socket that an address of the engine names; Docker's own for any other address."""
    return address[len(_SCHEME) :] if address.startswith(_SCHEME) else _SOCKET


def require_fitting(module: AnsibleModule, name: str) -> None:
    """Fail if the module's options contradict each other, before calling the agent.

    An option with its default value counts as not set.
    """
    given = {
        option: value
        for option, value in module.params.items()
        if value is not None and value != module.argument_spec[option].get("default")
    }
    sentences = list(objections(MODULES[name], given))
    sentences += filter(None, [objection("from_repository", given.get("from_repository"))])
    if sentences:
        module.fail_json(msg=" ".join(sentences))


def call_or_fail(
    module: AnsibleModule,
    verb: str,
    *arguments: str,
    secrets: dict[str, Any] | None = None,
    apart: bool = False,
    image: str | None = None,
    database_image: str | None = None,
    answers: Collection[str] = (),
) -> tuple[bool, dict[str, Any]]:
    """Run one verb and return ``(changed, values)``, values being what the module returns.

    ``secrets`` are passed to the verb on its standard input, where they do not show up in a process list. ``answers`` are
    codes that count as an answer, not as a failure.

    Fails the module with the agent's own sentence and code if the verb failed. The values are complete even then: six of
    seven databases may have been saved.
    """
    try:
        changed, data = Agent(module).call(
            verb,
            *arguments,
            stdin=None if secrets is None else json.dumps(secrets),
            apart=apart,
            image=image,
            database_image=database_image,
            progress_file=module.params.get("progress_file"),
        )
    except AgentError as error:
        if error.code not in answers:
            module.fail_json(msg=str(error), code=error.code, **_values(module, error.data))
        changed, data = False, error.data
    return changed, _values(module, data)


def source_options(module: AnsibleModule) -> list[str]:
    """Whose snapshots to use, as options of the agent."""
    return [
        *option("from-host", module.params["from_host"]),
        *option("from-repository", module.params["from_repository"]),
        *flag("from-secrets", module.params["from_password"] is not None),
        *flag("from-copy", module.params["from_copy"]),
    ]


def source_secrets(module: AnsibleModule) -> dict[str, Any] | None:
    """The secrets of the other repository, or None if the agent's own are used."""
    if module.params["from_password"] is None:
        return None
    module.no_log_values = {value for value in module.no_log_values if len(value) >= _SHORTEST_SECRET}
    environment = module.params["from_environment"] or {}
    return {
        "password": module.params["from_password"],
        "environment": {name: str(value) for name, value in environment.items()},
    }


def _values(module: AnsibleModule, data: dict[str, Any]) -> dict[str, Any]:
    """The agent's data as return values, and its warnings as warnings of the module."""
    for warning in data.get("warnings") or []:
        module.warn(warning)
    return {_RETURNED_AS.get(name, name): value for name, value in data.items() if name != "warnings"}


def _remove(path: str) -> None:
    """Remove a file if it exists."""
    with contextlib.suppress(OSError):
        Path(path).unlink()


def option(name: str, value: object) -> list[str]:
    """An option of the agent as one argument, so that a value that begins with a dash stays a value."""
    return [] if value is None else [f"--{name}={value}"]


def options(name: str, values: Iterable[object] | None) -> list[str]:
    """The same for a repeatable option."""
    return [f"--{name}={value}" for value in values or []]


def flag(name: str, wanted: bool) -> list[str]:
    """A switch of the agent."""
    return [f"--{name}"] if wanted else []


def _last_result(stdout: str) -> dict[str, Any] | None:
    """The result in the last line of the agent's output, or None."""
    # Not splitlines(): it also splits at characters that JSON may contain unescaped.
    lines = stdout.strip().split("\n")
    try:
        event = json.loads(lines[-1], parse_float=_finite, parse_constant=_finite)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("event") != "result":
        return None
    return event


def _finite(said: str) -> float:
    """A number of JSON's; Python also takes words for one, and a number of any size for infinity."""
    number = float(said)
    if not math.isfinite(number):
        raise _OddNumberError(said[:_TAIL_CHARACTERS])
    return number


def _tail(stderr: str) -> str:
    """The end of standard error as the second half of a sentence, or nothing."""
    lines = [line.strip() for line in redact(stderr).splitlines() if line.strip()]
    tail = " / ".join(lines[-_TAIL_LINES:])[-_TAIL_CHARACTERS:]
    return f" It said: {tail}" if tail else ""
