# SPDX-License-Identifier: GPL-3.0-or-later
"""The signals that tell a process to end, noted from its very first moment.

What takes time to import comes after this: a verb that is told to end before it has begun still prints its result line.
Whoever starts the process may hold the signals back until then (``env --block-signal``, or ``held_back``).
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# Set once the process has been told to end.
told = threading.Event()


def _note(_number: int, _frame: FrameType | None) -> None:
    told.set()


def _note_and_leave(number: int, _frame: FrameType | None) -> None:
    # Ctrl-C answers a question with no; the others mean the whole run as well.
    if number != signal.SIGINT:
        told.set()
    raise KeyboardInterrupt


def listen() -> threading.Event:
    """Note the signals from now on, those too that were held back; the event is set by the first of them."""
    for number in SIGNALS:
        signal.signal(number, _note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return told


@contextmanager
def held_back() -> Iterator[None]:
    """Whoever is started meanwhile finds the signals that it is sent when it listens, and not before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def leaving_a_question() -> Iterator[None]:
    """While a person is asked, a signal raises KeyboardInterrupt: the question ends, and the answer is no."""
    before: dict[signal.Signals, Any] = {number: signal.signal(number, _note_and_leave) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_standard_input() -> str:
    """All of standard input, or what has arrived when the process is told to end."""
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError):
        return sys.stdin.read()
    received = bytearray()
    while not told.is_set():
        if not select.select([descriptor], [], [], 0.5)[0]:
            continue
        data = os.read(descriptor, 1 << 16)
        if not data:
            break
        received += data
    return received.decode("utf-8", "surrogateescape")
