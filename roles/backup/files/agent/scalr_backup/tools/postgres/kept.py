# SPDX-License-Identifier: GPL-3.0-or-later
"""A session that answers several looks: each session costs a process in the container and one in the server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol


class Answering(Protocol):
    """What is asked."""

    def query(self, sql: str) -> list[Any]:
        """The rows."""


class KeptSession:
    """The session of the last look, as long as the next one is at the same database.

    One that has failed is over: whoever opened it hears of that as if the look had been its only one, and the next look
    opens another.
    """

    def __init__(self, begin: Callable[[str], AbstractContextManager[Answering]]) -> None:
        """*begin* opens a session on a database."""
        self._begin = begin
        self._open = ExitStack()
        self._database = ""
        self._session: Answering | None = None

    def query(self, database: str, sql: str) -> list[Any]:
        """Look at something; raises what the session does."""
        if self._session is None or self._database != database:
            self.close()
            self._session, self._database = self._open.enter_context(self._begin(database)), database
        try:
            return self._session.query(sql)
        except BaseException:
            failed, self._open, self._session = self._open, ExitStack(), None
            with failed:
                raise

    def close(self) -> None:
        """End the session, if one is open."""
        self._session = None
        self._open.close()
