# SPDX-License-Identifier: GPL-3.0-or-later
"""What killed runs left in a container: found and removed by the next run that holds its lock.

The lock keeps two dumps and restores of a container apart, and no more: a pass looks at it before and after, and another
agent may know it too. So only what belongs to a run that is dead is a leftover.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from scalr_backup.actions.discovery import Discovery
from scalr_backup.core.errors import PostgresError, RestoreError
from scalr_backup.core.model import Cluster, restored_name
from scalr_backup.core.units import counted
from scalr_backup.tools.postgres.cluster import Postgres, run_of_half_made
from scalr_backup.tools.postgres.session import APPLICATION_PREFIX
from scalr_backup.tools.state import RestoreJournal, State

# A session that is told to end does so once its statement lets it.
_END_SECONDS = 10.0


def clean_up(state: State, discovery: Discovery, cluster: Cluster) -> list[str]:
    """Remove what is left; returns a sentence for each thing found. The caller holds the container's lock.

    Sessions and client processes of dead runs go first: they hold transactions open. Then half-made databases,
    and old ones whose restore was killed between its swap and their drop. What cannot be dropped is a sentence
    too and stands in nobody's way.

    Raises a ScalrBackupError when the server does not answer.
    """
    postgres = discovery.postgres(cluster.container, cluster.credentials, f"{APPLICATION_PREFIX} leftovers")
    with postgres.kept_open():
        return _clean_up(state, cluster.container.name, postgres)


def _clean_up(state: State, name: str, postgres: Postgres) -> list[str]:
    found = []
    dead = sorted(run for run in postgres.runs_at_work() if state.runs.is_dead(run))
    if ended := sum(_end(postgres, run) for run in dead):
        found.append(
            f"Ended {counted(ended, 'session or process', 'sessions or processes')} of a killed run in {name}."
        )
    for head in sorted(postgres.heads()):
        if _is_of_dead_run(state, head):
            postgres.remove_heads(head)
    journals = state.journals(name)
    for journal in journals:
        found += _finish(state, journal, postgres)
    found += _finish_undos(state, name, postgres)
    for half_made in sorted(half_made_by_dead(state, postgres).keys() - {journal.new for journal in journals}):
        if obstacle := _drop(postgres, half_made):
            found.append(f"The half-made database {half_made} in {name} could not be dropped: {obstacle}")
        else:
            found.append(f"The half-made database {half_made} of a killed restore was dropped in {name}.")
    return found


def _end(postgres: Postgres, run: str) -> int:
    """End what a run has left, and wait a moment for its last transaction: it may be changing names."""
    left = ended = postgres.end_leftovers(f"{APPLICATION_PREFIX} {run}")
    deadline = time.monotonic() + _END_SECONDS
    while left and time.monotonic() < deadline:
        left = postgres.end_leftovers(f"{APPLICATION_PREFIX} {run}")
    return ended


def half_made_by_dead(state: State, postgres: Postgres) -> dict[str, int]:
    """The half-made databases that no run works at any more, with their sizes in bytes."""
    return {name: size for name, size in postgres.half_made_databases().items() if _is_of_dead_run(state, name)}


def superfluous(journal: RestoreJournal, names: Collection[str]) -> str | None:
    """The database that a restore no longer needs: its new one before the swap, the old one after it.

    *names* are the cluster's databases. The swap is one transaction: where the new name stands, it has not
    happened. The old database is superfluous only while the live name stands too.
    """
    if journal.new in names:
        return journal.new
    if journal.old in names and journal.database in names and not journal.keep_old:
        return journal.old
    return None


def put_back(postgres: Postgres, journal: RestoreJournal) -> str | None:
    """End the moment in which a new database stood under the live one's name; returns what stands against it.

    Names alone do not tell whose a database is: the new one is that whose oid was noted, and any other of the live one's
    name is somebody's own. All names change at once or none: see ``window_script``.
    """
    oids = postgres.database_oids()
    is_ours = journal.new_oid is not None and oids.get(journal.database) == journal.new_oid
    renames = [(journal.database, journal.new)] if is_ours else []
    if journal.aside in oids:
        if journal.database in oids and not is_ours:
            return f"there is another {journal.database} by now: find out which of the two is right, and rename {journal.aside}"
        renames.append((str(journal.aside), journal.database))
    if renames:
        postgres.rename_all(renames)
    return None


def keep_what_was_written(postgres: Postgres, journal: RestoreJournal, *, rows: bool) -> str | None:
    """Give a new database that stood under the live one's name, and into which somebody has written, a name to stay under.

    Whoever is a superuser was let in; with *rows*, what is in tables of extensions is looked at, too. Returns the name.
    Raises PostgresError.
    """
    if journal.new not in postgres.database_names() or not postgres.holds_more_than_extensions(journal.new, rows=rows):
        return None
    kept = restored_name(journal.database, journal.run)
    postgres.keep_database(journal.new, kept)
    return kept


def give_up(state: State, journal: RestoreJournal, postgres: Postgres) -> None:
    """Remove what a restore that has failed does not need any more, and close its journal.

    Raises PostgresError; then the journal stays, and the next run tries again.
    """
    noted = state.journal(journal.new) or journal
    if noted.aside is not None:
        if obstacle := put_back(postgres, noted):
            raise PostgresError(obstacle)
        keep_what_was_written(postgres, noted, rows=True)
    if name := superfluous(noted, postgres.database_names()):
        postgres.drop_database(name)
    state.close_journal(noted)


def require_own_name(state: State, container: str, database: str) -> None:
    """Refuse to work with a database whose name may be another one's for now. Raises RestoreError."""
    if noted := next((one for one in state.journals(container) if one.aside and one.database == database), None):
        raise RestoreError(
            f"{container}/{database} may have been named {noted.aside} since the restore {noted.run} was interrupted, and the "
            "database with its name may be half-made. The warnings say why the names could not be changed back; resolve "
            "that, and run this again."
        )


