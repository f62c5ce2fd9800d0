"""Databases as they are in the wild: what pg_dump saves is saved, whatever else of it does not work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker

MakeDatabase = Callable[..., DatabaseContainer]


def outcome_of(data: dict, database: DatabaseContainer, name: str = "postgres") -> dict:
    """The outcome of one database in a pass."""
    [found] = [one for one in data["databases"] if (one["container"], one["database"]) == (database.name, name)]
    return dict(found)


class TestACountThatFails:
    """The session that exports the snapshot is not the one that counts."""

    @pytest.fixture(scope="class")
    @classmethod
    def broken_index(cls, make_database: MakeDatabase) -> DatabaseContainer:
        """A table with an index that is no index any more: whatever plans a query fails, and COPY does not."""
        database = make_database("broken")
        database.sql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) AS i; CREATE INDEX t_i ON t (i)")
        path = database.sql(
            "CHECKPOINT; SELECT current_setting('data_directory') || '/' || pg_relation_filepath('t_i')"
        )
        docker("exec", database.name, "dd", "if=/dev/zero", f"of={path}", "bs=8192", "count=2", "conv=notrunc")
        docker("restart", database.name)
        database.wait()
        return database

    def test_because_of_a_broken_index_is_a_warning_and_the_dump_is_saved(
        self, agent: AgentContainer, broken_index: DatabaseContainer
    ) -> None:
        data = agent.ok("backup", "--db", broken_index.name)
        found = outcome_of(data, broken_index)
        assert found["ok"]
        assert found["rows"] is None
        assert found["count_error"]
        assert any("its rows could not be counted" in warning for warning in data["warnings"])
        archive = agent.restic("dump", found["snapshot_id"], f"/{broken_index.name}/postgres.dump")
        assert archive.count("\n") > 1000

    def test_cannot_happen_for_an_unlogged_table_of_a_standby(
        self, agent: AgentContainer, make_database: MakeDatabase
    ) -> None:
        """A cluster in recovery that waits for more log is a standby, whether or not somebody sends it any."""
        standby = make_database("standby")
        standby.sql("CREATE TABLE t AS SELECT 1 AS x; CREATE UNLOGGED TABLE u AS SELECT 2 AS x")
        docker("exec", standby.name, "sh", "-c", 'touch "$PGDATA/standby.signal"')
        docker("restart", standby.name)
        standby.wait()
        assert standby.sql("SELECT pg_is_in_recovery()") == "t"
        found = outcome_of(agent.ok("backup", "--db", standby.name), standby)
        assert (found["ok"], found["rows"], found["count_error"]) == (True, 1, None)


# A pg_dump that writes one version more than this agent knows, and a pg_restore that reads it: the sixth byte is the one.
NEWER_DUMP = r"""
case "$*" in
  *--format=custom*) set -o pipefail; "$real" "$@" | { head -c 6; head -c 1 > /dev/null; printf '\021'; cat; };;
  *) exec "$real" "$@";;
