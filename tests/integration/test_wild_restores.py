# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases as apps really run them: what they need beyond rows, and what stands in the way of their restore."""

from __future__ import annotations

import base64
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.containers import AgentContainer, Call, DatabaseContainer, docker, wait_until
from tests.support.restores import add_extension, leftovers, outcome_of


@pytest.fixture(scope="module")
def plain(make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    """A server as it comes; each test has a database of its own in it."""
    return make_database("plain")


def made(server: DatabaseContainer, name: str, content: str) -> str:
    """A database with this content; its name."""
    server.sql(f"CREATE DATABASE {name}")
    server.sql(content, name)
    return name


def save(keeper: AgentContainer, server: DatabaseContainer) -> None:
    """Back up all of a server."""
    keeper.ok("backup", "--db", server.name)


def restore(keeper: AgentContainer, server: DatabaseContainer, name: str, *options: str) -> Call:
    """Restore one database from its newest snapshot, without a safety snapshot."""
    return keeper.call(
        "restore", "--db", server.name, "--database", name, "--no-safety-snapshot", "--confirm", server.name, *options
    )


# -- limits, indexes, event triggers -----------------------------------------------------------------------


LIMITS = {"15": "idle_session_timeout = '5s'", "17": "transaction_timeout = '5s'"}


@pytest.mark.parametrize("version", [pytest.param("15", marks=pytest.mark.thorough), "17"])
def test_limits_of_time_end_neither_a_backup_nor_a_restore(
    version: str, make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database(f"limits{version}", image=f"postgres:{version}")
    # To count it, to verify it and to build its index takes longer than any of these limits.
    made(
        server,
        "shop",
        "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 200000) AS n; CREATE INDEX ON t (md5)",
    )
    server.sql(
        f"""
        ALTER SYSTEM SET {LIMITS[version]};
        ALTER ROLE postgres SET statement_timeout = '20ms';
        ALTER ROLE postgres SET lock_timeout = '1ms';
        ALTER ROLE postgres SET default_transaction_read_only = on;
        ALTER SYSTEM SET idle_in_transaction_session_timeout = '20ms';
        ALTER DATABASE shop SET statement_timeout = '20ms';
        ALTER DATABASE shop SET default_transaction_read_only = on;
        ALTER SYSTEM SET temp_file_limit = '1MB';
        ALTER SYSTEM SET maintenance_work_mem = '1MB';
        SELECT pg_reload_conf();
        """
    )
    saved = keeper.ok("backup", "--db", server.name)
    assert [one["rows"] for one in saved["databases"]] == [200000]
    assert not any("could not be counted" in one for one in saved["warnings"])
    call = restore(keeper, server, "shop")
    assert call.exit_code == 0, call.output
    assert outcome_of(call)["verified"]["rows"] == 200000


def test_an_index_that_lacks_entries_does_not_make_a_count_too_small(
    plain: DatabaseContainer, keeper: AgentContainer
) -> None:
    made(
        plain,
        "indexed",
        """
        CREATE TABLE t AS SELECT n, repeat('x', 200) AS filler FROM generate_series(1, 20000) AS n;
        CREATE INDEX t_n ON t (n);
        UPDATE pg_index SET indisready = false WHERE indexrelid = 't_n'::regclass;
        INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(20001, 20100) AS n;
        UPDATE pg_index SET indisready = true WHERE indexrelid = 't_n'::regclass;
        """,
    )
    # The indexes are not cleaned, and the table's pages are known to be visible to all.
    plain.sql("VACUUM (FREEZE, ANALYZE, INDEX_CLEANUP OFF) t", "indexed")
    assert plain.sql("SELECT count(*) FROM t", "indexed") == "20000", "the planner trusts the index"
    saved = keeper.ok("backup", "--db", plain.name)
    assert {one["database"]: one["rows"] for one in saved["databases"]}["indexed"] == 20100
    call = restore(keeper, plain, "indexed")
    assert call.exit_code == 0, call.output
    assert outcome_of(call, "indexed")["verified"]["rows"] == 20100


WATCHFUL_SQL = """
CREATE FUNCTION watchful_refuse() RETURNS event_trigger LANGUAGE plpgsql
  AS $$ BEGIN RAISE EXCEPTION 'no % after me', tg_tag; END $$;
CREATE EVENT TRIGGER watchful ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION watchful_refuse();
"""


@pytest.mark.parametrize("version", [pytest.param("15", marks=pytest.mark.thorough), "17"])
def test_an_event_trigger_that_an_extension_brings_does_not_act_on_what_is_restored_after_it(
    version: str, make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database(f"watchful{version}", image=f"postgres:{version}")
    add_extension(server, "watchful", WATCHFUL_SQL)
    # The table was there before the extension; an archive has it after it.
    made(server, "shop", "CREATE TABLE t AS SELECT 1 AS n; CREATE EXTENSION watchful;")
    save(keeper, server)
    call = restore(keeper, server, "shop")
    assert call.exit_code == 0, call.output
    assert server.sql("SELECT evtname, evtenabled FROM pg_event_trigger", "shop") == "watchful|O"
    assert not leftovers(server)


# -- what several jobs cannot make, and one can ------------------------------------------------------------


def test_memory_that_helpers_would_share_and_the_container_lacks_is_done_without(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    # A join by several processes keeps its hash table in /dev/shm.
    planner = {"enable_mergejoin": "off", "enable_nestloop": "off", "parallel_setup_cost": "0", "work_mem": "64MB"}
    settings = [word for name, value in planner.items() for word in ("-c", f"{name}={value}")]
    server = make_database("narrow", options=["--shm-size", "3m"], command=["postgres", *settings])
    made(
        server,
        "shop",
        """
        SET max_parallel_workers_per_gather = 0;
        CREATE TABLE t AS SELECT n, md5(n::text) AS word FROM generate_series(1, 300000) AS n;
        CREATE MATERIALIZED VIEW pairs AS SELECT count(*) FROM t AS a JOIN t AS b USING (word);
        CREATE INDEX ON t (n);
        """,
    )
    refused = docker(
        "exec",
        server.name,
        "psql",
        "-U",
        "postgres",
        "-d",
        "shop",
        "-c",
        "REFRESH MATERIALIZED VIEW pairs",
        check=False,
    )
    assert "shared memory segment" in refused.stderr, "with helpers it does not work"
    save(keeper, server)
    call = restore(keeper, server, "shop")
    assert call.exit_code == 0, call.output
    [warning] = call.data["warnings"]
    assert "MATERIALIZED VIEW DATA public.pairs" in warning
    assert "shared memory" in warning
    assert server.sql("SELECT * FROM pairs", "shop") == "300000"


# -- extensions that are tied to a database's name, or want to know of a restore ---------------------------


# An extension that looks at the name as pg_cron does, and one that has to know that it is restored, as TimescaleDB does.
TIED_SQL = """
DO $$ BEGIN IF current_database() <> 'shop' THEN RAISE EXCEPTION 'can only create extension in database shop'; END IF; END $$;
CREATE TABLE tied_job (n int);
SELECT pg_extension_config_dump('tied_job', '');
"""


@pytest.fixture(scope="module")
def cron_image(prefix: str) -> Iterator[str]:
    """PostgreSQL with pg_cron, as Debian has it, and with an extension of our own that nobody knows."""
    tag = f"scalr-test-wild-{prefix}:cron"
    steps = f"""
    FROM postgres:15
    RUN apt-get update && apt-get install -y --no-install-recommends postgresql-15-cron && rm -rf /var/lib/apt/lists/*
    RUN printf '%s' "$(echo {base64.b64encode(TIED_SQL.encode()).decode()} | base64 -d)" \\
          > /usr/share/postgresql/15/extension/tied--1.0.sql \\
     && printf "default_version = '1.0'\\n" > /usr/share/postgresql/15/extension/tied.control
    """
    docker("build", "--quiet", "--tag", tag, "-", stdin=textwrap.dedent(steps), timeout=600)
    yield tag
    docker("rmi", "--force", tag, check=False)


@pytest.fixture(scope="module")
def cron(cron_image: str, make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    """A server whose database shop has pg_cron, and the other extension."""
    preload = ["-c", "shared_preload_libraries=pg_cron", "-c", "cron.database_name=shop"]
    server = make_database("cron", image=cron_image, command=["postgres", *preload])
    made(
        server,
        "shop",
        """
        CREATE EXTENSION pg_cron;
        CREATE EXTENSION tied;
        INSERT INTO tied_job VALUES (1);
        SELECT cron.schedule('nightly', '0 3 * * *', 'VACUUM');
        CREATE TABLE orders AS SELECT n FROM generate_series(1, 1000) AS n;
        """,
    )
    return server


@pytest.mark.parametrize("strategy", [pytest.param("beside", marks=pytest.mark.thorough), "replace"])
def test_a_database_whose_extensions_look_at_its_name_comes_back(
    strategy: str, cron: DatabaseContainer, keeper: AgentContainer
) -> None:
    save(keeper, cron)
    cron.sql("DELETE FROM orders WHERE n > 10", "shop")
    confirm = f"replace {cron.name}" if strategy == "replace" else cron.name
    call = keeper.call(
        "restore", "--db", cron.name, "--database", "shop", "--strategy", strategy, "--confirm", confirm
    )  # fmt: skip
    assert call.exit_code == 0, call.output
    assert any("pg_cron can be created only in a database named shop" in one for one in call.data["plan"]["warnings"])
    assert cron.sql("SELECT count(*) FROM orders", "shop") == "1000"
    assert cron.sql("SELECT jobname FROM cron.job", "shop") == "nightly"
    assert cron.sql("SELECT n FROM tied_job", "shop") == "1"
    assert cron.sql("SELECT datconnlimit FROM pg_database WHERE datname = 'shop'") == "-1"
    assert not leftovers(cron)
    # And so does what was there: the way back is a restore like any other.
    safety = outcome_of(call)["safety_snapshot_id"]
    again = restore(keeper, cron, "shop", "--snapshot", safety[:12])
    assert again.exit_code == 0, again.output
    assert cron.sql("SELECT count(*) FROM orders", "shop") == "10"
    assert restore(keeper, cron, "shop").exit_code == 0


def test_its_drill_is_green(cron: DatabaseContainer, keeper: AgentContainer) -> None:
    save(keeper, cron)
    drilled = keeper.call("drill", "--db", cron.name)
    assert drilled.exit_code == 0, drilled.output


def test_what_needs_more_memory_than_a_drill_has_is_no_failed_backup(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database("hungry")
    # An index whose expression takes 1.5 GB for a moment, as the loading of a huge value does.
    hungry = "SELECT n + length(repeat('x', 750000000) || repeat('y', 2)) * 0"
    made(
        server,
        "shop",
        f"CREATE FUNCTION eat(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN ({hungry}); END $$;"
        "CREATE TABLE t AS SELECT 1 AS n; CREATE INDEX ON t (public.eat(n))",
    )
    save(keeper, server)
    drilled = keeper.call("drill", "--db", server.name)
    assert drilled.exit_code == 2, drilled.output
    [outcome] = drilled.data["databases"]
    assert (outcome["tried"], outcome["error"]["code"]) == (False, "no_memory")
    assert "needed more than" in outcome["error"]["message"]


def test_it_cannot_come_back_under_another_name_and_nothing_is_changed(
    cron: DatabaseContainer, keeper: AgentContainer
) -> None:
    save(keeper, cron)
    before = cron.databases()
    call = restore(keeper, cron, "shop", "--database-as", "shop_too")
    assert call.exit_code == 1
    assert call.error["code"] == "missing_extension"
    assert "cron.database_name" in call.error["message"]
    assert cron.databases() == before


def test_a_live_database_is_not_dropped_for_an_archive_that_does_not_restore(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database("fragile")
    add_extension(server, "gone_soon", "CREATE FUNCTION gone_soon() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    made(server, "shop", "CREATE EXTENSION gone_soon; CREATE TABLE t AS SELECT 1 AS n")
    save(keeper, server)
    # The control file is there, and what it names is not.
    add_extension(server, "gone_soon", "SELECT * FROM nobody_has_this")
    call = keeper.call(
        "restore", "--db", server.name, "--database", "shop", "--strategy", "replace",
        "--confirm", f"replace {server.name}",
    )  # fmt: skip
    assert call.exit_code == 1, call.output
    assert "rehearsal failed, so the live shop was not dropped" in outcome_of(call)["error"]["message"]
    assert outcome_of(call)["dropped_first"] is False
    assert server.sql("SELECT n FROM t", "shop") == "1"
    assert not leftovers(server)


# -- a user who is no superuser ----------------------------------------------------------------------------


def test_a_user_who_may_not_read_everything_restores_what_is_theirs(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    # Bitnami's variables name the app's user; the official image, which this one is, does not know them.
    names = {"POSTGRES_PASSWORD": "s3cret", "POSTGRESQL_USERNAME": "app", "POSTGRESQL_PASSWORD": "s3cret"}
    server = make_database("modest", environment=names)
    server.sql("CREATE ROLE app LOGIN CREATEDB PASSWORD 's3cret'; CREATE DATABASE shop OWNER app")
    content = "CREATE TABLE t AS SELECT n FROM generate_series(1, 500) AS n; CREATE INDEX ON t (n)"
    server.sql(f"SET ROLE app; CREATE SCHEMA app; SET search_path = app; {content}", "shop")
    assert (
        "permission denied"
        in docker(
            "exec", server.name, "psql", "-U", "app", "-d", "shop", "-c", "SHOW data_directory", check=False
        ).stderr
    )
    keeper.ok("backup", "--db", server.name)
    server.sql("DELETE FROM app.t WHERE n > 5", "shop")
    call = restore(keeper, server, "shop")
    assert call.exit_code == 0, call.output
    assert server.sql("SELECT count(*) FROM app.t", "shop") == "500"
    assert not leftovers(server)


# -- consumers of a database's changes ---------------------------------------------------------------------


@pytest.mark.parametrize("keep", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_replication_slots_that_are_lost_are_named_with_their_consumers(
    keep: bool, make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database(f"slots{keep}", command=["postgres", "-c", "wal_level=logical"])
    made(
        server,
        "shop",
        "CREATE TABLE t AS SELECT 1 AS n; SELECT pg_create_logical_replication_slot('quiet', 'test_decoding')",
    )
    server.sql("SELECT pg_create_logical_replication_slot('busy', 'test_decoding')", "shop")
    reader = ["pg_recvlogical", "-U", "postgres", "-d", "dbname=shop application_name=debezium", "--slot", "busy"]
    docker("exec", "--detach", server.name, *reader, "--start", "-f", "/dev/null", "--no-loop")
    wait_until(lambda: server.sql("SELECT active FROM pg_replication_slots WHERE slot_name = 'busy'") == "t", "is read")
    save(keeper, server)
    options = ["--keep-old"] if keep else []
    call = restore(keeper, server, "shop", *options)
    assert call.exit_code == 0, call.output
    planned = {one["name"]: one for one in call.data["plan"]["databases"][0]["slots"]}
    assert planned.keys() == {"busy", "quiet"}
    assert "debezium" in planned["busy"]["consumer"]
    assert planned["quiet"] == {"name": "quiet", "plugin": "test_decoding", "active": False, "consumer": None}
    [warning] = [one for one in call.data["plan"]["warnings"] if "replication slots" in one]
    assert "busy (test_decoding, read by postgres debezium from local)" in warning
    left = server.sql("SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots")
    lost = {one["name"] for one in outcome_of(call)["lost_slots"]}
    assert (left, lost) == (("busy quiet", set()) if keep else ("", {"busy", "quiet"}))
    assert any("were dropped with it" in one for one in call.data["warnings"]) is not keep


# -- objects that no restore can make again ----------------------------------------------------------------


STALE = """
CREATE TABLE customers (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, customer int);
INSERT INTO orders VALUES (1, 7);
ALTER TABLE orders ADD CONSTRAINT orders_customer FOREIGN KEY (customer) REFERENCES customers NOT VALID;
UPDATE pg_constraint SET convalidated = true WHERE conname = 'orders_customer';
CREATE TABLE tokens (id int, expires timestamptz, CONSTRAINT fresh CHECK (expires > now()));
INSERT INTO tokens VALUES (1, now() + interval '1 second');
CREATE FUNCTION rate(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN n * base(); END';
CREATE FUNCTION base() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2';
CREATE TABLE prices (n int, total int GENERATED ALWAYS AS (rate(n)) STORED);
INSERT INTO prices (n) VALUES (21);
CREATE FUNCTION waiting() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM orders';
ALTER FUNCTION waiting() SET search_path = public;
CREATE MATERIALIZED VIEW backlog AS SELECT waiting() AS n;
ALTER FUNCTION waiting() RESET search_path;
CREATE TABLE parted (id int, until timestamptz, CONSTRAINT fresh_part CHECK (CASE WHEN id > 0 THEN until > now() ELSE true END))
  PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
INSERT INTO parted VALUES (1, now() + interval '1 second');
CREATE TABLE twice (a timestamptz CHECK (a > now()), b timestamptz CHECK (b > now()));
INSERT INTO twice VALUES (now() + interval '1 second', now() + interval '1 second');
CREATE DOMAIN future AS timestamptz CHECK (VALUE > now());
CREATE TABLE dates (f future);
INSERT INTO dates VALUES (now() + interval '1 second');
CREATE FUNCTION "Rate"(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN n * base(); END';
CREATE TABLE fees (n int, total int GENERATED ALWAYS AS ("Rate"(n)) STORED);
INSERT INTO fees (n) VALUES (21);
"""


@pytest.fixture(scope="module")
def stale(plain: DatabaseContainer, keeper: AgentContainer) -> DatabaseContainer:
    """A database that was right when it was made, and is not now."""
    made(plain, "stale", STALE)
    time.sleep(1.5)
    save(keeper, plain)
    return plain


def test_a_restore_stops_at_what_cannot_be_made_and_tells_what_mends_it(
    stale: DatabaseContainer, keeper: AgentContainer
) -> None:
    before = stale.fingerprint("stale")
    call = restore(keeper, stale, "stale")
    assert call.exit_code == 1, call.output
    [lost] = outcome_of(call, "stale")["objects"]
    assert lost["outcome"] == "failed"
    assert lost["mend"] in call.error["message"]
    assert "on_error=skip" in call.error["message"]
    assert stale.fingerprint("stale") == before
    assert not leftovers(stale)


def test_a_drill_names_the_object_and_the_sql_that_mends_it(stale: DatabaseContainer, keeper: AgentContainer) -> None:
    drilled = keeper.call("drill", "--db", stale.name, "--database", "stale")
    assert drilled.exit_code == 3, drilled.output
    [outcome] = drilled.data["databases"]
    assert outcome["tried"] is True
    [lost] = outcome["objects"]
    assert lost["object"].startswith("TABLE DATA public.")
    assert lost["mend"] in outcome["error"]["message"]


def test_a_restore_that_may_go_on_brings_back_every_row_and_lists_the_rest(
    stale: DatabaseContainer, keeper: AgentContainer
) -> None:
    before = stale.fingerprint("stale")
    call = restore(keeper, stale, "stale", "--on-error", "skip")
    assert call.exit_code == 0, call.output
    fates = {one["object"]: one["outcome"] for one in outcome_of(call, "stale")["objects"]}
    assert fates == {
        "FK CONSTRAINT public.orders orders_customer": "not_valid",
        "TABLE DATA public.tokens": "not_valid",
        "TABLE DATA public.prices": "mended",
        "TABLE DATA public.parted_1": "not_valid",
        "TABLE DATA public.twice": "not_valid",
        "TABLE DATA public.dates": "not_valid",
        "TABLE DATA public.fees": "mended",
        "MATERIALIZED VIEW DATA public.backlog": "mended",
    }
    assert len(call.data["warnings"]) == 9
    assert stale.fingerprint("stale") == before
    assert (
        stale.sql("SELECT DISTINCT conname FROM pg_constraint WHERE NOT convalidated ORDER BY 1", "stale")
        == "fresh\nfresh_part\nfuture_check\norders_customer\ntwice_a_check\ntwice_b_check"
    )
    assert stale.sql("SELECT n FROM backlog", "stale") == "1"
    assert stale.sql("SELECT count(*) FROM pg_proc WHERE proconfig IS NOT NULL AND oid >= 16384", "stale") == "0"
    # From now on it is saved so that it restores; what was told to mend it, mends the rest.
    for one in outcome_of(call, "stale")["objects"]:
        if one["outcome"] == "mended":
            stale.sql(one["mend"], "stale")
    save(keeper, stale)
    assert restore(keeper, stale, "stale").exit_code == 0


STRICT = """
CREATE TABLE zcustomers (email text);
INSERT INTO zcustomers VALUES ('alice@example.com');
CREATE FUNCTION known(text) RETURNS boolean LANGUAGE plpgsql AS
  $$ BEGIN IF EXISTS (SELECT FROM public.zcustomers WHERE email = $1) THEN RETURN true; END IF;
     RAISE 'no such customer: %', $1; END $$;
CREATE TABLE orders (email text CONSTRAINT whose CHECK (known(email)));
INSERT INTO orders VALUES ('alice@example.com');
"""


def test_an_error_that_quotes_a_row_is_told_without_it(plain: DatabaseContainer, keeper: AgentContainer) -> None:
    made(plain, "strict", STRICT)
    save(keeper, plain)
    call = restore(keeper, plain, "strict")
    assert call.exit_code == 1, call.output
    assert "ERROR:  no such customer: ***" in call.error["message"]
    assert outcome_of(call, "strict")["objects"][0]["cause"] == "ERROR:  no such customer: ***"
    assert "alice" not in call.output
    plain.sql("DROP DATABASE strict")


def withered(keeper: AgentContainer, server: DatabaseContainer, name: str, content: str) -> None:
    """A database that is saved, and whose extension of the same name loses its function afterwards."""
    add_extension(server, name, f"CREATE FUNCTION {name}() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    made(server, name, f"CREATE EXTENSION {name}; CREATE TABLE t AS SELECT 1 AS n; {content}")
    save(keeper, server)
    add_extension(server, name, "SELECT 1")


def test_an_object_that_cannot_be_made_is_left_out_with_all_that_belongs_to_it(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database("withered")
    server.sql("CREATE ROLE app")
    withered(
        keeper,
        server,
        "gone_view",
        "CREATE VIEW late AS SELECT gone_view() AS n; ALTER VIEW late OWNER TO app; COMMENT ON VIEW late IS 'late';"
        "REVOKE SELECT ON late FROM app",
    )
    call = restore(keeper, server, "gone_view", "--on-error", "skip")
    assert call.exit_code == 0, call.output
    fates = {one["object"]: one["outcome"] for one in outcome_of(call, "gone_view")["objects"]}
    assert fates["VIEW public.late"] == "left_out"
    assert set(fates.values()) == {"left_out"}
    assert server.sql("SELECT n FROM t", "gone_view") == "1"


def test_who_may_see_which_rows_is_never_left_out(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database("walled")
    withered(
        keeper,
        server,
        "gone_wall",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY open ON t USING (true);"
        "CREATE POLICY wall ON t AS RESTRICTIVE USING (gone_wall() = 1)",
    )
    call = restore(keeper, server, "gone_wall", "--on-error", "skip")
    assert call.exit_code == 1, call.output
    assert "POLICY public.t wall" in call.error["message"]
    assert server.sql("SELECT count(*) FROM pg_policy", "gone_wall") == "2"
    assert not leftovers(server)


# -- databases that need each other ------------------------------------------------------------------------


NEEDS = """
CREATE EXTENSION postgres_fdw;
CREATE EXTENSION dblink;
CREATE TABLE own AS SELECT {own} AS n;
CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname '{other}');
CREATE USER MAPPING FOR postgres SERVER other OPTIONS (user 'postgres', password_required 'false');
CREATE FOREIGN TABLE theirs (n int) SERVER other OPTIONS (table_name 'own');
"""


def test_databases_that_read_from_each_other_come_back_into_an_empty_cluster(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database("couple")
    for name, other, own in (("alpha", "beta", 1), ("beta", "alpha", 2)):
        made(server, name, NEEDS.format(other=other, own=own))
    server.sql("CREATE MATERIALIZED VIEW seen AS SELECT n FROM theirs", "alpha")
    server.sql(
        "CREATE MATERIALIZED VIEW seen AS SELECT n FROM dblink('dbname=alpha user=postgres', 'SELECT n FROM own') AS x(n int)",
        "beta",
    )
    server.sql("CREATE DATABASE gamma")
    save(keeper, server)
    drilled = keeper.call("drill", "--db", server.name)
    assert drilled.exit_code == 0, drilled.output
    for outcome in drilled.data["databases"]:
        fates = {one["object"]: one["outcome"] for one in outcome["objects"]}
        expected = {} if outcome["database"] == "gamma" else {"MATERIALIZED VIEW DATA public.seen": "unreachable"}
        assert fates == expected, outcome["database"]
    assert any("a drill has only this one" in one for one in drilled.data["warnings"])
    # Each finds the other gone.
    for name in ("alpha", "beta"):
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")
    call = keeper.call("restore", "--db", server.name, "--no-safety-snapshot", "--confirm", server.name)
    assert call.exit_code == 0, call.output
    assert not any(one["objects"] for one in call.data["databases"])
    assert server.sql("SELECT n FROM seen", "alpha") == "2"
    assert server.sql("SELECT n FROM seen", "beta") == "1"
    assert {"alpha", "beta", "gamma", "postgres"} == server.databases()
    assert not leftovers(server)


def test_a_database_that_reads_from_itself_comes_back_into_an_empty_cluster(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database("mirror")
    made(
        server,
        "mirror",
        "CREATE EXTENSION dblink; CREATE TABLE own AS SELECT 7 AS n;"
        "CREATE MATERIALIZED VIEW seen AS SELECT n FROM dblink('dbname=mirror user=postgres', 'SELECT n FROM own') AS x(n int)",
    )
    save(keeper, server)
    server.sql("DROP DATABASE mirror WITH (FORCE)")
    call = restore(keeper, server, "mirror")
    assert call.exit_code == 0, call.output
    assert outcome_of(call, "mirror")["objects"] == []
    assert server.sql("SELECT n FROM seen", "mirror") == "7"
    assert not leftovers(server)


def test_a_drill_is_not_red_for_what_the_empty_database_of_its_server_lacks(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database("pointing")
    server.sql("CREATE TABLE own AS SELECT 7 AS n")
    made(server, "pointing", NEEDS.format(other="postgres", own=1))
    server.sql("CREATE MATERIALIZED VIEW seen AS SELECT n FROM theirs", "pointing")
    save(keeper, server)
    drilled = keeper.call("drill", "--db", server.name, "--database", "pointing")
    assert drilled.exit_code == 0, drilled.output
    [outcome] = drilled.data["databases"]
    assert [one["outcome"] for one in outcome["objects"]] == ["unreachable"]


@pytest.fixture
def bare_image(prefix: str) -> Iterator[str]:
    """PostgreSQL in an image that cannot tell how much room a volume has."""
    tag = f"scalr-test-wild-{prefix}:bare"
    steps = "FROM postgres:17\nRUN rm -f $(command -v df) $(command -v stat)\n"
    docker("build", "--quiet", "--tag", tag, "-", stdin=steps, timeout=600)
    yield tag
    docker("rmi", "--force", tag, check=False)


def test_an_image_that_cannot_tell_its_room_is_drilled(
    bare_image: str, make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    server = make_database("bare", image=bare_image)
    made(server, "shop", "CREATE TABLE t AS SELECT 1 AS n")
    save(keeper, server)
    drilled = keeper.call("drill", "--db", server.name)
    assert drilled.exit_code == 0, drilled.output
    server.remove()
