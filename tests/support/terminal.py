"""A command on a terminal of its own, as somebody who sits before it has it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ROWS = 50
# Who sits there reads to the end of the question first.
_SILENCE_SECONDS = 1
# Ansible, and a container's terminal, take each key as it is pressed; what was typed before they do, they discard, after the
# terminal has shown it. Who takes whole lines discards none, and is waited for no longer.
_NO_KEYS_SECONDS = 30
# What does not show is typed again.
_TYPED_AGAIN_SECONDS = 5


@dataclass
class Answer:
    """What is typed once a prompt has appeared, however the terminal folds it."""

    prompt: str
    typed: str


def on_terminal(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    answer: Answer | None = None,
    columns: int = 250,
    seconds: float = 300,
) -> tuple[int, str]:
    """Run a command on a terminal of so many columns; its exit code, and all that it showed, colours too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=dict(environment),
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = _Conversation(ours, answer, seconds).hold()
        ended = process.wait(seconds)
    finally:
        os.close(ours)  # Whoever still runs is told that nobody sits there any more.
        process.terminate()
        process.wait()
    return ended, re.sub("\r+\n", "\n", shown)


class _Conversation:
    """Everything that a terminal shows until its end; the answer is typed once it is asked for."""

    def __init__(self, terminal: int, answer: Answer | None, seconds: float) -> None:
        self._terminal = terminal
        self._answer = answer
        self._deadline = time.monotonic() + seconds
        self._read = b""
        self._read_at = time.monotonic()
        self._read_before = 0
        # When the terminal was last seen to gather lines.
        self._lines_at = 0.0
        self._typed_at: float | None = None

    def hold(self) -> str:
        while True:
            assert time.monotonic() < self._deadline, f"not at its end in time:\n{self._read.decode()}"
            if select.select([self._terminal], [], [], 0.5)[0]:
                try:
                    chunk = os.read(self._terminal, 65536)
                except OSError:  # Linux's way to say that nobody has the other end open
                    chunk = b""
                if not chunk:
                    break
                self._read += chunk
                self._read_at = time.monotonic()
            if self._answer:
                self._type(self._answer)
        assert not self._answer or self._typed_at, f"it never asked {self._answer}:\n{self._read.decode()}"
        return self._read.decode()

    def _type(self, answer: Answer) -> None:
        now = time.monotonic()
        if self._typed_at is None:
            if not self._takes_keys():
                self._lines_at = now
            quiet = (
                now > max(self._read_at, self._lines_at) + _SILENCE_SECONDS or now > self._read_at + _NO_KEYS_SECONDS
            )
            is_time = answer.prompt.encode() in b" ".join(self._read.split()) and quiet
        else:
            is_time = not self._is_heard() and now > self._typed_at + _TYPED_AGAIN_SECONDS
        if is_time:
            self._read_before = len(self._read)
            os.write(self._terminal, answer.typed.encode() + b"\r")
            self._typed_at = time.monotonic()

    def _takes_keys(self) -> bool:
        """Whether whoever has the terminal reads key by key, and so is listening."""
        return not termios.tcgetattr(self._terminal)[3] & termios.ICANON

    def _is_heard(self) -> bool:
        """Whether anything has come since it was typed: an echo, or the next thing."""
        return len(self._read) > self._read_before


def plain(shown: str) -> list[str]:
    """The lines of what is shown, without their colours."""
    return [line.rstrip() for line in ESCAPES.sub("", shown).replace("\r", "\n").strip().splitlines()]
