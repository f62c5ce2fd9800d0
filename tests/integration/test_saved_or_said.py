# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a container holds is saved or said not to be; and what is wrong with one container costs no other."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker
from tests.support.drills import drill
from tests.support.restores import add_extension

MakeDatabase = Callable[..., DatabaseContainer]

# An extension as queues in the wild are: it owns the tables that messages are put into, ships rows, and marks some tables as its
# configuration, one of them with a condition.
EXTENSION = """
CREATE SCHEMA queue;
CREATE TABLE queue.shipped (name text PRIMARY KEY);
INSERT INTO queue.shipped SELECT 'shipped ' || n FROM generate_series(1, 70) AS n;
CREATE TABLE queue.config (id int, body text);
SELECT pg_extension_config_dump('queue.config', '');
CREATE TABLE queue.kinds (id int, body text);
SELECT pg_extension_config_dump('queue.kinds', 'WHERE id >= 1000');
INSERT INTO queue.kinds SELECT n, 'shipped' FROM generate_series(1, 50) AS n;
CREATE TABLE queue.messages (id int, body text);
CREATE FUNCTION queue.make(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TABLE queue.%I (id int, body text)', 'q_' || name);
  EXECUTE format('ALTER EXTENSION scalr_queue ADD TABLE queue.%I', 'q_' || name);
END $$;
"""
SHOP = """
CREATE TABLE orders (id int PRIMARY KEY);
INSERT INTO orders SELECT n FROM generate_series(1, 10) AS n;
CREATE EXTENSION scalr_queue;
INSERT INTO queue.messages SELECT n, 'message' FROM generate_series(1, 500) AS n;
INSERT INTO queue.config VALUES (1, 'dumped');
INSERT INTO queue.kinds VALUES (7, 'lost'), (2000, 'dumped');
BEGIN; SELECT queue.make('orders'); INSERT INTO queue.q_orders VALUES (1, 'a'), (2, 'b'); COMMIT;
CREATE EXTENSION postgres_fdw;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere.invalid');
CREATE FOREIGN TABLE "Prices" (a int) SERVER far;
"""
LEFT_OUT = [
    {"relation": "queue.messages", "why": "extension", "extension": "scalr_queue", "rows": 500},
    {"relation": "queue.q_orders", "why": "extension", "extension": "scalr_queue", "rows": 2},
    {"relation": "queue.kinds", "why": "extension_filter", "extension": "scalr_queue", "rows": 1},
    {"relation": 'public."Prices"', "why": "foreign_table", "extension": None, "rows": None},
]


@pytest.fixture(scope="module")
def queue_image(make_database: MakeDatabase) -> Iterator[str]:
    """PostgreSQL with an extension that owns tables."""
    maker, tag = make_database("maker"), f"scalr-test-queue:{secrets.token_hex(4)}"
    add_extension(maker, "scalr_queue", EXTENSION)
    docker("commit", maker.name, tag)
    maker.remove()
    yield tag
    docker("image", "rm", "--force", tag, check=False)


@pytest.fixture
def shop(make_database: MakeDatabase, queue_image: str) -> Iterator[DatabaseContainer]:
    database = make_database("queue", image=queue_image)
    database.sql("CREATE DATABASE shop")
    database.sql(SHOP, "shop")
    yield database
    database.remove()


def of(data: dict[str, Any], database: str) -> dict[str, Any]:
    return next(one for one in data["databases"] if one["database"] == database)


def test_rows_that_pg_dump_leaves_out_are_counted_and_named_wherever_a_backup_is_relied_on(
    agent: AgentContainer, shop: DatabaseContainer
) -> None:
    data = agent.ok("backup")
    assert of(data, "shop")["left_out"] == LEFT_OUT
    [warning] = [one for one in data["warnings"] if "leaves out" in one]
    assert "queue.messages (500 rows, part of the extension scalr_queue)" in warning

    manifest = json.loads(agent.restic("dump", data["manifest_snapshot_id"], "/manifest.json"))
    assert of(manifest["clusters"][0], "shop")["left_out"] == LEFT_OUT
    status = agent.ok("status")
    assert of(status, "shop")["left_out"] == LEFT_OUT
    [finding] = [one for one in status["findings"] if one["code"] == "rows_left_out"]
    assert (finding["severity"], finding["database"]) == ("warning", "shop")
    assert "queue.messages (500 rows" in finding["message"]

    plan = agent.ok("restore", "--db", shop.name, "--database", "shop", "--plan")["plan"]
    assert any("queue.messages (500 rows" in one for one in plan["warnings"])
    # What is gone with the live database is said before it is replaced.
    [lost] = [one for one in plan["warnings"] if one.startswith("Replacing shop loses rows")]
    assert "queue.messages (500 rows" in lost
    assert "Prices" not in lost
    drilled = drill(agent, "--db", shop.name)
    assert (drilled.exit_code, of(drilled.data, "shop")["ok"]) == (0, True)
    assert any("queue.messages (500 rows" in one for one in drilled.data["warnings"])


