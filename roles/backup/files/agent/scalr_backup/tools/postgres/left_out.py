# SPDX-License-Identifier: GPL-3.0-or-later
"""Which relations of a database hold rows that pg_dump leaves out, by its own rules (PostgreSQL's pg_dump.c).

It dumps no rows of a table that belongs to an extension, unless the extension marks the table as its configuration; then it
dumps those that fit the extension's condition (PostgreSQL documentation, "Extension Configuration Tables"). It dumps none of a
foreign table, of an unlogged table on a standby, or of a table in a schema of the server's own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from scalr_backup.core.errors import ScalrBackupError
from scalr_backup.core.left_out import MADE_ANEW, MOST_COUNTED, MOST_RELATIONS, relation_name
from scalr_backup.core.records.left_out import LeftOutRowsRecord, Why
from scalr_backup.core.spoken import COUNTS, FLAGS, Count, Flag, Name, Shape, Text
from scalr_backup.core.sql import quote_identifier, quote_literal
from scalr_backup.tools.postgres.foreign_code import is_not_planned
from scalr_backup.tools.postgres.limits import TABLES_ONLY
from scalr_backup.tools.postgres.session import ANSWER_SECONDS, PostgresServer, SqlSession
from scalr_backup.tools.postgres.statements import as_values

# A look at what is left out must not take longer than what is saved.
_TIMEOUT_SECONDS = 60
_COUNTED: frozenset[Why] = frozenset({"extension", "extension_filter", "system_schema"})


class Candidate(TypedDict):
    """A relation that may hold rows which pg_dump leaves out; *condition* is the one of the extension *oid*."""

    schema: Name
    name: Name
    why: Why
    extension: Name | None
    oid: Count | None
    condition: Text | None
    readable: Flag


_SURVEYS = Shape[tuple[list[Candidate], list[list[str]]]](
    tuple[list[Candidate], list[Annotated[list[Name], Field(min_length=2, max_length=2)]]]
)

# By the catalogs alone and without a lock, so that it cannot fail where a dump would work; of too many, those that hold the
# most come first, and those whose rows lie elsewhere last. 16384 is FirstNormalObjectId
# (src/include/access/transam.h).
_CANDIDATES = f"""
  (SELECT COALESCE(jsonb_agg(to_jsonb(candidate)), '[]') FROM (
     SELECT n.nspname AS schema, c.relname AS name, e.extname AS extension, e.oid::bigint AS oid,
            has_table_privilege(c.oid, 'SELECT') AS readable,
            NULLIF(e.extcondition[array_position(e.extconfig, c.oid)], '') AS condition,
            CASE WHEN c.relkind = 'f' THEN 'foreign_table'
                 WHEN c.relpersistence = 'u' AND pg_is_in_recovery() THEN 'unlogged_on_standby'
                 WHEN e.oid IS NULL THEN 'system_schema'
                 WHEN array_position(e.extconfig, c.oid) IS NULL THEN 'extension'
                 ELSE 'extension_filter' END AS why
     FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     LEFT JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
     LEFT JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
     WHERE c.relkind IN ('r', 'f') AND c.relpersistence <> 't' AND c.oid >= 16384
       AND CASE WHEN c.relkind = 'f' THEN true
                WHEN c.relpersistence = 'u' AND pg_is_in_recovery() THEN c.reltuples <> 0
                WHEN e.oid IS NOT NULL THEN NOT COALESCE(e.extcondition[array_position(e.extconfig, c.oid)] = '', false)
                ELSE n.nspname IN ('pg_catalog', 'information_schema') END
     ORDER BY c.relkind = 'f', c.relpages DESC, n.nspname, c.relname LIMIT {MOST_RELATIONS}) AS candidate)
