# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that the pg_dump of real servers writes: read, verified, cut off, and restored with what the head says."""

from __future__ import annotations

import random
import secrets
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from scalr_backup.core.archive.head import ArchiveError, ArchiveHead
from scalr_backup.core.archive.reader import ArchiveReader
from scalr_backup.core.sql import connection_string, quote_identifier, quote_literal

if TYPE_CHECKING:
    from collections.abc import Iterator

# A name with everything that pg_dump's statements and this software might stumble over.
SHOP = "Sh\"op WITH 'Größe' DATABASE"
ROLE = 'Odd "Role" DATABASE'

ROLES = f"""
CREATE ROLE {quote_identifier(ROLE)};
CREATE ROLE owner_of_shop;
"""

# What stands in pg_database and beside it, outside the database.
PROPERTIES = """
COMMENT ON DATABASE {name} IS 'it''s a \\ "DATABASE" größer';
ALTER DATABASE {name} SET work_mem = '7MB';
ALTER DATABASE {name} SET search_path = 'a b', public;
ALTER DATABASE {name} SET "shop.note" = 'back\\slash, ''quote'' and DATABASE x';
ALTER DATABASE {name} CONNECTION LIMIT 50;
ALTER ROLE {role} IN DATABASE {name} SET statement_timeout = '5s';
REVOKE ALL ON DATABASE {name} FROM PUBLIC;
GRANT CONNECT ON DATABASE {name} TO {role};
GRANT ALL ON DATABASE {name} TO owner_of_shop WITH GRANT OPTION;
"""

CONTENT = """
CREATE TABLE orders (id integer PRIMARY KEY, note text);
INSERT INTO orders SELECT n, repeat('x', 90) FROM generate_series(1, 20000) AS n;
CREATE INDEX ON orders (note, id);
CREATE TABLE wide (id integer, body text);
INSERT INTO wide SELECT n, repeat(md5(n::text), 94) FROM generate_series(1, 2000) AS n;
CREATE TABLE empty (id integer);
CREATE TABLE "Weird ""näme"".'" ("a column" integer GENERATED ALWAYS AS IDENTITY, constraint_ text DEFAULT E'\\t\\\\.');
INSERT INTO "Weird ""näme"".'" (constraint_) VALUES (E'\\\\.\\n'), (NULL), (''), (E'\\x01\\x02');
CREATE TABLE measurements (at date NOT NULL, value real) PARTITION BY RANGE (at);
CREATE TABLE measurements_2025 PARTITION OF measurements FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE measurements_2026 PARTITION OF measurements FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO measurements SELECT date '2025-06-01' + n, n FROM generate_series(1, 400) AS n;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM orders;
CREATE TABLE without_columns ();
INSERT INTO without_columns DEFAULT VALUES;
CREATE UNLOGGED TABLE scratch (id integer);
INSERT INTO scratch VALUES (1);
CREATE STATISTICS orders_statistics ON id, note FROM orders;
SELECT lo_from_bytea(0, 'hello'), lo_from_bytea(4000000000, repeat('y', 100000)::bytea), lo_from_bytea(7, '');
SELECT count(lo_create(0)) FROM generate_series(1, 1100);
COMMENT ON LARGE OBJECT 7 IS 'seven';
GRANT SELECT ON LARGE OBJECT 7 TO PUBLIC;
ANALYZE;
"""

# The state of a database that pg_dump saves beside its content.
STATE = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit, datacl, pg_get_userbyid(datdba),
       shobj_description(oid, 'pg_database'), datlocprovider,
       (SELECT array_agg((setrole::regrole, setconfig) ORDER BY setrole)
        FROM pg_db_role_setting WHERE setdatabase = pg_database.oid)
FROM pg_database WHERE datname = {name}
"""

CONTENT_STATE = """
SELECT (SELECT count(*) FROM orders), (SELECT sum(length(body)) FROM wide), (SELECT count FROM totals),
       (SELECT count(*) FROM measurements_2026), (SELECT count(*) FROM without_columns),
       (SELECT array_agg(constraint_ ORDER BY "a column") FROM "Weird ""näme"".'"),
       (SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_index WHERE indisvalid),
       md5(lo_get(4000000000)), obj_description(7, 'pg_largeobject')
