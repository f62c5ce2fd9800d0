# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which an ordered dump could be wrong: it is found before the first byte, and the dump is a plain one, or it fails.

Each danger has a database of its own on one server. What is made here by hand, such as an index that lacks entries or a plan that
is not true any more, the agent meets as a server's fault or as what happens between one look and the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from scalr_backup.core.row_order import OrderPlan, OrderWish, Scan

from tests.support.archive_comparison import differences, read_archive
from tests.support.containers import DatabaseContainer, inside
from tests.support.fidelity import settings_of
from tests.support.ordered_dumps import Produced, Snapshot, in_bytes, ordered_dump, plan_of, quoted, snapshot_of

EVERY_TABLE = OrderWish(least_bytes=0)
TABLE = """
CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, x text);
INSERT INTO t (x) SELECT 'row ' || n || repeat('.', 30) FROM generate_series(1, 2000) AS n;
UPDATE t SET x = x || '!' WHERE id % 7 = 0;
CREATE TABLE u AS SELECT id, x FROM t;
ANALYZE;
"""
# Its index does not get the entries of what is inserted meanwhile.
WITHOUT_ENTRIES = """
UPDATE pg_index SET indisready = false WHERE indexrelid = 't_pkey'::regclass;
INSERT INTO t (x) SELECT 'hidden ' || n FROM generate_series(1, 3) AS n;
UPDATE pg_index SET indisready = true WHERE indexrelid = 't_pkey'::regclass;
"""


