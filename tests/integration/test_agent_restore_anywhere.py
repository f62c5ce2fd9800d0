"""Restores of whole clusters, into other containers, from other hosts and repositories; and the way back."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.containers import AgentContainer, Call, DatabaseContainer, docker, finish, inside, wait_until
from tests.support.restores import half_made, leftovers, one_sentence, outcome_of, portrait

ROLES = """
CREATE ROLE shop_owner;
CREATE ROLE shop_app LOGIN PASSWORD 'old app password' CONNECTION LIMIT 7 VALID UNTIL '2040-01-01';
CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'boss password';
CREATE ROLE "Odd ""ü"" role" NOINHERIT CREATEDB;
CREATE ROLE bystander LOGIN;
COMMENT ON ROLE shop_app IS 'the app; isn''t it';
ALTER ROLE shop_app SET work_mem = '9MB';
GRANT shop_owner TO shop_app;
GRANT shop_owner TO "Odd ""ü"" role" WITH ADMIN OPTION;
GRANT pg_monitor TO "Odd ""ü"" role";
"""
DATABASES = """
CREATE DATABASE shop OWNER shop_owner TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C';
COMMENT ON DATABASE shop IS 'it''s the shop';
ALTER DATABASE shop SET search_path = 'odd schema', public;
ALTER DATABASE shop CONNECTION LIMIT 50;
ALTER ROLE shop_app IN DATABASE shop SET statement_timeout = '5s';
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO shop_app;
CREATE DATABASE blog TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de' ENCODING 'UTF8' LOCALE 'C';
COMMENT ON DATABASE blog IS 'posts';
"""
# About 3 MB in the archive: more than fits into the buffers between restic and pg_restore.
SHOP = """
CREATE TABLE public.orders (id serial PRIMARY KEY, note text);
INSERT INTO public.orders (note) SELECT repeat(md5(n::text), 20) FROM generate_series(1, 4500) AS n;
CREATE INDEX ON public.orders (note, id);
CREATE SCHEMA "odd schema" AUTHORIZATION shop_owner;
CREATE TABLE "odd schema"."a ""table" ("a column" text);
INSERT INTO "odd schema"."a ""table" VALUES (E'\\\\.\\n'), (NULL), ('');
ALTER TABLE public.orders OWNER TO shop_owner;
GRANT SELECT ON public.orders TO shop_app;
"""
BLOG = """
CREATE SCHEMA texts;
DROP SCHEMA public;
CREATE EXTENSION hstore SCHEMA texts;
CREATE TABLE texts.posts AS SELECT n, ('k=>' || n)::texts.hstore AS facts FROM generate_series(1, 100) AS n;
"""
SPOIL = "DROP TABLE public.orders; CREATE TABLE public.intruder AS SELECT clock_timestamp() AS at"

# The agent's look at the table of contents goes through, and what comes after the data too.
LOOK = 'case "$*" in *--list*|*--section=post-data*) exec "$real" "$@";; esac\n'
FAILS = LOOK + 'head -c 400000 > /dev/null; echo "pg_restore: error: no luck today" >&2; exit 1'
WAITS = LOOK + ('{ head -c 400000; while [ ! -e /tmp/go-on ]; do sleep 0.1; done; cat; } | "$real" "$@"')

OTHER_PASSWORD = "another house, another key"
OTHER_VALUE = "key of the other store"
OTHER_SECRETS = json.dumps({"password": OTHER_PASSWORD, "environment": {"AWS_SECRET_ACCESS_KEY": OTHER_VALUE}})
OTHER_REPOSITORY = "/var/lib/scalr-backup/other-repository"


def whole(database: DatabaseContainer) -> dict[str, Any]:
    """A cluster as it has to come back: its roles with their passwords' hashes, and its databases."""
    roles = docker("exec", database.name, "pg_dumpall", "-U", "postgres", "--globals-only").stdout.splitlines()
    ours = [line for line in roles if line.startswith(("CREATE", "ALTER", "GRANT", "COMMENT"))]
    return {
        # The container's own superuser got his password from its environment, with a salt of its own.
        "roles": [line for line in ours if not line.startswith("ALTER ROLE postgres WITH")],
        "shop": portrait(database, "shop"),
        "blog": portrait(database, "blog"),
        "icu": database.sql(
            "SELECT datlocprovider, to_jsonb(d) ->> 'datlocale' FROM pg_database AS d ORDER BY datname"
        ),
    }


