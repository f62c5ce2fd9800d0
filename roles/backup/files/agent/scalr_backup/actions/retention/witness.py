# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trusted place has itself seen of a repository, and a prune that acts on nothing else.

Whoever has a host's key and the repository's password can add an index that says whatever helps: that a pack of noise holds
all good data, and that the good packs hold nothing that anybody needs. restic's prune believes every index, and deletes. So:

* **Look.** Every index that is new since the last look is read, and every pack that it names: the pack's bytes against its
  name, its head against the index, each blob against its own id; restic does that (``check --read-data``) before a gate that
  shows it these indexes and packs alone. An index that speaks of a pack that an earlier one has spoken of is none that a
  backup writes. If anything is wrong, nothing is removed at all.
* **Prune.** restic prunes before a gate that shows it the believed indexes and the packs that were there. What somebody adds
  meanwhile it cannot see. Two packs that hold the same blob are harmless: both were read.
* **Wait.** A pack that prune finds useless loses its place in the index, and goes when a later prune, 23 hours after the
  first, finds it useless again. Till then ``restic repair index`` brings it back.

Snapshots are shown as they are: a forged one can only make restic keep more, or end because something is missing.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from scalr_backup.core.answers import LookAnswer
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import ForgedFilesError, RepositoryUnreachableError, ResticError, UnfinishedLookError
from scalr_backup.core.progress import Emit, log, progress
from scalr_backup.core.repository_index import RepositoryIndex, StrangeIndexError, parse_index
from scalr_backup.tools.known_files import KnownFiles, KnownFilesStore
from scalr_backup.tools.restic.messages import Done
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.store.files import Files, Kind, MissingFileError, Stored
from scalr_backup.tools.store.gate import ForbiddenError, ReadingView, gate

# Less than a day, so that a prune at the same time of the next day is late enough.
_DELETED_AFTER = timedelta(hours=23)
# A prune a day deletes what has waited for one.
_WAITS_LONG = timedelta(days=3)
# restic renews a lock under another name every five minutes.
_LOCK_LASTS = timedelta(hours=1)
# restic's own indexes have up to 50,000 blobs in some 8 MB, and its packs are 128 MiB at most, and one blob more.
_MOST_BYTES_OF_AN_INDEX = 32 << 20
_MOST_BYTES_OF_A_PACK = 192 << 20
# Keys, locks and snapshots: one of our snapshots has less than a kilobyte.
_SMALL: tuple[Kind, ...] = ("keys", "locks", "snapshots")
_MOST_BYTES_OF_A_SMALL_FILE = 4 << 20
# What is read at a time, and kept when the next part fails.
_BYTES_AT_A_TIME = 4 << 30
_INDEXES_AT_A_TIME = 64
_ATTEMPTS = 3
_NAMED = 3


@dataclass
class Look:
    """What a look has cost and found: how much was read, in how many seconds, and how many packs wait or are gone."""

    indexes: int = 0
    packs: int = 0
    bytes: int = 0
    seconds: float = 0.0
    waiting: int = 0
    deleted: int = 0
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> LookAnswer:
        """As the JSON contract shows it."""
        return {
            "indexes": self.indexes,
            "packs": self.packs,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 1),
            "waiting": self.waiting,
            "deleted": self.deleted,
        }


@dataclass(frozen=True)
class _Found:
    """What the store holds, which indexes are new, and what each of these says, as far as they were read."""

    indexes: dict[str, Stored]
    packs: dict[str, Stored]
    new: tuple[str, ...]
    texts: dict[str, RepositoryIndex] = field(default_factory=dict)


