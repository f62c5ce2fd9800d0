# SPDX-License-Identifier: GPL-3.0-or-later
"""Why something failed, and which objects could not be restored as they were saved."""

from __future__ import annotations

from typing_extensions import TypedDict


class FailureRecord(TypedDict):
    """Why something failed: a code for programs, a sentence for people."""

    code: str
    message: str


class ObjectRecord(TypedDict):
    """An object that could not be restored as it was saved: why, what became of it, and SQL that fixes the live one.

    The outcome is ``failed``, ``not_valid`` (a constraint that does not check existing rows), ``mended`` (made with
    a search path that it does not set itself), ``unreachable`` (a drill has only this database) or ``left_out``.
    """

    object: str
    cause: str
    mend: str | None
    outcome: str
