# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verb prints: events and one result line for programs, tables and progress for people."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from scalr_backup.core.errors import ExitCode
from scalr_backup.core.model import Failure
from scalr_backup.core.progress import Event, Pace
from scalr_backup.core.units import human_age, human_bytes, human_seconds, printable

# Lines of progress in --json: no more than one per second and kind, so that a log stays readable.
_PROGRESS_SECONDS = 1.0
# Seconds between two lines about how far one thing is, where people read a pipe instead of a terminal.
_LINE_SECONDS = 30.0


@dataclass(frozen=True)
class Outcome:
    """What a verb comes to: its data, whether it changed anything, its exit code, an error to show beside the data."""

    data: dict[str, Any] = field(default_factory=dict)
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
    """One JSON object a line; the last is the result, and without it the call has failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[tuple[Any, ...], float] = {}

    def event(self, event: Event) -> None:
        """Print an event, progress not too often."""
        if event["event"] == "progress" and _is_measured(event) and not self._is_due(event):
            return
        self._print(event)

    def result(self, verb: str, outcome: Outcome) -> None:
        """Print the result, the last line."""
        self._print(
            {
                "event": "result",
                "verb": verb,
                "ok": outcome.exit_code is ExitCode.GOOD,
                "changed": outcome.changed,
                "exit_code": int(outcome.exit_code),
                "error": asdict(outcome.error) if outcome.error else None,
                "data": outcome.data,
            }
        )

    def _is_due(self, event: Event) -> bool:
        key = (event["phase"], event.get("container"), event.get("database"))
        with self._lock:
            due = time.monotonic() - self._told.get(key, 0.0) >= _PROGRESS_SECONDS
            if due:
                self._told[key] = time.monotonic()
        return due

    def _print(self, document: dict[str, Any]) -> None:
        with self._lock:
            sys.stdout.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")
            sys.stdout.flush()


class HumanOutput:
    """Tables on standard output, progress and messages on standard error."""

    def __init__(self) -> None:
        # Without a terminal there is no width to keep to: a wrapped table is hard to read and hard to grep.
        self._out = Console(width=None if sys.stdout.isatty() else 250)
        self._err = Console(stderr=True)
        self._bars = _Bars(self._err) if self._err.is_terminal else None
        self._pace = Pace(_LINE_SECONDS)
        self._lock = threading.Lock()

    def event(self, event: Event) -> None:
        """Draw progress as bars on a terminal, and elsewhere as a line now and then; say the rest as a line."""
        event = _harmless(event)
        with self._lock:
            if event["event"] == "log":
                self._say(event)
            elif self._bars:
                self._bars.draw(event)
            elif not _is_measured(event) and "elapsed_seconds" not in event:
                self._pace.due(event)
                self._err.print(f"[dim]{escape(_activity(event))}[/]", soft_wrap=True)
            elif facts := self._pace.due(event):
                self._err.print(f"[dim]{escape(_activity(event))}: {_how_far(facts)}[/]", soft_wrap=True)

    def result(self, verb: str, outcome: Outcome) -> None:
        """Print the verb's table, or its error in one sentence."""
        if self._bars:
            self._bars.stop()
        if outcome.data:
            _TABLES[verb](self._out, _harmless(outcome.data))
        # A status has said it in its first line.
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
    """A bar for each database that something is done to, and one for what is done to none in particular."""

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
        """Show how far one thing is; a new phase of it begins a new bar in the old one's place."""
        self._progress.start()
        key = _whom(event)
        phase, task = self._tasks.get(key, ("", TaskID(-1)))
        if phase != event["phase"]:
            if phase:
                self._progress.remove_task(task)
            task = self._progress.add_task(escape(_activity(event)), total=None, event=event)
            self._tasks[key] = (event["phase"], task)
        amount, total = event.get("bytes", event.get("done", 0)), event.get("total_bytes", event.get("total"))
        # A dump may be longer than the last one was; then nobody knows how long it will be.
        known = total if total and total >= amount else None
        self._progress.update(task, completed=amount, total=known, event=event)

    def end(self, event: Event) -> None:
        """Take away the bar of what has ended."""
        _phase, task = self._tasks.pop(_whom(event), ("", None))
        if task is not None:
            self._progress.remove_task(task)

    def stop(self) -> None:
        """Leave nothing of them on the terminal."""
        self._progress.stop()


