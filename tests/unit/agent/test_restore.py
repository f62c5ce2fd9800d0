# SPDX-License-Identifier: GPL-3.0-or-later
"""The decisions of a restore that need no container."""

from __future__ import annotations

import itertools
import os
import signal
import stat
import threading
import time
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
from scalr_backup.actions import leftovers
from scalr_backup.actions.backup.manifest import Manifests
from scalr_backup.actions.restore.fill import Filler
from scalr_backup.actions.restore.lenience import Lenience
from scalr_backup.actions.restore.request import RestoreRequest
from scalr_backup.actions.restore.result import DatabaseRestore
from scalr_backup.actions.restore.run import InFlight, Restore
from scalr_backup.actions.restore.swap import SwapUnknownError
from scalr_backup.actions.use_case import Tools
from scalr_backup.cli import restore as verbs
from scalr_backup.core.archive.reader import ArchiveReader
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config
from scalr_backup.core.endings import Command, ending
from scalr_backup.core.errors import (
    DockerUnreachableError,
    InterruptedRunError,
    PostgresError,
    RepositoryUnreachableError,
    ResticError,
    RestoreError,
    SilentCommandError,
    UnreadableManifestError,
    VerificationError,
)
from scalr_backup.core.model import Credentials, Snapshot, old_name
from scalr_backup.core.progress import nobody
from scalr_backup.core.secrets import Secrets
from scalr_backup.tools.docker.exec_stream import STDERR, ExecStream
from scalr_backup.tools.postgres.cluster import _HALF_MADE, Postgres
from scalr_backup.tools.restic import process as restic_process
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import RestoreJournal, State

RUN = "20261122T030000Z-3f9a"
JOURNAL = RestoreJournal(RUN, "scalr-shop-db", "shop", "scalr_restore_20261122t030000z_3f9a_1", "shop_before", False)
KEEP = RestoreJournal(RUN, "scalr-shop-db", "shop", JOURNAL.new, JOURNAL.old, True)


def in_flight(plan, request=None, postgres=None):
    """A database on its way, over a server that does what is wanted of it in the test."""
    outcome = DatabaseRestore("shop", "ab12")
    return InFlight(request or RestoreRequest("scalr-shop-db"), None, plan, JOURNAL, outcome, postgres, postgres)


# -- names -------------------------------------------------------------------------------------------------


def test_the_replaced_databases_name_tells_of_the_restore():
    assert old_name("shop", RUN) == "shop_before_restore_20261122t030000z-3f9a"


@pytest.mark.parametrize("name", ["x" * 63, "ü" * 31, "☃" * 21, "a" + "😀" * 15, "x" * 27])
def test_a_long_name_is_cut_between_characters(name):
    old = old_name(name, RUN)
    assert len(old.encode()) <= 63
    assert old.endswith("_before_restore_20261122t030000z-3f9a")
    assert name.startswith(old[:4])


def test_a_name_that_just_fits_is_not_cut():
    assert old_name("x" * 26, RUN) == "x" * 26 + "_before_restore_20261122t030000z-3f9a"


def test_long_names_that_begin_alike_stay_apart():
    names = [f"customer_database_production_{number}" for number in range(50)]
    assert len({old_name(name, RUN) for name in names}) == 50


@pytest.mark.parametrize(
    "name", ["scalr_restore_notes", "scalr_restore_20261122", "my_" + JOURNAL.new, JOURNAL.new + "x"]
)
def test_a_users_database_is_not_taken_for_a_half_made_one(name):
    assert not _HALF_MADE.match(name)
    assert _HALF_MADE.match(JOURNAL.new)


# -- what a dead restore no more needs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("journal", "names", "superfluous"),
    [
        (JOURNAL, {"shop"}, None),
        (JOURNAL, {"shop", JOURNAL.new}, JOURNAL.new),
        (JOURNAL, {JOURNAL.new}, JOURNAL.new),
        (JOURNAL, {"shop", JOURNAL.old}, JOURNAL.old),
        (KEEP, {"shop", JOURNAL.new}, JOURNAL.new),
        (KEEP, {"shop", JOURNAL.old}, None),
        # Somebody took the restored database away: the replaced one is all that is left.
        (JOURNAL, {JOURNAL.old}, None),
        (JOURNAL, set(), None),
    ],
)
def test_only_what_has_a_better_is_superfluous(journal, names, superfluous):
    assert leftovers.superfluous(journal, names | {"postgres", "template1"}) == superfluous


