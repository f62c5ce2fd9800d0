# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives and manifests that an attacker wrote: nothing of their text is a command, whatever stands in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.support.archives import dumped, save_as_dump, text_of, with_text
from tests.support.containers import AgentContainer, Call, DatabaseContainer, docker
from tests.support.restores import add_extension, one_sentence, save_as_manifest

# What psql takes for its own commands wherever it stands outside of quotes.
COMMANDS = """
\\! touch /tmp/owned-by-shell
\\copy (SELECT 1) TO PROGRAM 'touch /tmp/owned-by-copy'
\\set x `touch /tmp/owned-by-backquote`
\\o | touch /tmp/owned-by-pipe
\\o
"""
RUN = "20261101T030000Z-aaaa"
CONTENT = """
CREATE EXTENSION pg_cron;
CREATE TABLE customers (id int PRIMARY KEY);
CREATE TABLE orders (id int PRIMARY KEY, customer int CONSTRAINT of_customer REFERENCES customers);
INSERT INTO customers VALUES (1);
INSERT INTO orders SELECT n, 1 FROM generate_series(1, 10) AS n;
COMMENT ON DATABASE shop IS 'a shop';
ALTER DATABASE shop SET work_mem = '5MB';
GRANT CONNECT ON DATABASE shop TO tenant;
"""


