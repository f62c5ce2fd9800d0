# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the repository, its store, its password and the clock: pure functions of what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scalr_backup.actions.doctor.examined import FAILED, OK, WARNING, Examined
from scalr_backup.actions.health.findings import SKEW_SECONDS, of_repository_on_host
from scalr_backup.actions.repository.keys import ESCROW_USER
from scalr_backup.core.address import redact_address
from scalr_backup.core.config import Config
from scalr_backup.core.model import Key
from scalr_backup.core.units import counted, human_age

# Beyond that, Amazon's and other stores refuse what a clock has signed.
_REFUSED_SECONDS = 15 * 60
# The first format that compresses.
_COMPRESSES = 2
_UNLOCK = "docker exec scalr-backup scalr-backup unlock"
_REMINDER = (
    "Keep a copy of the password off this host: without it, nobody can read the backups. recovery_kit.yml generates a page for "
    "the safe."
)


@dataclass(frozen=True)
class Skew:
    """By how much this clock is ahead of another one, in seconds, and whose that is."""

    seconds: float
    whose: str


def of_repository(repository: str, format_version: int) -> Examined:
    """What to think of a repository that the password has opened."""
    seen = f"{repository} answers, the repository exists, and the password opens it."
    if format_version < _COMPRESSES:
        return Examined(
            WARNING,
            f"{seen} Its format, version {format_version}, does not support compression.",
            cure="Upgrade it with restic migrate upgrade_repo_v2, or go on without compression.",
        )
    return Examined(OK, seen)


def of_locks(count: int, oldest: datetime | None, now: datetime, lock_hours: int) -> Examined:
    """Whether a lock is there that somebody has left behind."""
    if not count:
        return Examined(OK, "The repository has no locks.")
    if oldest is None:
        return Examined(
            OK,
            f"{counted(count, 'lock')} on the repository, of unknown age: none can be read, or they are gone by now.",
        )
    age = now - oldest
    if age > timedelta(hours=lock_hours):
        return Examined(
            WARNING,
            f"A lock on the repository is {human_age(age.total_seconds())} old and blocks prune and check.",
            cure="If nothing is using the repository anywhere, remove it.",
            command=_UNLOCK,
            code="repository_locked",
        )
    return Examined(
        OK,
        f"{counted(count, 'lock')} on the repository, the oldest {human_age(age.total_seconds())} old: it is in use.",
    )


def of_place(config: Config, *, lost_with_host: bool, on_host: bool) -> Examined:
    """Whether the backups go with the host."""
    if lost_with_host:
        return Examined(
            WARNING,
            of_repository_on_host(config),
            cure="Choose a store elsewhere, as docs/stores.md shows.",
            command=f"ansible-playbook scalr.backup.site --limit {config.host}",
        )
    if not on_host:
        return Examined(OK, f"{redact_address(config.repository)} is not on this host.")
    if config.copy_to and not config.repository_on_host_accepted:
        return Examined(
            OK, f"The repository is on this host, its copy is not: {redact_address(config.copy_to.repository)}."
        )
    return Examined(OK, "The repository is on this host, which backup_repository_on_host_accepted accepts.")


def of_deletion(config: Config) -> Examined:
    """Whether this host may remove what it has backed up."""
    if config.append_only:
        return Examined(OK, "This host is append-only; a trusted place removes old snapshots with prune.yml.")
    return Examined(
        OK,
        "This host removes old snapshots itself, so anyone who takes it over can remove them, too.",
        cure="To prevent that, make its store append-only, as docs/ransomware.md shows.",
    )


def of_password(keys: Sequence[Key]) -> Examined:
    """Whether somebody can read the backups when this host is gone."""
    if any(key.user == ESCROW_USER for key in keys):
        return Examined(
            OK, f"{counted(len(keys), 'password')} open the repository; one of them is on a page for the safe."
        )
    only = "One password opens" if len(keys) == 1 else f"{len(keys)} passwords open"
    return Examined(OK, f"{only} the repository.", cure=_REMINDER)


def of_clock(skew: Skew | None) -> Examined:
    """Whether this host knows what time it is."""
    if skew is None:
        return Examined(
            OK, "The clock could not be compared: neither the store nor the heartbeat server has given the time."
        )
    off = abs(skew.seconds)
    if off <= SKEW_SECONDS:
        return Examined(OK, f"The clock agrees with that of {skew.whose}, within a minute.")
    direction = "ahead of" if skew.seconds > 0 else "behind"
    seen = f"The clock is {human_age(off)} {direction} that of {skew.whose}."
    cure = "Set the host's time (NTP)."
    if off > _REFUSED_SECONDS:
        return Examined(
            FAILED, f"{seen} Stores refuse requests signed with such a clock.", (), cure, "timedatectl status"
        )
    return Examined(WARNING, seen, (), cure, "timedatectl status")
