# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verb prints for people: tables, and progress. Only who prints it imports it, because it takes a while."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.text import Text

from scalr_backup.cli.output import Outcome, is_measured
from scalr_backup.cli.tables import TABLES
from scalr_backup.core.progress import Course, Event, Pace, amount_of, total_of
from scalr_backup.core.units import human_bytes, human_elapsed, human_rate, human_time_left, printable

# Seconds between two lines of progress where people read a pipe instead of a terminal.
_LINE_SECONDS = 30.0


class HumanOutput:
    """Tables on standard output, progress and messages on standard error."""

    def __init__(self) -> None:
        # Without a terminal no width applies: a wrapped table is hard to read and hard to grep.
        self._out = Console(width=None if sys.stdout.isatty() else 250)
        self._err = Console(stderr=True)
        self._bars = _Bars(self._err) if self._err.is_terminal else None
        self._course = Course()
        self._pace = Pace(_LINE_SECONDS)
        self._lock = threading.Lock()

    def event(self, event: Event) -> None:
        """Draw progress as bars on a terminal, elsewhere as a line now and then; print the rest as lines."""
        with self._lock:
            if (told := self._course.take(event)) is None:
                return
            event = _harmless(told)
            if event["event"] == "log":
                self._say(event)
            elif self._bars:
                self._bars.draw(event)
            elif not is_measured(event) and "elapsed_seconds" not in event:
                self._pace.due(event)
                self._err.print(f"[dim]{escape(_activity(event))}[/]", soft_wrap=True)
            elif facts := self._pace.due(event):
                self._err.print(f"[dim]{escape(_activity(event))}: {_how_far(facts)}[/]", soft_wrap=True)

    def result(self, verb: str, outcome: Outcome) -> None:
        """Print the verb's table, or its error in one sentence."""
        if self._bars:
            self._bars.stop()
        if outcome.data:
            TABLES[verb](self._out, _harmless(outcome.data))
        # A status says it in its first line.
        if outcome.error is not None and outcome.error.message != outcome.data.get("summary"):
            self._err.print(f"[bold red]{escape(_harmless(outcome.error.message))}[/]", soft_wrap=True)

    def _say(self, event: Event) -> None:
        style = {"error": "bold red", "warning": "yellow"}.get(event["level"], "dim")
        error = event.get("error") or {}
        text = ": ".join(part for part in (_names(event), event["message"], error.get("message", "")) if part)
        self._err.print(f"[{style}]{escape(text)}[/]", soft_wrap=True)
        if self._bars and "ok" in event:
            self._bars.end(event)


class _Bars:
    """A bar for each database that is worked on, and one for what concerns no database."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _HowFar(),
            console=console,
            transient=True,
        )
        self._tasks: dict[tuple[str, str], tuple[str, TaskID]] = {}

    def draw(self, event: Event) -> None:
        """Show progress; a new phase replaces the bar of the previous one."""
        self._progress.start()
        key = _whom(event)
        phase, task = self._tasks.get(key, ("", TaskID(-1)))
        if phase != event["phase"]:
            if phase:
                self._progress.remove_task(task)
            task = self._progress.add_task(escape(_activity(event)), total=None, event=event)
            self._tasks[key] = (event["phase"], task)
        amount, total = amount_of(event) or 0, total_of(event)
        # A dump may outgrow the previous one; then its end is unknown.
        known = total if total and total >= amount else None
        self._progress.update(task, completed=amount, total=known, event=event)

    def end(self, event: Event) -> None:
        """Remove the bar of what has ended."""
        _phase, task = self._tasks.pop(_whom(event), ("", None))
        if task is not None:
            self._progress.remove_task(task)

    def stop(self) -> None:
        """Remove all bars from the terminal; what is drawn after that begins anew."""
        for _phase, task in self._tasks.values():
            self._progress.remove_task(task)
        self._tasks.clear()
        self._progress.stop()


class _HowFar(ProgressColumn):
    """What follows a bar: bytes or items done, rate, and time left, as far as they are known."""

    def render(self, task: Task) -> Text:
        """The text for one bar; rich asks for it ten times a second."""
        return Text(_how_far({**task.fields["event"], "elapsed_seconds": task.elapsed}), style="cyan")


def _harmless(said: Any) -> Any:
    """The same without terminal control characters: a database's name could otherwise overwrite a restore's plan."""
    if isinstance(said, str):
        return printable(said)
    if isinstance(said, dict):
        return {key: _harmless(value) for key, value in said.items()}
    if isinstance(said, list | tuple):
        return [_harmless(value) for value in said]
    return said


def _whom(event: Event) -> tuple[str, str]:
    return event.get("container") or "", event.get("database") or ""


def _names(event: Event) -> str:
    return "/".join(name for name in _whom(event) if name)


def _activity(event: Event) -> str:
    return f"{event['phase'].replace('-', ' ')} {_names(event)}".rstrip()


def _how_far(facts: dict[str, Any]) -> str:
    """How much of how much, how fast, and the time left; if nothing is measured, the time elapsed."""
    parts = []
    if "bytes" in facts:
        parts.append(_of(facts["bytes"], facts.get("total_bytes"), human_bytes))
    elif "done" in facts:
        parts.append(f"{_of(facts['done'], facts.get('total'), '{:,}'.format)} {facts.get('unit', '')}".rstrip())
    if facts.get("bytes_per_second"):
        parts.append(human_rate(facts["bytes_per_second"]))
    if "seconds_left" in facts:
        parts.append(human_time_left(facts["seconds_left"]))
    if not parts and facts.get("elapsed_seconds"):
        parts.append(human_elapsed(facts["elapsed_seconds"]))
    return ", ".join(parts)


def _of(done: float, total: float | None, said: Callable[[float], str]) -> str:
    """How much of how much; once past the expected total, the end is unknown."""
    if not total or total < done:
        return said(done)
    return f"{said(done)} of {said(total)} ({int(100 * done / total)} %)"
