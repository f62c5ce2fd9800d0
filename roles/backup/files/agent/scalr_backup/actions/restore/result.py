# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a restore or an undo: as a whole, and for each database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from scalr_backup.core.answers import PlanAnswer, RestoreAnswer, RestoredAnswer
from scalr_backup.core.errors import ExitCode, RestoreError
from scalr_backup.core.model import Failure
from scalr_backup.core.records.failures import ObjectRecord
from scalr_backup.core.slots import SlotAnswer


@dataclass
class DatabaseRestore:
    """The outcome for one database; seconds."""

    database: str
    snapshot_id: str | None
    ok: bool = False
    safety_snapshot_id: str | None = None
    old_database: str | None = None
    kept_database: str | None = None
    # The logical replication slots that went with the replaced database.
    lost_slots: list[SlotAnswer] = field(default_factory=list)
    # What could not be made as it was saved, and what became of it.
    objects: list[ObjectRecord] = field(default_factory=list)
    # Statements that make what is left out, once other databases are there.
    unreachable: list[str] = field(default_factory=list)
    dropped_first: bool = False
    verified: dict[str, int] | None = None
    jobs: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    duration_seconds: float = 0.0
    error: Failure | None = None

    def as_dict(self) -> RestoredAnswer:
        """The outcome as the JSON contract shows it."""
        return {
            "database": self.database,
            "snapshot_id": self.snapshot_id,
            "ok": self.ok,
            "safety_snapshot_id": self.safety_snapshot_id,
            "old_database": self.old_database,
            "kept_database": self.kept_database,
            "lost_slots": self.lost_slots,
            "objects": self.objects,
            "dropped_first": self.dropped_first,
            "verified": self.verified,
            "jobs": self.jobs,
            "seconds": self.seconds,
            "duration_seconds": self.duration_seconds,
            "error": self.error.record if self.error else None,
        }


def can_be_tried_again(outcome: DatabaseRestore) -> bool:
    """Whether a database failed for a reason that may pass once others are back: its objects, and not its archive."""
    return outcome.error is not None and outcome.error.code == RestoreError.code and bool(outcome.objects)


class Planned(Protocol):
    """What a restore is to do, or an undo."""

    def as_dict(self) -> PlanAnswer:
        """The plan as the JSON contract shows it."""


PlanType = TypeVar("PlanType", bound=Planned)


@dataclass
class RestoreResult(Generic[PlanType]):
    """The outcome of a restore, or of an undo."""

    run: str
    plan: PlanType
    databases: list[DatabaseRestore] = field(default_factory=list)
    roles_created: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> ExitCode:
        """1 when nothing was restored, 3 when only some databases were."""
        failed = sum(not outcome.ok for outcome in self.databases)
        if not failed:
            return ExitCode.GOOD
        return ExitCode.FAILED if failed == len(self.databases) else ExitCode.SOME_DATABASES_FAILED

    def as_dict(self) -> RestoreAnswer:
        """The outcome as the JSON contract shows it."""
        return {
            "run": self.run,
            "plan": self.plan.as_dict(),
            "databases": [outcome.as_dict() for outcome in self.databases],
            "roles_created": self.roles_created,
            "warnings": self.warnings,
        }


def preview(plan: Planned) -> RestoreAnswer:
    """A plan that nobody has run, as the JSON contract shows it: shaped like an outcome."""
    return {"run": None, "plan": plan.as_dict(), "databases": [], "roles_created": [], "warnings": []}
