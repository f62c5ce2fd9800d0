# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk of the agent's own that takes nothing: no work waits for it, and everybody is told."""

from __future__ import annotations

import io
import itertools
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from scalr_backup.actions.backup.result import PassRequest
from scalr_backup.actions.backup.run import Pass
from scalr_backup.actions.drill.plan import speaks_of_the_backup
from scalr_backup.actions.health import alerts, outbox
from scalr_backup.actions.health.status import judge
from scalr_backup.actions.use_case import Tools
from scalr_backup.cli.call import run_verb
from scalr_backup.cli.output import Outcome
from scalr_backup.cli.serve import serve_verb
from scalr_backup.cli.wiring import Agent
from scalr_backup.core.config import Config
from scalr_backup.core.errors import (
    BusyError,
    ResticError,
    ScalrBackupError,
    UnwritableRecordError,
    WrongPasswordError,
)
from scalr_backup.core.jobs import PASS
from scalr_backup.core.model import DatabaseBackup, new_run_id
from scalr_backup.core.progress import nobody
from scalr_backup.core.secrets import Secrets
from scalr_backup.tools import own_disk, state_file
from scalr_backup.tools.heartbeat import Beat
from scalr_backup.tools.known_files import KnownFiles, KnownFilesStore
from scalr_backup.tools.notify import Service
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import KeptDatabase, RestoreJournal, State, UndoJournal

NOW = datetime(2026, 11, 22, 3, 5, tzinfo=UTC)
CONFIG = Config(host="web1", repository="/repository")
JOURNAL = RestoreJournal("r", "shop-db", "shop", "new", "old", keep_old=True)
KEPT = KeptDatabase("r", "shop-db", "shop", "old")


class Disk:
    """A state directory whose files can be written, or not: what they are written to is a directory then."""

    def __init__(self, place):
        self.place = place
        self.names = ("state.json.new", "history.jsonl")

    def fill(self):
        for name in self.names:
            (self.place / name).mkdir()

    def free(self):
        for name in self.names:
            (self.place / name).rmdir()

    @property
    def document(self):
        return json.loads((self.place / "state.json").read_text())


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path)


@pytest.fixture
def state(disk):
    return State(disk.place)


def record(state, run="r"):
    result = {
        "run": run, "reason": "nightly", "started": NOW.isoformat(), "finished": NOW.isoformat(), "error": None,
        "matches": None, "volumes": {}, "failed": 0, "retention": {"ok": True, "removed": [], "error": None},
    }  # fmt: skip
    dumped = DatabaseBackup("shop-db", "shop", ok=True, snapshot_id="aa", bytes_read=9, bytes_added=9, bytes_stored=9)
    return state.record_pass(result, [dumped])


