# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what to report: new problems, resolved ones, and that a pass has begun and ended.

What is wrong is in ``findings.py``. This file decides what of it is news: a finding is reported once, then once a day with how
long it has lasted, and its end is reported. ``outbox.py`` delivers the messages.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, cast
from uuid import uuid4
from zoneinfo import ZoneInfo

from scalr_backup.actions.health import switch
from scalr_backup.actions.health.finding import FAILURE, WARNING, Finding
from scalr_backup.actions.health.findings import REPOSITORY_ON_HOST
from scalr_backup.actions.health.outbox import Courier, Recipients
from scalr_backup.actions.health.status import Status
from scalr_backup.core.answers import Result
from scalr_backup.core.clock import has_elapsed, utc_now
from scalr_backup.core.config import Config
from scalr_backup.core.errors import UnwritableRecordError
from scalr_backup.core.jobs import PASS, Job
from scalr_backup.core.records.host import NotedFinding
from scalr_backup.core.records.state import StateRecord
from scalr_backup.core.units import counted, human_age, printable
from scalr_backup.core.without_role import words_here
from scalr_backup.tools.heartbeat import FAIL, LOG, START, SUCCESS
from scalr_backup.tools.notify import Message
from scalr_backup.tools.state import State

RECOVERY, DIGEST = "recovery", "digest"

# How often a lasting problem is reported again; a little less than a day, so that it does not drift later each night.
_REMIND = timedelta(hours=23)
# What no night changes, and is decided once: the status goes on showing it.
_TOLD_ONCE = {REPOSITORY_ON_HOST}
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
    over: tuple[NotedFinding, ...]
    noted: dict[str, NotedFinding]


def compare(
    noted: Mapping[str, NotedFinding], findings: Iterable[Finding], now: datetime, lapsed: Collection[str] = ()
) -> News:
    """Report what is new, what is due again (and how many times it was reported), and what is resolved.

    What has *lapsed* is not reported: it is unknown whether it is resolved.
    """
    new: list[Finding] = []
    again: list[tuple[Finding, int]] = []
    after: dict[str, NotedFinding] = {}
    for finding in findings:
        before = noted.get(finding.key)
        times = 1
        told = now.isoformat()
        if before is None or before["code"] != finding.code or set(finding.about) - set(before.get("about", ())):
            new.append(finding)
        elif finding.code not in _TOLD_ONCE and has_elapsed(_REMIND, datetime.fromisoformat(before["told"]), now):
            times = before["times"] + 1
            again.append((finding, times))
        else:
            told, times = before["told"], before["times"]
        noting: NotedFinding = {
            "code": finding.code,
            "severity": finding.severity,
            "message": finding.message,
            "since": before["since"] if before else finding.since or now.isoformat(),
            "told": told,
            "times": times,
        }
        if finding.about:
            noting["about"] = list(finding.about)
        after[finding.key] = noting
    over = tuple(entry for key, entry in noted.items() if key not in after and key not in lapsed)
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
        look = words_here()(f"ansible-playbook scalr.backup.status --limit {config.host}")
        body += f"\n\nAnd {len(told) - _MOST} more: {look}"
    mark = "FAILED" if kind == FAILURE else "Warning"
    return Message(kind, f"[{config.host}] {mark}: {what}{others}", body)


def _headline(finding: Finding) -> str:
    subject = "/".join(part for part in (finding.container, finding.database) if part)
    words = finding.code.replace("_", " ")
    return printable(f"{subject} {words}" if subject else words)


def _paragraph(finding: Finding, times: int, now: datetime) -> str:
    since = datetime.fromisoformat(finding.since) if finding.since else now
    lines = [finding.message, f"Since: {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({_age(since, now)})"]
    if times > 1:
        lines[1] += f"; reminder {times}"
    if finding.last_good:
        made = datetime.fromisoformat(finding.last_good)
        lines.append(f"Last good snapshot: {made.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({_age(made, now)} old)")
    elif finding.topic == "backup":
        lines.append("Last good snapshot: none")
    if finding.remedy:
        lines.append(f"What to do: {finding.remedy}")
    lines += [f"Run next: {printable(finding.command)}", f"Read more: {finding.help}"]
    return "\n".join(lines)


