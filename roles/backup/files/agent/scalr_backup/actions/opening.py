# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens repositories, and creates missing ones: those in use, and those of a future configuration.

A host moves to another store in two steps. First its repositories are opened, or created, with the future configuration and
secrets; nothing that is in use is touched meanwhile. Only what has been opened this way is put to use.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from scalr_backup.actions.repository.apart import Identified, require_another
from scalr_backup.core.answers import OpenedAnswer, RehearseAnswer
from scalr_backup.core.errors import RepositoryMissingError, ScalrBackupError
from scalr_backup.core.model import Failure


class Which(StrEnum):
    """The repositories of a host."""

    REPOSITORY = "repository"
    COPY = "copy"


class Repository(Identified, Protocol):
    """What opening needs of restic."""

    def init(self, copy_of: Any = None) -> None:
        """Make it."""


@dataclass(frozen=True)
class Opened:
    """A repository that was opened: whether it had to be made for that, or would have to be, and its id if it is there."""

    repository: str
    created: bool
    repository_id: str | None

    def as_dict(self) -> OpenedAnswer:
        """The repository as the JSON contract shows it."""
        return {"repository": self.repository, "created": self.created, "repository_id": self.repository_id}


@dataclass(frozen=True)
class Rehearsal:
    """What became of each repository of a configuration to come; the first error ended it."""

    opened: dict[Which, Opened]
    error: Failure | None = None

    def as_dict(self) -> RehearseAnswer:
        """The rehearsal as the JSON contract shows it: null for one that does not exist, or was no longer opened."""
        first, copy = self.opened.get(Which.REPOSITORY), self.opened.get(Which.COPY)
        return {"repository": first.as_dict() if first else None, "copy": copy.as_dict() if copy else None}

    @property
    def changed(self) -> bool:
        """Whether a repository was made, or would be."""
        return any(opened.created for opened in self.opened.values())


def open_or_make(
    restic: Repository, *, copy_of: Repository | None = None, make: bool = True, must_exist: bool = False
) -> Opened:
    """Prove that the password opens a repository; where it does not exist, create it, or only say so.

    Raises RepositoryMissingError when it must exist and does not, ConfigurationError where it is the one that it is to be a
    *copy_of*, and what keeps restic from opening it.
    """
    try:
        its_id = require_another(copy_of, restic) if copy_of is not None else restic.repository_id()
        return Opened(restic.repository, created=False, repository_id=its_id)
    except RepositoryMissingError:
        if must_exist:
            raise
    if make:
        restic.init(copy_of)
    return Opened(restic.repository, created=True, repository_id=restic.repository_id() if make else None)


def rehearse(first: Repository, copy: Repository | None, make: Collection[Which]) -> Rehearsal:
    """Open the repositories of a configuration to come; of those that are missing, make the ones that may be made.

    A failure tells nothing of whose password it was, so what was opened before it is in the outcome, too.
    """
    opened: dict[Which, Opened] = {}
    try:
        opened[Which.REPOSITORY] = open_or_make(first, make=Which.REPOSITORY in make)
        if copy is not None:
            # A copy cuts data as the first one does, which therefore has to be there.
            can_make = Which.COPY in make and opened[Which.REPOSITORY].repository_id is not None
            opened[Which.COPY] = open_or_make(copy, copy_of=first, make=can_make)
    except ScalrBackupError as error:
        return Rehearsal(opened, Failure(error.code, error.message))
    return Rehearsal(opened)
