# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL queries to a server, and how to read their answers."""

from __future__ import annotations

import json
from dataclasses import dataclass

from typing_extensions import TypedDict

from scalr_backup.core.errors import PostgresError
from scalr_backup.core.records.manifest import ManifestDatabase
from scalr_backup.core.spoken import COUNTS, MOST_OF_TABLES, TEXTS, Count, Flag, Name, Number, Shape, Text
from scalr_backup.core.sql import quote_identifier, quote_literal
from scalr_backup.core.sqlstate import SERIALIZATION_FAILURE
from scalr_backup.core.text import readable, readable_json
from scalr_backup.tools.postgres.foreign_code import has_foreign_code, is_not_planned
from scalr_backup.tools.postgres.limits import BY_SEQUENTIAL_SCAN, TABLES_ONLY
from scalr_backup.tools.postgres.session import SqlSession

_USER_TABLES = """
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't'
      AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend AS d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
_LOCK_TABLES = f"""
SELECT 'LOCK TABLE ' || string_agg(format('ONLY %I.%I', n.nspname, c.relname), ', ') || ' IN ACCESS SHARE MODE'
{_USER_TABLES} \\gexec
"""
# A snapshot tells rows by who wrote them: of a table that was truncated, rewritten or replaced by another of its name while we
# waited for its lock, it sees neither those that were there nor those that came (PostgreSQL documentation, "Caveats" of MVCC).
# The catalogs are those of the snapshot; pg_relation_filenode() and to_regclass() tell of the present.
_MADE_ANEW = f"""
SELECT to_jsonb(format('%I.%I', n.nspname, c.relname))
{_USER_TABLES}
  AND (pg_relation_filenode(c.oid) IS DISTINCT FROM NULLIF(c.relfilenode, 0)
       OR to_regclass(format('%I.%I', n.nspname, c.relname))::oid IS DISTINCT FROM c.oid)
ORDER BY n.nspname, c.relname LIMIT 5;
"""
MOST_SNAPSHOTS = 5
# On a standby nobody can read a table that is not logged, and pg_dump saves none of its rows. Of one that no query of ours may
# plan, the column is told that takes least to be written.
_COUNT_ROWS = f"""
SELECT CASE WHEN c.relpersistence = 'u' AND pg_is_in_recovery()
            THEN format('SELECT jsonb_build_array(%L, %L, 0)', n.nspname, c.relname)
            WHEN {{unplanned}}
            THEN format('SELECT jsonb_build_array(%L, %L, jsonb_build_array(%L))', n.nspname, c.relname, (
              SELECT a.attname FROM pg_attribute AS a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
              ORDER BY a.atttypid >= 16384, a.attlen <= 0, a.attlen, a.attnum LIMIT 1))
            ELSE format('SELECT jsonb_build_array(%L, %L, count(*)) FROM ONLY %I.%I',
                        n.nspname, c.relname, n.nspname, c.relname) END
{_USER_TABLES} {{which}} ORDER BY n.nspname, c.relname \\gexec
"""
# Whoever may not connect to a database may not know its size either. 'is_valid' is false of one whose DROP was interrupted.
# One without files has no size: so it is while it is dropped, and after a DROP that was interrupted.
DATABASES = """
SELECT jsonb_build_object(
         'name', datname, 'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding),
         'size_bytes', CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                            THEN COALESCE(pg_database_size(oid), 0) ELSE 0 END,
         'is_template', datistemplate, 'allows_connections', datallowconn, 'is_valid', datconnlimit <> -2)
FROM pg_database
WHERE datname <> 'template0'
ORDER BY datname;
"""
# 16384 is FirstNormalObjectId (src/include/access/transam.h): what initdb makes lies below. Of what it makes, the schema
# public alone is commonly changed. Schemas of temporary tables stay when these are gone.
_CATALOGS = (
    "pg_class", "pg_proc", "pg_type", "pg_extension", "pg_cast", "pg_collation", "pg_conversion",
    "pg_default_acl", "pg_event_trigger", "pg_foreign_data_wrapper", "pg_foreign_server", "pg_language", "pg_opclass",
    "pg_operator", "pg_opfamily", "pg_publication", "pg_transform", "pg_ts_config", "pg_ts_dict", "pg_ts_parser",
    "pg_ts_template", "pg_am",
)  # fmt: skip
_NOTHING_MADE = " AND ".join(f"NOT EXISTS (SELECT FROM {catalog} WHERE oid >= 16384)" for catalog in _CATALOGS)
IS_EMPTY = f"""
SELECT to_jsonb({_NOTHING_MADE}
            AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_')
            AND NOT EXISTS (SELECT FROM pg_largeobject_metadata)
            AND NOT EXISTS (SELECT FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase
                            WHERE d.datname = current_database())
            AND NOT EXISTS (SELECT FROM pg_namespace AS n JOIN pg_init_privs AS i
                              ON i.classoid = 'pg_namespace'::regclass AND i.objoid = n.oid
                            WHERE n.nspname = 'public' AND n.nspacl IS DISTINCT FROM i.initprivs));