def _recovery(config: Config, over: Sequence[NotedFinding], now: datetime) -> Message:
    lines = [
        f"Resolved after {_age(datetime.fromisoformat(entry['since']), now)}: {entry['message']}"
        for entry in over[:_MOST]
    ]
    if len(over) > _MOST:
        lines.append(f"And {len(over) - _MOST} more.")
    count = "1 problem" if len(over) == 1 else f"{len(over)} problems"
    return Message(RECOVERY, f"[{config.host}] Recovered: {count} resolved", "\n".join(lines))


def success(config: Config, judged: Status) -> Message:
    """Say that a pass went well."""
    return Message("success", f"[{config.host}] Backed up", _summary(judged))


def digest(config: Config, judged: Status) -> Message:
    """Say how things stand, once a week, so that a pager that has died is noticed by its silence."""
    return Message(DIGEST, f"[{config.host}] Weekly backup digest", _summary(judged))


def test(config: Config) -> Message:
    """Say nothing but that this way works."""
    body = "This is a test. Problems with the backups of this host are reported here."
    return Message("test", f"[{config.host}] Test of the backup alerts", body)


def deliver_test(config: Config, recipients: Recipients, state: State) -> list[tuple[str, str | None]]:
    """Send a test to every service, and call the dead man's switch; the name of each, and what went wrong with it."""
    told = [(service.name, service.deliver(test(config))) for service in recipients.services]
    if heartbeat := recipients.heartbeat:
        # Without words: by those of them that it looks for, a server may take it for the end of a pass.
        error = heartbeat.send(LOG, str(uuid4())).error
        if error is None:
            switch.note(state, None, utc_now())
        told.append((heartbeat.name, error))
    return told


def _summary(judged: Status) -> str:
    lines = [judged.summary]
    lines += [
        f"{one['container']}/{printable(one['database'])}: last good backup {human_age(one['age_seconds'])} old"
        + (f", {counted(one['rows'], 'row')}" if one["rows"] is not None else "")
        for one in judged.databases[:_MOST]
    ]
    if len(judged.databases) > _MOST:
        lines.append(f"And {len(judged.databases) - _MOST} more.")
    return "\n".join(
        [*lines, *(f"{one.message} Run next: {printable(one.command)}" for one in judged.findings[:_MOST])]
    )


def _age(moment: datetime, now: datetime) -> str:
    return human_age((now - moment).total_seconds())


def digest_is_due(config: Config, last: str | None, now: datetime) -> bool:
    """Whether it is Monday morning, and this week's digest was not sent; the first week waits for its Monday."""
    local = now.astimezone(ZoneInfo(config.timezone))
    if local.weekday() != _DIGEST_WEEKDAY or local.hour < _DIGEST_HOUR:
        return False
    return last is None or has_elapsed(timedelta(days=1), datetime.fromisoformat(last), now)


def success_is_due(config: Config, last: str | None, now: datetime) -> bool:
    """Whether no pass of today was told of: where there are many, the first good one speaks for all."""
    zone = ZoneInfo(config.timezone)
    return last is None or datetime.fromisoformat(last).astimezone(zone).date() != now.astimezone(zone).date()


# What a pass replaces on record, piece by piece, until it has ended.
_OF_A_PASS = {
    "copy", "databases", "last_pass", "maintenance", "matches", "nightly_looked", "nightly_started", "repository", "roles",
    "volumes",
}  # fmt: skip


