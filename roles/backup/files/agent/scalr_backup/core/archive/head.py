# SPDX-License-Identifier: GPL-3.0-or-later
"""What an archive says of itself before its data: when, of which database, and what it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from scalr_backup.core.archive.database import (
    DatabaseDefinition,
    DatabaseSetting,
    Property,
    read_definition,
    read_known_properties,
    read_properties,
    statements_of,
)
from scalr_backup.core.errors import ScalrBackupError
from scalr_backup.core.sql import quote_identifier
from scalr_backup.core.text import readable

VERSIONS = ((1, 14, 0), (1, 15, 0), (1, 16, 0))

_ENCODING = re.compile(r"SET client_encoding = '([^']+)';")
_SETVAL = re.compile(r"SELECT pg_catalog\.setval\(.*, (-?\d{1,20}), (true|false)\);\s*\Z", re.DOTALL)
# Of these, none may be missing: without one, more might see what is in the database.
_NEVER_LEFT_OUT = frozenset({"ACL", "SECURITY LABEL"})

# What makes a partition of a table or of an index, and what locks no other tables than one and its partitions.
_ATTACHMENTS = frozenset({"TABLE ATTACH", "INDEX ATTACH"})
_OF_ONE_TABLE = frozenset({"INDEX", "CONSTRAINT"})


class ArchiveError(ScalrBackupError):
    """What came is not a whole archive that this software knows; says what is wrong, and at which byte."""

    code = "unreadable_archive"

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class UnknownFormatError(ArchiveError):
    """What came is an archive of a kind that this software does not know, as a new release of PostgreSQL may write."""


class Section(IntEnum):
    """The part of a restore that an entry belongs to."""

    NONE = 1
    PRE_DATA = 2
    DATA = 3
    POST_DATA = 4


@dataclass(frozen=True, slots=True)
class TocEntry:
    """One entry of the table of contents: an object, a property of an object, or the data of one.

    ``tableoid`` and ``oid`` name the object in the system catalogs. ``relkind`` is empty before version 1.16
    and for what is no relation. ``data_position`` is known only of an archive that pg_dump wrote to a file.
    """

    dump_id: int
    had_dumper: bool
    tableoid: int
    oid: int
    tag: str
    desc: str
    section: Section
    defn: str | None
    drop_stmt: str | None
    copy_stmt: str | None
    namespace: str | None
    tablespace: str | None
    tableam: str | None
    relkind: str
    owner: str
    dependencies: tuple[int, ...]
    data_position: int | None

    @property
    def label(self) -> str:
        """The entry in a sentence, such as ``TABLE DATA public.orders (entry 3412)``."""
        name = f"{self.namespace}.{self.tag}" if self.namespace else self.tag
        return f"{self.desc} {name} (entry {self.dump_id})"


@dataclass(frozen=True, slots=True)
class TocLayout:
    """Where the table of contents stands among a head's bytes: the number of its entries, and the end of each entry."""

    count_position: int
    entry_ends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PostData:
    """The dump IDs of what is made after the data: indexes, keys, triggers, rules, policies and the like.

    What may be made *at_once*, by several jobs, comes first; the rest follows *in_order*, by one.
    """

    at_once: tuple[int, ...]
    in_order: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self.at_once) + len(self.in_order)