class TestTheRecord:
    def test_is_what_the_process_could_not_write_and_is_written_when_it_can_be(self, disk, state):
        state.put(agent_id="a")
        disk.fill()
        state.change_box(lambda box: box.update(sent=box.get("sent", 0) + 1))
        state.change_box(lambda box: box.update(sent=box.get("sent", 0) + 1))
        assert state.read()["notifications"] == state.read()["notifications"] == {"sent": 2}
        assert disk.document == {"agent_id": "a"}
        assert state.unwritten() == state.obstacle()
        assert "state.json cannot be written: Is a directory." in state.unwritten()

        disk.free()
        State(disk.place).put(running={"since": NOW.isoformat()})
        state.put(digest={"time": NOW.isoformat()})
        written = {"agent_id", "running", "notifications", "digest"}
        assert set(disk.document) == set(state.read()) == written, (
            "and nothing that another process wrote meanwhile is lost"
        )
        assert disk.document["notifications"] == {"sent": 2}
        assert state.unwritten() is state.obstacle() is None

    def test_that_waits_is_written_by_who_asks_whether_it_can_be(self, disk, state):
        disk.fill()
        state.put(agent_id="a")
        assert state.damage().unwritable
        assert state.damage().command == f"docker exec scalr-backup df -h {disk.place}"
        disk.free()
        assert state.damage() is None
        assert disk.document == {"agent_id": "a"}

    def test_waits_for_weeks_in_bounds(self, disk, state, monkeypatch):
        monkeypatch.setattr(state_file, "_MOST_WAITING", 3)
        disk.fill()
        for number in range(9):
            state.change_box(lambda box, number=number: box.update({f"failed{number}": 1}))
        assert set(state.read()["notifications"]) == {"failed6", "failed7", "failed8"}

    def test_that_was_torn_leaves_the_room_to_others(self, disk, state, monkeypatch):
        def full(_descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        state.put(agent_id="a")
        KnownFilesStore("a" * 64, disk.place).only_read()
        with pytest.raises(UnwritableRecordError, match="No space left on device"):
            KnownFilesStore("a" * 64, disk.place).write(KnownFiles())
        assert {path.name for path in disk.place.iterdir()} == {"locks"}

    def test_of_what_a_restore_must_not_leave_behind_is_written_at_once_or_not_at_all(self, disk, state):
        disk.fill()
        for note in (
            lambda: state.open_journal(JOURNAL),
            lambda: state.open_undo(UndoJournal(KEPT, None)),
            lambda: state.record_look("id/web1", {"time": NOW.isoformat(), "ids": []}),
        ):
            with pytest.raises(UnwritableRecordError, match=r"state\.json cannot be written"):
                note()
        assert state.read() == {}
        state.close_journal(JOURNAL)
        state.keep(KEPT)
        assert state.kept() == [KEPT]

    def test_of_a_pass_is_told_once(self, disk, state):
        disk.fill()
        told = record(state)
        assert state.read()["last_pass"]["run"] == "r"
        assert state.read()["databases"]["shop-db/shop"]["ok"]
        assert told == record(State(disk.place), "s")

    def test_knows_the_agent_and_its_beginning_as_long_as_the_process_lives(self, disk, state):
        disk.fill()
        assert state.agent_id() == state.agent_id()
        assert state.first_started(NOW) == NOW
        assert state.first_started(NOW + timedelta(days=1)) == NOW
        assert State(disk.place).first_started(NOW + timedelta(days=1)) == NOW + timedelta(days=1)

    def test_of_what_happened_is_missed_alone(self, disk, state):
        (disk.place / "history.jsonl").mkdir()
        record(state)
        assert "history.jsonl cannot be written: Is a directory." in state.unwritten()
        assert disk.document["last_pass"]["run"] == "r"
        with pytest.raises(ScalrBackupError, match=r"history\.jsonl cannot be read: Is a directory"):
            state.history.read(NOW)


def disk_that_says(**facts):
    usual = {"f_flag": 0, "f_blocks": 100, "f_bavail": 50, "f_frsize": 4096, "f_files": 100, "f_favail": 50}
    return SimpleNamespace(**usual | facts)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, None),
        ({"f_bavail": 0}, "No space left on device"),
        ({"f_bavail": 2}, "No space left on device"),
        ({"f_favail": 0}, "No space left on device"),
        ({"f_flag": os.ST_RDONLY}, "Read-only file system"),
        ({"f_blocks": 0, "f_bavail": 0, "f_files": 0, "f_favail": 0}, None),
    ],
    ids=["room", "full", "less than the file has", "no more files", "read-only", "nothing is counted"],
)
def test_a_full_disk_is_seen_without_a_try(tmp_path, monkeypatch, facts, why):
    (tmp_path / "state.json").write_text("x" * 9000)
    monkeypatch.setattr(os, "statvfs", lambda _place: disk_that_says(**facts))
    found = own_disk.obstacle(tmp_path / "state.json")
    assert found is None if why is None else f"state.json cannot be written: {why}." in found


def test_a_place_that_is_not_the_agents_is_seen_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda _place, _mode: False)
    assert "cannot be written: Permission denied." in own_disk.obstacle(tmp_path / "state.json")
    assert "cannot be written: No such file" in own_disk.obstacle(tmp_path / "gone" / "state.json")


class TestLocksAndRuns:
    def test_are_held_where_no_file_can_be_made(self, tmp_path, monkeypatch):
        """Their directories are files, so nothing can be in them."""
        memory = tmp_path / "memory"
        memory.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(memory))
        place = tmp_path / "state"
        place.mkdir()
        for name in ("locks", "runs"):
            (place / name).touch()
        state, run = State(place), new_run_id()
        with state.runs.alive(run), state.locks.hold("pass", "me"):
            assert not state.runs.is_dead(run)
            with pytest.raises(BusyError, match="me"), State(place).locks.hold("pass", "you"):
                pass
            with state.locks.hold("container-shop-db", "me"):
                pass
        with State(place).locks.hold("pass", "you"):
            pass
        assert (state.locks.under_way(), state.locks.pass_runs(), state.runs.any_alive()) == (None, False, False)
        state.forget_containers("shop")

    def test_are_held_where_words_cannot_be_written(self, tmp_path, monkeypatch):
        class Full(io.FileIO):
            def write(self, _data):
                raise OSError(28, "No space left on device")

        monkeypatch.setattr("scalr_backup.tools.locks.FileIO", Full)
        mine, yours = (State(tmp_path).locks.hold("pass", name) for name in ("me", "you"))
        with mine, pytest.raises(BusyError, match="another run"), yours:
            pass

    def test_where_nothing_at_all_can_be_written_say_so(self, tmp_path, monkeypatch):
        (tmp_path / "locks").touch()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "locks"))
        with pytest.raises(UnwritableRecordError, match="cannot be written"), State(tmp_path).locks.hold("pass", "me"):
            pass