class _HowFar(ProgressColumn):
    """What a bar is followed by: bytes or things done, rate, time left, as far as they are known."""

    def render(self, task: Task) -> Text:
        """The words for one bar; rich asks for them ten times a second."""
        event, facts = task.fields["event"], {}
        if "bytes" in event and task.speed:
            facts["bytes_per_second"] = task.speed
        if task.total is not None and task.time_remaining is not None and task.completed:
            facts["seconds_left"] = task.time_remaining
        return Text(_how_far({**event, "elapsed_seconds": task.elapsed, **facts}), style="cyan")


def _harmless(said: Any) -> Any:
    """The same without what would steer a terminal: whoever may name a database could else write over a restore's plan."""
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


def _is_measured(event: Event) -> bool:
    return "bytes" in event or "done" in event


def _how_far(facts: dict[str, Any]) -> str:
    """So many of so many, how fast, and the time left; where nothing is measured, the time that has passed."""
    parts = []
    if "bytes" in facts:
        parts.append(_of(facts["bytes"], facts.get("total_bytes"), human_bytes))
    elif "done" in facts:
        parts.append(f"{_of(facts['done'], facts.get('total'), '{:,}'.format)} {facts.get('unit', '')}".rstrip())
    if facts.get("bytes_per_second"):
        parts.append(f"{human_bytes(facts['bytes_per_second'])}/s")
    if "seconds_left" in facts:
        parts.append(f"{human_seconds(facts['seconds_left'])} left")
    if not parts and facts.get("elapsed_seconds"):
        parts.append(f"{human_seconds(facts['elapsed_seconds'])} so far")
    return ", ".join(parts)


def _of(done: float, total: float | None, said: Callable[[float], str]) -> str:
    """So many of so many; one that has passed the number that was expected has no end that anybody knows."""
    if not total or total < done:
        return said(done)
    return f"{said(done)} of {said(total)} ({int(100 * done / total)} %)"


def _table(console: Console, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def _moment(text: str | None) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S %Z}".strip() if text else "never"


def _discover(console: Console, data: dict[str, Any]) -> None:
    rows = []
    for container in data["containers"]:
        names = ", ".join(f"{one['name']} ({human_bytes(one['size_bytes'])})" for one in container["databases"])
        version = container["server_version"] or "–"
        rows.append([container["name"], container["status"], version, names or container["reason"] or ""])
    rows += [[one["name"], "NOT BACKED UP", "–", f"{one['why']}; {one['evidence']}"] for one in data["unmatched"]]
    _table(console, ["CONTAINER", "STATUS", "POSTGRESQL", "DATABASES"], rows)
    _kept_databases(console, [copy for container in data["containers"] for copy in container["kept_databases"]])
    if not rows:
        text = "Nothing to back up: no container on this host matches, and none was found that runs PostgreSQL."
        console.print(text, highlight=False, soft_wrap=True)
    _notes(console, data["notes"])


def _notes(console: Console, notes: list[str]) -> None:
    """Say what an operator has to know beside the table."""
    for note in notes:
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _backup(console: Console, data: dict[str, Any]) -> None:
    if "plan" in data:
        _table(console, ["CONTAINER", "DATABASE"], [[one["container"], one["database"]] for one in data["plan"]])
        return
    rows = [
        [
            one["container"],
            one["database"],
            "ok" if one["ok"] else "FAILED",
            (one["snapshot_id"] or "–")[:8],
            human_bytes(one["bytes_read"]),
            human_bytes(one["bytes_added"]),
            "–" if one["rows"] is None else f"{one['rows']:,}",
            f"{one['duration_seconds']:.1f} s",
        ]
        for one in data["databases"]
    ]
    _table(console, ["CONTAINER", "DATABASE", "RESULT", "SNAPSHOT", "DUMP", "ADDED", "ROWS", "TIME"], rows)
    if not rows and not data["error"]:
        console.print("Nothing to back up.")
    console.print(f"run {data['run']}: {data['duration_seconds']} s, {data['failed']} failed", highlight=False)
    _notes(console, data["notes"])
    if data["copy"]:
        _copy(console, data["copy"])


