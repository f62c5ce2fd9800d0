# SPDX-License-Identifier: GPL-3.0-or-later
"""Ordered dumps in a pass: their snapshots beside those from before, what they hold, and what a corrupt index does to a night."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable

import pytest

from tests.support.archive_comparison import Archive, read_archive
from tests.support.containers import AgentContainer, Call, DatabaseContainer
from tests.support.drills import drill

MakeDatabase = Callable[..., DatabaseContainer]

SHOP = """
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text);
INSERT INTO orders (note) SELECT 'order ' || n FROM generate_series(1, 3000) AS n;
UPDATE orders SET note = note || ', sent' WHERE id % 7 = 0;
CREATE TABLE customers AS SELECT n AS id, 'customer ' || n AS name FROM generate_series(1, 100) AS n;
CREATE INDEX ON customers (name);
ANALYZE;
"""
# A table that is read by its index, since a sort would not fit the memory; and one row of it that the index does not have.
LARGE = """
CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text);
ALTER TABLE events ALTER note SET STORAGE PLAIN;
INSERT INTO events (note) SELECT repeat('x', 2000) FROM generate_series(1, 30000);
VACUUM ANALYZE events;
UPDATE pg_index SET indisready = false WHERE indexrelid = 'events_pkey'::regclass;
INSERT INTO events (note) VALUES ('hidden');
UPDATE pg_index SET indisready = true WHERE indexrelid = 'events_pkey'::regclass;
"""


def dump(agent: AgentContainer, database: DatabaseContainer, name: str, snapshot: str) -> Archive:
    """A saved archive, as plain restic gives it back."""
    script = (
        "RESTIC_REPOSITORY=/repository RESTIC_CACHE_DIR=/var/cache/scalr-backup/restic HOME=/tmp "
        f"RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password restic dump {snapshot} '/{database.name}/{name}.dump'"
    )
    done = subprocess.run(
        ["docker", "exec", agent.name, "sh", "-c", script], capture_output=True, timeout=120, check=True
    )
    return read_archive(done.stdout)


def keys(archive: Archive, table: str = "orders") -> list[int]:
    return [int(line.split(b"\t")[0]) for line in archive.table_data("public", table).lines]


def outcome(call: Call | dict, name: str) -> dict:
    data = call.data if isinstance(call, Call) else call
    [found] = [one for one in data["databases"] if one["database"] == name]
    return dict(found)


def saved(agent: AgentContainer, database: DatabaseContainer, name: str) -> str:
    """A pass's snapshot of a database."""
    data = agent.ok("backup", "--reason", "nightly", "--db", database.name)
    assert outcome(data, name)["ok"]
    assert outcome(data, name)["count_error"] is None
    return str(outcome(data, name)["snapshot_id"])


@pytest.fixture(scope="module")
def shop(make_database: MakeDatabase) -> DatabaseContainer:
    database = make_database("shop", environment={"POSTGRES_PASSWORD": "x", "POSTGRES_DB": "shop"}, image="postgres:18")
    database.sql(SHOP, "shop")
    return database


