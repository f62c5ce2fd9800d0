# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of time that a cluster, a database or a role sets for its apps, and that must not end a backup or a restore.

How long our sessions may take is bounded by this program, which knows what they do: see ``silence_seconds``.
"""

from __future__ import annotations

from collections.abc import Iterable

from scalr_backup.core.sql import quote_literal

# Which of them there are differs between versions, and naming one that a server does not know is an error: so the server
# is asked. How long a session waits for a lock it says itself.
_LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout")
_KNOWN = f"FROM pg_catalog.pg_settings WHERE name IN ({', '.join(map(quote_literal, _LIMITS))})"

# For a psql that is open already; prints nothing.
LIFT_LIMITS = f"SELECT pg_catalog.count(pg_catalog.set_config(name, '0', false)) AS lifted {_KNOWN} \\gset\n"
KNOWN_LIMITS = f"SELECT to_jsonb(name) {_KNOWN} ORDER BY name;"

# An index that lacks entries hides rows: what is counted is read from the tables themselves, whatever else is set.
BY_SEQUENTIAL_SCAN = (
    "SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;"
)


def without_limits(known: Iterable[str]) -> str:
    """The options of a session that waits as long as it takes, on a server that knows these limits."""
    return " ".join(f"-c {name}=0" for name in known)
