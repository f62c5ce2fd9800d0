# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a database's dumps is new to the repository night by night, and whether the order of their rows pays.

A chunk of the repository is 1 MiB on average, and one changed row makes its chunk a new one. Rows in the order of a key keep
changes together, unless they are everywhere: then sorting costs time and saves nothing. So nights that followed each other in
row order are judged by what of the ordered rows was new *at least*, were all the rest of the dump new as well.

Two kinds of backup say nothing of a night and are set apart: the first one in a repository, and one whose rows are in another
order than before, because either way all that it holds is new.

A night is a day in UTC, so that a host that backs up every hour is judged by days and not by hours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median_low

from scalr_backup.core.records.new_data import GivenUpRecord, NewDataRecord, NightRecord
from scalr_backup.core.records.row_order import RowOrderRecord
from scalr_backup.core.row_order import place_of
from scalr_backup.core.units import whole_percent

# So many entries are kept of each database, and days of each repository.
KEPT_NIGHTS = 14
# Order does not pay where more than this share of the ordered rows was new in each of so many nights on end.
MOST_NEW = 0.7
JUDGED_NIGHTS = 5
# When it is tried again: after so long, and not before so many dumps, which a host that backs up once a month reaches later.
TRIED_AGAIN_AFTER = timedelta(days=30)
TRIED_AGAIN_DUMPS = 10

# Why everything in a backup had to be new.
FIRST, ORDER = "first", "order"
# Rows in another order are what made a dump new if they are at least this share of it, and so much of them was new.
_MOVED_SHARE = 0.1
_MOVED_NEW = 0.5
# Tables whose order is remembered; those beyond, the smallest, count as unmoved.
_MOST_TABLES = 256


@dataclass(frozen=True)
class NewBackup:
    """A good backup, as far as new data is concerned: when its pass started, bytes, and the order of its rows."""

    started: datetime
    bytes_read: int
    bytes_added: int
    bytes_stored: int
    # As ``layout`` makes it.
    layout: Mapping[str, int]

    @property
    def bytes_ordered(self) -> int:
        """Of tables whose rows are in the order of a key."""
        return sum(self.layout.values())


@dataclass(frozen=True)
class OrderVerdict:
    """Whether the order of rows pays for a database; where not, since when, by which share, and until when that holds."""

    pays: bool
    since: datetime | None = None
    share: float | None = None
    tried_again: datetime | None = None

    @property
    def why(self) -> str:
        """The reason in words; empty where order pays, as far as is known."""
        if self.pays or self.since is None or self.share is None or self.tried_again is None:
            return ""
        return (
            f"auto gave up on {self.since:%Y-%m-%d}: {whole_percent(self.share)} of each dump was new although its rows were in "
            f"order, so they are dumped in heap order; order is tried again after {self.tried_again:%Y-%m-%d}"
        )


def layout(order: RowOrderRecord | None) -> dict[str, int]:
    """Which tables of a dump are in which order, by a short digest each, and their bytes in it.

    Names are long, and a stranger's; nothing but whether they are the same is asked of them.
    """
    largest = sorted(order["ordered"] if order else (), key=lambda table: -table["bytes"])[:_MOST_TABLES]
    return {
        place_of(table["relation"], table["key"], descending=table.get("descending", False)): table["bytes"]
        for table in largest
    }


# -- keeping the record ------------------------------------------------------------------------------------


def after(
    before: NewDataRecord | None, added: NewBackup, *, is_first: bool = False, repository: str | None = None
) -> NewDataRecord:
    """The record once a good backup has been added to it; *is_first* says that there was none before.

    One into another repository is the first there.
    """
    if before is None:
        before = {"nights": [], "layout": {}}
    known = before.get("repository")
    is_first = is_first or (known is not None and repository is not None and known != repository)
    anew = FIRST if is_first else ORDER if _is_moved(before["layout"], added) else None
    record: NewDataRecord = {
        "repository": repository if repository is not None else known,
        "nights": _with_night([] if is_first else before["nights"], added, anew),
        "layout": dict(added.layout),
    }
    given_up, since = before.get("given_up"), before.get("tried_since")
    if given_up is not None and not added.bytes_ordered:
        record["given_up"] = {**given_up, "dumps": given_up["dumps"] + 1}
    elif given_up is not None:
        since = added.started.isoformat()
    elif failed := _failed_try(record["nights"], since, added):
        record["given_up"] = failed
    if since is not None:
        record["tried_since"] = since
    return record


def _is_moved(layout_before: Mapping[str, int], added: NewBackup) -> bool:
    """Whether rows lie in another order than in the dump before, and that is why much of this one is new."""
    came = sum(size for table, size in added.layout.items() if table not in layout_before)
    went = sum(size for table, size in layout_before.items() if table not in added.layout)
    moved = max(came, went)
    return moved > _MOVED_SHARE * added.bytes_read and added.bytes_added >= _MOVED_NEW * min(moved, added.bytes_read)


def _with_night(nights: Sequence[NightRecord], added: NewBackup, anew: str | None) -> list[NightRecord]:
    night: NightRecord = {
        "time": added.started.isoformat(),
        "dumps": 1,
        "bytes_read": added.bytes_read,
        "bytes_added": added.bytes_added,
        "bytes_stored": added.bytes_stored,
        "bytes_ordered": added.bytes_ordered,
    }
    if anew is not None:
        night["anew"] = anew
    if nights and _is_one_night(nights[-1], night):
        return [*nights[:-1], _together(nights[-1], night)]
    return [*nights, night][-KEPT_NIGHTS:]


