# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshot is meant: ``latest``, an id or its beginning, a run, a tag, or a time. Pure decisions over a list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from scalr_backup.core import wall_clock
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import AmbiguousSnapshotError, UnknownDatabaseError, UnknownSnapshotError, UsageError
from scalr_backup.core.model import PRE_RESTORE, Snapshot, is_run_id
from scalr_backup.core.units import human_age

LATEST = "latest"
TAG = "tag="

_ID = re.compile(r"[0-9a-f]{2,64}\Z")
# Several ids; a comma at the end makes one of them such a list.
_IDS = re.compile(r"[0-9a-f]{2,64}(?:,[0-9a-f]{2,64})*,?\Z")
_DAY = re.compile(r"[0-9]{4}-?(?:[0-9]{2}-?[0-9]{2}|W[0-9]{2}(?:-?[0-9])?)\Z")
# What somebody means as a time who does not get it right: 2026-13-45, 20.11.2026, 2026/11/20, 25:99, 20261345.
_LIKE_A_TIME = re.compile(
    r"\s*([0-9]{4}[-/.][0-9]{1,2}\b|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4}\b|[0-9]{1,2}:[0-9]{1,2}\b|(19|20)[0-9]{6}\Z)"
)
_WITH_SECONDS = re.compile(r"[T ](?:[0-9]{2}:[0-9]{2}:|[0-9]{4})[0-9]{2}")
# How many snapshots a refusal lists.
_LISTED = 5
# How much of an id a reference gives: an argument of a program has an end, and a cluster may have hundreds of databases.
_ID_IN_REFERENCE = 16
# How many passes are asked which databases there were; each answer costs a start of restic.
_MOST_ASKED = 5
# A clock may be off by so much before anybody needs to know.
_UNREMARKABLE = timedelta(minutes=1)

# The databases that a run found in the container, saved or not; None where its manifest does not tell.
Listed = Callable[[str], frozenset[str] | None]


def nobody_knows(_run: str) -> frozenset[str] | None:
    """The answer of runs whose manifests are not asked."""
    return None


@dataclass(frozen=True)
class Selection:
    """The chosen snapshots, one per database, and what the operator should know of the choice.

    *reference* chooses the same ones again, whatever has been added by then. *missing* are databases that belong to what
    was asked for, and that no snapshot holds.
    """

    snapshots: tuple[Snapshot, ...]
    reference: str
    warnings: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Question:
    """What there is to choose from, *fitting* being the container's snapshots of the wanted database or of all."""

    snapshots: Sequence[Snapshot]
    fitting: Sequence[Snapshot]
    container: str
    database: str | None
    timezone: str
    now: datetime
    listed: Listed

    @property
    def there_are(self) -> str:
        """What a refusal says there is instead."""
        return _there_are(self.fitting, self.timezone)

    def told(self, moment: datetime) -> str:
        """A time as people read it."""
        return f"{moment.astimezone(ZoneInfo(self.timezone)):%Y-%m-%d %H:%M} ({self.timezone})"


@dataclass(frozen=True)
class _RunListing:
    """The newest pass whose manifest lists which databases there were."""

    run: str
    time: datetime
    names: frozenset[str]


def select(
    snapshots: Sequence[Snapshot],
    container: str,
    database: str | None,
    wanted: str,
    timezone: str,
    now: datetime | None = None,
    listed: Listed = nobody_knows,
) -> Selection:
    """The snapshots to restore, one per database.

    *wanted* is ``latest``, an id or prefix (that one snapshot), several of them with commas between, the id of a run (all
    that it saved), ``tag=`` and a tag (the newest that have it), or a time (the newest at or before it; without an offset
    it is in *timezone*; a day, a minute or a second is meant to its end).
    Latest, a tag and a time mean the newest snapshot of *each* database, or of the one *database*: a pass may have been
    killed, or have saved one database of two. A database that a newer pass no longer found was dropped on purpose, and is
    not part of a whole container; *listed* says which ones a pass found.
    Safety snapshots that a restore took are chosen by their id or their run's only, they hold what was replaced. So are
    snapshots that are dated in the future, which somebody may have forged. Empty ones are never chosen.

    Raises UnknownDatabaseError, UnknownSnapshotError or AmbiguousSnapshotError, each of which says what there is; UsageError
    for a time that is none.
    """
    question = _ask(snapshots, container, database, timezone, now or utc_now(), listed)
    if _ID.match(wanted) and (by_id := _by_id(question, wanted)):
        return Selection((by_id,), by_id.id, tuple(_warnings_of_the_clock([by_id], question)))
    if _IDS.match(wanted) and "," in wanted:
        return _several(question, wanted)
    if is_run_id(wanted):
        return _whole_run(question, wanted)
    chosen = _newest_of_each(question, wanted)
    ambiguous = wall_clock.choice(wanted, timezone)
    return replace(chosen, warnings=(*chosen.warnings, ambiguous)) if ambiguous else chosen


