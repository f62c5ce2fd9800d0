# SPDX-License-Identifier: GPL-3.0-or-later
"""How much room a restore takes on a server's volumes, and when it has to give up what it has begun.

Pure decisions over numbers. A server whose write-ahead log finds no room panics and cannot start again before somebody
makes some, so what the log takes counts as much as the rows:

* Loading writes about as much log as data, and an index build writes the whole index into it. Where pages have checksums,
  the first reader of a page logs it once more.
* ``max_wal_size`` is a wish: a checkpoint that takes its time lets the log grow beyond it (PostgreSQL documentation,
  "WAL Configuration").
* A replication slot that nobody reads, or an archive that takes nothing, keeps every byte of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from scalr_backup.core.answers import RoomAnswer
from scalr_backup.core.records.manifest import ManifestDatabase

DEFAULT_TABLESPACE = "pg_default"
_MIB = 1024 * 1024

# What stays free for the live server, whatever a restore does: a few of its log's segments, and time to end ours.
RESERVE_BYTES = 256 * _MIB
# Each with a tenth to spare.
_LOG_PER_DATA = 1.1
_LOG_PER_DATA_WITH_CHECKSUMS = 2.1
_LOG_BEYOND_LIMIT = 1.5
# The share of a database that its largest indexes have, where that is unknown.
_UNKNOWN_INDEXES = 5
# How long it may take from the moment that a look is due to the one in which our sessions have ended.
_REACTION_SECONDS = 2.0
# A rate is taken over so long, and never over less: the log grows by whole segments.
_RATE_SECONDS, _LEAST_SECONDS = 4.0, 1.0


@dataclass(frozen=True)
class Place:
    """A directory of the server, and the file system that it lies on; bytes."""

    directory: str
    device: str
    mount: str
    free_bytes: int
    total_bytes: int

    @property
    def volume(self) -> str:
        """What two places have in common that share their room."""
        # A disk is the same wherever it is mounted; tmpfs and overlay are only kinds of file systems.
        return self.device if self.device.startswith("/") else f"{self.device} {self.mount}"


@dataclass(frozen=True)
class LogSettings:
    """How a server treats its write-ahead log; bytes. *hoards* is why it removes none of it, if it does not."""

    limit_bytes: int
    kept_bytes: int = 0
    checksums: bool = False
    hoards: str | None = None


@dataclass(frozen=True)
class Survey:
    """What a server's volumes have, and what decides how much of that a restore takes.

    *log_bytes* is what the log has already; *tablespaces* are places by name, ``pg_default`` among them.
    """

    log: Place
    tablespaces: dict[str, Place]
    settings: LogSettings
    log_bytes: int
    sort_memory_bytes: int
    processors: int
    # Why nothing is known of the volumes, where that is so: their places are then nowhere, and have no end.
    unknown: str | None = None

    def places_of(self, claims: Iterable[Claim]) -> tuple[Place, ...]:
        """Where the rows of these databases may go, one place of each volume."""
        names = {name for claim in claims for name in claim.tablespaces} or {DEFAULT_TABLESPACE}
        places = [place for name, place in self.tablespaces.items() if name in names]
        return tuple({place.volume: place for place in places}.values())


@dataclass(frozen=True)
class WrittenTo:
    """A directory that the agent writes to; bytes, and the number of the file system that it is on."""

    what: str
    path: str
    file_system: int
    free_bytes: int
    total_bytes: int
    writable: bool


# Where a server's volumes are that its user may not be told of.
NOWHERE = Place("an unknown directory", "unknown", "", 2**62, 2**62)


def unknown_survey(why: str) -> Survey:
    """What is known of volumes of which nothing is known."""
    return Survey(NOWHERE, {DEFAULT_TABLESPACE: NOWHERE}, LogSettings(0), 0, 0, 1, why)


@dataclass(frozen=True)
class Claim:
    """What the restore of one database asks for; bytes.

    *live_bytes* is what it replaces, *index_bytes* are the sizes of its largest indexes, and *tablespaces* are those that
    it lies in.
    """

    new_bytes: int
    live_bytes: int = 0
    index_bytes: tuple[int, ...] = ()
    tablespaces: frozenset[str] = frozenset({DEFAULT_TABLESPACE})


@dataclass(frozen=True)
class RoomNeeds:
    """What a restore takes; bytes."""

    data_bytes: int
    log_bytes: int
    sort_bytes: int
    reserve_bytes: int = RESERVE_BYTES

    @property
    def total_bytes(self) -> int:
        """All of it, where it is on one volume."""
        return self.data_bytes + self.log_bytes + self.sort_bytes + self.reserve_bytes

    def as_dict(self) -> RoomAnswer:
        """The needs as the JSON contract shows them."""
        return {
            "data_bytes": self.data_bytes,
            "log_bytes": self.log_bytes,
            "sort_bytes": self.sort_bytes,
            "reserve_bytes": self.reserve_bytes,
            "wanted_bytes": self.total_bytes,
        }


@dataclass(frozen=True)
class Shortage:
    """A volume that lacks the room that a restore takes; bytes."""

    place: Place
    free_bytes: int
    wanted_bytes: int


def needs(claims: Sequence[Claim], survey: Survey, *, keep_old: bool, replace: bool) -> RoomNeeds:
    """What restoring these databases one after the other takes at its worst."""
    return RoomNeeds(
        data_bytes=_most_data(claims, keep_old=keep_old, replace=replace),
        log_bytes=log_bytes(sum(claim.new_bytes for claim in claims), survey.settings, survey.log_bytes),
        sort_bytes=max(
            (sort_bytes(claim.index_bytes, survey.processors, survey.sort_memory_bytes) for claim in claims), default=0
        ),
    )


def _most_data(claims: Sequence[Claim], *, keep_old: bool, replace: bool) -> int:
    """How much more than now there is at the fullest moment; each database goes its way before the next one's turn."""
    stays = [claim.new_bytes - (0 if keep_old else claim.live_bytes) for claim in claims]
    before = [0, *accumulate(stays)]
    at_once = [claim.new_bytes - (claim.live_bytes if replace else 0) for claim in claims]
    return max((earlier + now for earlier, now in zip(before, at_once, strict=False)), default=0)


