# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that stay as they were looked at while a query of them is planned in another session.

Who owns a table may give it an index or statistics at any moment, and whose schema it is may rename that: see ``foreign_code.py``.
SHARE UPDATE EXCLUSIVE keeps out the former, as well as VACUUM, and SHARE on ``pg_namespace`` the latter; neither keeps anybody
from reading or writing rows, and both are held for no longer than it takes to make a plan. A standby has no such locks.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scalr_backup.core.spoken import FLAGS
from scalr_backup.tools.postgres.session import SqlSession

_SAID_BY = "psql"
# An autovacuum gives way after deadlock_timeout, a second by default. Nobody reads or writes behind us, but who makes a schema,
# or the first temporary table of a session, would.
_TABLE_WAIT_SECONDS, _NAMES_WAIT_SECONDS = 10, 0.5
# A plan takes a few milliseconds. One that takes longer than this is waited for by its rows.
_PLAN_SECONDS, _BETWEEN_LOOKS_SECONDS = 5.0, 0.02
# Where that is not to be had at all: as the SQL condition of a session.
NONE_IS_PINNED = "(pg_is_in_recovery() OR NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))"

# What fails ends the transaction, and not the session: then the look that comes last says nothing. A name is taken from the oid
# by each statement, so that whatever is locked is looked at; and by what there is at the moment, whatever a database sets.
_PIN = f"""
\\set ON_ERROR_STOP off
BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL lock_timeout = {_TABLE_WAIT_SECONDS * 1000};
SELECT format('LOCK TABLE ONLY %I.%I IN SHARE UPDATE EXCLUSIVE MODE', n.nspname, c.relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = {{oid}} AND c.relkind = 'r' \\gexec
SET LOCAL lock_timeout = {round(_NAMES_WAIT_SECONDS * 1000)};
LOCK TABLE pg_catalog.pg_namespace IN SHARE MODE;
"""
_PINNED = """
SELECT to_jsonb(EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation = {oid}
                        AND mode = 'ShareUpdateExclusiveLock' AND granted));
"""
_LET_GO = "ROLLBACK;\n\\set ON_ERROR_STOP on"
_HAS_BEGUN = """
SELECT to_jsonb(EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid = {pid}
                        AND classid::bigint = {high} AND objid::bigint = {low}));
"""


class Begun:
    """A mark in a query that shows when its plan is made: the first step of it takes a lock that nobody else knows of."""

    def __init__(self) -> None:
        self._key = secrets.randbits(62)

    @property
    def clause(self) -> str:
        """What is said at the end of the query; it leaves out no row, whether the lock is taken or not."""
        return f"OFFSET CASE WHEN pg_catalog.pg_try_advisory_xact_lock_shared({self._key}) THEN 0 ELSE 0 END"

    def seen_by(self, pid: int) -> str:
        """Whether the session of that process has come so far."""
        return _HAS_BEGUN.format(pid=pid, high=self._key >> 32, low=self._key & 0xFFFFFFFF)


class Pins:
    """Pins tables, one at a time, in a session of its own."""

    def __init__(self, session: SqlSession, seconds: Callable[[], float] = time.monotonic) -> None:
        self._session = session
        self._seconds = seconds
        self._held = False

    @contextmanager
    def pinned(self, oid: int, look: str) -> Iterator[list[object]]:
        """What *look*, a query, returns while the table is pinned, up to ``let_go_once`` or the end; nothing where it cannot be.

        Raises PostgresError, LateAnswerError or InvalidAnswerError; the session is over then.
        """
        self._held = True
        self._session.query(_PIN.format(oid=oid))
        is_pinned = FLAGS.of(self._session.query(_PINNED.format(oid=oid)), _SAID_BY) == [True]
        try:
            yield self._session.query(look) if is_pinned else []
        finally:
            self._let_go()

    def let_go_once(self, begun: Begun, pid: int) -> None:
        """Let the table go as soon as the query of that process has its plan; where that cannot be seen, it is held on to."""
        until = self._seconds() + _PLAN_SECONDS
        while self._seconds() < until:
            if FLAGS.one(self._session.query(begun.seen_by(pid)), _SAID_BY):
                return self._let_go()
            time.sleep(_BETWEEN_LOOKS_SECONDS)
        return None

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            self._session.query(_LET_GO)
