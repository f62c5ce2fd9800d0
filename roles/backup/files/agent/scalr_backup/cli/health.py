# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that report: status, history, health, messages, and whether a configuration is valid."""

from __future__ import annotations

from datetime import datetime, timedelta
from json import dumps
from typing import Annotated

import typer

from scalr_backup.actions.health import alerts
from scalr_backup.actions.health.outbox import Outbox
from scalr_backup.actions.refused_matches import documents, refused_matches
from scalr_backup.cli.call import Json, run_verb, standard_input
from scalr_backup.cli.output import Outcome
from scalr_backup.cli.wiring import Agent, recipients_of, status_of
from scalr_backup.core import schedule
from scalr_backup.core.answers import (
    HealthAnswer,
    HistoryAnswer,
    NotifyAnswer,
    ToldService,
    ValidAddressesAnswer,
    ValidAnswer,
)
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config, parse_config
from scalr_backup.core.errors import ContainerRefusedError, ExitCode, UsageError
from scalr_backup.core.keeping import notes_on_keeping
from scalr_backup.core.model import Failure
from scalr_backup.core.progress import log
from scalr_backup.core.records.schedule import ScheduleRecord
from scalr_backup.core.secrets import load_addresses, parse_addresses
from scalr_backup.tools import history
from scalr_backup.tools.state import State

# The code of a status that is not good.
NOT_SAFE = "not_safe"
# How far back each pass that was due is named.
_LATELY = timedelta(days=2)
# How many refused containers one sentence names.
_NAMED = 5


def status_verb(json: Json = False) -> None:
    """Am I safe? Show the health of every database's backups; exit with 1 if the answer is no."""

    def call(agent: Agent) -> Outcome:
        answer = status_of(agent.config())
        if answer.healthy:
            return Outcome(answer.as_dict())
        return Outcome(answer.as_dict(), exit_code=ExitCode.FAILED, error=Failure(NOT_SAFE, answer.summary))

    run_verb("status", json, call)


def history_verb(
    days: Annotated[int, typer.Option(help="How many days to look back, up to 400.")] = 30,
    json: Json = False,
) -> None:
    """List what happened: every backup, pass and drill."""

    def call(agent: Agent) -> Outcome:
        if not 1 <= days <= history.KEEP.days:
            raise UsageError(f"--days must be a number from 1 to {history.KEEP.days}, not {days}.")
        since = utc_now() - timedelta(days=days)
        state, config = State(), agent.config()
        by_day, lately = _due(config, state.read().get("schedule"), since, utc_now())
        # A night is a date of the time zone that the passes are scheduled in.
        return Outcome(
            HistoryAnswer(
                host=config.host,
                timezone=config.timezone,
                since=since.isoformat(),
                entries=state.history.read(since),
                due_days=by_day,
                due_lately=lately,
            )
        )

    run_verb("history", json, call)


def _due(
    config: Config, record: ScheduleRecord | None, since: datetime, now: datetime
) -> tuple[dict[str, int], list[str]]:
    """How many passes were due on each day, and, where these are several, when those of the last two days were.

    What was due before the schedule became what it is, nobody knows.
    """
    change = schedule.change_of(config, record, now)
    start = max(since, change.since) if change else since
    by_day = schedule.due_days(config, start, now)
    if max(by_day.values(), default=0) <= 1:
        return by_day, []
    return by_day, [moment.isoformat() for moment in schedule.due_lately(config, max(start, now - _LATELY), now)]


def health(json: Json = False) -> None:
    """Exit with 0 if every database has a good snapshot, as young as the schedule asks, otherwise with 1.

    On a nightly schedule, that is younger than 26 hours.
    """

    def call(agent: Agent) -> Outcome:
        health = status_of(agent.config()).health
        exit_code = ExitCode.GOOD if health.ok else ExitCode.FAILED
        return Outcome(HealthAnswer(healthy=health.ok, summary=health.sentence), exit_code=exit_code)

    run_verb("health", json, call)


def notify_verb(
    test: Annotated[
        bool,
        typer.Option("--test", help="Send a test message to every service, call the heartbeat, and report failures."),
    ] = False,
    json: Json = False,
) -> None:
    """Deliver pending messages, or a test message."""

    def call(agent: Agent) -> Outcome:
        config = agent.config()
        recipients = recipients_of(load_addresses())
        if not recipients.services and not (test and recipients.heartbeat):
            raise UsageError("There is nobody to notify: backup_notify names no service.")
        state = State()
        outbox = Outbox(state, lambda level, text, **facts: agent.emit(log(level, text, **facts)))
        if not test:
            outbox.send(recipients.services, utc_now(), at_once=True)
        told = alerts.deliver_test(config, recipients, state) if test else []
        failed = [sentence for _name, sentence in told if sentence]
        tested: list[ToldService] = [{"service": name, "error": error} for name, error in told]
        data: NotifyAnswer = {"tested": tested, **outbox.summary()}
        error = Failure("not_delivered", " ".join(failed)) if failed else None
        return Outcome(data, exit_code=ExitCode.FAILED if failed else ExitCode.GOOD, error=error)

    run_verb("notify", json, call)


def validate(
    addresses: Annotated[
        bool, typer.Option("--addresses", help="Validate the addresses for notifications and the heartbeat instead.")
    ] = False,
    containers: Annotated[
        bool,
        typer.Option(
            "--containers",
            help="Refuse a configuration that matches a container with power over the host; what docker inspect says of the "
            "containers and volumes follows it on standard input.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Validate the configuration document on standard input."""

    def call(_agent: Agent) -> Outcome:
        if addresses:
            recipients = recipients_of(parse_addresses(standard_input()))
            return Outcome(ValidAddressesAnswer(services=len(recipients.services), valid=True))
        if containers:
            return _validate_containers(standard_input())
        config = parse_config(standard_input(), "The configuration")
        return Outcome(ValidAnswer(host=config.host, valid=True, notes=notes_on_keeping(config, utc_now())))

    run_verb("validate", json, call)


def _validate_containers(text: str) -> Outcome:
    """Refuse a configuration for the containers that it matches."""
    given, *found = documents(text)
    config = parse_config(dumps(given), "The configuration")
    if sentences := refused_matches(config, found):
        more = f" And {len(sentences) - _NAMED} more." if len(sentences) > _NAMED else ""
        raise ContainerRefusedError(" ".join(sentences[:_NAMED]) + more)
    return Outcome(ValidAnswer(host=config.host, valid=True))
