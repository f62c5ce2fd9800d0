"""Which tables are dumped in an order of their own, by what real servers have in their catalogs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scalr_backup.actions.backup.order import choose, volumes_of
from scalr_backup.core.model import Credentials
from scalr_backup.core.row_order import HeapTable, OrderedTable, OrderPlan, OrderWish
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.keys import look
from scalr_backup.tools.postgres.session import SqlSession

from tests.support.containers import AgentContainer, DatabaseContainer, docker, wait_until

FIXTURE = (Path(__file__).parent / "fixtures/keys.sql").read_text()
# Every table with a page is large.
WISH = OrderWish(least_bytes=1)
DATABASE = "keys"
ORDERED = {
    "identity_key": ("id",), "serial_key": ("id",), "time_key": ("at", "device"), "correlated_key": ("code",),
    "sorted_uuid": ("id",), "second_key": ("number",), "descending_key": ("id",), "zigzag_key": ("id", "other"),
    "included_key": ("id",), "by_range_1": ("id", "at"), "by_hash_1": ("id",), "parent": ("id",), "unlogged": ("id",),
    "hidden_rows": ("id",), "never_analyzed_time": ("at",), 'Größe "x" *.$?': ("id",),
}  # fmt: skip
HEAP = {
    "scattered_key": "does not grow as rows are added", "random_uuid": "random UUIDs",
    "no_key": "neither a primary key", "no_columns": "no columns", "hash_index_only": "neither a primary key",
    "nullable_key": "may be NULL", "partial_key": "is partial", "expression_key": "is on an expression",
    "deferrable_key": "is deferrable", "invalid_key": "is not valid", "generated_key": "is generated",
    "domain_key": "type of the column id", "enum_key": "type of the column feels",
    "other_class": "orders the column code differently", "other_collation": "orders the column code differently",
    "careless_collation": "not deterministic", "by_mood_1_1": "loads via the root", "by_expression_1": "loads via the root",
    "child": "no statistics", "never_analyzed": "no statistics", "other_method": "an access method other than heap",
    "code_in_index": "a user-defined function", "code_in_statistics": "a user-defined function",
    "line\nbreak": "not printable",
}  # fmt: skip


def filled(made: DatabaseContainer) -> DatabaseContainer:
    """The server, with a table for each thing that decides."""
    made.sql(f"CREATE DATABASE {DATABASE}")
    made.sql(FIXTURE, DATABASE)
    return made


@pytest.fixture(scope="module")
def server(make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    """A server of the newest version."""
    return filled(make_database("new", image="postgres:18"))


@contextmanager
def a_session(server: DatabaseContainer, database: str = DATABASE, user: str = "postgres") -> Iterator[SqlSession]:
    postgres = Postgres(DockerHost(), server.name, Credentials(user), "scalr-backup look test")
    with postgres.session(database, "-c lock_timeout=2000", watched=False) as session:
        session.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;")
        yield session


def planned(server: DatabaseContainer, database: str = DATABASE, user: str = "postgres") -> OrderPlan:
    with a_session(server, database, user) as session:
        return choose(session, WISH)


def ordered(plan: OrderPlan) -> dict[str, OrderedTable]:
    return {table.name: table for table in plan.ordered}


def heap(plan: OrderPlan) -> dict[str, HeapTable]:
    return {table.name: table for table in plan.heap}


def test_each_table_is_ordered_or_left_for_its_own_reason(server: DatabaseContainer) -> None:
    assert_each_as_expected(planned(server))


def test_an_older_server_tells_the_same(make_database: Callable[..., DatabaseContainer]) -> None:
    assert_each_as_expected(planned(filled(make_database("old", image="postgres:15"))))


def assert_each_as_expected(plan: OrderPlan) -> None:
    assert {name: table.key for name, table in ordered(plan).items()} == ORDERED
    found = {name: table.reason for name, table in heap(plan).items()}
    assert found.keys() == HEAP.keys()
    assert {name: found[name] for name, words in HEAP.items() if words not in found[name]} == {}


def test_what_is_said_of_a_table_is_what_the_server_has(server: DatabaseContainer) -> None:
    table = ordered(planned(server))["serial_key"]

    facts = (
        "'serial_key'::regclass::oid || ' ' || pg_relation_filenode('serial_key') || ' ' || pg_table_size('serial_key')"
    )
    assert f"{table.oid} {table.filenode} {table.bytes}" == server.sql(f"SELECT {facts}", DATABASE)
    # Neither what was dropped nor what is generated.
    assert (table.namespace, table.columns, table.index) == ("public", ("id", "words"), "serial_key_pkey")


def test_an_index_that_goes_up_and_down_cannot_be_read_in_order(server: DatabaseContainer) -> None:
    with a_session(server) as session:
        tables = {table["name"]: table for table in look(session, 1).tables}

    scannable = {
        name: tables[name]["indexes"][0]["scannable"] for name in ("identity_key", "descending_key", "zigzag_key")
    }
    assert scannable == {"identity_key": True, "descending_key": True, "zigzag_key": False}


def test_small_tables_are_not_looked_at(server: DatabaseContainer) -> None:
    with a_session(server) as session:
        assert look(session, 1 << 30).tables == ()


def test_where_sorts_go_and_how_much_they_may_take_is_known(server: DatabaseContainer) -> None:
    postgres = Postgres(DockerHost(), server.name, Credentials("postgres"), "scalr-backup look test")
    with a_session(server) as session:
        known = look(session, 1).server
    with a_session(server, user="app") as session:
        limited = look(session, 1).server

    place = server.sql("SHOW data_directory")
    assert (known["directories"], known["limit_bytes"], known["encoding"]) == ([place], None, "UTF8")
    # Not everybody may be told where the data lies.
    assert limited["directories"] == [""]
    found = volumes_of(postgres)(place)
    assert found is not None
    assert 0 < found.free_bytes <= found.total_bytes


def test_a_limit_on_temporary_files_binds_who_cannot_lift_it(server: DatabaseContainer) -> None:
    server.sql(f"ALTER DATABASE {DATABASE} SET temp_file_limit = '5MB'")
    try:
        with a_session(server) as one, a_session(server, user="app") as other:
            limits = [look(session, 1).server["limit_bytes"] for session in (one, other)]
    finally:
        server.sql(f"ALTER DATABASE {DATABASE} RESET temp_file_limit")

    assert limits == [None, 5 * 1024 * 1024]


def test_rows_that_a_role_may_not_see_are_not_ordered_for_it(server: DatabaseContainer) -> None:
    plan = planned(server, user="app")

    assert "row-level security" in heap(plan)["hidden_rows"].reason
    assert {*ordered(plan)} == {*ORDERED} - {"hidden_rows", 'Größe "x" *.$?'} | {'Größe "x" *.$?'}


def test_statistics_that_may_not_be_read_leave_what_the_catalogs_tell(server: DatabaseContainer) -> None:
    server.sql("REVOKE SELECT ON pg_stats FROM PUBLIC", DATABASE)
    try:
        plan = planned(server, user="app")
    finally:
        server.sql("GRANT SELECT ON pg_stats TO PUBLIC", DATABASE)

    assert {"identity_key", "serial_key", "time_key"} <= {*ordered(plan)}
    assert "may not read" in heap(plan)["correlated_key"].reason
    assert "pg_stats" in (heap(plan)["correlated_key"].cure or "")


@contextmanager
def wanted_by_somebody(server: DatabaseContainer, table: str) -> Iterator[None]:
    """Somebody waits to have a table for himself, as long as the caller's own session reads from it."""
    wanting = threading.Thread(
        target=server.sql,
        args=(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; ROLLBACK;", DATABASE),
        kwargs={"check": False},
    )
    wanting.start()
    try:
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: server.sql(waits, DATABASE) == "1", "somebody waits")
        yield
    finally:
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{DATABASE}' AND pid <> pg_backend_pid()"
        )
        wanting.join()