def _copy(console: Console, data: dict[str, Any]) -> None:
    if data["ok"]:
        text = f"{data['copied']} snapshots copied to {data['repository']}, {len(data['removed'])} removed there"
    else:
        text = f"NOT copied to {data['repository']}: {data['error']['message']}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _restore(console: Console, data: dict[str, Any]) -> None:
    plan = data["plan"]
    rows = [
        [
            one["database"],
            human_bytes(one["size_bytes"]) if one["exists"] else "not there",
            str(one["sessions"]),
            *_restored_from(one),
        ]
        for one in plan["databases"]
    ]
    source = plan["source"]
    elsewhere = (source["host"], source["container"]) != (plan["host"], plan["container"])
    origin = f", from {source['container']} of {source['host']}" if elsewhere else ""
    console.print(f"{plan['host']}: {plan['container']} (PostgreSQL {plan['server_version']}){origin}", highlight=False)
    _table(console, ["DATABASE", "SIZE NOW", "SESSIONS", "REPLACED BY", "TIME", "AGE", "DUMP"], rows)
    for who in (who for one in plan["databases"] for who in one["connected"]):
        name = f"{who['user']} ({who['application'] or 'no name'}, {who['address']})"
        console.print(f"connected: {name}, {who['sessions']} sessions", highlight=False, markup=False)
    if plan["roles"]:
        console.print(f"roles to be made: {', '.join(plan['roles'])}", highlight=False, markup=False)
    for warning in plan["warnings"]:
        console.print(f"[yellow]{escape(warning)}[/]", highlight=False)
    for one in data["databases"]:
        console.print(f"{one['database']}: {_fate(one)}", highlight=False, markup=False)


def _restored_from(planned: dict[str, Any]) -> list[str]:
    snapshot = planned["snapshot"]
    if snapshot is None:
        return [planned["old_database"], "–", "–", "–"]
    age, size = human_age(snapshot["age_seconds"]), human_bytes(snapshot["dump_bytes"])
    return [snapshot["short_id"], _moment(snapshot["time"]), age, size]


def _fate(outcome: dict[str, Any]) -> str:
    if not outcome["ok"]:
        return f"NOT restored: {outcome['error']['message']}"
    if outcome["snapshot_id"] is None:
        return f"put back; what it replaced is kept as {outcome['old_database']}"
    verified = outcome["verified"]
    how = f"{verified['rows']:,} rows in {verified['tables']} tables verified" if verified else "rows not verified"
    kept = f", the old one is kept as {outcome['old_database']}" if outcome["old_database"] else ""
    return f"restored in {outcome['duration_seconds']} s, {how}{kept}"


def _drill(console: Console, data: dict[str, Any]) -> None:
    rows = []
    for one in data["databases"]:
        assertions = one["assertions"]
        asserted = assertions["passed"] + assertions["failed"]
        rows.append(
            [
                one["container"],
                one["database"],
                "passed" if one["ok"] else "FAILED" if one["tried"] else "not tried",
                one["snapshot_id"][:8],
                _moment(one["snapshot_time"]),
                "–" if one["recovery_seconds"] is None else f"{one['recovery_seconds']:.1f} s",
                "–" if one["rows"] is None else f"{one['rows']:,} in {one['tables']} tables",
                one["amcheck"] or "–",
                f"{assertions['passed']} of {asserted}" if asserted else "–",
            ]
        )
    columns = ["CONTAINER", "DATABASE", "DRILL", "SNAPSHOT", "TIME", "RECOVERY", "ROWS COMPARED", "PG_AMCHECK"]
    _table(console, [*columns, "ASSERTIONS"], rows)
    for one in data["databases"]:
        if one["error"]:
            reason = one["error"]["message"]
            console.print(f"{one['container']}/{one['database']}: {reason}", markup=False, highlight=False)
    not_tried = f", {data['not_tried']} not tried" if data["not_tried"] else ""
    console.print(
        f"run {data['run']}: {data['duration_seconds']} s, {data['failed']} failed{not_tried}", highlight=False
    )


