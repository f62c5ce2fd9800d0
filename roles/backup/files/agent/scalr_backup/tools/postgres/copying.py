# SPDX-License-Identifier: GPL-3.0-or-later
"""A session that reads whole tables as they stream by: rows of ``COPY ... TO STDOUT``, through the psql of the container.

psql writes the rows as the server sends them (PostgreSQL documentation, "COPY", text format): each ends with a line feed, and
none begins with a backslash and a full stop. So a line that does, with a number of our own behind it, tells where they end;
with ``ON_ERROR_STOP``, a psql whose statement has failed ends without it.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from scalr_backup.core.errors import PostgresError
from scalr_backup.core.spoken import MOST_BYTES, no_sense
from scalr_backup.tools.docker.bounds import Bounds
from scalr_backup.tools.docker.exec_stream import STDOUT
from scalr_backup.tools.postgres.session import PostgresServer, SqlSession
from scalr_backup.tools.postgres.statements import as_values

# What no row begins with.
_NO_ROW = b"\\."


class CopyingSession(SqlSession):
    """A psql that stays open, and prints rows as they are."""

    def lines(self, statement: str) -> list[bytes]:
        """What a statement returns, line by line, as psql prints it.

        Raises what ``query`` does.
        """
        return self._answer(as_values([statement]))

    def copy(self, statement: str) -> Iterator[bytes]:
        """The rows of a COPY, in pieces of any size, as fast as they are taken; how much they are is for the caller to bound.

        Raises PostgresError in the server's words, SilentCommandError and other ScalrBackupErrors. The session is over then.
        """
        token = f"\\.{secrets.token_hex(16)}"
        subject = f"psql in {self._subject}"
        # Rows may come for days; silence has its limit all the same, and so has what psql complains of.
        self._bounds = Bounds(subject, math.inf, MOST_BYTES)
        self._asked = (statement,)
        self._write(as_values([statement]) + f"\\echo '\\{token}'\n")
        return until_mark(self._pieces(), f"{token}\n".encode(), subject)

    def _pieces(self) -> Iterator[bytes]:
        """What psql prints from now on. Raises PostgresError when it ends."""
        for kind, data in self._frames:
            if kind == STDOUT:
                self._bounds.check(self._limit)
                yield data
            else:
                self._bounds.take(kind, len(data), self._limit)
                self._messages.add(data)
        raise self._failure()

    def finish(self) -> None:
        """End the transaction and the session; psql must end well and say nothing more.

        Raises PostgresError or InvalidAnswerError where it does not.
        """
        self._answer("COMMIT;", last=True)
        for kind, data in self._frames:
            self._bounds.take(kind, len(data), self._limit)
            if kind == STDOUT:
                raise no_sense(f"psql in {self._subject}", "it continues after its end")
            self._messages.add(data)
        if self._stream.wait() != 0:
            raise PostgresError(f"{self._subject}: {self._stream.how_it_ended(self._messages.text)}")

    def abandon(self, server: PostgresServer) -> None:
        """End it, in its container too, whatever it is doing; never raises."""
        server.end_client(self._stream)


def until_mark(pieces: Iterable[bytes], mark: bytes, subject: str) -> Iterator[bytes]:
    """The rows that come before a line that is *mark*, whose line feed is in it: nothing comes after it until more is asked for.

    Raises InvalidAnswerError where another line begins as no row does.
    """
    held, at_line = b"", True
    for piece in pieces:
        data = held + piece if held else piece
        if data.endswith(mark) and (data[-len(mark) - 1 : -len(mark)] == b"\n" or (at_line and len(data) == len(mark))):
            rows = data[: -len(mark)]
            _require_rows(rows, at_line, subject)
            if rows:
                yield rows
            return
        # The mark may come in pieces: what may be the beginning of it waits for the rest.
        begins = data.rfind(b"\n", max(0, len(data) - len(mark))) + 1
        cut = begins if (begins or at_line) and mark.startswith(data[begins:]) else len(data)
        rows, held = data[:cut], data[cut:]
        _require_rows(rows, at_line, subject)
        if rows:
            at_line = rows.endswith(b"\n")
            yield rows
    raise no_sense(subject, "it ends too early")


def _require_rows(data: bytes, at_line: bool, subject: str) -> None:
    if b"\n" + _NO_ROW in data or (at_line and data.startswith(_NO_ROW)):
        raise no_sense(subject, "one of its lines is not a row")


@contextmanager
def copying_session(server: PostgresServer, database: str, silence_seconds: float) -> Iterator[CopyingSession]:
    """Open a session that reads whole tables, and end it in its container if anything fails.

    Raises what ``session`` does.
    """
    with server.session(
        database, silence_seconds=silence_seconds, watched=False, tidied=False, kind=CopyingSession
    ) as session:
        assert isinstance(session, CopyingSession)
        try:
            yield session
        except BaseException:
            with suppress(OSError):
                session.abandon(server)
            raise
