# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the host, and what was reported of it."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from scalr_backup.core.records.passes import UnmatchedRecord
from scalr_backup.core.records.reading import Moment


class LookRecord(TypedDict):
    """What a look at the containers of the host has found.

    *called* says what the engine calls the containers whose backups are kept under another name, by that name.
    """

    time: Moment
    called: NotRequired[dict[str, str]]
    matching: NotRequired[list[str]]
    unmatched: NotRequired[list[UnmatchedRecord]]


class RefusedRecord(TypedDict):
    """What the socket proxy has refused, by kind: since it has *begun*, and in all.

    *last* is when there was more of it that the agent never asks for.
    """

    begun: str
    counted: dict[str, int]
    total: dict[str, int]
    last: NotRequired[Moment]


class PendingRecord(TypedDict):
    """A message on its way: *to* are the services that have not accepted it yet."""

    kind: str
    title: str
    body: str
    time: Moment
    tries: int
    next: Moment
    to: list[str]


class BoxRecord(TypedDict, total=False):
    """The outbox: counts, the last error, and what waits."""

    sent: int
    failed: int
    last_error: str | None
    pending: list[PendingRecord]


class HeartbeatRecord(TypedDict, total=False):
    """How many calls of the dead man's switch have failed in a row, *since* when, and why the last one did."""

    failed: int
    since: Moment
    error: str


class ClockRecord(TypedDict):
    """By how much the host's clock is ahead of a server's."""

    time: Moment
    skew_seconds: float


class NotedFinding(TypedDict):
    """A finding that was reported, since when it is known, and how often it was reported."""

    code: str
    severity: Literal["failure", "warning"]
    message: str
    since: Moment
    told: Moment
    times: int
    about: NotRequired[list[str]]


class DigestRecord(TypedDict):
    """When the weekly digest, or that passes succeed, was last sent."""

    time: Moment
