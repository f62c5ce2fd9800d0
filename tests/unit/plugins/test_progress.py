# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines that an operator sees while the agent works."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.scalr.backup.plugins.plugin_utils import _agent_action
from ansible_collections.scalr.backup.plugins.plugin_utils._progress import Lines, process
from hypothesis import given
from hypothesis import strategies as st

MIB = 1024 * 1024


def event(phase: str = "data", **facts: object) -> str:
    """A line of the agent's output."""
    document = {"event": "progress", "phase": phase, "container": "scalr-foo-db", "database": "foo", **facts}
    return json.dumps(document, ensure_ascii=False) + "\n"


@pytest.fixture
def lines() -> Lines:
    return Lines("web1")


def test_a_phase_is_a_line_with_its_host_and_database(lines):
    assert lines.take(event("safety-snapshot"), now=0) == ["web1 scalr-foo-db/foo: safety snapshot"]


def test_bytes_have_a_share_a_rate_and_a_time_left(lines):
    lines.take(event(bytes=0, total_bytes=200 * MIB), now=0)

    measured = event(bytes=50 * MIB, total_bytes=200 * MIB, bytes_per_second=10 * MIB, seconds_left=15)
    assert lines.take(measured, now=5) == [
        "web1 scalr-foo-db/foo: data, 50.0 MiB of 200.0 MiB (25 %), 10.0 MiB/s, 15 s left, 5 s so far"
    ]


def done(**facts: object) -> str:
    """The line of the agent's output that says what became of a database."""
    document = {"event": "log", "level": "info", "message": "database backed up", "container": "scalr-foo-db"}
    return json.dumps({**document, "database": "foo", "ok": True, **facts}) + "\n"


class TestBackwards:
    """What was said stays true."""

    def test_of_a_database_that_is_done_there_is_no_more_progress(self, lines):
        lines.take(event("dump", bytes=0), now=0)
        output = event("dump", bytes=52) + done() + event("dump", bytes=60)

        assert lines.take(output, now=2) == ["web1 scalr-foo-db/foo: database backed up"]
        assert lines.take(event("dump", bytes=70), now=4) == []
        assert lines.take("", now=60) == []

    def test_another_one_that_is_under_way_still_breaks_the_silence(self, lines):
        lines.take(event("dump", database="bar") + event("dump") + done(), now=0)

        assert lines.take("", now=10) == ["web1 scalr-foo-db/bar: dump, 10 s so far"]

    def test_lines_come_in_the_order_of_what_happened(self, lines):
        warning = '{"event": "log", "level": "warning", "message": "Slow."}\n'

        assert lines.take(event("dump") + warning + event("dump", database="bar"), now=0) == [
            "web1 scalr-foo-db/foo: dump", "web1: WARNING: Slow.", "web1 scalr-foo-db/bar: dump",
        ]  # fmt: skip

    def test_an_amount_only_grows(self, lines):
        lines.take(event(bytes=30), now=0)

        assert lines.take(event(bytes=20), now=0) == []
        assert lines.take("", now=10) == ["web1 scalr-foo-db/foo: data, 30 B, 10 s so far"]

    def test_what_concerns_no_database_has_stages(self, lines):
        nobody = {"container": None, "database": None}
        lines.take(event("prune", done=9, **nobody), now=0)

        assert lines.take(event("prune", done=1, **nobody), now=0) == ["web1: prune, 1"]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"bytes": 3 * MIB}, "data, 3.0 MiB"),
        ({"bytes": 3 * MIB, "total_bytes": 2 * MIB}, "data, 3.0 MiB"),
        ({"bytes": 0, "total_bytes": 0}, "data, 0 B"),
        ({"bytes": None, "total_bytes": 7}, "data"),
        ({"rows": 1234567, "total_rows": 2000000}, "data, 1,234,567 of 2,000,000 (61 %) rows"),
        ({"done": 3, "total": 12}, "data, 3 of 12 (25 %)"),
        ({"done": 3}, "data, 3"),
        ({"elapsed_seconds": 75}, "data, 1 min 15 s so far"),
    ],
)
def test_what_is_known_is_said_and_no_more(lines, facts, text):
    assert lines.take(event(**facts), now=0) == [f"web1 scalr-foo-db/foo: {text}"]


