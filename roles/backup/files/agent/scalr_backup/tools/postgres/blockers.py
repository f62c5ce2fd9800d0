# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the lock that a session of ours waits for: PostgreSQL's answer, as a sentence, told while the wait goes on.

The answer names the holder and what is locked, and never a query's text, which may hold secrets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scalr_backup.core.spoken import Count, Shape, Text
from scalr_backup.core.sql import quote_literal

# Seconds of silence after which somebody is asked for, and then between one time and the next.
_FIRST_LOOK, _SECOND_LOOK, _FURTHER_LOOKS = 5.0, 60.0, 300.0
# So many of those who are in the way are named.
_MOST_NAMED = 3

# Who is in the way of the sessions of one name, and who is in those sessions' way in turn. A transaction that is prepared
# has no process: it shows as 0. 1262 is pg_database's own number, under which a lock on a database stands.
_BLOCKERS = """
WITH RECURSIVE waiting AS (
  SELECT a.pid, l.locktype, l.relation, l.classid, l.objid,
         CASE WHEN l.relation IS NOT NULL THEN 'the table ' || l.relation::regclass::text
              WHEN l.classid = 1262
              THEN 'the database ' || COALESCE((SELECT datname FROM pg_database AS d WHERE d.oid = l.objid), l.objid::text)
              ELSE 'a lock (' || l.locktype || ')' END AS locked
  FROM pg_stat_activity AS a JOIN pg_locks AS l ON l.pid = a.pid AND NOT l.granted
  WHERE a.application_name = {application}
), chain (pid, depth, locked) AS (
  SELECT DISTINCT blocking.pid, 1, waiting.locked
  FROM waiting CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
  UNION
  SELECT blocking.pid, chain.depth + 1, chain.locked
  FROM chain CROSS JOIN LATERAL unnest(pg_blocking_pids(chain.pid)) AS blocking (pid)
  WHERE chain.depth < 4
)
SELECT DISTINCT ON (chain.depth, chain.pid) jsonb_build_object(
  'locked', chain.locked, 'depth', chain.depth, 'pid', chain.pid,
  'user', a.usename, 'application', a.application_name, 'state', COALESCE(a.state, a.backend_type),
  'since', to_char(COALESCE(a.xact_start, a.backend_start) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
  'prepared', CASE WHEN chain.pid = 0 THEN (
    SELECT string_agg(DISTINCT p.gid, ', ') FROM pg_prepared_xacts AS p
    JOIN pg_locks AS x ON x.transactionid = p.transaction AND x.pid IS NULL
    JOIN pg_locks AS h ON h.virtualtransaction = x.virtualtransaction AND h.pid IS NULL
    JOIN waiting AS w ON h.relation = w.relation OR (h.classid = w.classid AND h.objid = w.objid)) END)
FROM chain LEFT JOIN pg_stat_activity AS a ON a.pid = chain.pid
WHERE a.application_name IS DISTINCT FROM {application}
ORDER BY chain.depth, chain.pid;
"""


@dataclass(frozen=True)
class Blocker:
    """A session in the way; at *depth* 1 in ours, beyond that in another blocker's."""

    locked: Text
    depth: Count
    pid: Count
    user: Text | None = None
    application: Text | None = None
    state: Text | None = None
    since: Text | None = None
    prepared: Text | None = None

    @property
    def name(self) -> str:
        """Who it is, as an operator finds it in pg_stat_activity or in pg_prepared_xacts."""
        if not self.pid:
            return f"a prepared transaction{f' ({self.prepared})' if self.prepared else ''}"
        facts = [
            f"user {self.user}" if self.user else "",
            f"application {self.application}" if self.application else "",
            self.state or "",
            f"since {self.since} UTC" if self.since else "",
        ]
        return f"process {self.pid} ({', '.join(fact for fact in facts if fact)})"


BLOCKERS = Shape[Blocker](Blocker)


def blockers_sql(application: str) -> str:
    """The query for those who are in the way of the sessions of that name, a JSON document each."""
    return _BLOCKERS.format(application=quote_literal(application))


def in_the_way(blockers: Sequence[Blocker]) -> str | None:
    """What is locked and by whom, in words; None when nothing is in the way."""
    first = [one for one in blockers if one.depth == 1]
    if not first:
        return None
    words = f"{first[0].locked}, locked by {_names(first)}"
    if behind := [one for one in blockers if one.depth > 1 and one.pid not in {other.pid for other in first}]:
        words += f", which waits for {_names(behind)}"
    return words


def _names(blockers: Sequence[Blocker]) -> str:
    names = list(dict.fromkeys(one.name for one in blockers))
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return " and ".join(names[:_MOST_NAMED]) + more


class LockWatch:
    """Follows a wait: blockers are looked up after some seconds of silence, then rarely, and reported each time."""

    def __init__(
        self,
        look: Callable[[], str | None],
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*look* finds out who is in the way, in words."""
        self._look = look
        self._tell = tell
        self._clock = clock
        self._due = clock() + _FIRST_LOOK
        self._looks = 0
        self.last: str | None = None

    def moved(self) -> None:
        """It goes on: the next silence is another one."""
        self._due, self._looks, self.last = self._clock() + _FIRST_LOOK, 0, None

    def wait(self) -> None:
        """Call this now and then while nothing comes."""
        if self._clock() < self._due:
            return
        self._looks += 1
        self.last = self._look()
        if self.last is not None:
            self._tell(self.last)
        self._due = self._clock() + (_SECOND_LOOK if self._looks == 1 else _FURTHER_LOOKS)
