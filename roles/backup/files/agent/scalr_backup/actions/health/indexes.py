# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that a pass has found damaged: the backup is whole, and the app's own queries are wrong."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from scalr_backup.actions.health.finding import WARNING, Finding
from scalr_backup.actions.health.finding import verb as _verb
from scalr_backup.core.answers import JudgedDatabase
from scalr_backup.core.naming import EngineNames
from scalr_backup.core.sql import connection_string


def of_damaged_indexes(databases: Sequence[JudgedDatabase], called: EngineNames) -> Iterator[Finding]:
    """A warning for each, with the command that makes the index anew.

    *called* is what the engine calls containers whose backups are kept under another name.
    """
    for database in databases:
        if damage := database.get("damaged_index"):
            container, name = database["container"], database["database"]
            message = (
                f"The index {damage['index']} of {container}/{name} is damaged: it returns a different number of rows than "
                f"{damage['table']} has, so the app does not see all of them. The backup is complete, as it was made without the "
                "index. Check the disk, check other indexes with pg_amcheck, and rebuild this one."
            )
            yield Finding(
                "index_damaged", WARNING, "index", message, _reindex(called[container], name, damage["index"]), container, name,
                since=damage["time"], last_good=database["last_success"], last_good_age_seconds=database["age_seconds"],
            )  # fmt: skip


def _reindex(container: str, database: str, index: str) -> str:
    """What rebuilds an index, in the container of its server; names that a line cannot show are looked up instead."""
    if not f"{database}{index}".isprintable():
        return _verb(f"discover --row-order --db {shlex.quote(container)}")
    sql = shlex.quote(f"REINDEX INDEX CONCURRENTLY {index}")
    # Whoever may create databases could otherwise name one so that psql connects elsewhere.
    named = connection_string(database) if "=" in database or "://" in database else database
    psql = f'psql -U "${{POSTGRES_USER:-postgres}}" -d {shlex.quote(named)} -c {sql}'
    return f"docker exec {shlex.quote(container)} sh -c {shlex.quote(psql)}"