class Witness:
    """Looks at one repository, and prunes it by what it saw."""

    def __init__(
        self,
        restic: Restic,
        files: Files,
        store: KnownFilesStore,
        emit: Emit,
        *,
        read_all: bool = False,
        limit_seconds: float = 6 * 3600,
    ) -> None:
        """*read_all* forgets what was believed, so that everything is read; *limit_seconds* is how long a look may take."""
        self._restic = restic
        self._files = files
        self._store = store
        self._emit = emit
        self._limit = limit_seconds
        self._deadline = 0.0
        self._known = store.read()
        self._look = Look()
        # Of the keys that are there now; they are known when a prune has got to its end, so that a warning is never the last.
        self._keys: set[str] = set()
        # Whether snapshots may be gone by now.
        self._prunes = False
        self.read_all = read_all
        if read_all:
            self._known = KnownFiles(waiting=self._known.waiting, locks=self._known.locks, keys=self._known.keys)

    @property
    def seen(self) -> Look:
        """What the looks of this run came to."""
        return self._look

    def clear_locks(self) -> None:
        """Remove the locks that have stood under one name for an hour by the clock here, whatever time is written in them."""
        now, found = utc_now(), self._files.listing("locks")
        first_seen = {name: min(self._known.locks.get(name, now), now) for name in found}
        old = [name for name, since in first_seen.items() if now - since >= _LOCK_LASTS]
        for name in old:
            self._files.remove("locks", name)
        if old:
            self._emit(log("warning", f"{len(old)} locks that were not renewed were removed: {_short(old)}"))
        self._known.locks = {name: since for name, since in first_seen.items() if name not in old}
        self._store.write(self._known)

    def look(self) -> Look:
        """Read what is new.

        Raises ForgedFilesError when something is not what it says, UnfinishedLookError when time is over; what was read till
        then is remembered.
        """
        began = time.monotonic()
        self._deadline = began + self._limit
        try:
            found = self._find()
            self._warn_of_long_waiting()
            for begin in range(0, len(found.new), _INDEXES_AT_A_TIME):
                some = found.new[begin : begin + _INDEXES_AT_A_TIME]
                self._read_indexes(found, some)
                self._judge(found, some)
                for batch in _batches(found, some):
                    self._read(found, batch)
                    self._believe(found, batch)
            self._known.complete = True
            self._store.write(self._known)
        finally:
            self._look.seconds += time.monotonic() - began
        return self._look

    def prune(self, on_progress: Callable[[Done], None]) -> None:
        """Prune by what was seen; a backup that came in between is looked at first."""
        self._prunes = True
        for attempt in range(1, _ATTEMPTS + 1):
            view = PruningView(self._files, self._known, self._store)
            try:
                with gate(self._files, view) as place:
                    self._restic.seen_through(place.repository, place.environment).prune(on_progress)
            except ResticError:
                came = self._files.listing("index").keys() - view.shown("index").keys() - self._known.touched
                if not came or attempt == _ATTEMPTS:
                    raise
                self.look()
                continue
            self._known.keys = self._keys
            view.settle()
            self._look.waiting, self._look.deleted = len(self._known.waiting), view.deleted
            return

    # -- the look ---------------------------------------------------------------------------------------------

    def _find(self) -> _Found:
        """What is new, judged by what the store lists and what the new indexes say."""
        # In this order: an index comes after the packs that it names.
        indexes, packs, keys = (self._files.listing(kind) for kind in ("index", "data", "keys"))
        self._require_what_was_there(indexes, packs)
        self._compare_keys(set(keys))
        large = [f"index/{name}" for name, one in indexes.items() if one.size > _MOST_BYTES_OF_AN_INDEX]
        if large:
            raise self._forged(large, "holds indexes that are larger than any that restic writes")
        believed = self._known.indexes | self._known.touched
        return _Found(indexes, packs, tuple(name for name in indexes if name not in believed))

    def _read_indexes(self, found: _Found, names: Sequence[str]) -> None:
        """Have restic decrypt some of the new indexes."""
        self._emit(progress("look", done=len(found.texts), total=len(found.new), unit="indexes"))
        keys = self._files.listing("keys")
        with gate(self._files, ReadingView({name: found.indexes[name] for name in names}, {}, keys)) as place:
            reader = self._restic.seen_through(place.repository, place.environment)
            for name in names:
                self._require_time()
                found.texts[name] = self._index(reader, name)

    def _require_time(self) -> float:
        """The seconds that are left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            done = "it was not pruned" if self._prunes else "nothing was removed"
            raise UnfinishedLookError(
                f"Not everything new in the repository {self._restic.repository} could be read in "
                f"{self._limit / 3600:.1f} hours, so {done}: run prune.yml again; it continues from there. "
                "If no host has saved that much, somebody is flooding the repository."
            )
        return left

    def _index(self, reader: Restic, name: str) -> RepositoryIndex:
        try:
            text = reader.index_text(name, _MOST_BYTES_OF_AN_INDEX * 2)
            if text is None:
                raise StrangeIndexError("is larger than any that restic writes")
            return parse_index(text)
        except StrangeIndexError as strange:
            raise self._forged([f"index/{name}"], f"holds an index that {strange}") from None
        except RepositoryUnreachableError:
            raise
        except ResticError as error:
            raise self._forged([f"index/{name}"], f"holds an index that restic cannot read ({error.message})") from None

    def _judge(self, found: _Found, names: Sequence[str]) -> None:
        """End where an index says what no backup's index says, before anything is read for it."""
        spoken = Counter(pack for name in names for pack in found.texts[name].packs)
        for name in names:
            text = found.texts[name]
            if absent := [pack for pack in text.packs if pack not in found.packs]:
                raise self._forged(
                    [f"index/{name}"], f"holds an index that names packs that are not there ({_short(absent)})"
                )
            if large := [pack for pack in text.packs if found.packs[pack].size > _MOST_BYTES_OF_A_PACK]:
                raise self._forged(
                    [f"data/{pack}" for pack in large], "holds packs that are larger than any that restic writes"
                )
            if not self._known.complete:
                # Nothing was believed so far: who speaks of what may have changed as often as somebody has pruned.
                continue
            if text.supersedes:
                raise self._forged([f"index/{name}"], "holds an index that claims to supersede others")
            if again := [pack for pack in text.packs if pack in self._known.packs or spoken[pack] > 1]:
                others = [
                    one for one, other in found.texts.items() if one != name and not {*other.packs}.isdisjoint(again)
                ]
                raise self._forged(
                    [f"index/{one}" for one in (name, *others)],
                    f"holds an index that repeats packs that another one names ({_short(again)})",
                )

    def _read(self, found: _Found, batch: Sequence[str]) -> None:
        """Have restic read the packs of some indexes; what is wrong is searched for index by index."""
        packs = {pack: found.packs[pack] for name in batch for pack in found.texts[name].packs}
        view = ReadingView({name: found.indexes[name] for name in batch}, packs, self._files.listing("keys"))
        size = sum(one.size for one in packs.values())
        self._emit(progress("look", packs=len(packs), bytes=size))
        try:
            with gate(self._files, view) as place:
                self._restic.seen_through(place.repository, place.environment).read_packs(
                    self._require_time(),
                    lambda done: self._emit(progress("look", done=done.count, total=done.total, unit=done.unit)),
                )
        except RepositoryUnreachableError:
            # restic had no more time than the look has.
            self._require_time()
            raise
        except ResticError as error:
            for name in batch if len(batch) > 1 else ():
                self._read(found, [name])
            if spoilt := self._spoilt(found, batch):
                raise self._forged(spoilt, "holds packs whose content does not match their names") from None
            names = [*(f"index/{name}" for name in batch), *(f"data/{pack}" for pack in self._only_in(found, batch))]
            what = f"holds an index and packs that are not what they claim to be ({error.message})"
            raise self._forged(names, what) from None
        self._look.indexes += len(batch)
        self._look.packs += len(packs)
        self._look.bytes += size

    def _spoilt(self, found: _Found, batch: Sequence[str]) -> list[str]:
        """The packs that were damaged or replaced: they are named alone, because the index that names them may be good."""
        spoilt = []
        for pack in dict.fromkeys(pack for name in batch for pack in found.texts[name].packs):
            self._require_time()
            digest = hashlib.sha256()
            # One that has gone meanwhile has no bytes.
            with suppress(MissingFileError), self._files.read("data", pack) as pieces:
                for piece in pieces:
                    digest.update(piece)
            if digest.hexdigest() != pack:
                spoilt.append(f"data/{pack}")
        return spoilt

    def _only_in(self, found: _Found, batch: Sequence[str]) -> list[str]:
        """The packs that only these indexes name: a good pack is not accused because a bad index speaks of it."""
        rest = [name for name in found.new if name not in found.texts]
        if len(rest) > _INDEXES_AT_A_TIME:
            return []
        self._read_indexes(found, rest)
        others = {pack for name, text in found.texts.items() if name not in batch for pack in text.packs}
        spared = others | self._known.packs.keys()
        return [pack for name in batch for pack in found.texts[name].packs if pack not in spared]

    def _believe(self, found: _Found, batch: Sequence[str]) -> None:
        for name in batch:
            self._known.indexes.add(name)
            for pack in found.texts[name].packs:
                # One that waits goes on waiting, or whoever speaks of it again every day would keep it for ever: where it
                # is needed, the next prune does not remove it.
                self._known.packs[pack] = found.packs[pack].sign
        self._store.write(self._known)

    def _require_what_was_there(self, indexes: dict[str, Stored], packs: dict[str, Stored]) -> None:
        """End where what was believed is gone or another: without an index, good packs look like waste."""
        if gone := sorted(self._known.indexes - indexes.keys()):
            raise self._forged([f"index/{name}" for name in gone], "lacks indexes that were there at the last look")
        if other := self._known.replaced(packs):
            raise self._forged(
                [f"data/{name}" for name in other],
                "lacks packs that were there at the last look, or holds others in their place",
            )

    def _compare_keys(self, keys: set[str]) -> None:
        self._keys = keys
        new = sorted(keys - self._known.keys)
        if not self._known.keys and not self._known.complete:
            self._known.keys = keys
        elif new:
            self._warn(
                f"{len(new)} keys were added to the repository {self._restic.repository} since the last look "
                f"({_short(new)}): each is a password that opens it. If none of your people did that, remove them (docs/keys.md)."
            )

    def _warn_of_long_waiting(self) -> None:
        old = [since for since in self._known.waiting.values() if utc_now() - since > _WAITS_LONG]
        if old:
            self._warn(
                f"{len(old)} packs of useless data in the repository {self._restic.repository} have been waiting for deletion "
                f"since {min(old):%Y-%m-%d %H:%M} UTC, because no prune has finished for so long: run prune.yml daily, "
                "and make sure that it succeeds."
            )

    def _warn(self, text: str) -> None:
        """Say it at once, since what comes after may fail, and in the answer; a second look says nothing again."""
        if text not in self._look.warnings:
            self._look.warnings.append(text)
            self._emit(log("warning", text))

    def _forged(self, names: Sequence[str], what: str) -> ForgedFilesError:
        return _forged(self._restic.repository, names, what, prunes=self._prunes)


