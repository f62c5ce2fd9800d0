# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_restore could not make, by what it said: it names the entry of the archive, and no code of the error.

Its words and the server's may be in any language. So an entry is known by its three numbers, which have to be those that
the archive's table of contents has, and the errors by the number at the end of pg_restore's last line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from scalr_backup.core.archive.head import ArchiveHead, Section, TocEntry
from scalr_backup.core.discretion import error_without_values, without_values, words_of

# Such as: from TOC entry 3215; 2606 16401 FK CONSTRAINT c bad postgres
_ENTRY = re.compile(
    r"^pg_restore: [^\n;]*?(?P<id>\d{1,20}); (?P<tableoid>\d{1,20}) (?P<oid>\d{1,20}) [^\n]*\n", re.MULTILINE
)
# What it says of its progress, in its verbose mode and between two errors, is not of the error.
_ERROR = re.compile(r"^pg_restore: [^\n:]+: (?P<before>[^\n]*?)(?P<words>[^\s:]+:  [^\n]*)$", re.MULTILINE)
_IGNORED = re.compile(r"(?P<count>\d{1,20})\D*\Z")
# What pg_restore sends after an object, made or not: the owner that it gets.
_OWNER = re.compile(r"\bALTER .+ OWNER TO .+;", re.DOTALL)
# What may be a row's as well: a label, or what a column is compared with.
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_CODE = frozenset({"FUNCTION", "PROCEDURE"})


@dataclass(frozen=True)
class Trouble:
    """An entry of an archive that could not be restored, and the server's words."""

    entry: TocEntry
    words: str
    # All that was said of it, without the statement itself; for finding out more, and not for showing: it may quote rows.
    context: str = field(default="", repr=False, compare=False)
    # An object that could not be made cannot be given to its owner either: so many errors are this entry's.
    errors: int = field(default=1, compare=False)
    # The words of the archive's definitions, where the server has worked on rows.
    known: frozenset[str] | None = field(default=None, repr=False, compare=False)

    @property
    def cause(self) -> str:
        """The server's words as they may be shown and kept: without what may be a row's."""
        if self.known is None:
            return self.words
        return error_without_values(self.words, self.known) or without_values(self.words, self.known)

    @property
    def sentence(self) -> str:
        """Both, such as ``FK CONSTRAINT public.orders orders_fk: ERROR:  …``."""
        return f"{name_of(self.entry)}: {self.cause}"


def name_of(entry: TocEntry) -> str:
    """An entry as an operator finds the object: what it is, its schema, its name."""
    return f"{entry.desc} {entry.namespace}.{entry.tag}" if entry.namespace else f"{entry.desc} {entry.tag}"


def troubles(said: str, head: ArchiveHead, jobs: int = 1) -> tuple[Trouble, ...]:
    """What could not be made or loaded, each once, in the order in which it was tried.

    pg_restore names an entry before its first error, and what follows is that entry's too. Of several jobs, one may have
    written into the line that names another's entry: there, only what an owner was refused for is counted to the entry before.
    Where no entry is named, rows that could not be loaded are known by their table, without its schema.
    """
    entries = {entry.dump_id: entry for entry in head.entries}
    found: dict[int, Trouble] = {}
    marks = sorted([*_ENTRY.finditer(said), *_ERROR.finditer(said)], key=re.Match.start)
    ends = [mark.start() for mark in marks[1:]] + [len(said)]
    named: TocEntry | None = None
    for mark, end in zip(marks, ends, strict=False):
        text = said[mark.start() : end]
        if mark.re is _ENTRY:
            named = _entry_of(mark, entries)
            if named is not None:
                # Where the server's own words are missing, pg_restore's have to do.
                found.setdefault(
                    named.dump_id, Trouble(named, text[mark.end() - mark.start() :].split("\n", 1)[0].strip())
                )
            continue
        entry = named or _table_of(mark, head)
        if entry is None:
            continue
        if entry.dump_id not in found or not found[entry.dump_id].context:
            found[entry.dump_id] = Trouble(entry, mark["words"].strip(), text)
        elif jobs == 1 or _OWNER.search(text):
            found[entry.dump_id] = replace(found[entry.dump_id], errors=found[entry.dump_id].errors + 1)
    known = words_not_of_rows(found.values(), head) if found else None
    return tuple(one if _makes_no_rows(one) else replace(one, known=known) for one in found.values())


def words_not_of_rows(found: Collection[Trouble], head: ArchiveHead) -> frozenset[str] | None:
    """The words of an archive's definitions; None where all that went wrong came before the first row."""
    if found and all(map(_makes_no_rows, found)):
        return None
    return words_of(text for entry in head.entries for text in _texts(entry))


def _makes_no_rows(trouble: Trouble) -> bool:
    return trouble.entry.section is Section.PRE_DATA


def _texts(entry: TocEntry) -> Iterator[str | None]:
    """What an archive says of an object; of literals, only those of code, which say what goes wrong in it."""
    yield from (entry.namespace, entry.tag, entry.owner, entry.copy_stmt)
    yield entry.defn if entry.desc in _CODE else _LITERAL.sub("", entry.defn or "")


def errors_of(found: Iterable[Trouble]) -> int:
    """How many errors of pg_restore these are."""
    return sum(trouble.errors for trouble in found)


def _entry_of(mark: re.Match[str], known: Mapping[int, TocEntry]) -> TocEntry | None:
    entry = known.get(int(mark["id"]))
    return entry if entry and (entry.tableoid, entry.oid) == (int(mark["tableoid"]), int(mark["oid"])) else None


def _table_of(mark: re.Match[str], head: ArchiveHead) -> TocEntry | None:
    """The table whose rows were not loaded; of several of that name, one that has what the server names, if one does."""
    tables = [
        entry
        for entry in head.entries
        if entry.desc == "TABLE DATA" and re.search(rf"(?<!\w){re.escape(entry.tag)}(?!\w)", mark["before"])
    ]
    quoted = re.findall(r'"([^"\n]+)"', mark["words"])
    definitions = {(one.namespace, one.tag): one.defn or "" for one in head.entries if one.desc == "TABLE"}
    # The longest name is the one that is meant where another is a part of it.
    tables.sort(
        key=lambda one: (-len(one.tag), -sum(word in definitions.get((one.namespace, one.tag), "") for word in quoted))
    )
    return tables[0] if tables else None


def are_all_named(said: str, found: int, jobs: int) -> bool:
    """Whether so many errors as were found are all that pg_restore counts at its end: it went on after each.

    Of several jobs, each counts its errors, and the first process counts them once more.
    """
    last = said.rstrip().rsplit("\n", 1)[-1]
    counted = _IGNORED.search(last)
    if not found or counted is None or not last.startswith("pg_restore: "):
        return False
    return int(counted["count"]) in ({found} if jobs == 1 else {found, 2 * found})
