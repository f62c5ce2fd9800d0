# SPDX-License-Identifier: GPL-3.0-or-later
"""Delivers messages to services and beats to the dead man's switch, whatever else is running.

Each of the two has a thread of its own, so that neither a running job nor the other one can hold it up. A message is recorded
before the first attempt to deliver it. One that could not be delivered stays on record, and is tried again with growing pauses
and after each pass, until it is too old to be of use.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import Literal, TypedDict

from scalr_backup.actions.health import switch
from scalr_backup.core.answers import BoxAnswer
from scalr_backup.core.clock import has_elapsed, utc_now
from scalr_backup.core.jobs import PASS
from scalr_backup.core.records.host import BoxRecord, PendingRecord
from scalr_backup.tools.heartbeat import Beat, Heartbeat
from scalr_backup.tools.notify import Message, Service
from scalr_backup.tools.state import State

# Pauses between tries to deliver a message; the last one is repeated.
_PAUSES = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
# A message that is so old would only confuse. In that time it is tried so often at least: the clock may have leapt.
_TOO_OLD = timedelta(days=3)
_FEWEST_TRIES = 70
# So many messages wait; the earliest go first.
_MOST_PENDING = 100
# A service that times out after so many seconds is not tried again in the same round: others wait behind it.
_SLOW_SECONDS = 5.0
# Seconds between two looks at what is to be delivered while there is no errand.
_TURN_SECONDS = 5.0
# Seconds that are left to what is on its way when the agent ends; Docker leaves it two minutes, a job included.
_LAST_SECONDS = 45.0

# What distinguishes one message from another.
_IDENTITY: tuple[Literal["kind", "title", "body", "time"], ...] = ("kind", "title", "body", "time")

Say = Callable[..., None]


class Box(TypedDict):
    """The outbox, whole."""

    sent: int
    failed: int
    last_error: str | None
    pending: list[PendingRecord]


@dataclass(frozen=True)
class Recipients:
    """Whom to tell: services, and the dead man's switch where there is one."""

    services: tuple[Service, ...] = ()
    heartbeat: Heartbeat | None = None


class Outbox:
    """Messages on their way: each waits for every service that has not accepted it yet."""

    def __init__(self, state: State, say: Say) -> None:
        self._state = state
        self._say = say

    def put(self, message: Message, services: Sequence[Service], now: datetime) -> None:
        """Note a message for services, so that not even a restart loses it."""
        if services:
            entry: PendingRecord = {
                "kind": message.kind, "title": message.title, "body": message.body, "time": now.isoformat(), "tries": 0,
                "next": now.isoformat(), "to": [service.id for service in services],
            }  # fmt: skip

            def change(box: Box) -> None:
                box["pending"] = [*box["pending"], entry][-_MOST_PENDING:]

            if len(self._box()["pending"]) >= _MOST_PENDING:
                self._say("error", f"A message was dropped: {_MOST_PENDING} later ones wait.")
            self._change(change)

    def send(self, services: Sequence[Service], now: datetime, *, at_once: bool = False) -> None:
        """Try what is due, or all of it *at_once*; what a service does not take waits for the next try.

        A service that does not answer at all costs a round one message's time, and not that of each.
        """
        mute: set[str] = set()
        for entry in self._box()["pending"]:
            if at_once or _is_due(datetime.fromisoformat(entry["next"]), now):
                self._try(entry, {service.id: service for service in services}, mute, now)

    def _try(self, entry: PendingRecord, by_id: Mapping[str, Service], mute: set[str], now: datetime) -> None:
        message = Message(entry["kind"], entry["title"], entry["body"])
        # A service that is no longer named is not waited for.
        wanted = [by_id[one] for one in entry["to"] if one in by_id]
        asked = [service for service in wanted if service.id not in mute]
        errors = {service.id: error for service in asked if (error := _deliver(service, message, mute))}
        for error in errors.values():
            self._say("error", "A message was not delivered.", reason=error, tries=entry["tries"] + 1)
        if sent := len(asked) - len(errors):
            self._say("info", "A message was delivered.", kind=entry["kind"], services=sent)
        is_too_old = has_elapsed(_TOO_OLD, datetime.fromisoformat(entry["time"]), now)
        gives_up = bool(errors) and is_too_old and entry["tries"] >= _FEWEST_TRIES
        if gives_up:
            self._say("error", "A message was dropped: it could not be delivered for three days.", kind=entry["kind"])
        left = [service.id for service in wanted if service not in asked or service.id in errors]

        def change(box: Box) -> None:
            box["sent"] += sent
            box["failed"] += len(errors)
            kept = [one for one in box["pending"] if not _is_same(one, entry)]
            if left and not gives_up:
                kept.append({**(_later(entry, now) if errors else entry), "to": left})
            box["pending"] = kept
            if errors or not kept:  # What another service has taken says nothing of those that wait.
                box["last_error"] = next(iter(errors.values()), None)

        self._change(change)

    def count(self, *, failed: bool) -> None:
        """Count what was sent past the box, such as a heartbeat."""

        def change(box: Box) -> None:
            box["failed" if failed else "sent"] += 1

        self._change(change)

    def summary(self) -> BoxAnswer:
        """How many messages were sent, failed and wait, and the last error; without what they say."""
        box = self._box()
        return {
            "sent": box["sent"],
            "failed": box["failed"],
            "last_error": box["last_error"],
            "pending": len(box["pending"]),
        }

    def _box(self) -> Box:
        return _whole(self._state.read().get("notifications", {}))

    def _change(self, change: Callable[[Box], object]) -> None:
        def amend(record: BoxRecord) -> None:
            box = _whole(record)
            change(box)
            record["sent"], record["failed"] = box["sent"], box["failed"]
            record["last_error"], record["pending"] = box["last_error"], box["pending"]

        # The verb and the agent's main process may both be at it.
        self._state.change_box(amend)


