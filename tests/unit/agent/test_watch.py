# SPDX-License-Identifier: GPL-3.0-or-later
"""What is news, what is folded, and what becomes of a message that nobody takes."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup import watch
from scalr_backup.config import Config, parse_addresses
from scalr_backup.errors import ConfigurationError
from scalr_backup.findings import Finding
from scalr_backup.heartbeat import Beat, Heartbeat
from scalr_backup.jobs import CHECK, PASS
from scalr_backup.notify import Message, Service, services
from scalr_backup.state import State
from scalr_backup.status import judge

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
        news = watch.compare(noted, dated, now)
        told.append(watch.messages(CONFIG, news, now))
        noted = news.noted
    return told


def test_a_message_says_what_since_when_how_old_and_what_to_run() -> None:
    last_good = (NOW - timedelta(hours=24, minutes=5)).isoformat()
    [[message]] = nights([failed(last_good=last_good)])

    assert message.kind == "failure"
    assert message.title == "[web1] FAILED: scalr-shop-db/shop backup failed"
    assert message.body.splitlines() == [
        "scalr-shop-db/shop failed",
        "Since: 2026-11-22 03:05 UTC (0 min)",
        "Last good snapshot: 2026-11-21 03:00 UTC (24 h 5 min old)",
        f"Run next: {COMMAND}",
    ]


def test_what_stays_wrong_is_told_once_a_day_with_how_long_it_has_been_so() -> None:
    found = watch.compare({}, [failed()], NOW)
    for hours in (1, 12, 22):
        again = watch.compare(found.noted, [failed()], NOW + timedelta(hours=hours))
        assert watch.messages(CONFIG, again, NOW) == []
        assert again.noted == found.noted

    _first, [second], [third] = nights([failed()], [failed()], [failed()])
    assert "Since: 2026-11-22 03:05 UTC (24 h 0 min); this is told for the 2. time" in second.body
    assert "(2 days); this is told for the 3. time" in third.body


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

    assert (message.kind, message.title) == ("recovery", "[web1] Recovered: 1 problem is over")
    assert message.body == "It is over, after 24 h 0 min: scalr-shop-db/shop failed"
    assert nothing == []


def test_one_that_becomes_worse_is_news_and_no_end_of_the_other() -> None:
    _first, [message] = nights([failed()], [failed("backup_too_old")])
    assert message.kind == "failure"
    assert "backup too old" in message.title
    assert "Since: 2026-11-22 03:05 UTC" in message.body


class Taker(Service):
    """A service that takes messages or does not, as it is told."""

    def __init__(self, name="json", error=None):
        super().__init__(f"json://{name}", 1)
        self.error, self.taken = error, []

    def deliver(self, message: Message) -> str | None:
        if self.error is None:
            self.taken.append(message)
        return self.error


@pytest.fixture
def state(tmp_path) -> State:
    return State(tmp_path)


@pytest.fixture
def said() -> list:
    return []


@pytest.fixture
def outbox(state, said) -> watch.Outbox:
    return watch.Outbox(state, lambda level, text, **facts: said.append((level, text, facts)))


HELLO = Message("failure", "title", "body")


def test_a_message_waits_only_for_those_who_have_not_taken_it(outbox, state, said) -> None:
    good, bad = Taker("good"), Taker("bad", "bad refused it.")
    outbox.put(HELLO, [good, bad], NOW)
    outbox.send([good, bad], NOW)
    assert outbox.summary() == {"sent": 1, "failed": 1, "last_error": "bad refused it.", "pending": 1}
    assert ("error", "A message was not delivered.", {"reason": "bad refused it.", "tries": 1}) in said

    bad.error = None
    outbox.send([good, bad], NOW + timedelta(seconds=59))
    assert bad.taken == []  # Not before its pause is over, …
    watch.Outbox(State(state._directory), lambda *_, **__: None).send([good, bad], NOW + timedelta(seconds=60))
    assert (len(good.taken), bad.taken) == (1, [HELLO])  # … and then even by an agent that was started anew.
    assert outbox.summary() == {"sent": 2, "failed": 1, "last_error": None, "pending": 0}


def test_pauses_grow_a_pass_tries_at_once_and_three_days_are_enough(outbox, said) -> None:
    bad = Taker("bad", "bad refused it.")
    outbox.put(HELLO, [bad], NOW)
    tried = []
    for minute in range(180):
        before = outbox.summary()["failed"]
        outbox.send([bad], NOW + timedelta(minutes=minute))
        tried += [minute] if outbox.summary()["failed"] > before else []
    assert tried == [0, 1, 6, 21, 81, 141]

    outbox.send([bad], NOW + timedelta(minutes=181), at_once=True)
    assert outbox.summary()["failed"] == 7
    outbox.send([bad], NOW + timedelta(days=4))
    assert outbox.summary()["pending"] == 0
    assert said[-1][1] == "A message is given up: it was not delivered for three days."


def test_a_service_that_is_named_no_more_is_not_waited_for(outbox) -> None:
    outbox.put(HELLO, [Taker("bad", "no")], NOW)
    outbox.send([], NOW)
    assert outbox.summary()["pending"] == 0


def test_two_that_count_at_the_same_time_lose_nothing(state) -> None:
    def count() -> None:
        mine = watch.Outbox(State(state._directory), lambda *_, **__: None)
        for _number in range(40):
            mine.count(failed=False, error=None)

    threads = [threading.Thread(target=count) for _number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.part("notifications")["sent"] == 120


class Switch:
    def __init__(self, error=None):
        self.beats, self.error = [], error

    def send(self, signal, run, body=""):
        self.beats.append((signal, run, body))
        return Beat(self.error, datetime.now(UTC) + timedelta(minutes=5))


def watcher(state, said, service=None, switch=None, events=("failure", "warning", "recovery")):
    config = CONFIG.model_copy(update={"notify_events": events})
    recipients = watch.Recipients((service,) if service else (), switch)
    return watch.Watch(
        state, lambda: config, lambda: recipients,
        lambda config: judge(config, "/repository", state.read(), NOW, datetime.now(UTC)),
        lambda level, text, **facts: said.append((level, text, facts)),
    )  # fmt: skip


def test_the_switch_is_told_of_passes_alone_each_with_a_run_of_its_own(state, said) -> None:
    switch = Switch()
    looker = watcher(state, said, switch=switch)
    for exit_code in (0, 3):
        looker.started(CHECK)
        looker.ended(CHECK, 1, None)
        looker.started(PASS)
        state.put("last_pass", {**GOOD_PASS, "run": f"run{exit_code}"})
        looker.ended(PASS, exit_code, {"error": {"message": "one failed"}} if exit_code else None)

    assert [signal for signal, _run, _body in switch.beats] == ["start", "", "start", "fail"]
    runs = [run for _signal, run, _body in switch.beats]
    assert runs[0] == runs[1] != runs[2] == runs[3]
    assert switch.beats[3][2].startswith("one failed")
    # What the server's clock says is compared with the host's.
    assert -301 <= state.part("clock")["skew_seconds"] <= -299


GOOD_PASS = {
    "run": "r", "started": NOW.isoformat(), "finished": NOW.isoformat(), "error": None,
    "retention": {"ok": True, "removed": [], "error": None},
}  # fmt: skip


def test_a_pass_that_could_not_even_begin_is_told_though_it_left_no_record(state, said) -> None:
    taker = Taker()
    looker = watcher(state, said, taker)
    state.put("last_pass", GOOD_PASS)
    looker.started(PASS)
    looker.ended(PASS, 1, {"error": {"code": "busy", "message": "A pass is already running."}})

    assert "The last pass could not even begin: A pass is already running." in taker.taken[0].body


def test_only_the_chosen_events_are_told(state, said) -> None:
    taker = Taker()
    looker = watcher(state, said, taker, events=("success",))
    looker.started(PASS)
    state.put("last_pass", {**GOOD_PASS, "error": {"code": "x", "message": "no"}})
    looker.ended(PASS, 1, None)
    assert taker.taken == []
    looker.started(PASS)
    state.put("last_pass", {**GOOD_PASS, "run": "next"})
    looker.ended(PASS, 0, None)
    assert [message.kind for message in taker.taken] == ["success"]


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
    assert watch.digest_is_due(CONFIG, last, datetime.fromisoformat(now)) is due


@pytest.mark.parametrize("url", ["secret-token", "nothing://secret-token@host", "json://", "://secret-token"])
def test_an_address_that_apprise_does_not_know_is_refused_without_being_shown(url: str) -> None:
    good, bad = services(["json://localhost", url])
    good.check()
    with pytest.raises(ConfigurationError, match=r"number 2 of backup_notify") as refused:
        bad.check()
    assert "secret-token" not in refused.value.message


@pytest.mark.parametrize(
    "url", ["hc-ping.com/secret", "ftp://host/secret", "https://", "https://ho st/secret", "http://h:x/secret"]
)
def test_a_heartbeat_that_is_no_address_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="backup_heartbeat_url is no address") as refused:
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
    ],
)
def test_addresses_that_are_none_are_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_addresses(text)
    assert "secret" not in refused.value.message


def test_what_is_on_record_of_a_service_does_not_tell_its_token() -> None:
    [service] = services(["slack://secret-token-a/secret-token-b/secret-token-c"])
    assert "secret" not in service.name + service.id
