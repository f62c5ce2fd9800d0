# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores of real databases: every row comes back, and whatever goes wrong, the live database is as it was."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.containers import AgentContainer, Call, DatabaseContainer, docker, finish, wait_until
from tests.support.documented import documented
from tests.support.restores import (
    half_made,
    leftovers,
    one_sentence,
    outcome_of,
    portrait,
    reasons,
    save_as_manifest,
    session,
)

ROLES = """
CREATE ROLE shop_owner;
CREATE ROLE shop_reader;
CREATE ROLE "Odd ""Role";
"""
CREATE_SHOP = """
CREATE DATABASE shop OWNER shop_owner TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
COMMENT ON DATABASE shop IS 'it''s the shop';
ALTER DATABASE shop SET work_mem = '7MB';
ALTER DATABASE shop SET search_path = 'odd schema', public;
ALTER DATABASE shop CONNECTION LIMIT 50;
ALTER ROLE "Odd ""Role" IN DATABASE shop SET statement_timeout = '5s';
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO shop_reader;
GRANT ALL ON DATABASE shop TO "Odd ""Role" WITH GRANT OPTION;
"""
# About 3 MB in the archive: more than fits into the buffers between restic and pg_restore.
CONTENT = """
CREATE TABLE public.customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
INSERT INTO public.customers (name) SELECT 'M' || chr(252) || 'ller ' || n FROM generate_series(1, 500) AS n;
CREATE TABLE public.orders (id serial PRIMARY KEY, customer bigint REFERENCES public.customers, note text);
INSERT INTO public.orders (customer, note) SELECT 1 + n % 500, repeat(md5(n::text), 20) FROM generate_series(1, 4500) AS n;
SELECT setval('public.orders_id_seq', 90001);
CREATE INDEX ON public.orders (note, id);
CREATE SCHEMA "odd schema" AUTHORIZATION shop_owner;
CREATE TABLE "odd schema"."a ""table" ("a column" text);
INSERT INTO "odd schema"."a ""table" VALUES (E'\\\\.\\n'), (NULL), ('');
CREATE TABLE public.empty (id integer);
CREATE VIEW public.open_orders AS SELECT * FROM public.orders WHERE id % 2 = 0;
CREATE MATERIALIZED VIEW public.totals AS SELECT customer, count(*) FROM public.orders GROUP BY customer;
CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name = upper(NEW.name); RETURN NEW; END $$;
CREATE TRIGGER shout BEFORE INSERT ON public.customers FOR EACH ROW EXECUTE FUNCTION public.shout();
ALTER TABLE public.orders OWNER TO shop_owner;
GRANT SELECT ON public.orders TO shop_reader;
SELECT lo_from_bytea(4711, 'hello'), lo_from_bytea(4712, repeat('y', 50000)::bytea);
"""
DAMAGE_PROPERTIES = """
COMMENT ON DATABASE shop IS 'spoilt';
ALTER DATABASE shop SET work_mem = '1MB';
ALTER DATABASE shop RESET search_path;
GRANT CONNECT ON DATABASE shop TO PUBLIC;
REVOKE CONNECT ON DATABASE shop FROM shop_reader;
ALTER DATABASE shop OWNER TO postgres;
"""

# Stand-ins for a pg_restore that goes wrong; the agent's look at the table of contents goes through.
# What comes after the data goes through too.
LOOK = 'case "$*" in *--list*|*--section=post-data*) exec "$real" "$@";; esac\n'
DIES_IN_THE_MIDDLE = LOOK + 'head -c 400000 | "$real" "$@"'
STOPS_READING = LOOK + "head -c 400000 > /dev/null; exit 0"
LOSES_A_ROW = (
    LOOK
    + """
"$real" "$@" || exit
for argument in "$@"; do
  case "$argument" in --dbname=*) psql -X -q "$argument" -c 'DELETE FROM public.orders WHERE id = 7';; esac
done
"""
)
LOSES_A_NUMBER = (
    LOSES_A_ROW.replace("DELETE FROM public.orders WHERE id = 7", "SELECT setval('public.orders_id_seq', 90000)")
    .replace("-c '", '-c "')
    .replace("';;", '";;')
)
# It loads some of the data and then waits for a file; the rest of its input waits with it.
WAITS_IN_THE_MIDDLE = LOOK + ('{ head -c 400000; while [ ! -e /tmp/go-on ]; do sleep 0.1; done; cat; } | "$real" "$@"')
PG_RESTORE_IS_TOO_OLD = 'echo "pg_restore: error: unsupported version (1.16) in file header" >&2; exit 1'
PG_DUMP_WAITS = 'while [ ! -e /tmp/go-on ]; do sleep 0.1; done; exec "$real" "$@"'
PG_DUMP_FAILS = 'echo "pg_dump: error: no luck today" >&2; exit 1'

NAMES = (
    'My "Shop" DB',
    "back\\slash 'n quote",
    "-100%/größe ☃",
    "dbname=postgres user=nobody",
    # 63 bytes each, and alike for longer than the name of what they replace has room.
    "ü" * 30 + "no1",
    "ü" * 30 + "no2",
)


