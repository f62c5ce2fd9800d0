# SPDX-License-Identifier: GPL-3.0-or-later
"""A moment under the final name, early in a restore: noted before it begins, and ended whatever happens in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from scalr_backup.actions.leftovers import keep_what_was_written, put_back
from scalr_backup.core.errors import RestoreError, ScalrBackupError
from scalr_backup.core.model import Failure, aside_name
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.window import MOMENT
from scalr_backup.tools.state import RestoreJournal, State

# How long a server that lets nobody in is asked again, until it is left to the next run; the app waits for its database.
_PATIENCE_SECONDS, _AGAIN_SECONDS = 60.0, 1.0


def run_under_final_name(
    state: State, postgres: Postgres, tidier: Postgres, journal: RestoreJournal, statements: Sequence[str]
) -> None:
    """Run statements in the new database while it is called as the live one.

    The next run puts the names back where this one is killed, or cannot: the journal tells it. Raises RestoreError; the
    live database has its name then, unless the message says otherwise.
    """
    oids = postgres.database_oids()
    aside = aside_name(journal.database, journal.run)
    noted = replace(journal, aside=aside, new_oid=oids.get(journal.new))
    exists = journal.database in oids
    state.open_journal(noted)
    try:
        back, failed = postgres.while_named(journal.database, journal.new, aside if exists else None, statements)
    except Exception as error:  # noqa: BLE001 (whatever it is, the names go back; the answer may have been lost on its way)
        back, failed = False, Failure.of(error).message
    if not back:
        _put_back(tidier, postgres.application, noted, failed)
    kept = keep_what_was_written(tidier, noted, rows=False)
    state.open_journal(journal)
    if kept:
        raise RestoreError(
            f"Another session wrote to the new database while it was named {journal.database}, so it is kept as {kept}, and the "
            f"live one is as it was. Stop what connects to {journal.database}, and restore again."
        )
    if failed:
        raise RestoreError(
            f"Objects that can be created only in a database named {journal.database} could not be created: {failed}."
        )


def _put_back(tidier: Postgres, application: str, noted: RestoreJournal, failed: str) -> None:
    """Change the names back, once the sessions that changed them are over: they might change them again.

    Raises RestoreError where they cannot be changed back now.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        obstacle: str | None = "its session is still running"
        try:
            if not tidier.end_leftovers(f"{application} {MOMENT}$") and (obstacle := put_back(tidier, noted)) is None:
                return
        except ScalrBackupError as error:
            obstacle = error.message
        if time.monotonic() > deadline:
            raise RestoreError(
                f"{failed}. The live {noted.database} of {noted.container} may be called {noted.aside} now, and the next run "
                f"puts it back: {obstacle}"
            ) from None
        time.sleep(_AGAIN_SECONDS)