def log_bytes(data_bytes: int, settings: LogSettings, present_bytes: int = 0) -> int:
    """How much the log grows while so much is loaded; what is there is written over before it grows."""
    written = int(data_bytes * (_LOG_PER_DATA_WITH_CHECKSUMS if settings.checksums else _LOG_PER_DATA))
    if settings.hoards:
        return written
    most = int(settings.limit_bytes * _LOG_BEYOND_LIMIT) + settings.kept_bytes
    return min(written, max(0, most - present_bytes))


def index_bytes(described: ManifestDatabase, needed_bytes: int) -> tuple[int, ...]:
    """The sizes of a database's largest indexes, by its manifest, or else as a share of it all."""
    known = tuple(int(size) for size in described.get("largest_indexes") or ())
    # Of one that was not analysed since it grew, the catalog knows no size.
    return known if any(known) else (needed_bytes // _UNKNOWN_INDEXES,)


def sort_bytes(index_bytes: Iterable[int], jobs: int, memory_bytes: int) -> int:
    """The temporary files of the index builds that may run at once; what fits the memory needs none."""
    largest = sorted(index_bytes, reverse=True)[: max(jobs, 1)]
    return sum(size for size in largest if size > memory_bytes)


def shortage(claims: Sequence[Claim], survey: Survey, wanted: RoomNeeds, spare_bytes: int = 0) -> Shortage | None:
    """The volume that has too little, if there is one; *spare_bytes* become free before the restore begins.

    Rows that are spread over tablespaces have the room of all of them together: how they are spread is unknown.
    """
    places = survey.places_of(claims)
    rows = wanted.data_bytes + wanted.sort_bytes + wanted.reserve_bytes * len(places)
    free = sum(place.free_bytes for place in places) + spare_bytes
    if survey.log.volume in {place.volume for place in places}:
        rows += wanted.log_bytes
    elif survey.log.free_bytes < wanted.log_bytes + wanted.reserve_bytes:
        return Shortage(survey.log, survey.log.free_bytes, wanted.log_bytes + wanted.reserve_bytes)
    return Shortage(places[0], free, rows) if free < rows else None


class Gauge:
    """Watches the room of one volume, and decides when the restore has to end."""

    def __init__(self, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._reserve_bytes = reserve_bytes
        self._looks: deque[tuple[float, int]] = deque()

    def is_low(self, now: float, free_bytes: int) -> bool:
        """Whether what is left, at the pace at which it goes, is needed to end in time."""
        self._looks.append((now, free_bytes))
        while now - self._looks[0][0] > _RATE_SECONDS:
            self._looks.popleft()
        began, before = self._looks[0]
        rate = (before - free_bytes) / max(now - began, _LEAST_SECONDS)
        return free_bytes < max(self._reserve_bytes, rate * _REACTION_SECONDS)
