# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``doctor`` answers: each check with its verdict, what was seen, and what to do."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from scalr_backup.core.records.reading import Moment

CheckVerdict = Literal["ok", "warning", "failed", "skipped"]


class ExaminedAnswer(TypedDict):
    """One check; *skipped* when it depends on another check that failed.

    *details* are sentences on single containers or places, *cure* says what to do, and *command* is what to run for it. *code*
    is that of the failure behind it, *help* the page that says more about it; empty where there is none.
    """

    check: str
    verdict: CheckVerdict
    seen: str
    details: list[str]
    cure: str
    command: str
    code: str
    help: str
    seconds: float


class DoctorAnswer(TypedDict):
    """``doctor``; *host* is null when the configuration cannot be read."""

    host: str | None
    agent_version: str
    time: Moment
    verdict: Literal["ok", "warning", "failed"]
    summary: str
    failed: int
    warnings: int
    checks: list[ExaminedAnswer]
