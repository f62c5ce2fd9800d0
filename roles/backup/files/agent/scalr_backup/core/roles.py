# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of a cluster, out of what ``pg_dumpall --globals-only`` of PostgreSQL 15 to 18 writes.

A dump of one database names roles and does not hold them: the manifest of its pass does. What it says of the roles that a
target lacks is read, and the statements that make them are written anew (``core/grammar.py``): nothing is run as it stands in
a manifest, what is not known here is told, and a role that exists is never touched.

The statements of a role hold the hash of its password. They are in no repr and in no error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from scalr_backup.core.archive.head import ArchiveError, ArchiveHead, TocEntry
from scalr_backup.core.errors import ScalrBackupError
from scalr_backup.core.grammar import (
    Attributes,
    Membership,
    Setting,
    UnknownStatementError,
    Words,
    literal,
    read_attributes,
    read_comment,
    read_grant,
    read_membership,
    read_security_label,
    read_setting,
)
from scalr_backup.core.sql import Statement, quote_identifier, split_statements, unquote_identifier

# PUBLIC is nobody's name: PostgreSQL reserves it, in any case.
_PUBLIC = "public"

# Words in the texts of a table of contents after which a role's name stands, or several with commas. pg_dump writes
# keywords in upper case and quotes every name in upper case, so that no name looks like one of them. Expressions
# and lists of columns stand in parentheses, and are passed over.
_ROLES_FOLLOW = {
    "ACL": {"TO", "FROM", "AUTHORIZATION"},
    "DEFAULT ACL": {"TO", "FROM", "AUTHORIZATION", "ROLE"},
    "POLICY": {"TO"},
    "USER MAPPING": {"FOR"},
    # ALTER ROLE … IN DATABASE … SET
    "DATABASE PROPERTIES": {"ROLE"},
}


# What a new role is anyway; only a superuser may say so of each.
_OF_A_NEW_ROLE = {"NOSUPERUSER", "NOCREATEROLE", "NOCREATEDB", "NOREPLICATION", "NOBYPASSRLS"}
_KEYWORD = re.compile(r"[A-Z]{1,20}\Z")


class GlobalsError(ScalrBackupError):
    """What should be the roles of a cluster is not a pg_dumpall script."""

    code = "unreadable_globals"


@dataclass(frozen=True)
class Role:
    """One role, and the statements that make it, in their order.

    ``definition`` is CREATE ROLE and ALTER ROLE … WITH its attributes and its password: without them there is no such
    role. ``properties`` are its settings, comment, security labels and privileges on configuration parameters: a
    server of another version, or without a library, may refuse one of them, and the role is as usable without it.
    """

    name: str
    definition: tuple[str, ...] = field(default=(), repr=False)
    properties: tuple[str, ...] = field(default=(), repr=False)
    superuser: bool = False
    login: bool = False
    settings: tuple[Setting, ...] = ()

    @property
    def statements(self) -> tuple[str, ...]:
        """All of them."""
        return self.definition + self.properties


@dataclass(frozen=True)
class Globals:
    """The roles of a cluster by their names, in pg_dumpall's order, and who is a member of what.

    ``not_understood`` has the first words of statements that are not known here, such as ``DROP ROLE``.
    """

    roles: Mapping[str, Role] = field(default_factory=dict)
    memberships: tuple[Membership, ...] = ()
    not_understood: tuple[str, ...] = ()


