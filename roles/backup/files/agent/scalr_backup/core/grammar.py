# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements of a dump, read into values and written anew: what is said of databases, roles and extensions.

Whoever may write to a repository may have written anything there. So no text of an archive or of a manifest is run as it
stands: it is read by what is allowed to stand in it, and what is run is made of the values, in quotes of our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from scalr_backup.core.sql import Statement, quote_identifier, quote_literal, unquote_identifier
from scalr_backup.core.text import encoded

_WORD = re.compile(r"\w+\Z")
# PostgreSQL's.
_LARGEST_INTEGER = 2**31 - 1
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
# All that may be granted on a database or on a setting (PostgreSQL documentation, "Privileges").
_PRIVILEGES = {
    "DATABASE": frozenset({"ALL", "CREATE", "CONNECT", "TEMPORARY", "TEMP"}),
    "PARAMETER": frozenset({"ALL", "SET", "ALTER SYSTEM"}),
}
# Settings that name code which a session loads or runs; each also with a prefix of its language, such as pltcl.start_proc.
_LOADS_CODE = re.compile(
    r".*(?:preload_libraries|library_path|_library|_command|provider|control_path"
    r"|\.(?:on_\w*init|start_proc|boot_proc|\w*class_?path|vmoptions|libjvm_location))\Z",
    re.IGNORECASE,
)


class UnknownStatementError(ValueError):
    """A statement is none of those that may stand where it stands; says nothing of its text."""


class Words:
    """The words of one statement, taken one after the other.

    With *escapes*, a backslash in a plain constant begins an escape, as it did where
    ``standard_conforming_strings`` was off.
    """

    def __init__(self, statement: Statement, *, escapes: bool = False) -> None:
        self._words = statement.words
        self._escapes = escapes
        self._place = 0

    @property
    def keywords(self) -> tuple[str, ...]:
        """The first two words as they stand."""
        return self._words[:2]

    def hold(self, keyword: str) -> bool:
        """Whether this keyword is among the words."""
        return keyword in self._words

    def take(self, *keywords: str) -> bool:
        """Go beyond these keywords where they are next; whether they were."""
        end = self._place + len(keywords)
        if self._words[self._place : end] != keywords:
            return False
        self._place = end
        return True

    def need(self, *keywords: str) -> None:
        """Go beyond these keywords. Raises UnknownStatementError where they are not next."""
        if not self.take(*keywords):
            raise UnknownStatementError(f"{' '.join(keywords)} is not where it should be")

    def next(self) -> str:
        """The next word as it stands."""
        if self._place >= len(self._words):
            raise UnknownStatementError("it ends too early")
        self._place += 1
        return self._words[self._place - 1]

    def one_of(self, allowed: Iterable[str]) -> str:
        """The next word, one of these. Raises UnknownStatementError."""
        word = self.next()
        if word not in allowed:
            raise UnknownStatementError("it has an option that is not known")
        return word

    def identifier(self) -> str:
        """The name that is next."""
        word = self.next()
        if word.startswith('"') and len(word) > 2:
            return _whole(unquote_identifier(word))
        if not _WORD.match(word):
            raise UnknownStatementError("there is no name where one should be")
        return _whole(word)

    def literal(self) -> str:
        """The text of the string constant that is next."""
        word = self.next()
        has_escapes = word[:1] in {"E", "e"}
        word = word[1:] if has_escapes else word
        if len(word) < 2 or not word.startswith("'"):
            raise UnknownStatementError("there is no string where one should be")
        text = word[1:-1].replace("''", "'")
        if not (has_escapes or self._escapes):
            return _whole(text)
        # pg_dump escapes nothing else.
        if any(one not in "\\'" for one in _ESCAPED.findall(text)):
            raise UnknownStatementError("a string has an escape that pg_dump does not write")
        return _whole(_ESCAPED.sub(r"\1", text))

    def integer(self) -> int:
        """The whole number that is next."""
        sign = -1 if self.take("-") else 1
        word = self.next()
        if not re.fullmatch("[0-9]{1,10}", word) or int(word) > _LARGEST_INTEGER:
            raise UnknownStatementError("there is no number where one should be")
        return sign * int(word)

    @property
    def are_left(self) -> bool:
        """Whether any word is left."""
        return self._place < len(self._words)

    def end(self) -> None:
        """Raises UnknownStatementError where a word is left."""
        if self.are_left:
            raise UnknownStatementError("it continues where it should end")


