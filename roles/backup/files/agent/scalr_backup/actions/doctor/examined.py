# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from scalr_backup.core import remedies
from scalr_backup.core.address import redact
from scalr_backup.core.doctor_answers import CheckVerdict, ExaminedAnswer
from scalr_backup.core.model import Failure
from scalr_backup.core.units import printable

OK: Final = "ok"
WARNING: Final = "warning"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"


@dataclass(frozen=True)
class Examined:
    """What was seen, what is to be thought of it, and what to do; empty where there is nothing to do.

    A command that begins with ``docker`` is for the host, one that begins with ``ansible-playbook`` for the controller.
    """

    verdict: CheckVerdict
    seen: str
    details: tuple[str, ...] = ()
    cure: str = ""
    command: str = ""
    code: str = ""

    def harmless(self) -> Examined:
        """The same, each sentence in one line, without what would steer a terminal, and without a password."""
        return self.said(lambda text: printable(redact(text)))

    def said(self, words: Callable[[str], str]) -> Examined:
        """The same in the words of another kind of installation."""
        return replace(
            self,
            seen=words(self.seen),
            details=tuple(words(one) for one in self.details),
            cure=words(self.cure),
            command=words(self.command),
        )

    def as_dict(self, check: str, seconds: float) -> ExaminedAnswer:
        """The check as the JSON contract shows it."""
        has_page = bool(remedies.cure(self.code))
        return {
            "check": check,
            "verdict": self.verdict,
            "seen": self.seen,
            "details": list(self.details),
            "cure": self.cure,
            "command": self.command,
            "code": self.code,
            "help": remedies.page(self.code, "") if has_page else "",
            "seconds": round(seconds, 1),
        }


def of_error(error: Exception, host: str) -> Examined:
    """What to think of a look that failed."""
    failure = Failure.of(error)
    return Examined(
        FAILED,
        failure.message,
        cure=remedies.cure(failure.code),
        command=remedies.command(failure.code, host) or "",
        code=failure.code,
    )


def listed(names: tuple[str, ...] | list[str], most: int = 10) -> str:
    """Names for a sentence; of very many the first ones."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
