# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine of this host, through the Docker SDK for Python.

Between the agent and the engine stands a proxy (socket-proxy/), which refuses what the agent need not do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from scalr_backup.core.endings import Command, ending
from scalr_backup.core.errors import (
    CallRefusedError,
    ContainerGoneError,
    ContainerStoppedError,
    DockerUnreachableError,
    DrillRefusedError,
    NoImageError,
    ThrowawayError,
)
from scalr_backup.tools.docker.answers import document_of, translate
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecResult, ExecStream, MessageTail, nothing
from scalr_backup.tools.docker.silence import why_silent
from scalr_backup.tools.docker.throwaway import (
    SHARED_MEMORY_BYTES,
    ContainerOutput,
    Image,
    Throwaway,
    host_memory,
    of_throwaway,
    place_on_disk,
)

# Seconds that the engine may take to remove a container that it is removing already.
_REMOVAL_SECONDS = 60.0

# Seconds that the socket proxy may take to be there: it and the agent start together with the engine.
_PROXY_SECONDS = 15.0


class DockerHost:
    """The Docker Engine of this host."""

    def __init__(self, timeout_seconds: int = 60) -> None:
        self._api = _connect(os.environ.get("DOCKER_HOST"), timeout_seconds)

    def containers(self) -> list[dict[str, Any]]:
        """A summary of every container, running or not, as ``GET /containers/json`` gives it."""
        return list(translate(lambda: self._api.containers(all=True), "the list of containers"))

    def inspect(self, container: str) -> dict[str, Any]:
        """The inspect document of a container.

        Raises ContainerGoneError when there is none of that name.
        """
        return dict(translate(lambda: self._api.inspect_container(container), container))

    def how_it_ended(self, container: str, program: str, result: ExecResult) -> str:
        """A sentence on how a command that was ``run`` has ended."""
        command = Command(program, container)
        return ending(command, result.exit_code, result.stderr, lambda: document_of(self._api, container))

    def start_exec(
        self,
        container: str,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        stdin: bool = False,
        silence_seconds: float = 300.0,
    ) -> ExecStream:
        """Start a command in a container; *silence_seconds* bounds the wait for each piece of output.

        Raises ContainerGoneError, ContainerStoppedError or DockerUnreachableError.
        """

        def start() -> ExecStream:
            created = self._api.exec_create(
                container, list(argv), stdin=stdin, environment=dict(environment or {}), tty=False
            )
            connection = self._api.exec_start(created["Id"], socket=True, tty=False)
            program = argv[0].rpartition("/")[2]
            return ExecStream(self._api, created["Id"], connection, silence_seconds, Command(program, container))

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
                    pass  # It ended before it read everything: its exit code tells why.
            output, messages = bytearray(), MessageTail()
            for kind, data in stream.frames(waiting):
                if kind == STDOUT:
                    output += data
                else:
                    messages.add(data)
            return ExecResult(stream.wait(), bytes(output), messages.text)

    # -- containers to throw away ------------------------------------------------------------------------

    def require_throwaways(self) -> None:
        """Ask whether containers may be made at all, before anything is begun that needs one.

        What is asked for is a container of no image: who may make containers is told that this is none, and everybody else
        that he may not.

        Raises DrillRefusedError, or DockerUnreachableError when nobody answers.
        """
        try:
            self._api.create_container_from_config({"Image": ""})  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code == requests.codes.forbidden:
                raise DrillRefusedError(
                    "This container may not make others, which a drill needs: the socket proxy keeps that from the agent. "
                    "Run drill.yml from the controller, or the script drill in backup_directory on the host; both start the "
                    "drill in a container of its own, which may."
                ) from None
        except (DockerException, requests.RequestException, OSError) as error:
            raise DockerUnreachableError(f"The Docker Engine does not answer: {error}.") from None

    def image(self, reference: str) -> Image | None:
        """An image of this host by its id or name; None when it is not here, or when there can be none of that name."""
        try:
            document = translate(lambda: self._inspect_image(reference), reference)
        except ContainerGoneError:
            return None
        settings = document["Config"]
        return Image(
            id=str(document["Id"]),
            entrypoint=tuple(settings.get("Entrypoint") or ()),
            command=tuple(settings.get("Cmd") or ()),
            volumes=tuple(settings.get("Volumes") or ()),
            environment=dict(entry.split("=", 1) for entry in settings.get("Env") or () if "=" in entry),
        )

    def _inspect_image(self, reference: str) -> dict[str, Any]:
        try:
            return dict(self._api.inspect_image(reference))  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code == requests.codes.bad_request:
                raise NotFound(str(error.explanation or error)) from None  # No image can have such a name.
            raise

    def pull(self, name: str, waiting: Callable[[], None]) -> None:
        """Get an image from its registry; *waiting* is called whenever the engine tells of a step.

        Raises NoImageError in the registry's words, and whatever *waiting* raises.
        """
        # Without a tag the engine would pull every tag there is.
        reference = name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
        try:
            for step in translate(lambda: self._api.pull(reference, stream=True, decode=True), name):
                waiting()
                if "error" in step:
                    raise NoImageError(f"The image {name} is not on this host and cannot be pulled: {step['error']}.")
        except (CallRefusedError, ContainerGoneError, DockerUnreachableError) as error:
            raise NoImageError(f"The image {name} is not on this host and cannot be pulled: {error.message}") from None
        except (DockerException, requests.RequestException) as error:
            raise NoImageError(f"The image {name} is not on this host and cannot be pulled: {error}.") from None

    def create_throwaway(self, spec: Throwaway) -> str:
        """Make a container that writes nowhere but into memory, and prove it before it runs; returns its id.

        Its output goes nowhere: PostgreSQL's messages quote rows, and the engine's log of them is a file.

        Raises ThrowawayError when the engine would have given it a place on a disk, or cannot make it.
        """
        settings = self._api.create_host_config(
            auto_remove=True,
            cap_drop=["ALL"],
            # What an entry point needs that begins as root and goes on as postgres.
            cap_add=["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
            init=True,
            log_config=docker.types.LogConfig(type="none"),
            mem_limit=spec.memory_bytes,
            memswap_limit=spec.memory_bytes,
            network_mode="none",
            read_only=True,
            security_opt=["no-new-privileges"],
            shm_size=SHARED_MEMORY_BYTES,
            # The sticky bit and everybody's right to write: images run as root or as anybody else.
            tmpfs={path: f"rw,noexec,nosuid,nodev,mode=1777,size={size}" for path, size in sorted(spec.tmpfs.items())},
            ulimits=[docker.types.Ulimit(name="core", soft=0, hard=0)],
        )

        def create() -> str:
            # Nothing in it is worth an orderly end. These options both coreutils' timeout and busybox' know.
            created = self._api.create_container(
                spec.image.id,
                name=spec.name,
                entrypoint=["timeout", "-s", "KILL", str(spec.life_seconds), *spec.image.entrypoint],
                command=[*spec.image.command, *spec.arguments],
                environment=dict(spec.environment),
                labels=dict(spec.labels),
                host_config=settings,
            )
            return str(created["Id"])

        container = of_throwaway(create, "made")
        try:
            if reason := place_on_disk(self.inspect(container), host_memory()):
                raise ThrowawayError(f"{spec.name} was not started: {reason}.")
        except BaseException:
            self.remove_container(container)
            raise
        return container

    def start_throwaway(self, container: str) -> ContainerOutput:
        """Start a container that was made so, and listen to what it says.

        Raises ThrowawayError when it cannot be started.
        """

        def start() -> ContainerOutput:
            streams = {"stdout": 1, "stderr": 1, "stream": 1}
            output = ContainerOutput(self._api.attach_socket(container, params=streams))
            self._api.start(container)
            return output

        return of_throwaway(start, "started")

    def remove_container(self, container: str) -> None:
        """Remove a container, running or not, with its anonymous volumes, and see that it is gone; none is fine too.

        Raises DockerUnreachableError when it is still there a minute later.
        """
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while True:
            try:
                translate(lambda: self._api.remove_container(container, force=True, v=True), container)
                self.inspect(container)
            except ContainerGoneError:
                return
            except ContainerStoppedError:
                pass  # A conflict: it is being removed already.
            if time.monotonic() > deadline:
                raise DockerUnreachableError(f"The Docker Engine does not remove {container}.")
            time.sleep(0.1)


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
    return f"The Docker Engine does not answer through the socket proxy at {address}; does the proxy run? ({why_silent(error)})"