@dataclass(frozen=True, slots=True)
class ArchiveHead:
    """What an archive says of itself before its data.

    ``created`` is in the time zone of the machine where pg_dump ran, which the archive does not name.
    ``length`` is the number of bytes of header and TOC; data begins there.
    """

    version: tuple[int, int, int]
    compression: str
    created: datetime
    dbname: str
    server_version: str
    pg_dump_version: str
    entries: tuple[TocEntry, ...]
    length: int

    @property
    def is_known(self) -> bool:
        """Whether the archive's own bytes were read, and not only what the server's pg_restore says of them."""
        return True

    @property
    def data_entries(self) -> tuple[TocEntry, ...]:
        """The entries that have a block of data, in the order of the blocks."""
        return tuple(entry for entry in self.entries if entry.had_dumper)

    @property
    def encoding(self) -> str:
        """PostgreSQL's name of the encoding of the archive's text.

        It is the database's, unless pg_dump was given another.
        """
        for entry in self.entries:
            if entry.desc == "ENCODING":
                return encoding_of(entry)
        return "SQL_ASCII"

    @property
    def database_entry(self) -> TocEntry:
        """The entry that creates the database; pg_dump records it in every custom archive."""
        for entry in self.entries:
            if entry.desc == "DATABASE":
                return entry
        raise ArchiveError("The archive's table of contents does not say how its database was created.", self.length)

    @property
    def extensions(self) -> tuple[str, ...]:
        """The names of the extensions that a restore creates, in the order of their creation.

        Those of ``template0``, which is plpgsql, are not among them.
        """
        return tuple(entry.tag for entry in self.entries if entry.desc == "EXTENSION")

    @property
    def reaches_out(self) -> bool:
        """Whether the database has ways to read from others: foreign servers, or an extension that connects."""
        return "dblink" in self.extensions or any(entry.desc == "SERVER" for entry in self.entries)

    @property
    def owners(self) -> frozenset[str]:
        """The roles that own something in the archive, the database itself included."""
        return frozenset(entry.owner for entry in self.entries if entry.owner)

    @property
    def post_data(self) -> PostData:
        """What is made after the data, and what of it by several jobs.

        pg_restore's jobs know which tables two statements name, but not that one of them locks the partitions of
        its table as well (``identify_locking_dependencies`` in PostgreSQL's pg_backup_archiver.c): a foreign key to
        a partitioned table and an ``ALTER INDEX ... ATTACH PARTITION`` end in a deadlock if they meet. So where
        there are partitions, only what locks a single table, or its partitions below it, is made at once.
        """
        entries = self._after_the_data()
        if not any(entry.desc in _ATTACHMENTS for entry in self.entries):
            return PostData(at_once=tuple(entry.dump_id for entry in entries), in_order=())
        in_order: dict[int, None] = {}
        for entry in entries:
            # An index of a materialized view that is itself made after the data has to wait for it.
            if entry.desc not in _OF_ONE_TABLE or not in_order.keys().isdisjoint(entry.dependencies):
                in_order[entry.dump_id] = None
        at_once = tuple(entry.dump_id for entry in entries if entry.dump_id not in in_order)
        return PostData(at_once, tuple(in_order))

    @property
    def sequence_values(self) -> dict[str, tuple[int, bool]]:
        """For each sequence, its last value and whether it was handed out (``last_value``, ``is_called``).

        The keys are quoted like those of a manifest's row counts, ``"schema"."name"``.
        """
        return {
            readable(f"{quote_identifier(entry.namespace or '')}.{quote_identifier(entry.tag)}"): self._sequence_value(
                entry
            )
            for entry in self.entries
            if entry.desc == "SEQUENCE SET"
        }

    @property
    def database_tablespace(self) -> str | None:
        """The tablespace that was the database's default; None where it was ``pg_default``."""
        return self.definition.tablespace

    @property
    def tablespaces(self) -> frozenset[str]:
        """Every tablespace that a restore asks for, by the database itself or by a table or an index."""
        named = {entry.tablespace for entry in self.entries} | {self.database_tablespace}
        return frozenset(name for name in named if name)

    @property
    def definition(self) -> DatabaseDefinition:
        """How an empty database like the archive's is created: same encoding, locale, tablespace.

        Raises ArchiveError where the archive says it otherwise than pg_dump does.
        """
        try:
            return read_definition(self.database_entry.defn or "", escapes=not self._standard_conforming_strings)
        except ValueError as error:
            raise ArchiveError(
                f"The archive's CREATE DATABASE statement cannot be parsed: {error}.", self.length
            ) from None

    @property
    def properties(self) -> tuple[Property, ...]:
        """What the archive says of its database: comment, labels, privileges, limits and settings.

        Raises ArchiveError where a privilege or a label is none that pg_dump writes.
        """
        return tuple(self._properties()[0])

    @property
    def settings(self) -> tuple[DatabaseSetting, ...]:
        """The settings of the database, and of roles in it."""
        return tuple(one for one in self.properties if isinstance(one, DatabaseSetting))

    @property
    def unknown_properties(self) -> tuple[str, ...]:
        """What the archive says of its database and no restore repeats, since pg_dump says nothing like it."""
        return tuple(self._properties()[1])

    def database_properties(self, name: str | None = None) -> tuple[str, ...]:
        """Statements that give the database its comment, security labels, privileges and settings.

        They are to be run by a superuser when the database stands under its final name and has its owner.
        They name the database as it was called when it was dumped, or *name*. Raises ArchiveError where a privilege or a
        label is none that pg_dump writes.
        """
        return tuple(statements_of(self.properties, self.dbname if name is None else name))

    def _properties(self) -> tuple[list[Property], list[str]]:
        known: list[Property] = []
        unknown: list[str] = []
        for entry in self.entries:
            if not (entry.defn and _is_database_property(entry)):
                continue
            escapes = not self._standard_conforming_strings
            try:
                if entry.desc in _NEVER_LEFT_OUT:
                    known += read_properties(entry.defn, escapes=escapes)
                    continue
                understood, others = read_known_properties(entry.defn, escapes=escapes)
            except ValueError as error:
                if entry.desc in _NEVER_LEFT_OUT:
                    raise ArchiveError(
                        f"{entry.label} of the archive cannot be parsed: {error}.", self.length
                    ) from None
                understood, others = [], [f": {error}"]
            known += understood
            unknown += [f"{entry.label}{other}" for other in others]
        return known, unknown

    def _after_the_data(self) -> list[TocEntry]:
        """The entries of the last section; comments and the like are of the section that they stand in.

        So it is to pg_restore, see ``_tocEntryRequired`` and its callers in PostgreSQL's pg_backup_archiver.c.
        """
        section, found = Section.PRE_DATA, []
        for entry in self.entries:
            section = section if entry.section is Section.NONE else entry.section
            if section is Section.POST_DATA:
                found.append(entry)
        return found

    def _sequence_value(self, entry: TocEntry) -> tuple[int, bool]:
        found = _SETVAL.match(entry.defn or "")
        if found is None:
            raise ArchiveError(f"The archive does not record the value of {entry.label}.", self.length)
        return int(found.group(1)), found.group(2) == "true"

    @property
    def _standard_conforming_strings(self) -> bool:
        return not any(entry.desc == "STDSTRINGS" and "'off'" in (entry.defn or "") for entry in self.entries)


def encoding_of(entry: TocEntry) -> str:
    """PostgreSQL's name of the encoding that an ``ENCODING`` entry sets."""
    found = _ENCODING.match(entry.defn or "")
    return found.group(1) if found else "SQL_ASCII"


def _is_database_property(entry: TocEntry) -> bool:
    """pg_restore's own rule for what belongs to ``--create``."""
    if entry.desc in ("COMMENT", "ACL", "SECURITY LABEL"):
        return entry.tag.startswith("DATABASE ")
    return entry.desc == "DATABASE PROPERTIES"
