# SPDX-License-Identifier: GPL-3.0-or-later
"""The file systems below a database container, through its own ``df``, or ``stat`` where that does not tell.

SQL has no word for the room on a volume. ``df -P`` prints what POSIX says, one file system a line; BusyBox has both
programs as well. A mount whose server is gone lets either wait for ever, so an answer has its time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from scalr_backup.core.errors import LateAnswerError, RoomUnknownError
from scalr_backup.core.room import Place
from scalr_backup.tools.docker.bounds import Bounds
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecStream

# How long df may take: it asks the kernel, which has the answer unless the mount hangs.
ANSWER_SECONDS = 10.0
# A few lines for each tablespace.
_MOST_BYTES = 1024 * 1024

_TELL = """
tell() {
  for place; do
    told=$(df -Pk "$place" 2>/dev/null) && printf '%s\\n' "$told"
    stat -f -c 'stat %i %S %b %f %a' "$place" 2>/dev/null
    echo "--"
  done
}
"""
_LOOK = _TELL + 'tell "$@"'
# One process for a whole restore. It looks whenever it is sent a line, and ends with its input. One whose agent was killed
# waits for a line for ever, as the engine keeps its input open: it is a leftover, known by its name.
WATCH_NAME = "scalr-backup-watch"
# Whoever ends it must not do so while df runs: df would become a child of the container's first process, the postmaster,
# which takes the death of a child that it does not know for a crash. A shell with a trap waits for df first.
_KEEP_LOOKING = _TELL + 'trap "exit 0" TERM; while read -r _line; do tell "$@"; echo "=="; done'
# What decides how much a restore takes, beside the volumes: how many index builds run at once, and the log's size.
_ALSO = 'echo "processors $(nproc 2>/dev/null || echo 1)"; echo "log $(du -sk "$1" 2>/dev/null | tr -dc "0-9\\t" | cut -f 1)"; '

_FIND_DATA = """
for process in /proc/[0-9]*; do
  case "$(tr '\\0' ' ' < "$process/cmdline" 2>/dev/null)" in postgres*|*/postgres*|postmaster*|*/postmaster*) ;; *) continue ;; esac
  place=$(readlink "$process/cwd" 2>/dev/null) && [ -e "$place/PG_VERSION" ] && [ -d "$place/global" ] && echo "$place"
done
:
"""

# As POSIX has it: the device, its size, used and free in KiB, how full, and where it is mounted.
_DF_LINE = re.compile(
    r"^(?P<device>\S.*?)\s+[0-9]{1,18}\s+(?P<used>[0-9]{1,18})\s+(?P<free>[0-9]{1,18})\s+[0-9]{1,18}%\s+(?P<mount>/.*?)\s*$",
    re.MULTILINE,
)
_STAT_LINE = re.compile(
    r"^stat (?P<id>[0-9a-f]+) (?P<block>[0-9]{1,18}) (?P<total>[0-9]{1,18}) (?P<unused>[0-9]{1,18}) (?P<free>[0-9]{1,18})$",
    re.MULTILINE,
)
_NUMBER = re.compile(r"^(processors|log) ([0-9]{1,15})\b", re.MULTILINE)


def look(docker: DockerHost, container: str, directories: Sequence[str]) -> list[Place | None]:
    """The file system of each directory of a container; None when neither program answers.

    Raises RoomUnknownError when the answer does not come, and what keeps the container from answering.
    """
    return read(_run(docker, container, _LOOK, directories), directories)


def survey(
    docker: DockerHost, container: str, log: str, directories: Sequence[str]
) -> tuple[list[Place | None], int, int]:
    """The same, of the log's directory first; then the size of the log that is there, and the number of processors."""
    directories = [log, *directories]
    told = _run(docker, container, _ALSO + _LOOK, directories)
    numbers = {name: int(number) for name, number in _NUMBER.findall(told)}
    return read(told, directories), numbers.get("log", 0) * 1024, max(numbers.get("processors", 1), 1)