class FakePostgres:
    """A cluster that is only names."""

    def __init__(self, names, undroppable=()):
        self.names = set(names)
        self.undroppable = set(undroppable)

    def database_names(self):
        return set(self.names)

    def kept_open(self):
        return nullcontext()

    def half_made_databases(self):
        return {name: 8_000_000 for name in self.names if _HALF_MADE.match(name)}

    def end_leftovers(self, _pattern):
        return 0

    def runs_at_work(self):
        return set()

    def heads(self):
        return set()

    def live_database(self, name):
        return SimpleNamespace(size_bytes=1, sessions=0) if name in self.names else None

    def drop_database(self, name):
        if name in self.undroppable:
            raise PostgresError(f"database {name} is used by a replication slot")
        self.names.discard(name)


def clean_up(state, postgres):
    discovery = SimpleNamespace(postgres=lambda *_arguments: postgres)
    cluster = SimpleNamespace(container=SimpleNamespace(name="scalr-shop-db"), credentials=None)
    return leftovers.clean_up(state, discovery, cluster)


def test_clean_up_without_a_journal_drops_half_made_databases_only(tmp_path):
    kept = {"shop", "shop_before_restore_20261122t030000z-3f9a", "scalr_restore_notes"}
    postgres = FakePostgres({*kept, JOURNAL.new})
    assert len(clean_up(State(tmp_path), postgres)) == 1
    assert postgres.names == kept


def test_clean_up_leaves_other_containers_journals_alone(tmp_path):
    state = State(tmp_path)
    other = RestoreJournal(RUN, "scalr-blog-db", "shop", JOURNAL.new, "shop_before", False)
    state.open_journal(other)
    postgres = FakePostgres({"shop", "shop_before"})
    assert clean_up(state, postgres) == []
    assert postgres.names == {"shop", "shop_before"}
    assert state.journals("scalr-blog-db") == [other]


def test_what_cannot_be_dropped_is_told_each_time_until_it_can(tmp_path):
    state = State(tmp_path)
    state.open_journal(JOURNAL)
    postgres = FakePostgres({"shop", "shop_before"}, undroppable={"shop_before"})
    for _night in range(2):
        [sentence] = clean_up(state, postgres)
        assert "could not be dropped" in sentence
        assert "replication slot" in sentence
    postgres.undroppable.clear()
    [sentence] = clean_up(state, postgres)
    assert "had swapped" in sentence
    assert postgres.names == {"shop"}
    assert clean_up(state, postgres) == []


# -- the swap's outcome ------------------------------------------------------------------------------------


class LosesTheAnswer(FakePostgres):
    """Its swap happens, or not, and its answer is lost; then it may be gone for good."""

    application = f"scalr-backup {RUN}"
    container = "scalr-shop-db"

    def __init__(self, names, happens, silent=0, late=False):
        super().__init__(names)
        self.happens = happens
        # How often it does not answer before it does, and whether its COMMIT is still on its way then.
        self.silent = silent
        self.late = late
        self.renamed = None

    def end_leftovers(self, pattern):
        assert pattern == f"{self.application}$"
        if self.silent:
            self.silent -= 1
            raise DockerUnreachableError("nobody there")
        if self.renamed is not None:
            self.names, self.renamed = self.renamed, None
            return 1
        return 0

    def swap(self, live, new, old, _properties):
        renamed = (self.names - {new}) | ({old} if old else set()) | {live}
        if self.late:
            self.renamed = renamed
        elif self.happens:
            self.names = renamed
        raise DockerUnreachableError("the connection broke")


@pytest.fixture
def _at_once(monkeypatch):
    monkeypatch.setattr("scalr_backup.actions.restore.swap._AGAIN_SECONDS", 0.0)


def swap(postgres, exists=True, stop=None):
    restore = Restore(Tools(None, None, None, None, None, stop or threading.Event()))
    plan = SimpleNamespace(database="shop", exists=exists)
    return restore._swap(in_flight(plan, postgres=postgres), ())