@pytest.fixture(scope="module")
def server(make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    settings = settings_of("18")
    # Its first process is no server, which takes any process for one of its own that is killed when its parent is gone.
    return make_database("dangers", **{**settings, "options": [*settings["options"], "--init"]})


@pytest.fixture
def made(server: DatabaseContainer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with a table that is ordered, and one that is not."""
    name = f"danger_{abs(hash(request.node.nodeid)) % 10**9}"
    server.sql(f"CREATE DATABASE {name}")
    server.sql(TABLE, name)
    yield name
    for program in ("psql", "pg_dump"):
        server.unwrap(program)
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")


def planned(snapshot: Snapshot, scan: Scan = Scan.SORT) -> OrderPlan:
    """The plan of the one table, which is read in that way, from its beginning."""
    plan = plan_of(snapshot, EVERY_TABLE)
    assert [table.name for table in plan.ordered] == ["t"]
    return replace(plan, ordered=(replace(plan.ordered[0], scan=scan, descending=False),))


def with_table(plan: OrderPlan, **changes: object) -> OrderPlan:
    [table] = plan.ordered
    return replace(plan, ordered=(replace(table, **changes),))  # type: ignore[arg-type]


def ids(produced: Produced) -> list[int]:
    """The keys of the rows, as they stand in the archive."""
    return [int(line.split(b"\t")[0]) for line in read_archive(produced.archive).table_data("public", "t").lines]


def assert_genuine(snapshot: Snapshot, produced: Produced) -> None:
    assert produced.exit_code == 0, produced.report
    assert differences(read_archive(produced.archive), read_archive(snapshot.genuine_dump())) == []


def assert_plain(snapshot: Snapshot, produced: Produced, why: str = "") -> None:
    """It is what pg_dump alone writes, and the report says why."""
    assert_genuine(snapshot, produced)
    assert produced.ordered == set()
    assert produced.why_plain
    assert why in produced.why_plain


def assert_failed(produced: Produced, *words: str) -> None:
    """Its exit code keeps restic from saving anything."""
    assert produced.exit_code != 0
    assert produced.error
    for word in words:
        assert word in produced.error


# -- an index that lacks entries ------------------------------------------------------------------------------------


def test_an_index_that_lacks_entries_is_found_and_named(server: DatabaseContainer, made: str) -> None:
    server.sql(WITHOUT_ENTRIES, made)
    with snapshot_of(server, made) as snapshot:
        produced = ordered_dump(snapshot, planned(snapshot, Scan.INDEX))
    assert_failed(produced, "t_pkey", "public", "2000", "2003", "REINDEX INDEX")


@pytest.mark.parametrize(
    "settings", ["", "enable_sort=off", "enable_seqscan=off", "enable_sort=off enable_seqscan=off"]
)
def test_a_sort_does_not_ask_the_index_whatever_the_planner_is_told(
    server: DatabaseContainer, made: str, settings: str
) -> None:
    server.sql(WITHOUT_ENTRIES, made)
    for setting in settings.split():
        server.sql(f"ALTER DATABASE {made} SET {setting}")
        server.sql(f"ALTER ROLE postgres IN DATABASE {made} SET {setting}")
    with snapshot_of(server, made) as snapshot:
        produced = ordered_dump(snapshot, planned(snapshot))
        assert_genuine(snapshot, produced)
    assert ids(produced) == list(range(1, 2004))


def test_an_index_scan_is_one_whatever_the_planner_is_told(server: DatabaseContainer, made: str) -> None:
    """Else it would sort in memory that nobody has allowed for."""
    for setting in ("enable_indexscan=off", "enable_indexonlyscan=off", "enable_sort=on"):
        server.sql(f"ALTER ROLE postgres IN DATABASE {made} SET {setting}")
    server.sql(f"ALTER DATABASE {made} SET log_temp_files = 0")
    with snapshot_of(server, made) as snapshot:
        produced = ordered_dump(snapshot, planned(snapshot, Scan.INDEX))
        assert_genuine(snapshot, produced)
    assert ids(produced) == list(range(1, 2001))


# -- between one look and the next ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "TRUNCATE t",
        pytest.param("VACUUM FULL t", marks=pytest.mark.thorough),
        pytest.param("CLUSTER t USING t_pkey", marks=pytest.mark.thorough),
        "ALTER TABLE t ALTER COLUMN id TYPE bigint",
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, x text)",
        "ALTER TABLE t RENAME TO t2; ALTER TABLE u RENAME TO t",
        pytest.param("ALTER TABLE t RENAME COLUMN x TO y", marks=pytest.mark.thorough),
        "DROP TABLE u; ALTER TABLE t RENAME TO u; CREATE VIEW t AS SELECT 1 AS id, 'x'::text AS x",
    ],
)
def test_a_table_that_was_changed_since_the_snapshot_is_left_to_pg_dump(
    server: DatabaseContainer, made: str, change: str
) -> None:
    with snapshot_of(server, made) as snapshot:
        plan = planned(snapshot)
        for statement in change.split("; "):
            server.sql(statement, made)
        produced = ordered_dump(snapshot, plan)
        if produced.exit_code == 0:
            assert_plain(snapshot, produced)
        else:
            # pg_dump cannot dump it either.
            with pytest.raises(AssertionError):
                snapshot.genuine_dump()


def test_a_table_that_was_truncated_before_the_plan_is_left_to_pg_dump(server: DatabaseContainer, made: str) -> None:
    with snapshot_of(server, made) as snapshot:
        server.sql("TRUNCATE t", made)
        produced = ordered_dump(snapshot, plan_of(snapshot, EVERY_TABLE))
        assert_genuine(snapshot, produced)
    assert "t" not in produced.ordered


def test_rows_that_come_later_are_in_no_block(server: DatabaseContainer, made: str) -> None:
    with snapshot_of(server, made) as snapshot:
        plan = planned(snapshot)
        server.sql("INSERT INTO t (x) VALUES ('late'); DELETE FROM t WHERE id < 100", made)
        produced = ordered_dump(snapshot, plan)
        assert_genuine(snapshot, produced)
    assert ids(produced) == list(range(1, 2001))


# -- what pg_dump makes of the exclusion ------------------------------------------------------------------------------

NOT_EXCLUDING = r"""
for argument; do case "$argument" in --exclude-table-data*) ;; *) set -- "$@" "$argument" ;; esac; shift; done
exec "$real" "$@"
"""


def test_an_exclusion_that_matches_nothing_does_not_double_the_rows(server: DatabaseContainer, made: str) -> None:
    server.wrap("pg_dump", NOT_EXCLUDING)
    with snapshot_of(server, made) as snapshot:
        produced = ordered_dump(snapshot, planned(snapshot))
        server.unwrap("pg_dump")
        if produced.exit_code == 0:
            assert_plain(snapshot, produced)
        else:
            assert_failed(produced)
            assert not produced.archive


def test_a_plan_of_another_database_is_left_to_pg_dump(server: DatabaseContainer, made: str) -> None:
    with snapshot_of(server, made) as snapshot:
        for changes in ({"oid": 1259}, {"name": "nothing"}, {"namespace": "pg_catalog"}):
            produced = ordered_dump(snapshot, with_table(planned(snapshot), **changes))
            assert_plain(snapshot, produced)


def test_a_newer_archive_is_passed_as_it_is(server: DatabaseContainer, made: str) -> None:
    """Its version is one that nobody here knows: so pg_dump dumps everything."""
    server.wrap(
        "pg_dump",
        r"""
        case "$*" in
          *--format=custom*) set -o pipefail; "$real" "$@" | { head -c 6; head -c 1 > /dev/null; printf '\021'; cat; };;
          *) exec "$real" "$@";;
        esac
    """,
    )
    server.wrap(
        "pg_restore",
        r"""
        exec 3<&0; { head -c 6; head -c 1 > /dev/null; printf '\020'; cat; } <&3 | "$real" "$@"
    """,
    )
    try:
        with snapshot_of(server, made) as snapshot:
            produced = ordered_dump(snapshot, planned(snapshot))
            server.unwrap("pg_dump")
            assert produced.exit_code == 0, produced.report
            assert produced.archive[5:8] == bytes((1, 17, 0))
            known = produced.archive[:6] + b"\x10" + produced.archive[7:]
            assert differences(read_archive(known), read_archive(snapshot.genuine_dump())) == []
    finally:
        server.unwrap("pg_restore")
    assert produced.why_plain


# A pg_dump that collects rows in a buffer, as newer ones do, in Perl, which the images have.
IN_PIECES = r"""
set -o pipefail
"$real" "$@" | perl -e '
  local $/; $all = <STDIN>; sub number { my ($s, $v) = unpack("CV", substr($all, $at, 5)); $at += 5; return $s ? -$v : $v }
  sub text { my $n = number(); $at += $n if $n > 0; return $n < 0 ? undef : substr($all, $at - $n, $n) }
  $minor = ord(substr($all, 6, 1)); $at = 11; $at += $minor >= 15 ? 1 : 5; number() for 1 .. 7; text() for 1 .. 3;
  $count = number();
  for (1 .. $count) {
    number(); number(); text() for 1 .. 4; number(); text() for 1 .. 6; number() if $minor >= 16; text() for 1 .. 2;
    while (defined(text())) { } $at += 9;
  }
  print substr($all, 0, $at);
  while ($at < length $all) {
    $kind = ord(substr($all, $at, 1)); print substr($all, $at, 6); $at += 6;
    if ($kind == 3) { while (1) { print substr($all, $at, 5); last unless number();
                                  while (1) { $from = $at; $n = number(); $at += $n; print substr($all, $from, $at - $from); last unless $n } } next }
    $rows = ""; while ($n = number()) { $rows .= substr($all, $at, $n); $at += $n }
    for ($i = 0; $i < length $rows; $i += 131072) { $piece = substr($rows, $i, 131072); print pack("CV", 0, length $piece), $piece }
    print pack("CV", 0, 0);
  }'
