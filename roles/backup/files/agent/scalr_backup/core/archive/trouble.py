# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_restore could not make, by what it said: it names the entry of the archive, and no code of the error.

Its words and the server's may be in any language. So an entry is known by its three numbers, which have to be those that
the archive's table of contents has, and the errors by the number at the end of pg_restore's last line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from scalr_backup.core.archive.head import ArchiveHead, TocEntry

# Such as: from TOC entry 3215; 2606 16401 FK CONSTRAINT c bad postgres
_ENTRY = re.compile(r"^pg_restore: [^\n;]*?(?P<id>\d+); (?P<tableoid>\d+) (?P<oid>\d+) [^\n]*\n", re.MULTILINE)
# What it says of its progress, in its verbose mode and between two errors, is not of the error.
_ERROR = re.compile(r"^pg_restore: [^\n:]+: (?P<before>[^\n]*?)(?P<words>[^\s:]+:  [^\n]*)$", re.MULTILINE)
_IGNORED = re.compile(r"(?P<count>\d+)\D*\Z")


@dataclass(frozen=True)
class Trouble:
    """An entry of an archive that could not be restored, and the server's words."""

    entry: TocEntry
    words: str
    # All that was said of it, without the statement itself; for finding out more, and not for showing: it may quote rows.
    context: str = field(default="", repr=False, compare=False)

    @property
    def sentence(self) -> str:
        """Both, such as ``FK CONSTRAINT public.orders orders_fk: ERROR:  …``."""
        return f"{name_of(self.entry)}: {self.words}"


def so_many(count: int) -> str:
    """So many objects, in words."""
    return f"{count} {'object' if count == 1 else 'objects'}"


def name_of(entry: TocEntry) -> str:
    """An entry as an operator finds the object: what it is, its schema, its name."""
    return f"{entry.desc} {entry.namespace}.{entry.tag}" if entry.namespace else f"{entry.desc} {entry.tag}"


def troubles(said: str, head: ArchiveHead) -> tuple[Trouble, ...]:
    """What could not be made or loaded, each once, in the order in which it was tried.

    The first error after a line that names an entry is that entry's. Of rows that could not be loaded, only the table is
    named, without its schema.
    """
    known = {entry.dump_id: entry for entry in head.entries}
    found: dict[int, Trouble] = {}
    marks = sorted([*_ENTRY.finditer(said), *_ERROR.finditer(said)], key=re.Match.start)
    ends = [mark.start() for mark in marks[1:]] + [len(said)]
    entry: TocEntry | None = None
    for mark, end in zip(marks, ends, strict=False):
        text = said[mark.start() : end]
        if mark.re is _ENTRY:
            entry = _entry_of(mark, known)
            if entry is not None:
                # Where the server's own words are missing, pg_restore's have to do.
                found.setdefault(
                    entry.dump_id, Trouble(entry, text[mark.end() - mark.start() :].split("\n", 1)[0].strip())
                )
            continue
        entry = entry or _table_of(mark, head)
        if entry is not None and (entry.dump_id not in found or not found[entry.dump_id].context):
            found[entry.dump_id] = Trouble(entry, mark["words"].strip(), text)
        entry = None
    return tuple(found.values())


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
    """Whether what was found are all the errors that pg_restore counts at its end: it went on after each.

    Of several jobs, each counts its errors, and the first process counts them once more.
    """
    last = said.rstrip().rsplit("\n", 1)[-1]
    counted = _IGNORED.search(last)
    if not found or counted is None or not last.startswith("pg_restore: "):
        return False
    return int(counted["count"]) in ({found} if jobs == 1 else {found, 2 * found})
