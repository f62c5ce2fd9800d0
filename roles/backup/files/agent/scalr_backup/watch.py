# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells whoever is to know what has become wrong, what is over, and that a pass has begun and ended.

What is wrong is in ``findings.py``. Here it is decided what of it is news: the same finding is told once, then once a day
with how long it has been so, and its end is told. What could not be delivered waits on record, and is tried again with
growing pauses and after each pass, until it is too old to be of use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from scalr_backup.config import Config
from scalr_backup.findings import FAILURE, WARNING, Finding
from scalr_backup.heartbeat import FAIL, START, SUCCESS, Beat, Heartbeat
from scalr_backup.jobs import PASS, Job
from scalr_backup.notify import Message, Service
from scalr_backup.state import State, utc_now
from scalr_backup.status import Status

RECOVERY, DIGEST = "recovery", "digest"

# How often what stays wrong is told again; a little less than a day, so that it is not an hour later each night.
_REMIND = timedelta(hours=23)
# Pauses between tries to deliver a message; the last one is repeated.
_PAUSES = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
# A message that is so old would only confuse.
_TOO_OLD = timedelta(days=3)
# How long nobody looks at what is wrong while nothing is put on record: it goes by the clock, too.
_LOOK = timedelta(seconds=60)
# Findings of one message; how many more there are is said.
_MOST = 20
# The digest comes on Mondays, from this hour of the schedule's time zone on.
_DIGEST_WEEKDAY, _DIGEST_HOUR = 0, 8


@dataclass(frozen=True)
class News:
    """What has changed since the last look, and what is to be noted for the next one."""

    new: tuple[Finding, ...]
    again: tuple[tuple[Finding, int], ...]
    over: tuple[Mapping[str, Any], ...]
    noted: dict[str, dict[str, Any]]


def compare(noted: Mapping[str, Mapping[str, Any]], findings: Iterable[Finding], now: datetime) -> News:
    """Tell what is new, what is to be told again (and how many times it was), and what is over."""
    new: list[Finding] = []
    again: list[tuple[Finding, int]] = []
    after: dict[str, dict[str, Any]] = {}
    for finding in findings:
        before = noted.get(finding.key)
        times = 1
        told = now.isoformat()
        if before is None or before["code"] != finding.code:
            new.append(finding)
        elif now - datetime.fromisoformat(before["told"]) >= _REMIND:
            times = before["times"] + 1
            again.append((finding, times))
        else:
            told, times = before["told"], before["times"]
        after[finding.key] = {
            "code": finding.code,
            "severity": finding.severity,
            "message": finding.message,
            "since": (before or {}).get("since") or finding.since or now.isoformat(),
            "told": told,
            "times": times,
        }
    over = tuple(entry for key, entry in noted.items() if key not in after)
    return News(tuple(new), tuple(again), over, after)


def messages(config: Config, news: News, now: datetime) -> list[Message]:
    """Fold news into messages: one of what is wrong, one of what is over."""
    told = [*[(finding, 1) for finding in news.new], *news.again]
    found = [_message(config, severity, [one for one in told if one[0].severity == severity], now)
             for severity in (FAILURE, WARNING)]  # fmt: skip
    if news.over:
        found.append(_recovery(config, news.over, now))
    return [message for message in found if message is not None]


def _message(config: Config, kind: str, told: Sequence[tuple[Finding, int]], now: datetime) -> Message | None:
    if not told:
        return None
    first = told[0][0]
    others = f", and {len(told) - 1} more" if len(told) > 1 else ""
    what = _headline(first)
    body = "\n\n".join(_paragraph(finding, times, now) for finding, times in told[:_MOST])
    if len(told) > _MOST:
        body += f"\n\nAnd {len(told) - _MOST} more: ansible-playbook scalr.backup.status --limit {config.host}"
    mark = "FAILED" if kind == FAILURE else "Warning"
    return Message(kind, f"[{config.host}] {mark}: {what}{others}", body)


def _headline(finding: Finding) -> str:
    subject = "/".join(part for part in (finding.container, finding.database) if part)
    words = finding.code.replace("_", " ")
    return f"{subject} {words}" if subject else words


def _paragraph(finding: Finding, times: int, now: datetime) -> str:
    since = datetime.fromisoformat(finding.since) if finding.since else now
    lines = [finding.message, f"Since: {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({_age(now - since)})"]
    if times > 1:
        lines[1] += f"; this is told for the {times}. time"
    if finding.last_good:
        made = datetime.fromisoformat(finding.last_good)
        lines.append(f"Last good snapshot: {made.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({_age(now - made)} old)")
    elif finding.topic == "backup":
        lines.append("Last good snapshot: none")
    lines.append(f"Run next: {finding.command}")
    return "\n".join(lines)