@dataclass(frozen=True)
class MissingRoles:
    """What a target lacks: first run the roles' definitions, then their properties, then the memberships.

    ``unknown`` are the names that are wanted, do not exist and cannot be made.
    """

    roles: tuple[Role, ...] = ()
    memberships: tuple[Membership, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The roles that can be made, in an order in which they can be made."""
        return tuple(role.name for role in self.roles)


def parse_globals(script: str) -> Globals:
    """Read what ``pg_dumpall --globals-only`` wrote; tablespaces are left out.

    Raises GlobalsError where the script ends too early.
    """
    reader = _Reader()
    try:
        for statement in split_statements(script):
            reader.take(statement)
    except ValueError as error:
        raise GlobalsError(f"The roles of the backed-up cluster cannot be read: {error}.") from None
    return Globals(reader.roles, tuple(reader.memberships), tuple(reader.not_understood))


def named_roles(head: ArchiveHead) -> frozenset[str]:
    """The roles that a restore of the archive names: owners, and those in privileges, policies and settings.

    PostgreSQL's own, such as ``pg_monitor``, are among them where they are named. Raises ArchiveError where a text
    of the archive is not one that pg_dump writes.
    """
    names = set(head.owners)
    for entry in head.entries:
        try:
            names |= _roles_in(entry)
        except ValueError as error:
            raise ArchiveError(f"The roles that {entry.label} names cannot be read: {error}.", head.length) from None
    return frozenset(names)


def needed_roles(source: Globals, head: ArchiveHead) -> frozenset[str]:
    """The roles that the archive names, and those that belong to them by membership, however indirect.

    That is the roles whose privileges they have, and their members: a login role that owns nothing may work
    through nothing but its membership. PostgreSQL's own roles connect nobody: whoever is a member of
    ``pg_monitor`` has nothing to do with the other members.
    """
    connected: dict[str, set[str]] = {}
    for membership in source.memberships:
        if membership.role in source.roles and membership.member in source.roles:
            connected.setdefault(membership.role, set()).add(membership.member)
            connected.setdefault(membership.member, set()).add(membership.role)
    needed: set[str] = set()
    waiting = list(named_roles(head))
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting.extend(connected.get(name, ()))
    return frozenset(needed)


def missing_roles(source: Globals, existing: Collection[str], wanted: Iterable[str]) -> MissingRoles:
    """What of *wanted* has to be made where *existing* roles are (PostgreSQL's own included).

    Of the memberships, those of a role that is made now, on either side: what two existing roles are to each
    other is the target's own affair.
    """
    there = set(existing)
    absent = set(wanted) - there
    made = {name: role for name, role in source.roles.items() if name in absent}
    there.update(made)
    memberships = [
        membership
        for membership in source.memberships
        if {membership.role, membership.member} <= there and (membership.role in made or membership.member in made)
    ]
    return MissingRoles(
        roles=tuple(made.values()),
        memberships=tuple(_grantors_first(memberships)),
        unknown=tuple(sorted(absent - made.keys())),
    )


class _Reader:
    """Takes pg_dumpall's statements one after the other."""

    def __init__(self) -> None:
        self.roles: dict[str, Role] = {}
        self.memberships: list[Membership] = []
        self.not_understood: list[str] = []

    def take(self, statement: Statement) -> None:
        """Keep what the statement says of a role, and the beginning of one that is not known."""
        if _says_nothing_of_roles(statement):
            return
        try:
            self._take(Words(statement))
        except UnknownStatementError:
            known = [word for word in statement.words[:2] if _KEYWORD.match(word)]
            self.not_understood.append(" ".join(known) or "a statement without a keyword")

    def _take(self, words: Words) -> None:
        match words.keywords:
            case ("CREATE", "ROLE", *_):
                self._create(words)
            case ("ALTER", "ROLE", *_):
                self._alter(words)
            case ("COMMENT", *_):
                comment, name = read_comment(words, "ROLE")
                self._describe(name, comment.on(f"ROLE {quote_identifier(name)}"))
            case ("SECURITY", *_):
                label, name = read_security_label(words, "ROLE")
                self._describe(name, label.on(f"ROLE {quote_identifier(name)}"))
            case ("GRANT", *_) if words.hold("ON"):
                # The only privilege of a whole cluster that is read here.
                grant, parameter = read_grant(words, "PARAMETER")
                if grant.role is not None:
                    self._describe(grant.role, grant.on(f"PARAMETER {quote_identifier(parameter)}"))
            case _:
                self.memberships.append(read_membership(words))

    def _create(self, words: Words) -> None:
        words.need("CREATE", "ROLE")
        name = words.identifier()
        words.end()
        if name in self.roles:
            raise UnknownStatementError("a role is created twice")
        self.roles[name] = Role(name, (f"CREATE ROLE {quote_identifier(name)};",))

    def _alter(self, words: Words) -> None:
        words.need("ALTER", "ROLE")
        role = self._known(words.identifier())
        if words.take("WITH"):
            attributes = read_attributes(words)
            self.not_understood += [f"ALTER ROLE {word}" for word in attributes.unknown if _KEYWORD.match(word)]
            self.roles[role.name] = replace(
                role,
                definition=(*role.definition, *_statements(role.name, attributes)),
                superuser="SUPERUSER" in attributes.flags,
                login="LOGIN" in attributes.flags,
            )
        else:
            setting = read_setting(words)
            self.roles[role.name] = replace(role, settings=(*role.settings, setting))
            self._describe(role.name, setting.of(f"ROLE {quote_identifier(role.name)}"))

    def _describe(self, name: str, statement: str) -> None:
        role = self._known(name)
        self.roles[name] = replace(role, properties=(*role.properties, statement))

    def _known(self, name: str) -> Role:
        if name not in self.roles:
            raise UnknownStatementError("it is about a role that was not created")
        return self.roles[name]


def _statements(name: str, attributes: Attributes) -> Iterator[str]:
    """The statements that make a new role what it was, its password last and by itself.

    A statement that lacks a permission may go to the server's log, and must not take the password with it.
    """
    said = [flag for flag in attributes.flags if flag not in _OF_A_NEW_ROLE]
    if attributes.connection_limit is not None:
        said.append(f"CONNECTION LIMIT {attributes.connection_limit}")
    if attributes.valid_until is not None:
        said.append(f"VALID UNTIL {literal(attributes.valid_until)}")
    if said:
        yield f"ALTER ROLE {quote_identifier(name)} WITH {' '.join(said)};"
    if attributes.password is not None:
        yield f"ALTER ROLE {quote_identifier(name)} WITH PASSWORD {literal(attributes.password)};"


def _says_nothing_of_roles(statement: Statement) -> bool:
    """Whether it sets up the session, or is about a tablespace.

    A privilege on a parameter that another role than a superuser granted stands between SET and RESET SESSION
    AUTHORIZATION; it is read without them, so that a superuser grants it.
    """
    words = statement.words
    match words:
        case ["SET" | "RESET", *_] | ["CREATE" | "ALTER", "TABLESPACE", *_] | []:
            return True
        case ["COMMENT", "ON", "TABLESPACE", *_] | ["SECURITY", "LABEL", "FOR", _, "ON", "TABLESPACE", *_]:
            return True
        case ["GRANT" | "REVOKE", *_]:
            return any(pair == ("ON", "TABLESPACE") for pair in pairwise(words))
    return False


def _grantors_first(memberships: list[Membership]) -> Iterator[Membership]:
    """The same, each after the membership by which its grantor may grant it; PostgreSQL 16 and later insist."""
    waiting = memberships
    while waiting:
        to_come = {(membership.role, membership.member) for membership in waiting if membership.admin}
        held_up = [one for one in waiting if (one.role, one.grantor) in to_come]
        if len(held_up) == len(waiting):  # In a circle: no server writes that, and each is tried as it stands.
            yield from waiting
            return
        yield from (one for one in waiting if (one.role, one.grantor) not in to_come)
        waiting = held_up


def _roles_in(entry: TocEntry) -> set[str]:
    """The roles that the text of an entry names, its owner apart."""
    keywords = _ROLES_FOLLOW.get(entry.desc)
    if keywords is None or not entry.defn:
        return set()
    names = {name for statement in split_statements(entry.defn) for name in _names_after(keywords, statement)}
    return names - {_PUBLIC}


def _names_after(keywords: set[str], statement: Statement) -> Iterator[str]:
    words = list(_outside_parentheses(statement.words))
    for place, word in enumerate(words):
        follows_keyword = place > 0 and words[place - 1] in keywords
        if follows_keyword and word != "PUBLIC":
            yield unquote_identifier(word)
            yield from _rest_of_list(words[place + 1 :])


def _rest_of_list(words: list[str]) -> Iterator[str]:
    for comma, word in zip(words[::2], words[1::2], strict=False):
        if comma != ",":
            return
        yield unquote_identifier(word)


def _outside_parentheses(words: Iterable[str]) -> Iterator[str]:
    depth = 0
    for word in words:
        depth += (word == "(") - (word == ")")
        if not depth and word != ")":
            yield word