"""
# Tables that the role of this session does not see whole. pg_dump refuses them, after it has dumped others for hours.
_HIDDEN = f"""
  (SELECT COALESCE(jsonb_agg(hidden.name ORDER BY hidden.name), '[]') FROM (
   SELECT jsonb_build_array(n.nspname, c.relname) AS name
   FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
   WHERE c.relkind = 'r' AND c.relrowsecurity AND row_security_active(c.oid)
     AND NOT EXISTS (SELECT FROM pg_depend AS d
                     WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
   ORDER BY n.nspname, c.relname LIMIT {MOST_RELATIONS}) AS hidden)
"""


def survey(session: SqlSession) -> tuple[list[Candidate], list[list[str]]]:
    """What a dump in this session's database may leave out, and the tables that row-level security keeps it from dumping."""
    return _SURVEYS.one(session.query(f"SELECT jsonb_build_array({_CANDIDATES}, {_HIDDEN});"), "psql")


def lost_with_live(server: PostgresServer, database: str) -> list[LeftOutRowsRecord]:
    """The rows of a database that a dump of it would leave out.

    Raises PostgresError when it lets nobody in.
    """
    with server.session(database, silence_seconds=ANSWER_SECONDS) as session:
        candidates, _hidden = survey(session)
    return left_out_rows(server, database, candidates)


def left_out_rows(server: PostgresServer, database: str, candidates: Sequence[Candidate]) -> list[LeftOutRowsRecord]:
    """The candidates that do hold such rows, or may, the most rows first; counted as far as there is time."""
    candidates = [one for one in candidates if not _is_made_anew(one)]
    counts = _counts(server, database, [one for one in candidates if one["why"] in _COUNTED and one["readable"]])
    found = [one for one in named_only(candidates, counts) if one["rows"] != 0]
    return sorted(found, key=lambda one: (-(one["rows"] or 0), one["relation"]))


def _is_made_anew(one: Candidate) -> bool:
    return relation_name(one["schema"], one["name"]) in MADE_ANEW.get(one["extension"] or "", ())


def named_only(candidates: Sequence[Candidate], counts: Mapping[str, int] | None = None) -> list[LeftOutRowsRecord]:
    """The candidates, each with its number of rows where it is known."""
    return [
        {"relation": relation, "why": one["why"], "extension": one["extension"], "rows": (counts or {}).get(relation)}
        for one in candidates
        for relation in [relation_name(one["schema"], one["name"])]
    ]


def _counts(server: PostgresServer, database: str, candidates: Sequence[Candidate]) -> dict[str, int]:
    counts: dict[str, int] = {}
    if not candidates:
        return counts
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    # The first that cannot be counted ends the session: it and those after it are named without a number.
    # Small ones first: of them, most can be counted in the time that there is.
    with (
        suppress(ScalrBackupError),
        server.session(database, silence_seconds=2.0 * _TIMEOUT_SECONDS, watched=False) as session,
    ):
        # What may be planned is decided by what there is at the moment, whatever a database sets.
        session.query(f"{TABLES_ONLY}BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;")
        for one in reversed(candidates):
            left = max(1, round(1000 * (deadline - time.monotonic())))
            session.query(f"SET LOCAL statement_timeout = {left};")
            if not FLAGS.one(session.query(_may_be_planned(one)), "psql"):
                continue
            # A condition is an extension's own text.
            rows = session.query(as_values([count_sql(one)]))
            counts[relation_name(one["schema"], one["name"])] = COUNTS.one(rows, "psql")
    return counts


def _may_be_planned(one: Candidate) -> str:
    """SQL that locks a table, so that it keeps its name and its owner, and tells whether a query of it runs nobody's code.

    Anyone may add a table to a trusted extension that they created.
    """
    table = f"{quote_identifier(one['schema'])}.{quote_identifier(one['name'])}"
    look = (
        f"SELECT to_jsonb(COALESCE((SELECT NOT {is_not_planned('c.oid')} FROM pg_class AS c "
        f"WHERE c.oid = to_regclass({quote_literal(table)}) AND c.relkind = 'r'), false));"
    )
    return as_values([f"LOCK TABLE ONLY {table} IN ACCESS SHARE MODE;", look])


def count_sql(one: Candidate) -> str:
    """SQL that counts a relation's rows which a restore does not bring back.

    What an extension's own script has put into its tables comes back with it. Such a row bears the number of a transaction in
    which a script of the extension ran, as do the functions and the like that it made; tables may have been added by anyone.
    Rows that are older than every member came with an upgrade of the server: of those, an extension that names a condition
    excludes its own.
    """
    table = f"ONLY {quote_identifier(one['schema'])}.{quote_identifier(one['name'])}"
    if one["oid"] is None:
        return f"SELECT to_jsonb(count(*)) FROM (SELECT FROM {table} LIMIT {MOST_COUNTED + 1}) AS own;"
    members = (
        f"FROM pg_depend AS d WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = {one['oid']} "
        "AND d.deptype = 'e'"
    )
    # A table that is added brings its row type along, and since 2024 the array of that, too (ALTER EXTENSION, extension.c).
    by_scripts = (
        f"SELECT d.xmin::text {members} AND d.classid <> 'pg_class'::regclass AND NOT (d.classid = 'pg_type'::regclass "
        "AND EXISTS (SELECT FROM pg_type AS t LEFT JOIN pg_type AS one ON one.oid = t.typelem "
        "WHERE t.oid = d.objid AND (t.typrelid <> 0 OR one.typrelid <> 0))) "
        f"UNION SELECT e.xmin::text FROM pg_extension AS e WHERE e.oid = {one['oid']}"
    )
    own = f"SELECT ctid AS place FROM {table} WHERE NOT xmin::text = ANY (ARRAY({by_scripts}))"
    if one["condition"]:
        own = (
            f"({own} AND age(xmin) <= (SELECT max(age(d.xmin)) {members})) "
            f"EXCEPT ALL (SELECT ctid FROM {table} {one['condition']}\n)"
        )
    return f"SELECT to_jsonb(count(*)) FROM (SELECT FROM ({own}) AS excluded LIMIT {MOST_COUNTED + 1}) AS own;"


def hidden_words(hidden: Sequence[Sequence[str]], user: str) -> str:
    """Why row-level security stands against a dump, and the way out."""
    names = ", ".join(relation_name(schema, name) for schema, name in hidden[:10])
    at_least = "at least " if len(hidden) >= MOST_RELATIONS else ""
    more = f" and {at_least}{len(hidden) - 10} more" if len(hidden) > 10 else ""
    return (
        f"row-level security hides rows of {names}{more} from {user}, so pg_dump refuses them: let that role see all rows "
        f"(ALTER ROLE {quote_identifier(user)} BYPASSRLS), or back up as a superuser."
    )
