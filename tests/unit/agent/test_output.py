# SPDX-License-Identifier: GPL-3.0-or-later
"""What people see while a verb works: bars on a terminal, a line now and then elsewhere, the answer first."""

from __future__ import annotations

import io
import json
import re
from types import SimpleNamespace

import pytest
from rich.console import Console
from scalr_backup.actions.health.finding import Finding
from scalr_backup.actions.restore.request import RestoreRequest
from scalr_backup.cli import app as cli
from scalr_backup.cli import human, restore
from scalr_backup.cli.human import HumanOutput
from scalr_backup.cli.output import JsonOutput, Outcome
from scalr_backup.core.errors import ExitCode
from scalr_backup.core.model import Failure
from scalr_backup.core.progress import Course, Pace, log, progress

MEBIBYTE = 1024 * 1024
STATUS = {
    "verdict": "safe",
    "host": "web1", "healthy": True, "summary": "Safe: 1 database, the oldest good backup is 9 h old.", "copy": None,
    "databases": [
        {
            "container": "scalr-shop-db", "database": "shop", "ok": True, "fresh": True, "age_seconds": 32400, "bytes_read": 10,
            "kept": {"snapshots": 12, "why": {"daily": 9, "weekly": 2, "pinned": 1}}, "drill": None,
        }
    ],
    "findings": [], "kept_databases": [], "schedule": "0 3 * * *",
    "next_pass": "2026-11-23T03:00:00+00:00",
}  # fmt: skip


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 120 columns, as bytes that were written to it."""
    written = io.StringIO()
    real = Console

    def console(**settings):
        return real(
            file=written, force_terminal=True, width=120, color_system="standard", stderr=settings.get("stderr", False)
        )

    monkeypatch.setattr(human, "Console", console)
    return written


@pytest.fixture
def pipe(monkeypatch):
    """No terminal, and a clock that the test sets."""
    written, clock, real = io.StringIO(), Clock(), Console
    monkeypatch.setattr(human, "Console", lambda **_settings: real(file=written, width=250))
    monkeypatch.setattr(human, "Pace", lambda every: Pace(every, clock=clock))
    monkeypatch.setattr(human, "Course", lambda: Course(clock))
    return written, clock


def text(screen):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


def dump(count, total=None, database="shop"):
    facts = {"total_bytes": total} if total else {}
    return progress("dump", container="scalr-shop-db", database=database, bytes=count, **facts)


def draw(out, *events):
    for event in events:
        out.event(event)
        out._bars._progress.refresh()


def test_a_dump_is_a_bar_with_bytes_and_share(screen):
    out = HumanOutput()
    draw(out, dump(0, 40 * MEBIBYTE), dump(10 * MEBIBYTE, 40 * MEBIBYTE))
    out.result("prune", Outcome())
    assert "dump scalr-shop-db/shop" in text(screen)
    assert "10.0 MiB of 40.0 MiB (25 %)" in text(screen)


def test_each_database_has_a_bar_of_its_own_until_it_is_saved(screen):
    out = HumanOutput()
    draw(out, dump(1, 10), dump(1, 10, "ledger"))
    assert len(out._bars._tasks) == 2
    out.event(log("info", "database backed up", container="scalr-shop-db", database="shop", ok=True))
    assert list(out._bars._tasks) == [("scalr-shop-db", "ledger")]
    out.event(dump(5, 10))
    assert list(out._bars._tasks) == [("scalr-shop-db", "ledger")], "what is done is not begun again"
    out.result("prune", Outcome())


def test_a_longer_dump_than_the_last_one_has_no_known_end(screen):
    out = HumanOutput()
    draw(out, dump(30, 20))
    out.result("prune", Outcome())
    assert "30 B of" not in text(screen)


def test_a_new_phase_takes_the_bars_place_and_counts_its_own_things(screen):
    out = HumanOutput()
    draw(out, progress("check"), progress("check", done=27, total=55, unit="packs"), progress("prune"))
    assert len(out._bars._progress.tasks) == 1
    out.result("prune", Outcome())
    assert "27 of 55 (49 %) packs" in text(screen)


def test_nothing_is_drawn_over_what_is_typed_at_a_question(screen, monkeypatch):
    out = HumanOutput()
    draw(out, progress("plan", container="scalr-shop-db"))
    drawn = []

    def typed(_prompt):
        drawn.append((out._bars._progress.live.is_started, out._bars._progress.tasks))
        return "scalr-shop-db"

    monkeypatch.setattr(restore, "_typed", typed)
    monkeypatch.setattr(restore, "preview", lambda _plan: {})
    plan = SimpleNamespace(confirm="scalr-shop-db", reference="5f0c8e1b")
    request = RestoreRequest("scalr-shop-db")

    asked = restore._ask(SimpleNamespace(plan=lambda _request: plan), request, out)

    assert drawn == [(False, [])]
    assert (asked.confirm, asked.snapshot) == ("scalr-shop-db", "5f0c8e1b")
    draw(out, progress("data", container="scalr-shop-db"))
    assert len(out._bars._progress.tasks) == 1, "what comes next is drawn as ever"
    out.result("prune", Outcome())


def test_in_a_pipe_each_thing_is_a_line_every_half_minute(pipe):
    written, clock = pipe
    out = HumanOutput()
    out.event(progress("forget"))
    for clock.now in range(0, 100, 10):
        out.event(dump(int(clock.now) * MEBIBYTE, 200 * MEBIBYTE))
    assert written.getvalue().splitlines() == [
        "forget",
        "dump scalr-shop-db/shop: 30.0 MiB of 200.0 MiB (15 %), 1.0 MiB/s, 2 min 50 s left",
        "dump scalr-shop-db/shop: 60.0 MiB of 200.0 MiB (30 %), 1.0 MiB/s, 2 min 20 s left",
        "dump scalr-shop-db/shop: 90.0 MiB of 200.0 MiB (45 %), 1.0 MiB/s, 1 min 50 s left",
    ]


def test_what_cannot_be_measured_says_how_long_it_takes(pipe):
    written, clock = pipe
    out = HumanOutput()
    out.event(progress("verify", container="c", database="d"))
    for clock.now in range(2, 40, 2):
        out.event(progress("verify", container="c", database="d", elapsed_seconds=float(clock.now)))
    assert written.getvalue().splitlines() == ["verify c/d", "verify c/d: 30 s so far"]


def test_json_tells_of_packs_no_more_than_once_a_second(capsys):
    out = JsonOutput()
    for done in range(50):
        out.event(progress("check", done=done, total=50, unit="packs"))
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_status_answers_first_and_in_colour_on_a_terminal_only(screen):
    HumanOutput().result("status", Outcome(STATUS))
    first = screen.getvalue().splitlines()[0]
    assert first.startswith("\x1b[1;32mSafe: 1 database")
    assert "12: 9 daily, 2 weekly, 1 pinned" in text(screen)


def test_elsewhere_the_first_line_is_the_bare_sentence_however_long(pipe):
    written, _clock = pipe
    summary = f"NOT SAFE: 1 problem; first: {'a long reason ' * 40}end"
    HumanOutput().result("status", Outcome({**STATUS, "healthy": False, "summary": summary}))
    assert written.getvalue().splitlines()[0] == summary


def test_the_command_to_run_next_is_one_line_however_narrow_the_terminal_is(screen):
    command = f"ansible-playbook scalr.backup.backup --limit {'w' * 80} -e db=scalr-shop-db"
    finding = {"severity": "failure", "message": "word " * 60, "command": command, "remedy": ""}
    finding |= {"container": "", "database": ""}
    HumanOutput().result("status", Outcome(STATUS | {"findings": [finding]}))
    assert f"  → {command}\n" in text(screen)


@pytest.mark.parametrize(
    ("found", "database", "said"),
    [
        # Its backup is good and fresh, and does not restore.
        ("drill_failed", "shop", "PROBLEM"),
        # What is wrong with its container names no database.
        ("roles_not_saved", "", "PROBLEM"),
        ("backup_failed", "wiki", "ok"),
    ],
)
def test_a_database_with_a_failure_of_its_own_or_of_its_container_is_not_ok(pipe, found, database, said):
    written, _clock = pipe
    finding = Finding(found, "failure", "topic", ".", "c", "scalr-shop-db", database).as_dict()
    summary = "NOT SAFE: 1 problem"
    told = {**STATUS, "healthy": False, "summary": summary, "findings": [finding]}
    HumanOutput().result("status", Outcome(told, exit_code=ExitCode.FAILED, error=Failure("not_safe", summary)))
    [line] = [line for line in written.getvalue().splitlines() if line.startswith("scalr-shop-db")]
    assert line.split()[2] == said
    assert written.getvalue().count(summary) == 1


def test_facts_are_said_in_words_and_not_as_python_writes_them(pipe):
    written, _clock = pipe
    told = {
        "deferred": None, "removed": ["ab12", "cd34"], "left": [], "dry_run": False, "repository_id": "5f0c",
        "judged": {"checked": True, "parts": 3, "deferred": None},
    }  # fmt: skip
    HumanOutput().result("prune", Outcome(told))
    assert written.getvalue().splitlines() == [
        "removed: ab12, cd34", "left: none", "dry run: no", "repository id: 5f0c", "judged: checked yes, parts 3",
    ]  # fmt: skip


def test_a_copy_that_a_restore_kept_is_told_with_what_drops_it(pipe):
    written, _clock = pipe
    copy = {
        "container": "scalr-shop-db", "database": "shop_before_restore_20261122t030000z-3f9a", "size_bytes": 1024,
        "kept_since": "2026-11-22T03:00:00+00:00", "command": "docker exec scalr-shop-db dropdb -- shop",
    }  # fmt: skip
    HumanOutput().result("status", Outcome({**STATUS, "kept_databases": [copy]}))
    said = written.getvalue()
    assert "shop_before_restore_20261122t030000z-3f9a" in said
    assert "kept by a restore on 2026-11-22 and is not backed up" in said
    assert "  → docker exec scalr-shop-db dropdb -- shop\n" in said


def test_no_name_of_a_database_steers_the_terminal(pipe):
    written, _clock = pipe
    name = "shop\x1b]0;evil\x07\x1b[2J\r\u202e\nSafe: \x9b1A"
    out = HumanOutput()
    out.event(log("warning", "gone", container="scalr-shop-db", database=name))
    out.event(progress("dump", container="scalr-shop-db", database=name))
    out.result(
        "backup", Outcome({"plan": [{"container": "scalr-shop-db", "database": name}]}, error=Failure("x", name))
    )
    said = written.getvalue()
    assert said.count("shop?]0;evil??[2J???Safe: ?1A") == 4
    assert all(character.isprintable() or character == "\n" for character in said)


def test_a_test_of_the_alerts_says_whom_it_did_not_reach(pipe):
    written, _clock = pipe
    tested = [{"service": "json (number 1)", "error": None}, {"service": "ntfy (number 2)", "error": "no answer."}]
    data = {"tested": tested, "sent": 3, "failed": 1, "last_error": "ntfy (number 2): no answer.", "pending": 1}
    HumanOutput().result("notify", Outcome(data))
    assert written.getvalue().splitlines() == [
        "json (number 1): delivered",
        "ntfy (number 2): NOT delivered: no answer.",
        "sent: 3, failed attempts: 1, pending: 1; last error: ntfy (number 2): no answer.",
    ]


def test_wrong_usage_names_the_command_as_it_is_typed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["/opt/scalr-backup/lib/__main__.py", "nosuch"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "Usage: scalr-backup [OPTIONS] COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "verb", "message"),
    [
        (["pin", "--json"], "pin", "Missing argument 'snapshot'. scalr-backup pin --help shows what it takes."),
        (["history", "--json", "--days", "x"], "history", "Invalid value for '--days': "),
        (["copy", "--nosuch", "--json"], "copy", "No such option: --nosuch"),
        (["nosuch", "--json"], "", "No such command 'nosuch'. scalr-backup --help shows what it takes."),
        (["--json"], "", "No such option: --json"),
    ],
)
def test_wrong_usage_is_a_result_line_for_whoever_asked_for_json(monkeypatch, capsys, words, verb, message):
    monkeypatch.setattr("sys.argv", ["scalr-backup", *words])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["event"], result["verb"], result["exit_code"], result["ok"]) == ("result", verb, 2, False)
    assert result["error"]["code"] == "usage"
    assert result["error"]["message"].startswith(message)
    assert printed.err == ""


def test_help_is_help_for_whoever_asked_for_json(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["scalr-backup", "pin", "--json", "--help"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert "Usage: scalr-backup pin" in capsys.readouterr().out
