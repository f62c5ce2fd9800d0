# SPDX-License-Identifier: GPL-3.0-or-later
"""What a half-made database is given for the sake of its extensions, before the archive and after it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from scalr_backup.core.archive.head import ArchiveHead, TocEntry
from scalr_backup.core.archive.trouble import Trouble
from scalr_backup.core.errors import MissingExtensionError, PostgresError, RestoreError
from scalr_backup.core.extensions import calls_after, homes, is_known, settings_while_filling
from scalr_backup.core.grammar import Words, read_extension
from scalr_backup.core.sql import split_statements
from scalr_backup.tools.postgres.cluster import Postgres

# PostgreSQL documentation, "Error Codes": no right to it, no such file, no other extension that it requires.
_NOT_OF_THE_NAME = {"42501", "58P01", "42704"}

# Runs statements in the half-made database while that is called by its final name.
InWindow = Callable[[Sequence[str]], None]


@contextmanager
def cared_for(
    postgres: Postgres, new: str, head: ArchiveHead, in_window: InWindow, named: Collection[str] = ()
) -> Iterator[None]:
    """Keep a new database as its extensions want it while it is filled, and let them know once it is full.

    *named* are extensions that have turned out to look at the database's name. Raises RestoreError.
    """
    if created := creations_at_home(head, named):
        in_window(created)
    settings = settings_while_filling(head.extensions)
    with _setting_up():
        made = postgres.set_until_full(new, settings) if settings else ()
    yield
    with _setting_up():
        for extension, function in calls_after(head.extensions):
            postgres.call_of_extension(new, extension, function)
        if made:
            postgres.reset(new, made)


@contextmanager
def _setting_up() -> Iterator[None]:
    try:
        yield
    except PostgresError as error:
        raise RestoreError(f"What its extensions need could not be set up: {error.message}") from None


def creations_at_home(head: ArchiveHead, named: Collection[str] = ()) -> list[str]:
    """Statements that create those extensions that look at the database's name.

    The archive's own come later, and pass over what is there.
    """
    tied = {*homes(head.extensions), *named}
    return [
        creation
        for entry in head.entries
        if entry.desc == "EXTENSION" and entry.tag in tied and (creation := _creation(entry))
    ]


def _creation(entry: TocEntry) -> str | None:
    """The statement that creates an extension as the archive does, written anew; None where it is none that pg_dump writes."""
    try:
        [statement] = split_statements(entry.defn or "", asides=False)
        return read_extension(Words(statement))
    except ValueError:
        return None


def looks_at_the_name(found: Sequence[Trouble], database: str, postgres: Postgres, new: str) -> str | None:
    """The extension that could not be created in a database that is called otherwise, by an error that names *database*.

    Not every such extension is known here. The moment under the final name costs the app its sessions: so an extension that
    is called as the database says nothing by that name, and one that is refused for want of rights would be refused there, too.
    """
    if not found or found[0].entry.desc != "EXTENSION" or found[0].entry.tag == database:
        return None
    trouble = found[0]
    if not re.search(rf"\b{re.escape(database)}\b", trouble.words):
        return None
    return trouble.entry.tag if _is_refused_by_itself(trouble, postgres, new) else None


def _is_refused_by_itself(trouble: Trouble, postgres: Postgres, new: str) -> bool:
    """Whether an extension still cannot be created, and not for want of rights; pg_restore tells no code of an error."""
    statement = _creation(trouble.entry)
    if statement is None:
        return False
    try:
        postgres.alter(new, ["BEGIN", statement, "ROLLBACK"])
    except PostgresError as error:
        return error.sqlstate is not None and error.sqlstate not in _NOT_OF_THE_NAME
    return False


def require_home(known: Mapping[str, str], container: str, database: str, extensions: Collection[str]) -> None:
    """Refuse a database whose extensions can be created only in another one; *known* are the server's settings.

    Raises MissingExtensionError.
    """
    for extension, setting in homes(extensions).items():
        home = known.get(setting)
        if home is not None and home != database:
            raise MissingExtensionError(
                f"{extension} can be created only in the database {home} of {container} ({setting}), and this one would be "
                f"called {database}. Set {setting} to {database} and restart the server, or restore under that name."
            )


def window_warnings(databases: Mapping[str, Collection[str]]) -> list[str]:
    """The live databases, with their extensions, whose sessions end twice."""
    return [
        f"{', '.join(tied)} can be created only in a database named {name}: the live one is renamed for a moment at the "
        "beginning, so its sessions end then as well as at the swap."
        for name, extensions in databases.items()
        if (tied := sorted(homes(extensions)))
    ] + [
        f"It is unknown whether {', '.join(unknown)} can be created in a database not named {name}. If not, the live one is "
        "renamed for a moment, so its sessions end then as well as at the swap."
        for name, extensions in databases.items()
        if not homes(extensions) and (unknown := sorted(one for one in extensions if not is_known(one)))
    ]
