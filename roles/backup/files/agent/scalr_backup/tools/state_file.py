# SPDX-License-Identifier: GPL-3.0-or-later
"""``state.json``: one JSON document, replaced in one piece, and held to its declared shape when it is read.

What does not have that shape is left out, so that a damaged entry costs only itself, and a document that is damaged beyond
reading keeps no pass from its work. But it is not forgotten: before anything is written in its place, the damaged file is set
aside, and for as long as it lies there the status says so.

Nor does a disk that takes nothing keep anybody from work: a process goes by what it could not write, and writes it as soon as
that is possible.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from scalr_backup.core.errors import UnwritableRecordError
from scalr_backup.core.records.reading import Fault, faults, listed
from scalr_backup.core.records.state import PARTS_OF_ENTRIES, STATE_VERSION, StateRecord
from scalr_backup.tools import own_disk

Change = Callable[[StateRecord], object]

# So many changes wait for a disk that takes nothing, the latest ones: a process that serves makes some with each pass, for weeks.
_MOST_WAITING = 500


class StateFile:
    """The document in a state directory, and the lock that keeps two writers apart."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "state.json"
        self._aside = directory / "state.json.damaged"
        self._lock = directory / "locks" / "state"
        # What this process could not write, and why; its threads take turns.
        self._waiting: list[Change] = []
        self._obstacle: str | None = None
        self._turn = threading.Lock()

    def read(self) -> StateRecord:
        """What can be read of the document, with what this process could not write; what cannot be read is in ``damage``."""
        with self._turn:
            document = _read(self._path)[0]
            for change in self._waiting:
                change(document)
        return document

    def changed(self) -> int | None:
        """When the document was last replaced, in nanoseconds; what differs from an earlier answer has changed."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return None

    def change(self, change: Change, *, at_once: bool = False) -> None:
        """Replace the document by a changed one; no other change comes between reading and writing.

        What cannot be written waits, and goes with the next change that can be; a change may be made several times then.

        Raises UnwritableRecordError for one that is to be written *at_once*, and forgets it.
        """
        with self._turn:
            changes = [*self._waiting, change]
            try:
                with own_disk.taking(self._path):
                    self._write(changes)
            except UnwritableRecordError as error:
                if at_once:
                    raise
                self._waiting, self._obstacle = changes[-_MOST_WAITING:], error.message
            else:
                self._waiting, self._obstacle = [], None

    def unwritten(self) -> str | None:
        """Why something of this process is not written, as a sentence; None where all of it is."""
        return self._obstacle

    def obstacle(self) -> str | None:
        """Why nothing can be written, as a sentence; None where it can be, and then what has waited is written."""
        if self._waiting:
            self._settle()
        return self._obstacle or own_disk.obstacle(self._path)

    def damage(self) -> str | None:
        """A sentence for the operator while a damaged document lies here; None otherwise."""
        if _read(self._path)[1]:
            self._settle()
        place = self._aside if os.path.lexists(self._aside) else self._path
        found = _read(place)[1]
        if not found and place == self._path:
            return None
        what = listed(found) or "an earlier version of the agent could not read it"
        return (
            f"Part of this agent's record cannot be read and is ignored: {what}. Passes go on and record "
            f"their results again. The damaged file is {place}: check it, then remove it."
        )

    @property
    def cure(self) -> str:
        """The command that resolves the damage, after inspection."""
        return f"docker exec scalr-backup rm {self._aside}"

    def _settle(self) -> None:
        """Write what waits, and set aside what is damaged, if the disk takes it."""
        with suppress(UnwritableRecordError):
            self.change(lambda _document: None, at_once=True)

    def _write(self, changes: Sequence[Change]) -> None:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            document, found = _read(self._path)
            for change in changes:
                change(document)
            if found:
                self._set_aside()
            with own_disk.replacing(self._path, self._path.with_suffix(".json.new")) as file:
                json.dump(document, file, indent=1)

    def _set_aside(self) -> None:
        """Keep the damaged file under another name. A power cut in between leaves one of the two names, never neither."""
        with suppress(OSError):
            self._aside.unlink()
        try:
            self._aside.hardlink_to(self._path)
        except OSError:
            with suppress(OSError):
                self._path.replace(self._aside)


def _read(path: Path) -> tuple[StateRecord, list[Fault]]:
    """The readable part of a document, and what is wrong with the rest; a document that is not there is a new one."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [Fault((), f"the file cannot be read: {error.strerror}")]
    except (ValueError, RecursionError):
        return {}, [Fault((), "the file is not valid JSON")]
    if not isinstance(document, dict):
        return {}, [Fault((), "the file is not a JSON object")]
    found = faults(StateRecord, document)
    for fault in found:
        _leave_out(document, fault.where)
    if (version := document.pop("version", STATE_VERSION)) != STATE_VERSION:
        why = (
            f"its version is {version}, and this agent knows {STATE_VERSION}: a newer agent wrote it, so update this "
            "one"
        )
        found.append(Fault((), why))
    return cast("StateRecord", document), found


def _leave_out(document: dict[str, Any], where: tuple[str | int, ...]) -> None:
    """Drop the part of a document, or the one entry of a part, that a fault is in."""
    name = str(where[0])
    part = document.get(name)
    if name in PARTS_OF_ENTRIES and len(where) > 1 and isinstance(part, dict):
        part.pop(where[1], None)
    else:
        document.pop(name, None)
