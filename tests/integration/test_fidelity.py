# SPDX-License-Identifier: GPL-3.0-or-later
"""Fidelity: what comes back is what was saved, for everything that PostgreSQL can keep in a cluster."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker
from tests.support.fidelity import (
    LARGE_OBJECTS,
    ODD_NAME,
    SEQUENCES,
    fill,
    fixture_sql,
    make_regression_database,
    rows_of,
    settings_of,
)

DAMAGE_LIBRARY = """
ALTER EVENT TRIGGER note_creation DISABLE;
ALTER EVENT TRIGGER note_drop DISABLE;
DROP PUBLICATION everything;
DROP FOREIGN DATA WRAPPER dummy;
DROP SCHEMA library CASCADE;
DROP EXTENSION pg_trgm CASCADE;
DROP EXTENSION hstore CASCADE;
UPDATE public.api_keys SET key = 'stolen';
SELECT lo_unlink(4711), lo_put(4712, 7, 'xx');
CREATE TABLE public.intruder AS SELECT 1 AS n;
ALTER DEFAULT PRIVILEGES FOR ROLE library_owner GRANT ALL ON TABLES TO PUBLIC;
GRANT SELECT ON pg_catalog.pg_stat_activity TO PUBLIC;
"""
DAMAGE_PROPERTIES = """
DROP DATABASE legacy;
ALTER DATABASE library RESET work_mem;
ALTER DATABASE library SET datestyle = 'German';
ALTER DATABASE library CONNECTION LIMIT 3;
ALTER ROLE librarian IN DATABASE library RESET statement_timeout;
ALTER ROLE reader IN DATABASE library SET work_mem = '1MB';
REVOKE CONNECT ON DATABASE library FROM staff, reader;
GRANT ALL ON DATABASE library TO PUBLIC;
COMMENT ON DATABASE library IS NULL;
ALTER DATABASE library OWNER TO postgres;
"""

# Each key waits until the other's table is locked, which it is if both are made at once, and then looks at it. It does not
# wait in a session that has the advisory lock, as each has after the first time, nor for a key that is there already.
KNOT = """
CREATE FUNCTION public.meet(other regclass) RETURNS void IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
  FOR attempt IN 1..200 LOOP
    EXIT WHEN EXISTS (
      SELECT FROM pg_locks
      WHERE (relation = other AND mode = 'AccessExclusiveLock' AND granted AND pid <> pg_backend_pid())
        OR (locktype = 'advisory' AND pid = pg_backend_pid())
    ) OR EXISTS (SELECT FROM pg_constraint WHERE conrelid = other AND contype = 'x');
    PERFORM pg_sleep(0.05);
  END LOOP;
  PERFORM pg_advisory_lock_shared(1);
END $$;
CREATE FUNCTION public.look_at_a(int) RETURNS int IMMUTABLE LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.meet('public.a'); PERFORM count(*) FROM public.a; RETURN $1; END $$;
CREATE FUNCTION public.look_at_b(int) RETURNS int IMMUTABLE LANGUAGE plpgsql
  AS $$ BEGIN PERFORM public.meet('public.b'); PERFORM count(*) FROM public.b; RETURN $1; END $$;
