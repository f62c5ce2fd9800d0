# SPDX-License-Identifier: GPL-3.0-or-later
"""The care of a repository: its unneeded data is deleted, its structure checked, and its data read, part by part.

A check reads back what a backup is trusted for, and reading everything every week would cost as much as a restore of
everything. So each scheduled check reads one of the parts that restic divides the packs into (``--read-data-subset
n/t``, by the id of a pack, so that a pack stays in its part), and within ``check_weeks`` every part has had its turn.
A check that did not take place is made up for: the later ones read more parts each. A part in which damage was found is
read again by every check, so that no check is good before it is whole.

Nobody waits for any of this. restic locks a repository for itself while it checks or prunes, so what the schedule has
begun gives way to a pass, a restore and a drill of this host, and is tried again later.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from scalr_backup.actions.recording import Noted, Record
from scalr_backup.actions.repository.apart import require_another
from scalr_backup.core.answers import ScheduledCheckAnswer
from scalr_backup.core.clock import is_in_the_future, utc_now
from scalr_backup.core.config import Config
from scalr_backup.core.errors import (
    InterruptedRunError,
    RepositoryLockedError,
    RepositoryMissingError,
    RepositoryUnreachableError,
    ScalrBackupError,
    UsageError,
    WrongPasswordError,
)
from scalr_backup.core.model import Failure, new_run_id
from scalr_backup.core.progress import Emit, log, progress, with_run
from scalr_backup.core.records.maintenance import MaintenanceOutcome, MaintenanceRecord, RotationRecord
from scalr_backup.core.schedule import next_moment
from scalr_backup.tools.restic.messages import Done
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import State

# What is recorded of the first repository; of the second one, the same under names that begin with OF_COPY.
CHECK, FORGET, PRUNE = "check", "forget", "prune"
OF_COPY = "copy_"
# restic divides by the first byte of a pack's id.
_MOST_PARTS = 256
# How restic's check is told what to read: a part of so many, a percentage, or a size.
_SUBSET = re.compile(
    r"(?P<part>\d{1,3})/(?P<parts>\d{1,3})|(?P<percent>\d{1,3}(\.\d+)?)%|(?P<size>\d{1,9})[KMGTkmgt]?", re.ASCII
)
# The share of the time between two checks by which one may be late without the next having to read more.
_PATIENCE = 0.25
_SECONDS_BETWEEN_LOOKS = 1.0
# What says nothing of a repository's data.
_KEEPS_FROM_LOOKING = (
    InterruptedRunError,
    RepositoryLockedError,
    RepositoryMissingError,
    RepositoryUnreachableError,
    WrongPasswordError,
)


@dataclass(frozen=True)
class Rotation:
    """Which part of a repository's packs was read when, and in which of them damage was found.

    A part that was never read counts from *since* on.
    """

    parts: int
    since: datetime
    read: Mapping[int, datetime]
    damaged: tuple[int, ...] = ()

    def due(self, now: datetime, interval: timedelta, within: timedelta) -> list[int]:
        """The parts to read now, those first whose last reading is longest ago; at least one.

        They are so many that the rest, with as many at each of the checks to come (one every *interval*), is read
        before any has waited longer than *within*, or hardly longer.
        """
        oldest_first = sorted(range(1, self.parts + 1), key=lambda part: (self._last(part), part))
        count = 1
        for position, part in enumerate(oldest_first, start=1):
            checks_until_late = math.floor((self._last(part) + within - now) / interval + _PATIENCE) + 1
            count = max(count, math.ceil(position / max(1, checks_until_late)))
        return oldest_first[:count]

    def after(self, part: int, now: datetime, *, damaged: bool = False) -> Rotation:
        """The same once this part was read."""
        others = tuple(one for one in self.damaged if one != part)
        return Rotation(self.parts, self.since, {**self.read, part: now}, (*others, *((part,) if damaged else ())))

    def as_dict(self) -> RotationRecord:
        """As the state keeps it."""
        read = {str(part): moment.isoformat() for part, moment in sorted(self.read.items())}
        return {"parts": self.parts, "since": self.since.isoformat(), "read": read, "damaged": list(self.damaged)}

    def _last(self, part: int) -> datetime:
        return self.read.get(part, self.since)


def recall_rotation(entry: MaintenanceRecord | None, repository: str, parts: int, now: datetime) -> Rotation:
    """The rotation that a check has recorded; a new one for another repository or another number of parts.

    What was read in the future was not: the clock was ahead, and till it gets there again nobody would read that part.
    """
    known = entry.get("rotation") if entry and entry["repository"] == repository else None
    if known is None or known["parts"] != parts:
        return Rotation(parts, now, {})
    moments = {int(part): datetime.fromisoformat(moment) for part, moment in known["read"].items()}
    read = {part: moment for part, moment in moments.items() if not is_in_the_future(moment, now)}
    since = min(datetime.fromisoformat(known["since"]), now)
    return Rotation(parts, since, read, tuple(known.get("damaged", ())))


def count_parts(config: Config, now: datetime) -> int:
    """How many parts the packs are divided into: one for each scheduled check within ``check_weeks``."""
    moment, end, parts = now, now + timedelta(weeks=config.check_weeks), 0
    while parts < _MOST_PARTS and (moment := next_moment(config, config.check_schedule, moment)) <= end:
        parts += 1
    return max(1, parts)


def require_data_subset(text: str) -> None:
    """Raise UsageError where restic's check would not take it: a word of the operator says nothing of the repository."""
    match = _SUBSET.fullmatch(text)
    said = match.groupdict(default="0") if match else {"part": "0", "parts": "0", "percent": "0", "size": "0"}
    if not (
        1 <= int(said["part"]) <= int(said["parts"]) <= _MOST_PARTS
        or 0 < float(said["percent"]) <= 100
        or int(said["size"]) > 0
    ):
        raise UsageError(f"{text!r} is not a share of the data, such as 5%, 2G or 1/7.")