def test_rows_that_an_extension_ships_are_nobodys_loss(
    agent: AgentContainer, make_database: MakeDatabase, queue_image: str
) -> None:
    fresh = make_database("fresh", image=queue_image)
    fresh.sql("CREATE EXTENSION scalr_queue; INSERT INTO queue.config VALUES (1, 'dumped')")
    try:
        data = agent.ok("backup", "--db", fresh.name)
        assert of(data, "postgres")["left_out"] == []
        assert data["warnings"] == []
    finally:
        fresh.remove()


def test_a_table_that_row_security_hides_is_named_before_pg_dump_refuses_it(
    agent: AgentContainer, make_database: MakeDatabase
) -> None:
    database = make_database("hidden", environment={"POSTGRES_PASSWORD": "x", "POSTGRES_USER": "app"}, user="app")
    database.sql("CREATE DATABASE shop", "app")
    database.sql(
        "CREATE TABLE t (x int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY",
        "shop",
    )
    database.sql("CREATE ROLE boss SUPERUSER LOGIN", "app")
    # The role that the cluster was made by stays a superuser; a server of a provider has another one.
    database.user = "boss"
    database.sql("ALTER ROLE app RENAME TO first; CREATE ROLE app LOGIN; ALTER DATABASE shop OWNER TO app", "shop")
    database.sql("ALTER TABLE t OWNER TO app", "shop")
    try:
        call = agent.call("backup", "--db", database.name)
        assert call.exit_code == 3
        error = of(call.data, "shop")["error"]
        assert error["code"] == "dump_failed"
        assert "row-level security hides rows of public.t from app" in error["message"]
        assert 'ALTER ROLE "app" BYPASSRLS' in error["message"]
    finally:
        database.remove()


def test_templates_and_what_lies_in_template1_come_back_with_their_flags(
    agent: AgentContainer, make_database: MakeDatabase
) -> None:
    database = make_database("whole")
    database.sql("CREATE DATABASE shop")
    database.sql("CREATE TABLE t AS SELECT 1 AS x", "shop")
    database.sql("CREATE DATABASE gis IS_TEMPLATE true CONNECTION LIMIT 7")
    database.sql("CREATE TABLE shapes AS SELECT n FROM generate_series(1, 9) AS n", "gis")
    database.sql("CREATE FUNCTION of_template1() RETURNS int LANGUAGE sql AS 'SELECT 1'", "template1")
    database.sql("CREATE DATABASE frozen; ALTER DATABASE frozen ALLOW_CONNECTIONS false")
    try:
        data = agent.ok("backup", "--db", database.name)
        assert {one["database"] for one in data["databases"]} == {"shop", "gis", "template1"}
        assert any(f"{database.name}/frozen is not backed up" in one for one in data["warnings"])
        found = agent.ok("discover", "--db", database.name)["containers"][0]
        assert [one["database"] for one in found["left_out_databases"]] == ["frozen"]
        agent.ok("backup")
        [finding] = [one for one in agent.ok("status")["findings"] if one["code"] == "database_left_out"]
        assert finding["database"] == "frozen"

        database.sql("ALTER DATABASE gis IS_TEMPLATE false CONNECTION LIMIT -1")
        database.sql("DROP TABLE shapes", "gis")
        database.sql("DROP FUNCTION of_template1()", "template1")
        restored = agent.ok("restore", "--db", database.name, "--confirm", database.name)

        assert {one["database"] for one in restored["databases"] if one["ok"]} == {"shop", "gis", "template1"}
        assert any("frozen was not backed up" in one for one in restored["plan"]["warnings"])
        flags = "SELECT datname, datistemplate, datallowconn, datconnlimit FROM pg_database WHERE NOT datname = 'template0' ORDER BY 1"
        assert database.sql(flags).splitlines() == [
            "frozen|f|f|-1", "gis|t|t|7", "postgres|f|t|-1", "shop|f|t|-1", "template1|t|t|-1",
        ]  # fmt: skip
        assert database.sql("SELECT count(*) FROM shapes", "gis") == "9"
        database.sql("CREATE DATABASE made_of_template1")
        assert database.sql("SELECT of_template1()", "made_of_template1") == "1"
        # What was a template when it was replaced is dropped all the same, and so it is by the next restore.
        again = agent.ok("restore", "--db", database.name, "--database", "gis", "--confirm", database.name)
        assert again["warnings"] == []
        drilled = drill(agent, "--db", database.name)
        assert (drilled.exit_code, {one["ok"] for one in drilled.data["databases"]}) == (0, {True})
    finally:
        database.remove()


