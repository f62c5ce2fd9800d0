# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine of this host, through the Docker SDK for Python.

Facts that shape this file:

* An exec without a terminal multiplexes its output: frames of an 8-byte header (stream, three zero bytes,
  big-endian length) and that many bytes (Docker Engine API, "Attach to a container", stream format).
* An exec's output can end while the exec still runs, or because the connection was cut: only an inspection
  that says ``Running: false`` tells its exit code.
* Ending the connection does not end the process in the container.
* A volume that an image declares becomes an anonymous volume, which lies on a disk, unless the container's
  settings mount something else there.
* When a container is stopped under an exec, the engine (20.10) now and then never ends the exec's stream: who
  only waits for its end waits for ever. So a silent stream is asked after.
* Between the agent and the engine stands a proxy (socket-proxy/), which refuses what the agent need not do.
"""

from __future__ import annotations

import io
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.utils.socket import SocketError, frames_iter

from scalr_backup.core.endings import Command, condition, ending
from scalr_backup.core.errors import (
    CallRefusedError,
    CommandLostError,
    ContainerGoneError,
    ContainerStoppedError,
    DockerUnreachableError,
    DrillRefusedError,
    NoImageError,
    ScalrBackupError,
    SilentCommandError,
    ThrowawayError,
)
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

# Seconds that the engine may take to remove a container that it is removing already.
_REMOVAL_SECONDS = 60.0
# What processes of a server may share, in memory too; the engine's own 64 MiB are little for parallel index builds.
_SHARED_MEMORY_BYTES = 256 * 1024 * 1024
_MEMORY_FACTS = Path("/proc/meminfo")

# Seconds that the socket proxy may take to be there: it and the agent start together with the engine.
_PROXY_SECONDS = 15.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class ExecResult:
    """How a command in a container ended."""

    exit_code: int
    stdout: bytes = field(repr=False)
    stderr: str


@dataclass(frozen=True)
class Image:
    """What an image says of itself and a container of it has to know."""

    id: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    volumes: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class HostMemory:
    """The host's memory: what is available without swapping, and its swap; bytes."""

    available_bytes: int
    swap_bytes: int


@dataclass(frozen=True)
class Throwaway:
    """A container that lives in memory only, has no network, and is gone when it stops; sizes in bytes.

    *tmpfs* are the only places that it can write to, each with its size; *life_seconds* bound its life, whatever
    becomes of who made it.
    """

    name: str
    image: Image
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    labels: Mapping[str, str]
    tmpfs: Mapping[str, int]
    memory_bytes: int
    life_seconds: int


def _nothing() -> None:
    """Do nothing while something is waited for."""


class ExecStream:
    """A running command in a container: its standard input, its output in frames, its exit code."""

    def __init__(
        self, api: docker.APIClient, exec_id: str, connection: Any, silence_seconds: float, command: Command
    ) -> None:
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
                raise self._broke(error) from None
            if not received:
                break
            pending += received
            yield from _complete_frames(pending)
        if pending:
            raise DockerUnreachableError(
                f"The connection to the Docker Engine broke in the middle of what {self.command} said."
            )

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
            return dict(_translate(lambda: self._api.exec_inspect(self.exec_id), self.command.container))
        except ContainerGoneError:
            found = condition(_document(self._api, self.command.container))
            raise CommandLostError(
                f"{self.command} came to no end: its container was stopped under it; {found}."
            ) from None

    def how_it_ended(self, said: str) -> str:
        """A sentence on how the command ended, after its output has; *said* is what it said on its standard error."""
        try:
            return ending(self.command, self.wait(), said, lambda: _document(self._api, self.command.container))
        except ScalrBackupError as error:
            return error.message

    def condition(self) -> str:
        """What the engine says of the command's container."""
        return condition(_document(self._api, self.command.container))

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
            state = self._inspect()
            if not state["Running"] and state["ExitCode"] is not None:
                return int(state["ExitCode"])
            if time.monotonic() > deadline:
                raise DockerUnreachableError(
                    f"The output of {self.command} ended and it still runs: the stream was cut."
                )
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
            raise SilentCommandError(
                f"{self._stream.command} has {self._missing} nothing for {self._stream.silence_seconds:.0f} s."
            )
        if now - self._asked < _ASK_SECONDS:
            return
        self._asked = now
        if self._ended:
            raise CommandLostError(
                f"{self._stream.command} has ended and its output has not: its container was stopped; "
                f"{self._stream.condition()}."
            )
        # Its last words may still be on their way: they have until the next time.
        self._ended = not self._stream.running()


