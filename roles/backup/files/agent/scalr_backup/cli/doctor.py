# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb that checks everything that can be wrong with an installation."""

from __future__ import annotations

import os

from scalr_backup.actions.doctor.run import examine
from scalr_backup.cli import streams
from scalr_backup.cli.call import Json, run_verb
from scalr_backup.cli.output import Outcome
from scalr_backup.cli.wiring import Agent
from scalr_backup.core.errors import ExitCode, InterruptedRunError


def doctor_verb(json: Json = False) -> None:
    """What is wrong here? Check the engine, the containers, the store and the agent itself; exit with 1 if a check failed.

    Warnings are no failure. Nothing is changed.
    """
    hanging: list[bool] = []

    def call(agent: Agent) -> Outcome:
        try:
            diagnosis = examine(agent.sources(), agent.cancelled)
        except InterruptedRunError:
            hanging.append(True)
            raise
        hanging.append(diagnosis.made.hangs)
        exit_code = ExitCode.FAILED if diagnosis.error else ExitCode.GOOD
        return Outcome(diagnosis.as_dict(), exit_code=exit_code, error=diagnosis.error)

    try:
        run_verb("doctor", json, call)
    except SystemExit as end:
        if any(hanging):
            # Python would wait for what hangs, and so would whoever has asked.
            os._exit(streams.ended(int(end.code or 0)))
        raise