@dataclass(frozen=True)
class Setting:
    """A setting that a role or a database has; a list of values, of which most settings have one. None is ``NULL``."""

    name: str
    values: tuple[str, ...]

    def of(self, whose: str) -> str:
        """The statement that gives it to *whose*, such as ``ROLE "app"``."""
        return f"ALTER {whose} SET {quote_identifier(self.name)} TO {', '.join(map(literal, self.values)) or 'NULL'};"

    @property
    def loads_code(self) -> bool:
        """Whether it names code that sessions load or run."""
        return _LOADS_CODE.match(self.name) is not None


@dataclass(frozen=True)
class Comment:
    """What an object is said to be; ``NULL`` where it is said to be nothing."""

    text: str | None

    def on(self, what: str) -> str:
        """The statement, on *what*, such as ``DATABASE "shop"``."""
        return f"COMMENT ON {what} IS {'NULL' if self.text is None else literal(self.text)};"


@dataclass(frozen=True)
class SecurityLabel:
    """What a provider of security labels says of an object."""

    provider: str
    text: str

    def on(self, what: str) -> str:
        """The statement, on *what*, such as ``DATABASE "shop"``."""
        return f"SECURITY LABEL FOR {quote_identifier(self.provider)} ON {what} IS {literal(self.text)};"


@dataclass(frozen=True)
class Grant:
    """Privileges that one role gets or loses; of PUBLIC, which is no role, where there is none."""

    privileges: tuple[str, ...]
    role: str | None
    takes_away: bool = False
    # With it, or where they are taken away it alone.
    option: bool = False

    def on(self, what: str) -> str:
        """The statement, on *what*, such as ``DATABASE "shop"``."""
        privileges, role = ", ".join(self.privileges), "PUBLIC" if self.role is None else quote_identifier(self.role)
        if self.takes_away:
            return f"REVOKE {'GRANT OPTION FOR ' if self.option else ''}{privileges} ON {what} FROM {role};"
        return f"GRANT {privileges} ON {what} TO {role}{' WITH GRANT OPTION' if self.option else ''};"


@dataclass(frozen=True)
class Membership:
    """*member* is a member of *role*; ``options`` are those that are said, such as ``ADMIN OPTION``."""

    role: str
    member: str
    options: tuple[str, ...] = ()
    grantor: str | None = None

    @property
    def admin(self) -> bool:
        """Whether the member may grant this on."""
        return any(one in {"ADMIN OPTION", "ADMIN TRUE"} for one in self.options)

    @property
    def statement(self) -> str:
        """The statement. A server may refuse it because of the grantor, who does not exist or may not grant this role."""
        grantor = "" if self.grantor is None else f" GRANTED BY {quote_identifier(self.grantor)}"
        return f"{self._without_end}{grantor};"

    @property
    def without_grantor(self) -> str:
        """The same without a grantor; the user who runs it becomes one."""
        return f"{self._without_end};"

    @property
    def _without_end(self) -> str:
        options = f" WITH {', '.join(self.options)}" if self.options else ""
        return f"GRANT {quote_identifier(self.role)} TO {quote_identifier(self.member)}{options}"


@dataclass(frozen=True)
class Attributes:
    """What ``ALTER ROLE … WITH`` says of a role; the password is in no repr. ``unknown`` were passed over."""

    flags: tuple[str, ...] = ()
    connection_limit: int | None = None
    valid_until: str | None = None
    password: str | None = field(default=None, repr=False)
    unknown: tuple[str, ...] = ()


_FLAGS = frozenset(
    f"{no}{flag}"
    for no in ("", "NO")
    for flag in ("SUPERUSER", "INHERIT", "CREATEROLE", "CREATEDB", "LOGIN", "REPLICATION", "BYPASSRLS")
)


def literal(text: str) -> str:
    """A text as a string constant, where a space or a parenthesis stands before it."""
    return quote_literal(text).lstrip()


def read_setting(words: Words) -> Setting:
    """``SET name TO value, …``, to the end of the statement."""
    words.need("SET")
    name = words.identifier()
    while words.take("."):
        name = f"{name}.{words.identifier()}"
    words.need("TO")
    if words.take("NULL"):
        words.end()
        return Setting(name, ())
    values = [words.literal()]
    while words.take(","):
        values.append(words.literal())
    words.end()
    return Setting(name, tuple(values))


def read_comment(words: Words, kind: str) -> tuple[Comment, str]:
    """``COMMENT ON kind name IS …``, and the name, to the end of the statement."""
    words.need("COMMENT", "ON", kind)
    name = words.identifier()
    words.need("IS")
    text = None if words.take("NULL") else words.literal()
    words.end()
    return Comment(text), name


