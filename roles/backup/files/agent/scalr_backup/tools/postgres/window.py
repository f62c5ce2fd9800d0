# SPDX-License-Identifier: GPL-3.0-or-later
"""A moment in which a new database stands under its final name, for what can be done only there.

It is one script for one psql: once begun, it needs nobody, and ends with the names as they were, whatever happens to
who started it. It stays where it is, and a second psql works in the new database: one that leaves its connection may get no
other, and ends. Only the end of the server or of psql itself can come between; then the journal and the names tell what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from scalr_backup.core.sql import connection_string, quote_identifier, quote_literal
from scalr_backup.tools.postgres.queries import MAY_END
from scalr_backup.tools.postgres.session import PSQL, SETTLE
from scalr_backup.tools.postgres.statements import as_values

# What its sessions are called beside their run, which has others at work meanwhile.
MOMENT = "moment"
# How often a rename is tried while others are connected: each try ends them first, and then waits 5 s for the last.
_TRIES = 12
_WAIT_MILLISECONDS = 10 * 1000
# What the second psql comes to where nothing is wrong.
DONE = "done"
# It tries for half a minute to be let in, for which psql has an exit code: all connections may be taken.
_WORK = (
    "left=30; while said=$(printf '%s\\n' \"$SCALR_BACKUP_SQL\" | "
    f'{" ".join(PSQL)} --set=VERBOSITY=verbose --set=oid="$SCALR_BACKUP_OID" --dbname="$SCALR_BACKUP_THERE" '
    "2>&1 >/dev/null); code=$?; [ $code = 2 ] && [ $left -gt 0 ]; do left=$((left - 1)); sleep 1; done; "
    f"if [ $code = 0 ]; then echo {DONE}; else printf '%s' \"$said\"; fi"
)
# By the time that it is let in, the name may be another database's.
_WHERE = (
    "SELECT CAST(CASE WHEN oid = :oid THEN '1' ELSE 'another database has the name' END AS integer) "
    "FROM pg_database WHERE datname = current_database();\n"
)


def window_script(live: str, new: str, aside: str | None, statements: Sequence[str]) -> str:
    """Rename *live* to *aside* and *new* to *live*, run the statements there, and rename both back.

    *aside* is None where there is no live database. The new one lets in whom it lets in under its own name. The script
    prints one JSON document: whether the names were changed and are back, and what the statements came to.
    """
    forth = _renames([*([(live, aside)] if aside else []), (new, live)])
    back = _renames([(live, new), *([(aside, live)] if aside else [])])
    names = [live, new, *([aside] if aside else [])]
    work = f"{SETTLE}{_WHERE}{as_values(statements)}"
    answer = "SELECT jsonb_build_object('changed', true, 'back', :'done' = 't', 'said', {});\n"
    script = [
        "\\set ON_ERROR_STOP off\n",
        f"SELECT oid AS new_oid FROM pg_database WHERE datname = {quote_literal(new)} \\gset\n",
        _until(_is_there(new, gone=True), names, forth),
        "\\if :done\n",
        f"\\setenv SCALR_BACKUP_THERE {_quoted(connection_string(live))}\n",
        f"\\setenv SCALR_BACKUP_OID :new_oid\n\\setenv SCALR_BACKUP_SQL {_quoted(work)}\n",
        f"\\set said `{_WORK}`\n",
        _until(_is_there(new, gone=False), names, back),
        # Its words may be in an encoding that this session does not have.
        f"{answer.format(':' + quote_literal('said'))}\\if :ERROR\n{answer.format(quote_literal('it failed'))}\\endif\n",
        "\\else\nSELECT jsonb_build_object('changed', false, 'back', true, 'said', :'LAST_ERROR_MESSAGE');\n\\endif\n",
        "\\set ON_ERROR_STOP on\n",
    ]
    return "".join(script)


def _quoted(text: str) -> str:
    """A text as an argument of psql's own commands, on one line."""
    for character, escaped in (("\\", "\\\\"), ("'", "''"), ("\n", "\\n")):
        text = text.replace(character, escaped)
    return f"'{text}'"


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
