# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of tables in the order of a key, read beside a pg_dump that leaves them out: from the same snapshot, and as it would.

What is to be read was chosen a moment ago, so each table is looked at once more when it is locked. A session has pg_dump's own
settings (``setup_connection`` in PostgreSQL's src/bin/pg_dump/pg_dump.c), whatever a cluster, a database or a role sets:
else a value may be written otherwise, or a view that somebody puts in a table's place may run code with our rights. What pg_dump
leaves as it is, such as TimeZone and bytea_output, is left here as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict

from scalr_backup.core.errors import PostgresError
from scalr_backup.core.row_order import SORT_MEMORY_BYTES, OrderedTable, Scan
from scalr_backup.core.spoken import COUNTS, FLAGS, MOST_OF_TABLES, TEXTS, Count, Flag, Name, Shape, Text, parse
from scalr_backup.core.sql import quote_literal
from scalr_backup.core.text import encoded
from scalr_backup.tools.postgres.copying import CopyingSession
from scalr_backup.tools.postgres.foreign_code import has_foreign_code, may_get_foreign_code
from scalr_backup.tools.postgres.limits import BY_SEQUENTIAL_SCAN, TABLES_ONLY
from scalr_backup.tools.postgres.pins import Begun, Pins
from scalr_backup.tools.postgres.queries import SomeTables, count_rows, enter_exported_snapshot, relation_of
from scalr_backup.tools.postgres.session import SqlSession

_SAID_BY = "psql"
_MOST_STEPS, _LONGEST_KIND = 8, 40
_OTHER_NAME = "it has another name now"
_CALLS_FOREIGN_CODE = "an index or statistics of it call a user-defined function"
_ENCODING = re.compile(r"[A-Za-z0-9_]+\Z")
# Quoting is asked of the server, which does it as pg_dump does; a setting that has it quote all is not for that.
_LIKE_PG_DUMP = f"""
SET search_path = ''; SET DateStyle = ISO; SET IntervalStyle = postgres; SET extra_float_digits = 3;
SET synchronize_seqscans = off; SET row_security = off; SET quote_all_identifiers = off;
{TABLES_ONLY}
SELECT count(set_config(name, 'off', false)) AS unwanted FROM pg_settings
WHERE name IN ('enable_incremental_sort', 'debug_parallel_query', 'force_parallel_mode') \\gset
SET constraint_exclusion = off; SET max_parallel_workers_per_gather = 0; SET jit = off; SET work_mem = '{SORT_MEMORY_BYTES // 1024}kB';
"""
_LIKE_PG_DUMP_QUOTED = "RESET quote_all_identifiers;"
# 16384 is FirstNormalObjectId (src/include/access/transam.h): what initdb makes lies below.
_LOCK = """
SELECT 'LOCK TABLE ' || string_agg(format('ONLY %I.%I', n.nspname, c.relname), ', ') || ' IN ACCESS SHARE MODE'
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid IN ({oids}) AND c.relkind = 'r' \\gexec
"""
# pg_relation_filenode() tells of the present, whatever a transaction sees.
_LOOK = f"""
SELECT jsonb_build_object(
  'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname,
  'columns', columns.names, 'quoted', quote_ident(n.nspname) || '.' || quote_ident(c.relname),
  'quoted_columns', columns.quoted, 'filenode', c.relfilenode::bigint,
  'filenode_now', COALESCE(pg_relation_filenode(c.oid)::bigint, 0),
  'plain', c.relkind = 'r' AND c.relpersistence <> 't' AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery()),
  'hidden', row_security_active(c.oid),
  'foreign_code', {has_foreign_code("c.oid")}, 'of_others', {may_get_foreign_code("c.oid")})
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT COALESCE(jsonb_object_agg(a.attname, quote_ident(a.attname)), '{{{{}}}}') AS quoted,
         COALESCE(jsonb_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attgenerated = ''), '[]') AS names
  FROM pg_attribute AS a
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns
WHERE c.oid IN ({{oids}});
"""
# The tables whose rows a pg_dump of the whole database saves: see left_out.py.
_DUMPED = """
SELECT COALESCE(jsonb_agg(c.oid::bigint), '[]')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e');
"""
# Whether the name of a table leads to it still: the first half tells of the snapshot, in which it was locked by that name.
_LEADS_THERE = """
SELECT to_jsonb(EXISTS (
  SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.oid = {oid} AND to_regclass(format('%I.%I', n.nspname, c.relname))::oid = c.oid));
"""
# What sequential scans have found in a table in the transaction that is under way, in which each is read once.
_SEEN = "SELECT to_jsonb(pg_stat_get_xact_tuples_returned({oid}));"
_SCANS = {
    Scan.SORT: "SET enable_seqscan = on; SET enable_sort = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; "
    "SET enable_bitmapscan = off; SET enable_tidscan = off;",
    Scan.INDEX: "SET enable_seqscan = off; SET enable_sort = off; SET enable_indexscan = on; SET enable_indexonlyscan = on; "
    "SET enable_bitmapscan = off; SET enable_tidscan = off;",
}
# Twice what a sort should take: statistics may be old, and a volume that is full would take the server with it. Only a
# superuser may say so, and only what is less than the cluster, the database or the role allows.
_LIMIT_SORT = """
SELECT count(set_config('temp_file_limit', CASE WHEN reset_val::bigint BETWEEN 0 AND {kilobytes} THEN reset_val
                                                ELSE '{kilobytes}' END || 'kB', false)) AS limited
FROM pg_settings, pg_roles WHERE name = 'temp_file_limit' AND rolname = current_user AND rolsuper \\gset
"""


class _TableLook(TypedDict):
    """What a table is, as a session sees it."""

    oid: Count
    schema: Name
    name: Name
    columns: list[Name]
    quoted: Text
    quoted_columns: dict[str, str]
    filenode: Count
    filenode_now: Count
    plain: Flag
    hidden: Flag
    foreign_code: Flag
    of_others: Flag


_LOOKS = Shape[_TableLook](_TableLook)
_OIDS = Shape[list[int]](list[Count])


@dataclass(frozen=True)
class ReadyTable:
    """A table that is locked and was looked at: how its rows are read, and what pg_dump says to load them.

    *seen_whole* is whether reading it reads the heap from its beginning to its end, whatever the index has, and the server
    counts the rows that it finds there. *in_heap* is the statement that reads it as it lies, without a plan. One *of_others* may
    get an index or statistics while it is read, with code that must not run.
    """

    table: OrderedTable
    select: str
    load: bytes
    seen_whole: bool
    in_heap: str = ""
    of_others: bool = False


@dataclass(frozen=True)
class NotReady:
    """A table that is left to pg_dump after all, and why."""

    table: OrderedTable
    why: str


class OrderedRows:
    """Reads tables in the order of their keys, in one session."""

    def __init__(
        self, session: CopyingSession, exported: str, open_aside: Callable[[], SqlSession] | None = None
    ) -> None:
        """*exported* is the snapshot of the pg_dump beside; *open_aside* opens a second session, for tables of others."""
        self._session = session
        self._exported = exported
        self._open_aside = open_aside
        self._pins: Pins | None = None
        self._looks: dict[int, _TableLook] = {}
        self._left_in_heap: dict[int, str] = {}
        session.query(_LIKE_PG_DUMP)
        self._is_counted = (
            TEXTS.one(session.query("SELECT to_jsonb(current_setting('track_counts'));"), _SAID_BY) == "on"
        )

    def prepare(self, tables: Sequence[OrderedTable]) -> tuple[list[ReadyTable], list[NotReady]]:
        """Lock the tables and look at them once more: those that can be read in order, and those that are left to pg_dump.

        From here on, the session sees the snapshot, in which a table is as it was chosen, whatever has become of it. So it looks
        before as well: what it finds is what the server will read and plan by. Whoever exported the snapshot has the tables
        locked, so that from then on nobody renames one or changes its columns; an index may still come.

        Raises PostgresError, LateAnswerError or InvalidAnswerError, the first where the snapshot is no more; the session is
        over then.
        """
        oids = _list(table.oid for table in tables)
        now = self._look(oids)
        enter_exported_snapshot(self._session, self._exported)
        # A lock is on what has a name now.
        self._session.query(_LOCK.format(oids=_list(one.oid for one in tables if _has_its_name(one, now.get(one.oid)))))
        then = self._look(oids)
        ready, not_ready = list[ReadyTable](), list[NotReady]()
        for table in tables:
            one = self._ready(table, then.get(table.oid), now.get(table.oid))
            (ready if isinstance(one, ReadyTable) else not_ready).append(one)  # type: ignore[arg-type]
        self._session.query(_LIKE_PG_DUMP_QUOTED)
        return ready, not_ready

    def _look(self, oids: str) -> dict[int, _TableLook]:
        return {look["oid"]: look for look in _LOOKS.of(self._session.query(_LOOK.format(oids=oids)), _SAID_BY)}

    def _ready(self, table: OrderedTable, look: _TableLook | None, now: _TableLook | None) -> ReadyTable | NotReady:
        if look is None or now is None:
            return NotReady(table, "it is gone")
        if why := _why_not(table, look, now):
            return NotReady(table, why)
        columns = ", ".join(look["quoted_columns"][name] for name in table.columns)
        direction = " DESC" if table.descending else ""
        key = ", ".join(look["quoted_columns"][name] + direction for name in table.key)
        one = ReadyTable(
            table,
            f"SELECT {columns} FROM ONLY {look['quoted']} ORDER BY {key}",
            encoded(f"COPY {look['quoted']} ({columns}) FROM stdin;\n"),
            seen_whole=table.scan is Scan.SORT and self._is_counted,
            in_heap=f"COPY {look['quoted']} ({columns}) TO STDOUT",
            of_others=look["of_others"] or now["of_others"],
        )
        self._looks[table.oid] = look
        self._session.query(_SCANS[table.scan])
        why = self._why_not_pinned() if one.of_others else self._why_not_so(one, one.select)
        return NotReady(table, why) if why else one

    def _why_not_so(self, one: ReadyTable, select: str) -> str | None:
        """Why the server would read a table otherwise than it should; planning that is up to the caller."""
        way = _steps(self._session.lines(f"EXPLAIN (FORMAT JSON, COSTS OFF) {select}"))
        if (way[1:] if one.of_others and way[:1] == ("Limit",) else way) in _WAYS[one.table.scan]:
            return None
        return f"the server would read it by {' over '.join(way) or 'no plan at all'}"

    def _why_not_pinned(self) -> str | None:
        """Why tables of others cannot be read in order; each is tried when its turn comes."""
        if self._pins is None:
            if self._open_aside is None:
                return "its owner may give it code that would run with the backup's privileges while it is read"
            try:
                self._pins = Pins(self._open_aside())
            except PostgresError as error:
                return f"no second session could be opened to lock it for a moment: {error.message}"
        return None

    def dumped_oids(self) -> frozenset[int]:
        """The tables whose rows a pg_dump of all the database saves, by their oids."""
        return frozenset(_OIDS.one(self._session.query(_DUMPED, MOST_OF_TABLES), _SAID_BY))

    def use_encoding(self, encoding: str) -> None:
        """Have values come in the encoding of the archive. Raises PostgresError where they cannot."""
        if not _ENCODING.match(encoding):
            raise PostgresError(f"the archive is in the encoding {encoding[:40]!r}, which no server knows")
        sql = f"SELECT to_jsonb(set_config('client_encoding', {quote_literal(encoding)}, false));"
        TEXTS.one(self._session.query(sql), _SAID_BY)
        is_so = TEXTS.one(self._session.query("SELECT to_jsonb(pg_client_encoding()::text);"), _SAID_BY)
        if is_so != encoding:
            raise PostgresError(f"the archive's values are in {encoding}, but the server sends them in {is_so}")

    def read(self, one: ReadyTable) -> Iterator[bytes]:
        """The rows of a table, in order, in pieces of any size.

        Raises PostgresError in the server's words, SilentCommandError and other ScalrBackupErrors; the session is over then.
        """
        self._session.query(_SCANS[one.table.scan])
        self._session.query(_LIMIT_SORT.format(kilobytes=2 * (one.table.sort_bytes + SORT_MEMORY_BYTES) // 1024))
        return self._read_pinned(one) if one.of_others else self._session.copy(f"COPY ({one.select}) TO STDOUT")

    def _read_pinned(self, one: ReadyTable) -> Iterator[bytes]:
        """The rows of a table that gets no index and no statistics while its query is planned; as they lie where it might.

        Raises PostgresError where its name does not lead to it any more.
        """
        assert self._pins is not None
        oid, begun = one.table.oid, Begun()
        select = f"{one.select} {begun.clause}"
        pid = COUNTS.one(self._session.query("SELECT to_jsonb(pg_backend_pid());"), _SAID_BY)
        with self._pins.pinned(oid, _LOOK.format(oids=oid)) as seen:
            why = self._why_not_planned(one, _LOOKS.of(seen, _SAID_BY)) or self._why_not_so(one, select)
            if why is None:
                rows = self._session.copy(f"COPY ({select}) TO STDOUT")
                self._pins.let_go_once(begun, pid)
                yield from rows
                return
        self._left_in_heap[oid] = why
        yield from self._session.copy(one.in_heap)

    def _why_not_planned(self, one: ReadyTable, looks: Sequence[_TableLook]) -> str | None:
        """Why no query of a table may be planned, by a look at it while it is pinned; none where it could not be."""
        for now in looks:
            if why := _why_not(one.table, self._looks[one.table.oid], {**now, "foreign_code": False}):
                raise PostgresError(why)
            return _CALLS_FOREIGN_CODE if now["foreign_code"] else None
        if not FLAGS.one(self._session.query(_LEADS_THERE.format(oid=one.table.oid)), _SAID_BY):
            raise PostgresError(_OTHER_NAME)
        return "it could not be locked while its query is planned"

    def why_in_heap(self, one: ReadyTable) -> str | None:
        """Why the rows of a table that was read came as they lie, after all; None where they came in order."""
        return self._left_in_heap.get(one.table.oid)

    def rows_seen(self, one: ReadyTable) -> int:
        """How many rows the server itself has found in the heap of a table that is seen whole, and was read once.

        It counts them where it reads them (pg_stat_xact_user_tables), so what is lost on their way here is missed.
        """
        return COUNTS.one(self._session.query(_SEEN.format(oid=one.table.oid)), _SAID_BY)

    def finish(self) -> None:
        """End the session well. Raises PostgresError or InvalidAnswerError where it does not end so."""
        self._session.finish()


def prepare_count(session: SqlSession, exported: str, oids: Iterable[int]) -> None:
    """Have all at hand that a count of tables in an exported snapshot takes: a connection, and their locks.

    Later, a count would stand behind whoever waits for the dump's own locks, and what fails then costs a dump that is complete.

    Raises PostgresError, LateAnswerError or InvalidAnswerError; the session is over then.
    """
    enter_exported_snapshot(session, exported)
    session.query(TABLES_ONLY + BY_SEQUENTIAL_SCAN)
    session.query(_LOCK.format(oids=_list(oids)))


def count_by_heap(session: SqlSession, tables: Sequence[OrderedTable]) -> dict[int, int]:
    """The exact rows of tables in a session that is prepared for it, by their oids, whatever their indexes have.

    Raises PostgresError, LateAnswerError or InvalidAnswerError; the session is over then.
    """
    counts = count_rows(session, which=SomeTables(frozenset(one.oid for one in tables), without=False))
    named = {one.oid: relation_of(one.namespace, one.name) for one in tables}
    return {oid: counts[relation] for oid, relation in named.items() if relation in counts}


# A sort reads the whole heap; an index gives what it has, and no more.
_WAYS: dict[Scan, frozenset[tuple[str, ...]]] = {
    Scan.SORT: frozenset({("Sort", "Seq Scan")}),
    Scan.INDEX: frozenset({("Index Scan",), ("Index Only Scan",)}),
}


def _why_not(table: OrderedTable, look: _TableLook, now: _TableLook) -> str | None:
    """What has changed since a table was chosen, or cannot be read as pg_dump would; None where nothing has.

    *look* is what it was in the snapshot, and *now* what it is.
    """
    filenodes = {one[which] for one in (look, now) for which in ("filenode", "filenode_now")}
    doubts = (
        (not _has_its_name(table, now), _OTHER_NAME),
        (filenodes != {table.filenode}, "it was truncated or rewritten since the snapshot"),
        (not now["plain"], "it is not a table whose rows pg_dump saves"),
        (now["hidden"], "row-level security hides rows of it"),
        (now["foreign_code"], _CALLS_FOREIGN_CODE),
        (not table.key or not _has_columns(look, table) or not _has_columns(now, table), "its columns have changed"),
    )
    return next((why for is_so, why in doubts if is_so), None)


def _has_its_name(table: OrderedTable, now: _TableLook | None) -> bool:
    return now is not None and (now["schema"], now["name"]) == (table.namespace, table.name)


def _has_columns(look: _TableLook, table: OrderedTable) -> bool:
    return tuple(look["columns"]) == table.columns and {*table.key} <= look["quoted_columns"].keys()


def _steps(lines: Sequence[bytes]) -> tuple[str, ...]:
    """The kinds of the steps of a plan, of which each has one below it; none where it is no such plan.

    Raises InvalidAnswerError.
    """
    said = parse([b"".join(lines)], _SAID_BY)
    step, kinds = said[0][0].get("Plan") if _is_plan(said) else None, list[str]()
    while isinstance(step, dict) and len(kinds) < _MOST_STEPS:
        kinds.append(str(step.get("Node Type"))[:_LONGEST_KIND])
        below = step.get("Plans")
        step = below[0] if isinstance(below, list) and below else None
    return tuple(kinds)


def _is_plan(said: Sequence[object]) -> bool:
    return bool(said) and isinstance(said[0], list) and bool(said[0]) and isinstance(said[0][0], dict)


def _list(oids: Iterable[int]) -> str:
    return ", ".join(map(str, oids)) or "0"