"""


class Server:
    """A PostgreSQL container, and its own client programs."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.name = f"scalr-test-archive-{version}-{secrets.token_hex(3)}"

    def start(self) -> None:
        image = f"postgres:{self.version}"
        trust = ("-e", "POSTGRES_HOST_AUTH_METHOD=trust")
        docker("run", "-d", "--name", self.name, *trust, image, "-c", "fsync=off")
        for _ in range(120):
            # The server that initialises the volume does not listen on TCP.
            if not self.run("pg_isready", "-h", "127.0.0.1", check=False).returncode:
                return
            time.sleep(0.5)
        raise TimeoutError(docker("logs", self.name).stderr.decode())

    def remove(self) -> None:
        docker("rm", "-f", "-v", self.name)

    def run(self, *command: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return docker("exec", "-i", "-u", "postgres", self.name, *command, stdin=stdin, check=check)

    def sql(self, text: str, database: str = "postgres", *, transaction: bool = False) -> str:
        options = ["--single-transaction"] if transaction else []
        command = ("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *options, connection_string(database))
        script = "SET client_encoding = 'UTF8';\n" + text
        return self.run(*command, stdin=script.encode("utf-8", "surrogateescape")).stdout.decode()

    def dump(self, *options: str, database: str = SHOP) -> bytes:
        return self.run("pg_dump", "-Fc", *options, connection_string(database)).stdout

    def state(self, database: str) -> str:
        return self.sql(STATE.format(name=quote_literal(database)))


def docker(*arguments: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
    result = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, check=False, timeout=300)
    assert not check or not result.returncode, result.stderr.decode()
    return result


@pytest.fixture(scope="module", params=[15, pytest.param(17, marks=pytest.mark.thorough), 18])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    try:
        server.start()
        server.sql(ROLES)
        server.sql(f"CREATE DATABASE {quote_identifier(SHOP)} OWNER owner_of_shop")
        server.sql(CONTENT, SHOP)
        server.sql(PROPERTIES.format(name=quote_identifier(SHOP), role=quote_identifier(ROLE)))
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def archive(server: Server) -> bytes:
    return server.dump("-Z0")


def read(data: bytes) -> ArchiveHead:
    """Feed *data* in pieces such as a socket hands out."""
    reader = ArchiveReader()
    view, position = memoryview(data), 0
    pieces = random.Random(len(data))  # noqa: S311
    while position < len(view):
        size = pieces.choice((1, 5, 100, 1460, 16384, 65536))
        reader.feed(view[position : position + size])
        position += size
    assert reader.head_bytes is not None
    assert data.startswith(reader.head_bytes)
    return reader.close()


def compressions(version: int) -> list[tuple[str, str]]:
    known = [("0", "none"), ("1", "gzip"), ("6", "gzip")]
    return known if version < 16 else [*known, ("zstd:1", "zstd"), ("lz4", "lz4"), ("none", "none")]


def test_the_head_says_what_was_dumped(server: Server, archive: bytes) -> None:
    head = read(archive)
    assert head.version == ((1, 14, 0) if server.version == 15 else (1, 16, 0))
    assert (head.compression, head.encoding, head.dbname) == ("none", "UTF8", SHOP)
    assert head.server_version.startswith(f"{server.version}.")
    assert head.pg_dump_version.startswith(f"{server.version}.")
    entries = {(entry.desc, entry.tag): entry for entry in head.entries}
    assert entries["DATABASE", SHOP].owner == "owner_of_shop"
    table = entries["TABLE", 'Weird "näme".\'']
    assert (table.namespace, table.tableam) == ("public", "heap")
    assert table.relkind == ("" if server.version == 15 else "r")
    assert table.dump_id in entries["TABLE DATA", table.tag].dependencies
    # A materialized view is filled by SQL, a partitioned table by its partitions.
    assert not entries["MATERIALIZED VIEW DATA", "totals"].had_dumper
    assert {entry.tag for entry in head.data_entries if entry.desc == "TABLE DATA"} == {
        "empty",
        "measurements_2025",
        "measurements_2026",
        "orders",
        "scratch",
        'Weird "näme".\'',
        "wide",
        "without_columns",
    }
    # Since 17, large objects come in groups of those that have the same owner and privileges.
    blobs = [entry for entry in head.data_entries if entry.desc == "BLOBS"]
    assert len(blobs) == 1 if server.version == 15 else len(blobs) > 2


def test_every_compression(server: Server) -> None:
    for option, name in compressions(server.version):
        assert read(server.dump(f"-Z{option}")).compression == name


@pytest.mark.parametrize(
    "options",
    [
        ("--schema-only",),
        ("--data-only",),
        ("--section=pre-data",),
        ("--section=data",),
        ("--inserts",),
        ("--no-blobs",),
        ("--load-via-partition-root",),
        ("--exclude-table-data=orders",),
        ("--table=orders",),
        ("--schema=public",),
        ("--quote-all-identifiers",),
        ("--clean", "--create"),
    ],
    ids=" ".join,
)
def test_every_kind_of_dump(server: Server, options: tuple[str, ...]) -> None:
    head = read(server.dump("-Z0", *options))
    # pg_dump records how the database is created, whatever else it leaves out.
    assert head.definition.create("new").startswith('CREATE DATABASE "new" WITH ')


def test_statistics_have_no_data(server: Server) -> None:
    if server.version < 18:
        assert "unrecognized option" in server.run("pg_dump", "--statistics", check=False).stderr.decode()
        return
    head = read(server.dump("--statistics"))
    assert {entry.had_dumper for entry in head.entries if entry.desc == "STATISTICS DATA"} == {False}


def test_a_file_says_where_its_blocks_begin(server: Server) -> None:
    server.dump("-Z0", "-f", "/tmp/file.dump")
    data = server.run("cat", "/tmp/file.dump").stdout
    positions = [entry.data_position for entry in read(data).data_entries]
    assert None not in positions
    assert positions == sorted(position for position in positions if position is not None)


def test_cut_off_anywhere(archive: bytes) -> None:
    head = read(archive)
    cuts = random.Random(1)  # noqa: S311
    within_the_head = cuts.sample(range(head.length), 40)
    within_the_data = cuts.sample(range(head.length, len(archive)), 40)
    for cut in (*within_the_head, *within_the_data, 0, head.length, len(archive) - 1, len(archive) - 5):
        reader = ArchiveReader()
        reader.feed(archive[:cut])
        with pytest.raises(ArchiveError) as raised:
            reader.close()
        assert raised.value.offset == cut


def test_something_after_the_end(archive: bytes) -> None:
    with pytest.raises(ArchiveError, match=f"complete at byte {len(archive)}, but"):
        read(archive + b"\n")


@pytest.mark.parametrize(
    "murder",
    [
        "kill -9 $pid",
        "psql -qAtc \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_dump'\" >&2",
    ],
    ids=["pg_dump", "backend"],
)
def test_a_dump_that_dies_in_the_middle(server: Server, murder: str) -> None:
    # A FIFO holds pg_dump up in its second megabyte until it is dead; then comes what it has left behind.
    script = f"""
        rm -f /tmp/fifo; mkfifo /tmp/fifo; pg_dump -Fc -Z0 "$0" > /tmp/fifo & pid=$!
        {{ head -c 1000000; {murder}; cat; }} < /tmp/fifo; wait $pid
    """
    dump = server.run("sh", "-c", script, connection_string(SHOP), check=False)
    assert dump.returncode
    with pytest.raises(ArchiveError, match=r"ends at byte [1-7]\d{6}, within the data of TABLE DATA public"):
        read(dump.stdout)


def test_a_refused_dump_says_nothing(server: Server) -> None:
    result = server.run("pg_dump", "-Fc", "missing", check=False)
    assert (result.returncode, result.stdout) == (1, b"")


def test_other_dumps_are_no_archives(server: Server) -> None:
    for form in ("-Fp", "-Ft"):
        data = server.run("pg_dump", form, connection_string(SHOP)).stdout
        with pytest.raises(ArchiveError, match="not a pg_dump archive in custom format"):
            ArchiveReader().feed(data)


@pytest.mark.parametrize("new", ["Re\"stored WITH TEMPLATE = DATABASE 'x' ü", "-x"])
def test_a_database_is_made_anew_from_its_archive(server: Server, archive: bytes, new: str) -> None:
    head = read(archive)
    server.sql(head.definition.create(new, owner=head.database_entry.owner))
    try:
        server.run("pg_restore", "--exit-on-error", "-d", connection_string(new), stdin=archive)
        server.sql("\n".join(head.database_properties(new)), transaction=True)
        assert server.state(new) == server.state(SHOP)
        assert server.sql(CONTENT_STATE, new) == server.sql(CONTENT_STATE, SHOP)
        assert read(server.dump("-Z0", database=new)).database_properties(SHOP) == head.database_properties(SHOP)
    finally:
        server.sql(f"DROP DATABASE {quote_identifier(new)}")


def test_properties_return_after_a_swap_of_names(server: Server, archive: bytes) -> None:
    head, before = read(archive), server.state(SHOP)
    shop, old = quote_identifier(SHOP), quote_identifier("shop before restore")
    server.sql(head.definition.create("beside", owner=head.database_entry.owner))
    try:
        swap = f"ALTER DATABASE {shop} RENAME TO {old};\nALTER DATABASE beside RENAME TO {shop};\n"
        server.sql(swap + "".join(head.database_properties()), transaction=True)
        assert server.state(SHOP) == before
    finally:
        server.sql(f"DROP DATABASE {shop}")
        server.sql(f"ALTER DATABASE {old} RENAME TO {shop}")


def test_the_head_alone_is_enough_for_indexes(server: Server, archive: bytes) -> None:
    head = read(archive)
    server.sql(head.definition.create("parallel"))
    try:
        database = ("-d", connection_string("parallel"))
        server.run("pg_restore", "--exit-on-error", "--section=pre-data", "--section=data", *database, stdin=archive)
        server.run("sh", "-c", "cat > /tmp/head.dump", stdin=archive[: head.length])
        server.run("pg_restore", "--exit-on-error", "--section=post-data", "-j2", *database, "/tmp/head.dump")
        assert server.sql(CONTENT_STATE, "parallel") == server.sql(CONTENT_STATE, SHOP)
    finally:
        server.sql("DROP DATABASE parallel")


def locales(version: int) -> list[tuple[str, str]]:
    """What can be said at a database's creation, and what its archive must say again."""
    said = [
        ("ENCODING 'LATIN1' LOCALE 'C'", "ENCODING = 'LATIN1' LOCALE_PROVIDER = libc LOCALE = 'C'"),
        ("ENCODING 'SQL_ASCII' LOCALE 'C'", "ENCODING = 'SQL_ASCII' LOCALE_PROVIDER = libc LOCALE = 'C'"),
        ("ENCODING 'EUC_JP' LOCALE 'C'", "ENCODING = 'EUC_JP' LOCALE_PROVIDER = libc LOCALE = 'C'"),
        ("LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'", "LC_COLLATE = 'C' LC_CTYPE = 'C.UTF-8'"),
        ("LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C'", "LOCALE_PROVIDER = icu LOCALE = 'C' ICU_LOCALE = 'de'"),
    ]
    if version >= 17:
        said.append(
            (
                "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'",
                "LOCALE_PROVIDER = builtin LOCALE = 'C' BUILTIN_LOCALE = 'C.UTF-8'",
            )
        )
    return said


def test_encodings_and_locales(server: Server) -> None:
    for said, expected in locales(server.version):
        word = "表" if "EUC_JP" in said else "größe"
        # The cluster keeps names of databases in UTF-8 here; in the archive they look like another encoding's.
        abroad, again = f"{word} abroad", f"{word} again"
        server.sql(f'CREATE DATABASE "{abroad}" TEMPLATE template0 {said}')
        try:
            server.sql(f'CREATE TABLE "{word}" ()', abroad)
            server.sql(f"COMMENT ON DATABASE \"{abroad}\" IS 'plain'; ALTER DATABASE \"{abroad}\" SET work_mem = '5MB'")
            head = read(server.dump("-Z0", database=abroad))
            assert expected in (head.database_entry.defn or "")
            assert any(entry.tag == word for entry in head.entries)
            server.sql(head.definition.create(again))
            server.sql("".join(head.database_properties(again)))
            assert server.state(again) == server.state(abroad)
        finally:
            server.sql(f'DROP DATABASE IF EXISTS "{again}"; DROP DATABASE "{abroad}"')


def test_backslashes_of_an_old_fashioned_database(server: Server) -> None:
    server.sql("CREATE DATABASE old_fashioned")
    try:
        server.sql("ALTER DATABASE old_fashioned SET standard_conforming_strings = off")
        server.sql("COMMENT ON DATABASE old_fashioned IS 'a\\b ''c'' \\'")
        head, state = read(server.dump(database="old_fashioned")), server.state("old_fashioned")
        server.sql("COMMENT ON DATABASE old_fashioned IS NULL")
        server.sql("".join(head.database_properties()), transaction=True)
        assert server.state("old_fashioned") == state
    finally:
        server.sql("DROP DATABASE old_fashioned")
