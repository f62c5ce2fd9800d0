# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a message that nobody takes, and that nobody waits for one who does not answer."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.health import outbox as courier
from scalr_backup.actions.health.outbox import Courier, Outbox, Recipients
from scalr_backup.tools.heartbeat import Beat
from scalr_backup.tools.notify import Message, Service
from scalr_backup.tools.state import State

from tests.support.containers import wait_until

NOW = datetime(2026, 11, 22, 3, 5, tzinfo=UTC)


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
def outbox(state, said) -> Outbox:
    return Outbox(state, lambda level, text, **facts: said.append((level, text, facts)))


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
    Outbox(State(state._directory), lambda *_, **__: None).send([good, bad], NOW + timedelta(seconds=60))
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
    for hour in range(4, 73):
        outbox.send([bad], NOW + timedelta(hours=hour, minutes=2))
        assert outbox.summary()["pending"] == int(hour < 72)
    assert said[-1][1] == "A message was dropped: it could not be delivered for three days."


def test_a_service_that_is_named_no_more_is_not_waited_for(outbox) -> None:
    outbox.put(HELLO, [Taker("bad", "no")], NOW)
    outbox.send([], NOW)
    assert outbox.summary()["pending"] == 0


def test_two_that_count_at_the_same_time_lose_nothing(state) -> None:
    def count() -> None:
        mine = Outbox(State(state._directory), lambda *_, **__: None)
        for _number in range(40):
            mine.count(failed=False)

    threads = [threading.Thread(target=count) for _number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.read().get("notifications", {})["sent"] == 120


def test_one_that_does_not_answer_costs_a_round_the_time_of_one_message(outbox, monkeypatch) -> None:
    monkeypatch.setattr(courier, "_SLOW_SECONDS", 0.0)
    good, hangs = Taker("good"), Taker("hangs", "hangs did not take it within 30 s.")
    for number in range(3):
        outbox.put(Message("failure", f"title {number}", "body"), [good, hangs], NOW)
    for second, failed in enumerate((1, 2, 3, 3)):
        outbox.send([good, hangs], NOW + timedelta(seconds=second))
        assert (len(good.taken), outbox.summary()["failed"]) == (3, failed)
    assert outbox.summary()["pending"] == 3


def test_why_messages_wait_is_known_until_none_waits(outbox, monkeypatch) -> None:
    """One that a second service takes says nothing of the first, which is not even asked."""
    monkeypatch.setattr(courier, "_SLOW_SECONDS", 0.0)
    good, hangs = Taker("good"), Taker("hangs", "hangs did not take it within 30 s.")
    for number in range(2):
        outbox.put(Message("failure", f"title {number}", "body"), [good, hangs], NOW)
    outbox.send([good, hangs], NOW)
    waiting = {"sent": 2, "failed": 1, "last_error": "hangs did not take it within 30 s.", "pending": 2}
    assert outbox.summary() == waiting

    hangs.error = None
    outbox.send([good, hangs], NOW)
    assert outbox.summary() == {**waiting, "sent": 3, "pending": 1}, "the other is not due yet"
    outbox.send([good, hangs], NOW + timedelta(minutes=1))
    assert outbox.summary() == {"sent": 4, "failed": 1, "last_error": None, "pending": 0}


def test_however_often_something_changes_so_many_messages_wait_and_no_more(outbox, said) -> None:
    nobody = Taker("nobody", "nobody refused it.")
    for number in range(courier._MOST_PENDING + 2):
        outbox.put(Message("failure", f"title {number}", "body"), [nobody], NOW)
    waiting = [one["title"] for one in outbox._box()["pending"]]
    assert (len(waiting), waiting[0], waiting[-1]) == (100, "title 2", "title 101")
    assert [text for _level, text, _facts in said] == ["A message was dropped: 100 later ones wait."] * 2


class Switch:
    def __init__(self, error=None):
        self.beats, self.error, self.answers = [], error, threading.Event()
        self.answers.set()

    def send(self, signal, run, body=""):
        self.answers.wait(60)
        self.beats.append((signal, run, body))
        return Beat(self.error, NOW + timedelta(minutes=5))


class Hanging(Taker):
    """A service that answers only when the test lets it."""

    def __init__(self):
        super().__init__("hangs")
        self.asked, self.answers = threading.Event(), threading.Event()

    def deliver(self, message):
        self.asked.set()
        self.answers.wait(60)
        return super().deliver(message)


@pytest.fixture
def carrier(state, said, monkeypatch):
    """Makes a courier that is at work; it is stopped in the end."""
    monkeypatch.setattr(courier, "_TURN_SECONDS", 0.05)
    made = []

    def make(*services, switch=None, look=lambda _now: None):
        recipients = Recipients(services, switch)
        one = Courier(state, lambda: recipients, lambda level, text, **facts: said.append((level, text, facts)))
        one.start(look)
        made.append(one)
        return one

    yield make
    for one in made:
        one.stop()


def test_beats_keep_their_order_and_wait_for_no_message(carrier) -> None:
    switch, hanging = Switch(), Hanging()
    switch.answers.clear()
    one = carrier(hanging, switch=switch)
    one.put(HELLO, NOW)
    one.deliver()
    assert hanging.asked.wait(60)
    # Whoever gives them waits for nobody: the first one is answered only after all of them were given.
    for signal in ("start", "", "start", "fail"):
        one.beat(signal, "run")
    assert not switch.beats
    switch.answers.set()
    wait_until(lambda: len(switch.beats) == 4, "all beats arrive", 60)
    assert [signal for signal, _run, _body in switch.beats] == ["start", "", "start", "fail"]
    assert hanging.taken == []
    hanging.answers.set()


def test_the_servers_clock_is_compared_with_the_hosts_before_anything_is_written(state, monkeypatch) -> None:
    """A disk may take seconds for that."""
    now, write = [NOW], state._change

    def change(how) -> None:
        now[0] += timedelta(minutes=1)
        write(how)

    monkeypatch.setattr(courier, "utc_now", lambda: now[0])
    monkeypatch.setattr(state, "_change", change)
    Courier(state, lambda: Recipients((), Switch()), lambda *_, **__: None)._beat("start", "run", "")
    assert state.read()["clock"] == {"time": NOW.isoformat(), "skew_seconds": -300.0}


def test_how_many_calls_of_the_switch_have_failed_is_on_record_until_one_is_taken_or_there_is_no_switch(
    state, said
) -> None:
    def calls(switch):
        one = Courier(
            state, lambda: Recipients((), switch), lambda level, text, **facts: said.append((level, text, facts))
        )
        for signal in ("start", ""):
            one._beat(signal, "run", "")
        return state.read()["heartbeat"]

    dead = Switch("the heartbeat server a.test answered 404.")
    first = calls(dead)
    assert (first["failed"], first["error"]) == (2, "the heartbeat server a.test answered 404.")
    again = calls(dead)
    assert (again["failed"], again["since"]) == (4, first["since"])
    box = Outbox(state, lambda *_, **__: None).summary()
    assert box == {"sent": 0, "failed": 4, "last_error": None, "pending": 0}, "why messages wait is something else"
    assert calls(Switch()) == {"failed": 0}
    calls(dead)
    assert calls(None) == {}


def test_it_looks_again_and_again_and_whatever_a_look_fails_with_is_logged_once(carrier, said) -> None:
    looks = []

    def look(now):
        looks.append(now)
        if len(looks) < 5:
            raise OSError("No space left on device")

    taker = Taker()
    carrier(taker, look=look).put(HELLO, NOW)
    wait_until(lambda: len(looks) >= 6 and taker.taken, "it goes on", 60)
    failed = [line for line in said if line[0] == "error"]
    assert failed == [("error", "Reporting problems failed.", {"reason": "OSError: No space left on device"})]


def test_the_end_waits_for_what_is_on_its_way(carrier) -> None:
    switch, taker = Switch(), Taker()
    one = carrier(taker, switch=switch)
    one.beat("fail", "run")
    one.put(HELLO, NOW)
    one.deliver()
    one.stop()
    assert (len(switch.beats), len(taker.taken)) == (1, 1)


def test_the_end_waits_so_long_and_what_was_not_taken_stays_on_record(carrier, state, said, monkeypatch) -> None:
    monkeypatch.setattr(courier, "_LAST_SECONDS", 0.2)
    hanging = Hanging()
    one = carrier(hanging)
    one.put(HELLO, NOW)
    one.deliver()
    assert hanging.asked.wait(60)
    one.stop()
    assert ("warning", "The agent is stopping before every message was delivered.", {}) in said
    assert Outbox(state, lambda *_, **__: None).summary()["pending"] == 1
    hanging.answers.set()


def test_a_clock_that_leaps_ahead_drops_no_message_and_one_of_its_own_waits_no_longer(outbox) -> None:
    bad = Taker("bad", "no")
    outbox.put(HELLO, [bad], NOW)
    ahead = NOW + timedelta(days=3650)
    outbox.put(HELLO, [bad], ahead)
    for hour in range(24):
        outbox.send([bad], ahead + timedelta(hours=hour))
    assert outbox.summary()["pending"] == 2
    for hour in range(73):
        outbox.send([bad], NOW + timedelta(hours=hour, minutes=1))
    assert outbox.summary()["pending"] == 0


def test_a_message_whose_next_try_is_years_ahead_is_tried_now(outbox) -> None:
    """The clock was ahead when the last try failed."""
    bad = Taker("bad", "no")
    outbox.put(HELLO, [bad], NOW + timedelta(days=3650))
    outbox.send([bad], NOW + timedelta(days=3650))
    bad.error = None
    outbox.send([bad], NOW)
    assert bad.taken == [HELLO]