def data_directory(docker: DockerHost, container: str) -> str | None:
    """Where the server of a container has its data, by the directory that its processes are in; None when that is hidden.

    A server changes into its data directory and stays there; a user who is no superuser may not be told it in SQL.
    """
    result = docker.run(container, ["sh", "-c", _FIND_DATA], silence_seconds=ANSWER_SECONDS, most_bytes=_MOST_BYTES)
    found = {line for line in result.stdout.decode("utf-8", "replace").splitlines() if line.startswith("/")}
    return found.pop() if len(found) == 1 else None


def _run(docker: DockerHost, container: str, script: str, directories: Sequence[str]) -> str:
    try:
        argv = ["sh", "-c", script, "sh", *directories]
        result = docker.run(container, argv, silence_seconds=ANSWER_SECONDS, most_bytes=_MOST_BYTES)
    except LateAnswerError:
        raise _no_answer(container, directories) from None
    return result.stdout.decode("utf-8", "replace")


class VolumeWatch:
    """Looks at some directories again and again, through one process that ends with its input."""

    def __init__(self, stream: ExecStream, container: str, directories: Sequence[str]) -> None:
        self._stream = stream
        self._container = container
        self._directories = directories
        self._frames = stream.frames()

    def look(self) -> list[Place | None]:
        """What there is now.

        Raises RoomUnknownError when the answer does not come, or a ScalrBackupError when the container is gone.
        """
        told = b""
        bounds = Bounds(f"df in {self._container}", ANSWER_SECONDS, _MOST_BYTES)
        try:
            self._stream.write(b"\n")
            while not told.endswith(b"==\n"):
                kind, data = next(self._frames, (0, b""))
                if kind == 0:
                    raise _no_answer(self._container, self._directories)
                bounds.take(kind, len(data))
                told += data if kind == STDOUT else b""
        except (LateAnswerError, OSError):
            raise _no_answer(self._container, self._directories) from None
        return read(told.decode("utf-8", "replace"), self._directories)


@contextmanager
def watch(
    docker: DockerHost, container: str, directories: Sequence[str], environment: Mapping[str, str]
) -> Iterator[VolumeWatch]:
    """Keep a process in the container that looks at these directories when it is asked to.

    *environment* says whose it is, for cleaning up after a killed run.
    """
    argv = ["sh", "-c", _KEEP_LOOKING, WATCH_NAME, *directories]
    with docker.start_exec(container, argv, environment, stdin=True, silence_seconds=ANSWER_SECONDS) as stream:
        try:
            with docker.ended_if_astray(stream):
                yield VolumeWatch(stream, container, directories)
        finally:
            with suppress(OSError):
                stream.end_input()


def _no_answer(container: str, directories: Sequence[str]) -> RoomUnknownError:
    return RoomUnknownError(
        f"Cannot determine the free space of {container}: df of {', '.join(directories)} did not answer within "
        f"{ANSWER_SECONDS:.0f} s, as happens on a hung mount; check the volume on the host."
    )


def read(told: str, directories: Sequence[str]) -> list[Place | None]:
    """What ``tell`` says of each directory; None where neither program knows."""
    answers = told.split("--\n")
    return [_place(directory, answer) for directory, answer in zip(directories, [*answers, *directories], strict=False)]


def _place(directory: str, told: str) -> Place | None:
    if found := _DF_LINE.search(told):
        free, used = int(found["free"]) * 1024, int(found["used"]) * 1024
        # What is kept for root, or by a quota, is neither free nor used: df's own percentage leaves it out as well.
        return Place(directory, found["device"], found["mount"], free, free + used)
    if found := _STAT_LINE.search(told):
        block, free = int(found["block"]), int(found["free"])
        used = int(found["total"]) - int(found["unused"])
        return Place(directory, f"file system {found['id']}", "", free * block, (free + used) * block)
    return None
