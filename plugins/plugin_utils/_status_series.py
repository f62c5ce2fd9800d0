# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.
"""Numbers of successive nights: sizes, and what of each night was new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._legible import number

# Growth over less than a week is noise.
_SHORTEST_GROWTH = timedelta(days=7)
# So many nights are a trend that is shown as small as a word.
_RECENT_NIGHTS = 14

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Series:
    """Numbers of successive nights; a night without a number has None."""

    first: date
    values: tuple[float | None, ...]

    @property
    def known(self) -> list[tuple[date, float]]:
        """The nights that have a number."""
        return [
            (self.first + timedelta(days=night), value) for night, value in enumerate(self.values) if value is not None
        ]

    @property
    def last(self) -> date:
        """The last of the nights."""
        return self.first + timedelta(days=len(self.values) - 1)

    @property
    def growth(self) -> float | None:
        """By what share the last number is larger than the first, or None where they are no week apart."""
        known = self.known
        if not known or known[-1][0] - known[0][0] < _SHORTEST_GROWTH or not known[0][1]:
            return None
        return known[-1][1] / known[0][1] - 1

    def filled(self) -> Series:
        """The same with the number of the night before where there is none."""
        filled: list[float | None] = []
        for value in self.values:
            filled.append(filled[-1] if value is None and filled else value)
        return Series(self.first, tuple(filled))


def total(several: Iterable[Series]) -> Series | None:
    """The sum of series that begin on about the same night; None where there is no number at all."""
    several = [series for series in several if series.known]
    if not several:
        return None
    sums = [
        None if all(value is None for value in night) else sum(value or 0 for value in night)
        for night in zip(*(series.values for series in several), strict=False)
    ]
    return Series(several[0].first, tuple(sums))


@dataclass(frozen=True)
class NewData:
    """What of a database is new every night: on the last whole one, in bytes and beside one of its dumps, and before.

    A dump that had to be all new is in none of these: the first one, and one whose rows are in another order than before.
    """

    nights: Series
    last_bytes: float | None = None
    last_share: float | None = None
    # Why auto has stopped to put its rows in order, where it has.
    out_of_order: str | None = None

    @property
    def recent(self) -> Series:
        """The last two weeks."""
        values = self.nights.values[-_RECENT_NIGHTS:]
        return Series(self.nights.first + timedelta(days=len(self.nights.values) - len(values)), values)


def new_data(known: Entry, nights: Series) -> NewData:
    """What the agent says of it; one before 0.7.0 says nothing."""
    last = known.get("night") or {}
    why_not = (known.get("row_order") or {}).get("why_not")
    return NewData(nights, number(last, "bytes_added"), number(last, "share"), why_not)


def comparable(tries: Sequence[Entry]) -> list[Entry]:
    """The good backups that did not have to be all new; an agent before 0.7.0 does not say that its first one had to."""
    good = [one for one in tries if one["ok"]]
    return [one for one in good if not one.get("anew") and (one is not good[0] or "anew" in one)]