def _finish(state: State, journal: RestoreJournal, postgres: Postgres) -> list[str]:
    if journal.aside is None:
        return _finish_named(state, journal, postgres)
    where = f"The restore {journal.run} of {journal.container}/{journal.database} was killed while names were changed"
    kept = None
    try:
        if (obstacle := put_back(postgres, journal)) is None:
            kept = keep_what_was_written(postgres, journal, rows=True)
    except PostgresError as error:
        obstacle = error.message
    if obstacle is not None:
        return [f"{where}, and they could not be changed back: {obstacle}"]
    told = [f"{where}; they are as they were."]
    if kept:
        told.append(
            f"Another session wrote to its half-made database while that was named {journal.database}: see {kept}."
        )
    return [*told, *_finish_named(state, journal, postgres)]


def _finish_named(state: State, journal: RestoreJournal, postgres: Postgres) -> list[str]:
    names = postgres.database_names()
    name = superfluous(journal, names)
    restore = f"The restore {journal.run} of {journal.container}/{journal.database}"
    if name is not None and (obstacle := _drop(postgres, name)):
        return [f"{restore} left the database {name}, which could not be dropped: {obstacle}"]
    if name is None and journal.keep_old and journal.old in names:
        # It had swapped and was killed before it could note what it keeps.
        state.keep(journal.kept)
    state.close_journal(journal)
    if name == journal.new:
        fate = "the live one is as it was" if journal.database in names else f"there is no {journal.database} now"
        return [f"{restore} was killed before its swap; its half-made database was dropped and {fate}."]
    if name == journal.old:
        return [f"{restore} had swapped but not yet dropped the old database; it is dropped now."]
    return []


def _is_of_dead_run(state: State, half_made: str) -> bool:
    run = run_of_half_made(half_made)
    return run is not None and state.runs.is_dead(run)


def _finish_undos(state: State, container: str, postgres: Postgres) -> list[str]:
    """Note the end of undos that lost their server, or their life, in the swap."""
    found = []
    for journal in state.undos(container):
        swapped = journal.has_swapped(postgres.database_names())
        state.close_undo(journal, swapped=swapped)
        if swapped:
            kept = f"; what it replaced is kept as {journal.replaced.old}" if journal.replaced else ""
            found.append(
                f"An undo of the restore {journal.kept.run} had put {container}/{journal.kept.database} back but "
                f"ended before it could say so{kept}."
            )
    return found


def _drop(postgres: Postgres, name: str) -> str | None:
    """Drop a database; what stands against it, if something does."""
    try:
        postgres.drop_database(name)
    except PostgresError as error:
        return error.message
    return None
