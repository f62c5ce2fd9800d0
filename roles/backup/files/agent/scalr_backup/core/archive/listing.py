# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of an archive whose format this software does not know: what its server's own pg_restore says of it.

``pg_restore --list`` names every entry in a line of its own. A script of some of them has the statements that create the
database and give it its properties, those that set the sequences, and those that a restore may have to run by itself:
extensions, foreign keys, materialized views' rows. pg_dump writes no dollar quotes there, so that the script can be split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from scalr_backup.core.archive.head import ArchiveError, ArchiveHead, PostData, Section, TocEntry
from scalr_backup.core.sql import Statement, split_statements, unquote_identifier

_LINE = re.compile(r"(?P<id>[0-9]{1,10}); (?P<tableoid>[0-9]{1,10}) (?P<oid>[0-9]{1,10}) (?P<rest>.*)")
# The kinds of entries are words in capitals; a schema, or "-" for none, and the name and the owner follow.
_REST = re.compile(r"(?P<desc>[A-Z]+(?: [A-Z]+)*) (?P<namespace>\S+) (?P<tag>.*?)(?: (?P<owner>\S*))?\Z")
_FACT = re.compile(r";\s+(?P<name>dbname|Dumped from database version|Dumped by pg_dump version): (?P<value>.*)")
# Kinds of more than one word, as far as a decision hangs on them.
_KINDS = (
    "DATABASE PROPERTIES", "SECURITY LABEL", "SEQUENCE SET", "DEFAULT ACL", "MATERIALIZED VIEW DATA", "MATERIALIZED VIEW",
    "FK CONSTRAINT", "INDEX ATTACH", "TABLE ATTACH", "TABLE DATA",
)  # fmt: skip
_OF_SCRIPT = {"DATABASE", "DATABASE PROPERTIES", "ACL", "COMMENT", "SECURITY LABEL", "SEQUENCE SET"}
_BY_ITSELF = {"EXTENSION", "FK CONSTRAINT", "MATERIALIZED VIEW DATA"}
# What a restore may fail at, which is then known by its number; its statement is not needed for that.
_OF_AN_OBJECT = {"ACL", "COMMENT", "SECURITY LABEL"}
_ABOUT_DATABASE = {"COMMENT", "SECURITY LABEL"}
_IDENTIFIER = r'("(?:[^"]|"")+"|[^."]+)'
_SEQUENCE = re.compile(rf"{_IDENTIFIER}\.{_IDENTIFIER}\Z")
_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class ListedHead(ArchiveHead):
    """A head that was not read but listed. Everything is restored in the order of the archive, by one pg_restore."""

    @property
    def is_known(self) -> bool:
        """Never."""
        return False

    @property
    def post_data(self) -> PostData:
        """Nothing is made apart from the rest."""
        return PostData((), ())


def parse_listing(text: str) -> ListedHead:
    """The head that ``pg_restore --list`` describes, without any statement.

    Raises ArchiveError where there is no entry in it.
    """
    facts = {found["name"]: found["value"].strip() for found in _FACT.finditer(text)}
    entries = tuple(entry for line in text.splitlines() if (entry := _entry(line)))
    if not entries:
        raise ArchiveError("The container's pg_restore lists nothing in this archive.", 0)
    return ListedHead(
        version=(0, 0, 0),
        compression="unknown",
        created=_UNKNOWN_TIME,
        dbname=facts.get("dbname", ""),
        server_version=facts.get("Dumped from database version", ""),
        pg_dump_version=facts.get("Dumped by pg_dump version", ""),
        entries=entries,
        length=0,
    )


def wanted_of_script(head: ListedHead) -> tuple[int, ...]:
    """The dump ids of the entries whose statements are needed: the database's own, privileges, sequences' values and so on."""
    return tuple(
        entry.dump_id
        for entry in head.entries
        if entry.desc in _OF_SCRIPT | _BY_ITSELF
        and (entry.desc not in _ABOUT_DATABASE or entry.tag.startswith("DATABASE "))
    )


def with_statements(head: ListedHead, script: str) -> ListedHead:
    """The head with the statements of a script of ``wanted_of_script``.

    Raises ArchiveError where that cannot be split, or does not create a database.
    """
    try:
        statements = list(split_statements(script))
    except ValueError as error:
        raise ArchiveError(f"The script of the archive cannot be read: {error}.", 0) from None
    found = {one: f"{statement.text}\n" for statement in statements if (one := _made_by_itself(statement))}
    kept = [
        replace(entry, defn=found.get((entry.desc, entry.namespace, entry.tag)))
        for entry in head.entries
        if entry.desc not in _OF_SCRIPT or (entry.desc in _OF_AN_OBJECT and not entry.tag.startswith("DATABASE "))
    ]
    return replace(head, entries=(*kept, *_entries(head.dbname, statements)))


