# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``status`` answers of new data: a database's nights, the order of its rows, and a repository's growth."""

from __future__ import annotations

from typing_extensions import TypedDict

from scalr_backup.core.records.reading import Moment


class NightAnswer(TypedDict):
    """A database's good backups of one day in UTC; sizes in bytes.

    *share* is the new data beside one dump. *anew* says why all had to be new, and is null for a night like others.
    """

    time: Moment
    dumps: int
    bytes_read: int
    bytes_added: int
    bytes_stored: int
    bytes_ordered: int
    share: float | None
    anew: str | None


class OrderWorthAnswer(TypedDict):
    """Whether rows are dumped in order as far as the record decides; *why_not* says it in words once auto has given up."""

    pays: bool
    why_not: str | None
    given_up: Moment | None
    given_up_share: float | None
    tried_again: Moment | None


class NewDataAnswer(TypedDict):
    """What of a database's dumps is new to the repository: on its last whole *night*, and on the nights on record."""

    night: NightAnswer | None
    nights: list[NightAnswer]
    row_order: OrderWorthAnswer


class GrowthAnswer(TypedDict):
    """By how many bytes a night the repository has grown since then; negative if it shrank."""

    since: Moment
    bytes_a_night: int
