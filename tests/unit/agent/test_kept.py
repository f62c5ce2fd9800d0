# SPDX-License-Identifier: GPL-3.0-or-later
"""A session that answers several looks."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from scalr_backup.core.errors import InvalidAnswerError, PostgresError
from scalr_backup.tools.postgres.kept import KeptSession


class Server:
    """Notes what begins and how it ends; a query that is an error is raised."""

    def __init__(self):
        self.happened = []

    @contextmanager
    def begin(self, database):
        self.happened.append(f"begin {database}")
        try:
            yield self
        except PostgresError as error:
            self.happened.append(f"failed {database}")
            raise InvalidAnswerError("translated") from error
        else:
            self.happened.append(f"end {database}")

    def query(self, what):
        if isinstance(what, BaseException):
            raise what
        return [what]


@pytest.fixture
def server():
    return Server()


def test_looks_at_one_database_share_a_session_and_another_database_has_another(server):
    kept = KeptSession(server.begin)
    assert [kept.query(database, number) for number, database in enumerate(("a", "a", "b"))] == [[0], [1], [2]]
    assert server.happened == ["begin a", "end a", "begin b"]
    kept.close()
    kept.close()
    assert server.happened[3:] == ["end b"]


def test_one_that_fails_ends_as_if_it_had_been_alone_and_the_next_look_has_another(server):
    kept = KeptSession(server.begin)
    kept.query("a", 1)
    with pytest.raises(InvalidAnswerError, match="translated"):
        kept.query("a", PostgresError("no"))
    assert kept.query("a", 2) == [2]
    kept.close()
    assert server.happened == ["begin a", "failed a", "begin a", "end a"]
