# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits that a cluster, a database or a role sets for its apps, and that must not end a backup or a restore.

How long our sessions may take is bounded by this program, which knows what they do: see ``silence_seconds``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from scalr_backup.core.spoken import Checked, Shape
from scalr_backup.core.sql import quote_literal

# Which of them there are differs between versions, and naming one that a server does not know is an error: so the server
# is asked. How long a session waits for a lock it says itself.
_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout")
_KNOWN = f"FROM pg_catalog.pg_settings WHERE name IN ({', '.join(map(quote_literal, _LIMITS))})"

# For a psql that is open already; prints nothing.
LIFT_LIMITS = f"SELECT pg_catalog.count(pg_catalog.set_config(name, '0', false)) AS lifted {_KNOWN} \\gset\n"
# As assignments. How much an index build may sort on disk only a superuser may say.
KNOWN_LIMITS = (
    f"(SELECT to_jsonb(name || '=0') {_KNOWN} ORDER BY name) UNION ALL "
    "SELECT to_jsonb('temp_file_limit=-1'::text) FROM pg_catalog.pg_roles WHERE rolname = current_user AND rolsuper;"
)


def _assignment(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"temp_file_limit=-1|[a-z_]+=0", value):
        raise ValueError("an assignment of a limit was expected")
    return value


# They become options of a command.
LIMITS = Shape[str](Annotated[str, Checked(_assignment)])
# A role or a cluster that is read-only unless told otherwise keeps an app from writing, and not a restore.
WRITABLE = "-c default_transaction_read_only=off"

# Whoever owns a table may put a view in its place between one statement of ours and the next, and the view's functions would
# run with our rights: where a server knows how to (since August 2024, CVE-2024-7348), our looks read from no view and from no
# foreign table that users made. pg_dump does so by itself. Prints nothing.
TABLES_ONLY = (
    "SELECT pg_catalog.count(pg_catalog.set_config(name, 'view, foreign-table', false)) AS restricted "
    "FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind' \\gset\n"
    # Nor is a condition of a table computed to find out whether a query of it can have rows at all (plancat.c).
    "SET constraint_exclusion = off;\n"
)

# An index that lacks entries hides rows: what is counted is read from the tables themselves, whatever else is set.
BY_SEQUENTIAL_SCAN = (
    "SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;"
)


def without_limits(known: Iterable[str]) -> str:
    """The options of a session that takes what it takes, on a server that knows these limits and what lifts them."""
    return " ".join([WRITABLE, *(f"-c {assignment}" for assignment in known)])