@dataclass
class House:
    """The database container that most tests share, its agent, and a good snapshot of its database shop."""

    agent: AgentContainer
    database: DatabaseContainer
    snapshot: str
    good: dict[str, Any]

    @property
    def name(self) -> str:
        return self.database.name

    def restore(self, *options: str, confirm: bool = True) -> Call:
        """Restore shop, without a safety snapshot unless the options say which."""
        return self.agent.call("restore", *self.arguments(*options, confirm=confirm))

    def start_restore(self, *options: str) -> subprocess.Popen[str]:
        """Start to restore shop."""
        return self.agent.start_call("restore", *self.arguments(*options))

    def arguments(self, *options: str, confirm: bool = True) -> list[str]:
        arguments = ["--db", self.name, "--database", "shop", *options]
        if "--snapshot" not in options:
            arguments += ["--snapshot", self.snapshot]
        return [*arguments, "--confirm", self.name] if confirm else arguments

    def refuses(self, *options: str, confirm: bool = True) -> dict[str, str]:
        """A restore has to fail, and must change nothing; its error."""
        before = self.database.fingerprint("shop"), self.database.databases()
        call = self.restore("--no-safety-snapshot", *options, confirm=confirm)
        assert call.exit_code == 1, call.output
        assert call.result["changed"] is False
        assert (self.database.fingerprint("shop"), self.database.databases()) == before
        return one_sentence(call)

    def wait_for_data(self) -> None:
        """Wait until a restore's data has begun to flow into its half-made database."""
        wait_until(lambda: self.database.processes("head") == 0 and half_made(self.database), "data flows")
        wait_until(lambda: self.database.processes("pg_restore") >= 1, "pg_restore runs")

    def go_on(self) -> None:
        """Let what waits go on."""
        docker("exec", self.name, "touch", "/tmp/go-on")

    def is_good(self) -> bool:
        """Whether shop is exactly what the good snapshot holds, and nothing is left beside it."""
        assert portrait(self.database, "shop") == self.good
        assert not leftovers(self.database)
        return True


def make_shop(database: DatabaseContainer) -> None:
    database.sql(ROLES + CREATE_SHOP)
    database.sql(CONTENT, "shop")


def spoil(database: DatabaseContainer) -> dict[str, str]:
    """Damage shop's data, differently each time; the fingerprint of the damaged database."""
    database.sql(
        """
        DROP TABLE IF EXISTS public.orders CASCADE;
        DELETE FROM public.customers WHERE id > 400;
        UPDATE public.customers SET name = name || '!' WHERE id < 50;
        CREATE TABLE IF NOT EXISTS public.intruder (id serial, at timestamptz DEFAULT clock_timestamp());
        INSERT INTO public.intruder DEFAULT VALUES;
        SELECT setval('public.customers_id_seq', 3);
        """,
        "shop",
    )
    return database.fingerprint("shop")


@pytest.fixture(scope="module")
def shared(make_database: Callable[..., DatabaseContainer], keeper: AgentContainer) -> House:
    """A shop with a good snapshot, beside another database."""
    # With an init: the stand-ins for pg_restore leave children, and a postmaster that has to reap a killed one
    # takes it for a crashed backend.
    database = make_database("house", options=["--init"])
    make_shop(database)
    database.sql("CREATE DATABASE ledger")
    database.sql("CREATE TABLE entries AS SELECT n FROM generate_series(1, 100) AS n", "ledger")
    # Pinned: retention keeps only the newest manual snapshot of a day.
    done = keeper.ok("backup", "--db", database.name, "--tag", "pinned")
    snapshot = next(one["snapshot_id"] for one in done["databases"] if one["database"] == "shop")
    return House(keeper, database, snapshot, portrait(database, "shop"))


@pytest.fixture
def house(shared: House) -> Iterator[House]:
    """The shared house, its shop damaged, with no trace of another test's accident."""
    if "shop" not in shared.database.databases():
        shared.database.sql(CREATE_SHOP)
        shared.database.sql(CONTENT, "shop")
    spoil(shared.database)
    yield shared
    shared.go_on()
    shared.agent.kill_processes("scalr_backup restore")
    shared.agent.kill_processes("scalr_backup backup")
    script = "rm -f /usr/local/sbin/pg_restore /usr/local/sbin/pg_dump; sleep 0.3; rm -f /tmp/go-on"
    docker("exec", shared.name, "sh", "-c", script)


