# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rows of a cluster's answers have to be: the queries are in ``queries.py``."""

from __future__ import annotations

from typing_extensions import TypedDict

from scalr_backup.core.answers import ConnectedAnswer
from scalr_backup.core.slots import SlotAnswer
from scalr_backup.core.spoken import Count, Flag, Name, Number, Shape, Text


class DatabaseRow(TypedDict):
    """A database, as ``DATABASES`` has it; of the encoding, its name."""

    name: Name
    owner: Text
    encoding: Text
    size_bytes: Count
    is_template: Flag
    allows_connections: Flag
    is_valid: Flag


class RoomRow(TypedDict):
    """What decides how much room a restore takes, as ``ROOM_OF_SERVER`` has it; null is what may not be seen."""

    directory: Text | None
    limit_bytes: Count
    kept_bytes: Count
    kept_for_slots: Number | None
    sort_bytes: Count
    checksums: Flag
    archive_fails: Flag | None
    slots: list[Name]
    tablespaces: dict[Name, Count]


class _Connected(TypedDict):
    user: Text | None
    application: Text
    address: Text
    sessions: Count


class _Slot(TypedDict):
    name: Name
    plugin: Text | None
    active: Flag
    consumer: Text | None


class MomentRow(TypedDict):
    """How the moment of ``window.py`` ended."""

    changed: Flag
    back: Flag
    said: Text | None


# Each costs a pass some time and some room in its records, whether it is there or not.
DATABASE_ROWS = Shape[DatabaseRow](DatabaseRow, most_rows=20_000)
ROOMS = Shape[RoomRow](RoomRow)
CONNECTIONS = Shape[ConnectedAnswer](_Connected)
SLOT_ROWS = Shape[SlotAnswer](_Slot)
MOMENTS = Shape[MomentRow](MomentRow)
# A role, and whether it may do what was asked about.
ROLE_ROWS = Shape[tuple[str, bool]](tuple[Name, Flag])
# The value of a setting; some have none.
VALUES = Shape[tuple[str, str | None]](tuple[Name, Text | None])
