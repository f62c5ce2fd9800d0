# SPDX-License-Identifier: GPL-3.0-or-later
"""What in an archive and its roles grants privileges or runs someone's code: reported before it is restored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from scalr_backup.actions.restore.request import DatabasePlan
from scalr_backup.core.archive.authors import authors
from scalr_backup.core.archive.head import ArchiveHead
from scalr_backup.core.roles import Globals, MissingRoles
from scalr_backup.tools.postgres.cluster import RolesOnTarget

# So many of what an archive says in vain are named.
_MOST_NAMED = 10
# Whose members act as the account that the server runs as (PostgreSQL documentation, "Predefined Roles").
_AS_THE_SERVER = frozenset({"pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"})


def code_of(heads: Iterable[ArchiveHead], target: RolesOnTarget, missing: MissingRoles) -> tuple[str, ...]:
    """The owners whose code a restore of these archives may run with rights that they do not have."""
    trusted = {*target.superusers, target.user, *(role.name for role in missing.roles if role.superuser)}
    return tuple(sorted({name for head in heads for name in authors(head)} - trusted))


def code_warnings(owners: Sequence[str], target: RolesOnTarget) -> Iterator[str]:
    """Who could become a superuser by what the restore evaluates while it loads rows."""
    if owners:
        rights = f"as {target.user}{', a superuser' if target.user in target.superusers else ''}"
        yield (
            f"This restore runs code of these owners {rights}: {', '.join(owners)}. Their conditions or generated columns call "
            "functions while rows are loaded. If you do not trust them, restore into a container of its own first (target=)."
        )


def trust_warnings(
    databases: Sequence[DatabasePlan], heads: Sequence[ArchiveHead], missing: MissingRoles, *, throwaway: bool
) -> list[str]:
    """What the archives say of their databases that is left out, or that names code; a *throwaway* server runs it for nobody."""
    return [
        *unknown_property_warnings(databases, heads),
        *([] if throwaway else setting_warnings(databases, heads, missing)),
    ]


def setting_warnings(
    databases: Sequence[DatabasePlan], heads: Sequence[ArchiveHead], missing: MissingRoles
) -> Iterator[str]:
    """Settings that name code which sessions load or run."""
    for plan, head in zip(databases, heads, strict=True):
        if names := sorted({one.setting.name for one in head.settings if one.setting.loads_code}):
            yield f"{plan.database} comes back with settings that name code for its sessions to load or run: {', '.join(names)}."
    for role in missing.roles:
        if names := sorted({one.name for one in role.settings if one.loads_code}):
            yield f"The role {role.name} comes back with settings that name code for its sessions to load or run: {', '.join(names)}."


def unknown_property_warnings(databases: Sequence[DatabasePlan], heads: Sequence[ArchiveHead]) -> Iterator[str]:
    """What an archive says of its database and no restore repeats."""
    for plan, head in zip(databases, heads, strict=True):
        if unknown := head.unknown_properties:
            more = f", and {len(unknown) - _MOST_NAMED:,} more" if len(unknown) > _MOST_NAMED else ""
            yield (
                f"The archive of {plan.database} has settings of the database that pg_dump is not known to write, and that are "
                f"left out: {'; '.join(unknown[:_MOST_NAMED])}{more}."
            )


def superuser_warnings(missing: MissingRoles, target: RolesOnTarget) -> Iterator[str]:
    """Roles that may do anything, or act as the account that the server runs as, by themselves or as a member of another."""
    superusers = [role.name for role in missing.roles if role.superuser]
    if superusers:
        yield f"The roles to be created include superusers: {', '.join(superusers)}."
    powers = {*superusers, *target.superusers, *_AS_THE_SERVER}
    if gains := sorted({f"{one.member} of {one.role}" for one in missing.memberships if one.role in powers}):
        yield f"Roles become members of all-powerful roles: {', '.join(gains)}."


def unknown_statement_warnings(source: Globals) -> Iterator[str]:
    """What a manifest says among its roles and no restore repeats."""
    if unknown := sorted(set(source.not_understood)):
        yield (
            f"The manifest's roles have statements that pg_dumpall is not known to write; they are not run: "
            f"{', '.join(unknown)}."
        )
