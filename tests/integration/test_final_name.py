# SPDX-License-Identifier: GPL-3.0-or-later
"""The moment in which a half-made database stands under the live one's name: killed, starved, written into."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker, finish, wait_until
from tests.support.restores import add_extension, half_made, leftovers

# It looks at the name, as pg_cron does, and its creation lasts as long as a file lies in the container.
TIED_SQL = """
DO $$ BEGIN IF current_database() <> 'shop' THEN RAISE EXCEPTION 'can only create extension in database shop'; END IF; END $$;
CREATE TABLE tied_job (n int);
SELECT pg_extension_config_dump('tied_job', '');
DO $$ BEGIN
  WHILE (pg_stat_file('/tmp/hold-moment', true)).size IS NOT NULL LOOP PERFORM pg_sleep(0.1); END LOOP;
END $$;
"""
# A psql that works in the new database is not let in at its first try.
NOT_LET_IN_AT_ONCE = """
case "$*" in
  *"dbname='shop'"*) if [ "$SCALR_BACKUP_THERE" ] && mkdir /tmp/once 2>/dev/null; then export PGPORT=1; touch /tmp/reached; fi ;;
esac
exec "$real" "$@"
"""


@pytest.fixture(scope="module")
def server(make_database: Callable[..., DatabaseContainer], keeper: AgentContainer) -> DatabaseContainer:
    """A server whose database shop has such an extension, and is saved."""
    made = make_database("named")
    add_extension(made, "tied", TIED_SQL)
    made.sql("CREATE DATABASE shop")
    made.sql(
        """
        CREATE EXTENSION tied;
        INSERT INTO tied_job VALUES (1);
        CREATE TABLE orders AS SELECT n FROM generate_series(1, 1000) AS n;
        """,
        "shop",
    )
    keeper.ok("backup", "--db", made.name, "--tag", "pinned")
    return made


@pytest.fixture(autouse=True)
def at_rest(server: DatabaseContainer, keeper: AgentContainer) -> Iterator[None]:
    """No test sees another one's accident."""
    yield
    docker("exec", server.name, "rm", "-f", "/tmp/hold-moment")
    keeper.kill_processes("scalr_backup restore")
    keeper.call("backup", "--db", server.name)
    for name in server.databases() - {"postgres", "shop"}:
        server.sql(f'DROP DATABASE "{name}" WITH (FORCE)')


def asides(server: DatabaseContainer) -> set[str]:
    """What live databases are called in the moment."""
    return {name for name in server.databases() if "_aside_" in name}


def restore_arguments(server: DatabaseContainer) -> list[str]:
    return ["restore", "--db", server.name, "--database", "shop", "--no-safety-snapshot", "--confirm", server.name]


@contextmanager
def in_the_moment(server: DatabaseContainer, keeper: AgentContainer) -> Iterator[subprocess.Popen[str]]:
    """A restore that stands still in the moment, until the end of the block."""
    docker("exec", server.name, "touch", "/tmp/hold-moment")
    restore = keeper.start_call(*restore_arguments(server))

    def is_so() -> bool:
        assert restore.poll() is None, restore.communicate()[0]
        return (
            bool(asides(server)) and server.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'") != "0"
        )

    try:
        wait_until(is_so, "the extension is created under the final name", 120)
        yield restore
    finally:
        docker("exec", server.name, "rm", "-f", "/tmp/hold-moment")


def killed_in_the_moment(server: DatabaseContainer, keeper: AgentContainer) -> str:
    """Kill a restore and its server in the moment; what the live database is called now."""
    with in_the_moment(server, keeper) as restore:
        keeper.kill_processes("scalr_backup restore")
        restore.communicate()
        docker("kill", server.name)
        docker("start", server.name)
        server.wait()
    [aside] = asides(server)
    return aside


