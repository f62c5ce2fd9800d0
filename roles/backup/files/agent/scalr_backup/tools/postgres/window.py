# SPDX-License-Identifier: GPL-3.0-or-later
"""A moment in which a new database stands under its final name, for what can be done only there.

It is one script for one psql: once begun, it needs nobody, and ends with the names as they were, whatever happens to
who started it. Only the end of the server or of psql itself can come between; then the names tell what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from scalr_backup.core.sql import connection_string, quote_identifier, quote_literal
from scalr_backup.tools.postgres.queries import MAY_END

# How often a rename is tried while others are connected: each try ends them first, and then waits 5 s for the last.
_TRIES = 12
_WAIT_MILLISECONDS = 10 * 1000


def window_script(
    live: str, new: str, aside: str | None, home: str, statements: Sequence[str], *, guarded: bool
) -> str:
    """Rename *live* to *aside* and *new* to *live*, run the statements there, and rename both back.

    *aside* is None where there is no live database. While it is *guarded*, nobody but superusers is let in. The script
    prints one JSON document: whether the names were changed and are back, and the first error of the statements.
    """
    forth = _renames([*([(live, aside)] if aside else []), (new, live)])
    back = _renames([(live, new), *([(aside, live)] if aside else [])])
    limit = "ALTER DATABASE {} CONNECTION LIMIT {};\n"
    close = limit.format(quote_identifier(live), 0) if guarded else ""
    reopen = limit.format(quote_identifier(new), -1) if guarded else ""
    names = [live, new, *([aside] if aside else [])]
    script = [
        "\\set ON_ERROR_STOP off\n\\set failed ''\n",
        f"SELECT {quote_literal(connection_string(live))} AS there, {quote_literal(connection_string(home))} AS home \\gset\n",
        _until(_is_there(new, gone=True), names, f"{forth}{close}"),
        "\\if :done\n\\connect -reuse-previous=on :there\n",
        *(f"{statement};\n\\if :ERROR\n\\set failed :LAST_ERROR_MESSAGE\n\\endif\n" for statement in statements),
        "\\connect -reuse-previous=on :home\n",
        _until(_is_there(new, gone=False), names, f"{back}{reopen}"),
        "SELECT jsonb_build_object('changed', true, 'back', :'done' = 't', 'failed', :'failed');\n",
        "\\else\nSELECT jsonb_build_object('changed', false, 'back', true, 'failed', :'LAST_ERROR_MESSAGE');\n\\endif\n",
        "\\set ON_ERROR_STOP on\n",
    ]
    return "".join(script)


def _renames(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f"ALTER DATABASE {quote_identifier(one)} RENAME TO {quote_identifier(other)};\n" for one, other in pairs
    )


def _is_there(name: str, *, gone: bool) -> str:
    word = "NOT EXISTS" if gone else "EXISTS"
    return f"SELECT {word} (SELECT FROM pg_database WHERE datname = {quote_literal(name)}) AS done \\gset\n"


def _until(look: str, names: Sequence[str], renames: str) -> str:
    """Try the renames, all or none, until they are done."""
    listed = ", ".join(map(quote_literal, names))
    end = (
        "SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity "
        f"WHERE datname IN ({listed}) AND pid <> pg_backend_pid() AND {MAY_END} \\gset\n"
    )
    once = f"\\if :done\n\\else\n{end}BEGIN;\nSET LOCAL lock_timeout = {_WAIT_MILLISECONDS};\n{renames}COMMIT;\n{look}\\endif\n"
    return "\\set done f\n" + once * _TRIES