def _ask(
    snapshots: Sequence[Snapshot], container: str, database: str | None, timezone: str, now: datetime, listed: Listed
) -> _Question:
    """Raise UnknownDatabaseError where there is nothing to choose from."""
    snapshots = [snapshot for snapshot in snapshots if not snapshot.empty]
    fitting = of_database(snapshots, container, database)
    return _Question(snapshots, fitting, container, database, timezone, now, listed)


def _several(question: _Question, wanted: str) -> Selection:
    """The snapshots with these ids, one of each database."""
    found: dict[str | None, Snapshot] = {}
    for prefix in filter(None, wanted.split(",")):
        one = _by_id(question, prefix)
        if one is None:
            raise UnknownSnapshotError(f"There is no snapshot {prefix!r} of {question.container}; {question.there_are}")
        if one.database in found and found[one.database] != one:
            raise UnknownSnapshotError(
                f"{found[one.database].short_id} and {one.short_id} are both snapshots of {one.database}; name one of them."
            )
        found[one.database] = one
    chosen = sorted(found.values(), key=_by_name)
    before = _up_to(chosen, question)
    listing = _listing(before, question)
    missing = _missing(listing, before)
    return Selection(tuple(chosen), wanted, _warnings(chosen, missing, listing, question), missing)


def _whole_run(question: _Question, run: str) -> Selection:
    """All that a run saved, safety snapshots too."""
    of_run = [snapshot for snapshot in question.fitting if snapshot.run == run]
    if not of_run:
        raise UnknownSnapshotError(f"The run {run} saved nothing of {question.container}; {question.there_are}")
    chosen = _newest(of_run)
    listing = _listing(of_run, question)
    missing = _missing(listing, _up_to(chosen, question))
    others = sorted(listing.names - {one.database for one in chosen} - set(missing)) if listing else []
    return Selection(
        tuple(chosen),
        run,
        (
            *_warnings(chosen, missing, listing, question),
            *(f"The run {run} saved no snapshot of {name}; another run did." for name in others),
        ),
        missing,
    )


def _newest_of_each(question: _Question, wanted: str) -> Selection:
    """What ``latest``, a tag or a time means."""
    credible = _credible(question)
    future = [snapshot for snapshot in question.fitting if snapshot not in credible]
    regular = _regular(credible, wanted, question)
    listing = _listing(regular, question)
    newest = _newest(regular)
    dropped = [one for one in newest if listing and one.database not in listing.names and one.time < listing.time]
    chosen = [one for one in newest if one not in dropped]
    missing = _missing(listing, regular)
    return Selection(
        tuple(chosen),
        _reference(chosen, missing, listing, question),
        (
            *_warnings(chosen, missing, listing, question),
            *_warnings_of_the_dropped(dropped, listing, question),
            *_warning_of_the_future(future, question.container),
            *_warning_of_several(regular, chosen),
        ),
        missing,
    )


def _credible(question: _Question) -> list[Snapshot]:
    return [snapshot for snapshot in question.fitting if not snapshot.is_from_the_future(question.now)]


def _up_to(chosen: Sequence[Snapshot], question: _Question) -> list[Snapshot]:
    """What ``latest`` would have had to choose from when the newest of these was made."""
    until = max(one.time for one in chosen)
    return [one for one in _credible(question) if one.time <= until and one.reason != PRE_RESTORE]