class PruningView:
    """What the pruning restic sees: believed indexes, the packs that were there, and all else as it is now."""

    def __init__(self, files: Files, known: KnownFiles, store: KnownFilesStore) -> None:
        self._files = files
        self._known = known
        self._store = store
        self._now = utc_now()
        # restic asks for several things at a time.
        self._lock = threading.Lock()
        believed = known.indexes | known.touched
        self._indexes = {name: one for name, one in files.listing("index").items() if name in believed}
        self._packs = files.listing("data")
        self._added: dict[str, Stored] = {}
        self._live: dict[Kind, dict[str, Stored]] = {}
        self._waiting: dict[str, datetime] = {}
        self._removed: set[str] = set()
        self.deleted = 0

    def shown(self, kind: Kind) -> dict[str, Stored]:
        """The files of a kind."""
        with self._lock:
            if kind == "index":
                return dict(self._indexes)
            if kind == "data":
                return dict(self._packs)
        self._live[kind] = self._files.listing(kind)
        return self._live[kind]

    def find(self, kind: Kind, name: str) -> Stored | None:
        """One of these."""
        with self._lock:
            if kind in {"index", "data"}:
                return (self._indexes if kind == "index" else self._packs).get(name)
        return self._live.get(kind, {}).get(name) or self.shown(kind).get(name)

    def adding(self, kind: Kind, name: str, size: int) -> None:
        """What our own restic adds is believed, and remembered before it is there."""
        with self._lock:
            if kind == "data":
                self._packs[name] = self._added[name] = Stored(size)
            elif kind == "index":
                # Its name is not known before.
                self._known.packs.update({pack: one.sign for pack, one in self._added.items()})
                self._known.touched.add(name)
                self._store.write(self._known)
                self._indexes[name] = Stored(size)
            elif kind != "locks":
                raise ForbiddenError

    def removing(self, kind: Kind, name: str) -> bool:
        """A pack waits for its time; an index that goes is remembered as one that may have gone."""
        with self._lock:
            if kind == "locks":
                return True
            if kind == "index" and name in self._indexes:
                if name in self._known.indexes:
                    # Written once for all that may go, since the document is large where there are many.
                    self._known.touched |= self._known.indexes
                    self._known.indexes = set()
                    self._store.write(self._known)
                del self._indexes[name]
                return True
            if kind == "data" and name in self._packs:
                return self._removing_pack(name)
            raise ForbiddenError

    def settle(self) -> None:
        """Remember what the prune left, and what it wrote with the marks of the store."""
        added = dict(self._added)
        if added:
            there = self._files.listing("data")
            added |= {
                name: there[name] for name, one in added.items() if name in there and there[name].size == one.size
            }
        self._known.indexes, self._known.touched = set(self._indexes), set()
        self._known.packs = {
            pack: sign
            for pack, sign in (self._known.packs | {name: one.sign for name, one in added.items()}).items()
            if pack not in self._removed
        }
        self._known.waiting = self._waiting
        self._store.write(self._known)

    def _removing_pack(self, name: str) -> bool:
        since = min(self._known.waiting.get(name, self._now), self._now)
        self._removed.add(name)
        if self._now - since < _DELETED_AFTER:
            self._waiting[name] = since
            return False
        self._packs.pop(name, None)
        self.deleted += 1
        return True


