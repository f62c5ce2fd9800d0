# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of a cluster, out of what ``pg_dumpall --globals-only`` of PostgreSQL 15 to 18 writes.

A dump of one database names roles and does not hold them: the manifest of its pass does. From it come the
statements that make the roles that a target lacks, and no others: what is not known here is never run, and a role
that exists is never touched.

The statements of a role hold the hash of its password. They are in no repr and in no error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from scalr_backup.core.archive.head import ArchiveError, ArchiveHead, TocEntry
from scalr_backup.core.errors import ScalrBackupError
from scalr_backup.core.sql import Statement, split_statements, unquote_identifier

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

    @property
    def statements(self) -> tuple[str, ...]:
        """All of them."""
        return self.definition + self.properties


@dataclass(frozen=True)
class Membership:
    """*member* is a member of *role*; *admin* says that it may grant this on.

    A server may refuse ``statement`` because of the grantor that it names, who does not exist or, from PostgreSQL 16
    on, may not grant this role. ``without_grantor`` is the same without a grantor; the user who runs it becomes one.
    """

    role: str
    member: str
    statement: str
    without_grantor: str
    grantor: str | None = None
    admin: bool = False


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
        if not (_says_nothing_of_roles(statement) or self._take_role(statement) or self._take_grant(statement)):
            self.not_understood.append(" ".join(statement.words[:2]))

    def _take_role(self, statement: Statement) -> bool:
        words = statement.words
        match words:
            case ["CREATE", "ROLE", name] if unquote_identifier(name) not in self.roles:
                self.roles[unquote_identifier(name)] = Role(unquote_identifier(name), (statement.text,))
                return True
            case ["ALTER", "ROLE", name, "WITH", *attributes]:
                return self._define(name, attributes)
            case ["ALTER", "ROLE", name, "SET", *_] | ["COMMENT", "ON", "ROLE", name, "IS", _]:
                return self._describe(name, statement)
            case ["SECURITY", "LABEL", "FOR", _, "ON", "ROLE", name, "IS", _]:
                return self._describe(name, statement)
        return False

    def _take_grant(self, statement: Statement) -> bool:
        match statement.words:
            case ["GRANT", role, "TO", member, *options]:
                self.memberships.append(_membership(statement, role, member, options))
                return True
            case ["GRANT", *_, "TO", grantee] | ["GRANT", *_, "TO", grantee, "WITH", "GRANT", "OPTION"]:
                # ON PARAMETER, the only other privilege of a whole cluster that is read here.
                return "PARAMETER" in statement.words and (grantee == "PUBLIC" or self._describe(grantee, statement))
        return False

    def _define(self, name: str, attributes: list[str]) -> bool:
        role = self.roles.get(unquote_identifier(name))
        if role is None:
            return False
        self.roles[role.name] = replace(
            role,
            definition=(*role.definition, *_attributes(name, attributes)),
            superuser="SUPERUSER" in attributes,
            login="LOGIN" in attributes,
        )
        return True

    def _describe(self, name: str, statement: Statement) -> bool:
        role = self.roles.get(unquote_identifier(name))
        if role is None:
            return False
        self.roles[role.name] = replace(role, properties=(*role.properties, statement.text))
        return True


def _attributes(name: str, attributes: list[str]) -> Iterator[str]:
    """The statements that make a new role what it was, its password last and by itself.

    A statement that lacks a permission may go to the server's log, and must not take the password with it.
    """
    words = [word for word in attributes if word not in _OF_A_NEW_ROLE]
    place = words.index("PASSWORD") if "PASSWORD" in words else len(words)
    for some in (words[:place] + words[place + 2 :], words[place : place + 2]):
        if some:
            yield f"ALTER ROLE {name} WITH {' '.join(some)};"


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


def _membership(statement: Statement, role: str, member: str, options: list[str]) -> Membership:
    names = unquote_identifier(role), unquote_identifier(member)
    admin = "ADMIN" in options
    match options:
        case [*_, "GRANTED", "BY", grantor]:
            # The last word of the text that reads so: a name that does is quoted.
            without = statement.text[: statement.text.rindex(f" GRANTED BY {grantor}")] + ";"
            return Membership(*names, statement.text, without, unquote_identifier(grantor), admin)
    return Membership(*names, statement.text, statement.text, None, admin)


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
