# SPDX-License-Identifier: GPL-3.0-or-later
"""One problem, and what is reported about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from scalr_backup.core import remedies
from scalr_backup.core.answers import FindingAnswer, Severity
from scalr_backup.core.config import Config
from scalr_backup.core.records.failures import FailureRecord
from scalr_backup.core.without_role import words_here

FAILURE: Literal["failure"] = "failure"
WARNING: Literal["warning"] = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: of what kind, since when, and the one command to run next.

    *topic* says what it is about: a finding whose code changes while its topic stays has become another one, and is not
    over. A command that begins with ``docker`` is for the host, one that begins with ``ansible-playbook`` for the
    controller. *last_good* is when the last good snapshot of the database was made.

    *cause* and *reason* are the code and the sentence of the failure behind it, where there is one; *remedy* is what helps against
    failures of that code, and *help* is the page that says more. *about* names the containers of a finding that is about
    several: a further one is news.
    """

    code: str
    severity: Severity
    topic: str
    message: str
    command: str
    container: str = ""
    database: str = ""
    since: str | None = None
    last_good: str | None = None
    last_good_age_seconds: int | None = None
    cause: str = ""
    reason: str = ""
    about: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """What to do; empty when only the command is known."""
        return words_here()(remedies.cure(self.cause))

    def said(self, words: Callable[[str], str]) -> Finding:
        """The same in the words of another kind of installation."""
        return replace(self, message=words(self.message), command=words(self.command))

    @property
    def help(self) -> str:
        """The address of what says more."""
        return remedies.page(self.cause, self.code)

    @property
    def key(self) -> str:
        """What it is about, whatever is said of it."""
        return f"{self.topic}:{self.container}/{self.database}"

    def as_dict(self) -> FindingAnswer:
        """The finding as the JSON contract shows it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "topic": self.topic,
            "message": self.message,
            "command": self.command,
            "container": self.container,
            "database": self.database,
            "since": self.since,
            "last_good": self.last_good,
            "last_good_age_seconds": self.last_good_age_seconds,
            "cause": self.cause,
            "reason": self.reason,
            "about": list(self.about),
            "remedy": self.remedy,
            "help": self.help,
        }


class Cause(TypedDict):
    """The failure behind a finding, and the command that it asks for."""

    cause: str
    reason: str
    command: str


class LastGood(TypedDict):
    """When what a finding is about was last good."""

    last_good: str | None
    last_good_age_seconds: int | None


class Subject(LastGood):
    """The database that a finding is about."""

    container: str
    database: str


def playbook(name: str, config: Config, container: str = "") -> str:
    """The command that runs a playbook for this host, or for one container of it."""
    return f"ansible-playbook scalr.backup.{name} --limit {config.host}{f' -e db={container}' if container else ''}"


def verb(words: str) -> str:
    """The command that calls the agent on its host."""
    return f"docker exec scalr-backup scalr-backup {words}"


def caused(error: FailureRecord | None, otherwise: str, config: Config, container: str = "") -> Cause:
    """The failure behind a finding, and the command that its cause asks for; *otherwise* where it asks for none.

    What is known to fail again for the same reason is not suggested again.
    """
    cause = error["code"] if error else ""
    command = remedies.command(cause, config.host, container) or otherwise
    return {"cause": cause, "reason": error["message"] if error else "", "command": command}