def test_one_that_was_named_and_holds_nothing_is_a_failure_beside_one_that_is_saved(
    agent: AgentContainer, make_database: MakeDatabase
) -> None:
    full, empty = make_database("full"), make_database("empty")
    full.sql("CREATE TABLE t AS SELECT 1 AS x")
    empty.sql("ALTER DATABASE postgres ALLOW_CONNECTIONS false", "template1")
    try:
        call = agent.call("backup", "--db", full.name, "--db", empty.name)
        assert (call.exit_code, call.error["code"]) == (3, "nothing_saved")
        assert empty.name in call.error["message"]
        assert of(call.data, "postgres")["ok"]
        partly = agent.call("backup", "--db", full.name, "--db", "nobody-knows-this-one")
        assert (partly.exit_code, partly.error["code"]) == (1, "partly_unknown")
    finally:
        full.remove()
        empty.remove()


def test_a_container_with_a_name_of_249_characters_is_saved_and_restored(
    agent: AgentContainer, make_database: MakeDatabase, prefix: str
) -> None:
    database = make_database("x" * (249 - len(f"{prefix}--db")))
    assert len(database.name) == 249
    database.sql("CREATE TABLE t AS SELECT 1 AS x")
    try:
        agent.ok("backup", "--db", database.name)
        database.sql("DROP TABLE t")
        agent.ok("restore", "--db", database.name, "--confirm", database.name)
        assert database.sql("SELECT x FROM t") == "1"
        assert drill(agent, "--db", database.name).exit_code == 0
    finally:
        database.remove()


@pytest.mark.thorough
def test_one_that_the_engine_cannot_inspect_costs_no_other_container(
    agent_image: str, prefix: str, tmp_path: Path, make_database: MakeDatabase
) -> None:
    good, hung = make_database("good"), make_database("hung")
    agent = AgentContainer(tmp_path / "agent", [f"{prefix}-*-db"], agent_image)
    own = tmp_path / "haproxy.cfg"
    own.write_text(_hanging(Path("roles/backup/files/agent/socket-proxy/haproxy.cfg").read_text(), hung))
    own.chmod(0o644)
    agent.proxy = f"{agent.name}-socket-proxy"
    start_proxy = agent.start_proxy
    agent.start_proxy = lambda: start_proxy(  # type: ignore[method-assign]
        "--volume", f"{own}:/opt/scalr-backup/socket-proxy/haproxy.cfg:ro"
    )
    try:
        agent.start()
        agent.make_repository()
        call = agent.call("backup")
        assert call.exit_code == 3
        outcomes = {one["container"]: one for one in call.data["databases"]}
        assert outcomes[good.name]["ok"]
        assert outcomes[hung.name]["error"]["code"] == "unreachable"
        assert "The Docker Engine does not answer" in outcomes[hung.name]["error"]["message"]
        assert call.data["manifest_snapshot_id"]
        agent.ok("restore", "--db", good.name, "--confirm", good.name)
    finally:
        agent.remove()
        good.remove()
        hung.remove()


def _hanging(configuration: str, container: DatabaseContainer) -> str:
    """The socket proxy's configuration, in which one container's inspection gets no answer for two minutes."""
    full_id = docker("inspect", "--format", "{{.Id}}", container.name).stdout.strip()
    rule = f"    http-request tarpit if inspect {{ path_sub {full_id} }}\n"
    place = "    http-request set-var(txn.reason)"
    assert configuration.count(place) == 1
    return configuration.replace(place, rule + place).replace(
        "timeout connect 5s", "timeout connect 5s\n    timeout tarpit 2m"
    )