def _snapshots(console: Console, data: dict[str, Any]) -> None:
    rows = [
        [
            one["short_id"],
            _moment(one["time"]),
            one["container"] or one["path"],
            one["database"] or "–",
            one["reason"] or "–",
            human_bytes(one["dump_bytes"]),
            "pinned" if one["pinned"] else "",
        ]
        for one in data["snapshots"]
    ]
    _table(console, ["SNAPSHOT", "TIME", "CONTAINER", "DATABASE", "REASON", "DUMP", ""], rows)


def _key(console: Console, data: dict[str, Any]) -> None:
    if "keys" not in data:
        _facts(console, data)
        return
    rows = [
        [one["id"][:8], one["user"], one["host"], one["created"], "this host's" if one["current"] else ""]
        for one in data["keys"]
    ]
    _table(console, ["KEY", "USER", "HOST", "CREATED", ""], rows)
    if data["shared_with"]:
        others = ", ".join(data["shared_with"])
        console.print(f"This host's may also be used by {others}.", markup=False, highlight=False)


def _status(console: Console, data: dict[str, Any]) -> None:
    # The answer first, in one line of its own, whatever the terminal's width.
    style = {"safe": "bold green", "not_safe": "bold red", "incomplete": "bold yellow"}.get(data["verdict"], "bold")
    console.print(f"[{style}]{escape(data['summary'])}[/]", soft_wrap=True, highlight=False)
    failing = {(one["container"], one["database"]) for one in data["findings"] if one["severity"] == "failure"}
    rows = [
        [
            one["container"],
            one["database"],
            "PROBLEM" if (one["container"], one["database"]) in failing else "ok",
            human_age(one["age_seconds"]),
            human_bytes(one["bytes_read"]),
            _kept(one["kept"]),
            _last_drill(one["drill"]),
        ]
        for one in data["databases"]
    ]
    if rows:
        _table(console, ["CONTAINER", "DATABASE", "HEALTH", "LAST GOOD", "DUMP", "KEPT", "LAST DRILL"], rows)
    if data["copy"]:
        age = human_age(data["copy"]["age_seconds"])
        console.print(f"copy in {data['copy']['repository']}: last good {age}", markup=False, highlight=False)
    for finding in data["findings"]:
        mark = "•" if finding["severity"] == "failure" else "◦"
        console.print(f"{mark} {finding['message']}", markup=False, highlight=False, soft_wrap=True)
        if finding["remedy"]:
            console.print(f"  {finding['remedy']}", markup=False, highlight=False, soft_wrap=True)
        # Folded by us it would be two commands for whoever copies it.
        console.print(f"  → {finding['command']}", markup=False, highlight=False, soft_wrap=True)
    _kept_databases(console, data["kept_databases"])
    console.print(f"host {data['host']}, next pass {_moment(data['next_pass'])}", markup=False, highlight=False)


def _kept_databases(console: Console, copies: list[dict[str, Any]]) -> None:
    """What restores have left beside the live databases, and how to be rid of it."""
    for copy in copies:
        what = f"{copy['container']}/{copy['database']} ({human_bytes(copy['size_bytes'])})"
        text = f"◦ {what} was kept by a restore on {copy['kept_since'][:10]} and is not backed up; when you need it no more:"
        console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
        console.print(printable(f"  → {copy['command']}"), markup=False, highlight=False, soft_wrap=True)


def _history(console: Console, data: dict[str, Any]) -> None:
    rows = [
        [
            _moment(one["time"]),
            one["kind"],
            one.get("container") or "",
            one.get("database") or "",
            "ok" if one["ok"] else f"FAILED: {one['error'] or 'see the log'}",
            human_bytes(one.get("bytes_read", one.get("size_bytes"))),
            human_bytes(one.get("bytes_added")),
            "–" if one.get("rows") is None else f"{one['rows']:,}",
            _took(one),
        ]
        for one in data["entries"]
    ]
    if rows:
        columns = ["TIME", "WHAT", "CONTAINER", "DATABASE", "RESULT", "SIZE", "ADDED", "ROWS", "TOOK"]
        _table(console, columns, rows)
    else:
        console.print(f"Nothing is on record since {_moment(data['since'])}.", markup=False, highlight=False)


