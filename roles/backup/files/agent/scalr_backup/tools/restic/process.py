# SPDX-License-Identifier: GPL-3.0-or-later
"""A running restic: its output as it comes, and its end, at which it removes its lock."""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

from scalr_backup.core.errors import InterruptedRunError, RepositoryUnreachableError, ResticError, UnknownSnapshotError
from scalr_backup.core.model import Saved
from scalr_backup.tools.restic.messages import failure_text

# Seconds between SIGTERM, on which restic removes its lock, and SIGKILL.
_GRACE_SECONDS = 20.0


class DumpStream:
    """The bytes of a file in a snapshot, as restic reads them."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        messages: IO[bytes],
        repository: str,
        stall_seconds: float,
        cancelled: threading.Event,
        failure: Callable[[int, str, str], ResticError],
    ) -> None:
        """*failure* makes the exception for an exit code, of restic's messages and of what it was doing."""
        assert process.stdout is not None
        self._stall_seconds = stall_seconds
        self._cancelled = cancelled
        self._repository = repository
        self._failure = failure
        self._process = process
        self._messages = messages
        self._stdout = process.stdout

    def chunks(self, size: int = 1 << 18) -> Iterator[bytes]:
        """Yield the bytes as they come.

        Raises ResticError after the last one when restic did not end well: then they are not the whole file.
        Raises RepositoryUnreachableError when restic is silent for too long, InterruptedRunError when told to stop.
        """
        descriptor = self._stdout.fileno()
        while True:
            self._await_bytes(descriptor)
            chunk = os.read(descriptor, size)
            if not chunk:
                break
            yield chunk
        exit_code = self._process.wait()
        if exit_code != 0:
            text = read_all(self._messages)
            if "cannot dump" in text or "no matching ID" in text or "not found" in text:
                raise UnknownSnapshotError(f"The snapshot cannot be read: {failure_text(text)}")
            raise self._failure(exit_code, text, "reading a snapshot")

    def _await_bytes(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._stall_seconds
        while not select.select([descriptor], [], [], 0.5)[0]:
            if self._cancelled.is_set():
                raise InterruptedRunError("Told to stop while reading a snapshot.")
            if time.monotonic() > deadline:
                raise RepositoryUnreachableError(
                    f"The repository {self._repository} sent nothing for {self._stall_seconds:.0f} s while reading a "
                    "snapshot; check the network and the store."
                )


class BackupWatch:
    """Follows the JSON lines of ``restic backup``."""

    def __init__(self, on_bytes: Callable[[int], None], wait: Callable[[], None]) -> None:
        """*wait* is called between the lines."""
        self._on_bytes = on_bytes
        self.wait = wait
        self._bytes = -1
        self.moved = time.monotonic()
        self.summary: Saved | None = None

    def add(self, line: bytes) -> None:
        """Take in one line; one that is not JSON is ignored."""
        try:
            document = json.loads(line)
        except ValueError:
            return
        if document.get("message_type") == "status":
            self._progress(int(document.get("bytes_done", 0)))
        elif document.get("message_type") == "summary":
            self.summary = Saved(
                snapshot_id=document.get("snapshot_id", ""),
                bytes_read=int(document.get("total_bytes_processed", 0)),
                bytes_added=int(document.get("data_added", 0)),
                bytes_stored=int(document.get("data_added_packed", 0)),
            )

    def _progress(self, count: int) -> None:
        if count != self._bytes:
            self._bytes, self.moved = count, time.monotonic()
            self._on_bytes(count)


def lines_of(stdout: IO[bytes]) -> Iterator[bytes]:
    """Yield each line as it comes, and an empty one every half second of silence."""
    descriptor, pending = stdout.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout=0.5):
                yield b""
                continue
            data = os.read(descriptor, 1 << 16)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            yield from lines
    yield pending


def end(process: subprocess.Popen[bytes]) -> None:
    """End restic and its producer: SIGTERM, on which restic removes its lock, then SIGKILL."""
    for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        with suppress(ProcessLookupError):
            # Also when restic itself has ended: one that was killed leaves its producer behind.
            os.killpg(process.pid, number)
        if process.poll() is not None:
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


def end_writer(process: subprocess.Popen[bytes]) -> None:
    """End a restic whose output is a pipe of ours.

    One that is blocked in writing heeds no signal, and one whose pipe is closed dies of it and leaves its lock:
    so it is told to stop, and its remaining output is discarded.
    """
    assert process.stdout is not None
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        for _line in lines_of(process.stdout):
            if time.monotonic() > deadline:
                break
    process.stdout.close()
    end(process)


def kept_words() -> IO[bytes]:
    """A file for what restic says, in memory: a full disk would swallow why it has failed."""
    return os.fdopen(os.memfd_create("restic"), "w+b")


def read_all(file: IO[bytes]) -> str:
    """What was written into a file, as text."""
    file.seek(0)
    return file.read().decode("utf-8", "replace")
