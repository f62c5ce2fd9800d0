# SPDX-License-Identifier: GPL-3.0-or-later
"""Quoting and its reverse, by PostgreSQL's rules (documentation, "Lexical Structure", "Connection Strings")."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# PostgreSQL's NAMEDATALEN less one: a longer name is cut off, by its own rules.
NAME_BYTES = 63

# What stands in a script of pg_dump or pg_dumpall: white space and comments, psql's own commands (outside quotes a
# backslash begins nothing else), quoted identifiers, string constants, words, and single characters. These programs
# write no dollar quotes where a script is read here.
_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<aside>--[^\n]*|\\[^\n]*)
    | "(?:[^"]|"")*"
    | [Ee]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | \w+
    | .
    """,
    re.DOTALL | re.VERBOSE,
)

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement: its text, which ends with a semicolon, and its words, quotes and all.

    It may hold a password, so that its repr shows nothing of it.
    """

    text: str = field(repr=False)
    words: tuple[str, ...] = field(repr=False)


def split_statements(script: str, *, asides: bool = True) -> Iterator[Statement]:
    """The statements of a script that pg_dump or pg_dumpall wrote, without comments and psql's own commands.

    Raises ValueError, which says nothing of the script's text, where it ends within a quotation or a statement, and, without
    *asides*, at a comment or a command: the texts in an archive have none.
    """
    pieces: list[str] = []
    words: list[str] = []
    for token in _TOKEN.finditer(script):
        text, kind = token.group(), token.lastgroup
        if kind == "aside" and not asides:
            raise ValueError(f"there is a comment or a psql command at character {token.start() + 1}")
        if kind == "aside" or (kind == "space" and not words):
            continue
        if text in {"'", '"'}:
            raise ValueError(f"the quote at character {token.start() + 1} is not closed")
        pieces.append(text)
        if text == ";":
            yield Statement("".join(pieces), tuple(words))
            pieces, words = [], []
        elif kind != "space":
            words.append(text)
    if words:
        raise ValueError("the last statement is not terminated")


def unquote_identifier(word: str) -> str:
    """The name that an identifier stands for, as pg_dump and pg_dumpall write it: quoted, or in lower case."""
    if word.startswith('"'):
        return word[1:-1].replace('""', '"')
    return word


def quote_identifier(name: str) -> str:
    """*name* as a quoted identifier, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def shown_identifier(name: str) -> str:
    """*name* as people write it in a sentence: quoted only where it would be read as another."""
    return name if _PLAIN_NAME.match(name) else quote_identifier(name)


def quote_literal(text: str) -> str:
    """*text* as a string constant that reads the same whatever ``standard_conforming_strings`` says."""
    escaped = text.replace("'", "''")
    if "\\" in escaped:
        return " E'" + escaped.replace("\\", "\\\\") + "'"
    return "'" + escaped + "'"


def connection_string(database: str) -> str:
    """A connection string for a database whose name may look like an option or a connection string."""
    return "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"


def cut_name(database: str, suffix: str) -> str:
    """A database's name with a suffix, cut to PostgreSQL's length between characters.

    A cut name carries a hash of the whole one: long names that begin alike stay apart.
    """
    encoded = database.encode("utf-8", "surrogateescape")
    if len(encoded) > NAME_BYTES - len(suffix):
        suffix = f"_{hashlib.sha256(encoded).hexdigest()[:6]}{suffix}"
    return encoded[: NAME_BYTES - len(suffix)].decode("utf-8", "ignore") + suffix
