# SPDX-License-Identifier: GPL-3.0-or-later
"""How a cluster is reached where its image's own variables do not say so: by labels of its container, or by the configuration.

A label counts before the configuration, and that before the container's variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from scalr_backup.core.errors import CredentialsError
from scalr_backup.core.values import Number

LABEL_PREFIX = "scalr.backup."


class Connection(BaseModel):
    """What may be said of the way to a cluster; an unknown key is refused. Nothing of it is a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = ""
    host: str = ""
    # The directory of the server's socket.
    socket: str = ""
    port: Annotated[Number, Field(ge=0, le=65535)] = 0
    # The database to stand in where everybody else stands in postgres.
    database: str = ""
    # A file in the container.
    password_file: str = ""
    # The names of the container's variables that hold these.
    user_variable: str = ""
    password_variable: str = ""
    database_variable: str = ""
    # The container's own account to be, for a server that asks the system who somebody is (peer).
    system_user: str = ""

    @field_validator("socket")
    @classmethod
    def _directory_is_absolute(cls, directory: str) -> str:
        if directory and not directory.startswith("/"):
            raise ValueError(f"{directory!r} is not an absolute path")
        return directory

    def under(self, labels: Mapping[str, str], container: str) -> Connection:
        """The same, but what the labels of a container say of it counts first.

        Raises CredentialsError with the label that makes no sense.
        """
        said = {
            name: labels[f"{LABEL_PREFIX}{name}"]
            for name in Connection.model_fields
            if labels.get(f"{LABEL_PREFIX}{name}")
        }
        try:
            return Connection.model_validate({**self.model_dump(), **said})
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False)[0]
            name = ".".join(str(part) for part in problem["loc"])
            reason = problem["msg"].removeprefix("Value error, ")
            raise CredentialsError(f"{container}: the label {LABEL_PREFIX}{name} is invalid: {reason}.") from None

    @property
    def place(self) -> str | None:
        """What libpq calls the host: a name, an address, or the directory of a socket; None where nothing is said."""
        return self.socket or self.host or None
