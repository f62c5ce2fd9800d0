# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions that keep rows from being loaded: where they are defined, and how they are taken away and brought back.

A table has conditions of its own, of the tables that it inherits from, of the partitioned table that it is a part of, and of
the domains that its columns are of. What is inherited can only be dropped where it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from scalr_backup.core.archive.head import ArchiveHead, TocEntry
from scalr_backup.core.archive.trouble import Trouble
from scalr_backup.core.sql import quote_identifier, unquote_identifier

_WORD = r'(?:"(?:[^"]|"")+"|[^\s".,;()]+)'
_QUALIFIED = re.compile(rf"({_WORD})\.({_WORD})")
# As pg_dump writes it: a line of a CREATE TABLE or a CREATE DOMAIN, which may go on over several lines.
_CHECK = re.compile(rf"^[ \t]+CONSTRAINT (?P<name>{_WORD}) (?=CHECK \()", re.MULTILINE)
_PARENTS = re.compile(rf"^INHERITS \((?P<parents>{_WORD}\.{_WORD}(?:, {_WORD}\.{_WORD})*)\)", re.MULTILINE)
_ATTACHED = re.compile(
    rf"^ALTER TABLE ONLY (?P<parent>{_WORD}\.{_WORD}) ATTACH PARTITION (?P<child>{_WORD}\.{_WORD}) ", re.MULTILINE
)
_DOMAIN = re.compile(rf"CREATE DOMAIN (?P<name>{_WORD}\.{_WORD}) AS (?:(?P<base>{_WORD}\.{_WORD}))?")
# What a parenthesis may stand in without being one.
_TOKEN = re.compile(r"""\"(?:[^"]|"")*"|[Ee]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|[()]""", re.DOTALL)
_NOT_INHERITED = " NO INHERIT"
_Key = tuple[str, str]


@dataclass(frozen=True)
class Check:
    """A condition that rows do not fulfil: statements that take it away, and that bring it back for rows to come."""

    drops: tuple[str, ...]
    adds: tuple[str, ...]
    # The same for the database that was backed up.
    mend: str


@dataclass
class _Table:
    """A table as the archive makes it: its own conditions by name, and the tables that it has others from."""

    checks: Mapping[str, str]
    parents: list[_Key] = field(default_factory=list)
    is_partition: bool = False


def violated_check(trouble: Trouble, head: ArchiveHead) -> Check | None:
    """The condition that keeps rows from being loaded, by its name in the server's words; None where it is none."""
    if trouble.entry.desc != "TABLE DATA":
        return None
    return _of_domain(trouble, head) or _of_table(trouble, head)


def _of_table(trouble: Trouble, head: ArchiveHead) -> Check | None:
    tables = _tables(head)
    own = (trouble.entry.namespace or "", trouble.entry.tag)
    lineage = list(dict.fromkeys(_lineage(own, tables)))
    # The table is named as well, and may be called like a condition of it.
    words = re.sub(rf"(?<!\w){re.escape(trouble.entry.tag)}(?!\w)", "", trouble.words, count=1)
    name = _named({name for key in lineage for name in tables[key].checks}, words)
    if name is None:
        return None
    places = [
        key
        for key in lineage
        if name in tables[key].checks and (key == own or not tables[key].checks[name].endswith(_NOT_INHERITED))
    ]
    quoted = quote_identifier(name)
    drops = tuple(f"ALTER TABLE {_sql(key)} DROP CONSTRAINT IF EXISTS {quoted}" for key in places)
    # A partition gets it from the table that it is a part of, and nowhere else.
    adds = tuple(
        f"ALTER TABLE {_sql(key)} ADD CONSTRAINT {quoted} {tables[key].checks[name]} NOT VALID"
        for key in reversed(places)
        if not (tables[key].is_partition and set(tables[key].parents) & set(places))
    )
    if len(places) > 1:
        return Check(drops, adds, _script(*drops, *adds))
    [place] = places
    rest = tables[place].checks[name]
    return Check(
        drops, adds, f"ALTER TABLE {_sql(place)} DROP CONSTRAINT {quoted}, ADD CONSTRAINT {quoted} {rest} NOT VALID;"
    )