class DockerHost:
    """The Docker Engine of this host."""

    def __init__(self, timeout_seconds: int = 60) -> None:
        self._api = _connect(os.environ.get("DOCKER_HOST"), timeout_seconds)

    def containers(self) -> list[dict[str, Any]]:
        """A summary of every container, running or not, as ``GET /containers/json`` gives it."""
        return list(_translate(lambda: self._api.containers(all=True), "the list of containers"))

    def inspect(self, container: str) -> dict[str, Any]:
        """The inspect document of a container.

        Raises ContainerGoneError when there is none of that name.
        """
        return dict(_translate(lambda: self._api.inspect_container(container), container))

    def how_it_ended(self, container: str, program: str, result: ExecResult) -> str:
        """A sentence on how a command that was ``run`` has ended."""
        command = Command(program, container)
        return ending(command, result.exit_code, result.stderr, lambda: _document(self._api, container))

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

        return _translate(start, container)

    def run(
        self,
        container: str,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        stdin: bytes | None = None,
        silence_seconds: float = 300.0,
        waiting: Callable[[], None] = _nothing,
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
            document = _translate(lambda: self._inspect_image(reference), reference)
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
            for step in _translate(lambda: self._api.pull(reference, stream=True, decode=True), name):
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
            shm_size=_SHARED_MEMORY_BYTES,
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

        container = _of_throwaway(create, "made")
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

        return _of_throwaway(start, "started")

    def remove_container(self, container: str) -> None:
        """Remove a container, running or not, with its anonymous volumes, and see that it is gone; none is fine too.

        Raises DockerUnreachableError when it is still there a minute later.
        """
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while True:
            try:
                _translate(lambda: self._api.remove_container(container, force=True, v=True), container)
                self.inspect(container)
            except ContainerGoneError:
                return
            except ContainerStoppedError:
                pass  # A conflict: it is being removed already.
            if time.monotonic() > deadline:
                raise DockerUnreachableError(f"The Docker Engine does not remove {container}.")
            time.sleep(0.1)


class ContainerOutput:
    """The end of what a container says, listened to for as long as it runs; nothing of it is kept on a disk."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._tail = MessageTail()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def last_lines(self, count: int = 3) -> str:
        """Its last lines, in one."""
        self.wait()
        return " ".join(line.strip() for line in self._tail.text.splitlines()[-count:]) or "it said nothing"

    def wait(self, seconds: float = 1.0) -> None:
        """Give its last words a little time to arrive; the connection of a container that has ended is closed then."""
        self._thread.join(seconds)

    def _listen(self) -> None:
        try:
            for _kind, data in frames_iter(self._connection, tty=False):  # type: ignore[no-untyped-call]
                self._tail.add(data)
        except (OSError, ValueError, SocketError):
            pass  # What was heard until then has to do.
        finally:
            self._connection._response.close()  # noqa: SLF001 (where the SDK keeps it)


def host_memory() -> HostMemory:
    """The memory of the host; a container reads the same numbers as its host does."""
    facts = dict(line.split(":", 1) for line in _MEMORY_FACTS.read_text(encoding="ascii").splitlines())

    def size(name: str) -> int:
        return int(facts.get(name, "0 kB").split()[0]) * 1024

    return HostMemory(size("MemAvailable"), size("SwapTotal"))


def place_on_disk(document: Mapping[str, Any], memory: HostMemory) -> str | None:
    """Why a container that was made and does not run yet is no throwaway one, by its inspect document; else None."""
    settings = document["HostConfig"]
    on_disk = "and its rows would lie on a disk"
    faults = [
        (mount["Type"] != "tmpfs", f"the engine gave it a {mount['Type']} at {mount['Destination']}, {on_disk}")
        for mount in document.get("Mounts") or ()
    ]
    faults += [
        (not settings.get("ReadonlyRootfs"), f"its root file system is not read-only, {on_disk}"),
        (
            (settings.get("LogConfig") or {}).get("Type") != "none",
            "the engine keeps its log in a file, and PostgreSQL's messages quote rows",
        ),
        (settings.get("NetworkMode") != "none", "it would have a network"),
        (not settings.get("Memory"), "the engine does not limit its memory"),
        (
            memory.swap_bytes > 0 and settings.get("MemorySwap") != settings.get("Memory"),
            f"this host swaps and its kernel cannot keep a container out of the swap, {on_disk}",
        ),
    ]
    return next((sentence for is_so, sentence in faults if is_so), None)


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


def _document(api: docker.APIClient, container: str) -> dict[str, Any] | None:
    """The inspect document of a container; None when there is none, empty when the engine does not tell."""
    try:
        return dict(_translate(lambda: api.inspect_container(container), container))
    except ContainerGoneError:
        return None
    except ScalrBackupError:
        return {}


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


def _of_throwaway(call: Callable[[], Result], what: str) -> Result:
    """Have a container made or started; an engine that answers and does not has its reasons, and says them.

    Raises ThrowawayError, or DockerUnreachableError when nobody answers.
    """
    try:
        return call()
    except APIError as error:
        reason = str(error.explanation or error).rstrip(".")
        raise ThrowawayError(f"The throwaway container cannot be {what}: the Docker Engine says: {reason}.") from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise DockerUnreachableError(f"The Docker Engine does not answer: {error}.") from None


def _translate(call: Callable[[], Result], subject: str) -> Result:
    """Call the SDK and turn its many exceptions into ours."""
    try:
        return call()
    except NotFound:
        raise ContainerGoneError(f"The container {subject} is gone.") from None
    except APIError as error:
        if error.status_code == requests.codes.conflict:
            raise ContainerStoppedError(f"The container {subject} does not run; start it first.") from None
        if error.status_code == requests.codes.forbidden:
            raise CallRefusedError(_refusal(error)) from None
        raise DockerUnreachableError(f"The Docker Engine refused: {_refusal(error)}.") from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise DockerUnreachableError(f"The Docker Engine does not answer: {why_silent(error)}.") from None


def _refusal(error: APIError) -> str:
    """The engine's own words, in one line; without any, its number for them."""
    return " ".join(str(error.explanation or f"status {error.status_code}").split())