def test_a_table_that_somebody_has_for_himself_is_not_waited_for(server: DatabaseContainer) -> None:
    with a_session(server) as reader, a_session(server) as holder:
        holder.query("ROLLBACK; BEGIN; LOCK TABLE public.identity_key IN ACCESS EXCLUSIVE MODE;")
        reader.query("SELECT to_jsonb(count(*)) FROM public.serial_key;")
        # Nor is one that somebody wants for himself, behind whom everybody else has to wait.
        with wanted_by_somebody(server, "serial_key"):
            plan = planned(server)

    assert ordered(plan).keys() == ORDERED.keys()
    # Their sizes are what the catalogs have of them since they were analyzed: a page each, and what is stored out of line.
    assert ordered(plan)["identity_key"].bytes == 8192


def test_who_has_the_tables_locked_already_sees_their_sizes(server: DatabaseContainer) -> None:
    """So does a dump: others may want the table for themselves, and wait for it."""
    with a_session(server) as session:
        session.query("LOCK TABLE public.serial_key IN ACCESS SHARE MODE;")
        with wanted_by_somebody(server, "serial_key"):
            plan = choose(session, WISH)

    assert ordered(plan)["serial_key"].bytes == int(server.sql("SELECT pg_table_size('serial_key')", DATABASE))


