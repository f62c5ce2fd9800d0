# SPDX-License-Identifier: GPL-3.0-or-later
"""The request for a drill, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from scalr_backup.actions.restore import selection
from scalr_backup.core.answers import DrillAnswer, DrilledAnswer
from scalr_backup.core.errors import ExitCode
from scalr_backup.core.model import Failure
from scalr_backup.core.records.failures import ObjectRecord

AMCHECK_PASSED, AMCHECK_FAILED, AMCHECK_MISSING = "passed", "failed", "not in the image"


@dataclass(frozen=True)
class DrillRequest:
    """What to drill; *patterns* are globs over container names, none means all that have snapshots of the host."""

    patterns: tuple[str, ...] = ()
    database: str | None = None
    snapshot: str = selection.LATEST
    from_host: str | None = None
    image: str | None = None


@dataclass
class DatabaseDrill:
    """The outcome for one database; seconds. *tables* and *rows* are those that were compared with the manifest.

    One that was not *tried* says nothing about the backup; *error* is what stood in the way. *own_image* tells whether it was
    restored into the image that the source ran.
    """

    container: str
    database: str
    snapshot_id: str
    snapshot_time: datetime
    ok: bool = False
    tried: bool = True
    image: str | None = None
    tables: int | None = None
    rows: int | None = None
    recovery_seconds: float | None = None
    amcheck: str | None = None
    assertions: dict[str, int] = field(default_factory=lambda: {"passed": 0, "failed": 0})
    error: Failure | None = None
    own_image: bool = True
    # What could not be made as it was saved.
    objects: list[ObjectRecord] = field(default_factory=list)

    def as_dict(self) -> DrilledAnswer:
        """The outcome as the JSON contract shows it."""
        return {
            "container": self.container,
            "database": self.database,
            "snapshot_id": self.snapshot_id,
            "snapshot_time": self.snapshot_time.isoformat(),
            "ok": self.ok,
            "tried": self.tried,
            "image": self.image,
            "tables": self.tables,
            "rows": self.rows,
            "recovery_seconds": self.recovery_seconds,
            "amcheck": self.amcheck,
            "assertions": self.assertions,
            "error": self.error.record if self.error else None,
            "own_image": self.own_image,
            "objects": self.objects,
        }


@dataclass
class DrillResult:
    """The outcome of a drill; *error* is why it did not come to its end."""

    run: str
    host: str
    started: datetime
    finished: datetime
    databases: list[DatabaseDrill] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: Failure | None = None
    # Why containers that were asked for by name have nothing to drill.
    missing: list[Failure] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many databases were tried and did not pass."""
        return sum(outcome.tried and not outcome.ok for outcome in self.databases)

    @property
    def not_tried(self) -> int:
        """How many databases could not be tried."""
        return sum(not outcome.tried for outcome in self.databases)

    @property
    def exit_code(self) -> ExitCode:
        """1 when the drill did not come to its end, 3 when databases failed, 2 when some could not be tried, else 0."""
        if self.error:
            return ExitCode.FAILED
        if self.failed:
            return ExitCode.SOME_DATABASES_FAILED
        return ExitCode.USAGE if self.not_tried or self.missing else ExitCode.GOOD

    @property
    def failure(self) -> Failure | None:
        """The one sentence for a drill that was not all good."""
        if self.error:
            return self.error
        failed = [(one, one.error) for one in self.databases if one.error and one.tried]
        not_tried = [(one, one.error) for one in self.databases if one.error and not one.tried]
        if failed:
            first, error = failed[0]
            how_many = f"{len(failed)} of {len(self.databases)} databases failed their drill"
            return Failure(
                "databases_failed", f"{how_many}; first: {first.container}/{first.database}: {error.message}"
            )
        if not_tried:
            first, error = not_tried[0]
            which = f"{len(not_tried)} of {len(self.databases)} databases could not be drilled"
            of_it = f"{which}, which says nothing about their backups"
            return Failure(error.code, f"{of_it}; first: {first.container}/{first.database}: {error.message}")
        return self.missing[0] if self.missing else None

    def as_dict(self) -> DrillAnswer:
        """The outcome as the JSON contract shows it."""
        return {
            "run": self.run,
            "host": self.host,
            "started": self.started.isoformat(),
            "finished": self.finished.isoformat(),
            "duration_seconds": round((self.finished - self.started).total_seconds(), 1),
            "failed": self.failed,
            "not_tried": self.not_tried,
            "warnings": self.warnings,
            "databases": [outcome.as_dict() for outcome in self.databases],
        }
