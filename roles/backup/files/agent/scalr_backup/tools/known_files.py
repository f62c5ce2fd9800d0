# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trusted place remembers of a repository's files: a JSON document of its own, which only it can read.

Its loss, and damage to it, mean that everything is read again, and never that something is believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from scalr_backup.core.errors import ScalrBackupError
from scalr_backup.tools import own_disk
from scalr_backup.tools.state import STATE_DIRECTORY
from scalr_backup.tools.store.files import NAME, Stored

_VERSION = 1
# Of packs of 16 MiB, that is 30 TB; the document then has 200 MB.
_MOST_FILES = 2_000_000


@dataclass
class KnownFiles:
    """The files of one repository that were read and found to be what they say.

    *packs* are those that a believed index names, with the sign of each; *indexes* are believed and have to be there; those in
    *touched* may have been written or removed by a prune of ours that did not get to its end, and are believed where they are there.
    *waiting* are packs that a prune found useless, and since when; *locks* say when each was first seen. *complete* is false
    before the first look has got to its end.
    """

    packs: dict[str, str] = field(default_factory=dict)
    indexes: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    waiting: dict[str, datetime] = field(default_factory=dict)
    locks: dict[str, datetime] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    complete: bool = False

    def replaced(self, found: dict[str, Stored]) -> list[str]:
        """The packs that are gone, or are not those that were read."""
        return [
            name
            for name, sign in self.packs.items()
            if name not in found or sign not in {found[name].sign, str(found[name].size)}
        ]

    def document(self) -> dict[str, object]:
        """As it is kept."""
        return {
            "version": _VERSION,
            "packs": self.packs,
            "indexes": sorted(self.indexes),
            "touched": sorted(self.touched),
            "waiting": {name: since.isoformat() for name, since in self.waiting.items()},
            "locks": {name: since.isoformat() for name, since in self.locks.items()},
            "keys": sorted(self.keys),
            "complete": self.complete,
        }


class KnownFilesStore:
    """Where it is kept, by the repository's id and its address: the copy of a repository has the same id, and other files.

    An id is what somebody may have written into the repository. So this also tells whether another was last at the address.
    """

    def __init__(self, repository_id: str, directory: Path | None = None, *, address: str = "") -> None:
        name = "".join(letter for letter in repository_id if letter.isalnum())[:64]
        self._place = directory or STATE_DIRECTORY
        # As it was called when nobody thought of copies.
        self._former = self._place / f"files-{name}.json"
        digest = hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:16]
        self._of_address = f"-{digest}.json" if address else ""
        self._path = self._place / f"files-{name}{self._of_address}" if address else self._former
        self._writes = True

    def former_id(self) -> str | None:
        """The id of the repository that was last seen at this address, where it is another one."""
        last = self._last()
        if last is None or last == self._path:
            return None
        return last.name.removeprefix("files-").removesuffix(self._of_address)

    def take_over(self) -> None:
        """Take what is remembered of the repository that was last seen at this address for what is remembered of this one.

        Raises UnwritableRecordError where the disk does not let it.
        """
        with own_disk.taking(self._path):
            if (last := self._last()) is not None:
                last.replace(self._path)
            for path in self._all():
                if path != self._path:
                    path.unlink(missing_ok=True)

    def only_read(self) -> None:
        """From now on, write nothing down."""
        self._writes = False

    def read(self) -> KnownFiles:
        """What is remembered; nothing where that is not there, or is not what this version writes."""
        try:
            return _parse(json.loads((self._last() or self._former).read_bytes()))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return KnownFiles()

    def write(self, known: KnownFiles) -> None:
        """Remember this, in one piece. Raises UnwritableRecordError where the disk does not take it."""
        if not self._writes:
            return
        if len(known.packs) > _MOST_FILES:
            raise ScalrBackupError(
                f"The repository has more than {_MOST_FILES} packs, more than a trusted place can remember: give each host a "
                "repository of its own."
            )
        with own_disk.taking(self._path):
            self._write(known)

    def _write(self, known: KnownFiles) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with own_disk.replacing(self._path, self._path.with_suffix(".new"), mode=0o600) as file:
            json.dump(known.document(), file, separators=(",", ":"))

    def _last(self) -> Path | None:
        """The document of this address that was written last."""
        return max(self._all(), key=lambda path: (path.stat().st_mtime_ns, path == self._path), default=None)

    def _all(self) -> list[Path]:
        """The documents of this address: one, unless another repository was there before."""
        return list(self._place.glob(f"files-*{self._of_address}")) if self._of_address else []


def _parse(document: dict[str, object]) -> KnownFiles:
    if document["version"] != _VERSION:
        raise ValueError
    packs = _table(document["packs"])
    return KnownFiles(
        packs=packs,
        indexes=_names(document["indexes"]),
        touched=_names(document["touched"]),
        waiting=_moments(document["waiting"]),
        locks=_moments(document["locks"]),
        keys=_names(document["keys"]),
        complete=document["complete"] is True,
    )


def _names(found: object) -> set[str]:
    if not isinstance(found, list):
        raise TypeError
    return set(_checked(found))


def _table(found: object) -> dict[str, str]:
    if not isinstance(found, dict):
        raise TypeError
    _checked(found)
    return {name: str(value) for name, value in found.items()}


def _moments(found: object) -> dict[str, datetime]:
    return {name: datetime.fromisoformat(value) for name, value in _table(found).items()}


def _checked(names: Collection[object]) -> list[str]:
    texts = [name for name in names if isinstance(name, str) and NAME.fullmatch(name)]
    if len(texts) != len(names):
        raise ValueError
    return texts
