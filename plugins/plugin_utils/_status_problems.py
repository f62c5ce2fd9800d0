# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What is wrong in a fleet, and what to run next; one cause on many hosts is one card."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._legible import number

_PLAYBOOKS = "scalr.backup."


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, and the next command to run.

    *cause* and *reason* are the code and the sentence of the failure behind it, where there is one; *remedy* says what to do
    about a failure of that code, and *help* is the address of the page that says more.
    """

    severity: str
    host: str
    subject: str
    message: str
    since: str | None = None
    last_good_age_seconds: float | None = None
    command: str | None = None
    code: str = ""
    cause: str | None = None
    reason: str | None = None
    remedy: str | None = None
    help: str | None = None

    @property
    def kind(self) -> tuple[str, str, str]:
        """What problems with the same cause have in common, without names and ages."""
        text = self.reason or _without_age(self.message)
        for name in sorted({self.host, *self.subject.split("/"), self.subject}, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "\0", text)
        return self.severity, self.code, text


@dataclass(frozen=True)
class Card:
    """Problems with the same cause, in the order in which they were found."""

    problems: tuple[Problem, ...]

    @property
    def first(self) -> Problem:
        """The problem that represents all."""
        return self.problems[0]

    @property
    def hosts(self) -> list[str]:
        """The hosts that have it, each once."""
        return list(dict.fromkeys(problem.host for problem in self.problems))

    @property
    def subjects(self) -> list[str]:
        """What has it, each with its host."""
        return [
            problem.subject if problem.subject == problem.host else f"{problem.subject} on {problem.host}"
            for problem in self.problems
        ]

    @property
    def since(self) -> str | None:
        """When the oldest of them started."""
        return min((problem.since for problem in self.problems if problem.since), default=None)

    @property
    def oldest_good_seconds(self) -> float | None:
        """How old the oldest of the last good backups is."""
        ages = (problem.last_good_age_seconds for problem in self.problems)
        return max((age for age in ages if age is not None), default=None)

    @property
    def commands(self) -> list[str]:
        """What to run next: one playbook for all hosts if possible, otherwise a command for each."""
        return together([problem.command for problem in self.problems if problem.command])


def cards(problems: Iterable[Problem]) -> list[Card]:
    """Put problems of one cause together, failures first, else in the order in which they came."""
    ordered = sorted(problems, key=lambda problem: problem.severity != "failure")
    found: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in ordered:
        found.setdefault(problem.kind, []).append(problem)
    return [Card(tuple(several)) for several in found.values()]


def together(commands: Sequence[str]) -> list[str]:
    """Make one command of calls of the same playbook on several hosts, and leave all other commands as they are.

    Where the calls differ in more than their hosts, such as in the database, that is left out: the playbook then means all.
    """
    merged: dict[str, list[list[str]]] = {}
    others: list[str] = []
    for command in dict.fromkeys(commands):
        words = _words(command)
        if words[0] == "ansible-playbook" and "--limit" in words[2:-1] and words[1].startswith(_PLAYBOOKS):
            merged.setdefault(words[1], []).append(words)
        else:
            others.append(command)
    return [_for_all(calls) for calls in merged.values()] + others


def _for_all(calls: Sequence[list[str]]) -> str:
    if len(calls) == 1:
        return shlex.join(calls[0])
    hosts, rests = [], []
    for words in calls:
        at = words.index("--limit")
        hosts.append(words[at + 1])
        rests.append(words[2:at] + words[at + 2 :])
    same = rests[0] if all(rest == rests[0] for rest in rests) else []
    return shlex.join(["ansible-playbook", calls[0][1], "--limit", ",".join(dict.fromkeys(hosts)), *same])


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command) or [command]
    except ValueError:
        return [command]


def _without_age(message: str) -> str:
    """A sentence without the numbers that differ from host to host though the cause is one."""
    return re.sub(r"\d+", "#", message)


def silence(host: str, outcome: str, summary: str) -> Problem:
    """The problem of a host that did not answer."""
    if outcome == "not reached":
        message = "The host was not reached, so nothing is known about its databases."
        command = f"ansible {shlex.quote(host)} -m ansible.builtin.ping"
        return Problem("failure", host, host, message, command=command, code="not_reached")
    command = f"ansible-playbook scalr.backup.site --limit {shlex.quote(host)}"
    return Problem("failure", host, host, summary, command=command, code="no_answer")


def problems_of(host: str, status: Mapping[str, Any]) -> tuple[Problem, ...]:
    """What an agent finds wrong; earlier versions report sentences only."""
    findings = status.get("findings")
    if findings is None:
        return tuple(Problem("failure", host, host, sentence) for sentence in status.get("problems") or [])
    return tuple(_problem(host, finding) for finding in findings)


def _problem(host: str, finding: Mapping[str, Any]) -> Problem:
    return Problem(
        severity=finding["severity"],
        host=host,
        subject="/".join(finding[part] for part in ("container", "database") if finding.get(part)) or host,
        message=finding["message"],
        since=finding.get("since"),
        last_good_age_seconds=number(finding, "last_good_age_seconds"),
        command=finding.get("command"),
        code=finding.get("code") or "",
        cause=finding.get("cause") or None,
        reason=finding.get("reason") or None,
        remedy=finding.get("remedy") or None,
        help=finding.get("help") or None,
    )