def test_a_swap_whose_answer_was_lost_has_happened():
    assert swap(LosesTheAnswer({"shop", JOURNAL.new}, happens=True)) == JOURNAL.old
    assert swap(LosesTheAnswer({JOURNAL.new}, happens=True), exists=False) is None


def test_a_swap_that_failed_has_changed_nothing():
    with pytest.raises(RestoreError, match="changed nothing"):
        swap(LosesTheAnswer({"shop", JOURNAL.new}, happens=False))


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("accident", [{"silent": 3, "happens": True}, {"late": True, "happens": True}])
def test_a_server_that_recovers_or_has_not_committed_yet_is_waited_for(accident):
    assert swap(LosesTheAnswer({"shop", JOURNAL.new}, **accident)) == JOURNAL.old


@pytest.mark.parametrize("impatience", ["time", "signal"])
def test_a_swap_that_nobody_can_judge_does_not_claim_that_nothing_changed(monkeypatch, impatience):
    stop = threading.Event()
    if impatience == "signal":
        stop.set()
    else:
        monkeypatch.setattr("scalr_backup.actions.restore.swap._PATIENCE_SECONDS", -1.0)
    with pytest.raises(SwapUnknownError, match="completely or not at all") as caught:
        swap(LosesTheAnswer({"shop", JOURNAL.new}, happens=True, silent=99), stop=stop)
    assert "changed nothing" not in str(caught.value)


def test_what_a_swap_has_made_is_left_alone_while_nobody_knows_its_outcome(monkeypatch):
    def unknown(*_arguments):
        raise SwapUnknownError("completely or not at all")

    restore = Restore(Tools(SimpleNamespace(), None, None, None, nobody, threading.Event()))
    monkeypatch.setattr(
        restore,
        "_fill",
        lambda _flight: SimpleNamespace(
            verified=None, jobs=1, seconds={}, warnings=[], objects=[], unreachable=[], waiting=()
        ),
    )
    monkeypatch.setattr(restore, "_swap", unknown)
    removed = []
    monkeypatch.setattr(restore, "_remove_half_made", lambda *arguments: removed.append(arguments))
    plan = SimpleNamespace(database="shop", exists=True)
    with pytest.raises(SwapUnknownError):
        restore._fill_and_swap(in_flight(plan))
    assert removed == []


def test_a_database_that_came_into_being_meanwhile_is_not_replaced_unsaved():
    postgres = FakePostgres({"shop", JOURNAL.new})
    with pytest.raises(RestoreError, match="created while the restore ran"):
        swap(postgres, exists=False)
    assert postgres.names == {"shop", JOURNAL.new}


# -- streams that stand still ------------------------------------------------------------------------------


class FakeSocket:
    """A connection whose other side reads only so much."""

    def __init__(self, room):
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        self.room = room

    def fileno(self):
        return self.writer

    def settimeout(self, seconds):
        """A pipe that does not block needs none."""

    def send(self, data):
        return os.write(self.writer, data)


def exec_stream(seconds):
    connection = FakeSocket(1 << 16)
    connection._response = SimpleNamespace(raw=SimpleNamespace(_fp=SimpleNamespace(fp=None)), close=lambda: None)
    return ExecStream(None, "id", connection, seconds, Command("pg_restore", "scalr-shop-db")), connection


def test_a_command_that_reads_nothing_can_be_given_up():
    stream, _connection = exec_stream(60.0)

    def stop():
        raise InterruptedRunError("told to stop")

    with pytest.raises(InterruptedRunError):
        stream.write(b"x" * 1_000_000, stop)


def test_a_command_that_reads_nothing_for_too_long_is_given_up():
    stream, _connection = exec_stream(0.6)
    with pytest.raises(DockerUnreachableError, match="read nothing"):
        stream.write(b"x" * 1_000_000)


def test_what_is_written_arrives_whole():
    stream, connection = exec_stream(60.0)
    data, received = os.urandom(1_000_000), bytearray()

    def read():
        while len(received) < len(data):
            received.extend(os.read(connection.reader, 10_000))

    reader = threading.Thread(target=read)
    reader.start()
    stream.write(data)
    reader.join(60)
    assert bytes(received) == data


