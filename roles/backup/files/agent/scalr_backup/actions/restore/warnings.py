# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators should know before they confirm, although none of it stops a restore."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from scalr_backup.actions.backup.manifest import Manifests
from scalr_backup.actions.restore.request import REPLACE, DatabasePlan, RestoreRequest
from scalr_backup.core import room
from scalr_backup.core.archive.head import ArchiveHead
from scalr_backup.core.clock import utc_now
from scalr_backup.core.left_out import lacks
from scalr_backup.core.model import Snapshot
from scalr_backup.core.records.databases import DrillRecord
from scalr_backup.core.records.manifest import ManifestDatabase
from scalr_backup.core.roles import MissingRoles
from scalr_backup.core.slots import SlotAnswer
from scalr_backup.core.units import human_age

_OLD_SNAPSHOT = timedelta(days=2)
AFTER_LOST_SLOTS = "Their consumers need new slots and a new copy of the data."


def extension_warnings(available: Mapping[str, str], descriptions: Iterable[ManifestDatabase]) -> Iterator[str]:
    """An archive names its extensions without their versions."""
    for described in descriptions:
        for one in described.get("extensions") or ():
            now = available.get(one["name"])
            if now is not None and now != one["version"]:
                yield (
                    f"The extension {one['name']} of {described['database']} was {one['version']} and comes back as {now}."
                )


def subscription_warnings(heads: Sequence[ArchiveHead]) -> Iterator[str]:
    """A database that was a subscriber becomes one again only on request."""
    if names := [entry.tag for head in heads for entry in head.entries if entry.desc == "SUBSCRIPTION"]:
        yield (
            f"Subscriptions come back disabled: {', '.join(names)}; run ALTER SUBSCRIPTION … ENABLE once you know "
            "where they should resume."
        )


def slot_warnings(request: RestoreRequest, databases: Sequence[DatabasePlan]) -> list[str]:
    """Consumers of changes that find their slot gone, or without the new database's changes."""
    return [
        (
            f"The replication slots of {plan.database} stay with the kept database, and send nothing from the restored "
            f"one: {slots_in_words(plan.live.slots)}. {AFTER_LOST_SLOTS}"
            if request.keep_old
            else f"The replication slots of {plan.database} are dropped with the replaced database: "
            f"{slots_in_words(plan.live.slots)}. {AFTER_LOST_SLOTS} keep_old=true keeps them."
        )
        for plan in databases
        if plan.live is not None and plan.live.slots
    ]


def slots_in_words(slots: Iterable[SlotAnswer]) -> str:
    """Slots with who reads them."""
    return ", ".join(
        f"{slot['name']} ({slot['plugin']}, {'read by ' + slot['consumer'] if slot['consumer'] else 'not in use'})"
        for slot in slots
    )


def unknown_role_warnings(missing: MissingRoles) -> Iterator[str]:
    """Roles that own something, and that no dump of roles describes."""
    if missing.unknown:
        yield (
            f"Only the names of these roles are known: {', '.join(missing.unknown)}. They are created without a password, and "
            "cannot log in until you allow it."
        )


def unrehearsed_warnings(
    request: RestoreRequest, databases: Sequence[DatabasePlan], drills: Mapping[str, DrillRecord]
) -> list[str]:
    """Live databases that are dropped although nobody knows whether the rows of their snapshots load."""
    if request.strategy != REPLACE:
        return []
    passed = {drill.get("snapshot_id") for drill in drills.values() if drill["ok"]}
    return [
        f"No drill on record has restored the snapshot {plan.snapshot.short_id} of {plan.database}. All but its rows is "
        "rehearsed before the live database is dropped; whether its rows load is then unknown: drill it first (drill.yml)."
        for plan in databases
        if plan.exists and not passed & plan.snapshot.ids
    ]


def age_warnings(databases: Sequence[DatabasePlan]) -> list[str]:
    """What is newest may be old."""
    return [
        f"The snapshot {plan.snapshot.short_id} of {plan.database} is {human_age(age.total_seconds())} old."
        for plan in databases
        if (age := utc_now() - plan.snapshot.time) > _OLD_SNAPSHOT
    ]


def unchecked_warnings(databases: Sequence[DatabasePlan], heads: Sequence[ArchiveHead]) -> list[str]:
    """Archives of a format that only the target's pg_restore knows."""
    return [
        f"The snapshot {plan.snapshot.short_id} of {plan.database} is of a format that this agent does not know (archive_unchecked): "
        "the target's own pg_restore restores it in one stream, without parallel jobs."
        for plan, head in zip(databases, heads, strict=True)
        if not head.is_known
    ]


def count_warnings(databases: Sequence[DatabasePlan], manifests: Manifests | None = None) -> list[str]:
    """Databases whose rows cannot be compared with those that were saved, and why."""
    return [
        f"There are no row counts for the snapshot {plan.snapshot.short_id} of "
        f"{plan.database}{_why_uncounted(plan.snapshot, manifests)}: only the archive itself can be verified."
        for plan in databases
        if plan.row_counts is None
    ]


def left_out_warnings(databases: Sequence[DatabasePlan], manifests: Manifests) -> Iterator[str]:
    """Rows that were there and that no dump holds."""
    for plan in databases:
        if left_out := manifests.describe(plan.snapshot).get("left_out"):
            yield lacks(f"The snapshot {plan.snapshot.short_id} of {plan.database}", left_out)


def unsaved_warnings(snapshots: Sequence[Snapshot], manifests: Manifests, *, is_whole_cluster: bool) -> Iterator[str]:
    """Databases of the same cluster that its passes cannot save; told to whoever restores all of it."""
    if not is_whole_cluster:
        return
    told = {
        (one["database"], one["why"]) for each in snapshots for one in manifests.cluster(each).get("left_out") or ()
    }
    for database, why in sorted(told):
        yield f"{database} was not backed up, and is not restored: {why}."


def _why_uncounted(snapshot: Snapshot, manifests: Manifests | None) -> str:
    if manifests is None or manifests.describe(snapshot):
        return ""
    if manifests.has(snapshot):
        return f", because the manifest of its run {snapshot.run} does not mention it"
    return f", because its run {snapshot.run} has no usable manifest" if snapshot.run else ", which no pass made"


def spread_warnings(databases: Sequence[DatabasePlan], survey: room.Survey) -> list[str]:
    """Rows that go to several volumes in unknown shares."""
    places = survey.places_of([plan.claim for plan in databases])
    if len(places) < 2:
        return []
    return [
        f"The rows go to {len(places)} volumes ({', '.join(place.directory for place in places)}), in unknown "
        "proportions, so only their total free space was checked. The restore gives up when one of them runs low."
    ]


def unknown_room_warnings(survey: room.Survey) -> list[str]:
    """What could not be checked does not stand against a restore, but has to be known."""
    if survey.unknown is None:
        return []
    return [
        f"{survey.unknown}: the free space of its volume was not checked and is not monitored while the restore runs. Make "
        "sure that the database fits beside the live one."
    ]


def tablespace_warnings(databases: Sequence[DatabasePlan]) -> list[str]:
    """Databases that come to lie elsewhere than they lay."""
    return [
        f"{plan.database} was in tablespaces that do not exist here; all of it goes to the default one."
        for plan in databases
        if not plan.tablespaces
    ]
