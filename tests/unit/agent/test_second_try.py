# SPDX-License-Identifier: GPL-3.0-or-later
"""What failed while others were at work, or before a server was up, is tried again within the same pass."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from scalr_backup.actions import latecomers
from scalr_backup.actions.backup.dump import Dumped
from scalr_backup.actions.backup.result import PassRequest, PassResult
from scalr_backup.actions.backup.run import Pass
from scalr_backup.actions.backup.second_try import Company, deserves_another
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.errors import CommandLostError, ContainerStoppedError, DumpError, PostgresError, ResticError
from scalr_backup.core.model import Cluster, Container, Credentials, Database, Saved
from scalr_backup.tools.state import State

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


class TestTheDecision:
    @pytest.mark.parametrize("sqlstate", ["53300", "53200", "57P01", "57P03", "08006", "58030", None])
    def test_what_a_server_lacked_or_lost_is_tried_again_whatever_its_words(self, sqlstate):
        assert deserves_another(PostgresError("zu viele Verbindungen", sqlstate), had_company=False)

    @pytest.mark.parametrize("sqlstate", ["42501", "3D000", "28P01", "55P03", "57014", "XX001", "22P05", "22021"])
    def test_what_is_the_same_in_a_minute_or_was_waited_for_is_not(self, sqlstate):
        assert not deserves_another(PostgresError("too many clients", sqlstate), had_company=True)

    @pytest.mark.parametrize(
        ("error", "had_company", "again"),
        [
            (DumpError("x", begun=False), False, True),
            (DumpError("x", begun=True), False, False),
            (DumpError("x", begun=True), True, True),
            (DumpError("x", begun=False, waited_for="t, locked by 7"), True, False),
            (CommandLostError("x"), False, True),
            (ContainerStoppedError("x"), False, True),
            (ResticError("x"), True, False),
        ],
    )
    def test_of_pg_dump_counts_what_is_known(self, error, had_company, again):
        assert deserves_another(error, had_company=had_company) is again


def test_company_is_whoever_was_there_at_any_time():
    company = Company()
    with company.at_work("a") as first, company.at_work("b") as elsewhere:
        assert not first()
        with company.at_work("a") as second:
            assert second()
        assert first()
        assert not elsewhere()
    with company.at_work("a") as later:
        assert not later()


@pytest.mark.parametrize(
    ("state", "readiness", "age", "coming"),
    [
        ("restarting", None, None, True),
        ("running", 1, 10_000, True),
        ("running", 2, 10, True),
        ("running", 2, 10_000, False),
        ("running", 2, None, False),
        ("running", 0, 10, False),
        ("running", 127, 10, False),
        ("running", 137, 10, True),
        ("exited", None, None, False),
    ],
)
def test_a_server_that_starts_or_recovers_is_waited_for(state, readiness, age, coming):
    started = None if age is None else NOW - timedelta(seconds=age)
    assert latecomers.is_coming(state, readiness, started, NOW) is coming


def a_container(name="scalr-shop-db", status="ok", state="running"):
    return Container("c" * 64, name, "postgres:17", "sha256:aa", state, status, "why")


def a_cluster(*databases, name="scalr-shop-db"):
    return Cluster(
        a_container(name),
        Credentials("app", None),
        "17.6",
        tuple(Database(one, 10, "app", "UTF8") for one in databases),
    )


@pytest.mark.parametrize(
    ("status", "state", "late"),
    [
        ("unreachable", "running", True), ("stopped", "restarting", True), ("stopped", "running", True),
        ("stopped", "paused", False), ("stopped", "exited", False), ("excluded", "running", False), ("ok", "running", False),
    ],
)  # fmt: skip
def test_who_has_no_server_yet_is_asked_again(status, state, late):
    assert latecomers.may_come(a_container(status=status, state=state)) is late


class FakeDumper:
    """Fails so often for each database, and remembers how it was asked."""

    def __init__(self, **errors):
        self.errors = {name: list(found) for name, found in errors.items()}
        self.asked = []

    def dump(self, _cluster, database, _tags, *, sparing):
        self.asked.append((database, sparing))
        if self.errors.get(database):
            raise self.errors[database].pop(0)
        return Dumped(Saved("aa", 10, 10, 5), {}, None, 1.0)


class FakeDiscovery:
    """A host whose containers answer after so many looks."""

    def __init__(self, *answers, coming=False):
        self.answers = list(answers)
        self.coming = coming

    def is_coming(self, _container):
        return self.coming

    def look_again(self, container, _application):
        answer = self.answers.pop(0) if self.answers else None
        return (container, answer)


def a_pass(tmp_path, monkeypatch, discovery=None, events=None, wait=30):
    monkeypatch.setattr("scalr_backup.actions.leftovers.clean_up", lambda *_: [])
    monkeypatch.setattr("scalr_backup.actions.backup.run._PAUSE_SECONDS", 0.0)
    config = SimpleNamespace(host="h", parallel=2, start_wait_seconds=wait)
    emit = (lambda _event: None) if events is None else events.append
    made = Pass(Tools(config, discovery or FakeDiscovery(), None, State(tmp_path), emit, threading.Event()))
    return made, PassResult("r", "nightly", "h", NOW, NOW)


class TestAPass:
    def test_tries_again_alone_and_sparingly_what_a_server_had_no_connection_for(self, tmp_path, monkeypatch):
        made, result = a_pass(tmp_path, monkeypatch)
        dumper = FakeDumper(b=[PostgresError("zu viele", "53300")])
        dumped = made._dump_all(dumper, PassRequest(), result, [a_cluster("a", "b", "c")])
        assert dumper.asked[-1] == ("b", True)
        assert sorted(dumper.asked[:-1]) == [("a", False), ("b", False), ("c", False)]
        assert [(one.database, one.ok) for one in result.databases] == [("a", True), ("b", True), ("c", True)]
        assert len(dumped) == 3

    def test_fails_what_fails_again_with_the_last_reason(self, tmp_path, monkeypatch):
        made, result = a_pass(tmp_path, monkeypatch)
        dumper = FakeDumper(a=[PostgresError("first", "53200"), PostgresError("second", "53200")])
        made._dump_all(dumper, PassRequest(), result, [a_cluster("a")])
        [outcome] = result.databases
        assert (outcome.ok, outcome.error.message) == (False, "second")

    def test_tries_nothing_again_that_cannot_succeed(self, tmp_path, monkeypatch):
        made, result = a_pass(tmp_path, monkeypatch)
        dumper = FakeDumper(a=[PostgresError("permission denied", "42501")])
        made._dump_all(dumper, PassRequest(), result, [a_cluster("a")])
        assert dumper.asked == [("a", False)]
        assert not result.databases[0].ok

    def test_waits_for_a_server_that_is_starting_and_says_so(self, tmp_path, monkeypatch):
        events = []
        made, result = a_pass(tmp_path, monkeypatch, FakeDiscovery(None, None, a_cluster("a"), coming=True), events)
        [(_container, cluster)] = made._ask_again([a_container(status="unreachable")], result).values()
        assert cluster == a_cluster("a")
        assert [event["message"] for event in events] == ["Waiting for scalr-shop-db to start."] * 2

    def test_waits_no_longer_than_it_may(self, tmp_path, monkeypatch):
        made, result = a_pass(tmp_path, monkeypatch, FakeDiscovery(coming=True), wait=0)
        [(_container, cluster)] = made._ask_again([a_container(status="unreachable")], result).values()
        assert cluster is None

    def test_asks_whoever_came_just_after_it_was_asked(self, tmp_path, monkeypatch):
        made, result = a_pass(tmp_path, monkeypatch, FakeDiscovery(None, a_cluster("a"), coming=False), wait=3600)
        [(_container, cluster)] = made._ask_again([a_container(status="unreachable")], result).values()
        assert cluster == a_cluster("a")

    def test_asks_once_more_and_does_not_wait_for_whoever_is_not_coming(self, tmp_path, monkeypatch):
        made, result = a_pass(tmp_path, monkeypatch, FakeDiscovery(a_cluster("a"), coming=False), wait=3600)
        [(_container, cluster)] = made._ask_again([a_container(status="unreachable")], result).values()
        assert cluster == a_cluster("a")

    def test_asks_whoever_has_said_nonsense_once_more_and_no_more(self, tmp_path, monkeypatch):
        """As in the moment of a DROP; whoever says nothing else costs one look."""
        odd = a_container(status="unreachable").with_status("unreachable", "nonsense", "invalid_answer")
        discovery = FakeDiscovery(None, a_cluster("a"), coming=True)
        made, result = a_pass(tmp_path, monkeypatch, discovery, wait=3600)
        [(_container, cluster)] = made._ask_again([odd], result).values()
        assert (cluster, len(discovery.answers)) == (None, 1)
        [(_container, cluster)] = made._ask_again([odd], result).values()
        assert cluster == a_cluster("a")
