# SPDX-License-Identifier: GPL-3.0-or-later
"""A database's large tables, with what decides in which order their rows are dumped: one bounded look.

By catalogs and statistics alone, as the session's transaction sees them. Only sizes are of the present, and no lock is waited
for: a table that somebody has, or wants, for himself has the size that the catalog knows of. What is asked is there from
PostgreSQL 12 on; a future one that changed it would say so by an error, and its rows stay in heap order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from scalr_backup.core.spoken import Count, Flag, Name, Shape, Text, no_sense
from scalr_backup.core.table_keys import ColumnStatistics, Statistics, UniqueIndex, leading_columns
from scalr_backup.tools.postgres.foreign_code import has_foreign_code, may_get_foreign_code
from scalr_backup.tools.postgres.pins import NONE_IS_PINNED
from scalr_backup.tools.postgres.session import SqlSession

# More of a database's tables than these, the largest, are not looked at, nor more of a table's unique indexes.
MOST_TABLES = 256
_MOST_INDEXES = 16
# So many tables of 400 columns each, or of as many as a table can have whose names are short.
_MOST_BYTES = 8 * 1024 * 1024
_TIMEOUT_SECONDS = 60
_SAID_BY = "psql"
# src/include/access/transam.h: what the server itself brought lies below.
_FIRST_NORMAL_OID = 16384

# Why the rows of a table stay where they are, whatever its keys.
Hindrance = Literal[
    "access_method", "unlogged_on_standby", "row_security", "hash_partition", "foreign_code", "of_others"
]


class LargeTable(TypedDict):
    """A table that is large enough, with its unique b-trees, the primary key first; sizes in bytes."""

    oid: Count
    schema: Name
    name: Name
    filenode: Count
    # With what is stored out of line, and without.
    bytes: Count
    heap_bytes: Count
    hindrance: Hindrance | None
    columns: list[Name]
    indexes: list[UniqueIndex]


class SortingRow(TypedDict):
    """What decides where, and how much, a session of this role may sort."""

    encoding: Text
    # Of temporary files, for each process; None where there is no limit that binds this role.
    limit_bytes: Count | None
    # Whether the role may read where the server's data lies.
    directories: list[Text]
    statistics: Flag


@dataclass(frozen=True)
class KeyLook:
    """The large tables of a database, the largest first, and what is known of their leading columns, by table and column.

    *statistics* is None where the role may not read any.
    """

    server: SortingRow
    tables: tuple[LargeTable, ...]
    statistics: dict[int, Statistics] | None

    def of(self, table: LargeTable) -> Statistics | None:
        """What is known of a table's leading columns; None where it may not be read."""
        return None if self.statistics is None else self.statistics.get(table["oid"], {})


class _Statistic(TypedDict):
    oid: Count
    number: Count
    permille: Annotated[int, Field(strict=True, ge=0, le=1000)] | None
    # Of its sample of UUIDs: those that begin with the time, and all.
    uuids: Annotated[list[Count], Field(min_length=2, max_length=2)] | None


LARGE_TABLES = Shape[LargeTable](LargeTable, most_rows=MOST_TABLES)
SERVERS = Shape[SortingRow](SortingRow)
STATISTICS = Shape[_Statistic](_Statistic)

# Temporary files lie in a directory of the tablespace (src/backend/storage/file/fd.c): one that temp_tablespaces names, else the
# database's own. An empty text is the server's data directory, of which not every role is told.
_SERVER = """
SELECT jsonb_build_object(
  'encoding', current_setting('server_encoding'),
  'limit_bytes', CASE WHEN current_setting('temp_file_limit') <> '-1'
                       AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
                      THEN pg_size_bytes(current_setting('temp_file_limit')) END,
  'statistics', has_table_privilege('pg_catalog.pg_stats', 'SELECT'),
  'directories', (
    SELECT COALESCE(jsonb_agg(DISTINCT COALESCE(NULLIF(pg_tablespace_location(t.oid), ''),
                      (SELECT setting FROM pg_settings WHERE name = 'data_directory'), '')), '[]')
    FROM pg_tablespace AS t
    WHERE CASE WHEN trim(current_setting('temp_tablespaces')) = ''
               THEN t.oid = (SELECT dattablespace FROM pg_database WHERE datname = current_database())
               ELSE position(t.spcname::text IN current_setting('temp_tablespaces')) > 0 END));
"""

# A column that may be NULL: since PostgreSQL 18 its constraint may not have been validated yet, although it is there.
_NOT_NULL = """a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = a.attrelid AND k.contype = 'n'
                                        AND NOT k.convalidated AND a.attnum = ANY (k.conkey))"""
# The default of a column that takes its value from a sequence depends on it; an identity column's sequence is its own.
_SEQUENCE = """EXISTS (SELECT FROM pg_attrdef AS d
                  JOIN pg_depend AS p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                                     AND p.refclassid = 'pg_class'::regclass
                  JOIN pg_class AS s ON s.oid = p.refobjid AND s.relkind = 'S'
                  WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum)"""
