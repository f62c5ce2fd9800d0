# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``state.json`` has of new data: each database's nights, and the sizes of the repository."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from scalr_backup.core.records.reading import Moment


class NightRecord(TypedDict):
    """The good backups of a database on one day in UTC, and what of them was new to the repository; sizes in bytes.

    *time* is when the last of them started. *anew* says why everything had to be new: the ``first`` backup in a repository,
    or rows in another ``order`` than before. Such a backup is an entry of its own, and no other night is compared with it.
    """

    time: Moment
    dumps: int
    bytes_read: int
    bytes_added: int
    bytes_stored: int
    # Of tables whose rows were dumped in the order of a key.
    bytes_ordered: int
    anew: NotRequired[str]


class GivenUpRecord(TypedDict):
    """That the order of rows did not pay: since when, which share of each dump was new, and how many dumps came since."""

    time: Moment
    share: float
    dumps: int


class NewDataRecord(TypedDict):
    """What of a database's dumps was new to the *repository* night by night, and what follows for the order of its rows."""

    repository: NotRequired[str | None]
    nights: list[NightRecord]
    # Which tables were in which order in the last dump, as ``core.new_data.layout`` has it, and their bytes.
    layout: dict[str, int]
    given_up: NotRequired[GivenUpRecord]
    # When order was tried again last: the nights before that belong to an earlier try.
    tried_since: NotRequired[Moment]


class SizeRecord(TypedDict):
    """How large the repository was after the last pass of a day."""

    time: Moment
    size_bytes: int


class SizesRecord(TypedDict):
    """How a repository grew: a size a day, the oldest first."""

    repository: str
    sizes: list[SizeRecord]
