# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a restored database holds what was saved: its counts are compared here."""

from __future__ import annotations

from collections.abc import Mapping

from scalr_backup.actions.restore.request import DatabasePlan
from scalr_backup.core.archive.head import ArchiveHead
from scalr_backup.core.errors import VerificationError
from scalr_backup.tools.postgres.queries import RowCounts, SequenceValues


def verified(
    plan: DatabasePlan, head: ArchiveHead, counts: RowCounts | None, sequences: SequenceValues
) -> dict[str, int] | None:
    """Compare what a restored database has with the manifest's row counts, and with the archive's sequences.

    Returns how much was compared, None when the manifest has no counts; raises VerificationError with what
    differs first.
    """
    differences = [] if plan.row_counts is None else different_counts(plan.row_counts, counts or {})
    differences += _different_sequences(head.sequence_values, sequences)
    if differences:
        raise VerificationError(
            f"{len(differences)} tables or sequences of the restored {plan.database} differ from what was saved, "
            f"so nothing was swapped: {'; '.join(differences[:5])}."
        )
    if counts is None:
        return None
    return {"tables": len(counts), "rows": sum(counts.values()), "sequences": len(head.sequence_values)}


def different_counts(expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """The tables whose counts differ, with both counts."""
    return [
        f"{table}: {expected.get(table, 'no table')} expected, {found.get(table, 'no table')} restored"
        for table in sorted(expected.keys() | found.keys())
        if expected.get(table) != found.get(table)
    ]


def _different_sequences(expected: Mapping[str, tuple[int, bool]], found: Mapping[str, tuple[int, bool]]) -> list[str]:
    return [
        f"sequence {name}: {value[0]} expected, {found[name][0] if name in found else 'no sequence'} restored"
        for name, value in expected.items()
        if tuple(found.get(name, ())) != tuple(value)
    ]
