# SPDX-License-Identifier: GPL-3.0-or-later
"""What would let an object be restored that no restore can make again: SQL for the live database, and for the copy.

The objects here came to be when the rows, the clock or the search path were others. A constraint that is NOT VALID holds
for new rows and does not look at those that are there, and a dump of it says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scalr_backup.core.archive.head import ArchiveHead, TocEntry
from scalr_backup.core.archive.trouble import Trouble, name_of
from scalr_backup.core.records.state import ObjectRecord
from scalr_backup.core.sql import quote_identifier, unquote_identifier

FAILED, NOT_VALID, LEFT_OUT, MENDED, UNREACHABLE = "failed", "not_valid", "left_out", "mended", "unreachable"
# Without these there would be fewer rows, or rows that more may see: no word lets a restore do without them.
_NEVER_LEFT_OUT = frozenset(
    {
        "TABLE", "TABLE DATA", "TABLE ATTACH", "SEQUENCE", "SEQUENCE SET", "BLOB", "BLOBS", "BLOB METADATA", "SCHEMA",
        "ROW SECURITY",
    }
)  # fmt: skip
_WORD = r'(?:"(?:[^"]|"")+"|[^\s",]+)'
# As pg_dump writes it: a line of a CREATE TABLE, and a statement of its own.
_CHECK = re.compile(rf"^    CONSTRAINT (?P<name>{_WORD}) (?P<rest>CHECK \(.*\)(?: NO INHERIT)?),?$", re.MULTILINE)
_ADDED = re.compile(
    rf"\s*ALTER TABLE (?:ONLY )?(?P<table>.+?)\s+ADD CONSTRAINT (?P<name>{_WORD}) (?P<rest>.+?)(?P<not_valid> NOT VALID)?;\s*\Z",
    re.DOTALL,
)


# PostgreSQL documentation, "Error Codes": connections that could not be made, to another database or by a foreign data wrapper.
_CONNECTION_CLASS, _WRAPPERS_CONNECTION = "08", "HV00N"


@dataclass(frozen=True)
class Check:
    """A condition of a table that its rows do not fulfil."""

    table: str
    name: str
    rest: str
    trouble: Trouble

    @property
    def drop(self) -> str:
        """Take it away."""
        return f"ALTER TABLE {self.table} DROP CONSTRAINT {self.name}"

    @property
    def add(self) -> str:
        """Bring it back for rows to come."""
        return f"ALTER TABLE {self.table} ADD CONSTRAINT {self.name} {self.rest} NOT VALID"


@dataclass(frozen=True)
class Path:
    """A function, with its arguments, and the schema that it was written in and for."""

    function: str
    schema: str

    @property
    def set_path(self) -> str:
        """Let it find what it names."""
        return f"ALTER FUNCTION {self.function} SET search_path = pg_catalog, {self.schema}"

    @property
    def reset_path(self) -> str:
        """Let it be as it was saved."""
        return f"ALTER FUNCTION {self.function} RESET search_path"


def is_unreachable(sqlstate: str | None) -> bool:
    """Whether an error means that another server or database could not be reached."""
    return sqlstate is not None and (sqlstate.startswith(_CONNECTION_CLASS) or sqlstate == _WRAPPERS_CONNECTION)


def may_be_left_out(entry: TocEntry) -> bool:
    """Whether a restore may do without it where the operator says so."""
    return entry.desc not in _NEVER_LEFT_OUT


def as_not_valid(entry: TocEntry) -> str | None:
    """The statement that makes a foreign key which does not look at the rows that are there; None for anything else."""
    if entry.desc != "FK CONSTRAINT" or not (added := _ADDED.match(entry.defn or "")):
        return None
    return f"ALTER TABLE {added['table']} ADD CONSTRAINT {added['name']} {added['rest']} NOT VALID"


def violated_check(trouble: Trouble, head: ArchiveHead) -> Check | None:
    """The condition that keeps rows from being loaded, by its name in the server's words; None where it is none."""
    entry = trouble.entry
    if entry.desc != "TABLE DATA":
        return None
    for table in head.entries:
        if (table.desc, table.namespace, table.tag) != ("TABLE", entry.namespace, entry.tag):
            continue
        for found in _CHECK.finditer(table.defn or ""):
            if f'"{unquote_identifier(found["name"])}"' in trouble.words:
                return Check(_qualified(table), found["name"], found["rest"], trouble)
    return None


def described(trouble: Trouble, head: ArchiveHead, outcome: str = FAILED) -> ObjectRecord:
    """An object, why it cannot be made, what became of it, and the SQL that would mend it in the live database."""
    return {
        "object": name_of(trouble.entry), "cause": trouble.words, "mend": mend(trouble, head), "outcome": outcome,
    }  # fmt: skip


def mend(trouble: Trouble, head: ArchiveHead) -> str | None:
    """SQL to run in the live database, so that its next dump can be restored; None where none is known."""
    if added := _ADDED.match(trouble.entry.defn or "") if "CONSTRAINT" in trouble.entry.desc else None:
        if "NOT VALID" not in (added["not_valid"] or "") and trouble.entry.desc != "CONSTRAINT":
            table, name = added["table"], added["name"]
            return f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {added['rest']} NOT VALID;"
        return None
    if check := violated_check(trouble, head):
        return f"ALTER TABLE {check.table} DROP CONSTRAINT {check.name}, ADD CONSTRAINT {check.name} {check.rest} NOT VALID;"
    return " ".join(f"{one.set_path};" for one in paths(trouble, head)) or None


def paths(trouble: Trouble, head: ArchiveHead) -> list[Path]:
    """Functions that the error came out of, which find things by a search path that a restore does not have."""
    found = []
    for entry in head.entries:
        name = unquote_identifier(entry.tag.partition("(")[0])
        if entry.desc != "FUNCTION" or not entry.namespace or not name:
            continue
        # As the server names functions; one that it cannot find is not the one that looks for it.
        if (
            re.search(rf'(?<!\w){re.escape(name)}\(|"{re.escape(name)}"', trouble.context)
            and f"{name}(" not in trouble.words
        ):
            found.append(Path(f"{quote_identifier(entry.namespace)}.{entry.tag}", quote_identifier(entry.namespace)))
    return found


def _qualified(entry: TocEntry) -> str:
    return f"{quote_identifier(entry.namespace or '')}.{quote_identifier(entry.tag)}"