"""
# What nobody made but whoever wrote into a database that has extensions only. What is inside of another object, such as a
# table's index, does not count by itself.
_NOT_OF_AN_EXTENSION = (
    "oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = '{catalog}'::regclass "
    "AND d.objid = {catalog}.oid AND d.deptype = 'e')"
)
_MADE = " OR ".join(
    f"EXISTS (SELECT FROM {catalog} WHERE {condition} AND {_NOT_OF_AN_EXTENSION.format(catalog=catalog)})"
    for catalog, condition in {
        "pg_class": "relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'",
        "pg_proc": "true",
        "pg_type": "typtype IN ('d', 'e', 'r')",
    }.items()
)
IS_MORE_THAN_EXTENSIONS = f"SELECT to_jsonb({_MADE} OR EXISTS (SELECT FROM pg_largeobject_metadata));"
# An extension is created by one transaction, which its rows are of. Anyone who gave its table an index has been there.
ARE_ROWS_OF_OTHERS = f"""
SELECT CASE WHEN {is_not_planned("c.oid")} THEN 'SELECT to_jsonb(true)'
            ELSE format('SELECT to_jsonb(EXISTS (SELECT FROM ONLY %I.%I WHERE xmin::text <> %L))',
                        n.nspname, c.relname, e.xmin) END
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE c.relkind = 'r' AND c.oid >= 16384 \\gexec
"""
_DESCRIBE = """
SELECT jsonb_build_object(
  'database', d.datname,
  'oid', d.oid::bigint,
  'owner', pg_get_userbyid(d.datdba),
  'encoding', pg_encoding_to_char(d.encoding),
  'collate', d.datcollate,
  'ctype', d.datctype,
  'size_bytes', COALESCE(pg_database_size(d.oid), 0),
  'largest_indexes', (SELECT COALESCE(jsonb_agg(bytes), '[]')
                      FROM (SELECT relpages * current_setting('block_size')::bigint AS bytes FROM pg_class
                            WHERE relkind = 'i' AND oid >= 16384 ORDER BY relpages DESC LIMIT 8) AS largest),
  'server_version', current_setting('server_version'),
  'server_version_num', current_setting('server_version_num')::int,
  'extensions', COALESCE((SELECT jsonb_agg(jsonb_build_object('name', e.extname, 'version', e.extversion,
                                                               'schema', n.nspname) ORDER BY e.extname)
                          FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace), '[]'),
  'public_schema', EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public'),
  'settings', COALESCE((SELECT jsonb_agg(jsonb_build_object(
                                 'role', CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END,
                                 'settings', to_jsonb(s.setconfig)))
                        FROM pg_db_role_setting AS s WHERE s.setdatabase = d.oid), '[]'))
FROM pg_database AS d WHERE d.datname = current_database();
"""

_SEQUENCE_VALUES = """
SELECT format('SELECT jsonb_build_array(%L, %L, last_value, is_called) FROM %I.%I',
              n.nspname, c.relname, n.nspname, c.relname)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY n.nspname, c.relname \\gexec
"""
CONNECTED = """
SELECT jsonb_build_object('user', usename, 'application', application_name,
                          'address', COALESCE(host(client_addr), 'local'), 'sessions', count(*))
FROM pg_stat_activity
WHERE datname = {name} AND backend_type = 'client backend' AND application_name NOT LIKE '{ours}%'
GROUP BY usename, application_name, client_addr ORDER BY count(*) DESC, 1;
"""
# Whom the agent's user may end: another's session is an error, and of autovacuum a rename itself gets rid.
MAY_END = (
    "((SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR (COALESCE(pg_has_role(usesysid, 'MEMBER'), false) "
    "OR usesysid IS NOT NULL AND pg_has_role('pg_signal_backend', 'MEMBER')) "
    "AND NOT EXISTS (SELECT FROM pg_roles WHERE oid = usesysid AND rolsuper))"
)
# A slot that is read has a process of the server behind it. Temporary ones end with their session, as sessions do.
SLOTS = """
SELECT jsonb_build_object(
  'name', s.slot_name, 'plugin', s.plugin, 'active', s.active,
  'consumer', NULLIF(concat_ws(' ', a.usename, NULLIF(a.application_name, ''),
                               CASE WHEN a.pid IS NOT NULL THEN 'from ' || COALESCE(host(a.client_addr), 'local') END), ''))
