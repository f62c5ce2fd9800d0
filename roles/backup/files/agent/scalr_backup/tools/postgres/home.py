# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a run stands in a cluster: in a database that is there, and that nobody is about to rename or drop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from scalr_backup.core.errors import InvalidAnswerError, PostgresError
from scalr_backup.core.model import Credentials
from scalr_backup.core.sql import quote_literal

# Not template1 where there is another: CREATE DATABASE copies it and fails while anyone is connected to it.
_USUAL = ("postgres", "template1")


def places(credentials: Credentials, busy: Collection[str] = ()) -> list[str]:
    """The databases to try, in this order: the one that is told, the usual ones, and the one of the container's variables."""
    names = dict.fromkeys((credentials.home, *_USUAL, credentials.database))
    return [name for name in names if name and name not in busy]


def find_home(names: Sequence[str], ask: Callable[[str, str], list[Any]]) -> str:
    """The first of these databases, or one of the others where that cannot be stood in; *ask* puts a query to one.

    Raises PostgresError with what keeps the run out of the first one where that is there and open.
    """
    first, *others = names
    try:
        ask(first, "SELECT to_jsonb(true);")
    except InvalidAnswerError:
        raise
    except PostgresError:
        # psql has no code for why it was not let in. Whoever is let in elsewhere can ask whether there is such a database;
        # who is not either, fails for another reason, which the first try has told.
        for other in others:
            try:
                is_open = ask(other, _IS_OPEN.format(name=quote_literal(first))) == [True]
            except PostgresError:
                continue
            if is_open:
                raise
            return other
        raise
    return first


# One that an interrupted DROP DATABASE has left behind (-2) lets nobody in.
_IS_OPEN = "SELECT to_jsonb(datallowconn AND datconnlimit <> -2) FROM pg_database WHERE datname = {name};"
