# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordered dump is a genuine one but for the order of its rows, and stock pg_restore takes it in every way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scalr_backup.core import table_keys
from scalr_backup.core.row_order import OrderPlan, OrderWish
from scalr_backup.core.spoken import Shape
from scalr_backup.tools.postgres import keys

from tests.support.archive_comparison import differences, read_archive, written
from tests.support.containers import DatabaseContainer, docker
from tests.support.fidelity import (
    ODD_NAME,
    fill,
    fixture_sql,
    make_regression_database,
    rows_of,
    settings_of,
)
from tests.support.ordered_dumps import (
    Produced,
    Snapshot,
    in_bytes,
    listed,
    new_database,
    ordered_dump,
    plan_of,
    quoted,
    restore,
    restore_from_file,
    snapshot_of,
)

EVERY_TABLE = OrderWish(least_bytes=0)
# What of the fixture has to be ordered, wherever its rows lie, and what may never be.
ORDERED = {
    "App.Orders", "App.orders", "app.backwards", "app.child", "app.clustered", "app.days", "app.empty", "app.events",
    "app.generated", "app.measures_1", "app.measures_2", "app.measures_3a", "app.measures_3b", "app.numbered_lines",
    "app.orders", "app.parent", "app.readings", "app.small_ids", "app.table", "app.two_keys", "app.values_of_all_types",
    "app.visits", "app.wide", 'odd."schema*\'; Größe $x.Tab.le "q" *?[a-z]{2}(x|y)^$+\\ ; 漢',
}  # fmt: skip
NEVER = {
    "app.all_dropped", "app.by_expression", "app.by_mood_0", "app.by_mood_1", "app.deferred", "app.domain_key",
    "app.foreign_lines", "app.key_is_generated", "app.moods", "app.no_key", "app.not_unique", "app.nullable",
    "app.ordered_my_way", "app.partial", "app.random_ids", "app.random_words", "app.whatever_case", "app.without_columns",
}  # fmt: skip
# A row that is longer than this may be written in pieces, so that nobody has to hold it whole.
LONG_ROW = 1024 * 1024


# The archives of 17 and 18 are of one version, so 17 is compared each time, and restored in every way now and then.
WITH_RESTORES = pytest.mark.parametrize(
    "server", ["18", pytest.param("17", marks=pytest.mark.thorough), "15"], indirect=True, scope="module"
)


