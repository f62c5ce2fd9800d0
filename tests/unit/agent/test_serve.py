# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's loop, with jobs that are programs of the test's own and a clock that it sets."""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.health import alerts, outbox
from scalr_backup.actions.health.status import judge
from scalr_backup.core.config import Config
from scalr_backup.core.jobs import PASS, TRY_AGAIN_AFTER, Job
from scalr_backup.core.progress import Pace
from scalr_backup.service import server as serve
from scalr_backup.tools.heartbeat import Beat
from scalr_backup.tools.notify import Service
from scalr_backup.tools.state import State

from tests.support.containers import wait_until

MIDNIGHT = datetime(2026, 11, 23, tzinfo=UTC)
HOURLY = "0 * * * *"


class Clock:
    """A time that stands still until the test, or a look at it, moves it on."""

    def __init__(self, now=MIDNIGHT):
        self.now = now

    def __call__(self):
        return self.now


class Journal:
    """A companion that remembers what it was told."""

    def __init__(self):
        self.told = []

    def started(self, job):
        self.told.append(f"started {job.name}")

    def ended(self, job, exit_code, result):
        self.told.append((f"ended {job.name}", exit_code, result and result["data"]))


class House:
    """A server on a state directory of its own; its jobs print what the test wants them to."""

    def __init__(self, directory, monkeypatch, capsys):
        self.clock, self.journal, self.runs = Clock(), Journal(), []
        self.state, self.capsys = State(directory), capsys
        self.printed, self.hangs = {}, False
        monkeypatch.setattr(serve, "utc_now", self.clock)
        monkeypatch.setattr(serve.subprocess, "Popen", self.popen(serve.subprocess.Popen))

    def popen(self, real):
        def start(argv, **keywords):
            verb = argv[3]
            self.runs.append((verb, self.clock.now))
            lines, exit_code, stderr = self.printed.get(verb, ((), 0, ""))
            program = "import sys; print(sys.argv[1], end=''); print(sys.argv[3], file=sys.stderr); sys.exit(int(sys.argv[2]))"
            if self.hangs:
                # As a verb does, it hears of signals once it listens.
                program = "import signal, time; signal.pthread_sigmask(signal.SIG_SETMASK, ()); time.sleep(60)"
            text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
            return real([sys.executable, "-c", program, text, str(exit_code), stderr], **keywords)

        return start

    def server(self, jobs, companions=None):
        serve.JOBS = jobs
        config = Config(host="h", repository="/r", schedule=HOURLY)
        return serve.Server(config, self.state, [self.journal] if companions is None else companions)

    def log(self):
        return [json.loads(line) for line in self.capsys.readouterr().out.splitlines()]


