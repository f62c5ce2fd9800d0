# SPDX-License-Identifier: GPL-3.0-or-later
"""What an archive says of its database as a whole: what of it a new database is given before its rows, and what with the swap.

Conditions, generated columns and materialized views may read a setting, and so may the input of a type: ``pg_restore
--create`` sets them before any row, and so does a restore. What it decides itself waits, and so does what runs code. A server
may refuse a setting that another version, build or image took: the database is restored without it. All of it is tried before
the first row comes, and in the rehearsal before anything is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from scalr_backup.core.archive.database import DatabaseSetting, Property, statements_of
from scalr_backup.core.archive.head import ArchiveHead
from scalr_backup.core.errors import PostgresError, RestoreError
from scalr_backup.core.extensions import settings_while_filling
from scalr_backup.core.grammar import Comment, Setting
from scalr_backup.core.sqlstate import is_refusal
from scalr_backup.tools.postgres.cluster import Postgres

# What a restore decides itself: who it is, how long it may take and how much of the server, where things lie, what is logged,
# and what acts on what it makes. With the last one, rows would come back otherwise: NULL in an array as a word.
_OF_THE_RESTORE = frozenset(
    """
    role session_authorization
    statement_timeout lock_timeout transaction_timeout idle_in_transaction_session_timeout idle_session_timeout exit_on_error
    work_mem hash_mem_multiplier maintenance_work_mem temp_buffers temp_file_limit vacuum_cost_delay
    max_parallel_workers max_parallel_workers_per_gather max_parallel_maintenance_workers
    default_tablespace temp_tablespaces
    default_transaction_read_only default_transaction_isolation default_transaction_deferrable
    session_replication_role event_triggers row_security search_path client_encoding client_min_messages
    array_nulls
    """.split()  # noqa: SIM905 (thirty words)
)
_OF_THE_LOG = ("log_", "debug_", "auto_explain.", "pgaudit.")


@dataclass(frozen=True)
class ByTime:
    """What a new database gets *early*, before its rows; *late*, with the swap; and *strict*: with the swap, all or none."""

    early: tuple[Property, ...] = ()
    late: tuple[DatabaseSetting, ...] = ()
    strict: tuple[Property, ...] = ()


@dataclass(frozen=True)
class Described:
    """The statements that are *waiting* for the swap; what the server refuses is left out, with *warnings*."""

    waiting: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def sorted_by_time(head: ArchiveHead) -> ByTime:
    """What an archive says of its database; without what is strict, more might see what is in it."""
    others = settings_while_filling(head.extensions)
    early: list[Property] = []
    late: list[DatabaseSetting] = []
    strict: list[Property] = []
    for one in head.properties:
        if isinstance(one, DatabaseSetting):
            if _waits(one.setting, others):
                late.append(one)
            else:
                early.append(one)
        else:
            (early if isinstance(one, Comment) else strict).append(one)
    return ByTime(tuple(early), tuple(late), tuple(strict))


def _waits(setting: Setting, others: Collection[str]) -> bool:
    """Whether a setting comes with the swap: *others* have another value while the database is filled."""
    name = setting.name.lower()
    return setting.loads_code or name in _OF_THE_RESTORE or name in others or name.startswith(_OF_THE_LOG)


def describe(postgres: Postgres, database: str, new: str, head: ArchiveHead) -> Described:
    """Give the database *new* what its rows may depend on, and try the rest of what it gets when it is called *database*.

    Raises RestoreError where the server refuses what must not be left out, and PostgresError for what is no refusal.
    """
    found = sorted_by_time(head)
    if found == ByTime():
        return Described()
    refused: dict[Property, str] = {}
    try:
        postgres.describe(new, _of(found.early, new), _of((*found.late, *found.strict), new))
    except PostgresError as error:
        if not is_refusal(error.sqlstate):
            raise
        refused = _one_by_one(postgres, database, new, found)
    warnings = [
        f"{_name(one, database)} was left out, because the server refuses it: {words}" for one, words in refused.items()
    ]
    settings = [one for one in head.properties if isinstance(one, DatabaseSetting) and one not in refused]
    late = [one for one in found.late if one not in refused]
    return Described((*_in_order(settings, late, database), *_of(found.strict, database)), tuple(warnings))


def _in_order(settings: Sequence[DatabaseSetting], late: Sequence[DatabaseSetting], database: str) -> Iterator[str]:
    """The statements that add what is *late* to the settings of a database, in the order in which they were dumped.

    A server keeps them in the order in which they were set first: so those that are there already are set anew.
    """
    for whose in dict.fromkeys(one.whose(database) for one in late):
        own = [one for one in settings if one.whose(database) == whose]
        if len(own) > sum(one.whose(database) == whose for one in late):
            yield f"ALTER {whose} RESET ALL;"
        yield from _of(own, database)


def _one_by_one(postgres: Postgres, database: str, new: str, found: ByTime) -> dict[Property, str]:
    """What the server refuses, with its words."""
    refused = {
        one: words
        for some, stays in ((found.early, True), (found.late, False))
        for one in some
        if (words := _refusal(postgres, new, one, stays=stays))
    }
    try:
        postgres.describe(new, (), _of(found.strict, new))
    except PostgresError as error:
        if not is_refusal(error.sqlstate):
            raise
        raise RestoreError(
            f"The limits, security labels or privileges of {database} cannot be set: {error.message}"
        ) from None
    return refused


def _refusal(postgres: Postgres, new: str, one: Property, *, stays: bool) -> str | None:
    """What the server says against a property, if anything."""
    statements = _of([one], new)
    try:
        postgres.describe(new, statements if stays else (), () if stays else statements)
    except PostgresError as error:
        if not is_refusal(error.sqlstate):
            raise
        return error.message
    return None


def _of(properties: Sequence[Property], database: str) -> tuple[str, ...]:
    return tuple(statements_of(properties, database))


def _name(one: Property, database: str) -> str:
    if not isinstance(one, DatabaseSetting):
        return f"The comment of {database}"
    whose = database if one.role is None else f"the role {one.role} in {database}"
    return f"The setting {one.setting.name} of {whose}"
