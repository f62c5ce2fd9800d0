# SPDX-License-Identifier: GPL-3.0-or-later
"""The snapshot of a dump: taken anew where tables were made anew or renamed meanwhile, and not for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from scalr_backup.actions.backup.dump import Dumper
from scalr_backup.actions.backup.second_try import deserves_another
from scalr_backup.core.errors import PostgresError
from scalr_backup.core.progress import nobody
from scalr_backup.tools.postgres.queries import MOST_SNAPSHOTS, open_exported_snapshot


class Server:
    """One whose tables are made anew, or gone when their locks are asked for, so many times."""

    def __init__(self, *, made_anew: int = 0, gone: int = 0, sqlstate: str = "42P01") -> None:
        self.made_anew, self.gone, self.sqlstate = made_anew, gone, sqlstate
        self.sessions = self.snapshots = self.open = 0

    @contextmanager
    def session(self, _database: str, **_options: Any) -> Iterator[Any]:
        self.sessions += 1
        self.open += 1
        try:
            yield SimpleNamespace(query=self.query, seconds=0.0)
        finally:
            self.open -= 1

    def query(self, sql: str) -> list[Any]:
        if "pg_export_snapshot" in sql:
            self.snapshots += 1
            return [f"0000000{self.snapshots}-1"]
        if "pg_relation_filenode" in sql:
            self.made_anew -= 1
            return ["public.t"] if self.made_anew >= 0 else []
        if "LOCK TABLE" in sql:
            self.gone -= 1
            if self.gone >= 0:
                raise PostgresError('shop: relation "public.green" does not exist', self.sqlstate)
        return [DESCRIPTION] if "'database'" in sql else []


DESCRIPTION = {
    "database": "shop", "oid": 1, "owner": "o", "encoding": "UTF8", "collate": "C", "ctype": "C", "size_bytes": 1,
    "largest_indexes": [], "server_version": "17.6", "server_version_num": 170006, "extensions": [],
    "public_schema": True, "settings": [],
}  # fmt: skip


def exported_of(server: Server) -> str:
    """The snapshot that a dump gets, in a session that is open as long as it lasts."""
    dumper = Dumper(SimpleNamespace(lock_wait_seconds=1), None, None, nobody, "r")  # type: ignore[arg-type]
    with dumper._exporting(server, "shop", raw=False) as (_session, exported, _description):  # type: ignore[arg-type]
        assert server.open == 1
    assert server.open == 0
    return exported


def test_tables_that_were_made_anew_take_another_snapshot_in_the_same_session() -> None:
    server = Server(made_anew=2)

    assert exported_of(server) == "00000003-1"
    assert server.sessions == 1


def test_tables_that_are_made_anew_again_and_again_are_named_and_the_dump_is_tried_later() -> None:
    server = Server(made_anew=100)

    with pytest.raises(PostgresError, match=r"again and again.*: public\.t$") as failed:
        open_exported_snapshot(SimpleNamespace(query=server.query))  # type: ignore[arg-type]
    assert server.snapshots == MOST_SNAPSHOTS == 5
    assert deserves_another(failed.value, had_company=False)


@pytest.mark.parametrize("sqlstate", ["42P01", "3F000"])
def test_a_table_that_was_renamed_takes_another_session(sqlstate: str) -> None:
    server = Server(gone=MOST_SNAPSHOTS - 1, sqlstate=sqlstate)

    assert exported_of(server) == f"0000000{MOST_SNAPSHOTS}-1"
    assert server.sessions == MOST_SNAPSHOTS


def test_tables_that_are_renamed_again_and_again_end_the_dump_in_the_servers_words() -> None:
    server = Server(gone=100)

    with pytest.raises(PostgresError, match="green"):
        exported_of(server)
    assert server.sessions == MOST_SNAPSHOTS


def test_any_other_failure_is_not_tried_again() -> None:
    server = Server(gone=100, sqlstate="42501")

    with pytest.raises(PostgresError):
        exported_of(server)
    assert server.sessions == 1
    with (
        pytest.raises(ZeroDivisionError),
        Dumper(
            SimpleNamespace(lock_wait_seconds=1),
            None,
            None,
            nobody,
            "r",  # type: ignore[arg-type]
        )._exporting(Server(), "shop", raw=False),
    ):  # type: ignore[arg-type]
        raise ZeroDivisionError
