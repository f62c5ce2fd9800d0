# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables on whose indexes or statistics somebody's code hangs, or may at any moment, that the server runs for whoever plans a query.

To plan one, the server computes what is constant in a table's index expressions, index conditions and statistics (``plancat.c``):
a function that the owner of a table has made and called immutable would run with the backup's rights, a superuser's as a rule,
and no privilege, transaction or search path keeps it from what that role may do. COPY of a table plans nothing.

Only what a superuser owns counts as an extension's own: since PostgreSQL 13, anyone who may create in a database owns the
trusted extensions made there, and may add functions to them; what their scripts make belongs to the superuser.

The catalogs tell of a snapshot, but a plan is made by what there is at the moment, and the owner of a table needs no lock that
would wait for its readers to give it an index or statistics.
"""

from __future__ import annotations

# src/include/access/transam.h: what the server itself brought lies below.
_FIRST_NORMAL_OID = 16384

# Whose code may run with this session's rights: who has them already. The role pg_database_owner is the database's owner.
_TRUSTED = """(
    SELECT r.oid FROM pg_roles AS r
    WHERE r.rolsuper OR r.rolname = current_user
       OR r.rolname = 'pg_database_owner' AND EXISTS (
         SELECT FROM pg_database AS d JOIN pg_roles AS o ON o.oid = d.datdba
         WHERE d.datname = current_database() AND (o.rolsuper OR o.rolname = current_user)))"""
# An operator that a superuser owns may still call somebody else's function.
_OF_A_SUPERUSER = """CASE WHEN d.refclassid = 'pg_proc'::regclass
         THEN (SELECT owner.rolsuper FROM pg_proc AS p JOIN pg_roles AS owner ON owner.oid = p.proowner WHERE p.oid = d.refobjid)
         ELSE (SELECT bool_and(owner.rolsuper) FROM pg_operator AS o JOIN pg_proc AS p ON p.oid = o.oprcode
               JOIN pg_roles AS owner ON owner.oid IN (o.oprowner, p.proowner) WHERE o.oid = d.refobjid) END"""


def has_foreign_code(table: str) -> str:
    """The SQL condition of a table, by an expression of its oid, in a query whose search path is ``pg_catalog``.

    The expression may name ``c`` or ``s``, and nothing in here is called so.
    """
    return f"""EXISTS (
    SELECT FROM pg_depend AS d
    WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= {_FIRST_NORMAL_OID}
      AND (d.classid = 'pg_class'::regclass AND d.objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = {table})
           OR d.classid = 'pg_statistic_ext'::regclass
              AND d.objid IN (SELECT oid FROM pg_statistic_ext WHERE stxrelid = {table}))
      AND NOT (COALESCE({_OF_A_SUPERUSER}, false)
               AND EXISTS (SELECT FROM pg_depend AS e
                           WHERE e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e')))"""


def may_get_foreign_code(table: str) -> str:
    """The same, of a table that another role may give such an index while it is read, or in whose place it may put another.

    An index of a partitioned table comes to all its partitions, whoever owns them, and the owner of a schema may rename it: its name
    then leads to what is made under it. A table itself keeps its name and its owner while it is locked.
    """
    return f"""(
    EXISTS (SELECT FROM pg_class AS one JOIN pg_namespace AS its ON its.oid = one.relnamespace
            WHERE one.oid = {table} AND NOT (one.relowner IN {_TRUSTED} AND its.nspowner IN {_TRUSTED}))
    OR EXISTS (SELECT FROM pg_class AS above WHERE above.relowner NOT IN {_TRUSTED}
               AND above.oid IN (SELECT pg_partition_ancestors({table}::regclass))))"""


def is_not_planned(table: str) -> str:
    """The same, of a table of which a session that others work beside plans no query."""
    return f"({has_foreign_code(table)} OR {may_get_foreign_code(table)})"