@pytest.mark.parametrize(
    "written",
    [
        "",
        pytest.param("CREATE TABLE of_today AS SELECT 7 AS n", marks=pytest.mark.thorough),
        pytest.param("INSERT INTO tied_job VALUES (7)", marks=pytest.mark.thorough),
    ],
)
def test_a_kill_in_the_moment_costs_neither_the_live_database_nor_what_an_app_wrote(
    written: str, server: DatabaseContainer, keeper: AgentContainer
) -> None:
    before = server.fingerprint("shop")
    aside = killed_in_the_moment(server, keeper)
    assert server.fingerprint(aside) == before
    if "tied_job" in written:
        server.sql("CREATE EXTENSION tied", "shop")
    if written:
        # An app that is a superuser is let in.
        server.sql(written, "shop")

    done = keeper.ok("backup", "--db", server.name)

    assert [(one["database"], one["ok"], one["rows"]) for one in done["databases"]] == [("shop", True, 1000)]
    told = " ".join(done["warnings"])
    assert "they are as they were" in told
    assert server.fingerprint("shop") == before
    kept = {name for name in server.databases() if name.startswith("shop_restored_")}
    assert bool(kept) is bool(written)
    assert server.databases() == {"postgres", "shop", *kept}
    for name in kept:
        assert name in told
        assert server.sql("SELECT n FROM of_today" if "of_today" in written else "SELECT n FROM tied_job", name) == "7"
    assert set(server.sql("SELECT datconnlimit FROM pg_database WHERE NOT datistemplate").split()) == {"-1"}
    status = keeper.call("status").data
    assert not any("_aside_" in str(one) for one in (*status["findings"], *status["databases"]))


def test_a_live_database_that_lets_nobody_in_is_never_taken_for_a_half_made_one(
    server: DatabaseContainer, keeper: AgentContainer
) -> None:
    before = server.fingerprint("shop")
    aside = killed_in_the_moment(server, keeper)
    server.sql(f'ALTER DATABASE shop RENAME TO put_away; ALTER DATABASE "{aside}" RENAME TO shop')
    server.sql("ALTER DATABASE shop CONNECTION LIMIT 0")
    try:
        for _twice in range(2):
            keeper.ok("backup", "--db", server.name)
            assert server.databases() == {"postgres", "shop", "put_away"}
            assert server.fingerprint("shop") == before
    finally:
        server.sql("ALTER DATABASE shop CONNECTION LIMIT -1")


def test_names_that_cannot_be_put_back_fail_that_database_until_they_can(
    server: DatabaseContainer, keeper: AgentContainer
) -> None:
    before = server.fingerprint("shop")
    aside = killed_in_the_moment(server, keeper)
    # Somebody has made another shop meanwhile.
    server.sql("ALTER DATABASE shop RENAME TO put_away")
    server.sql("CREATE DATABASE shop")
    try:
        call = keeper.call("backup", "--db", server.name)
        assert call.exit_code == 3, call.output
        [failed] = [one for one in call.data["databases"] if not one["ok"]]
        assert failed["database"] == "shop"
        assert aside in failed["error"]["message"]
        refused = keeper.call(*restore_arguments(server))
        assert refused.exit_code != 0
        assert aside in refused.output
        assert server.fingerprint(aside) == before
    finally:
        server.sql("DROP DATABASE shop")
    done = keeper.ok("backup", "--db", server.name)
    assert "they are as they were" in " ".join(done["warnings"])
    assert server.fingerprint("shop") == before


def test_what_an_app_creates_in_the_moment_is_kept_and_told(server: DatabaseContainer, keeper: AgentContainer) -> None:
    before = server.fingerprint("shop")
    with in_the_moment(server, keeper) as restore:
        server.sql("CREATE TABLE of_today AS SELECT 7 AS n", "shop")
    call = finish(restore)
    assert call.exit_code != 0, call.output
    [kept] = [name for name in server.databases() if name.startswith("shop_restored_")]
    assert kept in call.output
    assert server.sql("SELECT n FROM of_today", kept) == "7"
    assert server.fingerprint("shop") == before
    assert not half_made(server)


def test_a_connection_that_is_refused_once_is_tried_again(server: DatabaseContainer, keeper: AgentContainer) -> None:
    server.wrap("psql", NOT_LET_IN_AT_ONCE)
    try:
        call = keeper.call(*restore_arguments(server))
        assert server.reached()
    finally:
        server.unwrap("psql")
        docker("exec", server.name, "rm", "-rf", "/tmp/once")
    assert call.exit_code == 0, call.output
    assert server.sql("SELECT count(*) FROM orders", "shop") == "1000"
    assert not asides(server)
    assert not leftovers(server)


def test_a_session_that_somebody_ends_in_the_moment_leaves_the_names_as_they_were(
    server: DatabaseContainer, keeper: AgentContainer
) -> None:
    before = server.fingerprint("shop")
    with in_the_moment(server, keeper) as restore:
        # Both: the one that works there, and the one that is to change the names back.
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^scalr-backup 2'")
    call = finish(restore)
    assert call.exit_code != 0, call.output
    assert server.fingerprint("shop") == before
    assert server.databases() == {"postgres", "shop"}
    assert keeper.ok("backup", "--db", server.name)["failed"] == 0
