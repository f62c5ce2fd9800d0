# SPDX-License-Identifier: GPL-3.0-or-later
"""The passwords that open the repository.

restic keeps one key for each of them. A change of a password is: add the new one's key, let everybody who had the old
one use the new one, and only then remove the old one's key. Each step here can be taken again after an interruption:

* A password that opens the repository already is not added a second time.
* The old password's keys are removed until it opens nothing any more, which may be at once.
* No key goes that another host may still need, not even a safe's, which a host that was rebuilt with it may be using.
  restic does not know who uses a key, so this is found out from the hosts that have snapshots: one that has made no
  newer key for itself may be using it. A key of its own that is older says nothing: a host can keep its old one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from scalr_backup.core.errors import (
    ConfigurationError,
    KeyInUseError,
    ResticError,
    TooManyKeysError,
    UnknownKeyError,
    WrongPasswordError,
)
from scalr_backup.core.key_answers import KeyAddedAnswer, KeysAnswer
from scalr_backup.core.model import Key
from scalr_backup.core.progress import Emit, log
from scalr_backup.tools.restic.repository import Restic

# The user that a key is labelled with: a host made it for itself, or it is for a safe that no host has the key to.
HOST_USER = "scalr-backup"
ESCROW_USER = "scalr-backup-escrow"
# restic tries this many keys, in no order that can be relied on, and then gives up.
MOST_KEYS = 20


@dataclass(frozen=True)
class KeyList:
    """The repository's keys, and the other hosts that may be using the current one."""

    repository: str
    repository_id: str
    keys: tuple[Key, ...]
    shared_with: tuple[str, ...]

    def as_dict(self) -> KeysAnswer:
        """The listing as the JSON contract shows it."""
        current = _current(self.keys)
        return {
            "repository": self.repository,
            "repository_id": self.repository_id,
            "keys": [key.as_dict() for key in self.keys],
            "shared_with": list(self.shared_with),
            "current": current.id if current else None,
        }


@dataclass(frozen=True)
class Added:
    """The key of a password; *added* where it had none before."""

    repository_id: str
    key: str
    added: bool

    def as_dict(self) -> KeyAddedAnswer:
        """The key as the JSON contract shows it."""
        return {"repository_id": self.repository_id, "key": self.key, "added": self.added}