def _recovery(config: Config, over: Sequence[Mapping[str, Any]], now: datetime) -> Message:
    lines = [
        f"It is over, after {_age(now - datetime.fromisoformat(entry['since']))}: {entry['message']}"
        for entry in over[:_MOST]
    ]
    if len(over) > _MOST:
        lines.append(f"And {len(over) - _MOST} more.")
    count = "1 problem is" if len(over) == 1 else f"{len(over)} problems are"
    return Message(RECOVERY, f"[{config.host}] Recovered: {count} over", "\n".join(lines))


def success(config: Config, judged: Status) -> Message:
    """Say that a pass went well."""
    return Message("success", f"[{config.host}] Backed up", _summary(judged))


def digest(config: Config, judged: Status) -> Message:
    """Say how things stand, once a week, so that a pager that has died is noticed by its silence."""
    return Message(DIGEST, f"[{config.host}] Weekly digest of the backups", _summary(judged))


def test(config: Config) -> Message:
    """Say nothing but that this way works."""
    body = "This is a test. What goes wrong with the backups of this host is told here."
    return Message("test", f"[{config.host}] Test of the backup's alerts", body)


def deliver_test(config: Config, services: Sequence[Service]) -> list[tuple[str, str | None]]:
    """Send a test to every service; the name of each, and what went wrong with it."""
    return [(service.name, service.deliver(test(config))) for service in services]


def _summary(judged: Status) -> str:
    lines = [judged.summary]
    lines += [
        f"{one['container']}/{one['database']}: last good backup {_seconds(one['age_seconds'])} old"
        + (f", {one['rows']:,} rows" if one["rows"] is not None else "")
        for one in judged.databases[:_MOST]
    ]
    if len(judged.databases) > _MOST:
        lines.append(f"And {len(judged.databases) - _MOST} more.")
    return "\n".join([*lines, *(f"{one.message} Run next: {one.command}" for one in judged.findings[:_MOST])])


def _seconds(seconds: int | None) -> str:
    return "never" if seconds is None else _age(timedelta(seconds=seconds))


