# SPDX-License-Identifier: GPL-3.0-or-later
"""A database as its archive defines it: how it is created, and what it has beside what is in it.

Both are read from the texts of the table of contents into values, and written anew: see ``core/grammar.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scalr_backup.core.grammar import (
    Comment,
    Grant,
    SecurityLabel,
    Setting,
    UnknownStatementError,
    Words,
    literal,
    read_comment,
    read_grant,
    read_security_label,
    read_setting,
    session_authorizations,
)
from scalr_backup.core.sql import Statement, quote_identifier, split_statements

# What pg_dump says of a new database beside its name (``dumpDatabase`` in PostgreSQL's pg_dump.c), in quotes: ENCODING, LOCALE,
# LC_COLLATE, ICU_RULES and the like, each release some more. Of these, none is a text of pg_dump's, and each would change whose
# the database is, what it is a copy of, or who is let in.
_TEXT = re.compile(r"[A-Z][A-Z_]{1,40}\Z")
_NO_TEXTS = frozenset({"TEMPLATE", "OWNER", "OID", "STRATEGY", "IS_TEMPLATE", "ALLOW_CONNECTIONS", "CONNECTION"})
_PROVIDER = re.compile(r"[a-z]{1,20}\Z")


@dataclass(frozen=True)
class DatabaseDefinition:
    """How an empty database like the archive's is created: encoding and locale by their options, and the tablespace.

    It is always a copy of ``template0``, which holds nothing of anybody's.
    """

    options: tuple[tuple[str, str], ...]
    tablespace: str | None = None

    def create(self, name: str, owner: str | None = None, *, with_tablespace: bool = True, closed: bool = False) -> str:
        """The statement; to one that is *closed*, nobody but a superuser can connect."""
        said = [f"{option} = {value}" for option, value in self.options]
        if self.tablespace is not None and with_tablespace:
            said.append(f"TABLESPACE = {quote_identifier(self.tablespace)}")
        if owner is not None:
            said.append(f"OWNER = {quote_identifier(owner)}")
        if closed:
            said.append("CONNECTION LIMIT = 0")
        return (
            f"CREATE DATABASE {quote_identifier(name)} WITH TEMPLATE = template0{''.join(f' {one}' for one in said)};"
        )


@dataclass(frozen=True)
class Limit:
    """How many sessions a database may have, or whether it is a template."""

    option: str
    value: str


@dataclass(frozen=True)
class DatabaseSetting:
    """A setting of a database, or of one role in it."""

    setting: Setting
    role: str | None = None

    def whose(self, database: str) -> str:
        """Whose it is in a database of this name, as statements say it."""
        name = f"DATABASE {quote_identifier(database)}"
        return name if self.role is None else f"ROLE {quote_identifier(self.role)} IN {name}"


@dataclass(frozen=True)
class Granted:
    """A privilege on a database, and who has granted it where that is not the owner."""

    grant: Grant
    by: str | None = None


Property = Comment | SecurityLabel | Granted | Limit | DatabaseSetting


def read_definition(text: str, *, escapes: bool) -> DatabaseDefinition:
    """The definition that ``CREATE DATABASE`` in an archive gives.

    An option that only a newer release knows is written anew like the others, if it is a text: a server that does not know it
    refuses it. Raises ValueError, which says nothing of the text, where it is none that pg_dump writes.
    """
    statements = list(split_statements(text, asides=False))
    if len(statements) != 1:
        raise UnknownStatementError(f"it has {len(statements)} statements")
    words = Words(statements[0], escapes=escapes)
    words.need("CREATE", "DATABASE")
    words.identifier()
    words.need("WITH", "TEMPLATE", "=", "template0")
    options: dict[str, str] = {}
    tablespace: str | None = None
    while words.are_left:
        option = words.next()
        if not _TEXT.match(option) or option in _NO_TEXTS:
            raise UnknownStatementError("it has an option that is not known")
        words.need("=")
        if option in options or tablespace is not None:
            raise UnknownStatementError("an option is repeated, or follows the tablespace")
        if option == "TABLESPACE":
            tablespace = words.identifier()
        elif option == "LOCALE_PROVIDER":
            options[option] = words.next()
            if not _PROVIDER.match(options[option]):
                raise UnknownStatementError("its locale provider is invalid")
        else:
            options[option] = literal(words.literal())
    return DatabaseDefinition(tuple(options.items()), tablespace)


def read_properties(text: str, *, escapes: bool) -> list[Property]:
    """What a text of an archive says of its database: a comment, labels, privileges, limits or settings.

    Raises ValueError, which says nothing of the text, where pg_dump says nothing like it of a database.
    """
    statements = list(split_statements(text, asides=False))
    return [_read(statement, by, escapes) for by, statement in session_authorizations(statements)]


def read_known_properties(text: str, *, escapes: bool) -> tuple[list[Property], list[str]]:
    """The same, statement by statement: what is known, and why the others are not.

    Raises ValueError where the text cannot be told apart into statements, or who says them is not known.
    """
    known: list[Property] = []
    unknown: list[str] = []
    said = list(session_authorizations(list(split_statements(text, asides=False))))
    for number, (by, statement) in enumerate(said, start=1):
        try:
            known.append(_read(statement, by, escapes))
        except ValueError as error:
            unknown.append(f", statement {number}: {error}" if len(said) > 1 else f": {error}")
    return known, unknown


def _read(statement: Statement, by: str | None, escapes: bool) -> Property:
    words = Words(statement, escapes=escapes)
    match statement.words[:1]:
        case ("COMMENT",):
            return read_comment(words, "DATABASE")[0]
        case ("SECURITY",):
            return read_security_label(words, "DATABASE")[0]
        case ("GRANT" | "REVOKE",):
            return Granted(read_grant(words, "DATABASE")[0], by)
    if words.take("ALTER", "ROLE"):
        role = words.identifier()
        words.need("IN", "DATABASE")
        words.identifier()
        return DatabaseSetting(read_setting(words), role)
    words.need("ALTER", "DATABASE")
    words.identifier()
    if words.take("CONNECTION", "LIMIT", "="):
        limit = Limit("CONNECTION LIMIT", str(words.integer()))
    elif words.take("IS_TEMPLATE", "="):
        limit = Limit("IS_TEMPLATE", words.one_of(("true", "false")))
    else:
        return DatabaseSetting(read_setting(words))
    words.end()
    return limit


def statements_of(properties: Sequence[Property], name: str) -> Iterator[str]:
    """The statements that give a database called *name* these properties."""
    database = f"DATABASE {quote_identifier(name)}"
    for one in properties:
        if isinstance(one, Comment | SecurityLabel):
            yield one.on(database)
        elif isinstance(one, Limit):
            yield f"ALTER {database} {one.option} = {one.value};"
        elif isinstance(one, DatabaseSetting):
            yield one.setting.of(one.whose(name))
        elif one.by is None:
            yield one.grant.on(database)
        else:
            yield f"SET SESSION AUTHORIZATION {quote_identifier(one.by)};"
            yield one.grant.on(database)
            yield "RESET SESSION AUTHORIZATION;"
