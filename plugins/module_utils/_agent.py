# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The one file that knows how to call the agent.

The agent does the work; a module asks it for one verb over ``docker exec`` and hands on what it answers.
On its standard output the agent prints JSON objects, one a line, and last exactly one
``{"event": "result", ...}``. A call without that last line has failed, whatever its exit code.
"""

from __future__ import annotations

import json

#: What every module of the collection accepts beside its own options.
AGENT_ARGUMENTS = {
    "agent": {"type": "str", "default": "scalr-backup"},
}

#: Ansible gives these words in a module's result a meaning of its own, the last two for asynchronous tasks.
_RETURNED_AS = {"failed": "failed_databases", "started": "started_at", "finished": "finished_at"}

#: How much of the agent's standard error goes into a sentence about a call that broke off.
_TAIL_LINES = 3
_TAIL_CHARACTERS = 600

#: Where the docker command lies on hosts whose sudo hands on a short PATH.
_DOCKER_DIRECTORIES = ["/usr/local/bin", "/snap/bin"]


class AgentError(Exception):
    """A call that failed. Its text is one sentence for the operator; ``code`` is the agent's word for it."""

    def __init__(self, message, code=None, data=None):
        super().__init__(message)
        self.code = code
        self.data = data or {}


class Agent:
    """The agent on this host."""

    def __init__(self, module):
        self._module = module
        self._container = module.params["agent"]

    def call(self, verb, *arguments):
        """Run one verb and return the agent's result as ``(changed, data)``.

        Raises AgentError with the agent's own sentence when the verb failed, and with one of ours
        when the agent could not be asked.
        """
        docker = self._docker()
        # No -i: the verbs read nothing, and a module's standard input belongs to Ansible's connection.
        command = [docker, "exec", self._container, "scalr-backup", verb, *arguments, "--json"]
        # Ansible would otherwise expand "~" and "$" in the arguments, and both may be part of a database's name.
        rc, stdout, stderr = self._module.run_command(command, expand_user_and_vars=False)

        result = _last_result(stdout)
        if result is None:
            raise AgentError(self._why_no_result(docker, verb, rc, stderr))

        data = result.get("data") or {}
        if not result.get("ok"):
            error = result.get("error") or {}
            message = error.get("message") or f"The agent's {verb} failed without saying why (exit code {rc})."
            raise AgentError(message, code=error.get("code"), data=data)
        if rc != 0:
            raise AgentError(
                f"The agent called its {verb} a success, but docker exec ended with exit code {rc}: "
                f"do not trust it.{_tail(stderr)}",
                data=data,
            )
        return bool(result.get("changed")), data

    def _docker(self):
        # In two steps, because the further directories would otherwise go before the PATH.
        docker = self._module.get_bin_path("docker") or self._module.get_bin_path(
            "docker", opt_dirs=_DOCKER_DIRECTORIES
        )
        if docker is None:
            raise AgentError(
                "The docker command is not installed on this host: run site.yml, which puts Docker and the agent on it."
            )
        return docker

    def _why_no_result(self, docker, verb, rc, stderr):
        """Find out why a call brought no result, from what Docker says now and not from the wording of its errors."""
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
            return f"This host has no container {self._container}: run site.yml, which puts the agent on it."
        if state.strip() != "running":
            return (
                f"The agent's container {self._container} is {state.strip()}, not running: "
                f"docker logs {self._container} says why, and site.yml puts it right."
            )
        return f"The agent's {verb} broke off without a result (exit code {rc}).{_tail(stderr)}"


def call_or_fail(module, verb, *arguments):
    """Run one verb and return ``(changed, values)``, values being what the module returns.

    Ends the module with the agent's own sentence and code when the verb failed. The values are complete
    even then: of seven databases six may have been saved.
    """
    try:
        changed, data = Agent(module).call(verb, *arguments)
    except AgentError as error:
        module.fail_json(msg=str(error), code=error.code, **_values(module, error.data))
    return changed, _values(module, data)


def _values(module, data):
    """The agent's data as return values, and its warnings as warnings of the module."""
    for warning in data.get("warnings") or []:
        module.warn(warning)
    return {_RETURNED_AS.get(name, name): value for name, value in data.items() if name != "warnings"}


def option(name, value):
    """An option of the agent as one argument: so a value that begins with a dash stays a value."""
    return [] if value is None else [f"--{name}={value}"]


def options(name, values):
    """The same for an option that may be repeated."""
    return [f"--{name}={value}" for value in values or []]


def flag(name, wanted):
    """A switch of the agent."""
    return [f"--{name}"] if wanted else []


def _last_result(stdout):
    """The result in the last line of the agent's output, or None when there is none."""
    # Not splitlines(): it also splits at characters that JSON may hold unescaped.
    lines = stdout.strip().split("\n")
    try:
        event = json.loads(lines[-1])
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("event") != "result":
        return None
    return event


def _tail(stderr):
    """The end of a standard error as the second half of a sentence, or nothing."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    tail = " / ".join(lines[-_TAIL_LINES:])[-_TAIL_CHARACTERS:]
    return f" It said: {tail}" if tail else ""
