# SPDX-License-Identifier: GPL-3.0-or-later
"""How the whole repository grows, from its nightly measurements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from scalr_backup.core.new_data import KEPT_NIGHTS
from scalr_backup.core.records.new_data import SizeRecord, SizesRecord

# Growth over less than this says nothing of a night.
_SHORTEST_GROWTH = timedelta(hours=20)


def with_size(before: SizesRecord | None, repository: str, size: SizeRecord) -> SizesRecord:
    """The sizes of a repository and one more; the last of a day stays. What was said of another repository goes."""
    known = before["sizes"] if before and before["repository"] == repository else []
    earlier = [one for one in known if one["time"][:10] != size["time"][:10]]
    return {"repository": repository, "sizes": [*earlier, size][-KEPT_NIGHTS:]}


@dataclass(frozen=True)
class NightlyGrowth:
    """By how many bytes a night a repository has grown since then; negative if it shrank."""

    since: datetime
    bytes_a_night: int


def growth(sizes: SizesRecord | None) -> NightlyGrowth | None:
    """How a repository grows; None as long as a night is not over."""
    if not sizes or len(sizes["sizes"]) < 2:
        return None
    first, last = sizes["sizes"][0], sizes["sizes"][-1]
    since = datetime.fromisoformat(first["time"])
    passed = datetime.fromisoformat(last["time"]) - since
    if passed < _SHORTEST_GROWTH:
        return None
    return NightlyGrowth(since, round((last["size_bytes"] - first["size_bytes"]) / (passed / timedelta(days=1))))