"""


def test_pieces_of_a_newer_pg_dump_become_rows_again(server: DatabaseContainer, made: str) -> None:
    server.sql(
        "CREATE TABLE v AS SELECT repeat(md5(n::text), 40) AS x FROM generate_series(1, 2000) AS n; CREATE TABLE w (x int);"
        "INSERT INTO v VALUES (repeat('long', 100000)), (''), (E'\\\\.'); SELECT lo_from_bytea(0, repeat('x', 300000)::bytea)",
        made,
    )
    with snapshot_of(server, made) as snapshot:
        genuine = snapshot.genuine_dump()
        server.wrap("pg_dump", IN_PIECES)
        assert not all(block.is_a_piece_a_row for block in read_archive(snapshot.genuine_dump()).blocks)
        produced = ordered_dump(snapshot, planned(snapshot))
    assert produced.exit_code == 0, produced.report
    archive = read_archive(produced.archive)
    assert differences(archive, read_archive(genuine)) == []
    assert all(block.is_a_piece_a_row for block in archive.blocks)


# -- settings of a role or a database ---------------------------------------------------------------------------------

ODD_SETTINGS = """
quote_all_identifiers = on
search_path = evil, pg_catalog, public
DateStyle = 'SQL, DMY'
IntervalStyle = sql_standard
extra_float_digits = -5
bytea_output = escape
standard_conforming_strings = off
TimeZone = 'Asia/Kolkata'
default_transaction_isolation = serializable
default_transaction_read_only = on
default_transaction_deferrable = on
statement_timeout = '1s'
lock_timeout = '1s'
idle_in_transaction_session_timeout = '1s'
transaction_timeout = '1s'
client_encoding = LATIN1
client_min_messages = debug5
row_security = on
xmlbinary = hex
array_nulls = off
max_parallel_workers_per_gather = 8
debug_parallel_query = on
parallel_setup_cost = 0
parallel_tuple_cost = 0
min_parallel_table_scan_size = 0
enable_seqscan = off
enable_sort = off
enable_indexscan = off
work_mem = '64kB'
synchronize_seqscans = on
log_statement = 'all'
escape_string_warning = on
backslash_quote = off
jit = on
"""
# The one of the database's default that its owner would like a superuser to run.
EVIL = """
CREATE SCHEMA evil;
CREATE FUNCTION evil.count() RETURNS bigint LANGUAGE sql AS 'SELECT 1/0::bigint';
CREATE FUNCTION evil.format(text, text, text) RETURNS text LANGUAGE sql AS 'SELECT (1/0)::text';
CREATE FUNCTION evil.pg_relation_filenode(oid) RETURNS oid LANGUAGE sql AS 'SELECT (1/0)::oid';
CREATE FUNCTION evil.less(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT 1/0 = 1';
CREATE OPERATOR evil.< (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.less);
CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.less);
CREATE TABLE odd (id int PRIMARY KEY, at timestamptz, span interval, f float8, b bytea, m money, "select" text, "Ü" text);
INSERT INTO odd SELECT n, '2026-03-29 01:30+00'::timestamptz + n * interval '1 h', make_interval(days => n, secs => -n / 3.0),
  n / 3.0, decode('5c00ff', 'hex'), n, 'a\\b''c', 'ü' FROM generate_series(1, 500) AS n;