SELECT pg_advisory_lock_shared(1);
CREATE TABLE a (n int);
CREATE TABLE b (n int);
INSERT INTO a VALUES (1);
INSERT INTO b VALUES (2);
ALTER TABLE a ADD CONSTRAINT a_excl EXCLUDE USING btree (public.look_at_b(n) WITH =);
ALTER TABLE b ADD CONSTRAINT b_excl EXCLUDE USING btree (public.look_at_a(n) WITH =);
"""

# A table that got a column of its own before it inherited the same one keeps its place; made anew from a dump, it has
# inherited columns first. PostgreSQL's own test of a dumped and restored regression database passes over the same
# tables (src/test/perl/PostgreSQL/Test/AdjustDump.pm).
REORDERED = (
    "generated_stored_tests.gtestxx_4",
    "generated_virtual_tests.gtestxx_4",
    "public.gtestxx_4",
    "public.test_type_diff2_c1",
    "public.test_type_diff2_c2",
    "public.test_type_diff2_c3",
)
# A materialized view comes back with what its query gives now; the regression tests leave this one out of date.
OUT_OF_DATE = ("public.mvtest_bb",)
# Lines that name programs and versions, and the one-time keys that keep psql's own commands out of dumps.
_ABOUT_THE_DUMP = re.compile(r"\\(un)?restrict |-- (Dumped|Started|Completed) |-- PostgreSQL database ")
_VIEW = re.compile(r"CREATE (MATERIALIZED |RECURSIVE |OR REPLACE )*VIEW |CREATE RULE ")
_QUALIFIER = re.compile(r"""(?<![\w'])(\w+|"(?:[^"]|"")+")\.(?=[\w"*])""")
_COLUMN_VERSION = re.compile(r"(?<=\()pg_attver=\d+(, )?|, pg_attver=\d+")
_ALL_OF_15 = "SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE"
# A policy names its roles in the order in which they were made (their OIDs), wherever it was made.
_POLICY = re.compile(r"(CREATE POLICY .* TO )([^()]*)( USING| WITH CHECK|;)")

MakeServer = Callable[[str, str], DatabaseContainer]


@dataclass(frozen=True)
class Picture:
    """Everything that can be seen of one database."""

    dump: list[str]
    rows: dict[str, str]
    sequences: str
    large_objects: str


@dataclass
class SavedCluster:
    """A cluster that is backed up, and what its databases and roles were like then."""

    database: DatabaseContainer
    pictures: dict[str, Picture]
    roles: list[str]


def dump(database: DatabaseContainer, name: str, *options: str, by: DatabaseContainer | None = None) -> list[str]:
    """The lines of a database's dump in SQL, rows sorted; by another, newer server's pg_dump if one is named."""
    client = by or database
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", database.name).stdout.strip()
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    text = docker(
        "exec", "--env", "PGPASSWORD=s3cret", client.name,
        "pg_dump", "--create", "--encoding=UTF8", *options,
        f"--dbname=host={address} user=postgres dbname='{quoted}'",
    ).stdout  # fmt: skip
    return list(in_order(text.split("\n")))


def in_order(lines: list[str]) -> Iterator[str]:
    """The lines of a dump without those about the dump itself; what pg_dump writes in no particular order, sorted.

    Those are the rows of a table, which lie as they were written or updated, the settings of roles in a database, and
    the roles of a policy.
    """
    for within, group in itertools.groupby(lines, _Unordered()):
        if within:
            yield from sorted(group)
        else:
            yield from (_POLICY.sub(_sort_roles, line) for line in group if line and not _ABOUT_THE_DUMP.match(line))


def _sort_roles(policy: re.Match[str]) -> str:
    return policy[1] + ", ".join(sorted(policy[2].split(", "))) + policy[3]


class _Unordered:
    """Tells lines whose order means nothing from the others, line by line."""

    def __init__(self) -> None:
        self._in_rows = False

    def __call__(self, line: str) -> bool:
        if self._in_rows:
            self._in_rows = line != "\\."
            return self._in_rows
        self._in_rows = line.startswith("COPY ") and line.endswith(" FROM stdin;")
        return line.startswith("ALTER ROLE ") and " IN DATABASE " in line


def picture(database: DatabaseContainer, name: str, *options: str, by: DatabaseContainer | None = None) -> Picture:
    return Picture(
        dump(database, name, *options, by=by),
        rows_of(database, name),
        database.sql(SEQUENCES, name),
        database.sql(LARGE_OBJECTS, name),
    )


def roles(database: DatabaseContainer, *, by: DatabaseContainer | None = None) -> list[str]:
    """What pg_dumpall says of roles; that of postgres itself is each cluster's own."""
    client = by or database
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", database.name).stdout.strip()
    text = docker(
        "exec", "--env", "PGPASSWORD=s3cret", client.name,
        "pg_dumpall", "--globals-only", f"--dbname=host={address} user=postgres dbname=postgres",
    ).stdout  # fmt: skip
    return [line for line in in_order(text.split("\n")) if not line.startswith(("-- ", "ALTER ROLE postgres WITH "))]


def assert_same_lines(before: list[str], after: list[str]) -> None:
    """The same text; what differs is shown short enough to read."""
    if before != after:
        found = difflib.unified_diff(before, after, "saved", "restored", lineterm="", n=2)
        pytest.fail("\n".join(line[:300] for line in itertools.islice(found, 200)), pytrace=False)


def assert_same(before: Picture, after: Picture) -> None:
    """Everything of a database is as it was."""
    assert_same_lines(before.dump, after.dump)
    assert after.rows == before.rows
    assert after.sequences == before.sequences
    assert after.large_objects == before.large_objects


@pytest.fixture(scope="module")
def make_server(make_database: Callable[..., DatabaseContainer]) -> MakeServer:
    """Start servers of a major version."""

    def make(name: str, version: str) -> DatabaseContainer:
        return make_database(name, **settings_of(version))

    return make


@pytest.fixture(scope="module", autouse=True)
def _in_order(keeper: AgentContainer) -> None:
    """Whatever can be dumped in the order of a key is, however small; tests of most other files have dumps in heap order."""
    keeper.configure(row_order="auto", row_order_least_bytes=0)


def save(keeper: AgentContainer, database: DatabaseContainer) -> SavedCluster:
    """Back a cluster up; what it is like, seen by its own client programs."""
    pictures = {name: picture(database, name) for name in database.databases() - {"postgres"}}
    keeper.ok("backup", "--db", database.name)
    return SavedCluster(database, pictures, roles(database))


# -- everything that PostgreSQL has ------------------------------------------------------------------------


# Restores of 15 and 17 are also those of the cluster that goes from 15 to 17 to 18.
@pytest.mark.parametrize(
    "version", [pytest.param("15", marks=pytest.mark.thorough), pytest.param("17", marks=pytest.mark.thorough), "18"]
)
def test_everything_comes_back_after_damage(version: str, make_server: MakeServer, keeper: AgentContainer) -> None:
    database = make_server(f"all{version}", version)
    fill(database)
    saved = save(keeper, database)
    assert {"library", "legacy", ODD_NAME} <= set(saved.pictures)
    database.sql(DAMAGE_LIBRARY, "library")
    database.sql('DROP SCHEMA maße CASCADE; CREATE SCHEMA public; CREATE TABLE public.größen ("x" int)', ODD_NAME)
    database.sql(DAMAGE_PROPERTIES)

    call = keeper.call("restore", "--db", database.name, "--no-safety-snapshot", "--confirm", database.name)

    assert call.exit_code == 0, call.output
    for name, before in saved.pictures.items():
        assert_same(before, picture(database, name))
    assert_same_lines(saved.roles, roles(database))
    database.remove()


# -- very many tables ----------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_ten_thousand_tables_come_back(make_server: MakeServer, keeper: AgentContainer) -> None:
    database = make_server("many", "17")
    database.sql("CREATE DATABASE many")
    database.sql(fixture_sql("many_tables.sql"), "many")
    before = picture(database, "many")
    assert len(before.rows) == 10_000
    keeper.ok("backup", "--db", database.name)
    database.sql("TRUNCATE tenant_7.t_7, tenant_8.t_8; DROP TABLE tenant_9.t_9", "many")
    database.sql("SELECT setval('tenant_0.t_100_id_seq', 99)", "many")

    done = keeper.ok("restore", "--db", database.name, "--no-safety-snapshot", "--confirm", database.name)

    assert done["databases"][0]["verified"] == {"tables": 10_000, "rows": 15_000, "sequences": 500}
    assert_same(before, picture(database, "many"))
    database.remove()


# -- PostgreSQL's own regression database ----------------------------------------------------------------------


@pytest.mark.parametrize("version", [pytest.param("17", marks=pytest.mark.thorough), "18"])
def test_the_regression_database_comes_back(version: str, make_server: MakeServer, keeper: AgentContainer) -> None:
    database = make_server(f"regression{version}", version)
    make_regression_database(database, version)
    before = picture(database, "regression", "--schema-only")
    assert len(before.rows) > 300
    keeper.ok("backup", "--db", database.name)
    database.sql("DROP SCHEMA public CASCADE; DROP EVENT TRIGGER IF EXISTS test_event_trigger_guc", "regression")

    done = keeper.ok("restore", "--db", database.name, "--no-safety-snapshot", "--confirm", database.name)

    after = picture(database, "regression", "--schema-only")
    assert_same(tolerant(before), tolerant(after))
    assert done["databases"][0]["verified"]["tables"] > 300
    database.remove()


def tolerant(seen: Picture) -> Picture:
    """The picture without what PostgreSQL's own dump and restore change."""
    lines, inside = [], False
    columns: list[str] = []
    for line in seen.dump:
        if inside and line.startswith(")"):
            lines += sorted(columns)
            inside, columns = False, []
        if inside:
            columns.append(line.removesuffix(","))
        else:
            lines.append(line)
        if line in {f"CREATE TABLE {name} (" for name in REORDERED}:
            inside = True
    rows = {relation: hashed for relation, hashed in seen.rows.items() if relation not in OUT_OF_DATE}
    return replace(seen, dump=lines, rows=rows)


# -- from version to version, into empty clusters ----------------------------------------------------------------


@pytest.mark.thorough
def test_a_lost_cluster_comes_back_into_an_empty_one(make_server: MakeServer, keeper: AgentContainer) -> None:
    lost = make_server("lost", "17")
    fill(lost)
    saved = save(keeper, lost)
    lost.remove()
    empty = make_server("lost", "17")

    come_back(keeper, empty)

    assert empty.databases() == {*saved.pictures, "postgres"}
    for name, before in saved.pictures.items():
        assert_same(before, picture(empty, name))
    assert_same_lines(saved.roles, roles(empty))
    empty.remove()


def test_a_cluster_comes_back_from_15_to_17_to_18(make_server: MakeServer, keeper: AgentContainer, prefix: str) -> None:
    newer = make_server("upgraded", "15")
    fill(newer)
    for version in ("17", "18"):
        keeper.ok("backup", "--db", newer.name)
        # The older one stays to be compared, out of the agent's sight.
        older = replace(newer, name=f"{prefix}-older")
        docker("rename", newer.name, older.name)
        try:
            newer = make_server("upgraded", version)

            come_back(keeper, newer)

            assert newer.databases() == older.databases()
            for name in older.databases() - {"postgres"}:
                # Both by the newer pg_dump: it says the same of the same, whichever server it asks.
                assert_same(any_version(picture(older, name, by=newer)), any_version(picture(newer, name)))
            assert_same_lines(roles_of_any_version(older, by=newer), roles_of_any_version(newer))
        finally:
            older.remove()
    newer.remove()


def test_jobs_that_lock_each_other_out_are_followed_by_one(make_server: MakeServer, keeper: AgentContainer) -> None:
    knot = make_server("knot", "17")
    knot.sql("CREATE DATABASE knot")
    knot.sql(KNOT, "knot")
    keeper.ok("backup", "--db", knot.name)
    knot.sql("DROP DATABASE knot")

    call = keeper.call("restore", "--db", knot.name, "--confirm", knot.name, "--database", "knot")

    assert call.exit_code == 0, call.output
    [outcome] = call.data["databases"]
    assert outcome["jobs"] == 1
    [warning] = call.data["warnings"]
    assert warning.startswith("Several jobs at once could not create ")
    assert "deadlock detected" in warning
    assert knot.sql("SELECT count(*) FROM pg_constraint WHERE conname IN ('a_excl', 'b_excl')", "knot") == "2"
    knot.remove()


def come_back(keeper: AgentContainer, database: DatabaseContainer) -> None:
    """Restore the whole cluster into an empty one of the same name."""
    call = keeper.call("restore", "--db", database.name, "--confirm", database.name)
    assert call.exit_code == 0, call.output


def roles_of_any_version(database: DatabaseContainer, *, by: DatabaseContainer | None = None) -> list[str]:
    """The roles; since 16, a membership tells who granted it and whether it is inherited, which the role told before."""
    return [
        re.sub(r",? (WITH )?INHERIT TRUE| GRANTED BY .*(?=;)", "", line) if line.startswith("GRANT ") else line
        for line in roles(database, by=by)
    ]


def any_version(seen: Picture) -> Picture:
    """The picture in words that mean the same to any version.

    pg_dump takes them from the server that it asks:

    - Since 16, a view's definition names a column without its table where that is clear
      (``get_variable`` in PostgreSQL's ruleutils.c); so no name in a view has its qualifier here.
    - Since 16, an ICU locale is kept as the language tag that ICU itself gives it
      (release notes of 16, "canonicalize ICU locale names").
    - 17 has a privilege more on tables, MAINTAIN. What 15 calls all privileges are all of 17 when they are granted
      there, and one less than all of 17 to its pg_dump.
    - 17.12 notes an option ``pg_attver`` of its own on each column. Its pg_dump leaves that out; 18.6's does not know it.
    """
    lines, in_view = [], False
    for line in filter(None, map(_without_column_versions, seen.dump)):
        in_view = (in_view and not line.startswith("ALTER ")) or bool(_VIEW.match(line))
        if in_view:
            lines.append(_QUALIFIER.sub("", line))
        elif line.startswith(("GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES ")):
            lines.append(line.replace(_ALL_OF_15, "ALL"))
        else:
            lines.append(line.replace("'en-u-kn-true'", "'en-u-kn'"))
    return replace(seen, dump=lines)


def _without_column_versions(line: str) -> str:
    """A line that sets options of a column, without PostgreSQL's own one; nothing where it was the only one."""
    kept = _COLUMN_VERSION.sub("", line)
    return "" if kept != line and kept.endswith(" SET ();") else kept


# -- what only looks like fidelity -------------------------------------------------------------------------------

# Each writes a row whenever it fires; a restore fires it unless it is kept still.
AUDITED = """
CREATE TABLE audit (what text);
CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO public.audit VALUES (tg_event || ' ' || tg_tag); END $$;
CREATE TABLE items AS SELECT n FROM generate_series(1, 100) AS n;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM items;
INSERT INTO audit VALUES ('all is quiet');
CREATE EVENT TRIGGER note_end ON ddl_command_end EXECUTE FUNCTION note();
CREATE EVENT TRIGGER note_start ON ddl_command_start EXECUTE FUNCTION note();
"""
AUDITS_LOGINS = """
CREATE EVENT TRIGGER note_login ON login EXECUTE FUNCTION note();
ALTER EVENT TRIGGER note_login ENABLE ALWAYS;
"""


@pytest.mark.parametrize("version", [pytest.param("15", marks=pytest.mark.thorough), "17"])
def test_event_triggers_write_nothing_during_a_restore(
    version: str, make_server: MakeServer, keeper: AgentContainer
) -> None:
    database = make_server(f"audited{version}", version)
    database.sql("CREATE DATABASE audited")
    database.sql(AUDITED, "audited")
    keeper.ok("backup", "--db", database.name)
    database.sql("ALTER EVENT TRIGGER note_end DISABLE; DELETE FROM audit; DROP TABLE items CASCADE", "audited")

    call = keeper.call("restore", "--db", database.name, "--no-safety-snapshot", "--confirm", database.name)

    assert call.exit_code == 0, call.output
    assert database.sql("SELECT what FROM audit", "audited") == "all is quiet"
    triggers = database.sql("SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY evtname", "audited")
    assert triggers == "note_end|O\nnote_start|O"
    assert database.sql("SELECT count FROM kept", "audited") == "100"
    database.remove()


def test_a_trigger_on_logins_writes_nothing_into_a_half_made_database(
    make_server: MakeServer, keeper: AgentContainer
) -> None:
    database = make_server("logins", "17")
    database.sql("CREATE DATABASE audited")
    database.sql(AUDITED + AUDITS_LOGINS, "audited")
    saved = keeper.ok("backup", "--db", database.name)
    database.sql("DROP DATABASE audited")

    call = keeper.call("restore", "--db", database.name, "--confirm", database.name)

    assert saved["failed"] == 0
    assert call.exit_code == 0, call.output
    assert call.data["databases"][0]["verified"]["tables"] == 2
    database.remove()


def test_a_subscription_comes_back_and_does_not_keep_the_old_database(
    make_server: MakeServer, keeper: AgentContainer
) -> None:
    database = make_server("subscriber", "17")
    database.sql("CREATE DATABASE news")
    subscribe = """CREATE SUBSCRIPTION "the; news" CONNECTION 'host=away.invalid' PUBLICATION p
                   WITH (connect = false, slot_name = news)"""
    database.sql(f"SET client_min_messages = error; {subscribe}; CREATE TABLE items AS SELECT 1 AS n", "news")
    before = picture(database, "news")
    keeper.ok("backup", "--db", database.name)
    database.sql("DROP TABLE items", "news")

    done = keeper.ok("restore", "--db", database.name, "--no-safety-snapshot", "--confirm", database.name)

    assert done["warnings"] == []
    assert database.databases() == {"news", "postgres"}
    assert_same(before, picture(database, "news"))
    database.remove()