def _notify(console: Console, data: dict[str, Any]) -> None:
    for one in data["tested"]:
        fate = f"NOT delivered: {one['error']}" if one["error"] else "delivered"
        console.print(f"{one['service']}: {fate}", markup=False, highlight=False, soft_wrap=True)
    counts = f"{data['sent']} sent so far, {data['failed']} tries failed, {data['pending']} messages wait"
    last = f"; the last try: {data['last_error']}" if data["last_error"] else ""
    console.print(f"{counts}{last}", markup=False, highlight=False, soft_wrap=True)


def _took(entry: dict[str, Any]) -> str:
    seconds = entry.get("seconds", entry.get("recovery_seconds"))
    return "–" if seconds is None else f"{seconds:.1f} s"


def _kept(kept: dict[str, Any] | None) -> str:
    """How many snapshots retention has kept, and why in short."""
    if kept is None:
        return "–"
    return f"{kept['snapshots']}: {', '.join(f'{count} {why}' for why, count in kept['why'].items())}"


def _forget(console: Console, data: dict[str, Any]) -> None:
    rows = [
        [
            one["short_id"],
            _moment(one["time"]),
            one["container"],
            one["database"],
            "stays" if one["keep"] else "GOES",
            ", ".join(one["why"]),
        ]
        for one in data["decisions"]
    ]
    if rows:
        _table(console, ["SNAPSHOT", "TIME", "CONTAINER", "DATABASE", "", "WHY"], rows)
    console.print(f"{len(data['removed'])} removed, {data['kept']} stay", highlight=False)
    for warning in data["warnings"]:
        console.print(f"[yellow]{escape(warning)}[/]", highlight=False)


def _pin(console: Console, data: dict[str, Any]) -> None:
    state = "pinned: it stays for ever" if data["pinned"] else "not pinned: the retention rules judge it"
    before = f"; it was {data['was'][:8]} before" if data["was"] != data["id"] else ""
    console.print(f"{data['id'][:8]} is {state}{before}.", markup=False, highlight=False, soft_wrap=True)


def _last_drill(drill: dict[str, Any] | None) -> str:
    if drill is None:
        return "never"
    ago = f"{human_age(drill['age_seconds'])} ago"
    return f"passed {ago}, {drill['recovery_seconds']:.1f} s" if drill["ok"] else f"FAILED {ago}"


def _facts(console: Console, data: dict[str, Any]) -> None:
    """What a verb has to say that needs no table; what it does not know it leaves out."""
    for name, value in data.items():
        if value is not None:
            console.print(f"{name.replace('_', ' ')}: {_in_words(value)}", markup=False, highlight=False)


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_words, value)) or "none"
    if isinstance(value, dict):
        known = {name.replace("_", " "): one for name, one in value.items() if one is not None}
        return ", ".join(f"{name} {_in_words(one)}" for name, one in known.items()) or "none"
    return str(value)


def _rehearsal(console: Console, data: dict[str, Any]) -> None:
    for which, opened in data.items():
        if opened:
            state = "opens" if not opened["created"] else "was made" if opened["repository_id"] else "is not there yet"
            console.print(f"{which}: {opened['repository']} {state}", markup=False, highlight=False)


_TABLES = {
    "discover": _discover,
    "backup": _backup,
    "copy": _copy,
    "restore": _restore,
    "drill": _drill,
    "snapshots": _snapshots,
    "status": _status,
    "history": _history,
    "health": _facts,
    "key": _key,
    "forget": _forget,
    "prune": _facts,
    "pin": _pin,
    "unpin": _pin,
    "check": _facts,
    "init": _facts,
    "rehearse": _rehearsal,
    "unlock": _facts,
    "validate": _facts,
    "notify": _notify,
}