class AlertWatch:
    """Looks on while the agent serves: at what is wrong, and at passes as they begin and end.

    It looks in the courier's thread, so that a running job delays no message. Of a pass that still runs it
    tells nothing: until that has ended, what it replaces counts as it was before. Only that it takes too long is told at once.
    """

    def __init__(
        self,
        state: State,
        config: Callable[[], Config],
        courier: Courier,
        judge: Callable[[Config, StateRecord], Status],
    ) -> None:
        self._state = state
        self._config = config
        self._courier = courier
        self._judge = judge
        # The server's thread and the courier's both look.
        self._looking = threading.Lock()
        self._looked: tuple[Any, datetime] | None = None
        self._before: StateRecord | None = None
        self._run = str(uuid4())
        self._pass_before: str | None = None

    def __enter__(self) -> AlertWatch:
        if self._state.read().get("running"):  # An agent that was killed has left it.
            self._state.put(running={})
        self._courier.start(self.tick)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._courier.stop()

    def tick(self, now: datetime) -> None:
        """Look at what is wrong when something was put on record, when a pass ends, and once a minute."""
        with self._looking:
            seen = self._state.changed(), self._state.locks.pass_runs()
            if self._looked is None or seen != self._looked[0] or has_elapsed(_LOOK, self._looked[1], now):
                self._look(self._settled(), now)
                self._looked = seen, now

    def started(self, job: Job) -> None:
        """Tell the dead man's switch that a pass begins, and note when."""
        if job is not PASS:
            return
        with self._looking:
            self._run, self._pass_before = str(uuid4()), self._last_run()
            self._courier.beat(START, self._run)
            self._before = self._state.read()
            self._state.put(running={"since": utc_now().isoformat()})

    def ended(self, job: Job, exit_code: int, result: Result | None) -> None:
        """Report how a pass ended, and deliver at once what it calls for and what had to wait."""
        now = utc_now()
        with self._looking:
            if job is PASS:
                self._pass_ended(exit_code, result, now)
            self._look(self._settled(), now)
        self._courier.deliver()

    def _pass_ended(self, exit_code: int, result: Result | None, now: datetime) -> None:
        config = self._config()
        judged = self._judge(config, {**self._state.read(), "running": {}})
        body = judged.summary if exit_code == 0 else _reason(exit_code, result, judged)
        # First of all: the switch has to hear of it also where nothing can be written any more.
        self._courier.beat(SUCCESS if exit_code == 0 else FAIL, self._run, body)
        self._state.put(running={})
        self._note_refusal(exit_code, result, now)
        self._before = self._state.read()
        told = self._before.get("told_success")
        if exit_code == 0 and "success" in config.notify_events and success_is_due(config, told and told["time"], now):
            self._courier.put(success(config, judged), now)
            self._state.put(told_success={"time": now.isoformat()})

    def _settled(self) -> StateRecord:
        """What is on record, and of what a pass is still at, what was on record before it."""
        runs = self._state.locks.pass_runs()
        document = self._state.read()
        if not runs or self._before is None:
            self._before = document
            return document
        others = {name: part for name, part in document.items() if name not in _OF_A_PASS}
        before = {name: part for name, part in self._before.items() if name in _OF_A_PASS}
        return cast("StateRecord", others | before)

    def _look(self, document: StateRecord, now: datetime) -> None:
        config = self._config()
        judged = self._judge(config, document)
        noted = document.get("findings", {})
        news = compare(noted, judged.findings, now, judged.lapsed)
        for message in messages(config, news, now):
            if message.kind in config.notify_events:
                self._courier.put(message, now)
        if news.noted != noted:
            self._state.put(findings=news.noted)
        sent = document.get("digest")
        last = sent["time"] if sent else None
        if DIGEST in config.notify_events and digest_is_due(config, last, now):
            self._courier.put(digest(config, judged), now)
            self._state.put(digest={"time": now.isoformat()})

    def _note_refusal(self, exit_code: int, result: Result | None, now: datetime) -> None:
        """A pass that was refused before it began leaves no record of its own, so it is noted here."""
        if exit_code != 0 and self._last_run() == self._pass_before:
            error = result["error"] if result else None
            if error and error["code"] == UnwritableRecordError.code:
                return  # It has ended well but for its record.
            message = (error and error["message"]) or f"it ended with exit code {exit_code}; see the log."
            self._state.put(refused_pass={"time": now.isoformat(), "message": message})

    def _last_run(self) -> str | None:
        last_pass = self._state.read().get("last_pass")
        return last_pass["run"] if last_pass else None


def _reason(exit_code: int, result: Result | None, judged: Status) -> str:
    error = result["error"] if result else None
    first = printable(error["message"] if error else "") or f"The pass ended with exit code {exit_code}."
    return "\n".join(
        [first, *(f"{one.message}\nRun next: {printable(one.command)}" for one in judged.findings[:_MOST])]
    )
