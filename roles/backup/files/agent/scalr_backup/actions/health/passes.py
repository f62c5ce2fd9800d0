# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with passes as such: one that failed or could not start, one that hangs, and those that it displaced."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from scalr_backup.actions.health.finding import FAILURE, WARNING, Finding, caused, playbook, verb
from scalr_backup.core.config import Config
from scalr_backup.core.model import NIGHTLY
from scalr_backup.core.records.passes import PassRecord, RunningRecord
from scalr_backup.core.records.state import StateRecord
from scalr_backup.core.schedule import MANY, change_of, due_between
from scalr_backup.core.units import human_age


def of_passes(config: Config, document: StateRecord, now: datetime) -> Iterator[Finding]:
    """Find what is wrong with the last pass, and with the one that runs."""
    yield from _of_pass(config, document)
    yield from _of_running(config, document.get("running", {}), now)
    yield from _of_pace(config, document, now)


def _of_pass(config: Config, document: StateRecord) -> Iterator[Finding]:
    last_pass, refused = document.get("last_pass"), document.get("refused_pass")
    if refused and not _has_begun_since(document.get("nightly_started"), refused["time"]):
        message = f"The last pass could not start: {refused['message']}"
        yield Finding("pass_refused", FAILURE, "pass", message, playbook("status", config), since=refused["time"])
    elif last_pass and last_pass["error"]:
        message = f"The last pass failed: {last_pass['error']['message']}"
        since = last_pass.get("finished")
        cause = caused(last_pass["error"], playbook("backup", config), config)
        yield Finding("pass_failed", FAILURE, "pass", message, since=since, **cause)
    if last_pass and (error := last_pass["retention"]["error"]) and not _made_up_for(last_pass, document):
        message = f"Retention failed: {error['message']}"
        since = last_pass.get("finished")
        cause = caused(error, playbook("prune", config), config)
        yield Finding("retention_failed", FAILURE, "retention", message, since=since, **cause)


def _has_begun_since(nightly_started: str | None, refused: str) -> bool:
    """Whether a scheduled pass has begun after one was refused: a pass over some containers makes up for nothing."""
    return nightly_started is not None and nightly_started > refused


def _made_up_for(last_pass: PassRecord, document: StateRecord) -> bool:
    """Whether retention has gone well since the pass in which it failed."""
    kinds = document.get("maintenance") or {}
    forget, prune = kinds.get("forget"), kinds.get("prune")
    is_good_again = forget is not None and forget["ok"] and forget["time"] > last_pass["finished"]
    return is_good_again and (prune is None or prune["ok"])


def _of_running(config: Config, running: RunningRecord, now: datetime) -> Iterator[Finding]:
    """A pass that hangs, or takes so long that the next one will not begin."""
    if not config.pass_hours or "since" not in running:
        return
    since = datetime.fromisoformat(running["since"])
    if now - since > timedelta(hours=config.pass_hours):
        message = (
            f"A pass has been running for {human_age((now - since).total_seconds())} (the limit is {config.pass_hours} h), "
            "and no other can start meanwhile. If the log shows that it hangs, docker restart scalr-backup ends it and "
            "keeps what it has saved."
        )
        command = "docker logs --tail 50 scalr-backup"
        yield Finding("pass_runs_long", WARNING, "running", message, command, since=running["since"])


def _of_pace(config: Config, document: StateRecord, now: datetime) -> Iterator[Finding]:
    """A schedule that asks for passes faster than they are done: there are fewer of them than it says.

    What ran by another schedule says nothing of this one: a pass of the night has left out no hour.
    """
    last_pass = document.get("last_pass")
    if last_pass is None or last_pass.get("reason") != NIGHTLY:
        return
    started, finished = (datetime.fromisoformat(last_pass[end]) for end in ("started", "finished"))
    change = change_of(config, document.get("schedule"), now)
    if change is not None and started < change.since and change.before != config.schedule:
        return
    left_out = due_between(config, config.schedule, started, finished)
    if left_out:
        count = f"more than {MANY - 1}" if left_out == MANY else str(left_out)
        message = (
            f"The last pass took {human_age((finished - started).total_seconds())}, so {count} that the schedule "
            f"{config.schedule} asks for meanwhile did not run: passes run one after the other, and what is missed is not "
            "caught up on. Choose a backup_schedule that leaves a pass its time; the history shows what takes so long."
        )
        yield Finding(
            "pass_outlasts_schedule", WARNING, "pace", message, verb("history --days 2"), since=last_pass["finished"]
        )