class DiedWithItsInputOpen:
    """A pg_restore that has said its last words, whose input Docker keeps open although nobody reads it."""

    def frames(self):
        yield STDERR, b"pg_restore: error: could not read from input file: end of file\n"

    def write(self, data, waiting):
        for _turn in range(1000):
            waiting()
            time.sleep(0.01)
        pytest.fail("nobody gave it up")

    def wait(self):
        return 1

    def how_it_ended(self, said, _known=None):
        return ending(Command("pg_restore", "scalr-shop-db"), self.wait(), said, lambda: {"State": {"Running": True}})


def test_a_pg_restore_that_died_is_not_written_to_for_minutes():
    fill = Filler(None, SimpleNamespace(container="scalr-shop-db"), lambda event: None, lambda: None)
    plan = SimpleNamespace(database="shop")
    judge = partial(fill._judge, plan, "new", Lenience("s", skip=False))
    with pytest.raises(RestoreError, match="exit code 1: pg_restore: error: could not read from input file"):
        fill._stream(plan, ArchiveReader(), b"head", iter(()), DiedWithItsInputOpen(), judge)


def restic_that(script, tmp_path, monkeypatch, cancelled=None):
    """A Restic whose program is a script."""
    program = tmp_path / "restic"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    config = Config(host="h", repository="/r")
    return Restic(config, Secrets(tmp_path / "password"), cache=tmp_path, cancelled=cancelled)


def test_a_repository_that_falls_silent_is_given_up(tmp_path, monkeypatch):
    restic = restic_that("echo beginning; exec sleep 60", tmp_path, monkeypatch)
    received, leaps = [], itertools.count(0, 2000)
    # Once its first word was read, each look at the clock is after its time limit.
    clock = SimpleNamespace(monotonic=lambda: next(leaps) if received else 0)
    monkeypatch.setattr(restic_process, "time", clock)
    with pytest.raises(RepositoryUnreachableError, match="sent nothing for 1800 s"), restic.dump("aa", "/x") as stream:
        received.extend(stream.chunks())
    assert received == [b"beginning\n"]


def test_a_run_that_waits_for_the_repository_can_be_told_to_stop(tmp_path, monkeypatch):
    cancelled = threading.Event()
    restic = restic_that("exec sleep 60", tmp_path, monkeypatch, cancelled)
    cancelled.set()
    with pytest.raises(InterruptedRunError), restic.dump("aa", "/x") as stream:
        list(stream.chunks())


