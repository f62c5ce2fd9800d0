# SPDX-License-Identifier: GPL-3.0-or-later
"""Which snapshot is meant: ``latest``, an id or its beginning, a run, a tag, or a time. Pure decisions over a list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from scalr_backup.errors import AmbiguousSnapshotError, UnknownDatabaseError, UnknownSnapshotError
from scalr_backup.model import PRE_RESTORE, Snapshot, is_run_id
from scalr_backup.state import utc_now

LATEST = "latest"
TAG = "tag="

_ID = re.compile(r"[0-9a-f]{2,64}\Z")
_DAY = re.compile(r"[0-9]{4}-?(?:[0-9]{2}-?[0-9]{2}|W[0-9]{2}(?:-?[0-9])?)\Z")
_WITH_SECONDS = re.compile(r"[T ](?:[0-9]{2}:[0-9]{2}:|[0-9]{4})[0-9]{2}")
# How many snapshots a refusal lists.
_LISTED = 5


@dataclass(frozen=True)
class Selection:
    """The chosen snapshots, one per database, and what the operator should know of the choice.

    *reference* chooses the same ones again, whatever has been added by then.
    """

    snapshots: tuple[Snapshot, ...]
    reference: str
    warnings: tuple[str, ...] = ()


def select(
    snapshots: Sequence[Snapshot],
    container: str,
    database: str | None,
    wanted: str,
    timezone: str,
    now: datetime | None = None,
) -> Selection:
    """The snapshots to restore, one per database.

    *wanted* is ``latest``, an id or prefix (that one snapshot), the id of a run (all that it saved), ``tag=`` and a
    tag (the newest that has it), or a time (the newest at or before it; without an offset it is in *timezone*; a day,
    a minute or a second is meant to its end).
    Latest and time mean the databases of the newest fitting pass, or the one *database*; safety snapshots that a
    restore took are chosen by their id or their run's only, they hold what was replaced. So are snapshots that are
    dated in the future, which somebody may have forged. Empty ones are never chosen.

    Raises UnknownDatabaseError, UnknownSnapshotError or AmbiguousSnapshotError; each says what there is.
    """
    snapshots = [snapshot for snapshot in snapshots if not snapshot.empty]
    of_container = [snapshot for snapshot in snapshots if snapshot.container == container]
    if not of_container:
        known = sorted({snapshot.container for snapshot in snapshots if snapshot.container})
        raise UnknownDatabaseError(
            f"The repository holds no snapshot of {container}; it holds snapshots of: {', '.join(known) or 'nothing'}."
        )
    fitting = [snapshot for snapshot in of_container if database in (None, snapshot.database)]
    if not fitting:
        known = sorted({snapshot.database for snapshot in of_container if snapshot.database})
        raise UnknownDatabaseError(
            f"The repository holds no snapshot of a database {database!r} of {container}; it holds: {', '.join(known)}."
        )
    there_are = _there_are(fitting, timezone)
    if _ID.match(wanted) and (by_id := _by_id(snapshots, fitting, container, database, wanted, there_are)):
        return Selection((by_id,), by_id.id)
    if is_run_id(wanted):
        of_run = [snapshot for snapshot in fitting if snapshot.run == wanted]
        if not of_run:
            raise UnknownSnapshotError(f"The run {wanted} saved nothing of {container}; {there_are}")
        return Selection(tuple(_of_the_same_pass(of_run)), wanted)
    future = [snapshot for snapshot in fitting if snapshot.is_from_the_future(now or utc_now())]
    credible = [snapshot for snapshot in fitting if snapshot not in future]
    regular = _regular(credible, container, wanted, timezone, there_are)
    chosen = _of_the_same_pass(regular)
    others = {snapshot.database for snapshot in fitting} - {snapshot.database for snapshot in chosen}
    return Selection(
        tuple(chosen),
        chosen[0].run or chosen[0].id,
        (
            *(f"The chosen pass has no snapshot of {name}; another pass has." for name in sorted(filter(None, others))),
            *_warning_of_the_future(future, container),
            *_warning_of_several(regular, chosen),
        ),
    )


def _warning_of_the_future(future: Sequence[Snapshot], container: str) -> list[str]:
    if not future:
        return []
    named = ", ".join(one.short_id for one in future[:_LISTED])
    return [
        f"Snapshots of {container} that are dated in the future were not chosen from ({named}): a clock was wrong, or "
        "somebody has forged them."
    ]


def _warning_of_several(regular: Sequence[Snapshot], chosen: Sequence[Snapshot]) -> list[str]:
    claims = Counter((one.run, one.database) for one in regular)
    return [
        f"{claims[one.run, one.database]} snapshots claim to be that of {one.database} in the run {one.run}, and a run saves "
        f"one: somebody has added the others; {one.short_id} is the newest of them."
        for one in chosen
        if one.run and claims[one.run, one.database] > 1
    ]


def _regular(fitting: Sequence[Snapshot], container: str, wanted: str, timezone: str, there_are: str) -> list[Snapshot]:
    """What ``latest``, a tag or a time leaves to choose from, oldest first; never empty."""
    regular = sorted((one for one in fitting if one.reason != PRE_RESTORE), key=lambda one: one.time)
    if wanted.startswith(TAG):
        tag = wanted.removeprefix(TAG)
        regular = [one for one in regular if tag in one.tags]
        if not regular:
            raise UnknownSnapshotError(f"No snapshot of {container} has the tag {tag!r}; {there_are}")
    elif wanted != LATEST:
        end = _end_of(wanted, timezone)
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
            f"There are only snapshots of {container} that a restore took of what it replaced, or that are dated in the "
            f"future; choose one by its id: {there_are}"
        )
    return regular


def _by_id(
    snapshots: Sequence[Snapshot],
    fitting: Sequence[Snapshot],
    container: str,
    database: str | None,
    prefix: str,
    there_are: str,
) -> Snapshot | None:
    # The id itself goes before that of what a snapshot is a copy of: any key may add such copies.
    own = [snapshot for snapshot in snapshots if snapshot.id.startswith(prefix)]
    found = own or [snapshot for snapshot in snapshots if any(one.startswith(prefix) for one in snapshot.ids)]
    if len(found) > 1:
        ids = ", ".join(snapshot.id[: len(prefix) + 6] for snapshot in found[:_LISTED])
        raise AmbiguousSnapshotError(f"{len(found)} snapshots begin with {prefix!r}: {ids}; give more of the id.")
    if not found:
        return None
    if found[0] not in fitting:
        wanted = container if database is None else f"{container}/{database}"
        raise UnknownSnapshotError(f"The snapshot {found[0].short_id} holds {found[0].path}, not {wanted}; {there_are}")
    return found[0]


def _of_the_same_pass(regular: Sequence[Snapshot]) -> list[Snapshot]:
    newest = regular[-1]
    if newest.run is None:
        return [newest]
    by_database = {snapshot.database: snapshot for snapshot in regular if snapshot.run == newest.run}
    return sorted(by_database.values(), key=lambda snapshot: snapshot.database or "")


def _end_of(text: str, timezone: str) -> datetime | None:
    """The end of the day, minute or second that a text names, so that a listed time finds what it was listed for."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(timezone))
    if _DAY.match(text):
        return moment + timedelta(days=1)
    if moment.microsecond:
        return moment + timedelta(microseconds=1)
    return moment + (timedelta(seconds=1) if _WITH_SECONDS.search(text) else timedelta(minutes=1))


def _there_are(snapshots: Sequence[Snapshot], timezone: str) -> str:
    zone = ZoneInfo(timezone)
    newest = sorted(snapshots, key=lambda snapshot: snapshot.time, reverse=True)
    listed = ", ".join(f"{one.short_id} of {one.time.astimezone(zone):%Y-%m-%d %H:%M:%S}" for one in newest[:_LISTED])
    more = f" and {len(newest) - _LISTED} older" if len(newest) > _LISTED else ""
    return f"there are {listed}{more} (times in {timezone})."