def test_of_one_database_only_the_latest_news_is_a_line(lines):
    output = event("verify") + event("analyze") + event("swap")

    assert lines.take(output, now=0) == ["web1 scalr-foo-db/foo: swap"]


def test_many_small_databases_are_no_flood(lines):
    output = "".join(event(database=f"d{number}") for number in range(100))

    assert [line.rpartition("/")[2] for line in lines.take(output, now=0)] == ["d97: data", "d98: data", "d99: data"]


def test_messages_are_lines_and_warnings_say_so(lines):
    output = '{"event": "log", "level": "info", "message": "Made a role."}\n'
    output += '{"event": "log", "level": "warning", "message": "Old.", "container": "c", "error": {"message": "Why"}}\n'

    assert lines.take(output, now=0) == ["web1: Made a role.", "web1 c: WARNING: Old.: Why"]


def test_silence_is_broken_with_the_time_that_has_passed(lines):
    lines.take(event("indexes-and-constraints"), now=0)

    assert lines.take("", now=9) == []
    assert lines.take("", now=10) == ["web1 scalr-foo-db/foo: indexes and constraints, 10 s so far"]
    assert lines.take("", now=15) == []
    assert lines.take("", now=20) == ["web1 scalr-foo-db/foo: indexes and constraints, 20 s so far"]


def test_a_line_that_is_not_complete_is_read_again(lines):
    whole = event("data")

    assert lines.take(whole + whole[:20], now=0) == ["web1 scalr-foo-db/foo: data"]
    assert lines.seen == 1


def test_a_terminal_in_between_changes_nothing(lines):
    assert lines.take(event("data").replace("\n", "\r\n"), now=0) == ["web1 scalr-foo-db/foo: data"]
    assert lines.seen == 1


def test_what_a_server_says_cannot_steer_the_terminal(lines):
    output = event("data", database="\x1b]0;pwned\x07\u202e\u2028\x9b31m")

    assert lines.take(output, now=0) == ["web1 scalr-foo-db/?]0;pwned????31m: data"]


@pytest.mark.parametrize("output", ["Traceback\n", "[]\n", "null\n", '{"event": 1}\n', '{"event": "result"}\n', "\n"])
def test_what_is_no_event_is_no_line(lines, output):
    assert lines.take(output, now=0) == []
    assert lines.seen == 1


NAMES = [
    "event",
    "phase",
    "database",
    "bytes",
    "total_bytes",
    "rows",
    "total_rows",
    "done",
    "level",
    "error",
    "ok",
    "seconds_left",
]
WORDS = st.sampled_from(["progress", "log", "warning", "data", "\x1b[2J"])
VALUES = st.one_of(WORDS, st.integers(), st.floats(), st.none(), st.lists(WORDS, max_size=1))


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6), max_size=4))
def test_no_event_breaks_the_lines(events):
    lines = Lines("web1")
    for now, one in enumerate(events):
        for line in lines.take(json.dumps(one) + "\n", now=now):
            assert line.isprintable()


def test_the_first_line_names_the_process():
    assert process('{"event": "process", "id": 17, "started": "4711"}\n') == (17, "4711")
    assert process(event()) is None
    assert process("") is None


def test_the_output_goes_to_a_file_that_only_its_owner_can_read_and_is_gone_at_the_end(docker, run_module, tmp_path):
    output = tmp_path / "output"
    docker.agent_returns(
        {"databases": []}, before=f"stat -c %a {output} > {tmp_path}/mode; cp {output} {tmp_path}/copy"
    )

    result = run_module("database_backup", progress_file=str(output))

    assert result["databases"] == []
    assert (tmp_path / "mode").read_text() == "600\n"
    number, started = process((tmp_path / "copy").read_text())
    assert number > 1
    assert int(started) > 0
    assert not output.exists()