class Taker(Service):
    """A service, and a switch, that note what they are told."""

    def __init__(self):
        super().__init__("json://localhost", 1)
        self.told, self.beats = [], []

    def deliver(self, message):
        self.told.append(message)

    def send(self, signal, _run, _body=""):
        self.beats.append(signal)
        return Beat(None)


def test_everybody_is_told_once_and_of_the_end_too(disk, state):
    taker, minutes = Taker(), itertools.count(2, 2)
    carrier = outbox.Courier(state, lambda: outbox.Recipients((taker,), taker), lambda *_, **__: None)

    def judged(config, document):
        now = datetime.now(UTC)
        return judge(config, "/repository", document, state.first_started(now, document), now, damage=state.damage())

    def turn():
        looker.tick(datetime.now(UTC) + timedelta(minutes=next(minutes)))
        carrier._send(at_once=True)

    looker = alerts.AlertWatch(state, lambda: CONFIG, carrier, judged)
    disk.fill()
    for _night in range(3):
        looker.started(PASS)
        unwritable = {"code": "record_unwritable", "message": "It cannot be written."}
        looker.ended(PASS, 1, {"error": unwritable, "data": {}})
        turn()
    assert [one.title for one in taker.told] == ["[web1] FAILED: record unwritable"]
    assert f"{disk.place}/state.json cannot be written: Is a directory." in taker.told[0].body
    assert f"Run next: docker exec scalr-backup df -h {disk.place}" in taker.told[0].body

    disk.free()
    turn()
    assert [one.title for one in taker.told[1:]] == ["[web1] Recovered: 1 problem resolved"]
    assert disk.document["notifications"]["sent"] == 2


def a_pass(state, error):
    def fail():
        raise error

    restic = SimpleNamespace(require_version=fail, repository="/repository")
    config = SimpleNamespace(host="h", repository="/repository", timezone="UTC")
    return Pass(Tools(config, None, restic, state, nobody, threading.Event()))


def test_a_scheduled_pass_comes_to_its_own_end(disk, state):
    disk.fill()
    with pytest.raises(WrongPasswordError):
        a_pass(state, WrongPasswordError("no")).run(PassRequest())
    assert state.read()["last_pass"]["error"]["code"] == "wrong_password"
    assert state.read()["nightly_unfinished"] == 0


@pytest.fixture
def called(disk, monkeypatch, capsys):
    """Call a verb that puts something on record, with a disk that takes nothing."""
    monkeypatch.setattr("scalr_backup.tools.state.STATE_DIRECTORY", disk.place)

    def call(outcome):
        def work(agent: Agent):
            agent.state.put(agent_id="a")
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        disk.fill()
        with pytest.raises(SystemExit) as end:
            run_verb("copy", True, work)
        return end.value.code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


class TestAVerb:
    def test_that_has_done_its_work_says_that_it_is_not_on_record(self, called):
        data = {
            "repository": "/copy", "ok": True, "time": NOW.isoformat(), "copied": 3, "removed": [], "error": None,
        }  # fmt: skip
        code, [result] = called(Outcome(data, changed=True))
        assert (code, result["exit_code"], result["changed"], result["data"]) == (1, 1, True, data)
        assert result["error"]["code"] == "record_unwritable"

    def test_that_has_failed_says_so_first(self, called):
        code, [told, result] = called(WrongPasswordError("no"))
        assert (code, result["error"]["code"]) == (1, "wrong_password")
        assert (told["event"], told["level"]) == ("log", "error")
        assert "cannot be written" in told["message"]


def test_what_keeps_a_drill_from_its_record_says_nothing_of_the_backup():
    assert not speaks_of_the_backup(UnwritableRecordError.code, own_image=True)


def test_why_restic_fails_on_a_full_cache_is_not_swallowed_by_it(tmp_path, monkeypatch):
    (tmp_path / "spool").touch()
    program = tmp_path / "restic"
    program.write_text('#!/bin/sh\necho "Fatal: write $TMPDIR/pack: no space left on device" >&2; exit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    restic = Restic(CONFIG, Secrets(tmp_path / "password"), cache=tmp_path)
    restic.clear_spool()
    with restic.dump("aa", "/x") as stream, pytest.raises(ResticError) as failed:
        list(stream.chunks())
    assert failed.value.message == (
        f"restic cannot keep what it sends in the agent's cache, {tmp_path}/spool: free space on its disk, or make it writable "
        f"(write {tmp_path}/spool/pack: no space left on device)."
    )


def test_whatever_ends_the_agent_is_one_line_of_its_log(monkeypatch, capsys):
    def fail():
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("scalr_backup.cli.serve.load_config", fail)
    with pytest.raises(SystemExit, match="1"):
        serve_verb()
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["reason"] == "OSError: [Errno 5] Input/output error"