FROM pg_replication_slots AS s LEFT JOIN pg_stat_activity AS a ON a.pid = s.active_pid
WHERE s.slot_type = 'logical' AND NOT s.temporary AND s.database = {name} ORDER BY s.slot_name;
"""
# Whoever may make roles sees to it that their passwords' hashes do not go to the server's log.
SILENCE_THE_LOG = """
SELECT jsonb_build_array(
  set_config('log_statement', 'none', false), set_config('log_min_error_statement', 'panic', false),
  set_config('log_min_duration_statement', '-1', false), set_config('log_min_duration_sample', '-1', false),
  set_config('log_transaction_sample_rate', '0', false), set_config('track_activities', 'off', false),
  set_config('pg_stat_statements.track', 'none', false), set_config('auto_explain.log_min_duration', '-1', false),
  set_config('pgaudit.log', 'none', false))
FROM pg_roles WHERE rolname = current_user AND rolsuper;
"""

# What decides how much a restore takes, as far as the agent's user may see it: what it may not see, is null. An archive
# without a way, or whose last try failed, keeps the log for ever, and so does a slot that nobody reads.
ROOM_OF_SERVER = """
SELECT jsonb_build_object(
  'directory', (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
  'limit_bytes', pg_size_bytes(current_setting('max_wal_size')),
  'kept_bytes', pg_size_bytes(current_setting('wal_keep_size')),
  'kept_for_slots', (SELECT setting::bigint * 1024 * 1024 FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
  'sort_bytes', pg_size_bytes(current_setting('maintenance_work_mem')),
  'checksums', 'on' IN (current_setting('data_checksums'), current_setting('wal_log_hints')),
  'archive_fails', (SELECT current_setting('archive_mode') <> 'off' AND (
    (SELECT bool_and(setting = '') FROM pg_settings WHERE name IN ('archive_command', 'archive_library'))
    OR (SELECT COALESCE(last_failed_time > COALESCE(last_archived_time, '-infinity'), false) FROM pg_stat_archiver))),
  'slots', COALESCE((SELECT jsonb_agg(slot_name ORDER BY slot_name) FROM pg_replication_slots
                     WHERE NOT active AND restart_lsn IS NOT NULL), '[]'),
  'tablespaces', COALESCE((SELECT jsonb_object_agg(spcname, oid::bigint) FROM pg_tablespace
                           WHERE spcname NOT IN ('pg_default', 'pg_global')), '{}'));
"""

# One table's rows, or a column of it where they are not counted by a query; one sequence's value and whether it was handed out.
_ROWS = Shape[tuple[str, str, int | tuple[str | None]]](tuple[Name, Name, Count | tuple[Name | None]])
_VALUES = Shape[tuple[str, str, int, bool]](tuple[Name, Name, Number, Flag])


class _Extension(TypedDict):
    name: Name
    version: Text
    schema: Name


class _Settings(TypedDict):
    role: Text | None
    settings: list[Text]


class _Description(TypedDict):
    """What ``_DESCRIBE`` has of a database."""

    database: Name
    oid: Count
    owner: Text
    encoding: Name
    collate: Text | None
    ctype: Text | None
    size_bytes: Count
    largest_indexes: list[Count]
    server_version: Text
    server_version_num: Count
    extensions: list[_Extension]
    public_schema: Flag
    settings: list[_Settings]


_DESCRIPTIONS = Shape[_Description](_Description)

# Whose answer it is; the container is named by whatever failed of it.
_SAID_BY = "psql"
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"

RowCounts = dict[str, int]


@dataclass(frozen=True)
class SomeTables:
    """Some of a database's tables, by their oids: *without* them, or only them."""

    oids: frozenset[int] = frozenset()
    without: bool = True

    @property
    def condition(self) -> str:
        """As the rest of a condition on ``pg_class AS c``."""
        listed = ", ".join(map(str, sorted(self.oids))) or "0"
        return f"AND c.oid {'NOT IN' if self.without else 'IN'} ({listed})"


_ALL = SomeTables()
SequenceValues = dict[str, tuple[int, bool]]


def open_exported_snapshot(session: SqlSession) -> tuple[str, ManifestDatabase]:
    """Begin the transaction that a dump and its counts share; returns the snapshot's name and the description.

    The tables are locked as pg_dump locks them, at once: a TRUNCATE between the snapshot and pg_dump's own
    lock would show no rows to a transaction that should still see them. One that was under way before is waited for, and
    the snapshot is then taken anew.

    Raises PostgresError where tables are made anew again and again; and where one is gone, or has another name, by the time
    its lock is asked for (``is_gone``): the session is over then, and another one may have more luck.
    """
    exported = _export_snapshot(session)
    said = _DESCRIPTIONS.one(session.query(_DESCRIBE), _SAID_BY)
    description: ManifestDatabase = json.loads(readable_json(said))
    return exported, description


def _export_snapshot(session: SqlSession) -> str:
    """Begin a transaction, export its snapshot, and lock all tables as that sees them; returns its name."""
    made_anew: list[str] = []
    for _try in range(MOST_SNAPSHOTS):
        session.query(_BEGIN if not made_anew else f"ROLLBACK; {_BEGIN}")
        exported = TEXTS.one(session.query("SELECT to_jsonb(pg_export_snapshot());"), _SAID_BY)
        session.query(_LOCK_TABLES)
        made_anew = TEXTS.of(session.query(_MADE_ANEW), _SAID_BY)
        if not made_anew:
            return exported
    raise PostgresError(
        f"tables are truncated, rewritten or replaced again and again, so that no snapshot shows their rows: "
        f"{readable(', '.join(made_anew))}",
        SERIALIZATION_FAILURE,
    )


def join_exported_snapshot(session: SqlSession, exported: str) -> None:
    """Begin a transaction that sees what an exporting one does, and lock the tables as that has.

    An error in the exporting session would end its transaction, and with it the snapshot that pg_dump needs. So whatever
    may fail is done in another one.
    """
    enter_exported_snapshot(session, exported)
    session.query(_LOCK_TABLES)


def enter_exported_snapshot(session: SqlSession, exported: str) -> None:
    """Begin a transaction that sees what an exporting one does, and lock nothing."""
    session.query(f"{_BEGIN} SET TRANSACTION SNAPSHOT {quote_literal(exported)};")


def count_rows(
    session: SqlSession, most_bytes: int | None = None, which: SomeTables = _ALL, *, is_closed: bool = False
) -> RowCounts:
    """Exact row counts of every user table, or of *which*, as this session's transaction sees them; no index is asked.

    Where a plan would run somebody's code with our rights, or may by the time that it is made, there is none: COPY writes one
    line a row, and these are counted. In a database that *is_closed* to everyone but superusers, nobody makes more of it.

    What shall be saved may be no longer than other answers, since more would fit no manifest, and *most_bytes* otherwise.
    """
    session.query(TABLES_ONLY + BY_SEQUENTIAL_SCAN)
    counts: RowCounts = {}
    unplanned: list[tuple[str, str, str | None]] = []
    unplannable = has_foreign_code("c.oid") if is_closed else is_not_planned("c.oid")
    query = _COUNT_ROWS.format(which=which.condition, unplanned=unplannable)
    for schema, table, said in _ROWS.of(session.query(query, most_bytes), _SAID_BY):
        if isinstance(said, int):
            counts[relation_of(schema, table)] = said
        else:
            unplanned.append((schema, table, said[0]))
    for schema, table, column in unplanned:
        columns = "" if column is None else f" ({quote_identifier(column)})"
        copy = f"COPY {quote_identifier(schema)}.{quote_identifier(table)}{columns} TO STDOUT"
        counts[relation_of(schema, table)] = COUNTS.one(session.query(f"{copy} \\g |wc -l"), _SAID_BY)
    return counts


def relation_of(schema: str, table: str) -> str:
    """A table's name among row counts."""
    return readable(f"{quote_identifier(schema)}.{quote_identifier(table)}")


def sequence_values(session: SqlSession) -> SequenceValues:
    """The last value of every sequence, and whether it was handed out."""
    session.query(TABLES_ONLY)
    return {
        readable(f"{quote_identifier(schema)}.{quote_identifier(name)}"): (value, called)
        for schema, name, value, called in _VALUES.of(session.query(_SEQUENCE_VALUES, MOST_OF_TABLES), _SAID_BY)
    }