def _is_one_night(before: NightRecord, night: NightRecord) -> bool:
    return (
        _is_comparable(before)
        and _is_comparable(night)
        and bool(before["bytes_ordered"]) == bool(night["bytes_ordered"])
        and _day(before) == _day(night)
    )


def _together(one: NightRecord, other: NightRecord) -> NightRecord:
    return {
        "time": other["time"],
        "dumps": one["dumps"] + other["dumps"],
        "bytes_read": one["bytes_read"] + other["bytes_read"],
        "bytes_added": one["bytes_added"] + other["bytes_added"],
        "bytes_stored": one["bytes_stored"] + other["bytes_stored"],
        "bytes_ordered": one["bytes_ordered"] + other["bytes_ordered"],
    }


def _failed_try(nights: Sequence[NightRecord], since: str | None, added: NewBackup) -> GivenUpRecord | None:
    """That order does not pay, once enough nights on end say so."""
    judged = _ordered_nights(nights, since)
    if len({_day(night) for night in judged}) < JUDGED_NIGHTS or min(map(least_new, judged)) <= MOST_NEW:
        return None
    share = sum(night["bytes_added"] for night in judged) / max(sum(night["bytes_read"] for night in judged), 1)
    return {"time": added.started.isoformat(), "share": round(share, 3), "dumps": 0}


def _ordered_nights(nights: Sequence[NightRecord], since: str | None) -> list[NightRecord]:
    """The newest nights in row order, as many as are judged; neither a night in heap order nor an earlier try lies between."""
    judged: list[NightRecord] = []
    days: set[str] = set()
    for night in reversed(nights):
        if since is not None and night["time"] < since:
            break
        if not _is_comparable(night):
            continue
        if not night["bytes_ordered"] or (len(days) == JUDGED_NIGHTS and _day(night) not in days):
            break
        judged.append(night)
        days.add(_day(night))
    return judged


def least_new(night: NightRecord) -> float:
    """Which share of a night's ordered rows was new at least, as if all the rest of its dumps had been."""
    ordered, rest = night["bytes_ordered"], night["bytes_read"] - night["bytes_ordered"]
    return min(max(night["bytes_added"] - max(rest, 0), 0) / ordered, 1.0) if ordered else 0.0


# -- asking the record -------------------------------------------------------------------------------------


def order_pays(record: NewDataRecord | None, now: datetime) -> OrderVerdict:
    """Whether rows should be dumped in order, as far as the record says; nothing is held against it before it was tried."""
    given_up = record.get("given_up") if record else None
    if given_up is None:
        return OrderVerdict(pays=True)
    since = datetime.fromisoformat(given_up["time"])
    again = since + TRIED_AGAIN_AFTER
    is_over = now >= again and given_up["dumps"] >= TRIED_AGAIN_DUMPS
    return OrderVerdict(pays=is_over, since=since, share=given_up["share"], tried_again=again)


@dataclass(frozen=True)
class OrderHistory:
    """What past nights say of the order of rows, by the names of a container and its database."""

    records: Mapping[str, NewDataRecord]
    now: datetime

    def why_not(self, container: str, database: str) -> str | None:
        """Why order does not pay for a database; None where it does, or nothing says otherwise."""
        return order_pays(self.records.get(f"{container}/{database}"), self.now).why or None

    def before(self, container: str, database: str) -> frozenset[str]:
        """Which of its tables were in which order in its last dump, as ``place_of`` has it."""
        record = self.records.get(f"{container}/{database}")
        return frozenset(record["layout"]) if record else frozenset()


NO_HISTORY = OrderHistory({}, datetime.fromtimestamp(0, UTC))


def turn(before: NewDataRecord | None, after: NewDataRecord) -> str | None:
    """What is to be told once: that auto has given up, or tries again."""
    was, now = before.get("given_up") if before else None, after.get("given_up")
    if was is None and now is not None:
        return (
            f"{verdict.why}." if not (verdict := order_pays(after, datetime.fromisoformat(now["time"]))).pays else None
        )
    if was is not None and now is None:
        return "rows are dumped in order again, to see whether that pays off now."
    return None


def last_night(nights: Sequence[NightRecord], now: datetime) -> NightRecord | None:
    """The newest night that others can be compared with, and that is over.

    Where today has fewer dumps than usual, more are still to come.
    """
    comparable = [night for night in nights if _is_comparable(night)]
    if not comparable:
        return None
    *earlier, newest = comparable
    if not earlier or _day(newest) < f"{now.astimezone(UTC):%Y-%m-%d}":
        return newest
    usual = median_low(night["dumps"] for night in earlier)
    return newest if newest["dumps"] >= usual else earlier[-1]


def share_of_dump(night: NightRecord) -> float | None:
    """A night's new data beside one of its dumps: more than 1 where many dumps a day add up to more than one."""
    return night["bytes_added"] * night["dumps"] / night["bytes_read"] if night["bytes_read"] else None


def _is_comparable(night: NightRecord) -> bool:
    return "anew" not in night


def _day(night: NightRecord) -> str:
    """The date; every time in the record is one of UTC."""
    return night["time"][:10]