# ORDER BY takes the default operator class of the column's own type, if there is one, before that of a type it is like.
_OWN_TYPE = f"""t.oid < {_FIRST_NORMAL_OID} AND t.typtype = 'b'
              AND NOT EXISTS (SELECT FROM pg_opclass AS o JOIN pg_am AS m ON m.oid = o.opcmethod AND m.amname = 'btree'
                              WHERE o.opcintype = t.oid AND o.opcdefault AND o.oid >= {_FIRST_NORMAL_OID})"""
_USUAL_ORDER = f"""a.attcollation = (i.indcollation::oid[])[u.place - 1]
                AND EXISTS (SELECT FROM pg_opclass AS o WHERE o.oid = (i.indclass::oid[])[u.place - 1] AND o.opcdefault
                            AND o.oid < {_FIRST_NORMAL_OID})"""
_KEY_COLUMNS = f"""
  SELECT COALESCE(jsonb_agg(jsonb_build_object(
           'number', a.attnum, 'name', a.attname, 'type', t.typname, 'generated', a.attgenerated <> '',
           'identity', a.attidentity <> '', 'sequence', {_SEQUENCE}, 'not_null', {_NOT_NULL},
           'own_type', {_OWN_TYPE}, 'usual_order', {_USUAL_ORDER},
           'deterministic', COALESCE((SELECT c.collisdeterministic FROM pg_collation AS c WHERE c.oid = a.attcollation), true),
           'default', CASE WHEN t.typname = 'uuid' AND NOT l.is_busy THEN (
             SELECT left(pg_get_expr(d.adbin, d.adrelid), 200) FROM pg_attrdef AS d
             WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END) ORDER BY u.place), '[]')
  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS u (attnum, place)
  JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = u.attnum
  JOIN pg_type AS t ON t.oid = a.atttypid
  WHERE u.place <= i.indnkeyatts
"""
# Forwards, an index is in ascending order when each of its columns is, and backwards when each of them is in descending order.
_SCANNABLE = """(SELECT bool_and(o = 0) OR bool_and(o = 3)
             FROM unnest(i.indoption::int2[]) WITH ORDINALITY AS options (o, place) WHERE place <= i.indnkeyatts)"""
