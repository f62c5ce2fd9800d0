# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_restore could not make, by what it said: it names the entry of the archive, and no code of the error.

Its words and the server's may be in any language. So an entry is known by its three numbers, which have to be those that
the archive's table of contents has, and the errors by the number at the end of pg_restore's last line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from scalr_backup.core.archive.head import ArchiveHead, TocEntry

# Such as: from TOC entry 3215; 2606 16401 FK CONSTRAINT c bad postgres
_ENTRY = re.compile(r"^pg_restore: [^\n;]*?(?P<id>\d+); (?P<tableoid>\d+) (?P<oid>\d+) [^\n]*\n", re.MULTILINE)
# What it says of its progress, in its verbose mode and between two errors, is not of the error.
_ERROR = re.compile(r"^pg_restore: [^\n:]+: [^\n]*?(?P<words>[^\s:]+:  [^\n]*)$", re.MULTILINE)
_IGNORED = re.compile(r"(?P<count>\d+)\D*\Z")


@dataclass(frozen=True)
class Trouble:
    """An entry of an archive that could not be restored, and the server's words."""

    entry: TocEntry
    words: str

    @property
    def sentence(self) -> str:
        """Both, such as ``FK CONSTRAINT public.orders orders_fk: ERROR:  …``."""
        return f"{name_of(self.entry)}: {self.words}"


def name_of(entry: TocEntry) -> str:
    """An entry as an operator finds the object: what it is, its schema, its name."""
    return f"{entry.desc} {entry.namespace}.{entry.tag}" if entry.namespace else f"{entry.desc} {entry.tag}"


def troubles(said: str, head: ArchiveHead) -> tuple[Trouble, ...]:
    """What could not be made, each once, in the order in which it was tried."""
    known = {entry.dump_id: entry for entry in head.entries}
    found: dict[int, Trouble] = {}
    places = list(_ENTRY.finditer(said))
    ends = [place.start() for place in places[1:]] + [len(said)]
    for place, end in zip(places, ends, strict=False):
        entry = known.get(int(place["id"]))
        if entry is None or (entry.tableoid, entry.oid) != (int(place["tableoid"]), int(place["oid"])):
            continue
        text = said[place.end() : end]
        words = _ERROR.search(text)
        found.setdefault(
            entry.dump_id, Trouble(entry, words["words"].strip() if words else text.split("\n", 1)[0].strip())
        )
    return tuple(found.values())


def are_all_named(said: str, found: int, jobs: int) -> bool:
    """Whether what was found are all the errors that pg_restore counts at its end: it went on after each.

    Of several jobs, each counts its errors, and the first process counts them once more.
    """
    last = said.rstrip().rsplit("\n", 1)[-1]
    counted = _IGNORED.search(last)
    if not found or counted is None or not last.startswith("pg_restore: "):
        return False
    return int(counted["count"]) in ({found} if jobs == 1 else {found, 2 * found})