# -- what comes back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [*(pytest.param(one, marks=pytest.mark.thorough) for one in ("15", "17")), "18"])
def test_a_damaged_database_comes_back_whole(
    version: str, make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    database = make_database(f"whole{version}", image=f"postgres:{version}")
    make_shop(database)
    good = portrait(database, "shop")
    saved = keeper.ok("backup", "--db", database.name)["databases"][0]
    spoil(database)
    database.sql(DAMAGE_PROPERTIES)
    damaged = portrait(database, "shop")
    assert all(damaged[what] != good[what] for what in ("rows", "schema", "beside"))

    call = keeper.call("restore", "--db", database.name, "--confirm", database.name)

    assert call.exit_code == 0, call.output
    assert portrait(database, "shop") == good
    assert not leftovers(database)
    assert call.result["changed"] is True
    outcome = outcome_of(call)
    assert outcome["ok"] is True
    assert outcome["error"] is None
    assert outcome["snapshot_id"] == saved["snapshot_id"]
    assert outcome["old_database"] is None
    assert outcome["duration_seconds"] > 0
    rows = sum(int(line.split()[0]) for line in good["rows"].values())
    assert outcome["verified"] == {"tables": len(good["rows"]), "rows": rows, "sequences": 2}
    assert outcome["jobs"] >= 1
    assert reasons(keeper, database.name)[outcome["safety_snapshot_id"]] == "pre-restore"
    plan = call.data["plan"]["databases"][0]
    assert plan["exists"] is True
    assert plan["snapshot"]["id"] == saved["snapshot_id"]
    assert plan["snapshot"]["dump_bytes"] == saved["bytes_read"]
    # The next identity is the one after the last saved row's, not the one after the damaged sequence's.
    new = database.sql("INSERT INTO public.customers (name) VALUES ('new') RETURNING id", "shop")
    assert new == "501"
    if version != "17":
        database.remove()
        return
    # latest is the regular snapshot still, although the safety snapshot is newer; and the safety snapshot restores.
    again = keeper.ok("restore", "--db", database.name, "--plan")
    assert again["plan"]["databases"][0]["snapshot"]["id"] == saved["snapshot_id"]
    keeper.ok(
        "restore", "--db", database.name, "--snapshot", outcome["safety_snapshot_id"][:12], "--no-safety-snapshot",
        "--confirm", database.name,
    )  # fmt: skip
    assert portrait(database, "shop") == damaged
    database.remove()


def test_a_database_that_is_gone_comes_back_and_the_others_stay(house: House) -> None:
    house.database.sql("INSERT INTO entries VALUES (-1)", "ledger")
    ledger = house.database.fingerprint("ledger")
    house.database.sql("DROP DATABASE shop")

    call = house.restore()

    assert call.exit_code == 0, call.output
    assert call.data["plan"]["databases"][0]["exists"] is False
    assert outcome_of(call)["safety_snapshot_id"] is None
    assert [one["database"] for one in call.data["databases"]] == ["shop"]
    assert house.is_good()
    assert house.database.fingerprint("ledger") == ledger


def test_the_database_that_the_agent_is_told_to_connect_to_is_lost_replaced_and_put_back(house: House) -> None:
    house.agent.configure(connections={house.name: {"database": "shop"}})
    try:
        house.database.sql("DROP DATABASE shop")
        [found] = house.agent.ok("discover", "--db", house.name)["containers"]
        assert (found["status"], [one["name"] for one in found["databases"]]) == ("ok", ["ledger"])
        call = house.restore()
        assert call.exit_code == 0, call.output
        assert house.is_good()
        spoil(house.database)
        call = house.agent.call(
            "restore", "--db", house.name, "--database", "shop", "--snapshot", house.snapshot, "--strategy", "replace",
            "--no-safety-snapshot", "--confirm", f"replace {house.name}",
        )  # fmt: skip
        assert call.exit_code == 0, call.output
        assert outcome_of(call)["dropped_first"] is True
        assert house.is_good()
        damaged = spoil(house.database)
        run = house.restore("--keep-old", "--no-safety-snapshot").data["run"]
        undone = house.agent.call("restore", "--undo", run, "--confirm", house.name)
        assert undone.exit_code == 0, undone.output
        assert house.database.fingerprint("shop") == damaged
        house.database.sql(f'DROP DATABASE "{outcome_of(undone)["old_database"]}"')
    finally:
        house.agent.configure(connections={})


def test_what_was_replaced_is_kept_on_request(house: House) -> None:
    damaged = house.database.fingerprint("shop")
    call = house.restore("--keep-old", "--no-safety-snapshot")
    assert call.exit_code == 0, call.output
    kept = outcome_of(call)["old_database"]
    assert kept.startswith("shop_before_restore_")
    assert kept in house.database.databases()
    assert house.database.fingerprint(kept) == damaged
    # No later run drops it, and none backs it up; a database of the user's that sounds alike is one of his.
    house.database.sql("CREATE DATABASE shop_restored_items")
    assert house.restore("--no-safety-snapshot").exit_code == 0
    assert house.database.fingerprint(kept) == damaged
    planned = {one["database"] for one in house.agent.ok("backup", "--db", house.name, "--dry-run")["plan"]}
    [found] = house.agent.ok("discover", "--db", house.name)["containers"]
    assert {"shop", "shop_restored_items"} <= planned == {one["name"] for one in found["databases"]}
    [copy] = found["kept_databases"]
    assert (copy["container"], copy["database"]) == (house.name, kept)
    assert kept not in planned
    docker(*shlex.split(copy["command"])[1:])
    house.database.sql("DROP DATABASE shop_restored_items")
    assert kept not in house.database.databases()
    assert house.is_good()


def test_names_that_trip_up_shells_urls_and_sql(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    database = make_database("names")
    # The maintenance database itself, and a user's database that begins like a half-made one, are among them.
    names = (*NAMES, "scalr_restore_notes", "postgres")
    for name in names:
        quoted = '"' + name.replace('"', '""') + '"'
        if name != "postgres":
            database.sql(f"CREATE DATABASE {quoted}")
        database.sql(f"CREATE TABLE t AS SELECT {len(name)} AS n; ALTER DATABASE {quoted} SET work_mem = '5MB'", name)
    good = {name: database.fingerprint(name) for name in names}
    settings = """
        SELECT datname, setconfig FROM pg_db_role_setting JOIN pg_database AS d ON d.oid = setdatabase
        WHERE NOT starts_with(datname, 'scalr_restore_2') AND datname NOT LIKE '%\\_before\\_restore\\_%' ORDER BY 1
    """
    settings_before = database.sql(settings)
    assert settings_before.count("work_mem=5MB") == len(names)
    saved = keeper.ok("backup", "--db", database.name)
    assert {one["database"] for one in saved["databases"]} == set(names)
    for name in names:
        database.sql("INSERT INTO t VALUES (0)", name)
    damaged = {name: database.fingerprint(name) for name in names}

    data = keeper.ok("restore", "--db", database.name, "--confirm", database.name, "--keep-old", "--no-safety-snapshot")

    assert {name: database.fingerprint(name) for name in names} == good
    kept = {one["database"]: one["old_database"] for one in data["databases"]}
    assert {name: database.fingerprint(kept[name]) for name in names} == damaged
    assert all(len(old.encode()) <= 63 for old in kept.values())
    assert database.databases() == {*names, *kept.values()}
    assert database.sql(settings) == settings_before
    one = keeper.ok("restore", "--db", database.name, "--database", NAMES[2], "--plan")
    assert [plan["database"] for plan in one["plan"]["databases"]] == [NAMES[2]]
    # And one of the others is stood in while the maintenance database itself is dropped first.
    database.sql("INSERT INTO t VALUES (0)")
    keeper.ok(
        "restore", "--db", database.name, "--database", "postgres", "--strategy", "replace", "--no-safety-snapshot",
        "--confirm", f"replace {database.name}",
    )  # fmt: skip
    assert database.fingerprint("postgres") == good["postgres"]
    assert database.sql(settings) == settings_before
    assert database.databases() == {*names, *kept.values()}
    database.remove()


def test_without_row_counts_the_restore_says_so(house: House) -> None:
    saved = house.agent.ok("backup", "--db", house.name)
    snapshot = next(one["snapshot_id"] for one in saved["databases"] if one["database"] == "shop")
    house.agent.restic("forget", saved["manifest_snapshot_id"])
    fingerprint = house.database.fingerprint("shop")
    spoil(house.database)

    call = house.restore("--snapshot", snapshot, "--no-safety-snapshot")

    assert call.exit_code == 0, call.output
    assert outcome_of(call)["verified"] is None
    assert any("no row counts" in warning for warning in call.data["plan"]["warnings"])
    assert house.database.fingerprint("shop") == fingerprint


def test_a_manifest_that_cannot_be_read_is_an_error_and_not_nothing(house: House) -> None:
    saved = house.agent.ok("backup", "--db", house.name)
    snapshot = next(one["snapshot_id"] for one in saved["databases"] if one["database"] == "shop")
    fingerprint = house.database.fingerprint("shop")
    manifest, run = saved["manifest_snapshot_id"], saved["run"]
    twin = save_as_manifest(house.agent, run, '{"clusters": []}')
    assert "several claim to be it" in house.refuses("--snapshot", snapshot)["message"]
    house.agent.restic("forget", manifest, twin)
    save_as_manifest(house.agent, run, '{"manifest_version": 1, "clusters": [{')
    error = house.refuses("--snapshot", snapshot)
    assert error["code"] == "unreadable_manifest"
    assert f"The manifest of the run {run} cannot be read: it is not valid JSON." in error["message"]
    house.database.sql("DROP OWNED BY shop_reader; DROP ROLE shop_reader", "shop")
    spoil(house.database)

    shown = documented("docker exec -it scalr-backup scalr-backup restore --db scalr-foo-db --without-manifest")
    call = house.restore("--snapshot", snapshot, "--no-safety-snapshot", shown.split()[-1])

    assert call.exit_code == 0, call.output
    assert outcome_of(call)["verified"] is None
    warnings = call.data["plan"]["warnings"]
    assert any(f"because its run {run} has no usable manifest" in one for one in warnings)
    assert any("The roles come from another pass" in one for one in warnings)
    assert call.data["roles_created"] == ["shop_reader"]
    assert house.database.fingerprint("shop") == fingerprint


def test_plain_restic_and_the_client_tools_are_enough(house: House) -> None:
    path = f"/{house.name}/shop.dump"
    restic = (
        "export RESTIC_REPOSITORY=/repository RESTIC_CACHE_DIR=/tmp/cache RESTIC_PASSWORD_FILE="
        f"/run/secrets/scalr-backup/password; exec restic dump --path '{path}' --tag pinned latest '{path}'"
    )
    house.database.sql("DROP DATABASE shop")
    script = (
        f'docker exec {house.agent.name} sh -c "{restic}" '
        f"| docker exec -i {house.name} pg_restore -U postgres --create --exit-on-error -d postgres"
    )
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert house.is_good()


# -- which snapshot ----------------------------------------------------------------------------------------


def test_snapshots_by_id_and_by_time(house: House) -> None:
    # Other tests have backed it up too, and one has spoiled the manifest of what it saved.
    for _time in range(2):
        house.agent.ok("backup", "--db", house.name, "--tag", "pinned")
    found = house.agent.ok("snapshots", "--db", house.name, "--database", "shop")["snapshots"]
    times = {one["id"]: datetime.fromisoformat(one["time"]) for one in found if one["reason"] == "manual"}
    *_older, before, newest = sorted(times, key=lambda one: times[one])

    def chosen(wanted: str) -> str:
        plan = house.agent.ok("restore", *house.arguments("--plan", "--snapshot", wanted))["plan"]["databases"]
        return str(plan[0]["snapshot"]["id"])

    good_time = times[house.snapshot].astimezone(UTC)
    assert chosen("latest") == newest
    assert chosen(house.snapshot[:10]) == house.snapshot
    assert chosen((times[newest] - timedelta(microseconds=1)).isoformat()) == before
    # As people write it, in the configured time zone; what a list shows to the second finds what it shows.
    assert chosen(f"{good_time:%Y-%m-%d %H:%M:%S}") == house.snapshot


def test_latest_is_the_newest_good_snapshot_of_each_database(house: House) -> None:
    def plan(wanted: str) -> dict[str, Any]:
        return dict(house.agent.ok("restore", "--db", house.name, "--snapshot", wanted, "--plan")["plan"])

    house.database.sql("CREATE DATABASE dropped")
    before = house.agent.ok("backup", "--db", house.name)["run"]
    house.database.sql("DROP DATABASE dropped")
    house.database.sql("CREATE DATABASE never")
    house.database.wrap("pg_dump", f'case "$*" in *ledger*|*never*) {PG_DUMP_FAILS};; esac; exec "$real" "$@"')
    call = house.agent.call("backup", "--db", house.name)
    house.database.unwrap("pg_dump")
    assert call.exit_code == 3, call.output

    latest = plan("latest")

    runs = {one["database"]: one["snapshot"]["run"] for one in latest["databases"]}
    assert runs == {"shop": call.data["run"], "ledger": before}
    assert latest["missing"] == ["never"]
    for words in ("ledger comes from another pass", "dropped is not restored", "never is missing"):
        assert any(words in warning for warning in latest["warnings"]), latest["warnings"]
    good = house.database.fingerprint("shop"), house.database.fingerprint("ledger")
    spoil(house.database)
    house.database.sql("DROP DATABASE ledger")
    house.database.sql("DROP DATABASE never")
    # Whatever has been saved by then, what was shown is what is restored.
    house.agent.ok("backup", "--db", house.name)
    restored = house.agent.call(
        "restore", "--db", house.name, "--snapshot", latest["snapshot"], "--confirm", house.name, "--no-safety-snapshot"
    )
    assert restored.exit_code == 3, restored.output
    assert "never was not restored" in one_sentence(restored)["message"]
    assert {one["database"]: one["ok"] for one in restored.data["databases"]} == {
        "shop": True, "ledger": True, "never": False,
    }  # fmt: skip
    assert all(outcome_of(restored, name)["verified"] for name in ("shop", "ledger"))
    assert (house.database.fingerprint("shop"), house.database.fingerprint("ledger")) == good


def test_snapshots_that_cannot_be_meant(house: House) -> None:
    snapshots = house.agent.ok("snapshots")["snapshots"]
    of_ledger = next(one["id"] for one in snapshots if one["database"] == "ledger")
    newest = max((one for one in snapshots if one["path"] == f"/{house.name}/shop.dump"), key=lambda one: one["time"])
    assert house.refuses("--snapshot", "feedfacedeadbeef")["code"] == "unknown_snapshot"
    error = house.refuses("--snapshot", "before the flood")
    assert error["code"] == "unknown_snapshot"
    assert newest["id"][:8] in error["message"]
    assert house.refuses("--snapshot", "2001-01-01")["code"] == "unknown_snapshot"
    error = house.refuses("--snapshot", of_ledger)
    assert error["code"] == "unknown_snapshot"
    assert f"/{house.name}/ledger.dump" in error["message"]
    error = house.refuses("--database", "nowhere")
    assert error["code"] == "unknown_database"
    assert "ledger" in error["message"]


def test_another_containers_snapshot(
    house: House, make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    neighbour = make_database("neighbour")
    neighbour.sql("CREATE DATABASE shop")
    neighbour.sql("CREATE TABLE t (id integer)", "shop")
    theirs = keeper.ok("backup", "--db", neighbour.name)["databases"][0]["snapshot_id"]
    error = house.refuses("--snapshot", theirs)
    assert error["code"] == "unknown_snapshot"
    assert neighbour.name in error["message"]
    # And one of a database that has none at all, of a container that stopped, and of none.
    neighbour.sql("CREATE DATABASE other")
    call = keeper.call("restore", "--db", neighbour.name, "--database", "other", "--confirm", neighbour.name)
    assert one_sentence(call)["code"] == "unknown_database"
    docker("stop", "--time", "2", neighbour.name)
    call = keeper.call("restore", "--db", neighbour.name, "--confirm", neighbour.name)
    assert one_sentence(call)["code"] == "container_stopped"
    neighbour.remove()
    call = keeper.call("restore", "--db", neighbour.name, "--confirm", neighbour.name)
    error = one_sentence(call)
    assert error["code"] == "unknown_database"
    assert house.name in error["message"]


# -- nothing without the operator's word -------------------------------------------------------------------


def test_a_plan_or_a_wrong_word_changes_nothing(house: House) -> None:
    damaged = house.database.fingerprint("shop")
    snapshots = reasons(house.agent, house.name)
    plan = house.agent.ok("restore", *house.arguments("--plan"))
    assert plan["run"] is None
    assert plan["databases"] == []
    assert plan["plan"]["databases"][0]["size_bytes"] > 1e6
    assert plan["plan"]["free_bytes"] > 0
    for confirm in ([], ["--confirm", house.name.upper()]):
        call = house.restore(*confirm, confirm=False)
        error = one_sentence(call)
        assert call.exit_code == 1
        assert error["code"] == "not_confirmed"
        assert house.name in error["message"]
    assert house.database.fingerprint("shop") == damaged
    assert not leftovers(house.database)
    assert reasons(house.agent, house.name) == snapshots


# -- the app meanwhile -------------------------------------------------------------------------------------


def test_the_app_works_until_the_swap_and_cannot_keep_it_from_happening(house: House) -> None:
    loop = (
        "while [ ! -e /tmp/go-home ]; do psql -XAtq -U postgres -d shop -c 'SELECT pg_sleep(0.3)' "
        "&& date +%s.%N > /tmp/served.$$ && mv /tmp/served.$$ /tmp/app-was-served; done"
    )
    for _number in range(6):
        docker("exec", "--detach", house.name, "bash", "-c", loop)
    house.database.wrap("pg_restore", WAITS_IN_THE_MIDDLE)
    try:
        with session(house.database, "shop") as query:
            assert query("SELECT count(*) > 0 FROM intruder;") == "t"
            restore = house.start_restore("--no-safety-snapshot")
            house.wait_for_data()
            # The replacement is half full, and the session that was open before works on, writes too.
            assert query("INSERT INTO intruder DEFAULT VALUES RETURNING 'written';") == "written"
            house.go_on()
            call = finish(restore)
            assert call.exit_code == 0, call.output
            assert query("SELECT 'still here';") != "still here"
        swapped = time.time()
        wait_until(
            lambda: float(docker("exec", house.name, "cat", "/tmp/app-was-served").stdout) > swapped,
            "the app has found the restored database",
        )
    finally:
        docker("exec", house.name, "touch", "/tmp/go-home")
    assert house.is_good()


def test_a_swap_that_cannot_happen_gives_up_soon(house: House) -> None:
    damaged = house.database.fingerprint("shop")
    started = time.monotonic()
    with session(house.database, "postgres") as query:
        assert query("BEGIN; COMMENT ON DATABASE shop IS 'an administrator works'; SELECT 'held';") == "held"
        call = house.restore("--no-safety-snapshot")
    assert one_sentence(call)["code"] == "restore_failed"
    assert "swap failed and changed nothing" in call.error["message"]
    assert time.monotonic() - started < 200
    assert house.database.fingerprint("shop") == damaged
    assert not leftovers(house.database)


# -- what goes wrong before the swap -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "accident", "code", "words"),
    [
        ("pg_restore", DIES_IN_THE_MIDDLE, "restore_failed", "pg_restore in "),
        pytest.param(
            "pg_restore",
            STOPS_READING,
            "restore_failed",
            "before it had read the whole archive",
            marks=pytest.mark.thorough,
        ),
        pytest.param("pg_dump", PG_DUMP_FAILS, "restore_failed", "no luck today", marks=pytest.mark.thorough),
    ],
    ids=["dies", "stops-reading", "no-safety-snapshot"],
)
def test_an_accident_before_the_swap_changes_nothing(
    house: House, program: str, accident: str, code: str, words: str
) -> None:
    damaged = house.database.fingerprint("shop")
    house.database.wrap(program, accident)
    safety = ["--no-safety-snapshot"] if program == "pg_restore" else []
    call = house.restore(*safety)
    assert call.exit_code == 1, call.output
    assert call.result["changed"] is False
    error = one_sentence(call)
    assert error["code"] == code
    assert words in error["message"]
    assert outcome_of(call)["error"] == error
    assert house.database.fingerprint("shop") == damaged
    assert not leftovers(house.database)


@pytest.mark.parametrize(
    ("accident", "words"),
    [
        (LOSES_A_ROW, "4500 expected, 4499 restored"),
        pytest.param(
            LOSES_A_NUMBER,
            'sequence "public"."orders_id_seq": 90001 expected, 90000 restored',
            marks=pytest.mark.thorough,
        ),
    ],
    ids=["a-row", "a-sequence"],
)
def test_a_copy_that_differs_is_not_swapped_in_and_both_are_kept(house: House, accident: str, words: str) -> None:
    damaged = house.database.fingerprint("shop")
    house.database.wrap("pg_restore", accident)
    call = house.restore("--no-safety-snapshot")
    assert call.exit_code == 1, call.output
    error = one_sentence(call)
    assert error["code"] == "verification_failed"
    assert words in error["message"]
    assert house.database.fingerprint("shop") == damaged
    kept = outcome_of(call)["kept_database"]
    assert kept == f"shop_restored_{call.data['run'].lower()}"
    assert kept in error["message"]
    assert house.database.sql("SELECT count(*) FROM customers", kept) == "500"
    assert not leftovers(house.database)
    # It is the operator's now: a further restore leaves it alone.
    house.database.unwrap("pg_restore")
    assert house.restore("--no-safety-snapshot").exit_code == 0
    assert kept in house.database.databases()
    house.database.sql(f'DROP DATABASE "{kept}"')
    assert house.is_good()


def test_a_role_that_is_gone_is_made_again(house: House) -> None:
    house.database.sql("ALTER DATABASE shop RESET ALL; REVOKE ALL ON DATABASE shop FROM shop_reader")
    house.database.sql("DROP OWNED BY shop_reader", "shop")
    house.database.sql("DROP ROLE shop_reader")
    call = house.restore("--no-safety-snapshot")
    assert call.exit_code == 0, call.output
    assert call.data["plan"]["roles"] == ["shop_reader"]
    assert call.data["roles_created"] == ["shop_reader"]
    assert house.is_good()


def test_a_prepared_transaction_is_noticed_beforehand(
    make_database: Callable[..., DatabaseContainer], keeper: AgentContainer
) -> None:
    database = make_database("prepared", command=["postgres", "-c", "max_prepared_transactions=5"])
    database.sql("CREATE DATABASE shop")
    database.sql("CREATE TABLE t (id integer)", "shop")
    keeper.ok("backup", "--db", database.name)
    database.sql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'held'", "shop")
    call = keeper.call("restore", "--db", database.name, "--confirm", database.name)
    assert one_sentence(call)["code"] == "prepared_transactions"
    assert "COMMIT PREPARED" in call.error["message"]
    database.sql("COMMIT PREPARED 'held'", "shop")
    assert database.sql("SELECT count(*) FROM t", "shop") == "1"
    database.remove()


@dataclass
class SmallHouse:
    """A database on a small volume, with a snapshot of it, and what must not change."""

    agent: AgentContainer
    database: DatabaseContainer
    before: Any = None

    def fill(self, left_megabytes: int) -> None:
        """Leave so much room."""
        script = 'free=$(df --output=avail -m "$1" | tail -1); fallocate -l $((free - $2))M "$1/filler"'
        docker("exec", self.database.name, "sh", "-c", script, "sh", "/var/lib/postgresql/data", str(left_megabytes))

    def empty(self) -> None:
        docker("exec", self.database.name, "rm", "-f", "/var/lib/postgresql/data/filler")

    def state(self) -> Any:
        started = self.database.sql("SELECT pg_postmaster_start_time()")
        return self.database.fingerprint("shop"), self.database.databases(), started

    def arguments(self) -> list[str]:
        name = self.database.name
        return ["restore", "--db", name, "--database", "shop", "--no-safety-snapshot", "--confirm", name]

    def watchers(self) -> int:
        """How many processes look at the room."""
        script = "grep -l '[t]ell() {' /proc/[0-9]*/cmdline 2>/dev/null | wc -l"
        return int(docker("exec", self.database.name, "sh", "-c", script, check=False).stdout)


@pytest.fixture(scope="module")
def small_house(make_database: Callable[..., DatabaseContainer], keeper: AgentContainer) -> SmallHouse:
    """A volume of 700 MB, of which PostgreSQL takes 40.

    With an init: what a stand-in for pg_restore leaves behind when it is killed is not the postmaster's then.
    """
    database = make_database("small", options=["--init", "--tmpfs", "/var/lib/postgresql/data:size=700m"])
    database.sql("CREATE DATABASE shop")
    database.sql("CREATE TABLE t AS SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 4500) AS n", "shop")
    keeper.ok("backup", "--db", database.name)
    database.sql("INSERT INTO t VALUES (2)", "shop")
    return SmallHouse(keeper, database)


@pytest.fixture
def small(small_house: SmallHouse) -> Iterator[SmallHouse]:
    """The same with all its room; in whatever it does, the server and the live database stay as they are."""
    small_house.before = small_house.state()
    yield small_house
    for program in ("pg_restore", "df", "stat"):
        small_house.database.unwrap(program)
    small_house.empty()
    assert small_house.state() == small_house.before
    assert not leftovers(small_house.database)
    wait_until(lambda: small_house.watchers() == 0, "nobody looks any more")


@pytest.mark.parametrize("last", [["--plan"], []])
def test_no_room_for_a_second_copy(small: SmallHouse, last: list[str]) -> None:
    small.fill(250)
    error = one_sentence(small.agent.call(*small.arguments(), *last))
    assert error["code"] == "no_room"
    assert re.search(
        r"has 2\d\d\.\d MiB free, and a restore beside .* takes up to \d{3}\.\d MiB: [\d.]+ [KM]iB of rows",
        error["message"],
    )
    for words in (small.database.name, "of write-ahead log", "strategy=replace", "target="):
        assert words in error["message"]


def test_room_that_goes_while_a_restore_runs_is_left_to_the_live_server(small: SmallHouse) -> None:
    small.database.wrap("pg_restore", WAITS_IN_THE_MIDDLE)
    restore = small.agent.start_call(*small.arguments())
    wait_until(lambda: half_made(small.database) and small.watchers() > 0, "the restore is watched")
    # The live server, or anybody else who shares the volume, takes it.
    small.fill(200)
    call = finish(restore)
    assert call.exit_code == 1
    error = outcome_of(call)["error"]
    assert error["code"] == "no_room_left"
    # How early depends on how fast it goes: whoever sees half of it gone at once does not wait for the other half.
    assert re.search(r"gave up with \d{3}\.\d MiB left on the volume of /var/lib/postgresql/data", error["message"])
    assert "the live shop is as it was" in error["message"]
    log = docker("logs", small.database.name)
    assert "terminating any other active server processes" not in log.stdout + log.stderr, (log.stdout + log.stderr)[
        -3000:
    ]
    assert call.data["warnings"] == []
    assert not half_made(small.database)


def test_room_that_nobody_can_see_is_none(small: SmallHouse) -> None:
    for program in ("df", "stat"):
        small.database.wrap(program, "exit 1")
    error = one_sentence(small.agent.call(*small.arguments()))
    assert error["code"] == "room_unknown"
    assert small.database.name in error["message"]


def test_who_watches_for_a_restore_that_was_killed_is_ended_by_the_next_run(small: SmallHouse) -> None:
    small.database.wrap("pg_restore", WAITS_IN_THE_MIDDLE)
    restore = small.agent.start_call(*small.arguments())
    wait_until(lambda: half_made(small.database) and small.watchers() > 0, "the restore is watched")
    small.agent.kill_processes("scalr_backup restore")
    restore.communicate()
    small.database.unwrap("pg_restore")
    small.agent.ok("backup", "--db", small.database.name)


def test_an_archive_that_the_containers_pg_restore_cannot_read(house: House) -> None:
    house.database.wrap("pg_restore", PG_RESTORE_IS_TOO_OLD)
    error = house.refuses()
    assert error["code"] == "unreadable_archive"
    assert "unsupported version" in error["message"]
    assert house.name in error["message"]


# -- runs that are ended, killed, or meet ------------------------------------------------------------------


def test_a_restore_that_is_told_to_stop_cleans_up(house: House) -> None:
    damaged = house.database.fingerprint("shop")
    house.database.wrap("pg_restore", WAITS_IN_THE_MIDDLE)
    restore = house.start_restore("--no-safety-snapshot")
    house.wait_for_data()
    house.agent.kill_processes("scalr_backup restore", "TERM")
    call = finish(restore)
    assert call.exit_code == 1
    assert one_sentence(call)["code"] == "interrupted"
    assert house.database.fingerprint("shop") == damaged
    assert not leftovers(house.database)
    assert not house.agent.restic("list", "locks", "--no-lock").split()


def test_a_killed_restore_is_cleaned_up_by_the_next_pass(house: House) -> None:
    damaged = house.database.fingerprint("shop")
    house.database.wrap("pg_restore", WAITS_IN_THE_MIDDLE)
    restore = house.start_restore("--no-safety-snapshot")
    house.wait_for_data()
    house.agent.kill_processes("scalr_backup restore")
    restore.communicate()
    assert house.database.fingerprint("shop") == damaged
    assert "processes" in leftovers(house.database)
    house.database.unwrap("pg_restore")

    done = house.agent.ok("backup", "--db", house.name)

    assert not leftovers(house.database)
    assert {one["database"] for one in done["databases"]} == {"shop", "ledger"}
    told = " ".join(done["warnings"])
    assert "was killed before its swap" in told
    assert f"of a killed run in {house.name}" in told
    assert house.database.fingerprint("shop") == damaged


# So it is in every phase, in the tests of interrupted restores.
@pytest.mark.thorough
def test_a_killed_restore_is_cleaned_up_by_the_next_restore(house: House) -> None:
    house.database.wrap("pg_restore", WAITS_IN_THE_MIDDLE)
    restore = house.start_restore("--no-safety-snapshot")
    house.wait_for_data()
    house.agent.kill_processes("scalr_backup restore")
    restore.communicate()
    house.database.unwrap("pg_restore")
    call = house.restore("--no-safety-snapshot")
    assert call.exit_code == 0, call.output
    assert any("was killed before its swap" in warning for warning in call.data["warnings"])
    assert house.is_good()


def test_a_restore_killed_between_swap_and_drop_is_finished_by_the_next_run(house: House) -> None:
    # DROP DATABASE looks for security labels to delete, a rename leaves them alone.
    with session(house.database, "postgres") as query:
        assert query("BEGIN; LOCK TABLE pg_shseclabel IN SHARE MODE; SELECT 'held';") == "held"
        restore = house.start_restore("--no-safety-snapshot")
        waiting = "FROM pg_stat_activity WHERE query LIKE 'DROP DATABASE%' AND wait_event_type = 'Lock'"
        wait_until(lambda: house.database.sql(f"SELECT count(*) {waiting}") == "1", "the drop waits")
        house.agent.kill_processes("scalr_backup restore")
        restore.communicate()
        house.database.sql(f"SELECT pg_terminate_backend(pid) {waiting}")
    assert portrait(house.database, "shop") == house.good
    [old] = [name for name in house.database.databases() if name.startswith("shop_before_restore_")]

    done = house.agent.ok("backup", "--db", house.name)

    assert old not in house.database.databases()
    assert any("had swapped but not yet dropped the old database" in one for one in done["warnings"])
    assert house.is_good()


def test_what_cannot_be_dropped_is_told_and_stands_in_nobodys_way(house: House) -> None:
    # DROP DATABASE looks for security labels to delete, a rename leaves them alone.
    with session(house.database, "postgres") as query:
        assert query("BEGIN; LOCK TABLE pg_shseclabel IN SHARE MODE; SELECT 'held';") == "held"
        call = house.restore("--no-safety-snapshot")
        assert call.exit_code == 0, call.output
        old = outcome_of(call)["old_database"]
        assert any(old in warning and "stays" in warning for warning in call.data["warnings"])
        assert portrait(house.database, "shop") == house.good
        # The next run tries again, tells why not, and does its work nevertheless.
        done = house.agent.ok("backup", "--db", house.name)
        assert any(old in warning and "could not be dropped" in warning for warning in done["warnings"])
        assert {"shop", "ledger"} == {one["database"] for one in done["databases"]}
    done = house.agent.ok("backup", "--db", house.name)
    assert any("had swapped" in warning for warning in done["warnings"])
    assert house.is_good()


def test_a_database_container_that_restarts_in_the_middle(house: House) -> None:
    damaged = house.database.fingerprint("shop")
    house.database.wrap("pg_restore", WAITS_IN_THE_MIDDLE)
    restore = house.start_restore("--no-safety-snapshot")
    house.wait_for_data()
    docker("restart", "--time", "5", house.name)
    call = finish(restore, timeout=120)
    assert call.exit_code == 1
    one_sentence(call)
    house.database.wait()
    assert house.database.fingerprint("shop") == damaged
    house.database.unwrap("pg_restore")
    call = house.restore("--no-safety-snapshot")
    assert call.exit_code == 0, call.output
    assert house.is_good()


def test_a_restore_refuses_beside_a_pass_and_names_it(house: House) -> None:
    house.database.wrap("pg_dump", PG_DUMP_WAITS)
    backup = house.agent.start_call("backup", "--db", house.name)
    wait_until(lambda: house.database.sessions_of_agent() > 0, "the pass dumps")
    error = house.refuses()
    assert error["code"] == "busy"
    house.go_on()
    done = finish(backup)
    assert done.exit_code == 0, done.output
    assert f"pass {done.data['run']}" in error["message"]
    assert house.name in error["message"]


def test_a_second_restore_refuses_beside_the_first_and_names_it(house: House) -> None:
    house.database.wrap("pg_restore", WAITS_IN_THE_MIDDLE)
    first = house.start_restore("--no-safety-snapshot")
    house.wait_for_data()
    second = house.restore("--no-safety-snapshot")
    error = one_sentence(second)
    assert error["code"] == "busy"
    house.go_on()
    done = finish(first)
    assert done.exit_code == 0, done.output
    assert f"restore {done.data['run']}" in error["message"]
    assert house.is_good()


def test_the_state_keeps_no_secret_and_no_open_journal(house: House) -> None:
    assert house.restore().exit_code == 0
    document = docker("exec", house.agent.name, "cat", "/var/lib/scalr-backup/state.json").stdout
    assert json.loads(document).get("restores", {}) == {}
    assert "s3cret" not in document
