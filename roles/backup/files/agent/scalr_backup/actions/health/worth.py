# SPDX-License-Identifier: GPL-3.0-or-later
"""What a night costs: each database's new data, whether the order of its rows pays, and how the repository grows."""

from __future__ import annotations

from datetime import datetime

from scalr_backup.core import new_data
from scalr_backup.core.growth import growth
from scalr_backup.core.new_data_answers import GrowthAnswer, NewDataAnswer, NightAnswer, OrderWorthAnswer
from scalr_backup.core.records.new_data import NewDataRecord, NightRecord, SizesRecord


def judge_new_data(record: NewDataRecord | None, now: datetime, *, is_off: bool = False) -> NewDataAnswer | None:
    """What is on record of a database, as the status tells it; None before its first backup.

    Where the configuration says *off*, it is that, and not the record, which keeps rows in heap order.
    """
    if record is None:
        return None
    last = new_data.last_night(record["nights"], now)
    return {
        "night": _night(last) if last else None,
        "nights": [_night(one) for one in record["nights"]],
        "row_order": _row_order(new_data.order_pays(record, now), is_off=is_off),
    }


def _night(night: NightRecord) -> NightAnswer:
    share = new_data.share_of_dump(night)
    return {
        "time": night["time"],
        "dumps": night["dumps"],
        "bytes_read": night["bytes_read"],
        "bytes_added": night["bytes_added"],
        "bytes_stored": night["bytes_stored"],
        "bytes_ordered": night["bytes_ordered"],
        "share": None if share is None else round(share, 4),
        "anew": night.get("anew"),
    }


def _row_order(verdict: new_data.OrderVerdict, *, is_off: bool) -> OrderWorthAnswer:
    return {
        "pays": verdict.pays,
        "why_not": None if is_off else verdict.why or None,
        "given_up": verdict.since.isoformat() if verdict.since else None,
        "given_up_share": verdict.share,
        "tried_again": verdict.tried_again.isoformat() if verdict.tried_again else None,
    }


def judge_growth(sizes: SizesRecord | None, repository: str) -> GrowthAnswer | None:
    """How the repository at this address grows; None before two nights of it are on record."""
    grown = growth(sizes) if sizes and sizes["repository"] == repository else None
    return {"since": grown.since.isoformat(), "bytes_a_night": grown.bytes_a_night} if grown else None