def _age(age: timedelta) -> str:
    minutes = max(0, int(age.total_seconds() // 60))
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{minutes // 1440} days"


def digest_is_due(config: Config, last: str | None, now: datetime) -> bool:
    """Whether it is Monday morning, and this week's digest was not sent; the first week waits for its Monday."""
    local = now.astimezone(ZoneInfo(config.timezone))
    if local.weekday() != _DIGEST_WEEKDAY or local.hour < _DIGEST_HOUR:
        return False
    return last is None or now - datetime.fromisoformat(last) > timedelta(days=1)


@dataclass(frozen=True)
class Recipients:
    """Whom to tell: services, and the dead man's switch where there is one."""

    services: tuple[Service, ...] = ()
    heartbeat: Heartbeat | None = None


_EMPTY_BOX: Mapping[str, Any] = {"sent": 0, "failed": 0, "last_error": None}


class Outbox:
    """Messages on their way: each waits for every service that has not taken it yet."""

    def __init__(self, state: State, say: Callable[..., None]) -> None:
        self._state = state
        self._say = say

    def put(self, message: Message, services: Sequence[Service], now: datetime) -> None:
        """Note a message for services, so that not even a restart loses it."""
        if services:
            entry = {
                "kind": message.kind, "title": message.title, "body": message.body, "time": now.isoformat(), "tries": 0,
                "next": now.isoformat(), "to": [service.id for service in services],
            }  # fmt: skip
            self._change(lambda box: box["pending"].append(entry))

    def send(self, services: Sequence[Service], now: datetime, *, at_once: bool = False) -> None:
        """Try what is due, or all of it *at_once*; what a service does not take waits for the next try."""
        for entry in self._box()["pending"]:
            if at_once or datetime.fromisoformat(entry["next"]) <= now:
                self._try(entry, {service.id: service for service in services}, now)

    def _try(self, entry: dict[str, Any], by_id: Mapping[str, Service], now: datetime) -> None:
        message = Message(entry["kind"], entry["title"], entry["body"])
        # A service that is no longer named is not waited for.
        wanted = [by_id[one] for one in entry["to"] if one in by_id]
        errors = {service.id: error for service in wanted if (error := service.deliver(message))}
        for error in errors.values():
            self._say("error", "A message was not delivered.", reason=error, tries=entry["tries"] + 1)
        if sent := len(wanted) - len(errors):
            self._say("info", "A message was delivered.", kind=entry["kind"], services=sent)
        gives_up = bool(errors) and now - datetime.fromisoformat(entry["time"]) > _TOO_OLD
        if gives_up:
            self._say("error", "A message is given up: it was not delivered for three days.", kind=entry["kind"])

        def change(box: dict[str, Any]) -> None:
            box["sent"] += sent
            box["failed"] += len(errors)
            box["last_error"] = next(iter(errors.values()), None)
            kept = [one for one in box["pending"] if not _is_same(one, entry)]
            if errors and not gives_up:
                pause = _PAUSES[min(entry["tries"], len(_PAUSES) - 1)]
                retried = {"tries": entry["tries"] + 1, "next": (now + pause).isoformat(), "to": list(errors)}
                kept.append({**entry, **retried})
            box["pending"] = kept

        self._change(change)

    def count(self, *, failed: bool, error: str | None) -> None:
        """Count what was sent past the box, such as a heartbeat."""

        def change(box: dict[str, Any]) -> None:
            box["failed" if failed else "sent"] += 1
            if error:
                box["last_error"] = error

        self._change(change)

    def summary(self) -> dict[str, Any]:
        """How many messages were sent, failed and wait, and the last error; without what they say."""
        box = self._box()
        return {**{name: box[name] for name in ("sent", "failed", "last_error")}, "pending": len(box["pending"])}

    def _box(self) -> dict[str, Any]:
        return {**_EMPTY_BOX, "pending": [], **self._state.part("notifications")}

    def _change(self, change: Callable[[dict[str, Any]], object]) -> None:
        def amend(box: dict[str, Any]) -> None:
            box.update({**_EMPTY_BOX, "pending": [], **box})
            change(box)

        # The verb and the agent's main process may both be at it.
        self._state.amend("notifications", amend)


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("kind", "title", "body", "time"))


class Watch:
    """Looks on while the agent serves: at what is wrong, and at passes as they begin and end."""

    def __init__(
        self,
        state: State,
        config: Callable[[], Config],
        recipients: Callable[[], Recipients],
        judge: Callable[[Config], Status],
        say: Callable[..., None],
    ) -> None:
        self._state = state
        self._config = config
        self._recipients = recipients
        self._judge = judge
        self._say = say
        self._outbox = Outbox(state, say)
        self._looked: tuple[Any, datetime] | None = None
        self._run = str(uuid4())
        self._pass_before: str | None = None

    def tick(self, now: datetime) -> None:
        """Look at what is wrong when something was put on record, and once a minute; deliver what is due."""
        changed = self._state.changed()
        if self._looked is None or changed != self._looked[0] or now - self._looked[1] >= _LOOK:
            self._look(now)
            self._outbox.send(self._recipients().services, now)
            self._looked = changed, now

    def started(self, job: Job) -> None:
        """Tell the dead man's switch that a pass begins."""
        if job is PASS:
            self._run, self._pass_before = str(uuid4()), self._last_run()
            self._beat(START)

    def ended(self, job: Job, exit_code: int, result: dict[str, Any] | None) -> None:
        """Tell how a pass ended, and deliver at once what has to be told of it and what had to wait."""
        now = utc_now()
        if job is PASS:
            self._note_refusal(exit_code, result, now)
            judged = self._judge(self._config())
            body = judged.summary if exit_code == 0 else _reason(exit_code, result, judged)
            self._beat(SUCCESS if exit_code == 0 else FAIL, body)
            if exit_code == 0 and "success" in self._config().notify_events:
                self._outbox.put(success(self._config(), judged), self._recipients().services, now)
        self._look(now)
        self._outbox.send(self._recipients().services, now, at_once=True)

    def _look(self, now: datetime) -> None:
        config = self._config()
        judged = self._judge(config)
        noted = self._state.part("findings")
        news = compare(noted, judged.findings, now)
        recipients = self._recipients().services
        for message in messages(config, news, now):
            if message.kind in config.notify_events:
                self._outbox.put(message, recipients, now)
        if news.noted != noted:
            self._state.put("findings", news.noted)
        last = self._state.part("digest").get("time")
        if DIGEST in config.notify_events and digest_is_due(config, last, now):
            self._outbox.put(digest(config, judged), recipients, now)
            self._state.put("digest", {"time": now.isoformat()})

    def _note_refusal(self, exit_code: int, result: dict[str, Any] | None, now: datetime) -> None:
        """A pass that was refused before it began leaves no record of its own, so it is noted here."""
        if exit_code != 0 and self._last_run() == self._pass_before:
            error = (result or {}).get("error") or {}
            message = error.get("message") or f"it ended with exit code {exit_code}; the log says more."
            self._state.put("refused_pass", {"time": now.isoformat(), "message": message})

    def _last_run(self) -> str | None:
        return self._state.part("last_pass").get("run")

    def _beat(self, signal: str, body: str = "") -> None:
        heartbeat = self._recipients().heartbeat
        if heartbeat is None:
            return
        beat = heartbeat.send(signal, self._run, body)
        self._outbox.count(failed=beat.error is not None, error=beat.error)
        if beat.error:
            self._say("error", "The heartbeat was not delivered.", job=PASS.name, reason=beat.error)
        self._note_clock(beat)

    def _note_clock(self, beat: Beat) -> None:
        if beat.server_time is not None:
            now = utc_now()
            self._state.put(
                "clock", {"time": now.isoformat(), "skew_seconds": round((now - beat.server_time).total_seconds(), 1)}
            )


def _reason(exit_code: int, result: dict[str, Any] | None, judged: Status) -> str:
    error = (result or {}).get("error") or {}
    first = error.get("message") or f"The pass ended with exit code {exit_code}."
    return "\n".join([first, *(f"{one.message}\nRun next: {one.command}" for one in judged.findings[:_MOST])])
