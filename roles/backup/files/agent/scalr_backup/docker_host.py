# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine of this host, through the Docker SDK for Python.

Facts that shape this file:

* An exec without a terminal multiplexes its output: frames of an 8-byte header (stream, three zero bytes,
  big-endian length) and that many bytes (Docker Engine API, "Attach to a container", stream format).
* An exec's output can end while the exec still runs, or because the connection was cut: only an inspection
  that says ``Running: false`` tells its exit code.
* Ending the connection does not end the process in the container.
* When a container is stopped under an exec, the engine (20.10) now and then never ends the exec's stream: who
  only waits for its end waits for ever. So a silent stream is asked after.
"""

from __future__ import annotations

import io
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from scalr_backup.errors import ContainerGoneError, ContainerStoppedError, DockerUnreachableError

STDOUT, STDERR = 1, 2

_HEADER = struct.Struct(">BxxxL")
_READ_BYTES = 1 << 18
# Seconds that the engine may take to notice that a process whose output ended has ended too.
_EXIT_SECONDS = 60.0
# Seconds of silence after which the engine is asked whether the command still runs.
_ASK_SECONDS = 10.0
# Standard error is kept for messages only: its last bytes say what went wrong.
_MESSAGE_BYTES = 64 * 1024

Result = TypeVar("Result")


@dataclass(frozen=True)
class ExecResult:
    """How a command in a container ended."""

    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: str


def _nothing() -> None:
    """Do nothing while something is waited for."""


class ExecStream:
    """A running command in a container: its standard input, its output in frames, its exit code."""

    def __init__(self, api: docker.APIClient, exec_id: str, connection: Any, silence_seconds: float) -> None:
        self.exec_id = exec_id
        self._api = api
        # The SDK hands out the response's raw socket. Bytes that arrived together with the response's headers
        # are in the buffered reader above it, so reading goes through that reader and loses none.
        self._response = connection._response  # noqa: SLF001 (where the SDK keeps it)
        self._reader: io.BufferedReader = self._response.raw._fp.fp  # noqa: SLF001 (as the SDK itself does)
        self._socket: socket.socket = getattr(connection, "_sock", connection)
        self._silence_seconds = silence_seconds
        self._make_patient()

    def __enter__(self) -> ExecStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def frames(self, waiting: Callable[[], None] = _nothing) -> Iterator[tuple[int, bytes]]:
        """Yield (stream, bytes) until the output ends; *waiting* is called every half second that nothing comes.

        Raises whatever *waiting* raises; DockerUnreachableError when the connection breaks within a frame, is silent for too long, or stays
        open although the command has ended; ContainerGoneError when there is no such container any more.
        """
        pending = bytearray()
        buffered = self._has_buffered()
        while True:
            if not buffered:
                self._wait_for_output(waiting)
            buffered = False
            try:
                received = self._reader.read1(_READ_BYTES)
            except OSError as error:
                raise DockerUnreachableError(f"The connection to the Docker Engine broke: {error}.") from None
            if not received:
                break
            pending += received
            yield from _complete_frames(pending)
        if pending:
            raise DockerUnreachableError("The connection to the Docker Engine broke within a frame.")

    def write(self, data: bytes | memoryview, waiting: Callable[[], None] = _nothing) -> None:
        """Send bytes to the command's standard input; *waiting* is called every half second that it does not read.

        Raises BrokenPipeError when the command does not read any more, DockerUnreachableError when it reads
        nothing for too long or has ended without the stream's end, and whatever *waiting* raises.
        """
        view, silence = memoryview(data), _Silence(self, "read")
        while view:
            if select.select([], [self._socket], [], 0.5)[1]:
                view, silence = view[self._socket.send(view) :], _Silence(self, "read")
                continue
            waiting()
            silence.goes_on()

    def _has_buffered(self) -> bool:
        """Whether output came together with the response's headers; later reads leave nothing in the buffer."""
        self._socket.setblocking(False)
        try:
            return bool(self._reader.peek())
        except OSError as error:
            raise DockerUnreachableError(f"The connection to the Docker Engine broke: {error}.") from None
        finally:
            self._make_patient()

    def _make_patient(self) -> None:
        # Not blocking: a blocking send returns only when all of it is sent, which may be never.
        self._socket.settimeout(_EXIT_SECONDS)

    def _wait_for_output(self, waiting: Callable[[], None]) -> None:
        silence = _Silence(self, "said")
        while not self._is_readable():
            waiting()
            silence.goes_on()

    def _is_readable(self) -> bool:
        try:
            return bool(select.select([self._socket], [], [], 0.5)[0])
        except (OSError, ValueError) as error:
            raise DockerUnreachableError(f"The connection to the Docker Engine broke: {error}.") from None

    def end_input(self) -> None:
        """Let the command see the end of its standard input."""
        self._socket.shutdown(socket.SHUT_WR)

    def running(self) -> bool:
        """Whether the engine says that the command runs.

        Raises ContainerGoneError or DockerUnreachableError.
        """
        return bool(_translate(lambda: self._api.exec_inspect(self.exec_id), "of a running command")["Running"])

    @property
    def silence_seconds(self) -> float:
        """How long the command may neither read nor say anything."""
        return self._silence_seconds

    def wait(self) -> int:
        """The exit code, once the engine says that the command does not run any more.

        Raises DockerUnreachableError when it still runs a minute after its output ended: then the stream was
        cut and the output is not whole.
        """
        deadline = time.monotonic() + _EXIT_SECONDS
        while True:
            state = _translate(lambda: self._api.exec_inspect(self.exec_id), "exec")
            if not state["Running"] and state["ExitCode"] is not None:
                return int(state["ExitCode"])
            if time.monotonic() > deadline:
                raise DockerUnreachableError("A command's output ended and the command still runs: the stream was cut.")
            time.sleep(0.05)

    def close(self) -> None:
        """Drop the connection; a command that still runs is not ended by it.

        Shut down first: another thread that waits for output holds the reader, and closing would wait for it.
        """
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._response.close()