def test_an_order_that_somebody_made_the_default_of_a_type_is_not_the_servers_own(server: DatabaseContainer) -> None:
    database = "other_order"
    server.sql(f"CREATE DATABASE {database}")
    server.sql(
        """
        CREATE TABLE codes (code varchar COLLATE "C" PRIMARY KEY);
        INSERT INTO codes SELECT lpad(g::text, 9, '0') FROM generate_series(1, 500) AS g;
        ANALYZE;
        """,
        database,
    )
    assert {*ordered(planned(server, database))} == {"codes"}
    server.sql(
        """
        CREATE OPERATOR CLASS backwards DEFAULT FOR TYPE varchar USING btree AS
          OPERATOR 1 > (text, text), OPERATOR 2 >= (text, text), OPERATOR 3 = (text, text), OPERATOR 4 <= (text, text),
          OPERATOR 5 < (text, text), FUNCTION 1 (varchar, varchar) bttextcmp (text, text);
        """,
        database,
    )

    assert "not one of PostgreSQL's own" in heap(planned(server, database))["codes"].reason


def test_names_that_are_not_ascii_stay_in_heap_order_in_other_encodings(server: DatabaseContainer) -> None:
    server.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    server.sql(
        """
        SET client_encoding = 'UTF8';
        CREATE TABLE "größe" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, words text);
        INSERT INTO "größe" (words) VALUES ('x');
        CREATE TABLE size (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, words text);
        INSERT INTO size (words) VALUES ('x');
        """,
        "latin",
    )

    plan = planned(server, "latin")

    assert {*ordered(plan)} == {"size"}
    assert "encoding is LATIN1" in heap(plan)["größe"].reason


def test_a_constraint_that_was_not_validated_is_no_proof(server: DatabaseContainer) -> None:
    server.sql("CREATE DATABASE unproven")
    server.sql(
        """
        CREATE TABLE t (id int UNIQUE, words text);
        INSERT INTO t SELECT g, 'x' FROM generate_series(1, 500) AS g;
        ANALYZE;
        ALTER TABLE t ADD CONSTRAINT known NOT NULL id NOT VALID;
        """,
        "unproven",
    )

    assert "may be NULL" in heap(planned(server, "unproven"))["t"].reason
    server.sql("ALTER TABLE t VALIDATE CONSTRAINT known", "unproven")
    assert {*ordered(planned(server, "unproven"))} == {"t"}


def test_discover_shows_the_choice_and_warns_of_a_label(server: DatabaseContainer, keeper: AgentContainer) -> None:
    keeper.configure(row_order_least_bytes=1, row_order_except=[f"*/{DATABASE}/public.time_*"])
    odd = DatabaseContainer(
        f"{server.name.removesuffix('-db')}-odd-db", image=server.image, labels={"scalr.backup.row-order": "maybe"}
    )
    try:
        odd.start()
        answer = keeper.call("discover", "--row-order").data
        said = docker("exec", keeper.name, "scalr-backup", "discover", "--row-order", "--db", server.name).stdout
    finally:
        odd.remove()

    found = {one["name"]: one for one in answer["containers"]}
    orders = {one["name"]: one["row_order"] for one in found[server.name]["databases"]}
    shown = {one["table"]: one for one in orders[DATABASE]["ordered"]}
    assert shown["public.identity_key"]["descending"] in (True, False)
    assert shown["public.identity_key"] | {"bytes": 0, "descending": True} == {
        "table": "public.identity_key", "bytes": 0, "key": ["id"], "descending": True,
        "index": "identity_key_pkey", "scan": "sort", "reason": "id is an identity column",
    }  # fmt: skip
    left = {one["table"]: one["reason"] for one in orders[DATABASE]["heap"]}
    assert "row_order_except" in left["public.time_key"]
    assert "public.never_analyzed" in said
    assert "ANALYZE public.never_analyzed" in said
    # What nobody can read is one sentence, and the others are looked at all the same.
    [warning] = [one for one in answer["warnings"] if "row-order" in one]
    assert warning.startswith(f"{odd.name}: the label scalr.backup.row-order is invalid: 'maybe'")
    assert found[odd.name]["databases"][0]["row_order"]["why_not"] == warning


def test_on_a_standby_an_unlogged_table_is_left_alone(server: DatabaseContainer) -> None:
    """The last test: the server is a standby from here on."""
    place = server.sql("SHOW data_directory")
    docker("exec", "-u", "postgres", server.name, "touch", f"{place}/standby.signal")
    docker("restart", server.name)
    server.wait()

    plan = planned(server)

    assert "unlogged" not in ordered(plan)
    assert "identity_key" in ordered(plan)