def _of_domain(trouble: Trouble, head: ArchiveHead) -> Check | None:
    """A domain is named with its schema, since a restore has no search path; its condition may be that of its base."""
    domains = {
        found["name"]: (found["base"], dict(_checks(entry.defn or "")))
        for entry in head.entries
        if entry.desc == "DOMAIN" and (found := _DOMAIN.match((entry.defn or "").lstrip()))
    }
    named = next((name for name in domains if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", trouble.words)), None)
    words = trouble.words.replace(named, "", 1) if named else ""
    while named in domains:
        base, checks = domains[named]
        if name := _named(checks, words):
            alter, quoted = f"ALTER DOMAIN {named}", quote_identifier(name)
            drops = (f"{alter} DROP CONSTRAINT IF EXISTS {quoted}",)
            adds = (f"{alter} ADD CONSTRAINT {quoted} {checks[name]} NOT VALID",)
            return Check(drops, adds, _script(*drops, *adds))
        named = base
    return None


def _named(names: Mapping[str, str] | set[str], words: str) -> str | None:
    """The one of these names that is in the server's words: in quotes if possible, of whatever language."""
    by_length = sorted(names, key=len, reverse=True)
    for around in (r"[^\w\s]", r"(?<!\w)"):
        behind = around if around.startswith("[") else r"(?!\w)"
        for name in by_length:
            if re.search(f"{around}{re.escape(name)}{behind}", words):
                return name
    return None


def _tables(head: ArchiveHead) -> dict[_Key, _Table]:
    tables = {
        (entry.namespace or "", entry.tag): _Table(
            dict(_checks(entry.defn or "")),
            [
                _key(*one)
                for found in _PARENTS.finditer(entry.defn or "")
                for one in _QUALIFIED.findall(found["parents"])
            ],
        )
        for entry in head.entries
        if entry.desc == "TABLE"
    }
    # Before PostgreSQL 14, the statement that makes a table a partition stood with that which makes the table.
    for entry in head.entries:
        for found in _ATTACHED.finditer(entry.defn or "") if entry.desc in {"TABLE", "TABLE ATTACH"} else ():
            parent, child = (_key(*_QUALIFIED.findall(found[one])[0]) for one in ("parent", "child"))
            if child in tables:
                tables[child].parents.append(parent)
                tables[child].is_partition = True
    return tables


def _lineage(key: _Key, tables: Mapping[_Key, _Table], below: frozenset[_Key] = frozenset()) -> Iterator[_Key]:
    """A table and all that it inherits from, the farthest first."""
    if key in tables and key not in below:
        for parent in tables[key].parents:
            yield from _lineage(parent, tables, below | {key})
        yield key


def _checks(defn: str) -> Iterator[tuple[str, str]]:
    """The conditions of a table or a domain, by their names."""
    for found in _CHECK.finditer(defn):
        end = _end_of_parentheses(defn, found.end())
        rest = defn[found.end() : end]
        yield (
            unquote_identifier(found["name"]),
            rest + (_NOT_INHERITED if defn.startswith(_NOT_INHERITED, end) else ""),
        )


def _end_of_parentheses(text: str, start: int) -> int:
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(token.group(), 0)
        if not depth:
            return token.end()
    return len(text)


def _key(namespace: str, name: str) -> _Key:
    return unquote_identifier(namespace), unquote_identifier(name)


def _sql(key: _Key) -> str:
    return f"{quote_identifier(key[0])}.{quote_identifier(key[1])}"


def _script(*statements: str) -> str:
    return " ".join(f"{statement};" for statement in statements)


def is_partitioned(table: str, head: ArchiveHead) -> bool:
    """Whether the archive makes this table, named as pg_dump writes it, as a partitioned one."""
    key = next((_key(*one) for one in _QUALIFIED.findall(table)), None)
    return any(_is_made_in_parts(entry) for entry in head.entries if (entry.namespace, entry.tag) == key)


def _is_made_in_parts(entry: TocEntry) -> bool:
    return entry.desc == "TABLE" and re.search(r"^PARTITION BY ", entry.defn or "", re.MULTILINE) is not None
