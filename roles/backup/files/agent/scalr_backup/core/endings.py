# SPDX-License-Identifier: GPL-3.0-or-later
"""How a program in a container ended, in one sentence: which program, where, by what, and what it said.

A program that is killed says nothing, and its container is often the reason: it was stopped, or ran out of memory. So
where a program's own words do not explain its end, what the engine says of its container follows.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scalr_backup.core.discretion import SEVERITY, error_without_values
from scalr_backup.core.units import printable

# A shell's and an engine's codes: below this one a program chose its code itself; above it, a signal's number is added.
_NOT_STARTED = {126: "could not be executed", 127: "was not found"}
_SIGNALS = 128
# psql's code for a lost connection, whose reason only the server knows.
_CONNECTION_LOST = 2
# A sentence for people has no more of them; a program in a container may print what it likes.
MOST_WORDS = 2000
# A message of a client program begins with its name, such as: pg_restore: error: …, or psql:<stdin>:1: ERROR:  …
_OF_PROGRAM = re.compile(r"[^\s:]+(?::<\w+>:\d+)?: (?! )")


@dataclass(frozen=True)
class Command:
    """A program that runs in a container."""

    program: str
    container: str
    # What the engine calls the container, where that is another name.
    called: str = ""

    @property
    def reference(self) -> str:
        """What the engine is asked about."""
        return self.called or self.container

    def __str__(self) -> str:
        return f"{self.program} in {self.container}"


def last_words(stderr: str, known: Collection[str] | None = None) -> str:
    """What a client program says went wrong: its error lines, else its last line; empty where it says nothing.

    Where rows were worked on, *known* are the words that are none of a row's: only these, and PostgreSQL's own, are kept of
    what the server said.
    """
    lines = list(_heads(stderr))
    errors = [line for line in lines if re.search(r"\b(error|FATAL|ERROR|PANIC)\b:", line)]
    told = errors[:3] or lines[-1:]
    if known is not None:
        told = [error_without_values(line, known) or line for line in told]
    return printable(" ".join(told)[:MOST_WORDS])


def _heads(stderr: str) -> Iterator[str]:
    """The lines that begin a message: what follows in the fields of a server's error (DETAIL, CONTEXT) quotes rows."""
    is_of_server = False
    for line in filter(None, map(str.strip, stderr.splitlines())):
        if _OF_PROGRAM.match(line):
            is_of_server = SEVERITY.match(line) is not None
        elif is_of_server:
            continue
        else:
            is_of_server = SEVERITY.match(line) is not None
        yield line


def ending(
    command: Command,
    exit_code: int,
    said: str,
    inspect: Callable[[], Mapping[str, Any] | None],
    known: Collection[str] | None = None,
) -> str:
    """The sentence; *inspect* asks the engine for the container's document, where a program's own words are not enough.

    *known* is what ``last_words`` is given.
    """
    words = last_words(said, known)
    how = f"{command} {_way(exit_code)}"
    if words and 0 < exit_code < _SIGNALS and exit_code not in {*_NOT_STARTED, _CONNECTION_LOST}:
        return f"{how}: {words}"
    document = inspect()
    if not words:
        return f"{how} and printed nothing; {condition(document)}."
    return f"{how}: {words}" if _is_well(document) else f"{how}: {words.rstrip('.')}; {condition(document)}."


def _is_well(document: Mapping[str, Any] | None) -> bool:
    state = (document or {}).get("State") or {}
    return bool(state.get("Running")) and not any(state.get(fault) for fault in ("Restarting", "Paused", "OOMKilled"))


def _way(exit_code: int) -> str:
    if exit_code in _NOT_STARTED:
        return f"{_NOT_STARTED[exit_code]} (exit code {exit_code})"
    if exit_code > _SIGNALS:
        try:
            return f"was killed by {signal.Signals(exit_code - _SIGNALS).name} (exit code {exit_code})"
        except ValueError:
            pass
    return f"ended with exit code {exit_code}"


def condition(document: Mapping[str, Any] | None) -> str:
    """What the engine says of a container, by its inspect document; without one, the container is gone."""
    if document is None:
        return "the container is gone"
    state = document.get("State") or {}
    memory = ", and the engine has killed a process in it for lack of memory" if state.get("OOMKilled") else ""
    if state.get("Restarting"):
        return f"the container is restarting after exit code {state.get('ExitCode')}{memory}"
    if state.get("Paused"):
        return f"the container is paused{memory}"
    if state.get("Running"):
        since = str(state.get("StartedAt", ""))[:19].replace("T", " ")
        return f"the container has been running since {since} UTC{memory}"
    if state.get("Status") == "exited":
        return f"the container exited with code {state.get('ExitCode')}{memory}"
    return f"the container's state is {state.get('Status') or 'unknown'}{memory}"
