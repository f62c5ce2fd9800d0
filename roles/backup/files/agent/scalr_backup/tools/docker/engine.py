# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine of this host, through the Docker SDK for Python.

Between the agent and the engine stands a proxy (socket-proxy/), which refuses what the agent need not do.
"""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import docker
import requests
from docker.errors import DockerException

from scalr_backup.core.endings import Command, ending
from scalr_backup.core.errors import DockerUnreachableError
from scalr_backup.core.text import encoded, has_strange_bytes
from scalr_backup.tools.docker.answers import document_of, translate
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecResult, ExecStream, MessageTail, nothing, outlived
from scalr_backup.tools.docker.silence import why_silent

# Seconds that the socket proxy may take to be there: it and the agent start together with the engine.
_PROXY_SECONDS = 15.0


class DockerHost:
    """The Docker Engine of this host."""

    def __init__(self, timeout_seconds: int = 60) -> None:
        self._api = _connect(os.environ.get("DOCKER_HOST"), timeout_seconds)
        self._called: dict[str, str] = {}

    def know(self, name: str, called: str) -> None:
        """From now on, mean the container that the engine calls otherwise by a name of ours."""
        self._called[name] = called

    def as_account(self, account: str) -> DockerHost:
        """The same engine; commands in containers run as an account of theirs."""
        return _AsAccount(self._api, self._called, account)

    def containers(self) -> list[dict[str, Any]]:
        """A summary of every container, running or not, as ``GET /containers/json`` gives it."""
        return list(translate(lambda: self._api.containers(all=True), "the list of containers"))

    def inspect(self, container: str) -> dict[str, Any]:
        """The inspect document of a container.

        Raises ContainerGoneError when no container has that name.
        """
        called = self._called.get(container, container)
        return dict(translate(lambda: self._api.inspect_container(called), container))

    def how_it_ended(self, container: str, program: str, result: ExecResult) -> str:
        """A sentence on how a command that was ``run`` has ended."""
        command = Command(program, container, self._called.get(container, ""))
        return ending(command, result.exit_code, result.stderr, lambda: document_of(self._api, command.reference))

    def start_exec(
        self,
        container: str,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        stdin: bool = False,
        silence_seconds: float = 300.0,
        outlives: bool = False,
    ) -> ExecStream:
        """Start a command in a container; *silence_seconds* bounds the wait for each piece of output.

        With *outlives*, one that may end before it has read its input has time for its last words.

        Raises ContainerGoneError, ContainerStoppedError or DockerUnreachableError.
        """
        mark = secrets.token_hex(16) if outlives else ""
        called = self._called.get(container, "")

        def start() -> ExecStream:
            command = speakable(outlived(argv, mark) if mark else argv)
            created = self._api.exec_create(
                called or container, command, stdin=stdin, environment=dict(environment or {}), tty=False
            )
            connection = self._api.exec_start(created["Id"], socket=True, tty=False)
            subject = Command(argv[0].rpartition("/")[2], container, called)
            return ExecStream(self._api, created["Id"], connection, silence_seconds, subject, mark)

        return translate(start, container)

    def run(
        self,
        container: str,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        stdin: bytes | None = None,
        silence_seconds: float = 300.0,
        waiting: Callable[[], None] = nothing,
    ) -> ExecResult:
        """Run a command in a container to its end; its input must fit a pipe beside its output.

        *waiting* is called every half second that it says nothing. Raises what ``start_exec`` or *waiting* raises.
        """
        with self.start_exec(
            container, argv, environment, stdin=stdin is not None, silence_seconds=silence_seconds
        ) as stream:
            if stdin is not None:
                try:
                    stream.write(stdin)
                    stream.end_input()
                except BrokenPipeError:
                    pass  # It ended before it read everything: its exit code says why.
            output, messages = bytearray(), MessageTail()
            for kind, data in stream.frames(waiting):
                if kind == STDOUT:
                    output += data
                else:
                    messages.add(data)
            return ExecResult(stream.wait(), bytes(output), messages.text)

    def read_file(self, container: str, path: str, waiting: Callable[[], None] = nothing) -> tuple[bytes, str]:
        """A file of a container, by the container's own ``cat``: its content, and why it cannot be read, if it cannot.

        Raises what ``run`` raises.
        """
        result = self.run(container, ["cat", "--", path], waiting=waiting)
        return result.stdout, "" if result.exit_code == 0 else self.how_it_ended(container, "cat", result)


class _AsAccount(DockerHost):
    """Whose commands run as another account of the container, by its own su; the proxy does not let the engine do that."""

    def __init__(self, api: docker.APIClient, called: dict[str, str], account: str) -> None:
        self._api = api
        self._called = called
        self._account = account

    def as_account(self, account: str) -> DockerHost:
        """The same for another account."""
        return _AsAccount(self._api, self._called, account)

    def start_exec(
        self,
        container: str,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        stdin: bool = False,
        silence_seconds: float = 300.0,
        outlives: bool = False,
    ) -> ExecStream:
        """Start a command; raises what it does as any other account."""
        changed = ["su", "-s", "/bin/sh", "-c", 'exec "$@"', "--", self._account, "sh", *argv]
        return super().start_exec(
            container, changed, environment, stdin=stdin, silence_seconds=silence_seconds, outlives=outlives
        )


def speakable(argv: Sequence[str]) -> list[str]:
    """A command as the engine's JSON can carry it: a shell of the container puts in bytes that are no text."""
    if not any(map(has_strange_bytes, argv)):
        return list(argv)
    words, beginning = [], ""
    for number, word in enumerate(argv):
        if has_strange_bytes(word):
            octal = "".join(f"\\{byte:03o}" for byte in encoded(word))
            # A shell cuts line feeds off the end of what it takes over, so that something has to stand there.
            beginning += f"w{number}=$(printf '{octal}.') && "
            words.append(f'"${{w{number}%.}}"')
        else:
            words.append(shlex.quote(word))
    return ["sh", "-c", f"{beginning}exec {' '.join(words)}"]


def _connect(address: str | None, timeout_seconds: int) -> docker.APIClient:
    """A client of the engine at an address; without one at its own socket.

    Raises DockerUnreachableError, where a proxy is the address only when it stays away.
    """
    deadline = time.monotonic() + (_PROXY_SECONDS if address else 0.0)
    while True:
        try:
            return docker.APIClient(base_url=address, version="auto", timeout=timeout_seconds)
        except (DockerException, requests.RequestException) as error:
            if time.monotonic() > deadline:
                raise DockerUnreachableError(_no_answer(error, address)) from None
            time.sleep(0.5)


def _no_answer(error: Exception, address: str | None) -> str:
    """The sentence for an engine that does not answer, with what may stand before it."""
    if not address:
        return f"The Docker Engine does not answer: {why_silent(error)}."
    return (
        f"The Docker Engine does not answer through the socket proxy at {address}; is the proxy running? "
        f"({why_silent(error)})"
    )