def test_a_slow_reader_is_no_silent_repository(tmp_path, monkeypatch):
    restic = restic_that("echo one; echo two", tmp_path, monkeypatch)
    now = [0]
    monkeypatch.setattr(restic_process, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with restic.dump("aa", "/x") as stream:
        received = b""
        for chunk in stream.chunks(4):
            received += chunk
            now[0] += 2000
    assert received == b"one\ntwo\n"


def test_a_manifest_whose_restic_is_killed_is_read_at_the_second_try(tmp_path, monkeypatch):
    script = f"""if [ -e {tmp_path}/tried ]; then printf '{{"run": "r", "clusters": []}}'; exit 0; fi
        touch {tmp_path}/tried; printf '{{"run": "r", '; kill -9 $$"""
    restic = restic_that(script, tmp_path, monkeypatch)
    found = Snapshot("aa" * 32, utc_now(), "h", "/manifest.json", ("run=r",), 100)
    Manifests(restic, [found]).read([found])
    (tmp_path / "restic").write_text('#!/bin/sh\nprintf \'{"run": "r", \'; kill -9 $$\n')
    with pytest.raises(UnreadableManifestError, match="exit code -9"):
        Manifests(restic, [found]).read([found])


# -- the operator's word -----------------------------------------------------------------------------------


@pytest.mark.parametrize("silence", [EOFError, KeyboardInterrupt])
def test_a_question_without_an_answer_is_a_no(silence, monkeypatch):
    plan = SimpleNamespace(as_dict=dict, reference="aa11", confirm="scalr-shop-db")
    use_case = SimpleNamespace(plan=lambda _request: plan)
    handlers = []

    def ask(question):
        assert "Type the container's name, scalr-shop-db, to replace" in question
        handlers.append(signal.getsignal(signal.SIGINT))
        raise silence

    monkeypatch.setattr("builtins.input", ask)
    before = signal.getsignal(signal.SIGINT)
    out = SimpleNamespace(result=lambda *_arguments: None)
    request = verbs._ask(use_case, RestoreRequest("scalr-shop-db"), out)
    assert request.confirm != "scalr-shop-db"
    assert request.snapshot == "aa11"
    assert handlers != [before], "a signal ends the question"
    assert signal.getsignal(signal.SIGINT) is before


# -- dropping the live database first ----------------------------------------------------------------------


class Reader:
    """Reads a snapshot to its end, or fails to."""

    def __init__(self, log, fails=False, refuses=False):
        self.log, self.fails, self.refuses = log, fails, refuses

    def read_through(self, _plan):
        self.log.append("read")
        if self.fails:
            raise ResticError("a pack is damaged")

    def rehearse(self, _plan, new):
        self.log.append(f"rehearse in {new}")
        if self.refuses:
            raise RestoreError('extension "pg_cron" is not available')


class Dropping:
    """Notes which database is dropped."""

    container = "scalr-shop-db"

    def __init__(self, log):
        self.log = log

    def slots(self, _database):
        return ()

    def drop_database(self, name):
        self.log.append(f"drop {name}")


def drop_live(log, *, fails=False, cancelled=False, refuses=False):
    stop = threading.Event()
    if cancelled:
        stop.set()
    restore = Restore(Tools(None, None, None, None, lambda event: log.append(event["phase"]), stop))
    flight = in_flight(SimpleNamespace(database="shop"), postgres=Dropping(log))
    restore._drop_live(Reader(log, fails, refuses), flight)
    return flight.outcome


def test_the_live_database_is_dropped_only_after_its_replacement_was_read_to_the_end():
    log = []
    assert drop_live(log).dropped_first is True
    assert log == ["read", "rehearsal", f"rehearse in {JOURNAL.new}", "drop", "drop shop"]


def test_a_rehearsal_that_fails_drops_nothing_and_says_so():
    log = []
    with pytest.raises(RestoreError, match=r"rehearsal failed, so the live shop was not dropped: .*pg_cron"):
        drop_live(log, refuses=True)
    assert not any(step.startswith("drop") for step in log)


@pytest.mark.parametrize("accident", ["fails", "cancelled"])
def test_a_snapshot_that_was_not_read_to_its_end_drops_nothing(accident):
    log = []
    with pytest.raises((ResticError, InterruptedRunError)):
        drop_live(log, **{accident: True})
    assert log == ["read"]


def test_the_way_back_is_told_only_where_there_is_one():
    restore = Restore(Tools(None, None, None, None, None, threading.Event()))
    flight = in_flight(SimpleNamespace(database="shop"), RestoreRequest("scalr-shop-db", target="scalr-new-db"))
    assert restore._with_way_back(flight, "Why.") == "Why."
    flight.outcome.dropped_first = True
    assert "snapshot" not in restore._with_way_back(flight, "Why.")
    flight.outcome.safety_snapshot_id = "0123456789abcdef"
    told = restore._with_way_back(flight, "Why.")
    assert told.startswith("Why. shop had already been dropped")
    assert "-e db=scalr-new-db -e snapshot=01234567." in told


@pytest.mark.parametrize("dropped_first", [False, True])
def test_a_copy_that_differs_is_kept_and_what_is_said_of_the_live_one_is_true(monkeypatch, dropped_first):
    def differs(*_arguments):
        raise VerificationError("1 table differs.")

    restore = Restore(Tools(None, None, None, None, nobody, threading.Event()))
    monkeypatch.setattr(restore, "_fill", differs)
    monkeypatch.setattr(restore, "_keep_for_inspection", lambda *_arguments: "shop_restored")
    flight = in_flight(SimpleNamespace(database="shop", exists=True))
    flight.outcome.dropped_first = dropped_first
    with pytest.raises(VerificationError, match=r"kept.* as shop_restored") as caught:
        restore._fill_and_swap(flight)
    assert ("the live one as it was" in caught.value.message) is not dropped_first


def test_a_copy_that_differs_in_a_throwaway_container_is_not_kept_and_nothing_is_said_of_it(monkeypatch):
    def differs(*_arguments):
        raise VerificationError("1 table differs.")

    restore = Restore(Tools(None, None, None, None, nobody, threading.Event()))
    monkeypatch.setattr(restore, "_fill", differs)
    monkeypatch.setattr(restore, "_keep_for_inspection", lambda *_arguments: pytest.fail("kept"))
    flight = in_flight(SimpleNamespace(database="shop", exists=False), RestoreRequest("scalr-shop-db", throwaway=True))
    with pytest.raises(VerificationError) as caught:
        restore._fill_and_swap(flight)
    assert caught.value.message == "1 table differs."
    assert flight.outcome.kept_database is None


# -- a server that hangs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "limit"),
    [
        (lambda postgres: postgres.query("postgres", "SELECT 1;"), 300.0),
        (lambda postgres: postgres.live_database("shop"), 300.0),
        (lambda postgres: postgres.roles(), 300.0),
        (lambda postgres: postgres.room(), 300.0),
        # A large table may take its time.
        (lambda postgres: postgres.analyze("shop"), 24 * 3600.0),
        (lambda postgres: postgres.execute("postgres", "DROP DATABASE shop"), 24 * 3600.0),
    ],
)
def test_a_look_that_says_nothing_is_given_up_and_work_is_waited_for(call, limit):
    limits = []

    def start_exec(*_arguments, silence_seconds, **_options):
        limits.append(silence_seconds)
        raise SilentCommandError("psql has said nothing.")

    facts = {("c", "home"): "postgres", ("c", "without event triggers"): "", ("c", "limits"): ""}
    postgres = Postgres(
        SimpleNamespace(start_exec=start_exec), "c", Credentials("postgres", None, "postgres"), "a", facts=facts
    )
    with pytest.raises(SilentCommandError):
        call(postgres)
    assert limits == [limit]


