# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trusted place remembers of the snapshots of a repository, and which repository that is.

It is kept by the repository's id, which is the same however the repository is addressed. But that id is in ``config``, the one
file whose name does not follow from its content. In a store where whoever may add may also replace (S3), somebody with a host's
key and the password can give the repository another id, and the place would not recognise what it has seen: no snapshot
would be too late, none would be missed, and every index would be new. So the place also remembers which id was last at an
address. Where that is another one, nothing goes until an operator has everything read again, and what was seen counts on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from scalr_backup.actions.retention.suspects import SnapshotsLook
from scalr_backup.core.errors import ForgedFilesError
from scalr_backup.core.records.maintenance import SeenRecord
from scalr_backup.tools.known_files import KnownFilesStore
from scalr_backup.tools.restic.repository import Restic
from scalr_backup.tools.state import State
from scalr_backup.tools.store.files import NAME


class Memory:
    """What a trusted place remembers of the snapshots of one host in one repository.

    *former* is the id that the repository had before, under which it is remembered too.
    """

    def __init__(self, state: State, repository_id: str, host: str, former: str | None = None) -> None:
        self._state = state
        self._key = f"{repository_id}/{host}"
        self._former_key = f"{former}/{host}" if former else None

    def recall(self) -> SnapshotsLook | None:
        """The last look; None before the first."""
        look = self._look(self._key)
        former = self._look(self._former_key) if self._former_key else None
        return look.joined_with(former) if look and former else look or former

    def keep(self, look: SnapshotsLook) -> None:
        """Remember this one in its place."""
        entry: SeenRecord = {"time": look.time.isoformat(), "ids": sorted(look.ids), "going": sorted(look.going)}
        self._state.record_look(self._key, entry)

    def set_out_to_remove(self, ids: Collection[str]) -> None:
        """Remember, before they go, that it is we who remove these: a run may end at any moment after that."""
        if ids and (last := self.recall()):
            self.keep(replace(last, going=last.going.union(ids), is_certain=True))

    def _look(self, key: str) -> SnapshotsLook | None:
        entry = self._state.look(key)
        if not entry:
            return None
        going = frozenset(entry.get("going", ()))
        return SnapshotsLook(datetime.fromisoformat(entry["time"]), frozenset(entry["ids"]), going, "going" in entry)


def read_id(restic: Restic) -> str:
    """The repository's id. Raises ForgedFilesError for one that restic does not write, and what opening it raises."""
    identity = restic.repository_id()
    if not NAME.fullmatch(identity):
        # Two of them might be one as the name of a file, and be remembered as two all the same.
        raise ForgedFilesError(
            f"Nothing was removed from the repository {restic.repository}, because its config holds an id that restic does "
            "not write: somebody has overwritten it. Take the host's key away, and do what docs/ransomware.md says under "
            "Forged files."
        )
    return identity


def recognise(
    restic: Restic, files: KnownFilesStore, state: State, identity: str, host: str, *, read_all: bool, dry_run: bool
) -> Memory:
    """What is remembered of a host's snapshots in the repository with this id.

    Where another one was last seen at its address, what was seen there counts on if everything is read again; a dry run
    writes nothing of that down.

    Raises ForgedFilesError where nobody has said that everything is to be read again.
    """
    former = files.former_id()
    if former is None:
        return Memory(state, identity, host)
    if not read_all:
        raise _another_repository(restic.repository, former, identity)
    if dry_run:
        files.only_read()
        return Memory(state, identity, host, former)
    _carry_over(state, former, identity)
    files.take_over()
    return Memory(state, identity, host)


def _carry_over(state: State, former: str, identity: str) -> None:
    """Remember of each host under the one id what was seen under the other."""
    keys = [key for key in state.read().get("looks", {}) if key.startswith(f"{former}/")]
    for key in keys:
        memory = Memory(state, identity, key.removeprefix(f"{former}/"), former)
        if last := memory.recall():
            memory.keep(last)


def _another_repository(repository: str, former: str, identity: str) -> ForgedFilesError:
    return ForgedFilesError(
        f"Nothing was removed from the repository {repository}, because it is not the one that was there at the last look: its "
        f"id was {former[:8]} then and is {identity[:8]} now. Either somebody who has a host's key has overwritten its config, "
        "or one of your people has made a new repository there. Find out which: in the first case take that key away and "
        "bring back the older version of the file config; in the second run prune.yml with -e read_all=true. "
        "docs/ransomware.md says more under Forged files."
    )