def logs_in(database: DatabaseContainer, user: str, password: str) -> bool:
    """Whether a password is right, asked over TCP; ``trust`` holds for the container's own loopback only."""
    address = docker("exec", database.name, "hostname", "-i").stdout.split()[0]
    arguments = ["psql", "-X", "-h", address, "-U", user, "-d", "shop", "-c", "SELECT 1"]
    done = docker("exec", "--env", f"PGPASSWORD={password}", database.name, *arguments, check=False)
    assert done.returncode == 0 or "password authentication failed" in done.stderr, done.stderr
    return done.returncode == 0


def unchanged(*databases: DatabaseContainer) -> list[tuple[dict[str, dict[str, str]], str]]:
    """Every row and every role of some clusters."""
    return [
        ({name: one.fingerprint(name) for name in one.databases()}, one.sql("SELECT rolname FROM pg_roles ORDER BY 1"))
        for one in databases
    ]


@dataclass
class Town:
    """A cluster of two databases, its backup, an agent, and a spare container that nobody backs up."""

    agent: AgentContainer
    home: DatabaseContainer
    spare: DatabaseContainer
    good: dict[str, Any]
    run: str
    shop: str

    def call(self, *options: str, stdin: str | None = None) -> Call:
        """Restore without a safety snapshot."""
        return self.agent.call("restore", "--no-safety-snapshot", *options, stdin=stdin)

    def restore(self, *options: str, into: str | None = None, stdin: str | None = None) -> Call:
        """Restore of what home was, confirmed; it has to succeed."""
        call = self.call("--db", self.home.name, *options, "--confirm", into or self.home.name, stdin=stdin)
        assert call.exit_code == 0, call.output
        return call

    def to_spare(self, *options: str, stdin: str | None = None) -> Call:
        """The same into the spare container."""
        return self.restore("--target", self.spare.name, *options, into=self.spare.name, stdin=stdin)

    def refuses(self, code: str, *options: str, stdin: str | None = None) -> str:
        """A restore has to fail before it changes anything; its sentence."""
        before = unchanged(self.home, self.spare)
        call = self.call(*options, stdin=stdin)
        assert call.exit_code != 0, call.output
        assert call.result["changed"] is False
        assert unchanged(self.home, self.spare) == before
        error = one_sentence(call)
        assert error["code"] == code, call.output
        return error["message"]


def fill_home(home: DatabaseContainer) -> None:
    home.sql(ROLES + DATABASES)
    home.sql(SHOP, "shop")
    home.sql(BLOG, "blog")


