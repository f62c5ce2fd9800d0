# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs that were killed left in a container, found and removed by the next run that holds its lock.

The lock keeps two dumps and restores of a container apart, and no more: a pass looks at it before and after, and another
agent may know it too. So only what belongs to a run that is dead is a leftover.
"""

from __future__ import annotations

from collections.abc import Collection

from scalr_backup.actions.discovery import Discovery
from scalr_backup.core.errors import PostgresError
from scalr_backup.core.model import Cluster
from scalr_backup.tools.postgres.cluster import Postgres, run_of_half_made
from scalr_backup.tools.postgres.session import APPLICATION_PREFIX
from scalr_backup.tools.state import RestoreJournal, State


def clean_up(state: State, discovery: Discovery, cluster: Cluster) -> list[str]:
    """Remove what is left; returns a sentence for each thing found. The caller holds the container's lock.

    Sessions and client processes of dead runs go first: they hold transactions open. Then half-made databases,
    and old ones whose restore was killed between its swap and their drop. What cannot be dropped is a sentence
    too and stands in nobody's way.

    Raises a ScalrBackupError when the server does not answer.
    """
    postgres = discovery.postgres(cluster.container, cluster.credentials, f"{APPLICATION_PREFIX} leftovers")
    name = cluster.container.name
    found = []
    dead = sorted(run for run in postgres.runs_at_work() if state.runs.is_dead(run))
    if ended := sum(postgres.end_leftovers(f"{APPLICATION_PREFIX} {run}") for run in dead):
        found.append(f"{ended} sessions or processes of a killed run were ended in {name}.")
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

    A new database in that moment lets nobody in (see ``window_script``): any other of that name is somebody's own.
    """
    names = postgres.database_names()
    is_aside = journal.aside is not None and journal.aside in names
    if not is_aside and (journal.new in names or journal.database not in names):
        return None
    if journal.database not in names:
        postgres.rename_database(str(journal.aside), journal.database)
        return None
    if journal.new in names or not postgres.lets_nobody_in(journal.database):
        return (
            f"somebody has made another {journal.database} meanwhile, so rename {journal.aside} yourself"
            if is_aside
            else None
        )
    if is_aside:
        postgres.swap(journal.database, str(journal.aside), journal.new, ())
    else:
        postgres.rename_database(journal.database, journal.new)
    return None


def _finish(state: State, journal: RestoreJournal, postgres: Postgres) -> list[str]:
    if journal.aside is None:
        return _finish_named(state, journal, postgres)
    where = f"The restore {journal.run} of {journal.container}/{journal.database} was killed while names were changed"
    try:
        obstacle = put_back(postgres, journal)
    except PostgresError as error:
        obstacle = error.message
    if obstacle is not None:
        return [f"{where}, and they could not be changed back: {obstacle}"]
    return [f"{where}; they are as they were.", *_finish_named(state, journal, postgres)]


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