def _newest(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """The newest one of each database, by its name."""
    by_database = {one.database: one for one in sorted(snapshots, key=lambda one: one.time)}
    return sorted(by_database.values(), key=_by_name)


def _by_name(snapshot: Snapshot) -> str:
    return snapshot.database or ""


def _listing(regular: Sequence[Snapshot], question: _Question) -> _RunListing | None:
    """Which databases there were, by the newest pass that lists them; only for a whole container.

    One that does not list what it has saved itself contradicts itself, and is not believed.
    """
    if question.database is not None:
        return None
    times = {one.run: one.time for one in sorted(regular, key=lambda one: one.time) if one.run}
    newest_first = sorted(times, key=lambda run: times[run], reverse=True)
    for run in newest_first[:_MOST_ASKED]:
        names = question.listed(run)
        if names is not None and names >= {one.database for one in regular if one.run == run}:
            return _RunListing(run, times[run], names)
    return None


def _missing(listing: _RunListing | None, there: Sequence[Snapshot]) -> tuple[str, ...]:
    """The databases that a pass found and that no snapshot holds."""
    return tuple(sorted(listing.names - {one.database for one in there})) if listing else ()


def _reference(
    chosen: Sequence[Snapshot], missing: Sequence[str], listing: _RunListing | None, question: _Question
) -> str:
    """What chooses these again, and misses the same: their run where it has no others, else their ids."""
    run = chosen[0].run or ""
    of_run = _newest([one for one in question.fitting if one.run == run])
    if is_run_id(run) and of_run == list(chosen) and (not missing or (listing and listing.run == run)):
        return run
    if len(chosen) == 1 and not missing:
        return chosen[0].id
    ids = ",".join(one.id[:_ID_IN_REFERENCE] for one in chosen)
    return ids if len(chosen) > 1 else f"{ids},"


def _warnings(
    chosen: Sequence[Snapshot], missing: Sequence[str], listing: _RunListing | None, question: _Question
) -> tuple[str, ...]:
    """What to know of a choice however it was made."""
    newest = max(chosen, key=lambda one: one.time)
    return (
        *(
            f"{one.database} comes from another pass, of {question.told(one.time)}: the pass of "
            f"{question.told(newest.time)} saved no snapshot of it."
            for one in chosen
            if one.run != newest.run
        ),
        *(
            f"{name} is missing: the pass of {question.told(listing.time)} found it, but there is no snapshot of it "
            "up to then."
            for name in missing
            if listing
        ),
        *_warnings_of_the_clock(chosen, question),
    )


def _warnings_of_the_dropped(
    dropped: Sequence[Snapshot], listing: _RunListing | None, question: _Question
) -> Iterator[str]:
    if listing is None:
        return  # Only a pass that tells which databases there were has dropped any.
    for one in dropped:
        yield (
            f"{one.database} is not restored, because the pass of {question.told(listing.time)} no longer found it; its last "
            f"snapshot is {one.short_id} of {question.told(one.time)}: name it with database={one.database} if you want it "
            "back."
        )


def _warnings_of_the_clock(chosen: Sequence[Snapshot], question: _Question) -> Iterator[str]:
    for one in chosen:
        ahead = one.time - question.now
        if ahead > _UNREMARKABLE:
            yield (
                f"The snapshot {one.short_id} of {one.database} is dated {human_age(ahead.total_seconds())} ahead of this host's clock: one of "
                "the two clocks is wrong, so it may not be the newest."
            )


def of_database(snapshots: Sequence[Snapshot], container: str | None, database: str | None) -> list[Snapshot]:
    """The snapshots of a container, of a database, or of both; None stands for any.

    Raises UnknownDatabaseError where there is none; it says what there is.
    """
    of_container = [snapshot for snapshot in snapshots if container in (None, snapshot.container)]
    if not of_container:
        known = sorted({snapshot.container for snapshot in snapshots if snapshot.container})
        raise UnknownDatabaseError(
            f"The repository holds no snapshot of {container or 'any container'}; it holds snapshots of: "
            f"{', '.join(known) or 'nothing'}."
        )
    fitting = [snapshot for snapshot in of_container if database in (None, snapshot.database)]
    if not fitting:
        known = sorted({snapshot.database for snapshot in of_container if snapshot.database})
        raise UnknownDatabaseError(
            f"The repository holds no snapshot of a database {database!r}{f' of {container}' if container else ''}; it holds: "
            f"{', '.join(known)}."
        )
    return fitting


def _warning_of_the_future(future: Sequence[Snapshot], container: str) -> list[str]:
    if not future:
        return []
    named = ", ".join(one.short_id for one in future[:_LISTED])
    return [
        f"Snapshots of {container} that are dated in the future were ignored ({named}): a clock was wrong, or they "
        "are forged."
    ]


def _warning_of_several(regular: Sequence[Snapshot], chosen: Sequence[Snapshot]) -> list[str]:
    claims = Counter((one.run, one.database) for one in regular)
    return [
        f"{claims[one.run, one.database]} snapshots claim to be that of {one.database} in the run {one.run}, but a "
        f"run saves one, so all but one are forged; {one.short_id} is the newest of them."
        for one in chosen
        if one.run and claims[one.run, one.database] > 1
    ]


def _regular(credible: Sequence[Snapshot], wanted: str, question: _Question) -> list[Snapshot]:
    """What ``latest``, a tag or a time leaves to choose from, oldest first; never empty."""
    container, there_are = question.container, question.there_are
    regular = sorted((one for one in credible if one.reason != PRE_RESTORE), key=lambda one: one.time)
    if wanted.startswith(TAG):
        tag = wanted.removeprefix(TAG)
        if not tag.strip():
            raise UsageError(f"{TAG} needs a tag, such as {TAG}before-upgrade.")
        regular = [one for one in regular if tag in one.tags]
        if not regular:
            raise UnknownSnapshotError(f"No snapshot of {container} has the tag {tag!r}; {there_are}")
    elif wanted != LATEST:
        end = _end_of(wanted, question.timezone)
        if end is None and _LIKE_A_TIME.match(wanted):
            raise UsageError(
                f"{wanted!r} is not a valid time: write a day as 2026-11-20, a minute as '2026-11-20 12:00', and a second as "
                f"'2026-11-20 12:00:30'; {there_are}"
            )
        if end is None:
            raise UnknownSnapshotError(
                f"There is no snapshot {wanted!r} of {container}; {there_are} "
                "Give an id, a run, a time such as '2026-11-20 12:00', tag=NAME, or latest."
            )
        regular = [one for one in regular if one.time < end]
        if not regular:
            raise UnknownSnapshotError(f"There is no snapshot of {container} at or before {wanted}; {there_are}")
    if not regular:
        raise UnknownSnapshotError(
            f"The only snapshots of {container} are those that a restore took of what it replaced, or dated in the "
            f"future; choose one by its id: {there_are}"
        )
    return regular


def _by_id(question: _Question, prefix: str) -> Snapshot | None:
    # The id itself goes before that of what a snapshot is a copy of: any key may add such copies.
    own = [snapshot for snapshot in question.snapshots if snapshot.id.startswith(prefix)]
    found = own or [snapshot for snapshot in question.snapshots if any(one.startswith(prefix) for one in snapshot.ids)]
    if len(found) > 1:
        ids = ", ".join(snapshot.id[: len(prefix) + 6] for snapshot in found[:_LISTED])
        raise AmbiguousSnapshotError(f"{len(found)} snapshots begin with {prefix!r}: {ids}; give more of the id.")
    if not found:
        return None
    if found[0] not in question.fitting:
        wanted = question.container if question.database is None else f"{question.container}/{question.database}"
        raise UnknownSnapshotError(
            f"The snapshot {found[0].short_id} holds {found[0].path}, not {wanted}; {question.there_are}"
        )
    return found[0]


def _end_of(text: str, timezone: str) -> datetime | None:
    """The end of the day, minute or second that a text names, so that a listed time finds what it was listed for."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(timezone))
        if _DAY.match(text):
            return moment + _length_of(text, moment)
        # The clock may go back within the minute; time does not.
        return moment.astimezone(UTC) + _length_of(text, moment)
    except (ValueError, OverflowError):
        return None


def _length_of(text: str, moment: datetime) -> timedelta:
    """How long it lasts, what a text names."""
    if _DAY.match(text):
        return timedelta(days=1)
    if moment.microsecond:
        return timedelta(microseconds=1)
    return timedelta(seconds=1) if _WITH_SECONDS.search(text) else timedelta(minutes=1)


def _there_are(snapshots: Sequence[Snapshot], timezone: str) -> str:
    newest = sorted(snapshots, key=lambda snapshot: snapshot.time, reverse=True)
    listed = ", ".join(f"{one.short_id} of {wall_clock.shown(one.time, timezone)}" for one in newest[:_LISTED])
    more = f" and {len(newest) - _LISTED} older" if len(newest) > _LISTED else ""
    return f"there are {listed}{more} (times in {timezone})."
