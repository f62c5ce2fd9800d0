# SPDX-License-Identifier: GPL-3.0-or-later
"""A moment under the final name, early in a restore: noted before it begins, and ended whatever happens in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scalr_backup.actions.leftovers import put_back
from scalr_backup.core.errors import PostgresError, RestoreError, ScalrBackupError
from scalr_backup.core.sql import cut_name
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.state import RestoreJournal, State


def run_under_final_name(
    state: State, postgres: Postgres, tidier: Postgres, journal: RestoreJournal, statements: Sequence[str]
) -> None:
    """Run statements in the new database while it is called as the live one.

    The next run puts the names back where this one is killed. Raises RestoreError; the live database has its name then,
    unless the message says otherwise.
    """
    noted = replace(journal, aside=cut_name(journal.database, f"_aside_{journal.run.lower()}"))
    exists = journal.database in postgres.database_names()
    state.open_journal(noted)
    try:
        back, failed = postgres.while_named(journal.database, journal.new, noted.aside if exists else None, statements)
    except ScalrBackupError as error:
        # The answer may have been lost on its way.
        back, failed = False, error.message
    if not back:
        _put_back(tidier, noted, failed)
    state.open_journal(journal)
    if failed:
        raise RestoreError(
            f"What can be created only in a database that is called {journal.database} could not be created: {failed}."
        )


def _put_back(tidier: Postgres, noted: RestoreJournal, failed: str) -> None:
    try:
        if (obstacle := put_back(tidier, noted)) is None:
            return
    except PostgresError as error:
        obstacle = error.message
    raise RestoreError(
        f"{failed}. The live {noted.database} of {noted.container} may be called {noted.aside} now, and the next run puts it "
        f"back: {obstacle}"
    )
