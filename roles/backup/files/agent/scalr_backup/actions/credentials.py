# SPDX-License-Identifier: GPL-3.0-or-later
"""How to log in to a cluster, by what its container and the configuration say; pure decisions, but for reading files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from scalr_backup.core.connection import Connection
from scalr_backup.core.errors import CredentialsError
from scalr_backup.core.model import Credentials

# (user, password, database), each with the names that images know it by, the first found counts:
# the official image's (docs of docker.io/postgres), then Bitnami's (docs of bitnami/postgresql), then libpq's own.
_USER_NAMES = ("POSTGRES_USER", "POSTGRESQL_USERNAME", "POSTGRESQL_USER")
_PASSWORD_NAMES = ("POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD", "PGPASSWORD")
_DATABASE_NAMES = ("POSTGRES_DB", "POSTGRESQL_DATABASE")
# Bitnami's images make POSTGRESQL_USERNAME an ordinary user when this one is set for the superuser.
_SUPERUSER_PASSWORD_NAMES = ("POSTGRESQL_POSTGRES_PASSWORD", "POSTGRES_POSTGRES_PASSWORD")

_DEFAULT_USER = "postgres"


def resolve_credentials(
    environment: Mapping[str, str], read_file: Callable[[str], str], way: Connection | None = None
) -> Credentials:
    """Credentials as the images' documentation defines them, each by variable or by ``…_FILE``; what *way* says counts first.

    A password that cannot be read is a problem only where the server asks for one.

    Raises CredentialsError when another file that a variable names cannot be read, or a variable is missing.
    """
    return _Resolution(environment, read_file, way or Connection()).credentials()


def ways_in(told: Credentials, other_user: str | None, *, own_network: bool) -> list[Credentials]:
    """The ways to log in, the one that is told first; *other_user* is libpq's own in that container.

    The server may let nobody in over its socket, or only whoever the system says it is. Over TCP, the loopback interface has
    to be the container's own: else it could be somebody else's server.
    """
    who = [told]
    if other_user and told.user == _DEFAULT_USER:
        who.append(replace(told, user=other_user))
    if told.host is not None or told.system_user is not None:
        return who
    over_tcp = [replace(one, host="localhost") for one in who] if own_network else []
    return [*who, *over_tcp, replace(told, system_user=told.user)]


class _Resolution:
    """Finds credentials in the variables of a container."""

    def __init__(self, environment: Mapping[str, str], read_file: Callable[[str], str], way: Connection) -> None:
        self._environment = environment
        self._read_file = read_file
        self._way = way
        self._problem: str | None = None

    def credentials(self) -> Credentials:
        way = self._way
        user = way.user or self._look_up((*self._named(way.user_variable), *_USER_NAMES)) or _DEFAULT_USER
        home = way.database or self._look_up(self._named(way.database_variable))
        password = None
        if not (way.user or way.user_variable or way.password_file or way.password_variable):
            password = self._secret(_SUPERUSER_PASSWORD_NAMES)
            user = user if password is None else _DEFAULT_USER
        if password is None:
            password = self._secret((*self._named(way.password_variable), *_PASSWORD_NAMES))
        return Credentials(
            user,
            password,
            home or self._look_up(_DATABASE_NAMES) or user,
            host=way.place,
            port=way.port or None,
            home=home or None,
            system_user=way.system_user or None,
            problem=self._problem if password is None else None,
        )

    def _named(self, variable: str) -> tuple[str, ...]:
        if variable and not (self._environment.get(variable) or self._environment.get(f"{variable}_FILE")):
            raise CredentialsError(f"The container has no variable {variable}, which is to hold its credentials.")
        return (variable,) if variable else ()

    def _look_up(self, names: Sequence[str]) -> str | None:
        for name in names:
            if self._environment.get(name):
                return self._environment[name]
            if self._environment.get(f"{name}_FILE"):
                return self._read_file(self._environment[f"{name}_FILE"])
        return None

    def _secret(self, names: Sequence[str]) -> str | None:
        try:
            return self._read_file(self._way.password_file) if self._way.password_file else self._look_up(names)
        except CredentialsError as error:
            self._problem = error.message
            return None
