# SPDX-License-Identifier: GPL-3.0-or-later
"""What is news, what is folded, and what is told of a pass before and after its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.health import alerts
from scalr_backup.actions.health.finding import Finding
from scalr_backup.actions.health.status import judge
from scalr_backup.core.config import Config
from scalr_backup.core.errors import ConfigurationError
from scalr_backup.core.jobs import CHECK, PASS
from scalr_backup.core.remedies import ALERTS
from scalr_backup.core.secrets import parse_addresses
from scalr_backup.tools.heartbeat import Heartbeat
from scalr_backup.tools.locks import PASS_LOCK
from scalr_backup.tools.notify import services
from scalr_backup.tools.state import State

NOW = datetime(2026, 11, 22, 3, 5, tzinfo=UTC)
CONFIG = Config(host="web1", repository="/repository")
COMMAND = "ansible-playbook scalr.backup.backup --limit web1 -e db=scalr-shop-db"


def failed(code="backup_failed", database="shop", **changes):
    facts = {
        "code": code, "severity": "failure", "topic": "backup", "message": f"scalr-shop-db/{database} failed",
        "command": COMMAND, "container": "scalr-shop-db", "database": database, **changes,
    }  # fmt: skip
    return Finding(**facts)


def nights(*findings_of_nights):
    """The messages of each night, a day apart."""
    noted, told = {}, []
    for number, findings in enumerate(findings_of_nights):
        now = NOW + timedelta(days=number)
        # The status dates what was noted before.
        dated = [replace(one, since=noted.get(one.key, {}).get("since")) for one in findings]
        news = alerts.compare(noted, dated, now)
        told.append(alerts.messages(CONFIG, news, now))
        noted = news.noted
    return told


def test_a_message_says_what_since_when_how_old_and_what_to_run() -> None:
    last_good = (NOW - timedelta(hours=24, minutes=5)).isoformat()
    [[message]] = nights([failed(last_good=last_good)])

    assert message.kind == "failure"
    assert message.title == "[web1] FAILED: scalr-shop-db/shop backup failed"
    assert message.body.splitlines() == [
        "scalr-shop-db/shop failed",
        "Since: 2026-11-22 03:05 UTC (0 s)",
        "Last good snapshot: 2026-11-21 03:00 UTC (1 d old)",
        f"Run next: {COMMAND}",
        f"Read more: {ALERTS}#backup_failed",
    ]


def test_what_stays_wrong_is_told_once_a_day_with_how_long_it_has_been_so() -> None:
    found = alerts.compare({}, [failed()], NOW)
    for hours in (1, 12, 22):
        again = alerts.compare(found.noted, [failed()], NOW + timedelta(hours=hours))
        assert alerts.messages(CONFIG, again, NOW) == []
        assert again.noted == found.noted

    _first, [second], [third] = nights([failed()], [failed()], [failed()])
    assert "Since: 2026-11-22 03:05 UTC (1 d); reminder 2" in second.body
    assert "(2 d); reminder 3" in third.body


def test_many_at_once_are_one_message_and_few_of_a_flood_are_spelled_out() -> None:
    [[message]] = nights([failed(database=f"shop{number}") for number in range(25)])

    assert message.title == "[web1] FAILED: scalr-shop-db/shop0 backup failed, and 24 more"
    assert message.body.count("Run next:") == 20
    assert message.body.endswith("And 5 more: ansible-playbook scalr.backup.status --limit web1")


def test_failures_and_warnings_are_messages_of_their_own() -> None:
    warning = failed("container_stopped", severity="warning", topic="stopped")
    [both] = nights([failed(), warning])
    assert [message.kind for message in both] == ["failure", "warning"]


def test_the_end_is_told_with_how_long_it_was_so() -> None:
    _first, [message], nothing = nights([failed()], [], [])

    assert (message.kind, message.title) == ("recovery", "[web1] Recovered: 1 problem resolved")
    assert message.body == "Resolved after 1 d: scalr-shop-db/shop failed"
    assert nothing == []


def test_one_that_becomes_worse_is_news_and_no_end_of_the_other() -> None:
    _first, [message] = nights([failed()], [failed("backup_too_old")])
    assert message.kind == "failure"
    assert "backup too old" in message.title
    assert "Since: 2026-11-22 03:05 UTC" in message.body


@pytest.fixture
def state(tmp_path) -> State:
    return State(tmp_path)


class Carrier:
    """A courier that keeps what it was given."""

    def __init__(self):
        self.messages, self.beats, self.hurried = [], [], 0

    def put(self, message, now):
        self.messages.append(message)

    def deliver(self):
        self.hurried += 1

    def beat(self, signal, run, body=""):
        self.beats.append((signal, run, body))


@pytest.fixture
def carrier() -> Carrier:
    return Carrier()


def watcher(state, carrier, events=("failure", "warning", "recovery"), later=timedelta(0)):
    """One that looks so much later than it is, on an agent that was just installed."""
    config = CONFIG.model_copy(update={"notify_events": events})

    def judged(config, document):
        now = datetime.now(UTC) + later
        return judge(config, "/repository", document, now, now)

    return alerts.AlertWatch(state, lambda: config, carrier, judged)


GOOD_PASS = {
    "run": "r", "reason": "nightly", "started": NOW.isoformat(), "finished": NOW.isoformat(), "failed": 0, "error": None,
    "retention": {"ok": True, "removed": [], "error": None},
}  # fmt: skip


def test_the_switch_is_told_of_passes_alone_each_with_a_run_of_its_own(state, carrier) -> None:
    looker = watcher(state, carrier)
    for exit_code in (0, 3):
        looker.started(CHECK)
        looker.ended(CHECK, 1, None)
        looker.started(PASS)
        state.put(last_pass={**GOOD_PASS, "run": f"run{exit_code}"})
        looker.ended(PASS, exit_code, {"error": {"message": "one failed"}} if exit_code else None)

    assert [signal for signal, _run, _body in carrier.beats] == ["start", "", "start", "fail"]
    runs = [run for _signal, run, _body in carrier.beats]
    assert runs[0] == runs[1] != runs[2] == runs[3]
    assert carrier.beats[3][2].startswith("one failed")
    assert carrier.hurried == 4


def test_the_switch_hears_of_the_end_also_where_nothing_can_be_written(state, carrier, tmp_path) -> None:
    (tmp_path / "state.json.new").mkdir()
    looker = watcher(state, carrier)
    looker.started(PASS)
    looker.ended(PASS, 1, None)
    assert [signal for signal, _run, _body in carrier.beats] == ["start", "fail"]
    assert "The last pass could not start: it ended with exit code 1; see the log." in carrier.messages[0].body


def test_a_pass_that_could_not_even_begin_is_told_though_it_left_no_record(state, carrier) -> None:
    looker = watcher(state, carrier)
    state.put(last_pass=GOOD_PASS)
    looker.started(PASS)
    looker.ended(PASS, 1, {"error": {"code": "busy", "message": "A pass is already running."}})

    assert "The last pass could not start: A pass is already running." in carrier.messages[0].body


def test_only_the_chosen_events_are_told(state, carrier) -> None:
    looker = watcher(state, carrier, events=("success",))
    looker.started(PASS)
    state.put(last_pass={**GOOD_PASS, "error": {"code": "x", "message": "no"}})
    looker.ended(PASS, 1, None)
    assert carrier.messages == []
    looker.started(PASS)
    state.put(last_pass={**GOOD_PASS, "run": "next"})
    looker.ended(PASS, 0, None)
    assert [message.kind for message in carrier.messages] == ["success"]


def test_of_many_good_passes_a_day_the_first_is_told(state, carrier, monkeypatch) -> None:
    moments = [NOW + timedelta(hours=hour) for hour in range(48)]
    looker = watcher(state, carrier, events=("success",))
    for number, moment in enumerate(moments):
        monkeypatch.setattr(alerts, "utc_now", lambda moment=moment: moment)
        looker.started(PASS)
        state.put(last_pass={**GOOD_PASS, "run": f"r{number}"})
        looker.ended(PASS, 0, None)
    # Of the 22nd, the 23rd and the 24th.
    assert len(carrier.messages) == 3


@pytest.mark.parametrize(("zone", "due"), [("UTC", False), ("Europe/Paris", True)])
def test_a_day_is_one_of_the_schedules_time_zone(zone: str, due: bool) -> None:
    config = Config(host="web1", repository="/repository", timezone=zone)
    now = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
    assert alerts.success_is_due(config, "2026-11-22T22:30:00+00:00", now) is due
    assert alerts.success_is_due(config, None, now)


def kinds(carrier):
    return [message.title.partition("] ")[2] for message in carrier.messages]


@pytest.mark.parametrize("by", ["schedule", "hand"])
def test_of_a_pass_that_still_runs_nothing_is_told_until_it_has_ended(state, carrier, by: str) -> None:
    wrong = {"code": "x", "message": "no"}
    looker = watcher(state, carrier)
    state.put(last_pass={**GOOD_PASS, "error": wrong})
    looker.tick(NOW)
    assert kinds(carrier) == ["FAILED: pass failed"]

    if by == "schedule":
        looker.started(PASS)
    with state.locks.hold(PASS_LOCK, "a pass"):
        # It is good so far, has forgotten nothing, and goes on with pruning or the second repository.
        state.record_maintenance("forget", {"ok": False, "error": wrong, "time": NOW.isoformat(), "repository": "r"})
        looker.tick(NOW)
        state.put(last_pass={**GOOD_PASS, "run": "next"})
        looker.tick(NOW)
        state.put(last_pass={**GOOD_PASS, "run": "next", "retention": {"ok": False, "removed": [], "error": wrong}})
        looker.tick(NOW)
        assert kinds(carrier) == ["FAILED: pass failed"]
    if by == "schedule":
        looker.ended(PASS, 1, None)
    looker.tick(datetime.now(UTC))
    assert kinds(carrier) == ["FAILED: pass failed", "FAILED: retention failed", "Recovered: 1 problem resolved"]


def test_what_does_not_wait_for_the_pass_is_told_while_it_runs(state, carrier) -> None:
    looker = watcher(state, carrier)
    state.put(last_pass=GOOD_PASS)
    looker.started(PASS)
    with state.locks.hold(PASS_LOCK, "a pass"):
        state.put(clock={"time": datetime.now(UTC).isoformat(), "skew_seconds": 300.0})
        looker.tick(NOW)
    assert kinds(carrier) == ["Warning: clock skew"]


def skewed(state, seconds):
    state.put(clock={"time": datetime.now(UTC).isoformat(), "skew_seconds": seconds})


def test_a_clock_that_nobody_compares_any_more_is_not_said_to_be_right(state, carrier) -> None:
    skewed(state, 1800.0)
    watcher(state, carrier).tick(NOW)
    assert kinds(carrier) == ["Warning: clock skew"]
    watcher(state, carrier, later=timedelta(days=3)).tick(NOW)
    assert kinds(carrier) == ["Warning: clock skew"]
    assert state.read()["findings"] == {}

    skewed(state, 1800.0)
    watcher(state, carrier).tick(NOW)
    skewed(state, 0.4)
    watcher(state, carrier).tick(NOW)
    assert kinds(carrier)[1:] == ["Warning: clock skew", "Recovered: 1 problem resolved"]


def test_a_switch_that_is_no_more_is_not_said_to_hear(state, carrier) -> None:
    deaf = {"failed": 2, "since": NOW.isoformat(), "error": "the heartbeat server a.test answered 404."}
    for end, told in (({}, []), ({"failed": 0}, ["Recovered: 1 problem resolved"])):
        carrier.messages.clear()
        state.put(heartbeat=deaf)
        watcher(state, carrier).tick(NOW)
        state.put(heartbeat=end)
        watcher(state, carrier).tick(NOW)
        assert kinds(carrier) == ["Warning: heartbeat failed", *told]


def test_what_is_given_up_is_not_said_to_be_well(state, carrier) -> None:
    """A database that has been gone for two weeks: neither is it back, nor has it a good backup."""
    now = datetime.now(UTC)

    def days(number):
        return (now + timedelta(days=number)).isoformat()

    shop = {
        "container": "scalr-shop-db", "database": "shop", "ok": True, "run": "r", "last_tried": days(0),
        "last_success": days(0), "error": None,
    }  # fmt: skip
    volume = {"directory": "/d", "free_bytes": 1, "total_bytes": 100}
    gone = {"gone": ["scalr-shop-db/shop"], "stopped": [], "time": days(1)}
    state.put(
        databases={"scalr-shop-db/shop": shop}, matches=gone, nightly_looked=days(1), volumes={"scalr-shop-db": volume}
    )
    watcher(state, carrier, later=timedelta(days=2)).tick(NOW)
    assert set(state.read()["findings"]) == {
        "backup:scalr-shop-db/shop", "gone:scalr-shop-db/shop", "volume:scalr-shop-db/",
    }  # fmt: skip
    state.put(matches={"gone": [], "stopped": [], "time": days(15)}, nightly_looked=days(15))
    watcher(state, carrier, later=timedelta(days=15)).tick(NOW)
    assert not [kind for kind in kinds(carrier) if kind.startswith("Recovered")]


def test_a_database_that_is_back_is_said_to_be(state, carrier) -> None:
    now = datetime.now(UTC)
    shop = {
        "container": "scalr-shop-db", "database": "shop", "ok": True, "run": "r", "last_tried": now.isoformat(),
        "last_success": now.isoformat(), "error": None,
    }  # fmt: skip
    gone = {"gone": ["scalr-shop-db/shop"], "stopped": [], "time": now.isoformat()}
    state.put(databases={"scalr-shop-db/shop": shop}, matches=gone)
    watcher(state, carrier).tick(NOW)
    state.put(matches={"gone": [], "stopped": [], "time": now.isoformat()})
    watcher(state, carrier).tick(NOW)
    assert kinds(carrier) == ["Warning: scalr-shop-db/shop database gone", "Recovered: 1 problem resolved"]


def test_a_pass_that_hangs_is_told_while_it_does_and_its_end_too(state, carrier) -> None:
    for hours, told in ((11, []), (13, ["Warning: pass runs long"])):
        looker = watcher(state, carrier, later=timedelta(hours=hours))
        looker.started(PASS)
        with state.locks.hold(PASS_LOCK, "a pass"):
            looker.tick(NOW)
        assert kinds(carrier) == told
    assert carrier.messages[0].body.splitlines()[-2:] == [
        "Run next: docker logs --tail 50 scalr-backup",
        f"Read more: {ALERTS}#pass_runs_long",
    ]
    state.put(last_pass=GOOD_PASS)
    looker.ended(PASS, 0, None)
    assert kinds(carrier)[1:] == ["Recovered: 1 problem resolved"]
    assert carrier.beats[-1][2] == "Waiting for the first pass."


def test_a_killed_agent_leaves_no_pass_that_runs(state, carrier) -> None:
    watcher(state, carrier).started(PASS)
    carrier.start = lambda look: look(datetime.now(UTC))
    carrier.stop = lambda: None
    with watcher(state, carrier, later=timedelta(hours=20)):
        assert state.read().get("running", {}) == {}
        assert kinds(carrier) == []


@pytest.mark.parametrize(
    ("now", "last", "due"),
    [
        ("2026-11-23T08:00:00+00:00", None, True),
        ("2026-11-23T07:59:00+00:00", None, False),
        ("2026-11-23T20:00:00+00:00", "2026-11-23T08:00:00+00:00", False),
        ("2026-11-30T08:00:00+00:00", "2026-11-23T08:00:00+00:00", True),
        ("2026-11-24T08:00:00+00:00", None, False),
    ],
)
def test_the_digest_comes_on_monday_mornings(now: str, last: str | None, due: bool) -> None:
    assert alerts.digest_is_due(CONFIG, last, datetime.fromisoformat(now)) is due


@pytest.mark.parametrize("url", ["secret-token", "nothing://secret-token@host", "json://", "://secret-token"])
def test_an_address_that_apprise_does_not_know_is_refused_without_being_shown(url: str) -> None:
    good, bad = services(["json://localhost", url])
    good.check()
    with pytest.raises(ConfigurationError, match=r"number 2 of backup_notify") as refused:
        bad.check()
    assert "secret-token" not in refused.value.message


@pytest.mark.parametrize(
    "url",
    [
        "hc-ping.com/secret",
        "ftp://host/secret",
        "https://",
        "https://ho st/secret",
        "http://h:x/secret",
        "https://hc-ping..com/secret",
        f"https://{'a' * 64}.com/secret",
    ],
)
def test_a_heartbeat_that_is_no_address_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="backup_heartbeat_url must begin with") as refused:
        Heartbeat(url)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"notify": "json://secret"}',
        '{"notify": [1]}',
        '{"notify": ["json://a\\nsecret"]}',
        '{"notify": [""]}',
        "[" * 100_000,
    ],
)
def test_addresses_that_are_none_are_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_addresses(text)
    assert "secret" not in refused.value.message


def test_what_is_on_record_of_a_service_does_not_tell_its_token() -> None:
    [service] = services(["slack://secret-token-a/secret-token-b/secret-token-c"])
    assert "secret" not in service.name + service.id


def test_after_the_clock_was_set_back_reminders_go_on() -> None:
    found = alerts.compare({}, [failed()], NOW + timedelta(days=3650))
    again = alerts.compare(found.noted, [failed()], NOW)
    assert [times for _finding, times in again.again] == [2]


def test_after_the_clock_was_set_back_it_is_looked_again(state, carrier) -> None:
    looker = watcher(state, carrier)
    now = datetime.now(UTC)
    looker.tick(now + timedelta(days=3650))
    state.put(told_success={"time": NOW.isoformat()})
    looker._looked = (state.changed(), False), now + timedelta(days=3650)
    seen = looker._looked
    looker.tick(now)
    assert looker._looked is not seen
