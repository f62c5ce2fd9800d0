# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``state.json`` knows of the schedule of passes, beside what the configuration says now."""

from __future__ import annotations

from typing_extensions import TypedDict

from scalr_backup.core.records.reading import Moment


class ScheduleRecord(TypedDict):
    """The schedule of passes as the agent knows it: since when, and what it was *before*, as cron expressions."""

    cron: str
    since: Moment
    before: str