class Keys:
    """The keys of one repository, seen from one host."""

    def __init__(self, restic: Restic, host: str, emit: Emit) -> None:
        self._restic = restic
        self._host = host
        self._emit = emit

    def listing(self) -> KeyList:
        """All keys. Raises a ResticError where the repository does not open."""
        repository_id = self._restic.repository_id()
        keys = self._restic.list_keys()
        current = _current(keys)
        shared_with = self._users(keys, current) if current else []
        return KeyList(self._restic.repository, repository_id, tuple(keys), tuple(shared_with))

    def add(self, password: str, user: str, host: str, *, dry_run: bool = False) -> Added:
        """Let a further password open the repository, and prove that it does.

        Raises ConfigurationError for one that restic would not read as it stands, TooManyKeysError where restic would
        not find it among so many, WrongPasswordError where neither it nor the agent's own opens.
        """
        require_usable(password)
        key = self._key_of(password)
        if key is not None:
            return Added(self._id_by(password), key.id, added=False)
        keys = self._restic.list_keys()
        if len(keys) >= MOST_KEYS:
            raise TooManyKeysError(
                f"The repository {self._restic.repository} has {len(keys)} keys already, and restic tries only "
                f"{MOST_KEYS}: remove unneeded ones; scalr-backup key list shows them."
            )
        if dry_run:
            return Added(self._restic.repository_id(), "", added=True)
        self._end_leftovers()
        self._restic.add_key(password, user, host)
        key = self._key_of(password)
        if key is None:
            raise ResticError(f"restic added a key to {self._restic.repository}, but its password does not open it.")
        self._emit(log("info", "key added", key=key.id[:8], user=user, host=host))
        return Added(self._restic.repository_id(), key.id, added=True)

    def retire(self, password: str, unused_by: Collection[str] = (), *, dry_run: bool = False) -> list[str]:
        """Remove a password's keys until it no longer opens the repository; returns their ids.

        *unused_by* are hosts that are known not to need it. Raises KeyInUseError where another host may, or where
        the password is the agent's own, UnknownKeyError where it opens nothing to begin with, ConfigurationError where it is
        blank, which restic takes for none.
        """
        if not password.strip():
            raise ConfigurationError("The password is empty.")
        removed: list[str] = []
        while (key := self._key_of(password)) is not None:
            keys = self._restic.list_keys()
            self._require_unused(keys, key, unused_by)
            if dry_run:
                return [key.id]
            if key == _current(keys):
                raise KeyInUseError(f"{self._host} itself opens the repository with this password.")
            self._remove(key)
            removed.append(key.id)
        if not removed:
            raise UnknownKeyError(f"No key of {self._restic.repository} has this password; nothing was removed.")
        return removed

    def remove(self, wanted: str, unused_by: Collection[str] = (), *, dry_run: bool = False) -> list[str]:
        """Remove the key whose id begins with *wanted*; returns its id.

        Raises UnknownKeyError where there is none, KeyInUseError as ``retire`` does, ConfigurationError where several ids
        begin so.
        """
        keys = self._restic.list_keys()
        found = [key for key in keys if wanted and key.id.startswith(wanted)]
        if not found:
            known = ", ".join(key.id[:8] for key in keys)
            raise UnknownKeyError(
                f"No key of {self._restic.repository} has an id that begins with {wanted!r}; nothing was removed. Its keys: {known}."
            )
        if len(found) > 1:
            raise ConfigurationError(f"{len(found)} keys have ids that begin with {wanted}: give more of the id.")
        key = found[0]
        if key.current:
            raise KeyInUseError(
                f"{self._host} itself opens the repository with the key {key.id[:8]}; run rotate_password.yml first, "
                "which gives it another one."
            )
        self._require_unused(keys, key, unused_by)
        if not dry_run:
            self._remove(key)
        return [key.id]

    def _key_of(self, password: str) -> Key | None:
        """The key that a password opens the repository with, if it does."""
        with self._restic.with_password(password) as other:
            try:
                return _current(other.list_keys())
            except WrongPasswordError:
                return None

    def _id_by(self, password: str) -> str:
        """The repository's id, by a password that opens it: the agent's own may not."""
        with self._restic.with_password(password) as other:
            return other.repository_id()

    def _end_leftovers(self) -> None:
        """Remove the lock of a call that was killed: keys are removed under one that stops everybody else."""
        if self._restic.unlock():
            self._emit(log("warning", "A stale lock on the repository was removed."))

    def _remove(self, key: Key) -> None:
        self._end_leftovers()
        try:
            self._restic.remove_key(key.id)
        except ResticError:
            # Another host that had the same password may have removed it a moment ago.
            if any(one.id == key.id for one in self._restic.list_keys()):
                raise
        self._emit(log("info", "key removed", key=key.id[:8], user=key.user, host=key.host))

    def _require_unused(self, keys: Sequence[Key], key: Key, unused_by: Collection[str]) -> None:
        users = [host for host in self._users(keys, key) if host not in unused_by]
        if users:
            which = "has snapshots there but no newer key of its own"
            if len(users) > 1:
                which = "have snapshots there but no newer keys of their own"
            raise KeyInUseError(
                f"The key {key.id[:8]} of {self._restic.repository} may be in use by {', '.join(users)}, which {which}: "
                "nothing was removed."
            )

    def _users(self, keys: Iterable[Key], key: Key) -> list[str]:
        """The other hosts that may be using a key."""
        return possible_users(keys, key, {snapshot.host for snapshot in self._restic.snapshots(None)} - {self._host})


def _current(keys: Iterable[Key]) -> Key | None:
    """The key that a listing was made with."""
    return next((key for key in keys if key.current), None)


def possible_users(keys: Iterable[Key], key: Key, hosts: Collection[str]) -> list[str]:
    """Those of some hosts that have not made another key for themselves since this one, and so may be using it."""
    provided = {
        one.host for one in keys if one.user == HOST_USER and one.id != key.id and one.created > key.created > ""
    }
    return sorted(host for host in hosts if host not in provided)


def require_usable(password: str) -> None:
    """Refuse a password that restic would not read from a file as it stands.

    Raises ConfigurationError, never with a part of it.
    """
    if not password.strip():
        raise ConfigurationError("The new password is empty.")
    if password != password.strip() or len(password.splitlines()) > 1:
        raise ConfigurationError(
            "The new password begins or ends with a space, or holds a line break: restic strips these when it reads "
            "a password from a file. Choose another one."
        )