@pytest.fixture
def house(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(serve, "JOBS", ())
    return House(tmp_path, monkeypatch, capsys)


def job(name, schedule=HOURLY, *, retried=False):
    def last_run(state):
        return state.get("ran", {}).get(name)

    return Job(name, (name,), lambda _config: schedule, last_run, retried)


def turn(server):
    """What the server does every five seconds."""
    server._run_due()


def test_each_job_runs_when_it_is_due_and_once(house):
    server = house.server((job("pass"), job("check", "30 * * * *")))
    server._plan()
    for minute in range(121):
        house.clock.now = MIDNIGHT + timedelta(minutes=minute)
        turn(server)
    runs = [(verb, moment.strftime("%H:%M")) for verb, moment in house.runs]
    assert runs == [("check", "00:30"), ("pass", "01:00"), ("check", "01:30"), ("pass", "02:00")]


def test_of_two_that_are_due_together_the_pass_is_first(house):
    server = house.server((job("pass"), job("prune")))
    server._plan()
    house.clock.now += timedelta(hours=1)
    turn(server)
    assert [verb for verb, _moment in house.runs] == ["pass", "prune"]


class Slow:
    """A companion in whose time every job takes so long."""

    def __init__(self, clock, lasts):
        self.clock, self.lasts = clock, lasts

    def started(self, job):
        self.clock.now += self.lasts

    def ended(self, job, exit_code, result):
        pass


def test_passes_that_outlast_their_schedule_do_not_pile_up_and_what_is_left_out_is_said(house):
    server = house.server((job("pass"),), [Slow(house.clock, timedelta(minutes=150))])
    server._plan()
    for _turn in range(12 * 60):
        house.clock.now += timedelta(minutes=1)
        turn(server)
        if house.clock.now >= MIDNIGHT + timedelta(hours=9):
            break
    began = [moment - timedelta(minutes=150) for _verb, moment in house.runs]
    assert [moment.strftime("%H:%M") for moment in began] == ["01:00", "04:00", "07:00"]
    # A field of the log has one meaning: left_out is what a dump lacks.
    said = [line for line in house.log() if "missed" in line]
    assert [line["missed"] for line in said] == [2, 2, 2]
    assert said[0]["event"] == "The pass came due 2 more times while a job ran. What is missed is not caught up on."


def test_passes_that_a_long_check_keeps_waiting_run_once_when_it_has_ended(house):
    server = house.server((job("pass"), job("check", "30 0 * * *")))
    server._companions = [Slow(house.clock, timedelta(minutes=1))]
    server._plan()
    house.clock.now = MIDNIGHT + timedelta(minutes=30)
    server._companions[0].lasts = timedelta(hours=3)
    turn(server)
    server._companions[0].lasts = timedelta(minutes=1)
    house.clock.now += timedelta(minutes=1)
    turn(server)
    turn(server)
    assert [verb for verb, _moment in house.runs] == ["check", "pass"]
    assert [line["missed"] for line in house.log() if line.get("job") == "pass" and "missed" in line] == [2]


def test_the_schedule_is_on_record_with_the_one_before_it(house):
    house.state.note_schedule("0 3 * * *", MIDNIGHT)
    assert house.state.read()["schedule"] == {"cron": "0 3 * * *", "since": MIDNIGHT.isoformat(), "before": "0 3 * * *"}
    later = MIDNIGHT + timedelta(hours=1)
    house.state.note_schedule(HOURLY, later)
    house.state.note_schedule(HOURLY, later + timedelta(hours=1))
    assert house.state.read()["schedule"] == {"cron": HOURLY, "since": later.isoformat(), "before": "0 3 * * *"}


def test_a_server_notes_the_schedule_when_it_starts_and_when_it_changes(house, monkeypatch):
    server = house.server(())
    server._stopping.set()
    server.run()
    assert house.state.read()["schedule"]["cron"] == HOURLY
    monkeypatch.setattr(serve, "load_config", lambda: Config(host="h", repository="/r", schedule="*/20 * * * *"))
    assert server._reload()
    assert house.state.read()["schedule"]["cron"] == "*/20 * * * *"
    assert house.state.read()["schedule"]["before"] == HOURLY


def test_a_job_without_a_schedule_never_runs_by_itself(house):
    server = house.server((job("prune", ""),))
    server._plan()
    house.clock.now += timedelta(days=400)
    server._catch_up(MIDNIGHT)
    turn(server)
    assert house.runs == []
    assert house.log() == []


def test_what_was_missed_while_nobody_was_there_runs_at_once(house):
    server = house.server((job("pass"), job("check", "30 4 * * 0")))
    house.clock.now += timedelta(hours=3, minutes=10)
    server._catch_up(MIDNIGHT)
    assert [verb for verb, _moment in house.runs] == ["pass"]
    assert "A pass was missed while the agent was down; it runs now." in [line["event"] for line in house.log()]


def test_one_that_came_to_no_end_is_tried_again_soon(house):
    server = house.server((job("check", "30 4 * * 0", retried=True),))
    house.state.first_started(MIDNIGHT)
    house.clock.now = datetime(2026, 11, 29, 4, 29, tzinfo=UTC)
    server._plan()
    house.clock.now += timedelta(seconds=65)
    turn(server)
    house.clock.now += TRY_AGAIN_AFTER
    turn(server)
    assert len(house.runs) == 2
    house.state._change(lambda document: document.update(ran={"check": house.clock.now.isoformat()}))
    server._plan()
    assert list(server._due.values()) == [datetime(2026, 12, 6, 4, 30, tzinfo=UTC)]


def test_one_whose_end_cannot_be_put_on_record_is_not_tried_again_and_again(house, tmp_path):
    server = house.server((job("pass", retried=True),))
    house.state.first_started(MIDNIGHT)
    (tmp_path / "state.json.new").mkdir()
    house.state.note_schedule(HOURLY, MIDNIGHT)
    server._plan()
    house.clock.now += timedelta(hours=1, seconds=1)
    turn(server)
    assert [verb for verb, _moment in house.runs] == ["pass"]
    assert list(server._due.values()) == [MIDNIGHT + timedelta(hours=2)]


def test_a_server_serves_where_nothing_can_be_put_on_record(house, tmp_path):
    (tmp_path / "state.json.new").mkdir()
    server = house.server(())
    server._stopping.set()
    assert server.run() == 0
    assert house.state.read()["schedule"]["cron"] == HOURLY


def test_one_that_cannot_be_started_is_logged_and_tried_again(house, monkeypatch):
    def fail(*_arguments, **_options):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(serve.subprocess, "Popen", fail)
    server = house.server((job("pass"),))
    server._plan()
    house.clock.now += timedelta(hours=1)
    turn(server)
    assert house.journal.told == ["started pass", ("ended pass", 1, None)]
    assert "The pass could not be started." in [line["event"] for line in house.log()]
    assert list(server._due.values()) == [MIDNIGHT + timedelta(hours=2)]


def test_the_next_pass_is_announced_last_because_there_an_operator_looks(house):
    house.server((PASS, job("prune"), job("check")))._plan()
    events = [line["event"] for line in house.log()]
    assert events == ["The next check is scheduled.", "The next prune is scheduled.", "The next pass is scheduled."]


def test_companions_are_told_of_each_run_and_of_its_result(house):
    house.printed["pass"] = (({"event": "result", "ok": False, "error": None, "data": {"failed": 1}},), 3, "")
    server = house.server((job("pass"),))
    server._plan()
    house.clock.now += timedelta(hours=1)
    turn(server)
    assert house.journal.told == ["started pass", ("ended pass", 3, {"failed": 1})]


def test_a_companion_that_fails_is_logged_and_stops_nothing(house):
    class Broken(Journal):
        def started(self, job):
            raise OSError("no route")

    server = house.server((job("pass"),), [Broken(), house.journal])
    server._plan()
    house.clock.now += timedelta(hours=1)
    turn(server)
    assert house.journal.told[0] == "started pass"
    assert {"event": "Broken failed.", "reason": "OSError: no route", "level": "error"}.items() <= next(
        line for line in house.log() if line["level"] == "error"
    ).items()


def test_what_a_job_says_is_logged_with_its_level(house):
    lines = (
        {"event": "log", "level": "warning", "message": "w", "container": "c"},
        {"event": "progress", "phase": "forget"},
        "no JSON",
        {"event": "result", "ok": True, "error": None, "data": {}},
    )
    house.printed["pass"] = (lines, 1, "the last words")
    server = house.server((job("pass"),))
    server._run_job(serve.JOBS[0])
    said = [(line["level"], line["event"]) for line in house.log()]
    assert said == [
        ("warning", "w"),
        ("warning", "The pass printed something that is not an event."),
        ("info", "result"),
        ("error", "The pass has ended."),
        ("error", "The pass said:"),
    ]


def test_every_line_of_a_run_bears_its_id(house):
    lines = (
        {"event": "log", "level": "info", "message": "m", "run": "r1"},
        "no JSON",
        {"event": "result", "ok": True, "error": None, "data": {"run": "r1"}},
    )
    house.printed["pass"] = (lines, 1, "the last words")
    house.server((job("pass"),))._run_job(serve.JOBS[0])
    said = house.log()
    assert [(line["run"], line["job"]) for line in said] == [("r1", "pass")] * 5


def test_progress_is_a_line_of_the_log_now_and_then(house, monkeypatch):
    seconds = iter(range(0, 1000, 10))
    monkeypatch.setattr(serve, "Pace", lambda every: Pace(every, clock=lambda: next(seconds)))
    dumping = [
        {"event": "progress", "phase": "dump", "container": "c", "database": "d", "run": "r", "bytes": count, "total_bytes": 800,
         "bytes_per_second": 10, "seconds_left": 80 - count // 10}
        for count in range(0, 700, 100)
    ]  # fmt: skip
    house.printed["pass"] = (dumping, 0, "")
    house.server((job("pass"),))._run_job(serve.JOBS[0])
    told = [line for line in house.log() if line["event"] == "progress"]
    assert [(line["bytes"], line["bytes_per_second"], line["seconds_left"]) for line in told] == [
        (300, 10, 50),
        (600, 10, 20),
    ]
    assert {"run": "r", "job": "pass", "phase": "dump", "container": "c", "database": "d"}.items() <= told[0].items()


def test_nothing_is_started_once_it_was_told_to_stop(house):
    server = house.server((job("pass"),))
    server._stop()
    server._run_job(serve.JOBS[0])
    assert house.runs == []
    assert house.journal.told == []


class Taker(Service):
    """A service, and a switch, that note what they are told and while what."""

    def __init__(self, told):
        super().__init__("json://localhost", 1)
        self.told = told

    def deliver(self, message):
        self.told.append(message.title)

    def send(self, signal, _run, _body=""):
        self.told.append(f"beat {signal}")
        return Beat(None)


def test_a_pass_that_hangs_is_told_while_it_hangs_and_its_end_when_it_is_stopped(house, monkeypatch):
    monkeypatch.setattr(outbox, "_TURN_SECONDS", 0.05)
    house.hangs, told = True, []
    config = Config(host="h", repository="/r", schedule=HOURLY)

    def judged(config, document):
        later = datetime.now(UTC) + timedelta(hours=13)
        return judge(config, "/r", document, later, later)

    taker = Taker(told)
    carrier = outbox.Courier(house.state, lambda: outbox.Recipients((taker,), taker), lambda *_, **__: None)
    with alerts.AlertWatch(house.state, lambda: config, carrier, judged) as looker:
        server = house.server((PASS,), [looker])
        running = threading.Thread(target=server._run_job, args=(PASS,))
        running.start()
        wait_until(lambda: "[h] Warning: pass runs long" in told, f"it is told: {told}", 60)
        assert running.is_alive()
        server._stop()
        running.join(10)
        wait_until(lambda: "[h] Recovered: 1 problem resolved" in told, f"its end is told: {told}", 60)
    assert [line for line in told if line.startswith("beat")] == ["beat start", "beat fail"]
    assert "[h] FAILED: pass refused" in told


def test_after_the_clock_was_set_back_jobs_are_scheduled_by_the_new_time(house):
    house.clock.now += timedelta(days=3650)
    server = house.server((job("pass"), job("check", "30 * * * *")))
    server._plan()
    turn(server)
    house.clock.now = MIDNIGHT
    for _minute in range(61):
        turn(server)
        house.clock.now += timedelta(minutes=1)
    assert [verb for verb, _moment in house.runs] == ["check", "pass"]
    assert [line["event"] for line in house.log()].count("The clock was set back; jobs are scheduled anew.") == 1


def test_a_small_correction_of_the_clock_repeats_no_pass(house):
    server = house.server((job("pass"),))
    server._plan()
    house.clock.now += timedelta(hours=1)
    turn(server)
    house.clock.now -= timedelta(seconds=30)
    for _turn in range(12):
        turn(server)
        house.clock.now += timedelta(seconds=10)
    assert len(house.runs) == 1


def test_a_pass_that_another_run_kept_from_beginning_is_tried_again_that_night(house):
    server = house.server((PASS,))
    house.state.first_started(MIDNIGHT)
    server._plan()
    house.clock.now += timedelta(hours=1, seconds=1)
    turn(server)
    assert server._due[PASS] == house.clock.now + TRY_AGAIN_AFTER
    house.clock.now += TRY_AGAIN_AFTER
    house.state.nightly_started(house.clock.now)
    house.state.record_pass(
        {"run": "r", "reason": "nightly", "started": house.clock.now.isoformat(), "finished": house.clock.now.isoformat(),
         "failed": 0, "error": None, "retention": {"ok": True, "removed": [], "error": None}, "matches": None, "volumes": {}}, [],
    )  # fmt: skip
    turn(server)
    assert server._due[PASS] == MIDNIGHT + timedelta(hours=2)