@pytest.fixture(scope="module", params=["18", "17", "15"])
def server(request: pytest.FixtureRequest, make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    """A server with the database that is hard to order."""
    version = str(request.param)
    database = make_database(f"order{version}", **settings_of(version))
    database.sql("CREATE DATABASE hard")
    database.sql(fixture_sql("row_order.sql"), "hard")
    return database


@pytest.fixture(scope="module")
def filled(server: DatabaseContainer) -> DatabaseContainer:
    """The same with the databases of the fidelity tests."""
    fill(server)
    # Without statistics, nothing says that a key grows.
    docker("exec", server.name, "vacuumdb", "-q", "-U", "postgres", "--all", "--analyze-only")
    return server


def names(plan: OrderPlan) -> set[str]:
    return {f"{table.namespace}.{table.name}" for table in plan.ordered}


def compared(snapshot: Snapshot, plan: OrderPlan) -> Produced:
    """The ordered dump of a snapshot, held against the genuine one in every respect."""
    genuine = snapshot.genuine_dump()
    produced = ordered_dump(snapshot, plan)
    assert produced.exit_code == 0, produced.report
    archive, model = read_archive(produced.archive), read_archive(genuine)
    assert (written(archive), written(model)) == (produced.archive, genuine)
    assert differences(archive, model) == []
    assert listed(snapshot.database, produced.archive) == listed(snapshot.database, genuine)
    found = [archive.table_data(table.namespace, table.name).lines for table in plan.ordered]
    assert found == snapshot.rows_in_order(plan.ordered), "rows stand exactly as the server sorts them"
    untouched = {entry.label for entry in archive.entries if entry.had_dumper} - {
        f"TABLE DATA {table.namespace} {table.name}" for table in plan.ordered
    }
    for block, genuine_block in zip(archive.blocks, model.blocks, strict=True):
        if archive.entry(block.dump_id).label in untouched:
            assert b"".join(block.pieces) == b"".join(genuine_block.pieces), archive.entry(block.dump_id).label
        for piece in block.pieces[:-1]:
            assert len(piece) >= LONG_ROW or piece.count(b"\n") == 1, archive.entry(block.dump_id).label
    return produced


def test_it_has_the_entries_and_the_rows_of_a_genuine_dump(server: DatabaseContainer) -> None:
    with snapshot_of(server, "hard") as snapshot:
        plan = plan_of(snapshot, EVERY_TABLE)
        assert names(plan) >= ORDERED
        assert not names(plan) & NEVER
        # What comes after the snapshot is in neither.
        server.sql(
            "INSERT INTO app.orders (note) VALUES ('late'); UPDATE app.visits SET path = '' WHERE id < 9", "hard"
        )
        compared(snapshot, plan)


@WITH_RESTORES
def test_pg_restore_restores_it_in_every_way(server: DatabaseContainer) -> None:
    # A restore fills it anew, whatever another test has written meanwhile.
    server.sql("REFRESH MATERIALIZED VIEW app.by_customer", "hard")
    with snapshot_of(server, "hard") as snapshot:
        produced = ordered_dump(snapshot, plan_of(snapshot, EVERY_TABLE))
        before = seen(server, "hard")
    archive = produced.archive
    head = archive[: read_archive(archive).head_bytes]
    with new_database(server, "hard") as pipe:
        restore(server, archive, pipe)
        assert seen(server, pipe) == before
    with new_database(server, "hard") as parallel:
        restore_from_file(server, archive, parallel, "--jobs=3")
        assert seen(server, parallel) == before
    with new_database(server, "hard") as apart:
        restore(server, archive, apart, "--section=pre-data", "--section=data")
        restore_from_file(server, head, apart, "--section=post-data", "--jobs=2")
        assert seen(server, apart) == before
    with new_database(server, "hard") as one:
        server.sql("CREATE SCHEMA app", one)
        restore(server, archive, one, "--schema=app", "--table=orders")
        assert rows_of(server, one) == {"app.orders": before[0]["app.orders"]}


@WITH_RESTORES
@pytest.mark.parametrize(("name", "least"), [("library", 5), (ODD_NAME, 1)])
def test_that_of_everything_that_postgresql_has_does_too(filled: DatabaseContainer, name: str, least: int) -> None:
    with snapshot_of(filled, name) as snapshot:
        plan = plan_of(snapshot, EVERY_TABLE)
        assert len(plan.ordered) >= least
        compared(snapshot, plan)


def seen(database: DatabaseContainer, name: str) -> tuple[dict[str, str], bytes]:
    """The rows of a database, and its schema as pg_dump has it."""
    schema = in_bytes(database, ["pg_dump", "-U", "postgres", "--schema-only", quoted(name)])
    lines = [line for line in schema.split(b"\n") if not line.startswith((b"\\restrict", b"\\unrestrict"))]
    rows = rows_of(database, name)
    # In another database, an enum's values have other hashes.
    by_mood = [rows.pop(f"app.by_mood_{number}").split() for number in (0, 1)]
    rows["app.by_mood"] = " ".join(str(sum(map(int, numbers))) for numbers in zip(*by_mood, strict=True))
    return rows, b"\n".join(lines)


@pytest.mark.parametrize("version", ["15", "18"])
@pytest.mark.thorough
def test_that_of_the_regression_database_too(
    version: str, make_database: Callable[..., DatabaseContainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this one, every table that has a total key is put in its order, whether or not it would pay."""
    monkeypatch.setattr(keys, "MOST_TABLES", 5000)
    monkeypatch.setattr(keys, "LARGE_TABLES", Shape[keys.LargeTable](keys.LargeTable, most_rows=5000))
    monkeypatch.setattr(table_keys, "_growth", lambda *_facts, **_more: table_keys._Growth("it is told to", None, True))
    settings: dict[str, Any] = settings_of(version)
    database = make_database(f"regression{version}", **settings)
    make_regression_database(database, version)
    database.sql("ANALYZE", "regression")
    with snapshot_of(database, "regression") as snapshot:
        plan = plan_of(snapshot, EVERY_TABLE)
        assert len(plan.ordered) > 9
        produced = compared(snapshot, plan)
        before = rows_of(database, "regression")
    with new_database(database, "regression") as restored:
        # What PostgreSQL's own tests leave behind cannot all be restored by its own pg_restore.
        in_bytes(database, ["sh", "-c", f"pg_restore -U postgres -d {restored} || test $? = 1"], produced.archive)
        after = rows_of(database, restored)
        different = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert not different & {f"{table.namespace}.{table.name}" for table in plan.ordered}
    database.remove()