def _made_by_itself(statement: Statement) -> tuple[str, str | None, str] | None:
    """What a statement makes, as a listing has it: the kind of entry, its schema, and what it is called."""
    words = [unquote_identifier(word) for word in statement.words]
    match statement.words:
        case ("CREATE", "EXTENSION", "IF", "NOT", "EXISTS", *_rest):
            return "EXTENSION", None, words[5]
        case ("REFRESH", "MATERIALIZED", "VIEW", _schema, ".", _name):
            return "MATERIALIZED VIEW DATA", words[3], words[5]
        case ("ALTER", "TABLE", "ONLY", _schema, ".", _table, "ADD", "CONSTRAINT", _name, "FOREIGN", *_rest):
            return "FK CONSTRAINT", words[3], f"{words[5]} {words[8]}"
        case ("ALTER", "TABLE", _schema, ".", _table, "ADD", "CONSTRAINT", _name, "FOREIGN", *_rest):
            return "FK CONSTRAINT", words[2], f"{words[4]} {words[7]}"
    return None


def _entries(dbname: str, statements: list[Statement]) -> Iterator[TocEntry]:
    owner = ""
    for number, statement in enumerate(statements):
        words, text = statement.words, f"{statement.text}\n"
        entry = replace(_NOTHING, dump_id=-1 - number, defn=text)
        if words[:2] == ("CREATE", "DATABASE"):
            owner = next((_owner(one) for one in statements if _owner(one)), "")
            yield replace(entry, desc="DATABASE", tag=dbname, owner=owner)
        elif words[0] == "ALTER" and "DATABASE" in words and not _owner(statement):
            yield replace(entry, desc="DATABASE PROPERTIES", tag=dbname)
        elif words[0] in {"GRANT", "REVOKE"}:
            is_databases = "DATABASE" in words and words[words.index("DATABASE") - 1] == "ON"
            yield replace(entry, desc="ACL", tag=f"DATABASE {dbname}" if is_databases else "")
        elif words[0] in {"COMMENT", "SECURITY"} and "DATABASE" in words:
            yield replace(entry, desc="COMMENT", tag=f"DATABASE {dbname}")
        elif "setval" in words:
            namespace, tag = _sequence(words)
            yield replace(entry, desc="SEQUENCE SET", namespace=namespace, tag=tag)


def _owner(statement: Statement) -> str:
    words = statement.words
    if words[:2] == ("ALTER", "DATABASE") and words[3:5] == ("OWNER", "TO"):
        return unquote_identifier(words[5])
    return ""


def _sequence(words: tuple[str, ...]) -> tuple[str, str]:
    constant = next(word for word in words if word.startswith("'"))
    found = _SEQUENCE.match(constant[1:-1].replace("''", "'"))
    if found is None:
        raise ArchiveError(f"The archive sets a sequence whose name cannot be read: {constant}.", 0)
    return unquote_identifier(found[1]), unquote_identifier(found[2])


def _entry(line: str) -> TocEntry | None:
    found = _LINE.match(line)
    if not found:
        return None
    text = found["rest"]
    kind = next((kind for kind in _KINDS if text.startswith(f"{kind} ")), None)
    rest = _REST.match(text if kind is None else f"X{text.removeprefix(kind)}")
    if rest is None:
        return None
    return replace(
        _NOTHING,
        dump_id=int(found["id"]),
        tableoid=int(found["tableoid"]),
        oid=int(found["oid"]),
        desc=kind or rest["desc"],
        tag=rest["tag"],
        namespace=None if rest["namespace"] == "-" else rest["namespace"],
        owner=rest["owner"] or "",
    )


_NOTHING = TocEntry(
    dump_id=0,
    had_dumper=False,
    tableoid=0,
    oid=0,
    tag="",
    desc="",
    section=Section.PRE_DATA,
    defn=None,
    drop_stmt=None,
    copy_stmt=None,
    namespace=None,
    tablespace=None,
    tableam=None,
    relkind="",
    owner="",
    dependencies=(),
    data_position=None,
)
