# SPDX-License-Identifier: GPL-3.0-or-later
"""Which stores a trusted place can prune: those whose files it can list and read by itself."""

from __future__ import annotations

from pathlib import Path

from scalr_backup.core.address import redact_address
from scalr_backup.core.errors import ConfigurationError
from scalr_backup.tools.restic import stores
from scalr_backup.tools.store.access import Access
from scalr_backup.tools.store.files import DirectoryFiles, Files, RestFiles
from scalr_backup.tools.store.s3 import S3Files


def open_files(repository: str, access: Access) -> Files:
    """The files of a repository as its store keeps them.

    Raises ConfigurationError for a store of another kind.
    """
    kind = stores.kind(repository)
    if kind == "local":
        return DirectoryFiles(Path(repository.removeprefix("local:")))
    if kind == "rest":
        return RestFiles(repository, access)
    if kind == "s3":
        return S3Files(repository, access)
    raise ConfigurationError(
        f"The repository {redact_address(repository)} cannot be pruned from a trusted place, which reads every new file "
        "itself before it removes anything and can do so on a REST server (rest:), in an S3 store (s3:) and in a directory "
        "only: set backup_prune_repository to one of these addresses of the same repository."
    )
