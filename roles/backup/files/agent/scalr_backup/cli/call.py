# SPDX-License-Identifier: GPL-3.0-or-later
"""How every verb starts and ends: shared options, outcome, exit code, standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer

from scalr_backup.cli import options
from scalr_backup.cli.output import JsonOutput, Outcome, Output, in_words_here
from scalr_backup.cli.wiring import Agent
from scalr_backup.core import stopping
from scalr_backup.core.errors import ExitCode, InterruptedRunError, ScalrBackupError, UnwritableRecordError
from scalr_backup.core.model import Failure
from scalr_backup.core.progress import log

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line: events, and the result last.")]
FromCopy = Annotated[bool, typer.Option("--from-copy", help="Restore from the second repository.")]
FromSecrets = Annotated[
    bool, typer.Option("--from-secrets", help="Read that repository's password from standard input, as JSON.")
]
Scheduled = Annotated[
    bool, typer.Option("--scheduled", help="Run as the schedule does: yield to a running pass, restore or drill.")
]
SnapshotId = Annotated[str, typer.Argument(help="The snapshot's id, or a prefix of it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]
Copy = Annotated[bool, typer.Option("--copy", help="Use the second repository instead of the first.")]


def run_verb(verb: str, as_json: bool, call: Callable[[Agent], Outcome]) -> None:
    """Call a verb's use case, print its outcome, and exit with the contract's code, never with a traceback."""
    out = in_words_here(JsonOutput() if as_json else for_people())
    agent = None
    try:
        options.require_sound(verb)
        agent = Agent(out)
        _stop_if_told("before it began")
        outcome = call(agent)
    except ScalrBackupError as failed:
        outcome = Outcome(exit_code=failed.exit_code, error=Failure(failed.code, failed.message))
    except Exception as unexpected:  # noqa: BLE001 (whatever it is, the operator gets one sentence)
        text = f"Unexpected error: {type(unexpected).__name__}: {unexpected}"
        outcome = Outcome(exit_code=ExitCode.FAILED, error=Failure("internal", text))
    if agent is not None:
        outcome = _with_what_is_not_on_record(agent, outcome)
    out.result(verb, outcome)
    sys.exit(int(outcome.exit_code))


def _with_what_is_not_on_record(agent: Agent, outcome: Outcome) -> Outcome:
    """A verb that could not put on record what it did has failed in that: told beside a failure, or in place of a success."""
    if not (sentence := agent.unwritten()):
        return outcome
    failure = Failure(UnwritableRecordError.code, sentence)
    if outcome.error is None:
        return replace(outcome, exit_code=ExitCode.FAILED, error=failure)
    agent.emit(log("error", failure.message))
    return outcome


def for_people() -> Output:
    """Tables and progress; what draws them is imported only where somebody reads it."""
    from scalr_backup.cli.human import HumanOutput  # noqa: PLC0415

    return HumanOutput()


def _stop_if_told(when: str) -> None:
    """Raises InterruptedRunError."""
    if stopping.told.is_set():
        raise InterruptedRunError(f"Stopped {when}; nothing was done.")


def standard_input() -> str:
    """Read standard input to its end. Raises InterruptedRunError when the verb is told to stop meanwhile."""
    text = stopping.read_standard_input()
    _stop_if_told("while reading standard input")
    return text
