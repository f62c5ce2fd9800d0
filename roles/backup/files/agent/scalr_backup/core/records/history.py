# SPDX-License-Identifier: GPL-3.0-or-later
"""``history.jsonl``: one of these a line. The first lines are those of 0.3.0, which began it."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from scalr_backup.core.records.reading import Moment

BACKUP, PASS, DRILL = "backup", "pass", "drill"


class Line(TypedDict):
    """What each line has, be its kind one that only a newer release knows."""

    kind: str
    time: Moment


class BackupDay(TypedDict):
    """What all passes of a day came to for one database; sums of bytes are of the good ones, *error* is the last failure's."""

    good: int
    failed: int
    bytes_read: int
    bytes_added: int
    bytes_stored: int
    error: str | None


class PassDay(TypedDict):
    """What all passes of a day came to as such."""

    good: int
    failed: int
    error: str | None


class BackupLine(TypedDict):
    """One database in a pass; *error* is the code of its failure. With a *day*, it stands for all of that day.

    *anew* says why everything in a dump had to be new: the ``first`` one in a repository, or rows in another ``order``.
    """

    kind: Literal["backup"]
    time: Moment
    started: Moment
    run: str
    reason: str
    container: str
    database: str
    ok: bool
    seconds: float
    bytes_read: int
    bytes_added: int
    bytes_stored: NotRequired[int]
    bytes_ordered: NotRequired[int]
    anew: NotRequired[str | None]
    rows: int | None
    error: str | None
    day: NotRequired[BackupDay]


class PassLine(TypedDict):
    """A pass, and what the repository was measured at in it. With a *day*, it stands for all of that day."""

    kind: Literal["pass"]
    time: Moment
    started: Moment
    run: str
    reason: str
    ok: bool
    size_bytes: int | None
    snapshots: int | None
    error: str | None
    day: NotRequired[PassDay]


class DrillLine(TypedDict):
    """The drill of one database."""

    kind: Literal["drill"]
    time: Moment
    run: str | None
    container: str
    database: str
    ok: bool
    recovery_seconds: float | None
    error: str | None


Entry = BackupLine | PassLine | DrillLine