UPDATE odd SET f = -f WHERE id % 5 = 0;
ANALYZE odd;
"""


def test_settings_of_a_role_or_a_database_make_no_difference(server: DatabaseContainer, made: str) -> None:
    server.sql(EVIL, made)
    both = (f"DATABASE {made}", f"ROLE postgres IN DATABASE {made}")
    server.sql("".join(f"ALTER {one} SET {two};" for one in both for two in ODD_SETTINGS.strip().splitlines()))
    with snapshot_of(server, made) as snapshot:
        plan = plan_of(snapshot, EVERY_TABLE)
        assert {table.name for table in plan.ordered} == {"t", "odd"}
        for scan in Scan:
            chosen = replace(plan, ordered=tuple(replace(table, scan=scan) for table in plan.ordered))
            produced = ordered_dump(snapshot, chosen)
            assert_genuine(snapshot, produced)
            assert produced.ordered == {"t", "odd"}


# -- who may see what -------------------------------------------------------------------------------------------------


def test_rows_that_a_policy_hides_are_never_left_out_in_silence(server: DatabaseContainer, made: str) -> None:
    """It comes after the plan, and binds the owner, who is no superuser."""
    server.sql("CREATE ROLE limited LOGIN; GRANT pg_read_all_data TO limited; ALTER TABLE t OWNER TO limited", made)
    try:
        with snapshot_of(server, made) as snapshot:
            plan = planned(snapshot)
            server.sql(
                "CREATE POLICY few ON t USING (id < 5); ALTER TABLE t ENABLE ROW LEVEL SECURITY; "
                "ALTER TABLE t FORCE ROW LEVEL SECURITY",
                made,
            )
            produced = ordered_dump(replace(snapshot, database=replace(server, user="limited")), plan)
        assert_failed(produced)
    finally:
        server.sql("DROP OWNED BY limited; ", made)
        server.sql("DROP ROLE limited")


def test_an_operator_of_somebody_else_orders_nothing(server: DatabaseContainer, made: str) -> None:
    """Comparing would run that one's code with the rights of the backup's role: here it can only be seen to fail."""
    server.sql(
        """
        CREATE FUNCTION spy(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
          IF current_setting('application_name') LIKE 'scalr%' THEN RAISE 'owned'; END IF;
          RETURN CASE WHEN $1 < $2 THEN -1 WHEN $1 > $2 THEN 1 ELSE 0 END; END $$;
        CREATE OPERATOR CLASS spying FOR TYPE int USING btree AS
          OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 spy(int, int);
        CREATE TABLE spied (id int NOT NULL, x text);
        INSERT INTO spied SELECT n, n FROM generate_series(1, 500) AS n;
        CREATE UNIQUE INDEX ON spied (id spying);
        ANALYZE spied;
        """,
        made,
    )
    with snapshot_of(server, made) as snapshot:
        plan = plan_of(snapshot, EVERY_TABLE)
        assert {table.name for table in plan.ordered} == {"t"}
        assert_genuine(snapshot, ordered_dump(snapshot, plan))


def test_an_index_that_calls_a_function_by_an_operator_orders_nothing(server: DatabaseContainer, made: str) -> None:
    """To plan a query, the server would compute what is constant in it. The catalogs say what the operator is, and no more."""
    server.sql(
        """
        CREATE FUNCTION spy(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
          IF current_setting('application_name') LIKE 'scalr%' THEN RAISE 'owned'; END IF; RETURN 1; END $$;
        CREATE OPERATOR @#@ (LEFTARG = int, RIGHTARG = int, FUNCTION = spy);
        """,
        made,
    )
    with snapshot_of(server, made) as snapshot:
        plan = planned(snapshot)
    server.sql("CREATE INDEX ON t ((id + (1 @#@ 2)))", made)
    with snapshot_of(server, made) as snapshot:
        assert plan_of(snapshot, EVERY_TABLE).ordered == ()
        produced = ordered_dump(snapshot, plan)
        assert_genuine(snapshot, produced)
        assert produced.ordered == set()


def test_a_count_that_gets_no_connection_does_not_cost_a_dump_that_is_complete(
    server: DatabaseContainer, made: str
) -> None:
    """It is found out before the first byte, and not at the end."""
    server.sql("CREATE ROLE few LOGIN CONNECTION LIMIT 2; GRANT pg_read_all_data TO few")
    try:
        with snapshot_of(server, made) as snapshot:
            as_few = replace(snapshot, database=replace(server, user="few"))
            produced = ordered_dump(as_few, planned(snapshot, Scan.INDEX))
            assert_plain(snapshot, produced)
    finally:
        server.sql("DROP OWNED BY few; DROP ROLE few")


# -- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding",
    [pytest.param(one, marks=pytest.mark.thorough) for one in ("LATIN1", "WIN1251")] + ["EUC_JP", "SQL_ASCII"],
)
def test_names_and_rows_in_other_encodings_go_through_as_bytes(server: DatabaseContainer, encoding: str) -> None:
    text = {"LATIN1": "café", "SQL_ASCII": "caf", "EUC_JP": "表能", "WIN1251": "кот"}[encoding]
    codec = {"LATIN1": "latin-1", "SQL_ASCII": "utf-8", "EUC_JP": "euc_jp", "WIN1251": "cp1251"}[encoding]
    name = f"in_{encoding.lower()}"
    server.sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    try:
        odd = b"\\351\\202" if encoding == "SQL_ASCII" else b""
        script = f"""
        CREATE SCHEMA "s{text}"; CREATE TABLE "s{text}"."t{text}" (id serial PRIMARY KEY, "c{text}" text);
        INSERT INTO "s{text}"."t{text}" ("c{text}") SELECT '{text}' || n FROM generate_series(1, 500) AS n;
        CREATE TABLE plain_name (id serial PRIMARY KEY, x text);
        INSERT INTO plain_name (x) SELECT E'{text}"""
        insert = (
            script.encode(codec)
            + odd
            + b"' || n FROM generate_series(1, 500) AS n; UPDATE plain_name SET x = x WHERE id % 5 = 0; ANALYZE;"
        )
        argv = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", quoted(name)]
        in_bytes(server, argv, insert, {"PGCLIENTENCODING": encoding})
        with snapshot_of(server, name) as snapshot:
            assert snapshot.encoding == encoding
            plan = plan_of(snapshot, EVERY_TABLE)
            assert "plain_name" in {table.name for table in plan.ordered}
            produced = ordered_dump(snapshot, plan)
            assert_genuine(snapshot, produced)
            assert "plain_name" in produced.ordered
    finally:
        server.sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_bytes_of_a_name_that_have_no_place_in_its_encoding_do_no_harm(server: DatabaseContainer) -> None:
    server.sql("CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    try:
        statements = b"""CREATE TABLE "caf\351" (id serial PRIMARY KEY, "\202" text); INSERT INTO "caf\351" ("\202") VALUES ('\377');
        CREATE TABLE t (id serial PRIMARY KEY, x text); INSERT INTO t (x) VALUES ('\351'); ANALYZE;"""
        in_bytes(server, ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "raw"], statements)
        with snapshot_of(server, "raw") as snapshot:
            assert_genuine(snapshot, ordered_dump(snapshot, plan_of(snapshot, EVERY_TABLE)))
    finally:
        server.sql("DROP DATABASE raw WITH (FORCE)")


# -- a psql that does not tell the truth --------------------------------------------------------------------------------

# What the session that reads rows prints after its first 30,000 bytes, which no look at a catalog of this size has.
LYING = r"""
mode=$(cat /tmp/mode)
fifo=$(mktemp -u); mkfifo "$fifo"
"$real" "$@" <&0 > "$fifo" & child=$!
perl -e '
  my ($mode, $child) = @ARGV; my $passed = 0; $| = 1;
  while (($got = sysread(STDIN, $piece, 8192)) > 0) {
    $passed += $got;
    if ($passed > 30000 && !$done++) {
      if ($mode eq "fewer") { $piece =~ s/\n[^\n]*\n/\n/ }
      if ($mode eq "more") { $piece =~ s/\n([^\n]*\n)/\n$1$1/ }
      if ($mode eq "no row") { $piece =~ s/\n/\n\\.\n/ }
      if ($mode eq "marker") { $piece =~ s/\n/"\n\\." . "0" x 32 . "\n"/e }
      if ($mode eq "unended") { syswrite(STDOUT, "x"); kill 9, $child; exit 0 }
      if ($mode eq "dies") { kill 9, $child; exit 1 }
      if ($mode eq "quiet") { kill 9, $child; exit 0 }
      if ($mode eq "complaints") { while (1) { syswrite(STDERR, "x" x 8192) or exit 1 } }
      if ($mode eq "flood") { while (1) { syswrite(STDOUT, "1\tx\n" x 2000) or exit 1 } }
      if ($mode eq "one row") { while (1) { syswrite(STDOUT, "x" x 8192) or exit 1 } }
      if ($mode eq "silent") { sleep 600 }
    }
    syswrite(STDOUT, $piece);
  }' "$mode" "$child" < "$fifo"
code=$?; rm -f "$fifo"; [ $code = 0 ] || exit $code; [ "$mode" = quiet ] && exit 0; wait "$child"
"""
LIES = ("no row", "marker", "unended", "dies", "quiet", "complaints", "flood", "one row", "silent", "fewer", "more")
BY_DEFAULT = {"no row", "unended", "quiet", "flood", "fewer"}


@pytest.mark.parametrize(
    ("lie", "scan"),
    [
        *(
            pytest.param(one, Scan.SORT, marks=[] if one in BY_DEFAULT else pytest.mark.thorough, id=one)
            for one in LIES
        ),
        # An index scan's rows are counted once more.
        pytest.param("fewer", Scan.INDEX, id="fewer by the index"),
        pytest.param("more", Scan.INDEX, marks=pytest.mark.thorough, id="more by the index"),
    ],
)
def test_a_psql_that_lies_makes_no_archive(server: DatabaseContainer, made: str, lie: str, scan: Scan) -> None:
    with snapshot_of(server, made) as snapshot:
        plan = planned(snapshot, scan)
        inside(server.name, "sh", "-c", f"echo '{lie}' > /tmp/mode")
        server.wrap("psql", LYING)
        produced = ordered_dump(snapshot, plan, most_bytes=20_000_000, silence_seconds=5)
        server.unwrap("psql")
    assert_failed(produced)
    assert len(produced.archive) < 30_000_000
    assert server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{produced.application}'") == "0"


def test_a_psql_that_says_nothing_of_a_table_is_waited_for_no_longer_than_for_pg_dump(
    server: DatabaseContainer, made: str
) -> None:
    with snapshot_of(server, made) as snapshot:
        plan = planned(snapshot)
        server.wrap("psql", "exec sleep 600")
        produced = ordered_dump(snapshot, plan, silence_seconds=5)
        server.unwrap("psql")
        # Nothing was written yet, so that the rows can still be left to pg_dump.
        assert_plain(snapshot, produced)
