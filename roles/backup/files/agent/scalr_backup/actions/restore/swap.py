# SPDX-License-Identifier: GPL-3.0-or-later
"""The outcome of a swap of names whose answer was lost: read from the names themselves."""

from __future__ import annotations

import time
from collections.abc import Callable

from scalr_backup.core.errors import RestoreError, ScalrBackupError
from scalr_backup.tools.postgres.cluster import Postgres

# A server that was killed in the middle recovers first.
_PATIENCE_SECONDS = 60.0
_AGAIN_SECONDS = 1.0


class SwapUnknownError(RestoreError):
    """A swap happened completely or not at all, and which is unknown."""


def has_swapped(
    postgres: Postgres, application: str, goes: str, error: ScalrBackupError, told_to_stop: Callable[[], bool]
) -> bool:
    """Whether a swap that ended in an error has happened: then the name *goes* is gone.

    *application* is what the swap's sessions are called. They end first: one whose answer was lost may still be on its
    way to its COMMIT, and the names would change after they were read.

    Raises SwapUnknownError when the server does not answer in time, or when the run is told to stop meanwhile.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            if not postgres.end_leftovers(f"{application}$"):
                return goes not in postgres.database_names()
        except ScalrBackupError as silence:
            error = silence
        if time.monotonic() > deadline or told_to_stop():
            raise SwapUnknownError(
                f"The connection to {postgres.container} was lost during the swap, which happened completely or not "
                f"at all; the next run checks and cleans up: {error.message}"
            ) from None
        time.sleep(_AGAIN_SECONDS)
