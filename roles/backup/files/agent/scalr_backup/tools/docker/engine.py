# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine of this host, through the Docker SDK for Python.

Between the agent and the engine stands a proxy (socket-proxy/), which refuses what the agent need not do.
"""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import docker
import requests
from docker.errors import DockerException

from scalr_backup.core import power
from scalr_backup.core.endings import Command, ending
from scalr_backup.core.engine_facts import EngineFacts, engine_facts
from scalr_backup.core.errors import (
    CallRefusedError,
    ContainerGoneError,
    DockerUnreachableError,
    DumpTooLargeError,
    InvalidAnswerError,
    InvalidDumpError,
    LateAnswerError,
    ScalrBackupError,
)
from scalr_backup.core.spoken import MOST_BYTES
from scalr_backup.core.text import encoded, has_strange_bytes
from scalr_backup.tools.docker import marked
from scalr_backup.tools.docker.answers import document_of, translate
from scalr_backup.tools.docker.bounds import Bounds
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecResult, ExecStream, MessageTail, nothing, outlived
from scalr_backup.tools.docker.silence import is_behind_proxy, why_silent

# Seconds that the socket proxy may take to be there: it and the agent start together with the engine.
_PROXY_SECONDS = 15.0
# A file with a password is one line.
_MOST_OF_SECRET = 64 * 1024
# What everything that an exec starts has in its environment, so that all of it can be ended.
_TOKEN = "SCALR_BACKUP_EXEC"  # noqa: S105 (the name of a variable)
_END_SECONDS, _MOST_OF_END = 10.0, 64 * 1024


class DockerHost:
    """The Docker Engine of this host."""

    def __init__(self, timeout_seconds: int = 60, *, proxy_seconds: float | None = None) -> None:
        """*proxy_seconds* is how long a socket proxy that is not there is waited for, where that is not as long as a start takes."""
        self._api = _connect(
            os.environ.get("DOCKER_HOST"), timeout_seconds, _PROXY_SECONDS if proxy_seconds is None else proxy_seconds
        )
        self._called: dict[str, str] = {}

    def know(self, name: str, called: str) -> None:
        """From now on, mean the container that the engine calls otherwise by a name of ours."""
        self._called[name] = called

    def as_account(self, account: str) -> DockerHost:
        """The same engine; commands in containers run as an account of theirs."""
        return _AsAccount(self._api, self._called, account)

    def about(self) -> EngineFacts:
        """Which engine this is. Raises DockerUnreachableError."""
        return engine_facts(translate(self._api.version, "the engine's version"))

    @property
    def address(self) -> str | None:
        """Where the engine is reached by way of something else than its own socket; None where it is not."""
        return os.environ.get("DOCKER_HOST") or None

    def containers(self) -> list[dict[str, Any]]:
        """A summary of every container, running or not, as ``GET /containers/json`` gives it."""
        return list(translate(lambda: self._api.containers(all=True), "the list of containers"))

    def inspect(self, container: str) -> dict[str, Any]:
        """The inspect document of a container.

        Raises ContainerGoneError when no container has that name.
        """
        called = self._called.get(container, container)
        return dict(translate(lambda: self._api.inspect_container(called), container))

    def power(self, document: Mapping[str, Any], *, accepted: bool) -> str | None:
        """What power over the host a container has by its inspect document, as half a sentence; None for none.

        The socket proxy knows it, of what it lets the agent ask of nobody; without one, the engine is asked for the rest.
        *accepted* says that it may share namespaces of the host. Raises DockerUnreachableError.
        """
        told = self._of_proxy(f"power/{document['Id']}")
        if told is not None:
            return str(told["held"]) or None
        if os.environ.get("DOCKER_HOST"):
            # It may be gone by now, and then its volumes must not be asked for.
            self.inspect(str(document["Id"]))
        return power.through(
            document, accepted=accepted, container=self._container_or_none, volume=self._volume_or_none
        )

    def refused(self) -> Mapping[str, Any] | None:
        """What the socket proxy has refused since it began: ``begun``, and counts by kind; None where there is no proxy."""
        return self._of_proxy("refused")

    def _of_proxy(self, question: str) -> Mapping[str, Any] | None:
        """What the socket proxy itself answers; None where there is none, or one that knows no such question."""
        if not os.environ.get("DOCKER_HOST"):
            return None

        def ask() -> Any:
            response = self._api.get(f"{self._api.base_url}/scalr-backup/{question}", timeout=self._api.timeout)
            if response.status_code in (requests.codes.forbidden, requests.codes.not_found):
                return None
            response.raise_for_status()
            return response.json()

        answer = translate(ask, "the socket proxy")
        return answer if isinstance(answer, dict) else None

    def _container_or_none(self, container: str) -> Mapping[str, Any] | None:
        try:
            return self.inspect(container)
        except (ContainerGoneError, CallRefusedError):
            return None

    def _volume_or_none(self, name: str) -> Mapping[str, Any] | None:
        try:
            return dict(translate(lambda: self._api.inspect_volume(name), f"of the volume {name}"))
        except (ContainerGoneError, CallRefusedError):
            return None

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

        token = secrets.token_hex(16)

        def start() -> ExecStream:
            command = speakable(outlived(argv, mark) if mark else argv)
            variables = {**(environment or {}), _TOKEN: token}
            created = self._api.exec_create(called or container, command, stdin=stdin, environment=variables, tty=False)
            connection = self._api.exec_start(created["Id"], socket=True, tty=False)
            subject = Command(argv[0].rpartition("/")[2], container, called)
            return ExecStream(self._api, created["Id"], connection, silence_seconds, subject, mark, token)

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
        most_bytes: int = MOST_BYTES,
    ) -> ExecResult:
        """Run a command in a container to its end; its input must fit a pipe beside its output.

        *silence_seconds* bounds all of its answer, too, and *most_bytes* how much that may be: what takes or prints more is
        ended. *waiting* is called every half second that it says nothing.

        Raises what ``start_exec`` or *waiting* raises, LateAnswerError or InvalidAnswerError.
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
            bounds = Bounds(stream.command, silence_seconds, most_bytes)
            with self.ended_if_astray(stream):
                for kind, data in stream.frames(lambda: bounds.check(waiting)):
                    bounds.take(kind, len(data), waiting)
                    if kind == STDOUT:
                        output += data
                    else:
                        messages.add(data)
                return ExecResult(stream.wait(), bytes(output), messages.text)

    @contextmanager
    def ended_if_astray(self, stream: ExecStream) -> Iterator[None]:
        """End, in its container, what an exec has started that answers too late, too much, or nothing that makes sense."""
        try:
            yield
        except (LateAnswerError, InvalidAnswerError, InvalidDumpError, DumpTooLargeError):
            self.end(stream)
            raise

    def end(self, stream: ExecStream) -> None:
        """End, in its container, everything that an exec has started, as far as it does not hide; never raises.

        What cannot be ended without harm to the server stays: see ``marked.py``.
        Nobody reads it any more, so that it is blocked at the latest when a pipe is full.
        """
        stream.close()
        script = marked.argv(_TOKEN, f"{stream.token}$")
        with suppress(ScalrBackupError, OSError):
            container = stream.command.container
            with DockerHost.start_exec(self, container, script, silence_seconds=_END_SECONDS) as ending_it:
                bounds = Bounds(ending_it.command, _END_SECONDS, _MOST_OF_END)
                for kind, data in ending_it.frames(lambda: bounds.check(nothing)):
                    bounds.take(kind, len(data))

    def read_file(self, container: str, path: str, waiting: Callable[[], None] = nothing) -> tuple[bytes, str]:
        """A file of a container, by the container's own ``cat``: its content, and why it cannot be read, if it cannot.

        Raises what ``run`` raises.
        """
        result = self.run(container, ["cat", "--", path], waiting=waiting, most_bytes=_MOST_OF_SECRET)
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


def _connect(address: str | None, timeout_seconds: int, proxy_seconds: float) -> docker.APIClient:
    """A client of the engine at an address; without one at its own socket.

    Raises DockerUnreachableError, where a proxy is the address only when it stays away.
    """
    deadline = time.monotonic() + (proxy_seconds if address else 0.0)
    while True:
        try:
            return docker.APIClient(base_url=address, version="auto", timeout=timeout_seconds)
        except (DockerException, requests.RequestException) as error:
            if time.monotonic() > deadline:
                raise DockerUnreachableError(_no_answer(error, address)) from None
            time.sleep(0.5)


def _no_answer(error: Exception, address: str | None) -> str:
    """The sentence for an engine that does not answer, with what may stand before it."""
    if not address or is_behind_proxy(error):
        return f"The Docker Engine does not answer: {why_silent(error)}."
    return (
        f"The Docker Engine does not answer through the socket proxy at {address}; is the proxy running? "
        f"({why_silent(error)})"
    )
