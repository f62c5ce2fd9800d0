# SPDX-License-Identifier: GPL-3.0-or-later
"""What puts an ordered dump together takes as much memory for a large table as for a small one, and for a long row as for a short one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from scalr_backup.core.row_order import OrderWish, Scan

from tests.support.archive_comparison import read_archive
from tests.support.containers import DatabaseContainer
from tests.support.ordered_dumps import Produced, ordered_dump, plan_of, snapshot_of

MIB = 1024 * 1024
EVERY_TABLE = OrderWish(least_bytes=0)
# How much more a table of any size may take than one of a few rows: what is on its way, and no row or block of it.
MOST_MORE_BYTES = 12 * MIB
ROWS = """
CREATE TABLE small (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, x text);
INSERT INTO small (x) SELECT repeat('s', 500) FROM generate_series(1, 2000);
CREATE TABLE large (LIKE small INCLUDING ALL);
ALTER TABLE large ALTER x SET STORAGE PLAIN;
ANALYZE;
"""


@pytest.fixture(scope="module")
def server(make_database: Callable[..., DatabaseContainer]) -> Iterator[DatabaseContainer]:
    database = make_database("memory", image="postgres:18", command=["-c", "fsync=off", "-c", "max_wal_size=4GB"])
    database.sql(ROWS)
    yield database
    database.remove()


def dumped(server: DatabaseContainer, table: str, scan: Scan, *, keep: bool = False) -> Produced:
    """The dump of a database, of which one table is in order."""
    with snapshot_of(server) as snapshot:
        plan = plan_of(snapshot, EVERY_TABLE)
        [one] = [one for one in plan.ordered if one.name == table]
        produced = ordered_dump(
            snapshot, replace(plan, ordered=(replace(one, scan=scan, sort_bytes=2 * one.bytes),)), keep=keep
        )
    assert produced.exit_code == 0, produced.report
    assert set(produced.ordered) == {table}
    return produced


@pytest.mark.parametrize("megabytes", [150, pytest.param(1000, marks=pytest.mark.thorough)])
def test_a_large_table_takes_no_more_than_a_small_one(server: DatabaseContainer, megabytes: int) -> None:
    server.sql("TRUNCATE large RESTART IDENTITY")
    small = dumped(server, "small", Scan.SORT)
    server.sql(
        f"INSERT INTO large (x) SELECT repeat('x', 1000) FROM generate_series(1, {megabytes * 1000}); "
        "UPDATE large SET x = x || 'y' WHERE id % 100 = 0; VACUUM ANALYZE large"
    )
    # Either it is in order, or as it lies.
    for table, scan in (("large", Scan.SORT), ("large", Scan.INDEX), ("small", Scan.SORT)):
        large = dumped(server, table, scan)
        assert large.bytes > megabytes * 1_000_000
        assert large.peak_bytes < small.peak_bytes + MOST_MORE_BYTES, (table, scan)


def test_a_row_of_a_hundred_megabytes_goes_through_in_pieces(server: DatabaseContainer) -> None:
    server.sql("TRUNCATE large RESTART IDENTITY")
    small = dumped(server, "small", Scan.SORT)
    server.sql("INSERT INTO large (x) VALUES ('a'), (NULL), ('c'); ALTER TABLE large ALTER x SET STORAGE EXTERNAL")
    server.sql("INSERT INTO large (x) SELECT repeat('0123456789' || chr(10), 10000000); ANALYZE large")
    for table in ("large", "small"):
        long = dumped(server, table, Scan.SORT, keep=True)
        assert long.peak_bytes < small.peak_bytes + MOST_MORE_BYTES, table
        # Whichever end comes first.
        lines = sorted(read_archive(long.archive).table_data("public", "large").lines, key=lambda line: int(line[:1]))
        assert [len(line) for line in lines[:3]] == [3, 4, 3]
        assert lines[3].partition(b"\t")[2] == b"0123456789\\n" * 10_000_000
