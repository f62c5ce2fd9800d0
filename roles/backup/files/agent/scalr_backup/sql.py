# SPDX-License-Identifier: GPL-3.0-or-later
"""Quoting, by PostgreSQL's rules (documentation, "Lexical Structure" and "Connection Strings")."""

from __future__ import annotations


def quote_identifier(name: str) -> str:
    """*name* as a quoted identifier, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """*text* as a string constant that reads the same whatever ``standard_conforming_strings`` says."""
    escaped = text.replace("'", "''")
    if "\\" in escaped:
        return " E'" + escaped.replace("\\", "\\\\") + "'"
    return "'" + escaped + "'"


def connection_string(database: str) -> str:
    """A connection string for a database whose name may look like an option or a connection string."""
    return "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"
