# SPDX-License-Identifier: GPL-3.0-or-later
"""The request for a pass, and its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from scalr_backup.actions import missing
from scalr_backup.actions.health.findings import notes_on
from scalr_backup.actions.repository.copy import Copied
from scalr_backup.core.errors import ExitCode, UsageError
from scalr_backup.core.model import AGENT_TAG, NIGHTLY, PINNED_TAG, REASONS, DatabaseBackup, Failure, Volume, dump_path
from scalr_backup.core.records.passes import MatchesRecord, PassRecord, RetentionRecord, UnmatchedRecord


@dataclass
class PassResult:
    """The outcome of a pass, as the JSON contract shows it."""

    run: str
    reason: str
    host: str
    started: datetime
    finished: datetime
    databases: list[DatabaseBackup] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    retention: RetentionRecord = field(default_factory=lambda: RetentionRecord(ok=True, removed=[], error=None))
    manifest_snapshot_id: str | None = None
    error: Failure | None = None
    copy: Copied | None = None
    # What a pass over all containers has not found as it was: databases that are gone, containers that do not run and in which
    # state those are, and the copies that restores have kept.
    matches: MatchesRecord | None = None
    # PostgreSQL containers that nothing backs up.
    unmatched: list[UnmatchedRecord] = field(default_factory=list)
    # Why the roles of a cluster were not saved; None of one whose roles were.
    roles: dict[str, Failure | None] = field(default_factory=dict)
    # How much room each cluster has; None of one that does not tell.
    volumes: dict[str, Volume | None] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many databases were not backed up."""
        return sum(not outcome.ok for outcome in self.databases)

    @property
    def roles_failed(self) -> list[Failure]:
        """Why roles were not saved, for each container whose were not."""
        return [failure for failure in self.roles.values() if failure]

    def paths(self, *, good: bool) -> set[str]:
        """The paths of the dumps that retention may judge after this pass, or of those that it must not.

        A dump whose container's roles were not saved is good in itself. But the ones before it keep the last manifest that
        has these roles.
        """
        return {
            dump_path(one.container, one.database)
            for one in self.databases
            if good == (one.ok and not self.roles.get(one.container))
        }

    @property
    def exit_code(self) -> ExitCode:
        """3 when databases failed, none could be saved, or roles were not, 1 when only what surrounds them did, else 0."""
        if self.failed or self.roles_failed or (self.error and self.error.code == missing.NOTHING_SAVED):
            return ExitCode.SOME_DATABASES_FAILED
        copy_failed = self.copy is not None and not self.copy.ok
        return ExitCode.FAILED if self.error or not self.retention["ok"] or copy_failed else ExitCode.GOOD

    @property
    def failure(self) -> Failure | None:
        """The one sentence for a pass that was not all good."""
        if failed := [outcome for outcome in self.databases if not outcome.ok]:
            return _databases_failed(failed, len(self.databases))
        if self.roles_failed:
            return self.roles_failed[0]
        if self.error:
            return self.error
        if error := self.retention["error"]:
            return Failure("retention", f"Retention failed: {error['message']}")
        if self.copy is not None and self.copy.error:
            message = f"The copy to {self.copy.repository} failed: {self.copy.error.message}"
            return Failure(self.copy.error.code, message)
        return None

    def as_dict(self) -> PassRecord:
        """The outcome as the JSON contract shows it."""
        return {
            "run": self.run,
            "reason": self.reason,
            "host": self.host,
            "started": self.started.isoformat(),
            "finished": self.finished.isoformat(),
            "duration_seconds": round((self.finished - self.started).total_seconds(), 1),
            "databases": [outcome.as_dict() for outcome in self.databases],
            "failed": self.failed,
            "warnings": self.warnings,
            "retention": self.retention,
            "manifest_snapshot_id": self.manifest_snapshot_id,
            "error": self.error.record if self.error else None,
            "copy": self.copy.as_dict() if self.copy else None,
            "matches": self.matches,
            "roles": {container: failure.record if failure else None for container, failure in self.roles.items()},
            "unmatched": self.unmatched,
            "notes": notes_on(self.unmatched),
            "volumes": {container: volume.record if volume else None for container, volume in self.volumes.items()},
        }


@dataclass(frozen=True)
class PassPlan:
    """What a pass would do: the containers and databases that it would dump, and what would fail before that."""

    databases: list[tuple[str, str]]
    failed: list[DatabaseBackup]
    error: Failure | None

    @property
    def failure(self) -> Failure | None:
        """The one sentence for a pass that would not be all good."""
        return _databases_failed(self.failed, len(self.failed) + len(self.databases)) if self.failed else self.error


@dataclass(frozen=True)
class PassRequest:
    """What a pass is asked to do; *patterns* are globs over container names, none means all."""

    patterns: tuple[str, ...] = ()
    reason: str = NIGHTLY
    tags: tuple[str, ...] = ()
    wait_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise UsageError(f"The reason {self.reason!r} is not one of {', '.join(REASONS)}.")
        for tag in self.tags:
            if not tag or "," in tag or tag in REASONS or tag.startswith(("run=", AGENT_TAG)) or tag != tag.strip():
                raise UsageError(
                    f"{tag!r} is not a valid tag: no comma, no space around it, none of {', '.join(REASONS)}, no "
                    f"run=…, no agent=… ({PINNED_TAG} keeps a snapshot for ever)."
                )


def _databases_failed(failed: Sequence[DatabaseBackup], total: int) -> Failure:
    first = failed[0].error
    how_many = f"{len(failed)} of {total} databases were not backed up"
    return Failure("databases_failed", f"{how_many}; first: {first.message if first else 'unknown'}")