def test_output_that_cannot_be_kept_is_a_sentence(docker, run_module):
    docker.agent_returns({"databases": []})

    result = run_module("database_backup", progress_file="/proc/nowhere/output")

    assert "/proc/nowhere/output" in result["msg"]
    assert result["failed"] is True


# Of this process alone: other tests have progress, too.
DATABASE = f"foo_{secrets.token_hex(6)}"


def kept_progress() -> list[Path]:
    """The files on the host that hold this process's progress."""
    kept = []
    for path in Path("/tmp").glob("scalr-backup-progress-*"):
        # Those of other tests come and go.
        with contextlib.suppress(FileNotFoundError):
            kept += [path] if DATABASE in path.read_text() else []
    return kept


class TestOnTheController:
    """A playbook, while it runs."""

    @pytest.fixture
    def web1(self, fleet):
        """A host whose agent takes its time."""
        web1 = fleet.host("web1")
        measured = [{"bytes": number * MIB, "total_bytes": 8 * MIB, "seconds_left": 8 - number} for number in range(8)]
        events = [json.loads(event(database=DATABASE, **facts)) for facts in measured]
        web1.agent_returns({"databases": []}, events=events, pause=0.8, changed=True)
        return web1

    def test_lines_appear_while_the_agent_works(self, fleet, web1):
        started = time.monotonic()
        shown = {}
        with fleet.start("backup") as play:
            for line in play.stdout:
                shown.setdefault(line.strip(), time.monotonic() - started)

        told = [line for line in shown if line.startswith(f"web1 scalr-foo-db/{DATABASE}: data, ")]
        assert play.returncode == 0, shown
        assert 2 <= len(told) <= 6, shown
        # They come one after the other and not all at the end.
        assert shown[told[-1]] - shown[told[0]] > 1
        assert "left" in told[-1]

    @pytest.mark.parametrize("arguments", [["--check"], pytest.param([], marks=pytest.mark.thorough)])
    def test_no_lines_where_none_are_wanted(self, fleet, web1, tmp_path, arguments):
        playbook = tmp_path / "quiet.yml"
        task = {"scalr.backup.database_backup": {}} | ({} if arguments else {"async": 60, "poll": 1})
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))

        run = fleet.run(str(playbook.with_suffix("")), *arguments)

        assert run.returncode == 0, run.stdout + run.stderr
        assert "web1 scalr-foo-db" not in run.stdout

    def test_an_interrupted_controller_leaves_the_agent_at_work_and_nothing_behind(self, fleet, web1):
        with fleet.start("backup") as play:
            for line in play.stdout:
                if line.startswith(f"web1 scalr-foo-db/{DATABASE}: data"):
                    os.killpg(play.pid, signal.SIGINT)
                    break
            # Ansible itself now and then waits for ever after it was interrupted; that is not what this is about.
            with contextlib.suppress(subprocess.TimeoutExpired):
                play.wait(timeout=10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(play.pid, signal.SIGKILL)

        assert play.returncode != 0
        # The agent is still at it: its file is there until it is done, and then no more.
        deadline = time.monotonic() + 60
        while kept_progress() or web1.finished == 0:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert web1.finished == 1

    def test_a_module_that_vanishes_is_noticed(self, tmp_path, monkeypatch):
        """As when the host is restarted: the note of the job says for ever that it has started."""
        monkeypatch.setattr(_agent_action, "_SUSPICIOUS_SECONDS", 1)
        job, output = tmp_path / "job", tmp_path / "output"
        job.write_text('{"started": true}')
        output.write_text('{"event": "process", "id": 99999999, "started": "1"}\n')

        def on_host(command: str) -> dict[str, object]:
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
            return {"rc": done.returncode, "stdout": done.stdout}

        _agent_action._Watch(on_host, "web1", str(job), str(output)).follow()