esac
"""
NEWER_RESTORE = r"""
for last; do :; done
if [ -f "$last" ]; then exec "$real" "$@"; fi
exec 3<&0; mkfifo /tmp/fifo.$$; { head -c 6; head -c 1 > /dev/null; printf '\020'; cat; } <&3 > /tmp/fifo.$$ &
"$real" "$@" < /tmp/fifo.$$; code=$?; rm -f /tmp/fifo.$$; exit $code
"""


class TestTheNewestPostgreSQL:
    """An archive whose version nobody here knows is saved on every other proof, and restored by its own pg_restore."""

    @pytest.fixture
    def newest(self, make_database: MakeDatabase) -> Iterator[DatabaseContainer]:
        database = make_database("newest")
        database.sql(
            "CREATE DATABASE shop; COMMENT ON DATABASE shop IS 'ours'; ALTER DATABASE shop SET work_mem = '8MB'"
        )
        database.sql(
            "CREATE TABLE t (id serial PRIMARY KEY, x text); INSERT INTO t (x) SELECT i FROM generate_series(1, 999) AS i;"
            "CREATE INDEX ON t (x); SELECT lo_from_bytea(0, 'large')",
            "shop",
        )
        database.wrap("pg_dump", NEWER_DUMP)
        database.wrap("pg_restore", NEWER_RESTORE)
        yield database
        database.remove()

    def test_is_backed_up_with_a_warning_restored_and_reported(
        self, agent: AgentContainer, newest: DatabaseContainer
    ) -> None:
        before = newest.fingerprint("shop")
        data = agent.ok("backup", "--db", newest.name)
        found = outcome_of(data, newest, "shop")
        assert found["rows"] == 999
        assert "version is 1.17.0" in found["archive_unchecked"]
        assert any(warning.startswith("archive_unchecked: ") for warning in data["warnings"])
        assert "archive_unchecked" in {one["code"] for one in agent.call("status").data["findings"]}

        newest.sql("DELETE FROM t WHERE id % 2 = 0", "shop")
        restored = agent.ok("restore", "--db", newest.name, "--database", "shop", "--confirm", newest.name)
        assert any("archive_unchecked" in warning for warning in restored["warnings"])
        assert newest.fingerprint("shop") == before
        assert (
            newest.sql("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'") == "ours"
        )
        assert newest.sql("SHOW work_mem", "shop") == "8MB"

    def test_that_dies_in_the_middle_with_exit_0_is_no_backup(
        self, agent: AgentContainer, newest: DatabaseContainer
    ) -> None:
        newest.wrap("pg_dump", NEWER_DUMP.replace("cat; }", "head -c 5000; exit 0; }").replace("set -o pipefail;", ""))
        call = agent.call("backup", "--db", newest.name)
        assert call.exit_code == 3, call.output
        assert not outcome_of(call.data, newest, "shop")["ok"]


class TestBytesOfNoKnownEncoding:
    """A database of SQL_ASCII holds whatever somebody wrote there: in rows, in names, in messages, in its own name."""

    @pytest.fixture(scope="class")
    @classmethod
    def latin(cls, make_database: MakeDatabase) -> DatabaseContainer:
        database = make_database(
            "latin", environment={"POSTGRES_PASSWORD": "x", "POSTGRES_INITDB_ARGS": "--encoding=SQL_ASCII --locale=C"}
        )
        # What psql reads is a file's bytes: an e with an acute accent in Latin 1, and no UTF-8.
        script = r"""
        { echo "CREATE DATABASE caf; CREATE ROLE \"ren#\" PASSWORD 'secret';"; echo '\c caf';
          echo "CREATE SCHEMA \"sch#ma\"; CREATE TABLE \"sch#ma\".\"caf#\" (\"pr#nom\" text DEFAULT 'Ren#', id serial);";
          echo "INSERT INTO \"sch#ma\".\"caf#\" VALUES ('Ren#'), ('André');";
          echo "ALTER TABLE \"sch#ma\".\"caf#\" OWNER TO \"ren#\"; COMMENT ON DATABASE caf IS 'caf#';";
          echo "CREATE DATABASE \"d#j\";"; echo '\c "d#j"'; echo "CREATE TABLE t AS SELECT 'd#j' AS x;"
        } | tr '#' '\351' | psql -X -q -v ON_ERROR_STOP=1 -U postgres
        """
        docker("exec", database.name, "bash", "-c", script)
        return database

    @staticmethod
    def digest(database: DatabaseContainer) -> str:
        rows = 'SELECT md5(string_agg(t::text, \'|\' ORDER BY id)) FROM "sch#ma"."caf#" AS t'
        script = f"""echo '{rows}' | sed "s/~/'/g" | tr '#' '\\351' | psql -X -A -t -U postgres caf"""
        return docker("exec", database.name, "bash", "-c", script.replace("'|'", "~|~")).stdout

    def test_are_saved_and_restored_as_they_are(self, agent: AgentContainer, latin: DatabaseContainer) -> None:
        before = self.digest(latin)
        data = agent.ok("backup", "--db", latin.name)
        found = {one["database"]: one for one in data["databases"]}
        assert all(one["ok"] for one in found.values()), found
        assert found["caf"]["rows"] == 2
        assert found["caf"]["count_error"] is None
        assert found[r"d\xe9j"]["rows"] == 1
        assert data["roles"] == {latin.name: None}
        latin.sql("DROP DATABASE caf")
        agent.ok("restore", "--db", latin.name, "--database", "caf", "--confirm", latin.name)
        assert self.digest(latin) == before
        assert agent.ok("status")["databases"]
        assert agent.ok("discover")["containers"]

    def test_and_names_that_have_no_place_in_utf8_or_no_way_to_it_are_saved(
        self, agent: AgentContainer, make_database: MakeDatabase
    ) -> None:
        """WIN1252 has a byte that is no character, and from MULE_INTERNAL no server can convert to UTF8."""
        database = make_database("strange")
        for encoding in ("WIN1252", "MULE_INTERNAL", "LATIN1"):
            name = encoding.lower()
            database.sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
            odd = "#" if encoding == "WIN1252" else "u"
            create = f"""echo 'CREATE TABLE "t{odd}" AS SELECT 1 AS x' | tr '#' '\\201'"""
            script = f"{create} | PGCLIENTENCODING={encoding} psql -X -q -v ON_ERROR_STOP=1 -U postgres {name}"
            docker("exec", database.name, "bash", "-c", script)
        data = agent.ok("backup", "--db", database.name)
        assert {one["database"]: (one["ok"], one["rows"]) for one in data["databases"]} == dict.fromkeys(
            ("win1252", "mule_internal", "latin1"), (True, 1)
        )
        agent.ok("restore", "--db", database.name, "--database", "win1252", "--confirm", database.name)

    def test_that_pg_dump_says_are_in_its_message(self, agent: AgentContainer, latin: DatabaseContainer) -> None:
        latin.wrap("pg_dump", r"printf 'pg_dump: error: priv\351\n' >&2; exit 1")
        try:
            call = agent.call("backup", "--db", latin.name)
        finally:
            latin.unwrap("pg_dump")
        assert call.exit_code == 3, call.output
        assert all("priv" in one["error"]["message"] for one in call.data["databases"])


# As many clients as there are connections, but for three.
FEW_CONNECTIONS = ("-c", "max_connections=6", "-c", "superuser_reserved_connections=0")
# A server that comes some seconds after its container, and one whose container has to be restarted for some seconds first.
LATE = ("sh", "-c", "sleep 15; exec docker-entrypoint.sh postgres")
LOOPING = (
    "sh", "-c",
    "[ -e /tmp/first ] || date +%s > /tmp/first; [ $(($(date +%s) - $(cat /tmp/first))) -gt 15 ] || exit 1; "
    "exec docker-entrypoint.sh postgres",
)  # fmt: skip


class TestAServerThatHasNoRoomOrIsNotUpYet:
    """What fails for want of connections is tried again alone, and who is just starting is waited for."""

    def test_few_connections_are_enough_one_after_the_other(
        self, agent: AgentContainer, make_database: MakeDatabase
    ) -> None:
        database = make_database("few", command=("postgres", *FEW_CONNECTIONS))
        for name in ("a", "b", "c"):
            database.sql(f"CREATE DATABASE {name}")
            database.sql("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) AS i", name)
        for _client in range(3):
            docker("exec", "--detach", database.name, "psql", "-U", "postgres", "-c", "SELECT pg_sleep(300)")
        agent.configure(parallel=3)
        data = agent.ok("backup", "--db", database.name)
        assert {one["database"]: (one["ok"], one["rows"]) for one in data["databases"]} == dict.fromkeys(
            ("a", "b", "c"), (True, 1000)
        )

    @pytest.mark.parametrize(
        ("name", "command", "options"),
        [("late", LATE, ()), pytest.param("loop", LOOPING, ("--restart=always",), marks=pytest.mark.thorough)],
    )
    def test_a_server_that_comes_within_the_pass_is_saved(
        self, agent: AgentContainer, prefix: str, name: str, command: tuple[str, ...], options: tuple[str, ...]
    ) -> None:
        container = f"{prefix}-{name}-db"
        docker(
            "run", "--detach", "--name", container, "--env", "POSTGRES_PASSWORD=x", *options, "postgres:17", *command
        )
        try:
            agent.configure(start_wait_seconds=60)
            data = agent.ok("backup", "--db", container)
            assert [(one["database"], one["ok"]) for one in data["databases"]] == [("postgres", True)]
            assert data["matches"] is None
        finally:
            docker("rm", "--force", "--volumes", container, check=False)

    def test_one_that_never_comes_is_a_failure_in_bounded_time(
        self, agent: AgentContainer, make_database: MakeDatabase
    ) -> None:
        database = make_database("never")
        docker(
            "exec",
            database.name,
            "sh",
            "-c",
            'touch "$PGDATA/standby.signal"; echo hot_standby=off >> "$PGDATA/postgresql.conf"',
        )
        docker("restart", database.name)
        agent.configure(start_wait_seconds=10)
        started = time.monotonic()
        call = agent.call("backup", "--db", database.name)
        assert time.monotonic() - started < 120
        assert call.exit_code == 3, call.output
        assert call.data["databases"][0]["error"]["code"] == "unreachable"


def let_in(database: DatabaseContainer, *lines: str) -> None:
    """Let the server know who may come in which way, and forget every other."""
    text = "\n".join((*lines, ""))
    docker("exec", "-i", database.name, "sh", "-c", 'cat > "$PGDATA/pg_hba.conf"', stdin=text)
    docker("exec", "--user", "postgres", database.name, "sh", "-c", 'pg_ctl reload -D "$PGDATA"')


class TestAnotherWayIn:
    """Wherever somebody who knows the container gets in, the agent does."""

    def saved(self, agent: AgentContainer, database: DatabaseContainer) -> bool:
        data = agent.ok("backup", "--db", database.name)
        return bool(data["databases"]) and all(one["ok"] for one in data["databases"])

    def test_over_tcp_where_there_is_no_line_for_the_socket(
        self, agent: AgentContainer, make_database: MakeDatabase
    ) -> None:
        database = make_database("tcp")
        let_in(database, "host all all all scram-sha-256")
        assert self.saved(agent, database)

    def test_as_the_account_that_the_system_knows(self, agent: AgentContainer, make_database: MakeDatabase) -> None:
        database = make_database("peer")
        let_in(database, "local all all peer")
        assert self.saved(agent, database)

    def test_by_the_port_of_a_label_and_variables_of_other_names(
        self, agent: AgentContainer, make_database: MakeDatabase
    ) -> None:
        database = make_database(
            "labels",
            environment={"POSTGRES_PASSWORD": "x", "DB_USERNAME": "admin", "DB_PASSWORD": "4711"},
            labels={
                "scalr.backup.user_variable": "DB_USERNAME", "scalr.backup.password_variable": "DB_PASSWORD",
                "scalr.backup.host": "localhost", "scalr.backup.port": "5432",
            },
        )  # fmt: skip
        database.sql("CREATE ROLE admin SUPERUSER LOGIN PASSWORD '4711'")
        let_in(database, "local all postgres trust", "host all admin all scram-sha-256")
        assert self.saved(agent, database)

    def test_by_a_rule_of_the_configuration(self, agent: AgentContainer, make_database: MakeDatabase) -> None:
        database = make_database("rule", command=("postgres", "-c", "unix_socket_directories=/tmp,/var/run/postgresql"))
        database.sql("CREATE ROLE admin SUPERUSER LOGIN")
        let_in(database, "local all postgres reject", "local all admin trust", "host all all 127.0.0.1/32 reject")
        assert agent.call("backup", "--db", database.name).exit_code == 3
        agent.configure(connections={"*-rule-db": {"user": "admin", "socket": "/tmp"}})
        assert self.saved(agent, database)

    def test_without_a_password_file_that_vanished_where_nobody_asks_for_it(
        self, agent: AgentContainer, make_database: MakeDatabase
    ) -> None:
        database = make_database(
            "vanished",
            environment={"POSTGRES_PASSWORD_FILE": "/tmp/secret"},
            command=("sh", "-c", "echo s3cret > /tmp/secret; exec docker-entrypoint.sh postgres"),
        )
        docker("exec", database.name, "rm", "/tmp/secret")
        assert self.saved(agent, database)
        let_in(database, "local all all scram-sha-256")
        call = agent.call("backup", "--db", database.name)
        assert call.exit_code == 3, call.output
        assert "/tmp/secret" in call.data["databases"][0]["error"]["message"]


class TestWords:
    def test_of_a_pg_restore_that_fails_early_come_through_the_proxy(
        self, agent_image: str, prefix: str, make_database: MakeDatabase, tmp_path: Path
    ) -> None:
        """What is still on its way to it would reset the connection, and its words with it."""
        database = make_database("words")
        database.sql("CREATE TABLE t AS SELECT repeat(md5(i::text), 8) AS x FROM generate_series(1, 160000) AS i")
        proxied = AgentContainer(tmp_path / "proxied", [f"{prefix}-*-db"], agent_image, proxied=True)
        try:
            proxied.start()
            proxied.make_repository()
            proxied.ok("backup", "--db", database.name)
            early = 'case "$*" in *--list*) exec "$real" "$@";; esac; head -c 100000 > /dev/null; '
            database.wrap("pg_restore", early + "echo 'pg_restore: error: canary' >&2; exit 1")
            for _time in range(4):
                call = proxied.call("restore", "--db", database.name, "--confirm", database.name)
                assert call.exit_code in (1, 3), call.output
                assert "pg_restore: error: canary" in call.output
        finally:
            proxied.remove()


def test_history_follows_a_container_that_is_made_anew_under_another_name(
    agent: AgentContainer, prefix: str, make_database: MakeDatabase
) -> None:
    name = f"{prefix}-service-db"
    blue = make_database("blue", labels={"scalr.backup.name": name})
    blue.sql("CREATE TABLE t AS SELECT 1 AS x")
    assert outcome_of_name(agent.ok("backup", "--db", name), name)["ok"]
    blue.remove()
    green = make_database("green", labels={"scalr.backup.name": name})
    green.sql("CREATE TABLE t AS SELECT 2 AS x")
    assert outcome_of_name(agent.ok("backup", "--db", green.name), name)["ok"]
    snapshots = agent.ok("snapshots", "--db", name)["snapshots"]
    assert {one["path"] for one in snapshots} == {f"/{name}/postgres.dump"}
    assert len(snapshots) == 2
    oldest = min(snapshots, key=lambda one: one["time"])
    agent.ok("restore", "--db", name, "--snapshot", oldest["id"], "--confirm", name)
    assert green.sql("SELECT x FROM t") == "1"
    assert [one["container"] for one in agent.ok("status")["databases"]] == [name]


def outcome_of_name(data: dict, name: str) -> dict:
    """The outcome of the one database of a container."""
    [found] = [one for one in data["databases"] if one["container"] == name]
    return dict(found)
