# SPDX-License-Identifier: GPL-3.0-or-later
"""Pins: which dump stays for ever, whatever the rules say."""

from __future__ import annotations

from dataclasses import dataclass

from scalr_backup.core.answers import PinAnswer
from scalr_backup.core.config import Config
from scalr_backup.core.errors import AmbiguousSnapshotError, AppendOnlyError, UnknownSnapshotError
from scalr_backup.core.model import PINNED_TAG, Snapshot
from scalr_backup.tools.restic.repository import Restic


@dataclass(frozen=True)
class Pinned:
    """What pinning or unpinning came to: restic gives the snapshot another id, *id*, when its tags change."""

    id: str
    was: str
    pinned: bool
    changed: bool

    def as_dict(self) -> PinAnswer:
        """The outcome as the JSON contract shows it."""
        return {"id": self.id, "was": self.was, "pinned": self.pinned, "changed": self.changed}


def pin(
    config: Config, restic: Restic, wanted: str, *, pinned: bool, anywhere: bool = False, dry_run: bool = False
) -> Pinned:
    """Keep one of this host's dumps for ever, or, without *pinned*, no longer; *wanted* is an id or its beginning.

    Raises AppendOnlyError where it is not for this host to change a snapshot, unless it is *anywhere* else;
    UnknownSnapshotError or AmbiguousSnapshotError, and ResticError.
    """
    if config.append_only and not anywhere and not dry_run:
        raise AppendOnlyError(
            f"{config.host} is append-only (append_only), and to pin a snapshot restic rewrites it and removes the "
            "old one: back up with the tag pinned instead, which keeps that backup for ever."
        )
    found = [one for one in restic.snapshots() if one.container and _is_meant(one, wanted)]
    if not found:
        raise UnknownSnapshotError(f"{config.host} has no snapshot whose id begins with {wanted!r}.")
    if len(found) > 1:
        ids = ", ".join(one.short_id for one in found)
        raise AmbiguousSnapshotError(f"{len(found)} snapshots have an id that begins with {wanted!r}: {ids}.")
    one = found[0]
    if pinned and one.empty:
        raise UnknownSnapshotError(
            f"The snapshot {one.short_id} of {one.container}/{one.database} holds nothing, so it cannot be pinned."
        )
    if one.pinned == pinned:
        return Pinned(one.id, one.id, pinned, changed=False)
    if dry_run:
        return Pinned(one.id, one.id, pinned, changed=True)
    new = restic.tag(one.id, add=PINNED_TAG if pinned else None, remove=None if pinned else PINNED_TAG)
    return Pinned(new, one.id, pinned, changed=True)


def _is_meant(snapshot: Snapshot, wanted: str) -> bool:
    return bool(wanted) and any(name.startswith(wanted) for name in snapshot.ids)
