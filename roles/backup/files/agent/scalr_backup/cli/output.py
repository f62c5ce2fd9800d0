# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verb prints: events and one result line for programs. Output for people is in ``human.py``."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from scalr_backup.core.environment import is_configured
from scalr_backup.core.errors import ExitCode
from scalr_backup.core.model import Failure
from scalr_backup.core.progress import Course, Event
from scalr_backup.core.text import readable_json
from scalr_backup.core.without_role import words_here

# Lines of progress in --json: no more than one per second and kind, so that a log stays readable.
_PROGRESS_SECONDS = 1.0
# Where a verb says sentences of its own; all else is names, addresses and codes.
_SENTENCES = frozenset(
    {
        "archive_unchecked", "count_error", "cure", "error", "last_error", "message", "notes", "problems", "reason",
        "repository_note", "summary", "warnings", "why", "why_not",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The outcome of a verb: its data, whether it changed anything, its exit code, and an error to show with the data."""

    data: Mapping[str, object] = field(default_factory=dict)
    changed: bool = False
    exit_code: ExitCode = ExitCode.GOOD
    error: Failure | None = None


class Output(Protocol):
    """Where a verb's events and its result go."""

    def event(self, event: Event) -> None:
        """Something happened."""

    def result(self, verb: str, outcome: Outcome) -> None:
        """The verb is done."""


class JsonOutput:
    """One JSON object a line; the last is the result, and without it the call failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[tuple[Any, ...], float] = {}
        self._course = Course()

    def event(self, event: Event) -> None:
        """Print an event; progress not too often."""
        # One thread after the other from here on: what was taken first is printed first.
        with self._lock:
            told = self._course.take(event)
            if told is None or (told["event"] == "progress" and is_measured(told) and not self._is_due(told)):
                return
            self._print(told)

    def result(self, verb: str, outcome: Outcome) -> None:
        """Print the result, the last line."""
        document = {
            "event": "result",
            "verb": verb,
            "ok": outcome.exit_code is ExitCode.GOOD,
            "changed": outcome.changed,
            "exit_code": int(outcome.exit_code),
            "error": asdict(outcome.error) if outcome.error else None,
            "data": outcome.data,
        }
        with self._lock:
            self._print(document)

    def _is_due(self, event: Event) -> bool:
        key = (event["phase"], event.get("container"), event.get("database"))
        due = time.monotonic() - self._told.get(key, 0.0) >= _PROGRESS_SECONDS
        if due:
            self._told[key] = time.monotonic()
        return due

    def _print(self, document: dict[str, Any]) -> None:
        sys.stdout.write(readable_json(document) + "\n")
        sys.stdout.flush()


def in_words_here(out: Output) -> Output:
    """The same output, where a role has configured this agent; else one that says everything in the environment's words."""
    return _InWords(out, words_here()) if is_configured(os.environ) else out


class _InWords:
    """Passes on what a verb says, its sentences in other words."""

    def __init__(self, out: Output, words: Callable[[str], str]) -> None:
        self._out = out
        self._words = words

    def event(self, event: Event) -> None:
        """Pass on an event."""
        self._out.event(self._said(event))

    def result(self, verb: str, outcome: Outcome) -> None:
        """Pass on the result."""
        error = outcome.error and replace(outcome.error, message=self._words(outcome.error.message))
        self._out.result(verb, replace(outcome, data=self._said(outcome.data), error=error))

    def _said(self, thing: Any, *, is_sentence: bool = False) -> Any:
        """A copy in which the sentences are in the other words."""
        if isinstance(thing, str):
            return self._words(thing) if is_sentence else thing
        if isinstance(thing, Mapping):
            return {key: self._said(value, is_sentence=key in _SENTENCES) for key, value in thing.items()}
        if isinstance(thing, list | tuple):
            return [self._said(one, is_sentence=is_sentence) for one in thing]
        return thing


def is_measured(event: Event) -> bool:
    """Whether an event says how far something is."""
    return "bytes" in event or "done" in event