_INDEXES = f"""
  SELECT COALESCE(jsonb_agg(one.described ORDER BY one.indisprimary DESC, one.indnkeyatts, one.indexrelid), '[]')
  FROM (SELECT i.indisprimary, i.indnkeyatts, i.indexrelid, jsonb_build_object(
                 'name', ic.relname, 'primary', i.indisprimary, 'immediate', i.indimmediate,
                 'valid', i.indisvalid AND i.indisready AND i.indislive,
                 'partial', i.indpred IS NOT NULL, 'expression', i.indexprs IS NOT NULL,
                 'scannable', {_SCANNABLE}, 'columns', ({_KEY_COLUMNS})) AS described
        FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid
        JOIN pg_am AS m ON m.oid = ic.relam AND m.amname = 'btree'
        WHERE i.indrelid = l.oid AND i.indisunique
        ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT {_MOST_INDEXES}) AS one
"""
# What pg_dump loads by way of the root: hash partitions whose keys may be hashed otherwise elsewhere (getPartitioningInfo in
# pg_dump.c). All that are below such a root, and all whose keys are not of the server's own types.
_ODD_PARTITIONS = f"""
  odd (oid) AS (
    SELECT p.partrelid FROM pg_partitioned_table AS p
    WHERE p.partstrat = 'h' AND (
      EXISTS (SELECT FROM unnest(p.partattrs::int2[]) AS key (attnum)
              LEFT JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = key.attnum AND key.attnum > 0
              WHERE COALESCE(a.atttypid, {_FIRST_NORMAL_OID}) >= {_FIRST_NORMAL_OID})
      OR EXISTS (SELECT FROM unnest(p.partclass::oid[]) AS used (class) JOIN pg_opclass AS o ON o.oid = used.class
                 WHERE o.oid >= {_FIRST_NORMAL_OID} OR o.opcname = 'enum_ops'))
    UNION SELECT h.inhrelid FROM pg_inherits AS h JOIN odd ON h.inhparent = odd.oid)
"""
# The session that asks may hold the tables already; whoever else has one for himself, or waits for that, would be waited for.
_BUSY = """
  busy (oid) AS MATERIALIZED (
    SELECT DISTINCT k.relation FROM pg_locks AS k
    WHERE k.locktype = 'relation' AND k.mode = 'AccessExclusiveLock' AND k.pid <> pg_backend_pid()
      AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND NOT EXISTS (SELECT FROM pg_locks AS own WHERE own.pid = pg_backend_pid() AND own.relation = k.relation
                      AND own.locktype = 'relation' AND own.granted))
"""
# The tables whose rows pg_dump saves (see left_out.py), as far as they are large. 2 is the heap's access method
# (HEAP_TABLE_AM_OID in pg_am.dat).
_LARGE = """
  sized AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relfilenode, c.relam, c.relpersistence, c.relpages, b.oid IS NOT NULL AS is_busy,
           CASE WHEN b.oid IS NULL THEN pg_table_size(c.oid)
                ELSE (c.relpages + COALESCE(o.relpages, 0)) * current_setting('block_size')::bigint END AS bytes
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN busy AS b ON b.oid = c.oid
    LEFT JOIN pg_class AS o ON o.oid = c.reltoastrelid
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND c.oid >= 16384
      AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),
  large AS MATERIALIZED (
    SELECT s.*, CASE WHEN s.is_busy THEN s.bytes ELSE pg_relation_size(s.oid) END AS heap_bytes,
           CASE WHEN s.relam <> 2 THEN 'access_method'
                WHEN s.relpersistence = 'u' AND pg_is_in_recovery() THEN 'unlogged_on_standby'
                WHEN row_security_active(s.oid) THEN 'row_security'
                WHEN s.oid IN (SELECT oid FROM odd) THEN 'hash_partition'
                WHEN {foreign_code} THEN 'foreign_code'
                WHEN {cannot_be_pinned} THEN 'of_others' END AS hindrance
    FROM sized AS s WHERE s.bytes >= {least_bytes}
    ORDER BY s.bytes DESC, s.nspname, s.relname LIMIT {most_tables})
"""
_LOOK = f"""
WITH RECURSIVE {_ODD_PARTITIONS}, {_BUSY}, {{large}}
SELECT jsonb_build_object(
  'oid', l.oid::bigint, 'schema', l.nspname, 'name', l.relname, 'filenode', l.relfilenode::bigint,
  'bytes', COALESCE(l.bytes, 0), 'heap_bytes', COALESCE(l.heap_bytes, 0), 'hindrance', l.hindrance,
  'columns', (SELECT COALESCE(jsonb_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_attribute AS a
              WHERE a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
  'indexes', ({_INDEXES}))
FROM large AS l ORDER BY l.bytes DESC, l.nspname, l.relname;
"""
# RFC 9562: the thirteenth digit of a UUID, and the fifteenth character of its text, is its version.
_KNOWN = """
SELECT jsonb_build_object(
  'oid', w.oid, 'number', w.number,
  'permille', CASE WHEN s.correlation BETWEEN -1 AND 1 THEN round(1000 * abs(s.correlation))::int END,
  'uuids', CASE WHEN a.atttypid = 'pg_catalog.uuid'::regtype AND s.histogram_bounds IS NOT NULL THEN (
    SELECT jsonb_build_array(count(*) FILTER (WHERE substr(one::text, 15, 1) IN ('6', '7')), count(*))
    FROM unnest(s.histogram_bounds::text::uuid[]) AS one) END)
FROM (VALUES {wanted}) AS w (oid, number)
JOIN pg_class AS c ON c.oid = w.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = w.number
JOIN pg_stats AS s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname AND NOT s.inherited;
"""


def look(session: SqlSession, least_bytes: int) -> KeyLook:
    """The large tables of the database of this session, which is in a transaction.

    Raises PostgresError, LateAnswerError or InvalidAnswerError; the session is over then.
    """
    # To compile such a query takes longer than to run it.
    session.query(f"SET LOCAL statement_timeout = {_TIMEOUT_SECONDS * 1000}; SET LOCAL jit = off;")
    server = SERVERS.one(session.query(_SERVER, _MOST_BYTES), _SAID_BY)
    large = _LARGE.format(
        least_bytes=int(least_bytes),
        most_tables=MOST_TABLES,
        foreign_code=has_foreign_code("s.oid"),
        cannot_be_pinned=f"{may_get_foreign_code('s.oid')} AND {NONE_IS_PINNED}",
    )
    tables = LARGE_TABLES.of(session.query(_LOOK.format(large=large), _MOST_BYTES), _SAID_BY)
    if len({table["oid"] for table in tables}) < len(tables):
        raise no_sense(_SAID_BY, "it lists a table twice")
    known = _statistics(session, tables) if server["statistics"] else None
    session.query("SET LOCAL statement_timeout = 0;")
    return KeyLook(server, tuple(tables), known)


def _statistics(session: SqlSession, tables: Iterable[LargeTable]) -> dict[int, Statistics]:
    """What the planner knows of the columns that lead a unique index; of no others, so that there are few."""
    wanted = [(table["oid"], number) for table in tables for number in sorted(leading_columns(table["indexes"]))]
    found: defaultdict[int, dict[int, ColumnStatistics]] = defaultdict(dict)
    if wanted:
        values = ", ".join(f"({oid}::bigint, {number})" for oid, number in wanted)
        for row in STATISTICS.of(session.query(_KNOWN.format(wanted=values), _MOST_BYTES), _SAID_BY):
            sorted_uuids, sampled = row["uuids"] or (None, 0)
            found[row["oid"]][row["number"]] = ColumnStatistics(row["permille"], sorted_uuids, sampled)
    return dict(found)