class _Silence:
    """A time in which a command does nothing: either it works, or nobody will ever hear of it again."""

    def __init__(self, stream: ExecStream, missing: str) -> None:
        self._stream = stream
        self._missing = missing
        self._began = self._asked = time.monotonic()
        self._ended = False

    def goes_on(self) -> None:
        """Raise DockerUnreachableError once nothing more can come."""
        now = time.monotonic()
        if now - self._began > self._stream.silence_seconds:
            raise DockerUnreachableError(
                f"A command in a container has {self._missing} nothing for {self._stream.silence_seconds:.0f} s."
            )
        if now - self._asked < _ASK_SECONDS:
            return
        self._asked = now
        if self._ended:
            raise DockerUnreachableError("A command has ended and its output has not: its container was stopped.")
        # Its last words may still be on their way: they have until the next time.
        self._ended = not self._stream.running()


class DockerHost:
    """The Docker Engine of this host."""

    def __init__(self, timeout_seconds: int = 60) -> None:
        try:
            self._api = docker.APIClient(
                base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=timeout_seconds
            )
        except (DockerException, requests.RequestException) as error:
            raise DockerUnreachableError(f"The Docker Engine does not answer: {error}.") from None

    def containers(self) -> list[dict[str, Any]]:
        """A summary of every container, running or not, as ``GET /containers/json`` gives it."""
        return list(_translate(lambda: self._api.containers(all=True), "the list of containers"))

    def inspect(self, container: str) -> dict[str, Any]:
        """The inspect document of a container.

        Raises ContainerGoneError when there is none of that name.
        """
        return dict(_translate(lambda: self._api.inspect_container(container), container))

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
            return ExecStream(self._api, created["Id"], connection, silence_seconds)

        return _translate(start, container)

    def run(
        self,
        container: str,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        stdin: bytes | None = None,
        silence_seconds: float = 300.0,
    ) -> ExecResult:
        """Run a command in a container to its end; its input must fit a pipe beside its output.

        Raises what ``start_exec`` raises.
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
            for kind, data in stream.frames():
                if kind == STDOUT:
                    output += data
                else:
                    messages.add(data)
            return ExecResult(stream.wait(), bytes(output), messages.text)


class MessageTail:
    """The end of a command's standard error."""

    def __init__(self) -> None:
        self._tail = bytearray()

    def add(self, data: bytes) -> None:
        """Keep these bytes and forget the oldest."""
        self._tail += data
        del self._tail[:-_MESSAGE_BYTES]

    @property
    def text(self) -> str:
        """What was said, decoded."""
        return self._tail.decode("utf-8", "replace").strip()


def _complete_frames(pending: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the whole frames out of *pending* and leave the rest."""
    position, available = 0, len(pending)
    while available - position >= _HEADER.size:
        kind, length = _HEADER.unpack_from(pending, position)
        end = position + _HEADER.size + length
        if end > available:
            break
        yield kind, bytes(pending[position + _HEADER.size : end])
        position = end
    del pending[:position]


def _translate(call: Callable[[], Result], subject: str) -> Result:
    """Call the SDK and turn its many exceptions into ours."""
    try:
        return call()
    except NotFound:
        raise ContainerGoneError(f"The container {subject} is gone.") from None
    except APIError as error:
        if error.status_code == requests.codes.conflict:
            raise ContainerStoppedError(f"The container {subject} does not run; start it first.") from None
        raise DockerUnreachableError(f"The Docker Engine refused: {error.explanation or error}.") from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise DockerUnreachableError(f"The Docker Engine does not answer: {error}.") from None
