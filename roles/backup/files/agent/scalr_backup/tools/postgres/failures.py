# SPDX-License-Identifier: GPL-3.0-or-later
"""What psql tells of an error, where it is told to be verbose."""

from __future__ import annotations

import re

from scalr_backup.core.endings import MOST_WORDS, last_words
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


def explain_failure(stderr: str) -> tuple[str | None, str]:
    """The SQLSTATE of the first error that psql tells of, verbose as it is here, and its errors in the server's words."""
    errors = list(_ERROR.finditer(stderr))
    if not errors:
        return None, last_words(stderr)
    words = " ".join(f"{one['severity']}{one['message']}" for one in errors[:3])
    return errors[0]["sqlstate"], printable(words[:MOST_WORDS])