@contextmanager
def recorded(state: State, repository: str, kind: str) -> Iterator[Noted]:
    """Record how what is done meanwhile ended, with what the caller notes of it.

    What was told to stop says nothing of the repository, and is not recorded.
    """
    began = utc_now()
    noted = Noted()

    def record(error: Failure | None) -> None:
        now = utc_now()
        outcome: MaintenanceOutcome = {
            **noted.facts,
            "time": now.isoformat(),
            "ok": error is None,
            "error": error.record if error else None,
            "seconds": round((now - began).total_seconds(), 1),
            "repository": repository,
        }
        state.record_maintenance(kind, outcome)

    try:
        yield noted
    except InterruptedRunError:
        raise
    except ScalrBackupError as error:
        record(Failure(error.code, error.message))
        raise
    else:
        record(noted.failure)


def recorder(state: State, restic: Restic, prefix: str = "") -> Record:
    """What records a forget or a prune of one repository, when done in the course of something else."""
    return lambda kind: recorded(state, restic.repository, f"{prefix}{kind}")


@dataclass(frozen=True)
class RepositoryInCare:
    """A repository to care for: the first one, or the second as a *copy_of* that, whose records have names of their own."""

    restic: Restic
    prefix: str = ""
    copy_of: Restic | None = None


@dataclass(frozen=True)
class Cared:
    """What came of it: the parts of the data that were read and how many there are, and why it was put off, where it was."""

    run: str
    parts: tuple[int, ...] = ()
    of: int | None = None
    deferred: str | None = None

    def as_dict(self) -> ScheduledCheckAnswer:
        """The outcome as the JSON contract shows it."""
        return {"run": self.run, "parts": list(self.parts), "of": self.of, "deferred": self.deferred}