@pytest.fixture(scope="module")
def town(
    agent_image: str,
    prefix: str,
    make_database: Callable[..., DatabaseContainer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Town]:
    """The town; its spare container matches no pattern of the agent."""
    agent = AgentContainer(tmp_path_factory.mktemp("town"), [f"{prefix}-*-db"], agent_image)
    spare = DatabaseContainer(f"{prefix}-spare", options=["--init"])
    try:
        agent.start()
        agent.make_repository()
        home = make_database("home", options=["--init"])
        fill_home(home)
        done = agent.ok("backup", "--db", home.name, "--tag", "pinned", "--tag", "release-7")
        shop = next(one["snapshot_id"] for one in done["databases"] if one["database"] == "shop")
        yield Town(agent, home, spare.start(), whole(home), done["run"], shop)
    finally:
        agent.remove()
        spare.remove()


@pytest.fixture(autouse=True)
def at_rest(town: Town) -> Iterator[None]:
    """No test sees another one's accident."""
    yield
    for database in (town.home, town.spare):
        database.unwrap("pg_restore")
    assert not leftovers(town.home)
    assert not half_made(town.spare)


# -- a host is lost ----------------------------------------------------------------------------------------


def test_a_whole_cluster_comes_back_into_an_empty_container(town: Town) -> None:
    town.home.remove()
    town.home.start()
    # Its log keeps every statement that it is allowed to keep.
    town.home.sql("ALTER SYSTEM SET log_statement = 'all'")
    town.home.sql("ALTER SYSTEM SET log_min_duration_statement = 0")
    town.home.sql("ALTER SYSTEM SET log_transaction_sample_rate = 1")
    town.home.sql("LOAD 'auto_explain'; ALTER SYSTEM SET auto_explain.log_min_duration = 0;")
    town.home.sql("ALTER SYSTEM SET session_preload_libraries = 'auto_explain'")
    town.home.sql("SELECT pg_reload_conf()")
    assert town.home.databases() == {"postgres"}

    call = town.restore()

    assert whole(town.home) == town.good
    assert town.home.databases() == {"postgres", "shop", "blog"}
    assert logs_in(town.home, "shop_app", "old app password")
    assert not logs_in(town.home, "shop_app", "another")
    assert logs_in(town.home, "boss", "boss password")
    created = {"shop_owner", "shop_app", "boss", 'Odd "ü" role', "bystander"}
    assert set(call.data["roles_created"]) == set(call.data["plan"]["roles"]) == created
    assert any("superusers: boss" in warning for warning in call.data["plan"]["warnings"])
    log = docker("logs", town.home.name)
    assert "CREATE DATABASE" in log.stdout + log.stderr
    assert "Query Text" in log.stdout + log.stderr
    for text in (log.stdout, log.stderr, call.output, "".join(map(json.dumps, town.agent.log_lines()))):
        for secret in ("SCRAM-SHA-256", "CREATE ROLE"):
            assert secret not in text
            assert secret.encode().hex() not in text
    for name in ("shop", "blog"):
        outcome = outcome_of(call, name)
        assert outcome["jobs"] >= 1
        assert {"data", "verify", "analyze"} <= outcome["seconds"].keys()
        assert "SCRAM" not in json.dumps(outcome)
    # A second time nothing is missing.
    assert town.restore("--database", "shop").data["roles_created"] == []
    assert whole(town.home) == town.good


# -- into other containers, under other names --------------------------------------------------------------


def test_into_another_container_with_the_roles_that_the_database_needs(town: Town) -> None:
    town.spare.sql("CREATE ROLE shop_app LOGIN PASSWORD 'its own password'")
    home = unchanged(town.home)
    arguments = ["--db", town.home.name, "--database", "shop", "--target", town.spare.name]
    sentence = town.refuses("not_confirmed", *arguments, "--confirm", town.home.name)
    assert town.spare.name in sentence

    call = town.call(*arguments, "--confirm", town.spare.name)

    assert call.exit_code == 0, call.output
    plan = call.data["plan"]
    assert plan["container"] == plan["confirm"] == town.spare.name
    assert plan["source"] == {"host": "test-host", "container": town.home.name}
    assert set(call.data["roles_created"]) == {"shop_owner", 'Odd "ü" role'}
    assert portrait(town.spare, "shop") == town.good["shop"]
    # A role that was there keeps all that it had, its password first of all.
    assert logs_in(town.spare, "shop_app", "its own password")
    assert town.spare.sql("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'shop_app'") == "-1"
    # Memberships of roles that were made now come with them.
    assert town.spare.sql("SELECT pg_has_role('shop_app', 'shop_owner', 'MEMBER')") == "t"
    assert unchanged(town.home) == home
    town.spare.sql("DROP DATABASE shop")


@pytest.mark.parametrize(
    "name", ['The "Größe" ☃ shop', pytest.param("back\\slash 'n =quote", marks=pytest.mark.thorough)]
)
def test_under_another_name(town: Town, name: str) -> None:
    live = town.home.fingerprint("shop")
    call = town.restore("--database", "shop", "--database-as", name)
    [planned] = call.data["plan"]["databases"]
    assert (planned["database"], planned["source_database"], planned["exists"]) == (name, "shop", False)
    assert town.home.fingerprint(name) == town.good["shop"]["rows"]
    assert town.home.fingerprint("shop") == live
    quoted = '"' + name.replace('"', '""') + '"'
    settings = """
        SELECT shobj_description(d.oid, 'pg_database'), datconnlimit, datacl, array_agg(setconfig ORDER BY setrole)
        FROM pg_database AS d JOIN pg_db_role_setting ON setdatabase = d.oid
        WHERE datname = $name${}$name$ GROUP BY d.oid, datconnlimit, datacl
    """
    assert town.home.sql(settings.format(name)) == town.home.sql(settings.format("shop"))
    # Once more: what stands under that name now is what is replaced.
    town.home.sql("DELETE FROM public.orders", name)
    assert town.restore("--database", "shop", "--database-as", name).data["plan"]["databases"][0]["exists"] is True
    assert town.home.fingerprint(name) == town.good["shop"]["rows"]
    town.home.sql(f"DROP DATABASE {quoted}")
    assert town.home.databases() == {"postgres", "shop", "blog"}


def test_into_another_container_under_another_name(town: Town) -> None:
    town.to_spare("--database", "blog", "--database-as", "Blog von früher")
    assert town.spare.fingerprint("Blog von früher") == town.good["blog"]["rows"]
    assert town.spare.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'public'", "Blog von früher") == "0"
    town.spare.sql('DROP DATABASE "Blog von früher"')


def test_names_that_no_database_can_be_restored_under(town: Town) -> None:
    one = ["--db", town.home.name, "--confirm", town.home.name]
    sentence = town.refuses("usage", *one, "--database-as", "copy")
    assert "blog, shop" in sentence
    assert "63 bytes" in town.refuses("usage", *one, "--database", "shop", "--database-as", "ü" * 32)
    town.refuses("usage", *one, "--database", "shop", "--database-as", "template1")


def test_a_target_that_is_not_there_or_stands_still(town: Town) -> None:
    options = ["--db", town.home.name, "--target", "no-such-container", "--confirm", "no-such-container"]
    sentence = town.refuses("unknown_database", *options)
    assert "no-such-container" in sentence
    assert town.home.name in sentence
    docker("stop", "--time", "2", town.spare.name)
    call = town.call("--db", town.home.name, "--target", town.spare.name, "--confirm", town.spare.name)
    docker("start", town.spare.name)
    town.spare.wait()
    assert one_sentence(call)["code"] == "container_stopped"
    assert town.spare.name in call.error["message"]


# -- from other hosts and repositories ---------------------------------------------------------------------


def test_a_snapshot_that_another_host_made(town: Town) -> None:
    town.agent.configure(host="lost-host")
    try:
        town.home.sql("CREATE TABLE public.made_elsewhere AS SELECT 1 AS n", "shop")
        fingerprint = town.home.fingerprint("shop")
        saved = town.agent.ok("backup", "--db", town.home.name)
    finally:
        town.agent.configure(host="test-host")
        town.home.sql("DROP TABLE public.made_elsewhere", "shop")
    options = ["--db", town.home.name, "--database", "shop"]
    call = town.to_spare("--database", "shop", "--from-host", "lost-host")
    assert call.data["plan"]["source"]["host"] == "lost-host"
    assert outcome_of(call)["snapshot_id"] in {one["snapshot_id"] for one in saved["databases"]}
    assert outcome_of(call)["verified"]["tables"] == len(fingerprint)
    assert town.spare.fingerprint("shop") == fingerprint
    # Without it, this host's own snapshots are meant.
    plan = town.agent.ok("restore", *options, "--plan")["plan"]
    assert plan["databases"][0]["snapshot"]["id"] == town.shop
    sentence = town.refuses("usage", *options, "--from-host", "nobody", "--confirm", town.home.name)
    assert "lost-host, test-host" in sentence


def test_a_repository_with_another_password(town: Town) -> None:
    mine = {"repository": "/repository", "host": "test-host"}
    town.home.sql("CREATE TABLE public.far_away AS SELECT 1 AS n", "shop")
    fingerprint = town.home.fingerprint("shop")
    try:
        town.agent.configure(repository=OTHER_REPOSITORY, host="far-host")
        town.agent.set_password(OTHER_PASSWORD)
        town.agent.ok("init")
        town.agent.ok("backup", "--db", town.home.name)
    finally:
        town.agent.configure(**mine)
        town.agent.set_password("correct horse battery staple")
        town.home.sql("DROP TABLE public.far_away", "shop")
    elsewhere = ["--from-repository", OTHER_REPOSITORY, "--from-host", "far-host"]
    town.spare.wrap("pg_restore", WAITS)
    docker("exec", town.spare.name, "rm", "-f", "/tmp/go-on")
    arguments = ["restore", "--db", town.home.name, "--database", "shop", "--target", town.spare.name, *elsewhere]
    restore = subprocess.Popen(
        ["docker", "exec", "-i", town.agent.name, "scalr-backup", *arguments, "--from-secrets", "--json",
         "--confirm", town.spare.name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert restore.stdin is not None
    restore.stdin.write(OTHER_SECRETS)
    restore.stdin.close()
    restore.stdin = None
    wait_until(lambda: half_made(town.spare) and town.spare.processes("pg_restore") >= 1, "data flows")
    argv = docker("exec", town.agent.name, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    docker("exec", town.spare.name, "touch", "/tmp/go-on")
    call = finish(restore)
    assert call.exit_code == 0, call.output
    assert OTHER_REPOSITORY in argv
    assert town.spare.fingerprint("shop") == fingerprint
    # The live database is saved here, not there.
    safety = outcome_of(call)["safety_snapshot_id"]
    assert safety in town.agent.restic("snapshots", "--json")
    files = docker(
        "exec", town.agent.name, "sh", "-c", "cat /var/lib/scalr-backup/state.json; find /tmp -type f"
    ).stdout
    assert "password" not in files
    for text in (argv, call.output, files, docker("logs", town.agent.name).stdout):
        assert OTHER_PASSWORD not in text
        assert OTHER_VALUE not in text


@pytest.mark.parametrize(
    ("options", "stdin", "code", "words"),
    [
        (
            ["--from-host", "far-host", "--from-secrets"],
            '{"password": "wrong key"}',
            "wrong_password",
            "Wrong password for",
        ),
        (
            ["--from-host", "far-host", "--from-secrets"],
            '{"passwort": "wrong key"}',
            "configuration",
            "secrets must be",
        ),
        (["--from-host", "far-host", "--from-secrets"], "wrong key", "configuration", "secrets must be"),
        (["--from-host", "far-host"], None, "wrong_password", "Wrong password for the repository"),
        (["--from-secrets"], '{"password": "wrong key"}', "usage", "--from-host"),
    ],
    ids=["wrong-password", "misspelt", "no-json", "own-password", "no-host"],
)
def test_another_repository_that_does_not_open(
    town: Town, options: list[str], stdin: str | None, code: str, words: str
) -> None:
    arguments = ["--db", town.home.name, "--from-repository", OTHER_REPOSITORY, "--confirm", town.home.name]
    sentence = town.refuses(code, *arguments, *options, stdin=stdin)
    assert words in sentence
    assert "wrong key" not in sentence


# -- which snapshot ----------------------------------------------------------------------------------------


def test_snapshots_by_run_and_by_tag_and_old_ones(town: Town) -> None:
    def chosen(wanted: str) -> dict[str, Any]:
        options = ["--db", town.home.name, "--database", "shop", "--snapshot", wanted]
        plan = town.agent.ok("restore", *options, "--plan")["plan"]
        return {"id": plan["databases"][0]["snapshot"]["id"], "warnings": plan["warnings"]}

    town.agent.ok("backup", "--db", town.home.name)
    assert chosen("latest")["id"] != town.shop
    assert chosen(town.run) == chosen("tag=release-7") == {"id": town.shop, "warnings": []}
    options = ["--db", town.home.name, "--confirm", town.home.name, "--snapshot"]
    assert "release-8" in town.refuses("unknown_snapshot", *options, "tag=release-8")
    path = f"/{town.home.name}/shop.dump"
    script = (
        "export RESTIC_REPOSITORY=/repository RESTIC_CACHE_DIR=/var/cache/scalr-backup/restic HOME=/tmp "
        "RESTIC_PASSWORD_FILE=/run/secrets/scalr-backup/password; "
        f"restic dump {town.shop} {path} | restic backup --quiet --stdin --stdin-filename {path} --host test-host "
        f"--tag {town.home.name} --tag ancient --time '{datetime.now(UTC) - timedelta(days=333):%Y-%m-%d %H:%M:%S}'"
    )
    docker("exec", town.agent.name, "sh", "-c", script)
    old = chosen("tag=ancient")
    assert any(re.search(rf"{old['id'][:8]} of shop is \d{{3}} d( \d+ h)? old", warning) for warning in old["warnings"])
    town.agent.restic("forget", old["id"])


# -- what cannot be, refused before anything changes -------------------------------------------------------


def test_a_newer_server_takes_it_and_an_older_one_is_refused(
    town: Town, make_database: Callable[..., DatabaseContainer]
) -> None:
    old, new = make_database("fifteen", image="postgres:15"), make_database("eighteen", image="postgres:18")
    for database in (old, new):
        database.sql("CREATE ROLE app LOGIN PASSWORD 'x'; CREATE DATABASE shop OWNER app")
        database.sql(
            "CREATE TABLE t (id serial PRIMARY KEY, n int); INSERT INTO t (n) SELECT generate_series(1, 9)", "shop"
        )
    town.agent.ok("backup", "--db", old.name, "--db", new.name)
    new.sql("INSERT INTO t DEFAULT VALUES", "shop")
    call = town.call("--db", old.name, "--target", new.name, "--confirm", new.name)
    assert call.exit_code == 0, call.output
    assert new.fingerprint("shop") == old.fingerprint("shop")
    old.sql("INSERT INTO t DEFAULT VALUES", "shop")
    before = unchanged(old)
    call = town.call("--db", new.name, "--target", old.name, "--confirm", old.name)
    assert one_sentence(call)["code"] == "older_server"
    assert re.search(r"PostgreSQL 18\..* runs 15\.", call.error["message"])
    assert unchanged(old) == before
    old.remove()
    new.remove()


def test_an_extension_that_the_target_lacks(town: Town) -> None:
    hide = 'f=$(pg_config --sharedir)/extension/hstore.control; mv "$f" "$f.hidden"'
    show = 'f=$(pg_config --sharedir)/extension/hstore.control; mv "$f.hidden" "$f"'
    docker("exec", town.spare.name, "sh", "-c", hide)
    try:
        sentence = town.refuses(
            "missing_extension", "--db", town.home.name, "--target", town.spare.name, "--confirm", town.spare.name
        )
    finally:
        docker("exec", town.spare.name, "sh", "-c", show)
    assert "hstore" in sentence


def test_a_role_that_is_missing_and_may_not_be_made(town: Town, prefix: str) -> None:
    # The official image ignores this variable, and makes its superuser postgres.
    environment = {"POSTGRES_PASSWORD": "s3cret", "POSTGRESQL_USERNAME": "weak"}
    modest = DatabaseContainer(f"{prefix}-modest", environment=environment)
    try:
        modest.start().sql("CREATE ROLE weak LOGIN CREATEDB; CREATE ROLE shop_app")
        before = unchanged(modest)
        call = town.call(
            "--db", town.home.name, "--database", "shop", "--target", modest.name, "--confirm", modest.name
        )
        assert one_sentence(call)["code"] == "missing_role"
        assert "shop_owner" in call.error["message"]
        assert "shop_app" not in call.error["message"]
        assert unchanged(modest) == before
    finally:
        modest.remove()


# -- no room for two ---------------------------------------------------------------------------------------


def damage(town: Town) -> Callable[[], None]:
    """Overwrite nearly all of each of the repository's packs, so that no piece of a dump is spared.

    Returns what mends them.
    """
    script = """
        set -e; cd /repository/data; mkdir /var/lib/scalr-backup/whole
        for pack in $(find . -type f -size +2k); do
          cp -p --parents "$pack" /var/lib/scalr-backup/whole/; chmod u+w "$pack"
          most=$(($(stat --format %s "$pack") * 9 / 10))
          head -c "$most" /dev/zero | dd of="$pack" conv=notrunc status=none
        done
    """
    docker("exec", town.agent.name, "sh", "-c", script)
    mend = "cp -rfp /var/lib/scalr-backup/whole/. /repository/data/ && rm -r /var/lib/scalr-backup/whole"
    return lambda: void(docker("exec", town.agent.name, "sh", "-c", mend))


def void(_anything: object) -> None:
    """Return nothing."""


def test_the_live_database_is_dropped_first_only_on_the_word_and_after_a_whole_read(town: Town) -> None:
    town.home.sql(SPOIL, "shop")
    replace = ["--db", town.home.name, "--database", "shop", "--snapshot", town.shop, "--strategy", "replace"]
    sentence = town.refuses("not_confirmed", *replace, "--confirm", town.home.name)
    assert f"replace {town.home.name}" in sentence
    town.refuses("usage", *replace, "--confirm", f"replace {town.home.name}", "--keep-old")
    mend = damage(town)
    try:
        before = unchanged(town.home)
        call = town.call(*replace, "--confirm", f"replace {town.home.name}")
        assert call.exit_code == 1, call.output
        assert one_sentence(call)["code"].startswith(("restic", "unknown_snapshot"))
        assert "drop" not in {event.get("phase") for event in call.events}
        assert "had already been dropped" not in call.output
        assert unchanged(town.home) == before
    finally:
        mend()
    call = town.call(*replace, "--confirm", f"replace {town.home.name}")
    assert call.exit_code == 0, call.output
    phases = [event["phase"] for event in call.events if event["event"] == "progress"]
    assert phases.index("read-through") < phases.index("drop") < phases.index("data")
    assert outcome_of(call)["old_database"] is None
    assert whole(town.home) == town.good


def test_a_failure_after_the_drop_names_the_way_back(town: Town) -> None:
    town.home.sql(SPOIL, "shop")
    spoilt = portrait(town.home, "shop")
    options = ["--db", town.home.name, "--database", "shop", "--snapshot", town.shop, "--strategy", "replace"]
    # The rehearsal before the drop has no rows to fail on.
    town.home.wrap("pg_restore", f'case "$*" in *--section=data*) ;; *) exec "$real" "$@";; esac\n{FAILS}')
    call = town.agent.call("restore", *options, "--confirm", f"replace {town.home.name}")
    town.home.unwrap("pg_restore")
    assert call.exit_code == 1, call.output
    sentence = one_sentence(call)["message"]
    assert "no luck today" in sentence
    assert "live database is as it was" not in sentence
    assert outcome_of(call)["dropped_first"] is True
    assert "shop" not in town.home.databases()
    way_back = re.search(r"-e db=(\S+) -e snapshot=([0-9a-f]{8})\.", sentence)
    assert way_back, sentence
    assert outcome_of(call)["safety_snapshot_id"].startswith(way_back[2])
    done = town.call("--db", way_back[1], "--snapshot", way_back[2], "--confirm", way_back[1])
    assert done.exit_code == 0, done.output
    assert portrait(town.home, "shop") == spoilt
    town.restore("--database", "shop", "--snapshot", town.shop)
    assert whole(town.home) == town.good


# -- and back again ----------------------------------------------------------------------------------------


def undo(town: Town, run: str, *options: str) -> Call:
    return town.agent.call("restore", "--undo", run, *options)


def test_a_restore_is_undone_and_the_undo_too(town: Town) -> None:
    town.home.sql(SPOIL, "shop")
    spoilt = town.home.fingerprint("shop")
    restored = town.restore("--keep-old").data
    assert {one["database"] for one in restored["databases"]} == {"shop", "blog"}
    assert town.home.fingerprint("shop") == town.good["shop"]["rows"]
    run = restored["run"]

    plan = undo(town, run, "--plan").data["plan"]
    assert plan["undo"] == run
    assert plan["confirm"] == town.home.name
    assert {one["old_database"] for one in plan["databases"]} == {one["old_database"] for one in restored["databases"]}
    before = unchanged(town.home)
    for options in ([], ["--confirm", town.spare.name], ["--db", town.spare.name, "--confirm", town.home.name]):
        call = undo(town, run, *options)
        assert call.exit_code == 1
        assert one_sentence(call)["code"] == ("unknown_run" if "--db" in options else "not_confirmed")
    call = undo(town, "20200101T000000Z-0000", "--confirm", town.home.name)
    assert one_sentence(call)["code"] == "unknown_run"
    assert f"{run} (of {town.home.name})" in call.error["message"]
    assert unchanged(town.home) == before

    undone = undo(town, run, "--confirm", town.home.name)
    assert undone.exit_code == 0, undone.output
    assert town.home.fingerprint("shop") == spoilt
    again = undo(town, undone.data["run"], "--confirm", town.home.name)
    assert again.exit_code == 0, again.output
    assert town.home.fingerprint("shop") == town.good["shop"]["rows"]
    assert undo(town, run, "--confirm", town.home.name).error["code"] == "unknown_run"

    # What an administrator has dropped cannot come back.
    for outcome in again.data["databases"]:
        town.home.sql(f'DROP DATABASE "{outcome["old_database"]}"')
    call = undo(town, again.data["run"], "--confirm", town.home.name)
    assert one_sentence(call)["code"] == "unknown_database"
    assert whole(town.home) == town.good


def test_an_undo_finds_what_a_restore_kept_that_was_killed_right_after_its_swap(town: Town) -> None:
    town.home.sql(SPOIL, "shop")
    spoilt = town.home.fingerprint("shop")
    docker("exec", town.home.name, "rm", "-f", "/tmp/go-on")
    town.home.wrap("pg_restore", WAITS)
    arguments = ["--db", town.home.name, "--database", "shop", "--confirm", town.home.name, "--no-safety-snapshot"]
    restore = town.agent.start_call("restore", *arguments, "--snapshot", town.shop, "--keep-old")
    wait_until(lambda: half_made(town.home) and town.home.processes("pg_restore") >= 1, "data flows")
    # Nobody can write the state from now on.
    docker("exec", "--detach", town.agent.name, "flock", "/var/lib/scalr-backup/locks/state", "sleep", "300")
    docker("exec", town.home.name, "touch", "/tmp/go-on")
    wait_until(lambda: not half_made(town.home), "the swap is over")
    [old] = [name for name in town.home.databases() if "_before_restore_" in name]
    town.agent.kill_processes("scalr_backup restore")
    restore.communicate()
    town.agent.kill_processes("sleep 300")
    town.home.unwrap("pg_restore")
    assert town.home.fingerprint("shop") == town.good["shop"]["rows"]
    run = re.sub(r".*_before_restore_", "", old)

    undone = undo(town, run, "--confirm", town.home.name)

    assert undone.exit_code == 0, undone.output
    assert town.home.fingerprint("shop") == spoilt
    again = undo(town, undone.data["run"], "--confirm", town.home.name)
    assert again.exit_code == 0, again.output
    town.home.sql(f'DROP DATABASE "{outcome_of(again)["old_database"]}"')
    assert whole(town.home) == town.good


# -- what is set for a database ----------------------------------------------------------------------------

TUNED = """
CREATE TABLE stock (n integer, region text CHECK (region = current_setting('app.region')), names text[], age interval);
INSERT INTO stock SELECT n, 'north', ARRAY[n::text, NULL, 'NULL'], '-1 day 2 hours' FROM generate_series(1, 10) AS n;
CREATE MATERIALIZED VIEW of_tenant AS SELECT n FROM stock WHERE n > current_setting('app.tenant', true)::integer;
"""
# The last three have no say in the restore itself: without rows it could not be, and a NULL would be a word.
SETTINGS = """
ALTER DATABASE tuned SET app.region = 'north';
ALTER ROLE postgres IN DATABASE tuned SET app.tenant = '7';
ALTER DATABASE tuned SET TimeZone = 'Old/Town';
ALTER DATABASE tuned SET intervalstyle = 'sql_standard';
ALTER DATABASE tuned SET array_nulls = off;
ALTER DATABASE tuned SET exit_on_error = on;
ALTER DATABASE tuned SET default_transaction_read_only = on;
COMMENT ON DATABASE tuned IS 'finely';
"""


def test_settings_are_there_before_the_rows_and_without_one_that_the_server_refuses(town: Town) -> None:
    town.home.sql("CREATE DATABASE tuned")
    inside(town.home.name, "sh", "-c", "cd /usr/share/zoneinfo && mkdir -p Old && cp UTC Old/Town")
    town.home.sql(SETTINGS.replace("ALTER DATABASE tuned SET default_transaction_read_only = on;", ""))
    town.home.sql(f"SET array_nulls = on; {TUNED}", "tuned")
    town.home.sql("ALTER DATABASE tuned SET default_transaction_read_only = on")
    views = "SELECT count(*), min(n) FROM of_tenant; SELECT count(*) FROM stock WHERE names[2] IS NULL AND names[3] = 'NULL'"
    seen = town.home.sql(views, "tuned")
    assert seen == "3|8\n10"
    rows = town.home.fingerprint("tuned")
    saved = town.agent.ok("backup", "--db", town.home.name)["databases"]
    snapshot = next(one["snapshot_id"] for one in saved if one["database"] == "tuned")
    town.home.sql("BEGIN READ WRITE; DELETE FROM stock; COMMIT", "tuned")
    # As in an image without the zones of old.
    inside(town.home.name, "rm", "/usr/share/zoneinfo/Old/Town")
    town.home.sql("ALTER DATABASE tuned RESET TimeZone")
    good = portrait(town.home, "tuned")

    options = ["--database", "tuned", "--snapshot", snapshot]
    for strategy, word in (("beside", town.home.name), ("replace", f"replace {town.home.name}")):
        call = town.restore(*options, "--strategy", strategy, into=word)
        [told] = [sentence for sentence in call.data["warnings"] if "left out" in sentence]
        assert told.startswith("The setting TimeZone of tuned was left out, because the server refuses it: ")
        assert town.home.sql(views, "tuned") == seen
        restored = portrait(town.home, "tuned")
        assert restored == {**good, "rows": rows}
    town.home.sql("DROP DATABASE tuned")
