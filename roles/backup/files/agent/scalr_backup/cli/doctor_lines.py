# SPDX-License-Identifier: GPL-3.0-or-later
"""What people read of the checks: what failed first, with what to do; what is good in a line each."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from scalr_backup.core.doctor_answers import DoctorAnswer, ExaminedAnswer

_MARKS = {"failed": "FAILED", "warning": "warning", "skipped": "skipped", "ok": "ok"}
_STYLES = {"failed": "bold red", "warning": "yellow", "skipped": "dim", "ok": "green"}
# Wider lines are harder to read, and a command must not be cut: it is never wrapped.
_WIDTH = 80
_INDENT = " " * 9


def show_checks(console: Console, data: DoctorAnswer) -> None:
    """Print the checks, the worst first."""
    _say(console, data["summary"], "bold red" if data["failed"] else "bold", indent="")
    by_verdict = {mark: [check for check in data["checks"] if check["verdict"] == mark] for mark in _MARKS}
    for check in by_verdict["failed"] + by_verdict["warning"]:
        console.print()
        _show(console, check)
    if data["failed"] or data["warnings"]:
        console.print()
    if skipped := [_name(check) for check in by_verdict["skipped"]]:
        need = "it depends" if len(skipped) == 1 else "they depend"
        _mark(console, "skipped")
        _say(console, f"{', '.join(skipped)}: skipped, because {need} on a check that failed.", "", first="")
    for check in by_verdict["ok"]:
        _show(console, check)


def _name(check: ExaminedAnswer) -> str:
    return check["check"].replace("_", " ")


def _mark(console: Console, verdict: str) -> None:
    console.print(f"{_MARKS[verdict]:<{len(_INDENT)}}", style=_STYLES[verdict], end="", markup=False, highlight=False)


def _show(console: Console, check: ExaminedAnswer) -> None:
    verdict = check["verdict"]
    _mark(console, verdict)
    _say(console, f"{_name(check)}: {check['seen']}", "", first="")
    if verdict == "ok":
        # What is advised beside what is good.
        _say(console, check["cure"], "dim")
        return
    for detail in check["details"]:
        _say(console, f"- {detail}", "")
    _say(console, check["cure"], "cyan")
    if check["command"]:
        console.print(f"{_INDENT}{check['command']}", style="bold", markup=False, highlight=False, soft_wrap=True)


def _say(console: Console, text: str, style: str, *, indent: str = _INDENT, first: str | None = None) -> None:
    """Print a text in lines of at most 80 columns; only a longer word makes a longer line."""
    width = min(console.width, _WIDTH) - len(indent)
    for number, line in enumerate(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)):
        before = first if first is not None and number == 0 else indent
        console.print(f"{before}{line}", style=style, markup=False, highlight=False, soft_wrap=True)