class Maintenance:
    """Checks and prunes repositories, and records what came of it."""

    def __init__(self, config: Config, state: State, emit: Emit, cancelled: threading.Event) -> None:
        self._config = config
        self._state = state
        self._run = new_run_id()
        self._emit = with_run(emit, self._run)
        self._cancelled = cancelled

    def check(self, place: RepositoryInCare, read_data_subset: str | None = None) -> Cared:
        """Check a repository now; whose turn it is in the scheduled checks stays as it is.

        Where those have found damage, it is looked for again, too: else this one would call good what is not.

        Raises ResticError, and UsageError where the subset is none, before anything is done.
        """
        if read_data_subset is not None:
            require_data_subset(read_data_subset)
        entry = self._state.maintenance(f"{place.prefix}{CHECK}")
        known = entry.get("rotation") if entry else None
        parts = known["parts"] if known else 0
        rotation = recall_rotation(entry, place.restic.repository, parts, utc_now())
        with self._recorded(place, CHECK) as noted:
            self._check(place, read_data_subset)
            for part in rotation.damaged:
                self._check(place, f"{part}/{parts}")
                rotation = rotation.after(part, utc_now())
                noted.facts["rotation"] = rotation.as_dict()
        return Cared(self._run)

    def prune(self, place: RepositoryInCare) -> Cared:
        """Delete what no snapshot needs, now.

        Raises ResticError.
        """
        with self._recorded(place, PRUNE):
            self._prune(place)
        return Cared(self._run)

    def scheduled_check(self, places: Sequence[RepositoryInCare]) -> Cared:
        """Check each repository, and read the parts whose turn it is.

        Raises the first failure once all had their turn.
        """
        parts = count_parts(self._config, utc_now())
        read: list[int] = []

        def check(place: RepositoryInCare) -> None:
            done = self._check_parts(place, parts)
            read.extend([] if place.prefix else done)

        deferred = self._giving_way(CHECK, places, check)
        return Cared(self._run, tuple(read), parts, deferred)

    def scheduled_prune(self, places: Sequence[RepositoryInCare]) -> Cared:
        """Delete in each repository what no snapshot needs.

        Raises the first failure once all had their turn.
        """

        def prune(place: RepositoryInCare) -> None:
            with self._recorded(place, PRUNE):
                self._prune(place)

        return Cared(self._run, deferred=self._giving_way(PRUNE, places, prune))

    def _check_parts(self, place: RepositoryInCare, parts: int) -> list[int]:
        """Read the parts of one repository whose turn it is, and the damaged ones; each is remembered as soon as it was read.

        Raises the first damage that was found once all of them were read, or at once what says nothing of the data.
        """
        now = utc_now()
        repository = place.restic.repository
        rotation = recall_rotation(self._state.maintenance(f"{place.prefix}{CHECK}"), repository, parts, now)
        turn = rotation.due(now, self._interval(now), timedelta(weeks=self._config.check_weeks))
        due = [*rotation.damaged, *(part for part in turn if part not in rotation.damaged)]
        found: ScalrBackupError | None = None
        for part in due:
            with self._recorded(place, CHECK) as noted:
                noted.facts["rotation"] = rotation.as_dict()
                damage = self._look_for_damage(place, f"{part}/{parts}")
                found = found or damage
                rotation = rotation.after(part, utc_now(), damaged=damage is not None)
                noted.facts["rotation"] = rotation.as_dict()
                noted.failure = Failure(found.code, found.message) if found else None
        if found:
            raise found
        return due

    def _look_for_damage(self, place: RepositoryInCare, subset: str) -> ScalrBackupError | None:
        """What a check finds wrong with the repository. Raises what keeps it from looking."""
        try:
            self._check(place, subset)
        except _KEEPS_FROM_LOOKING:
            raise
        except ScalrBackupError as damage:
            return damage
        return None

    def _interval(self, now: datetime) -> timedelta:
        """The time between the next two checks."""
        first = next_moment(self._config, self._config.check_schedule, now)
        return next_moment(self._config, self._config.check_schedule, first) - first

    def _check(self, place: RepositoryInCare, subset: str | None) -> None:
        self._emit(progress("check"))
        place.restic.check(subset, self._teller("check"))
        part = f", and the data of {subset} read" if subset else ""
        self._emit(log("info", f"The repository {place.restic.repository} was checked{part}: no errors."))

    def _prune(self, place: RepositoryInCare) -> None:
        if place.copy_of is not None:
            require_another(place.copy_of, place.restic)
        self._emit(progress("prune"))
        place.restic.prune(self._teller("prune"))
        self._emit(log("info", f"The repository {place.restic.repository} was pruned."))

    def _giving_way(
        self, what: str, places: Sequence[RepositoryInCare], care: Callable[[RepositoryInCare], None]
    ) -> str | None:
        """Care for each repository while nothing more urgent runs.

        Returns why it was put off, where it was; one repository's failure keeps no other from its turn.
        """
        failures: list[ScalrBackupError] = []
        with _GivingWay(self._state, self._cancelled) as urgent:
            for place in places:
                try:
                    if not urgent.reason:
                        care(place)
                except InterruptedRunError:
                    if not urgent.reason:
                        raise
                except ScalrBackupError as error:
                    self._emit(log("error", f"The {what} of {place.restic.repository} failed: {error.message}"))
                    failures.append(error)
        if failures:
            raise failures[0]
        if urgent.reason:
            self._emit(
                log("info", (f"The {what} is postponed and will be tried again soon, because of {urgent.reason}."))
            )
        return urgent.reason

    @contextmanager
    def _recorded(self, place: RepositoryInCare, kind: str) -> Iterator[Noted]:
        with recorded(self._state, place.restic.repository, f"{place.prefix}{kind}") as noted:
            noted.facts["run"] = self._run
            yield noted

    def _teller(self, phase: str) -> Callable[[Done], None]:
        return lambda done: self._emit(progress(phase, done=done.count, total=done.total, unit=done.unit))


class _GivingWay:
    """Ends what is done meanwhile when a run begins that is more urgent; *reason* is what that one says of itself."""

    def __init__(self, state: State, cancelled: threading.Event) -> None:
        self.reason = state.locks.under_way()
        self._state = state
        self._cancelled = cancelled
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _GivingWay:
        if self.reason is None:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            if reason := self._state.locks.under_way():
                self.reason = reason
                self._cancelled.set()
                return