class TestSnapshotsFromBeforeAndFromNow:
    def test_are_restored_drilled_and_kept_alike(self, agent: AgentContainer, shop: DatabaseContainer) -> None:
        agent.configure(
            row_order="off", row_order_least_bytes=0, keep={"last": 3, "daily": 0, "weekly": 0, "monthly": 0}
        )
        old, before = saved(agent, shop, "shop"), shop.fingerprint("shop")
        agent.configure(row_order="auto")
        shop.sql("UPDATE orders SET note = 'changed' WHERE id < 100", "shop")
        new, then = saved(agent, shop, "shop"), shop.fingerprint("shop")

        archives = [dump(agent, shop, "shop", one) for one in (old, new)]
        assert keys(archives[0]) != sorted(keys(archives[0])), "rows lie in the heap otherwise than by their keys"
        # Its newest rows come first: they lie beside those of the table before it.
        assert keys(archives[1]) == list(range(3000, 0, -1))
        assert [entry.label for entry in archives[0].entries] == [entry.label for entry in archives[1].entries]
        manifest = json.loads(agent.restic("dump", "--path", "/manifest.json", "latest", "/manifest.json"))
        described = {one["database"]: one for one in manifest["clusters"][0]["databases"]}["shop"]
        assert described["row_counts"] == {'"public"."customers"': 100, '"public"."orders"': 3000}

        for snapshot, content in ((old, before), (new, then)):
            shop.sql("TRUNCATE orders, customers", "shop")
            done = agent.ok(
                "restore", "--db", shop.name, "--snapshot", snapshot, "--no-safety-snapshot", "--confirm", shop.name
            )
            assert done["databases"][0]["verified"]["rows"] == 3100
            assert shop.fingerprint("shop") == content
            assert drill(agent, "--db", shop.name, "--snapshot", snapshot).exit_code == 0

        for _night in range(2):
            saved(agent, shop, "shop")
        kept = {one["id"] for one in agent.ok("snapshots", "--db", shop.name)["snapshots"]}
        assert len(kept) == 3
        assert new in kept
        assert old not in kept
        assert agent.ok("check")["errors"] == 0

    def test_one_table_of_a_dump_comes_back_with_the_container_s_own_pg_restore(
        self, keeper: AgentContainer, shop: DatabaseContainer
    ) -> None:
        """As somebody without this software restores it."""
        keeper.configure(row_order="auto", row_order_least_bytes=0)
        snapshot = saved(keeper, shop, "shop")
        before = shop.fingerprint("shop")
        shop.sql("TRUNCATE orders", "shop")
        restic = (
            "RESTIC_REPOSITORY=/repository HOME=/tmp RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password "
            f"restic dump {snapshot} /{shop.name}/shop.dump"
        )
        pipe = (
            f"docker exec {keeper.name} sh -c '{restic}' | "
            f"docker exec -i {shop.name} pg_restore -e -U postgres --data-only -t orders -d shop"
        )
        subprocess.run(["bash", "-o", "pipefail", "-c", pipe], check=True, timeout=120)
        assert shop.fingerprint("shop") == before


class TestAnIndexThatLacksEntries:
    def test_is_named_that_night_and_its_table_is_saved_whole(
        self, keeper: AgentContainer, shop: DatabaseContainer
    ) -> None:
        shop.sql("CREATE DATABASE broken")
        shop.sql(LARGE, "broken")
        keeper.configure(row_order="auto", row_order_least_bytes=1024 * 1024)
        try:
            data = keeper.ok("backup", "--db", shop.name)
            [warning] = [one for one in data["warnings"] if "events" in one]
            assert "public.events_pkey" in warning
            assert "30000" in warning.replace(",", "")
            assert "30001" in warning.replace(",", "")
            assert outcome(data, "broken")["rows"] == 30001
            # Of what the index gave, nothing remains: the one snapshot is that of the heap, which has all.
            listed = json.loads(keeper.restic("snapshots", "--json"))
            [one] = [one["id"] for one in listed if one["paths"] == [f"/{shop.name}/broken.dump"]]
            found = keys(dump(keeper, shop, "broken", one), "events")
            assert sorted(found) == list(range(1, 30002))

            [finding] = [one for one in keeper.call("status").data["findings"] if one["code"] == "index_damaged"]
            assert finding["database"] == "broken"
            assert "public.events_pkey" in finding["message"]

            # What the warning says to do helps, and so does the finding's own command.
            assert "REINDEX INDEX CONCURRENTLY public.events_pkey" in finding["command"]
            assert finding["command"].startswith(f"docker exec {shop.name} sh -c ")
            statement = re.search(r"REINDEX INDEX CONCURRENTLY [\w.]+", warning)
            assert statement, warning
            subprocess.run(["bash", "-c", finding["command"]], check=True, timeout=120)
            assert not [one for one in keeper.ok("backup", "--db", shop.name)["warnings"] if "events" in one]
            assert not [one for one in keeper.call("status").data["findings"] if one["code"] == "index_damaged"]
        finally:
            shop.sql("DROP DATABASE broken WITH (FORCE)")
