# SPDX-License-Identifier: GPL-3.0-or-later
"""A container that lives in memory and is gone when it stops: what it needs, and what proves it.

A volume that an image declares becomes an anonymous volume, which lies on a disk, unless the container's settings
mount something else there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from docker.errors import APIError, DockerException
from docker.utils.socket import SocketError, frames_iter

from scalr_backup.core.errors import DockerUnreachableError, ThrowawayError
from scalr_backup.tools.docker.answers import Answered
from scalr_backup.tools.docker.exec_stream import MessageTail

# What processes of a server may share, in memory too; the engine's own 64 MiB are little for parallel index builds.
SHARED_MEMORY_BYTES = 256 * 1024 * 1024
# A server and the clients of a restore take some dozens.
PROCESSES = 1024
# The kernel's highest: where the host's memory runs out, it ends a drill before anything else.
FIRST_TO_END = 1000
_MEMORY_FACTS = Path("/proc/meminfo")


@dataclass(frozen=True)
class Image:
    """What an image says of itself and a container of it has to know."""

    id: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    volumes: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    # Whom it runs as, empty for root.
    user: str = ""


@dataclass(frozen=True)
class HostMemory:
    """The host's memory: what is available without swapping, and its swap; bytes."""

    available_bytes: int
    swap_bytes: int


@dataclass(frozen=True)
class Throwaway:
    """A container that lives in memory only, has no network, and is gone when it stops; sizes in bytes.

    *tmpfs* are the only places that it can write to, each with its size; *life_seconds* bound its life, whatever
    becomes of who made it. Without a *user*, it runs as its image says.
    """

    name: str
    image: Image
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    labels: Mapping[str, str]
    tmpfs: Mapping[str, int]
    memory_bytes: int
    life_seconds: int
    user: str | None = None


class ContainerOutput:
    """The tail of a container's output, followed while it runs; nothing of it is written to disk."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._tail = MessageTail()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def last_lines(self, count: int = 3) -> str:
        """Its last lines, in one."""
        self.wait()
        return " ".join(line.strip() for line in self._tail.text.splitlines()[-count:]) or "it printed nothing"

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
    on_disk = "so rows would be written to disk"
    faults = [
        (mount["Type"] != "tmpfs", f"the engine gave it a {mount['Type']} at {mount['Destination']}, {on_disk}")
        for mount in document.get("Mounts") or ()
    ]
    faults += [
        (not settings.get("ReadonlyRootfs"), f"its root file system is not read-only, {on_disk}"),
        (
            (settings.get("LogConfig") or {}).get("Type") != "none",
            "the engine would write its log to a file, and PostgreSQL's messages quote rows",
        ),
        (settings.get("NetworkMode") != "none", "it would be on a network"),
        (not settings.get("Memory"), "the engine does not limit its memory"),
        (
            memory.swap_bytes > 0 and settings.get("MemorySwap") != settings.get("Memory"),
            f"this host swaps and its kernel cannot keep a container out of swap, {on_disk}",
        ),
    ]
    return next((sentence for is_so, sentence in faults if is_so), None)


def of_throwaway(call: Callable[[], Answered], what: str) -> Answered:
    """Have a container made or started; an engine that answers and does not has its reasons, and says them.

    Raises ThrowawayError, or DockerUnreachableError when the engine does not answer.
    """
    try:
        return call()
    except APIError as error:
        reason = str(error.explanation or error).rstrip(".")
        raise ThrowawayError(f"The throwaway container cannot be {what}: {reason}.") from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise DockerUnreachableError(f"The Docker Engine does not answer: {error}.") from None
