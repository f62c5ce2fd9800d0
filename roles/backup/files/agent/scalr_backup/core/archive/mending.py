# SPDX-License-Identifier: GPL-3.0-or-later
"""What would let an object be restored that no restore can make again: SQL for the live database, and for the copy.

The objects here came to be when the rows, the clock or the search path were others. A constraint that is NOT VALID holds
for new rows and does not look at those that are there, and a dump of it says so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from scalr_backup.core.archive.checks import is_partitioned, violated_check
from scalr_backup.core.archive.head import ArchiveHead, TocEntry
from scalr_backup.core.archive.trouble import Trouble, name_of
from scalr_backup.core.records.failures import ObjectRecord
from scalr_backup.core.sql import quote_identifier, unquote_identifier

FAILED, NOT_VALID, LEFT_OUT, MENDED, UNREACHABLE = "failed", "not_valid", "left_out", "mended", "unreachable"
# Without these there would be fewer rows, or rows that more may see: no word lets a restore do without them.
_NEVER_LEFT_OUT = frozenset(
    {
        "TABLE", "TABLE DATA", "TABLE ATTACH", "SEQUENCE", "SEQUENCE SET", "BLOB", "BLOBS", "BLOB METADATA", "SCHEMA",
        "ROW SECURITY", "POLICY",
    }
)  # fmt: skip
# Nor without these, unless what they belong to is left out with them. Privileges are among them that take some away.
_OF_AN_OBJECT = frozenset({"SECURITY LABEL", "ACL", "DEFAULT ACL"})
_WORD = r'(?:"(?:[^"]|"")+"|[^\s",]+)'
# As pg_dump writes it: a statement of its own.
_ADDED = re.compile(
    rf"\s*ALTER TABLE (?:ONLY )?(?P<table>.+?)\s+ADD CONSTRAINT (?P<name>{_WORD}) (?P<rest>.+?)(?P<not_valid> NOT VALID)?;\s*\Z",
    re.DOTALL,
)
_WITHOUT_LOOKING_AT_ROWS = frozenset({"FK CONSTRAINT", "CHECK CONSTRAINT"})
# Since this release, a foreign key of a partitioned table may be NOT VALID.
_PARTITIONED_KEYS = 18
# The name of a function as its statement has it, and whether it has a search path of its own.
_FUNCTION = re.compile(
    r'\s*CREATE (?:FUNCTION|PROCEDURE) (?:"(?:[^"]|"")+"|[^\s".]+)\.(?P<name>"(?:[^"]|"")+"|[^\s"(]+)\('
)
_OWN_PATH = re.compile(r"^    (?:.* )?SET search_path TO ", re.MULTILINE)
_BODY = re.compile(r"^    AS |^BEGIN ATOMIC|^RETURN ", re.MULTILINE)


# PostgreSQL documentation, "Error Codes": connections that could not be made, to another database or by a foreign data wrapper.
_CONNECTION_CLASS, _WRAPPERS_CONNECTION = "08", "HV00N"
# What another database does not have, or does not let us see; and the functions of dblink and postgres_fdw that pass this on.
_MISSING_CLASS, _MISSING_SCHEMA = "42", "3F000"
_PASSES_ON = re.compile(r"dblink_|pgfdw_")


@dataclass(frozen=True)
class Path:
    """A function, with its arguments, and the schema that it was written in and for."""

    function: str
    schema: str
    kind: str = "FUNCTION"

    @property
    def set_path(self) -> str:
        """Let it find what it names."""
        return f"ALTER {self.kind} {self.function} SET search_path = pg_catalog, {self.schema}"

    @property
    def reset_path(self) -> str:
        """Let it be as it was saved."""
        return f"ALTER {self.kind} {self.function} RESET search_path"


def is_unreachable(sqlstate: str | None, reporter: str | None = None) -> bool:
    """Whether an error means that what is read from another server or database is not there.

    In a drill, a database that is called as the other one, such as ``postgres``, may be there and empty. What such a one lacks
    is told apart from what this one lacks by the server's own function that reports it.
    """
    if sqlstate is None:
        return False
    if sqlstate.startswith(_CONNECTION_CLASS) or sqlstate == _WRAPPERS_CONNECTION:
        return True
    is_missing = sqlstate.startswith(_MISSING_CLASS) or sqlstate == _MISSING_SCHEMA
    return is_missing and reporter is not None and _PASSES_ON.match(reporter) is not None


def may_be_left_out(entry: TocEntry, gone: Collection[TocEntry] = ()) -> bool:
    """Whether a restore may do without it where the operator says so; *gone* is what it does without already."""
    if entry.desc in _NEVER_LEFT_OUT:
        return False
    if entry.desc not in _OF_AN_OBJECT:
        return True
    grants_only = entry.desc != "SECURITY LABEL" and entry.defn is not None and "REVOKE" not in entry.defn
    return grants_only or any(_belongs_to(entry, one) for one in gone)


def needed(found: Sequence[Trouble], gone: Collection[TocEntry] = ()) -> list[Trouble]:
    """Those that a restore may not do without, whatever the operator says."""
    gone = [*gone, *(one.entry for one in found if may_be_left_out(one.entry))]
    return [one for one in found if not may_be_left_out(one.entry, gone)]


def _belongs_to(entry: TocEntry, owner: TocEntry) -> bool:
    """Whether it is a property of this object; where no dependencies are known, by its name, such as ``VIEW late``."""
    if entry.dependencies:
        return owner.dump_id in entry.dependencies
    kind = entry.tag.removesuffix(f" {owner.tag}")
    return entry.namespace == owner.namespace and kind != entry.tag and re.fullmatch(r"[A-Z ]+", kind) is not None


def as_not_valid(entry: TocEntry) -> str | None:
    """The statement that makes a key or a check which does not look at the rows that are there; None for anything else."""
    if entry.desc not in _WITHOUT_LOOKING_AT_ROWS or not (added := _ADDED.match(entry.defn or "")):
        return None
    return f"ALTER TABLE {added['table']} ADD CONSTRAINT {added['name']} {added['rest']} NOT VALID"


def described(trouble: Trouble, head: ArchiveHead, outcome: str = FAILED) -> ObjectRecord:
    """An object, why it cannot be made, what became of it, and the SQL that would mend it in the live database."""
    return {
        "object": name_of(trouble.entry), "cause": trouble.cause, "mend": mend(trouble, head), "outcome": outcome,
    }  # fmt: skip


def mend(trouble: Trouble, head: ArchiveHead) -> str | None:
    """SQL to run in the live database, so that its next dump can be restored; None where none is known."""
    entry = trouble.entry
    if "CONSTRAINT" in entry.desc:
        added = _ADDED.match(entry.defn or "") if entry.desc in _WITHOUT_LOOKING_AT_ROWS else None
        if added is None or added["not_valid"] or _is_key_of_parts(entry, added["table"], head):
            return None
        table, name = added["table"], added["name"]
        return f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {added['rest']} NOT VALID;"
    if check := violated_check(trouble, head):
        return check.mend
    return " ".join(f"{one.set_path};" for one in paths(trouble, head)) or None


def paths(trouble: Trouble, head: ArchiveHead) -> list[Path]:
    """Functions that the error came out of, which find things by a search path that a restore does not have."""
    found = []
    for entry in head.entries:
        if entry.desc not in {"FUNCTION", "PROCEDURE"} or not entry.namespace:
            continue
        name = _name_of_function(entry)
        # As the server names functions; one that it cannot find is not the one that looks for it.
        if (
            re.search(rf'(?<!\w){re.escape(name)}\(|"{re.escape(name)}"', trouble.context)
            and f"{name}(" not in trouble.words
            and not _has_own_path(entry)
        ):
            schema, arguments = quote_identifier(entry.namespace), entry.tag.removeprefix(name)
            found.append(Path(f"{schema}.{quote_identifier(name)}{arguments}", schema, entry.desc))
    return found


def _name_of_function(entry: TocEntry) -> str:
    """Its name without its arguments; what an entry is called has both, and no quotes around the name."""
    if found := _FUNCTION.match(entry.defn or ""):
        return unquote_identifier(found["name"])
    return entry.tag.partition("(")[0]


def _has_own_path(entry: TocEntry) -> bool:
    """Whether it finds what it names by a search path of its own, which a restore has no business with."""
    return _OWN_PATH.search(_BODY.split(entry.defn or "", maxsplit=1)[0]) is not None


def _is_key_of_parts(entry: TocEntry, table: str, head: ArchiveHead) -> bool:
    """Whether it is a foreign key of a partitioned table on a server that has none that is NOT VALID."""
    if entry.desc != "FK CONSTRAINT" or not is_partitioned(table, head):
        return False
    return int(re.match(r"\d{0,9}", head.server_version).group() or 0) < _PARTITIONED_KEYS  # type: ignore[union-attr]
