# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore has left or replaced, and what undoing it takes."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict


class KeptRecord(TypedDict):
    """A database that a restore has replaced and kept, under the name *old*."""

    run: str
    container: str
    database: str
    old: str


class RestoreRecord(KeptRecord):
    """What a restore has made and must not leave behind: the journal of one under way, or of one that was killed."""

    new: str
    keep_old: bool
    aside: NotRequired[str]
    new_oid: NotRequired[int]


class UndoRecord(TypedDict):
    """The journal of an undo: what is on its way back, and what it replaces."""

    kept: KeptRecord
    replaced: KeptRecord | None
