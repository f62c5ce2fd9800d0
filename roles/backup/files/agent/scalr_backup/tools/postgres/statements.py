# SPDX-License-Identifier: GPL-3.0-or-later
r"""Statements on their way to a server without psql reading them.

psql takes a backslash outside of quotes for one of its own commands, ``\!`` among them, which runs a shell; what is a
quote depends on settings and encodings. So it is shown no statement: only the digits of its bytes, in a query of ours whose
result, ``\gexec`` hands to the server as it comes (PostgreSQL documentation, psql). Nothing in that result is a command.
"""

from __future__ import annotations

from collections.abc import Iterable

from scalr_backup.core.text import encoded

# The session's own encoding on both ways: the server gets the bytes that it would have got.
_RUN = "SELECT pg_catalog.convert_from(pg_catalog.decode('{digits}', 'hex'), pg_catalog.pg_client_encoding()) \\gexec\n"


def as_values(statements: Iterable[str]) -> str:
    """Input for psql that has the server run these, one after the other, each in its own transaction unless one begins one."""
    return "".join(_RUN.format(digits=encoded(statement).hex()) for statement in statements)