def read_security_label(words: Words, kind: str) -> tuple[SecurityLabel, str]:
    """``SECURITY LABEL FOR provider ON kind name IS …``, and the name, to the end of the statement."""
    words.need("SECURITY", "LABEL", "FOR")
    provider = words.identifier()
    words.need("ON", kind)
    name = words.identifier()
    words.need("IS")
    text = words.literal()
    words.end()
    return SecurityLabel(provider, text), name


def read_grant(words: Words, kind: str) -> tuple[Grant, str]:
    """``GRANT … ON kind name TO role`` or ``REVOKE … FROM role``; and the name, to the end of the statement."""
    takes_away = not words.take("GRANT")
    if takes_away:
        words.need("REVOKE")
    option = takes_away and words.take("GRANT", "OPTION", "FOR")
    privileges = [_privilege(words, kind)]
    while words.take(","):
        privileges.append(_privilege(words, kind))
    words.need("ON", kind)
    name = words.identifier()
    while words.take("."):
        name = f"{name}.{words.identifier()}"
    words.need("FROM" if takes_away else "TO")
    role = None if words.take("PUBLIC") else words.identifier()
    if not takes_away:
        option = words.take("WITH", "GRANT", "OPTION")
    words.end()
    return Grant(tuple(privileges), role, takes_away, option), name


def _privilege(words: Words, kind: str) -> str:
    word = "ALTER SYSTEM" if words.take("ALTER", "SYSTEM") else words.next()
    if word not in _PRIVILEGES[kind]:
        raise UnknownStatementError("it has a privilege that is not known")
    return word


def read_membership(words: Words) -> Membership:
    """``GRANT role TO member WITH … GRANTED BY …``, to the end of the statement."""
    words.need("GRANT")
    role = words.identifier()
    words.need("TO")
    member = words.identifier()
    options: list[str] = []
    if words.take("WITH"):
        options.append(_option(words))
        while words.take(","):
            options.append(_option(words))
    grantor = words.identifier() if words.take("GRANTED", "BY") else None
    words.end()
    return Membership(role, member, tuple(options), grantor)


def _option(words: Words) -> str:
    return f"{words.one_of(('ADMIN', 'INHERIT', 'SET'))} {words.one_of(('OPTION', 'TRUE', 'FALSE'))}"


def read_attributes(words: Words) -> Attributes:
    """What follows ``ALTER ROLE name WITH``, to the end of the statement."""
    flags: list[str] = []
    unknown: list[str] = []
    limit = until = password = None
    while words.are_left:
        if words.take("CONNECTION", "LIMIT"):
            limit = words.integer()
        elif words.take("PASSWORD"):
            password = words.literal()
        elif words.take("VALID", "UNTIL"):
            until = words.literal()
        elif (word := words.next()) in _FLAGS:
            flags.append(word)
        elif _WORD.match(word):
            unknown.append(word)
        else:
            raise UnknownStatementError("it has an option that is not known")
    return Attributes(tuple(flags), limit, until, password, tuple(unknown))


def read_extension(words: Words) -> str:
    """``CREATE EXTENSION …``, to the end of the statement; the same anew, without its end."""
    words.need("CREATE", "EXTENSION")
    words.take("IF", "NOT", "EXISTS")
    name = words.identifier()
    schema = f" WITH SCHEMA {quote_identifier(words.identifier())}" if words.take("WITH", "SCHEMA") else ""
    words.end()
    return f"CREATE EXTENSION IF NOT EXISTS {quote_identifier(name)}{schema}"


def session_authorizations(statements: Sequence[Statement]) -> Iterator[tuple[str | None, Statement]]:
    """The statements without those that say who runs them, each with who that is where it is said."""
    who: str | None = None
    for statement in statements:
        words = Words(statement)
        if words.take("SET", "SESSION", "AUTHORIZATION"):
            who = words.identifier()
            words.end()
        elif words.take("RESET", "SESSION", "AUTHORIZATION"):
            who = None
            words.end()
        else:
            yield who, statement


def _whole(text: str) -> str:
    """A name or a text as it is, if a server can have it."""
    if "\0" in text:
        raise UnknownStatementError("there is a NUL in it")
    try:
        encoded(text)
    except UnicodeEncodeError:
        # Half of a character, as JSON can spell it.
        raise UnknownStatementError("it has an invalid character") from None
    return text
