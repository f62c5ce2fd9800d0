# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that pg_dump leaves out, and so every backup that is made with it: in words, for whoever relies on the backup."""

from __future__ import annotations

from collections.abc import Sequence

from scalr_backup.core.records.left_out import LeftOutRowsRecord
from scalr_backup.core.sql import shown_identifier
from scalr_backup.core.units import counted

# Rows are counted up to this number.
MOST_COUNTED = 1_000_000
# So many relations of a database are looked at, and so many are named in a sentence.
MOST_RELATIONS = 1000
_NAMED = 5
# What an extension makes anew by itself, and keeps out of dumps on purpose: TimescaleDB's statistics of its own jobs.
MADE_ANEW = {
    "timescaledb": frozenset(
        {
            "_timescaledb_catalog.metadata", "_timescaledb_catalog.telemetry_event", "_timescaledb_internal.bgw_job_stat",
            "_timescaledb_internal.bgw_job_stat_history", "_timescaledb_internal.bgw_policy_chunk_stats",
            "_timescaledb_internal.job_errors",
        }
    )
}  # fmt: skip


def relation_name(schema: str, name: str) -> str:
    """A relation's name as people write it: quoted only where it must be."""
    return f"{shown_identifier(schema)}.{shown_identifier(name)}"


def lacks(subject: str, left_out: Sequence[LeftOutRowsRecord]) -> str:
    """The sentence for a dump that lacks rows; *subject* is what lacks them, such as "The backup of a/b"."""
    return f"{subject} lacks rows that pg_dump leaves out, so no restore brings them back: {_named(left_out)}."


def lost_with(database: str, left_out: Sequence[LeftOutRowsRecord]) -> str | None:
    """The sentence for a live database that is about to be replaced; None where nothing is lost that a dump would not have.

    The rows of foreign tables lie elsewhere, and stay there.
    """
    if not (lost := [one for one in left_out if one["why"] != "foreign_table"]):
        return None
    return (
        f"Replacing {database} loses rows that not even a safety snapshot has, because pg_dump leaves them out: "
        f"{_named(lost)}; keep_old=true keeps them."
    )


def _named(left_out: Sequence[LeftOutRowsRecord]) -> str:
    named = ", ".join(f"{one['relation']} ({_reason(one)})" for one in left_out[:_NAMED])
    at_least = "at least " if len(left_out) >= MOST_RELATIONS else ""
    return named + (f" and {at_least}{len(left_out) - _NAMED} more" if len(left_out) > _NAMED else "")


def _reason(one: LeftOutRowsRecord) -> str:
    reason = {
        "extension": f"part of the extension {one['extension']}",
        "extension_filter": f"excluded by the extension {one['extension']}",
        "foreign_table": "a foreign table, whose rows lie elsewhere",
        "unlogged_on_standby": "unlogged, so this standby does not have them",
        "system_schema": "in a schema of the server's own",
    }.get(one["why"], one["why"])
    return f"{_amount(one['rows'])}, {reason}" if one["rows"] is not None else reason


def _amount(rows: int) -> str:
    if rows > MOST_COUNTED:
        return f"more than {MOST_COUNTED:,} rows"
    return counted(rows, "row")
