# SPDX-License-Identifier: GPL-3.0-or-later
"""The session that reads tables in order, and the pg_dump that leaves their rows out, against a real server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from scalr_backup.core.errors import InvalidAnswerError, PostgresError
from scalr_backup.core.row_order import OrderedTable, OrderWish, Scan
from scalr_backup.core.sql import quote_identifier
from scalr_backup.tools.postgres.copying import CopyingSession, copying_session
from scalr_backup.tools.postgres.left_out import left_out_rows, survey
from scalr_backup.tools.postgres.ordered_rows import OrderedRows, ReadyTable, count_by_heap, prepare_count
from scalr_backup.tools.postgres.queries import count_rows, join_exported_snapshot

from tests.support.archive_comparison import differences, read_archive
from tests.support.containers import DatabaseContainer
from tests.support.ordered_dumps import ordered_dump, plan_of, postgres_of, snapshot_of

EVERY_TABLE = OrderWish(least_bytes=0)
TABLE = """
CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "select" text);
INSERT INTO t ("select") SELECT 'row ' || n FROM generate_series(1, 300) AS n;
UPDATE t SET "select" = "select" || '!' WHERE id % 7 = 0;
"""


@pytest.fixture(scope="module")
def server(make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    database = make_database("rows")
    database.sql(TABLE)
    return database


@contextmanager
def reading(server: DatabaseContainer) -> Iterator[tuple[CopyingSession, OrderedRows, OrderedTable]]:
    """A session beside an exporting one, and the one table that it may read."""
    with snapshot_of(server, "postgres") as snapshot:
        [table] = plan_of(snapshot, EVERY_TABLE).ordered
        with copying_session(postgres_of(server), "postgres", 60) as session:
            yield session, OrderedRows(session, snapshot.exported), table


def limit_of(session: CopyingSession) -> str:
    return str(session.query("SELECT to_jsonb(current_setting('temp_file_limit'));")[0])


@pytest.mark.parametrize("scan", [*Scan])
@pytest.mark.parametrize("descending", [False, True])
def test_rows_come_in_order_and_the_session_ends_well(
    server: DatabaseContainer, scan: Scan, *, descending: bool
) -> None:
    with reading(server) as (_session, rows, table):
        [ready], not_ready = rows.prepare([replace(table, descending=descending, scan=scan)])
        rows.use_encoding("UTF8")
        lines = b"".join(rows.read(ready)).splitlines()
        rows.finish()
    assert not_ready == []
    assert ready.load == b'COPY public.t (id, "select") FROM stdin;\n'
    ids = list(range(1, 301))
    assert [int(line.split(b"\t")[0]) for line in lines] == (ids[::-1] if descending else ids)
    assert lines[-7 if descending else 6] == b"7\trow 7!"


SPY = "CREATE FUNCTION spy(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'"


@pytest.mark.parametrize(
    ("change", "back", "why"),
    [
        ("ALTER TABLE t RENAME TO s", "ALTER TABLE s RENAME TO t", "it has another name now"),
        (
            "CREATE SCHEMA s; ALTER TABLE t SET SCHEMA s",
            "ALTER TABLE s.t SET SCHEMA public; DROP SCHEMA s",
            "another name",
        ),
        ("ALTER TABLE t ADD COLUMN more int", "ALTER TABLE t DROP COLUMN more", "its columns have changed"),
        (
            'ALTER TABLE t RENAME "select" TO other',
            'ALTER TABLE t RENAME other TO "select"',
            "its columns have changed",
        ),
        (f"{SPY}; CREATE INDEX ON t (spy(id))", "DROP FUNCTION spy CASCADE", "a user-defined function"),
        (
            f"{SPY}; CREATE STATISTICS ON (spy(id)), id FROM t",
            "DROP FUNCTION spy CASCADE",
            "a user-defined function",
        ),
    ],
)
def test_what_has_changed_since_the_snapshot_is_seen_although_the_snapshot_does_not_show_it(
    server: DatabaseContainer, change: str, back: str, why: str
) -> None:
    """The agent holds the tables locked while it looks; here somebody comes in between."""
    with reading(server) as (_session, rows, table):
        server.sql(change)
        try:
            ready, [left] = rows.prepare([table])
            rows.finish()
        finally:
            server.sql(back)
    assert ready == []
    assert why in left.why


def test_each_sort_has_a_limit_of_its_own_and_never_more_than_the_cluster_allows(server: DatabaseContainer) -> None:
    with reading(server) as (session, rows, table):
        [ready], _not_ready = rows.prepare([table])
        limits = []
        for sort_bytes in (0, 1 << 30, 1 << 20):
            list(rows.read(replace(ready, table=replace(table, sort_bytes=sort_bytes))))
            limits.append(limit_of(session))
    assert limits == ["128MB", "2176MB", "130MB"]
    server.sql("ALTER ROLE postgres SET temp_file_limit = '1MB'")
    try:
        with reading(server) as (session, rows, table):
            [ready], _not_ready = rows.prepare([table])
            list(rows.read(ready))
            assert limit_of(session) == "1MB"
    finally:
        server.sql("ALTER ROLE postgres RESET temp_file_limit")


def test_a_role_that_is_no_superuser_reads_in_order_and_sets_no_limit(server: DatabaseContainer) -> None:
    server.sql("CREATE ROLE reader LOGIN PASSWORD 's3cret'; GRANT pg_read_all_data TO reader")
    try:
        with reading(replace(server, user="reader")) as (session, rows, table):
            [ready], _not_ready = rows.prepare([table])
            assert len(b"".join(rows.read(ready)).splitlines()) == 300
            assert limit_of(session) == "-1"
            rows.finish()
    finally:
        server.sql("DROP OWNED BY reader; DROP ROLE reader")


def test_a_statement_that_fails_ends_the_rows_with_the_servers_words(server: DatabaseContainer) -> None:
    with reading(server) as (_session, rows, table):
        [ready], _not_ready = rows.prepare([table])
        failing = replace(ready, select="SELECT 1 / (300 - id) FROM ONLY public.t ORDER BY id")
        with pytest.raises(PostgresError, match="division by zero"):
            list(rows.read(failing))


@pytest.mark.parametrize("encoding", ["MULE'; \\! touch /tmp/x", "EUC_TW", ""])
def test_an_encoding_that_the_server_does_not_have_is_refused(server: DatabaseContainer, encoding: str) -> None:
    with reading(server) as (_session, rows, _table):
        if encoding == "EUC_TW":
            rows.use_encoding(encoding)  # A conversion that there is.
        else:
            with pytest.raises((PostgresError, InvalidAnswerError)):
                rows.use_encoding(encoding)


def test_a_failure_leaves_no_client_in_the_container(server: DatabaseContainer) -> None:
    """It may be in the middle of rows that nobody takes."""

    def fail() -> None:
        with copying_session(postgres_of(server), "postgres", 60) as session:
            next(session.copy("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert server.processes("psql") == 0


def test_rows_are_counted_in_the_heap_of_the_snapshot(server: DatabaseContainer) -> None:
    with snapshot_of(server, "postgres") as snapshot:
        [table] = plan_of(snapshot, EVERY_TABLE).ordered
        server.sql("INSERT INTO t (\"select\") VALUES ('late')")
        with copying_session(postgres_of(server), "postgres", 60) as session:
            prepare_count(session, snapshot.exported, [table.oid])
            assert count_by_heap(session, [table]) == {table.oid: 300}
    server.sql("DELETE FROM t WHERE \"select\" = 'late'")


# What the server computes when a query of the table is planned: in an index, in its condition, and in statistics.
OWNED = """
CREATE FUNCTION spy(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  IF current_setting('application_name') LIKE 'scalr%' THEN RAISE 'owned'; END IF; RETURN $1; END $$;
CREATE TABLE in_index (long text, "odd ""name" int); INSERT INTO in_index SELECT E'line\\nline', n FROM generate_series(1, 5) AS n;
CREATE INDEX ON in_index (("odd ""name" + spy(1)));
CREATE TABLE in_condition (v text); INSERT INTO in_condition VALUES (NULL), (''), ('x');
CREATE INDEX ON in_condition (v) WHERE spy(1) = 1;
CREATE TABLE in_statistics (a int, b int, g int GENERATED ALWAYS AS (1) STORED);
INSERT INTO in_statistics SELECT n, n FROM generate_series(1, 7) AS n;
CREATE STATISTICS ON (a + spy(1)), b FROM in_statistics;
CREATE TABLE harmless (id int); INSERT INTO harmless VALUES (1), (2); CREATE INDEX ON harmless (abs(id));
ANALYZE;
"""


def test_rows_are_counted_without_running_what_somebody_has_put_into_an_index(server: DatabaseContainer) -> None:
    """A plan would, with the backup's rights: a superuser's, as a rule."""
    server.sql("CREATE DATABASE owned")
    server.sql(OWNED, "owned")
    try:
        with postgres_of(server).session("owned") as session:
            assert count_rows(session) == {
                '"public"."harmless"': 2, '"public"."in_condition"': 3, '"public"."in_index"': 5,
                '"public"."in_statistics"': 7,
            }  # fmt: skip
        for table in ("in_index", "in_condition", "in_statistics"):
            with postgres_of(server).session("owned") as session, pytest.raises(PostgresError, match="owned"):
                session.query(f"SELECT to_jsonb(count(*)) FROM public.{table} WHERE {table} IS NULL;")
    finally:
        server.sql("DROP DATABASE owned WITH (FORCE)")


# What the owner of a database may do with an extension that he has made himself, since PostgreSQL 13.
EVES = """
CREATE EXTENSION hstore; CREATE SCHEMA mine;
CREATE FUNCTION mine.spy(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  IF current_setting('application_name') LIKE 'scalr%' THEN RAISE 'owned'; END IF; RETURN $1; END $$;
CREATE FUNCTION mine.add(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT mine.spy($1) + $2';
CREATE OPERATOR mine.+ (FUNCTION = mine.add, LEFTARG = int, RIGHTARG = int);
ALTER EXTENSION hstore ADD FUNCTION mine.spy(int); ALTER EXTENSION hstore ADD FUNCTION mine.add(int, int);
ALTER EXTENSION hstore ADD OPERATOR mine.+ (int, int);
CREATE TABLE mine.called (id int); INSERT INTO mine.called VALUES (1), (2);
CREATE INDEX ON mine.called ((id + mine.spy(1)));
CREATE TABLE mine.operated (id int); INSERT INTO mine.operated VALUES (1);
CREATE INDEX ON mine.operated ((id + (1 OPERATOR(mine.+) 1)));
CREATE TABLE mine.added (id int); INSERT INTO mine.added VALUES (1);
CREATE INDEX ON mine.added ((id + mine.spy(1))); ALTER EXTENSION hstore ADD TABLE mine.added;
CREATE TABLE mine.t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
INSERT INTO mine.t (v) SELECT 'row ' || n FROM generate_series(1, 300) AS n; UPDATE mine.t SET v = v || '!' WHERE id % 7 = 0;
CREATE TABLE mine.parted (id int) PARTITION BY RANGE (id);
"""
# What a superuser has there: a table that an extension of his own has, a partition of another's table, and one whose index
# calls what the extension's own script has made.
BESIDE_EVES = """
CREATE EXTENSION tablefunc; CREATE TABLE own (id int); ALTER EXTENSION tablefunc ADD TABLE own;
INSERT INTO own SELECT generate_series(1, 900);
CREATE TABLE part (id int); INSERT INTO part VALUES (1), (2); ALTER TABLE mine.parted ATTACH PARTITION part DEFAULT;
CREATE TABLE tags (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v hstore); INSERT INTO tags (v) VALUES ('a=>1');
CREATE INDEX ON tags ((v -> 'a'));
"""
NEW_INDEXES = "CREATE INDEX ON mine.t ((id + mine.spy(1))); CREATE INDEX ON mine.parted ((id + mine.spy(1)));"


@pytest.fixture
def eves(server: DatabaseContainer) -> Iterator[str]:
    """A database whose owner is no superuser."""
    name = f"eves_{secrets.token_hex(3)}"
    server.sql(f"CREATE ROLE {name}; CREATE DATABASE {name} OWNER {name}")
    server.sql(f"ALTER SCHEMA public OWNER TO postgres; GRANT CREATE ON SCHEMA public TO {name};", name)
    server.sql(f"SET ROLE {name}; {EVES} RESET ROLE; {BESIDE_EVES} ANALYZE;", name)
    yield name
    server.sql(f"DROP DATABASE {name} WITH (FORCE); DROP ROLE {name}")


COUNTED = {
    '"mine"."called"': 2, '"mine"."operated"': 1, '"mine"."t"': 300, '"public"."part"': 2, '"public"."tags"': 1,
}  # fmt: skip


def test_what_an_owner_adds_to_an_extension_of_his_own_is_none_of_the_servers(
    server: DatabaseContainer, eves: str
) -> None:
    with postgres_of(server).session(eves) as session:
        assert count_rows(session) == COUNTED
        candidates, _hidden = survey(session)
    found = left_out_rows(postgres_of(server), eves, candidates)
    # The smaller one comes first: a count of it that failed would have ended the session.
    assert {one["relation"]: one["rows"] for one in found} == {"mine.added": None, "public.own": 900}


def test_an_index_that_comes_after_the_snapshot_is_not_planned_with(server: DatabaseContainer, eves: str) -> None:
    """The snapshot does not show it, and the server plans by it all the same."""
    with snapshot_of(server, eves) as snapshot, postgres_of(server).session(eves) as session:
        join_exported_snapshot(session, snapshot.exported)
        server.sql(f"SET ROLE {eves}; {NEW_INDEXES}", eves)
        assert count_rows(session) == COUNTED


@contextmanager
def reading_eves(
    server: DatabaseContainer, eves: str, scan: Scan
) -> Iterator[tuple[CopyingSession, OrderedRows, ReadyTable]]:
    """A session that has the table of somebody else ready."""
    with snapshot_of(server, eves) as snapshot:
        [table] = [one for one in plan_of(snapshot, EVERY_TABLE).ordered if one.name == "t"]
        with (
            copying_session(postgres_of(server), eves, 60) as session,
            postgres_of(server).session(eves, watched=False) as aside,
        ):
            rows = OrderedRows(session, snapshot.exported, lambda: aside)
            [ready], _not_ready = rows.prepare([replace(table, scan=scan, descending=False)])
            yield session, rows, ready


def ids_of(pieces: Iterator[bytes]) -> list[int]:
    return [int(line.split(b"\t")[0]) for line in b"".join(pieces).splitlines()]


IN_HEAP = [one for one in range(1, 301) if one % 7] + [one for one in range(1, 301) if one % 7 == 0]


@pytest.mark.parametrize("scan", [*Scan])
def test_a_table_of_somebody_else_is_pinned_for_no_longer_than_it_is_planned(
    server: DatabaseContainer, eves: str, scan: Scan
) -> None:
    with reading_eves(server, eves, scan) as (_session, rows, ready):
        pieces = rows.read(ready)
        first = next(pieces)
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND mode <> 'AccessShareLock'"
        assert server.sql(locks, eves) == "0"
        # The plan is made.
        server.sql(f"SET ROLE {eves}; {NEW_INDEXES}", eves)
        assert ids_of(iter([first, *pieces])) == list(range(1, 301))
        assert rows.why_in_heap(ready) is None
        assert rows.rows_seen(ready) == 300 or scan is Scan.INDEX
        rows.finish()


def test_a_table_that_gets_code_before_its_turn_comes_as_it_lies(server: DatabaseContainer, eves: str) -> None:
    with reading_eves(server, eves, Scan.SORT) as (_session, rows, ready):
        server.sql(f"SET ROLE {eves}; {NEW_INDEXES}", eves)
        assert ids_of(rows.read(ready)) == IN_HEAP
        assert "a user-defined function" in (rows.why_in_heap(ready) or "")
        assert rows.rows_seen(ready) == 300
        rows.finish()


def test_a_table_that_cannot_be_pinned_comes_as_it_lies(server: DatabaseContainer, eves: str) -> None:
    with reading_eves(server, eves, Scan.SORT) as (_session, rows, ready), postgres_of(server).session(eves) as other:
        other.query("BEGIN; LOCK TABLE pg_catalog.pg_namespace IN ROW EXCLUSIVE MODE;")
        assert ids_of(rows.read(ready)) == IN_HEAP
        assert "could not be locked" in (rows.why_in_heap(ready) or "")
        other.query("ROLLBACK;")
        assert ids_of(rows.read(ready)) == list(range(1, 301))
        rows.finish()


def test_a_dump_is_the_same_whether_a_table_of_somebody_else_could_be_pinned(
    server: DatabaseContainer, eves: str
) -> None:
    with snapshot_of(server, eves) as snapshot, postgres_of(server).session(eves) as other:
        plan, genuine = plan_of(snapshot, EVERY_TABLE), read_archive(snapshot.genuine_dump())
        pinned = ordered_dump(snapshot, plan)
        other.query("BEGIN; LOCK TABLE pg_catalog.pg_namespace IN ROW EXCLUSIVE MODE;")
        unpinned = ordered_dump(snapshot, plan)
    assert (pinned.ordered, pinned.why_plain) == ({"t", "tags"}, "")
    assert unpinned.ordered == {"tags"}
    assert "could not be locked" in unpinned.why_plain
    for one in (pinned, unpinned):
        assert one.exit_code == 0, one.report
        assert differences(read_archive(one.archive), genuine) == []


def test_a_table_whose_name_leads_elsewhere_by_its_turn_is_not_read(server: DatabaseContainer, eves: str) -> None:
    """A schema is renamed in spite of the locks on what is in it."""
    with reading_eves(server, eves, Scan.SORT) as (_session, rows, ready):
        server.sql(
            f"SET ROLE {eves}; ALTER SCHEMA mine RENAME TO was; CREATE SCHEMA mine; CREATE TABLE mine.t (LIKE was.t); "
            "CREATE INDEX ON mine.t ((id + was.spy(1)))",
            eves,
        )
        with pytest.raises(PostgresError, match="it has another name now"):
            list(rows.read(ready))


def test_who_cannot_pin_a_table_of_somebody_else_leaves_it_as_it_lies(server: DatabaseContainer, eves: str) -> None:
    server.sql(f"CREATE ROLE reader_{eves} LOGIN PASSWORD 's3cret'; GRANT pg_read_all_data TO reader_{eves}")
    try:
        with snapshot_of(replace(server, user=f"reader_{eves}"), eves) as snapshot:
            plan = plan_of(snapshot, EVERY_TABLE)
    finally:
        server.sql(f"DROP ROLE reader_{eves}")
    [why] = [one for one in plan.heap if one.name == "t"]
    assert "only a superuser on a primary server" in why.reason
    assert "tags" in {one.name for one in plan.ordered}


def test_as_many_tables_are_left_out_as_pg_dump_can_be_told_whatever_their_names(server: DatabaseContainer) -> None:
    """Names of quotes and of characters that a pattern would mean something by, as long as they may be."""
    name = f"many_{secrets.token_hex(3)}"
    server.sql(f"CREATE DATABASE {name}")
    schema = quote_identifier('$*?.[a]|(b)\\d+^"')
    tables = [f"{schema}.{quote_identifier(str(number) + chr(34) * 60)}" for number in range(100, 400)]
    made = [f"CREATE TABLE {table} (id serial PRIMARY KEY); INSERT INTO {table} VALUES (2), (1);" for table in tables]
    server.sql("\n".join([f"CREATE SCHEMA {schema};", *made]), name)
    try:
        with snapshot_of(server, name) as snapshot:
            plan = plan_of(snapshot, EVERY_TABLE)
            produced = ordered_dump(snapshot, plan)
            assert produced.exit_code == 0, produced.report
            assert produced.report
            assert len(produced.report.ordered) == len(plan.ordered) == 256
            assert differences(read_archive(produced.archive), read_archive(snapshot.genuine_dump())) == []
    finally:
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")