def _whole(record: BoxRecord) -> Box:
    return {
        "sent": record.get("sent", 0),
        "failed": record.get("failed", 0),
        "last_error": record.get("last_error"),
        "pending": record.get("pending", []),
    }


def _deliver(service: Service, message: Message, mute: set[str]) -> str | None:
    """Deliver to one service; what went wrong as a sentence. One that timed out is noted as *mute*."""
    started = time.monotonic()
    error = service.deliver(message)
    if error and time.monotonic() - started >= _SLOW_SECONDS:
        mute.add(service.id)
    return error


def _is_due(moment: datetime, now: datetime) -> bool:
    """Whether to try now; a moment beyond the longest pause is of a clock that was set back since."""
    return not now < moment <= now + _PAUSES[-1]


def _later(entry: PendingRecord, now: datetime) -> PendingRecord:
    pause = _PAUSES[min(entry["tries"], len(_PAUSES) - 1)]
    return {**entry, "tries": entry["tries"] + 1, "next": (now + pause).isoformat()}


def _is_same(one: PendingRecord, other: PendingRecord) -> bool:
    return all(one[name] == other[name] for name in _IDENTITY)


class Errands:
    """A thread that does what it is given in the order in which it was given, and something else while it is idle."""

    def __init__(self, name: str, say: Say, idle: Callable[[], None] = lambda: None) -> None:
        self._say = say
        self._idle = idle
        self._failed: str | None = None
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # It goes with the process, however that ends.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin, with what was given so far."""
        self._thread.start()

    def give(self, errand: Callable[[], None]) -> None:
        """Have something done after all that was given before; never waits."""
        self._waiting.put(errand)

    def stop(self) -> None:
        """Have it end when it has done what it was given."""
        self._waiting.put(None)

    def ended(self, seconds: float) -> bool:
        """Wait so long for the end; whether it came."""
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            try:
                errand = self._waiting.get(timeout=_TURN_SECONDS)
            except Empty:
                errand = self._idle
            if errand is None:
                return
            self._try(errand)

    def _try(self, errand: Callable[[], None]) -> None:
        """Do an errand; what it fails with is logged, once for as long as it stays the same."""
        reason = None
        try:
            errand()
        except Exception as error:  # noqa: BLE001 (whatever it is, the next errand may do better)
            reason = f"{type(error).__name__}: {error}"
            if reason != self._failed:
                self._say("error", "Reporting problems failed.", reason=reason)
        self._failed = reason


class Courier:
    """Delivers messages and beats to whomever *recipients* names at the time."""

    def __init__(self, state: State, recipients: Callable[[], Recipients], say: Say) -> None:
        self._state = state
        self._recipients = recipients
        self._say = say
        self._outbox = Outbox(state, say)
        self._look: Callable[[datetime], None] = lambda _now: None
        self._messages = Errands("messages", say, self._turn)
        self._beats = Errands("heartbeat", say)

    def start(self, look: Callable[[datetime], None]) -> None:
        """Begin; *look* is called every few seconds, whatever else goes on, and puts what is news."""
        self._look = look
        for errands in (self._messages, self._beats):
            errands.start()

    def stop(self) -> None:
        """Finish what was begun; what is not delivered in time is sent after the next start."""
        deadline = time.monotonic() + _LAST_SECONDS
        for errands in (self._messages, self._beats):
            errands.stop()
        for errands in (self._beats, self._messages):
            if not errands.ended(max(0.0, deadline - time.monotonic())):
                self._say("warning", "The agent is stopping before every message was delivered.")

    def put(self, message: Message, now: datetime) -> None:
        """Note a message for everybody; it leaves within seconds."""
        self._outbox.put(message, self._recipients().services, now)

    def deliver(self) -> None:
        """Try all that waits, now; returns at once."""
        self._messages.give(partial(self._send, at_once=True))

    def beat(self, signal: str, run: str, body: str = "") -> None:
        """Send a signal to the switch after those before it; returns at once."""
        self._beats.give(partial(self._beat, signal, run, body))

    def _turn(self) -> None:
        self._look(utc_now())
        self._send(at_once=False)

    def _send(self, *, at_once: bool) -> None:
        self._outbox.send(self._recipients().services, utc_now(), at_once=at_once)

    def _beat(self, signal: str, run: str, body: str) -> None:
        heartbeat = self._recipients().heartbeat
        if heartbeat is None:
            switch.forget(self._state)
            return
        beat = heartbeat.send(signal, run, body)
        self._note_clock(beat)
        self._outbox.count(failed=beat.error is not None)
        switch.note(self._state, beat.error, utc_now())
        if beat.error:
            self._say("error", "The heartbeat was not delivered.", job=PASS.name, reason=beat.error)

    def _note_clock(self, beat: Beat) -> None:
        if beat.server_time is not None:
            now = utc_now()
            skew = round((now - beat.server_time).total_seconds(), 1)
            self._state.put(clock={"time": now.isoformat(), "skew_seconds": skew})