def require_small_files(files: Files, repository: str) -> None:
    """Raise ForgedFilesError where a key, a lock or a snapshot is too large for whoever opens the repository to read it."""
    for kind in _SMALL:
        if large := [
            f"{kind}/{name}" for name, one in files.listing(kind).items() if one.size > _MOST_BYTES_OF_A_SMALL_FILE
        ]:
            raise _forged(repository, large, f"holds {kind} that are larger than any that restic writes")


def _forged(repository: str, names: Sequence[str], what: str, *, prunes: bool = False) -> ForgedFilesError:
    place = f"the repository {repository}"
    done = f"The prune of {place} was ended" if prunes else f"Nothing was removed from {place}"
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return ForgedFilesError(
        f"{done}, because it {what}: {shown}. Either the store is damaged, or "
        "somebody who has a host's key to it has forged this: find out which, take that key away, and do what "
        "docs/ransomware.md says under Forged files."
    )


def _batches(found: _Found, names: Sequence[str]) -> Iterator[list[str]]:
    """The same indexes, parted where their packs are much to read at a time."""
    batch: list[str] = []
    size = 0
    for name in names:
        batch.append(name)
        size += sum(found.packs[pack].size for pack in found.texts[name].packs)
        if size >= _BYTES_AT_A_TIME:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _short(names: Sequence[str]) -> str:
    return ", ".join(one[:8] for one in names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