@pytest.fixture(scope="module")
def server(make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    """A server with a database, a role without rights, and an extension that can be created under one name only."""
    made = make_database("hostile")
    add_extension(made, "pg_cron", "CREATE TABLE job (n int);")
    made.sql("CREATE ROLE tenant LOGIN; CREATE DATABASE shop")
    made.sql(CONTENT, "shop")
    return made


@pytest.fixture(scope="module")
def archive(server: DatabaseContainer) -> bytes:
    """What pg_dump writes of the database."""
    return dumped(server, "shop")


@pytest.fixture(autouse=True)
def untouched(server: DatabaseContainer) -> Iterator[None]:
    """Nothing that an archive says has happened, whatever became of the restore."""
    before = rows(server)
    yield
    marks = docker(
        "exec", server.name, "sh", "-c", "ls -d /tmp/owned* 2>/dev/null; rm -f /tmp/owned*", check=False
    ).stdout
    databases = server.databases()
    for name in databases - {"postgres", "shop"}:
        server.sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    assert marks == ""
    assert "owned" not in databases
    assert server.sql("SELECT rolname FROM pg_roles WHERE rolsuper") == "postgres"
    assert not {name for name in databases if name.startswith("scalr_restore_")}
    assert rows(server) == before


def rows(server: DatabaseContainer) -> str:
    """What is in the tables of the live database."""
    return server.sql("TABLE customers; TABLE orders", "shop")


def restored(keeper: AgentContainer, server: DatabaseContainer, archive: bytes, *options: str) -> Call:
    """The restore of such an archive over the live database."""
    snapshot = save_as_dump(keeper, server.name, "shop", archive, RUN)
    return keeper.call(
        "restore", "--db", server.name, "--database", "shop", "--snapshot", snapshot, "--without-manifest",
        "--no-safety-snapshot", "--confirm", server.name, *options,
    )  # fmt: skip


CREATE = "CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8'"


@pytest.mark.parametrize(
    ("begins", "text"),
    [
        ("CREATE DATABASE shop ", f"{CREATE}{COMMANDS};\n"),
        ("CREATE DATABASE shop ", f"{CREATE} LOCALE = 'C';\nCREATE DATABASE owned;\n"),
        ("CREATE DATABASE shop ", f"{CREATE} LOCALE = 'C' OWNER = tenant;\n"),
        ("CREATE DATABASE shop ", f"{CREATE} LOCALE = 'C\\'; ALTER ROLE tenant SUPERUSER; --';\n"),
        ("CREATE DATABASE shop ", "CREATE DATABASE shop WITH TEMPLATE = postgres;\n"),
        ("GRANT CONNECT ON DATABASE shop", f"GRANT CONNECT ON DATABASE shop TO tenant{COMMANDS};\n"),
        ("GRANT CONNECT ON DATABASE shop", "GRANT CONNECT ON DATABASE shop TO tenant; GRANT postgres TO tenant;\n"),
    ],
    ids=["commands", "a second statement", "an option", "quotes", "a template", "privileges", "a membership"],
)
def test_how_a_database_is_made_and_who_may_use_it_is_read_and_never_run(
    begins: str, text: str, keeper: AgentContainer, server: DatabaseContainer, archive: bytes
) -> None:
    call = restored(keeper, server, with_text(archive, begins, text))
    assert call.exit_code == 1, call.output
    assert one_sentence(call)["code"] == "unreadable_archive"


def test_what_else_an_archive_says_runs_nowhere_but_in_the_server(
    keeper: AgentContainer, server: DatabaseContainer, archive: bytes
) -> None:
    key = "ALTER TABLE ONLY public.orders\n    ADD CONSTRAINT of_customer"
    for begins, more in (
        ("ALTER DATABASE shop SET work_mem", COMMANDS),
        ("COMMENT ON DATABASE shop", f";\nALTER ROLE tenant SUPERUSER;{COMMANDS}"),
        # An extension that is created under the final name, and a key that is tried again as one that is not valid.
        ("CREATE EXTENSION IF NOT EXISTS pg_cron", COMMANDS),
        (key, COMMANDS),
    ):
        archive = with_text(archive, begins, text_of(archive, begins).rstrip("; \n") + f"{more};\n")
    call = restored(keeper, server, archive, "--on-error", "skip")
    assert call.exit_code == 0, call.output
    told = " ".join(call.data["plan"]["warnings"])
    assert "DATABASE PROPERTIES shop" in told
    assert "COMMENT DATABASE shop" in told
    [outcome] = call.data["databases"]
    assert {(one["object"], one["outcome"]) for one in outcome["objects"]} >= {
        ("EXTENSION pg_cron", "left_out"), ("FK CONSTRAINT public.orders of_customer", "left_out"),
    }, outcome["objects"]  # fmt: skip
    assert server.sql("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'") == ""


def test_roles_of_a_manifest_are_read_and_never_run(
    keeper: AgentContainer, server: DatabaseContainer, archive: bytes
) -> None:
    run = "20261102T030000Z-bbbb"
    globals_sql = (
        "CREATE ROLE newcomer;\n"
        f"ALTER ROLE newcomer WITH LOGIN{COMMANDS};\n"
        f"ALTER ROLE newcomer SET work_mem TO '8MB'{COMMANDS};\n"
        f"COMMENT ON ROLE newcomer IS 'x'{COMMANDS};\n"
        f"GRANT newcomer TO tenant{COMMANDS};\n"
        "ALTER ROLE newcomer SET x TO 'y'; ALTER ROLE tenant SUPERUSER;\n"
    )
    cluster = {"container": server.name, "server_version": "17.0", "globals": globals_sql, "databases": []}
    save_as_manifest(keeper, run, json.dumps({"version": 1, "run": run, "host": "test-host", "clusters": [cluster]}))
    owned = archive.replace(b"\x06\x00\x00\x00tenant", b"\x08\x00\x00\x00newcomer")
    snapshot = save_as_dump(keeper, server.name, "shop", owned, run)
    keeper.call(
        "restore", "--db", server.name, "--database", "shop", "--snapshot", snapshot, "--no-safety-snapshot",
        "--confirm", server.name,
    )  # fmt: skip
    server.sql("DROP OWNED BY newcomer; DROP ROLE newcomer", check=False)


# A role without any right but to a schema of its own; what runs its functions is written down by them.
TENANT = """
CREATE SCHEMA rented AUTHORIZATION tenant;
SET SESSION AUTHORIZATION tenant;
CREATE TABLE rented.seen (place text, who text);
CREATE FUNCTION rented.note(text) RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN INSERT INTO rented.seen VALUES ($1, current_user); RETURN true; END';
CREATE FUNCTION rented.key(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
  'BEGIN PERFORM rented.note(''index''); RETURN $1; END';
CREATE TABLE rented.flats (n int CHECK (rented.note('check')));
INSERT INTO rented.flats VALUES (1);
CREATE INDEX ON rented.flats (rented.key(n));
CREATE MATERIALIZED VIEW rented.summary AS SELECT rented.note('view') AS noted;
TRUNCATE rented.seen;
RESET SESSION AUTHORIZATION;
CREATE TABLE rented.plain (price numeric(10,2) CHECK (price > 0 AND length(price::text) < 9));
"""
# Before anything is restored, whoever has no right tries to get into what is half made.
LOOK_INTO_IT = """
half=$(env -u PGOPTIONS psql -XAtU postgres -d postgres -c "SELECT datname FROM pg_database WHERE datname ~ '^scalr_restore_2'")
if [ "$half" ]; then env -u PGOPTIONS -u PGPASSWORD psql -XAtU tenant -d "$half" -c 'SELECT 7' >> /tmp/tenant-got 2>&1; fi
exec "$real" "$@"
"""


def test_owners_whose_code_a_restore_runs_are_named_before_it_and_do_not_get_into_what_is_half_made(
    keeper: AgentContainer, server: DatabaseContainer
) -> None:
    server.sql("CREATE DATABASE house")
    server.sql(TENANT, "house")
    snapshot = save_as_dump(keeper, server.name, "house", dumped(server, "house"), RUN)
    options = [
        "restore", "--db", server.name, "--database", "house", "--snapshot", snapshot, "--without-manifest",
        "--no-safety-snapshot",
    ]  # fmt: skip
    plan = keeper.call(*options, "--plan").data["plan"]
    assert plan["code_of"] == ["tenant"]
    [told] = [one for one in plan["warnings"] if "runs code of these owners" in one]
    assert "as postgres, a superuser: tenant." in told

    server.wrap("pg_restore", LOOK_INTO_IT)
    try:
        call = keeper.call(*options, "--confirm", server.name)
    finally:
        server.unwrap("pg_restore")
    assert call.exit_code == 0, call.output
    got = docker("exec", server.name, "cat", "/tmp/tenant-got").stdout
    assert 'too many connections for database "scalr_restore_2' in got
    assert "7" not in got.splitlines()
    # It is as the plan says, and no more than that.
    assert server.sql("SELECT DISTINCT place, who FROM rented.seen ORDER BY 1", "house").splitlines() == [
        "check|postgres", "index|tenant", "view|tenant",
    ]  # fmt: skip
    assert server.sql("SELECT datconnlimit FROM pg_database WHERE datname = 'house'") == "-1"
    tenant = docker("exec", server.name, "psql", "-XAtU", "tenant", "-d", "house", "-c", "SELECT 7").stdout
    assert tenant.strip() == "7"
