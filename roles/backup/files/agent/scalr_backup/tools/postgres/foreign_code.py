# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables on whose indexes or statistics somebody's code hangs that the server runs for whoever plans a query of them.

To plan one, the server computes what is constant in a table's index expressions, index conditions and statistics (``plancat.c``):
a function that the owner of a table has made and called immutable would run with the backup's rights, a superuser's as a rule,
and no privilege, transaction or search path keeps it from what that role may do. What an extension brought counts as the
server's own, as only those make extensions that may make such functions anyway. COPY of a table plans nothing.
"""

from __future__ import annotations

# src/include/access/transam.h: what the server itself brought lies below.
_FIRST_NORMAL_OID = 16384


def has_foreign_code(table: str) -> str:
    """The SQL condition of a table, by an expression of its oid, in a query whose search path is ``pg_catalog``."""
    return f"""EXISTS (
    SELECT FROM pg_depend AS d
    WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= {_FIRST_NORMAL_OID}
      AND (d.classid = 'pg_class'::regclass AND d.objid IN (SELECT indexrelid FROM pg_index WHERE indrelid = {table})
           OR d.classid = 'pg_statistic_ext'::regclass
              AND d.objid IN (SELECT oid FROM pg_statistic_ext WHERE stxrelid = {table}))
      AND NOT EXISTS (SELECT FROM pg_depend AS e
                      WHERE e.classid = d.refclassid AND e.objid = d.refobjid AND e.deptype = 'e'))"""
