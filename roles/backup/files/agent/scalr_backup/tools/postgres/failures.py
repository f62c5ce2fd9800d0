# SPDX-License-Identifier: GPL-3.0-or-later
"""What psql reports about an error in verbose mode."""

from __future__ import annotations

import re
from collections.abc import Collection

from scalr_backup.core.discretion import without_values
from scalr_backup.core.endings import MOST_WORDS, last_words
from scalr_backup.core.sqlstate import may_quote_rows
from scalr_backup.core.units import printable

# An error with its SQLSTATE: the words before and after it are in the server's language. The classes 00 to 02 are no errors.
_ERROR = re.compile(r"^(?P<severity>.*?\S:  )(?P<sqlstate>(?!0[012])[0-9A-Z]{5}): (?P<message>.*)$", re.MULTILINE)
# Such as: LOCATION:  pgfdw_report_error, connection.c:796
_REPORTER = re.compile(r"^\S[^:\n]*:\s+(\w+), \S+:\d+$", re.MULTILINE)


def reporter_of(stderr: str) -> str | None:
    """The function that reported the first error; its place is the last that psql tells of an error, verbose as it is here."""
    errors = [one.start() for one in _ERROR.finditer(stderr)]
    places = _REPORTER.findall(stderr[errors[0] : errors[1] if len(errors) > 1 else None]) if errors else ()
    return places[-1] if places else None


def explain_failure(stderr: str, known: Collection[str] | None = ()) -> tuple[str | None, str]:
    """The SQLSTATE of the first error that psql tells of, verbose as it is here, and its errors in the server's words.

    Of an error that may quote rows, only PostgreSQL's words are kept, and those that are *known* to be none of a row's; all of
    them for None, where no rows were worked on.
    """
    errors = list(_ERROR.finditer(stderr))
    if not errors:
        return None, last_words(stderr)
    words = " ".join(_told(one, known) for one in errors[:3])
    return errors[0]["sqlstate"], printable(words[:MOST_WORDS])


def _told(error: re.Match[str], known: Collection[str] | None) -> str:
    severity, sqlstate, message = error["severity"], error["sqlstate"], error["message"]
    if known is None or not may_quote_rows(sqlstate):
        return f"{severity}{message}"
    return f"{severity}{sqlstate}: {without_values(message, known)}"
