# SPDX-License-Identifier: GPL-3.0-or-later
"""The server of one drill: a container that is started, asked until it answers, and removed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from scalr_backup.actions.drill.plan import USER, by_hand
from scalr_backup.core.errors import (
    ContainerGoneError,
    ContainerStoppedError,
    DockerUnreachableError,
    InterruptedRunError,
    NoMemoryError,
    ScalrBackupError,
    ThrowawayError,
)
from scalr_backup.core.model import Credentials
from scalr_backup.core.units import human_bytes
from scalr_backup.tools.docker.throwaway import ContainerOutput, Throwaway
from scalr_backup.tools.docker.throwaways import Throwaways
from scalr_backup.tools.postgres.cluster import Postgres

_START_SECONDS, _AGAIN_SECONDS = 600.0, 0.2
# How many processes of a container were killed because its memory was used up: control groups of the second and of the first
# version (Linux kernel documentation, cgroup-v2 "memory.events", cgroup-v1 "memory.oom_control").
_MEMORY_EVENTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
_KILLED = re.compile(rb"^oom_kill (\d{1,18})$", re.MULTILINE)


class ThrowawayServer:
    """A PostgreSQL server in memory, of one image."""

    def __init__(
        self, docker: Throwaways, spec: Throwaway, password: str, application: str, waiting: Callable[[], None]
    ) -> None:
        """*application* is the name of the sessions in it; *waiting* is called while it starts, and may raise."""
        self._docker = docker
        self._spec = spec
        self._postgres = Postgres(docker, spec.name, Credentials(USER, password), application)
        self._waiting = waiting
        self._output: ContainerOutput | None = None

    def start(self) -> Postgres:
        """Start it as its image does, and where that fails, without the image's entry point; it answers then.

        Raises ThrowawayError with what the image's own way has said.
        """
        try:
            return self._start(self._spec)
        except ThrowawayError as error:
            self.remove()
            try:
                return self._start(by_hand(self._spec))
            except ThrowawayError:
                raise error from None

    def remove(self) -> None:
        """Remove it, whether or not it runs; none is fine too.

        Raises DockerUnreachableError when it is still there a minute later.
        """
        try:
            self._docker.remove_container(self._spec.name)
        finally:
            if self._output is not None:
                self._output.wait()

    @contextmanager
    def memory_watched(self) -> Iterator[None]:
        """What fails in a server that the kernel has killed a process of for lack of memory says nothing about the backup.

        A value of many megabytes takes several times its size while it is loaded, and the live server may have that.

        Raises NoMemoryError.
        """
        try:
            yield
        except InterruptedRunError:
            raise
        except ScalrBackupError as error:
            if not self._was_short_of_memory():
                raise
            limit = human_bytes(self._spec.memory_bytes)
            raise NoMemoryError(
                f"The throwaway server needed more than the {limit} of memory that a drill gives it: {error.message}"
            ) from None

    def _was_short_of_memory(self) -> bool:
        """The kernel counts it; the engine itself only knows of the container's first process."""
        with suppress(ScalrBackupError):
            told = self._docker.run(self._spec.name, ["cat", *_MEMORY_EVENTS])
            return any(int(killed) for killed in _KILLED.findall(told.stdout))
        return False

    def _start(self, spec: Throwaway) -> Postgres:
        container = self._docker.create_throwaway(spec)
        self._output = self._docker.start_throwaway(container)
        self._wait(self._output)
        return self._postgres

    def _wait(self, output: ContainerOutput) -> None:
        deadline = time.monotonic() + _START_SECONDS
        try:
            while not self._answers():
                self._waiting()
                if time.monotonic() > deadline:
                    raise ThrowawayError(
                        f"The drill's server did not answer within {_START_SECONDS:.0f} s: {output.last_lines()}"
                    )
                time.sleep(_AGAIN_SECONDS)
        except (ContainerGoneError, ContainerStoppedError):
            raise ThrowawayError(f"The drill's server ended before it answered: {output.last_lines()}") from None

    def _answers(self) -> bool:
        try:
            return self._postgres.answers_over_tcp()
        except DockerUnreachableError:
            # The engine has many words for an exec into a container that ends at this moment.
            if not self._docker.inspect(self._spec.name)["State"]["Running"]:
                raise ContainerStoppedError(f"{self._spec.name} has ended.") from None
            return False
