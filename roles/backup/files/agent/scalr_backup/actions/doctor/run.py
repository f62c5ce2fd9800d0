# SPDX-License-Identifier: GPL-3.0-or-later
"""All checks of an installation, and their summary."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

from scalr_backup import __version__
from scalr_backup.actions.doctor.bounded import CheckUp, Made, make, tally
from scalr_backup.actions.doctor.examined import FAILED, OK, WARNING
from scalr_backup.actions.doctor.looks import Looks, Sources
from scalr_backup.core.clock import utc_now
from scalr_backup.core.doctor_answers import DoctorAnswer
from scalr_backup.core.model import Failure
from scalr_backup.core.units import counted

# The code of an installation in which a check has failed.
CODE = "checks_failed"
# What stands in a command for a host whose name cannot be read.
_SOME_HOST = "HOST"
# Seconds that a check may take: one of files and of the kernel, one of the engine, one of a store, and one of all servers.
_NEAR, _ENGINE, _STORE, _SERVERS = 30.0, 60.0, 60.0, 120.0


@dataclass(frozen=True)
class Diagnosis:
    """What the checks came to."""

    host: str | None
    made: Made

    @property
    def failed(self) -> list[str]:
        """The checks that failed."""
        return tally(self.made.examined, FAILED)

    @property
    def warnings(self) -> list[str]:
        """The checks with a warning."""
        return tally(self.made.examined, WARNING)

    @property
    def verdict(self) -> Literal["ok", "warning", "failed"]:
        """The worst of all."""
        return FAILED if self.failed else WARNING if self.warnings else OK

    @property
    def summary(self) -> str:
        """All of them in a sentence."""
        who = self.host or "This host"
        if self.failed:
            beside = f"; {counted(len(self.warnings), 'warning')}" if self.warnings else ""
            return f"{who}: {counted(len(self.failed), 'check')} failed ({', '.join(self.failed)}){beside}."
        if self.warnings:
            return f"{who}: nothing failed; {counted(len(self.warnings), 'warning')} ({', '.join(self.warnings)})."
        return f"{who}: all {len(self.made.examined)} checks are good."

    @property
    def error(self) -> Failure | None:
        """What a script goes by."""
        return Failure(CODE, self.summary) if self.failed else None

    def as_dict(self) -> DoctorAnswer:
        """The diagnosis as the JSON contract shows it, the checks in the order in which they build on each other."""
        return {
            "host": self.host,
            "agent_version": __version__,
            "time": utc_now().isoformat(),
            "verdict": self.verdict,
            "summary": self.summary,
            "failed": len(self.failed),
            "warnings": len(self.warnings),
            "checks": [one.as_dict(name, self.made.seconds[name]) for name, one in self.made.examined.items()],
        }


def checks(looks: Looks) -> list[CheckUp]:
    """All of them, those that others build on first."""
    config = ("configuration",)
    return [
        CheckUp("configuration", looks.configuration, _NEAR),
        CheckUp("engine", looks.engine, _ENGINE),
        CheckUp("socket_proxy", looks.socket_proxy, _ENGINE, (*config, "engine")),
        CheckUp("containers", looks.containers, _ENGINE, (*config, "engine")),
        CheckUp("unmatched", looks.unmatched, _NEAR, ("containers",)),
        CheckUp("servers", looks.servers, _SERVERS, ("containers",)),
        CheckUp("repository", looks.repository, _STORE, config),
        CheckUp("locks", looks.locks, _STORE, ("repository",)),
        CheckUp("password", looks.password, _STORE, ("repository",)),
        CheckUp("copy", looks.copy, _STORE, config),
        CheckUp("place", looks.place, _NEAR, config),
        CheckUp("append_only", looks.deletion, _NEAR, config),
        CheckUp("clock", looks.clock, _NEAR, config),
        CheckUp("schedule", looks.schedule, _NEAR, config),
        CheckUp("backups", looks.backups, _NEAR, config),
        CheckUp("room", looks.room, _NEAR, config),
        CheckUp("memory", looks.memory, _NEAR),
        CheckUp("versions", looks.versions, _NEAR),
        CheckUp("notifications", looks.notifications, _NEAR, config),
    ]


def examine(sources: Sources, cancelled: threading.Event) -> Diagnosis:
    """Make all checks. Raises InterruptedRunError when told to stop."""
    looks = Looks(sources)
    made = make(checks(looks), lambda: looks.host or _SOME_HOST, cancelled)
    made.examined = {name: one.said(sources.words) for name, one in made.examined.items()}
    return Diagnosis(looks.host, made)
