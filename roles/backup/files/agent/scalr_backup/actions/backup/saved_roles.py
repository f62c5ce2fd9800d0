# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles of a cluster, as a pass saves them in its manifest; a manifest without them is a failure.

A dump of a database names roles but does not contain them. Without those of the manifest, a restore into a new container
creates roles that have neither passwords nor memberships.
"""

from __future__ import annotations

from dataclasses import dataclass

from scalr_backup.core.errors import InterruptedRunError, PostgresError, RolesNotSavedError
from scalr_backup.core.model import Failure
from scalr_backup.core.roles import parse_globals
from scalr_backup.tools.postgres.cluster import Postgres


@dataclass(frozen=True)
class SavedRoles:
    """What pg_dumpall wrote, or why there is nothing to save; *warning* says what is not in it."""

    script: str | None
    failure: Failure | None = None
    warning: str | None = None


def read_roles(postgres: Postgres) -> SavedRoles:
    """Read the roles, and make sure that a restore will be able to.

    Raises InterruptedRunError.
    """
    try:
        saved = _read(postgres)
        if not parse_globals(saved.script or "").roles:
            raise RolesNotSavedError("pg_dumpall wrote none.")
    except InterruptedRunError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever it is, the manifest is saved without them)
        reason = Failure.of(error).message
        message = f"The databases of {postgres.container} were saved, but its roles were not: {reason}"
        return SavedRoles(None, Failure(RolesNotSavedError.code, message))
    return saved


def _read(postgres: Postgres) -> SavedRoles:
    """With passwords where the agent's user may read them.

    Raises PostgresError.
    """
    try:
        return SavedRoles(postgres.globals_sql())
    except PostgresError:
        if postgres.may_read_passwords():
            raise
    warning = (
        f"The roles of {postgres.container} were saved without their passwords, because its user is not a superuser."
    )
    return SavedRoles(postgres.globals_sql(passwords=False), warning=warning)
