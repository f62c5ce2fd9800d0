"""Databases as they are in the wild: what pg_dump saves is saved, whatever else of it does not work."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker

MakeDatabase = Callable[..., DatabaseContainer]


def outcome_of(data: dict, database: DatabaseContainer, name: str = "postgres") -> dict:
    """The outcome of one database in a pass."""
    [found] = [one for one in data["databases"] if (one["container"], one["database"]) == (database.name, name)]
    return dict(found)


class TestACountThatFails:
    """The session that exports the snapshot is not the one that counts."""

    @pytest.fixture(scope="class")
    def broken_index(self, make_database: MakeDatabase) -> DatabaseContainer:
        """A table with an index that is no index any more: whatever plans a query fails, and COPY does not."""
        database = make_database("broken")
        database.sql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) AS i; CREATE INDEX t_i ON t (i)")
        path = database.sql(
            "CHECKPOINT; SELECT current_setting('data_directory') || '/' || pg_relation_filepath('t_i')"
        )
        docker("exec", database.name, "dd", "if=/dev/zero", f"of={path}", "bs=8192", "count=2", "conv=notrunc")
        docker("restart", database.name)
        database.wait()
        return database

    def test_because_of_a_broken_index_is_a_warning_and_the_dump_is_saved(
        self, agent: AgentContainer, broken_index: DatabaseContainer
    ) -> None:
        data = agent.ok("backup", "--db", broken_index.name)
        found = outcome_of(data, broken_index)
        assert found["ok"]
        assert found["rows"] is None
        assert found["count_error"]
        assert any("its rows could not be counted" in warning for warning in data["warnings"])
        archive = agent.restic("dump", found["snapshot_id"], f"/{broken_index.name}/postgres.dump")
        assert archive.count("\n") > 1000

    def test_cannot_happen_for_an_unlogged_table_of_a_standby(
        self, agent: AgentContainer, make_database: MakeDatabase
    ) -> None:
        """A cluster in recovery that waits for more log is a standby, whether or not somebody sends it any."""
        standby = make_database("standby")
        standby.sql("CREATE TABLE t AS SELECT 1 AS x; CREATE UNLOGGED TABLE u AS SELECT 2 AS x")
        docker("exec", standby.name, "sh", "-c", 'touch "$PGDATA/standby.signal"')
        docker("restart", standby.name)
        standby.wait()
        assert standby.sql("SELECT pg_is_in_recovery()") == "t"
        found = outcome_of(agent.ok("backup", "--db", standby.name), standby)
        assert (found["ok"], found["rows"], found["count_error"]) == (True, 1, None)