# -- what a server says of roles that cannot be made -------------------------------------------------------


class Psql:
    """A psql that has something to say on its standard error, and ends."""

    def __init__(self, messages):
        self.messages = messages
        self.written = b""

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        """Nothing is open."""

    def write(self, data, _waiting):
        self.written += data

    def frames(self, _waiting):
        # The first query, which silences the log, is answered by its marker.
        marker = self.written.rsplit(b"\\echo ", 1)[1]
        yield 1, marker
        yield 2, self.messages.encode()

    def how_it_ended(self, said, _known=None):
        return ending(Command("psql", "scalr-shop-db"), 3, said, lambda: {"State": {"Running": True}})


HASH = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"


@pytest.mark.parametrize(
    "messages",
    [
        "ERROR:  permission denied to alter role\nDETAIL:  Only roles with the SUPERUSER attribute may do that.\n",
        f"ERROR:  syntax error\nLINE 1: ALTER ROLE app WITH LOGIN PASSWORD '{HASH}';\n                ^\n",
    ],
)
def test_a_server_that_refuses_a_role_does_not_make_us_repeat_its_password(messages):
    psql = Psql(messages)
    docker = SimpleNamespace(
        start_exec=lambda *_arguments, **_options: psql, ended_if_astray=lambda _stream: nullcontext()
    )
    postgres = Postgres(docker, "scalr-shop-db", Credentials("postgres", None, "postgres"), "scalr-backup look")
    postgres.__dict__["_home"] = "postgres"
    with pytest.raises(PostgresError, match="ERROR") as caught:
        postgres.make_roles([f"ALTER ROLE app WITH LOGIN PASSWORD '{HASH}';"])
    assert HASH not in caught.value.message
    # psql itself is told not to show the line, and the server not to log it.
    assert psql.written.index(b"VERBOSITY terse") < psql.written.index(HASH.encode().hex().encode())
    silenced = ("log_min_error_statement", "pg_stat_statements.track", "auto_explain.log_min_duration", "pgaudit.log")
    for setting in silenced:
        assert psql.written.index(f"'{setting}'".encode()) < psql.written.index(HASH.encode().hex().encode())
