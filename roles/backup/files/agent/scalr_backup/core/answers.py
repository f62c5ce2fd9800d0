# SPDX-License-Identifier: GPL-3.0-or-later
"""What a verb answers: the ``data`` of its result line, as the JSON contract has it.

The schemas in ``docs/schemas`` are made from these types.
"""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from scalr_backup.core.records.reading import Moment
from scalr_backup.core.records.state import FailureRecord, KeptCopyRecord, KeptCount, PassRecord, UnmatchedRecord

Severity = Literal["failure", "warning"]
Verdict = Literal["not_safe", "incomplete", "safe", "waiting", "nothing_to_back_up"]


class Result(TypedDict):
    """The last line of a verb with ``--json``, whose ``event`` is ``result``; without it the call has failed."""

    verb: str
    ok: bool
    changed: bool
    exit_code: int
    error: FailureRecord | None
    data: dict[str, object]


class JudgedDrill(TypedDict):
    """The last drill of a database."""

    ok: bool
    time: Moment
    age_seconds: int
    snapshot_id: str | None
    recovery_seconds: float | None
    error: FailureRecord | None


class JudgedDatabase(TypedDict):
    """A database that the agent answers for; it is *fresh* while its last good backup is younger than 26 hours."""

    container: str
    database: str
    ok: bool
    fresh: bool
    last_success: Moment | None
    age_seconds: int | None
    snapshot_id: str | None
    bytes_read: int | None
    rows: int | None
    count_error: str | None
    error: FailureRecord | None
    drill: JudgedDrill | None
    kept: KeptCount | None


class JudgedCopy(TypedDict):
    """The second repository, and what is known of the last copy to it."""

    repository: str
    ok: bool | None
    fresh: bool
    last_success: Moment | None
    age_seconds: int | None
    copied: int | None
    removed: list[str] | None
    error: FailureRecord | None


class FindingAnswer(TypedDict):
    """One thing that is wrong, and the command to run next."""

    code: str
    severity: Severity
    topic: str
    message: str
    command: str
    container: str
    database: str
    since: Moment | None
    last_good: Moment | None
    last_good_age_seconds: int | None
    cause: str
    reason: str
    about: list[str]
    remedy: str
    help: str


class BoxAnswer(TypedDict):
    """The outbox without what its messages say; *pending* counts them."""

    sent: int
    failed: int
    last_error: str | None
    pending: int


class StatusAnswer(TypedDict):
    """``status``."""

    host: str
    repository: str
    healthy: bool
    verdict: Verdict
    summary: str
    problems: list[str]
    findings: list[FindingAnswer]
    agent_version: str
    databases: list[JudgedDatabase]
    unmatched: list[UnmatchedRecord]
    last_pass: PassRecord | None
    next_pass: Moment
    append_only: bool
    copy: JudgedCopy | None
    kept_databases: list[KeptCopyRecord]


class DrilledAnswer(TypedDict):
    """What a drill came to for one database; one that was not *tried* says nothing of the backup."""

    container: str
    database: str
    snapshot_id: str
    snapshot_time: Moment
    ok: bool
    tried: bool
    image: str | None
    tables: int | None
    rows: int | None
    recovery_seconds: float | None
    amcheck: str | None
    assertions: dict[str, int]
    error: FailureRecord | None
    own_image: bool


class DrillAnswer(TypedDict):
    """``drill``."""

    run: str
    host: str
    started: Moment
    finished: Moment
    duration_seconds: float
    failed: int
    not_tried: int
    warnings: list[str]
    databases: list[DrilledAnswer]
