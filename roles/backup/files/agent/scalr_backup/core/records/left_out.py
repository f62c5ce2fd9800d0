# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that no dump holds: what the manifest and the state record of them."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

# A table that belongs to an extension; rows that an extension excludes of a table that it lets be dumped; a foreign table; a
# table that a standby does not have; a table beside the server's own.
Why = Literal["extension", "extension_filter", "foreign_table", "unlogged_on_standby", "system_schema"]


class LeftOutRowsRecord(TypedDict):
    """A relation whose rows pg_dump leaves out; *rows* is null where they were not counted, and stops at a bound."""

    relation: str
    why: Why
    extension: str | None
    rows: int | None
