# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the second repository is another one than the first: asked before anything is written to it or removed from it.

An address does not say, because a place has several: a link, another name of the server, another mount. The id does, which
restic gave the repository when it was made. Were both one, the copy's retention would remove the first one's backups.

A repository that was made by copying the first one's files has its id, too. It cannot be told from the first one, nor by
restic, whose cache takes both for one; so it is refused as well.
"""

from __future__ import annotations

from typing import Protocol

from scalr_backup.core.errors import ConfigurationError, RepositoryMissingError


class Identified(Protocol):
    """A repository that knows its address, without a password, and its id."""

    @property
    def repository(self) -> str:
        """Its address, without a password."""

    def repository_id(self) -> str:
        """Its id; raises RepositoryMissingError where there is none, and what keeps it from being opened."""


def require_another(first: Identified, second: Identified) -> str:
    """The id of the second repository. Raises ConfigurationError where it is the first one's, and what keeps either from opening."""
    its_id = second.repository_id()
    try:
        first_id = first.repository_id()
    except RepositoryMissingError:
        # What is there is not what is missing.
        return its_id
    if its_id == first_id:
        raise ConfigurationError(
            f"backup_copy_repository is {second.repository}, which is the first repository, {first.repository}, or was made of "
            f"its files, because both have the id {its_id[:8]}: nothing there was changed; choose an empty place, where "
            "scalr-backup init --copy creates a repository of its own."
        )
    return its_id
