# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that runs in a container: its standard input, its output in frames, its end.

Facts that shape this file:

* An exec without a terminal multiplexes its output: frames of an 8-byte header (stream, three zero bytes,
  big-endian length) and that many bytes (Docker Engine API, "Attach to a container", stream format).
* An exec's output can end while the exec still runs, or because the connection was cut: only an inspection
  that says ``Running: false`` tells its exit code.
* Ending the connection does not end the process in the container.
* A program that ends before it has read its input takes its last words with it: whoever still writes has the connection
  reset, and what was on its way to us is lost, through the socket proxy more often than not. So a shell can stay behind,
  which says that the program has ended, and reads the rest.
* When a container is stopped under an exec, the engine (20.10) now and then never ends the exec's stream: who
  only waits for its end waits for ever. So a silent stream is asked after.
"""

from __future__ import annotations

import io
import select
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any

import docker

from scalr_backup.core.endings import Command, condition, ending
from scalr_backup.core.errors import (
    CommandLostError,
    ContainerGoneError,
    DockerUnreachableError,
    LateAnswerError,
    ScalrBackupError,
    SilentCommandError,
)
from scalr_backup.tools.docker.answers import document_of, translate
from scalr_backup.tools.docker.silence import why_silent

STDOUT, STDERR = 1, 2

_HEADER = struct.Struct(">BxxxL")
_READ_BYTES = 1 << 18
# Seconds that the engine may take to notice that a process whose output ended has ended too.
_EXIT_SECONDS = 60.0
# Seconds of silence after which the engine is asked whether the command still runs.
_ASK_SECONDS = 10.0
# Standard error is kept for messages only: its last bytes say what went wrong.
_MESSAGE_BYTES = 64 * 1024


@dataclass(frozen=True)
class ExecResult:
    """How a command in a container ended."""

    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: str


def nothing() -> None:
    """Do nothing while something is waited for."""


def outlived(argv: Sequence[str], mark: str) -> list[str]:
    """A command with a shell that outlives it: it prints the *mark*, reads what is left of the input, and ends as the command did.

    Its name is one that the end of a run's leftovers knows.
    """
    script = 'mark="$1"; shift; "$@"; code=$?; echo "$mark"; cat > /dev/null; exit "$code"'
    return ["sh", "-c", script, "scalr-backup-watch", mark, *argv]


class ExecStream:
    """A running command in a container: its standard input, its output in frames, its exit code."""

    def __init__(
        self,
        api: docker.APIClient,
        exec_id: str,
        connection: Any,
        silence_seconds: float,
        command: Command,
        mark: str = "",
        token: str = "",
    ) -> None:
        """*mark* is what the shell prints that outlives the command, where there is one; *token* is in its environment."""
        self.token = token
        self._mark = f"{mark}\n".encode() if mark else b""
        self._ended = False
        self.exec_id = exec_id
        self.command = command
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

    def frames(self, waiting: Callable[[], None] = nothing) -> Iterator[tuple[int, bytes]]:
        """Yield what ``_frames`` does, without the mark of a shell that outlives the command."""
        if not self._mark:
            yield from self._frames(waiting)
            return
        held = b""
        for kind, data in self._frames(waiting):
            if kind != STDOUT:
                yield kind, data
                continue
            held += data
            if held.endswith(self._mark):
                held = held.removesuffix(self._mark)
                self._ended = True
            # The mark may come in pieces.
            ready = held if self._ended else held[: -len(self._mark)]
            held = held[len(ready) :]
            if ready:
                yield STDOUT, ready
            if self._ended:
                self._let_go()
        if held:
            yield STDOUT, held

    def _let_go(self) -> None:
        """Let the shell that outlives the command see that nothing more comes."""
        with suppress(OSError):
            self.end_input()

    def _frames(self, waiting: Callable[[], None] = nothing) -> Iterator[tuple[int, bytes]]:
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
                raise self._broke(error) from None
            if not received:
                break
            pending += received
            yield from _complete_frames(pending)
        if pending:
            raise DockerUnreachableError(
                f"The connection to the Docker Engine broke in the middle of the output of {self.command}."
            )

    def write(self, data: bytes | memoryview, waiting: Callable[[], None] = nothing) -> None:
        """Send bytes to the command's standard input; *waiting* is called every half second that it does not read.

        Raises BrokenPipeError when the command does not read any more, DockerUnreachableError when it reads
        nothing for too long or has ended without the stream's end, and whatever *waiting* raises.
        """
        view, silence = memoryview(data), _Silence(self, "read")
        while view:
            if self._ended:
                raise BrokenPipeError
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
            raise self._broke(error) from None
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
            raise self._broke(error) from None

    def _broke(self, error: Exception) -> DockerUnreachableError:
        return DockerUnreachableError(
            f"The connection to the Docker Engine broke while {self.command} ran: {why_silent(error)}."
        )

    def end_input(self) -> None:
        """Let the command see the end of its standard input."""
        self._socket.shutdown(socket.SHUT_WR)

    def running(self) -> bool:
        """Whether the engine says that the command runs.

        Raises ContainerGoneError, CommandLostError or DockerUnreachableError.
        """
        return bool(self._inspect()["Running"])

    def _inspect(self) -> dict[str, Any]:
        """What the engine says of the command, which it forgets when its container restarts.

        Raises ContainerGoneError, CommandLostError or DockerUnreachableError.
        """
        try:
            return dict(translate(lambda: self._api.exec_inspect(self.exec_id), self.command.container))
        except ContainerGoneError:
            found = condition(document_of(self._api, self.command.reference))
            raise CommandLostError(
                f"{self.command} did not finish, because its container was stopped: {found}."
            ) from None

    def how_it_ended(self, said: str, known: Collection[str] | None = None) -> str:
        """A sentence on how the command ended, after its output has; *said* is what it said on its standard error.

        Where it worked on rows, *known* are the words that are none of a row's.

        Raises LateAnswerError when it has not.
        """
        try:
            look = partial(document_of, self._api, self.command.reference)
            return ending(self.command, self.wait(), said, look, known)
        except LateAnswerError:
            raise
        except ScalrBackupError as error:
            return error.message

    def condition(self) -> str:
        """What the engine says of the command's container."""
        return condition(document_of(self._api, self.command.reference))

    @property
    def silence_seconds(self) -> float:
        """How long the command may neither read nor say anything."""
        return self._silence_seconds

    def wait(self) -> int:
        """The exit code, once the engine says that the command does not run any more.

        Raises LateAnswerError when it still runs a minute after its output ended: then the stream was cut, or the command has
        closed it, and the output is not whole.
        """
        deadline = time.monotonic() + _EXIT_SECONDS
        while True:
            state = self._inspect()
            if not state["Running"] and state["ExitCode"] is not None:
                return int(state["ExitCode"])
            if time.monotonic() > deadline:
                raise LateAnswerError(f"The output of {self.command} was cut off while it was still running.")
            time.sleep(0.05)

    def close(self) -> None:
        """Drop the connection; a command that still runs is not ended by it.

        Shut down first: another thread that waits for output holds the reader, and closing would wait for it.
        """
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._response.close()


class _Silence:
    """A time in which a command does nothing: it may be working, or gone for good."""

    def __init__(self, stream: ExecStream, missing: str) -> None:
        self._stream = stream
        self._missing = missing
        self._began = self._asked = time.monotonic()
        self._ended = False

    def goes_on(self) -> None:
        """Raise DockerUnreachableError once nothing more can come."""
        now = time.monotonic()
        if now - self._began > self._stream.silence_seconds:
            raise SilentCommandError(
                f"{self._stream.command} has {self._missing} nothing for {self._stream.silence_seconds:.0f} s."
            )
        if now - self._asked < _ASK_SECONDS:
            return
        self._asked = now
        if self._ended:
            raise CommandLostError(
                f"{self._stream.command} has ended but its output has not, because its container was stopped: "
                f"{self._stream.condition()}."
            )
        # Its last words may still be on their way: they have until the next time.
        self._ended = not self._stream.running()


class MessageTail:
    """The end of a command's standard error, at most so many bytes of it."""

    def __init__(self, most_bytes: int = _MESSAGE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._tail = bytearray()

    def add(self, data: bytes) -> None:
        """Keep these bytes and forget the oldest."""
        self._tail += data
        del self._tail[: -self._most_bytes]

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
