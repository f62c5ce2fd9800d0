# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a container says, and whatever the engine says of it, comes to an answer or to that container's declared failure."""

from __future__ import annotations

import json
import os
import struct
from contextlib import contextmanager, nullcontext, suppress
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scalr_backup.actions.backup import dump, producer
from scalr_backup.actions.backup.dump import most_bytes
from scalr_backup.actions.backup.outlet import Outlet
from scalr_backup.actions.backup.second_try import deserves_another
from scalr_backup.actions.discovery import Discovery
from scalr_backup.actions.documents import from_summary, judge, unmatched
from scalr_backup.core import spoken
from scalr_backup.core.archive.reader import MOST_CHUNK_BYTES, ArchiveReader
from scalr_backup.core.config import Config
from scalr_backup.core.endings import Command, last_words
from scalr_backup.core.errors import (
    DumpError,
    DumpTooLargeError,
    InvalidAnswerError,
    InvalidDumpError,
    LateAnswerError,
    PostgresError,
    ScalrBackupError,
)
from scalr_backup.core.model import Credentials
from scalr_backup.core.spoken import COUNTED, COUNTS, FLAGS, NAMES, PAIRS, TEXTS, parse
from scalr_backup.core.text import decoded, readable_json
from scalr_backup.tools.docker import bounds, volumes
from scalr_backup.tools.docker.exec_stream import STDERR, STDOUT
from scalr_backup.tools.postgres import keys, queries, shapes
from scalr_backup.tools.postgres.blockers import BLOCKERS
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.failures import explain_failure
from scalr_backup.tools.postgres.left_out import survey
from scalr_backup.tools.postgres.limits import LIMITS
from scalr_backup.tools.postgres.session import SqlSession

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["shop", "\0", "\ud800", ""]),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=12,
)
SHAPES = [
    TEXTS, NAMES, FLAGS, COUNTS, PAIRS, COUNTED, LIMITS, BLOCKERS, shapes.DATABASE_ROWS, shapes.ROOMS, shapes.CONNECTIONS,
    shapes.SLOT_ROWS, shapes.MOMENTS, shapes.VALUES, queries._DESCRIPTIONS, queries._ROWS, queries._VALUES,
    keys.LARGE_TABLES, keys.SERVERS, keys.STATISTICS,
]  # fmt: skip
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

EVIL_LINES = {
    "broken": b'{"name": ',
    "bytes of no encoding": b'"\xff',
    "nested deeply": b"[" * 200_000,
    "nested deeply in objects": b'{"a":' * 200_000,
    "a huge integer": b"1" * 5000,
    "a huge exponent": b"1e999",
    "no number": b"NaN",
    "infinity": b"-Infinity",
    "a null byte": b'"a\\u0000b"',
    "half a character": b'"\\ud800"',
    "too long a name": b'"' + b"x" * 300 + b'"',
    "no name": b'""',
    "too large a count": b"[" + str(2**63).encode() + b"]",
    "many lists": b"[" + b"[]," * 1_000_001 + b"[]]",
}


@pytest.mark.parametrize("line", EVIL_LINES.values(), ids=EVIL_LINES)
def test_a_line_that_is_no_name_is_an_invalid_answer(line):
    with pytest.raises(InvalidAnswerError, match=r"psql in scalr-shop-db .*check what runs in that container"):
        NAMES.of(parse([line], "psql in scalr-shop-db"), "psql in scalr-shop-db")


@FEW
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_no_bytes_lead_to_any_other_error(lines):
    with suppress(InvalidAnswerError):
        parse(lines, "psql")


@pytest.mark.parametrize("shape", SHAPES)
@FEW
@given(rows=st.lists(ANYTHING, max_size=3))
def test_no_document_leads_to_any_other_error(shape, rows):
    with suppress(InvalidAnswerError):
        shape.of(rows, "psql")
    with suppress(InvalidAnswerError):
        shape.one(rows, "psql")


def test_what_an_honest_server_says_passes_as_it_is():
    row = {
        "name": decoded(b"caf\xe9"), "owner": "app", "encoding": "SQL_ASCII", "size_bytes": 1, "is_template": False,
        "allows_connections": True, "is_valid": True,
    }  # fmt: skip
    assert shapes.DATABASE_ROWS.one([row], "psql") == row
    assert queries._ROWS.one([["public", decoded(b"\xff"), 2**40]], "psql") == ("public", decoded(b"\xff"), 2**40)
    assert LIMITS.of(["statement_timeout=0", "temp_file_limit=-1"], "psql") == [
        "statement_timeout=0",
        "temp_file_limit=-1",
    ]


@pytest.mark.parametrize("assignment", ["a=0 -c b=1", "statement_timeout=1", "a=0\n", "-c", "A=0"])
def test_what_becomes_an_option_is_one(assignment):
    with pytest.raises(InvalidAnswerError):
        LIMITS.of([assignment], "psql")


class Told(Postgres):
    """A cluster whose psql answers everything alike."""

    def __init__(self, rows):
        super().__init__(Container(), "scalr-shop-db", Credentials("app"), "look")
        self.rows = rows

    def _like(self, *_arguments):
        return Told(self.rows)

    def query(self, _database, _sql):
        return self.rows

    @contextmanager
    def session(self, *_arguments, **_options):
        yield SimpleNamespace(query=lambda *_sql: self.rows)


class Container:
    def run(self, *_arguments, **_options):
        return SimpleNamespace(exit_code=0, stdout=b"9" * 6000 + b"\n", stderr="")


QUESTIONS = {
    "server_version": lambda one: one.server_version(),
    "databases": lambda one: one.databases(),
    "may_read_passwords": lambda one: one.may_read_passwords(),
    "live_database": lambda one: one.live_database("shop"),
    "slots": lambda one: one.slots("shop"),
    "readable_settings": lambda one: one.readable_settings(["a"]),
    "room": lambda one: one.room(),
    "roles": lambda one: one.roles(),
    "available_extensions": lambda one: one.available_extensions(),
    "tablespaces": lambda one: one.tablespaces(),
    "half_made_databases": lambda one: one.half_made_databases(),
    "database_oids": lambda one: one.database_oids(),
    "holds_more": lambda one: one.holds_more_than_extensions("shop", rows=True),
    "moment": lambda one: one.while_named("a", "b", None, []),
    "count": lambda one: one.count("shop", rows=True),
    "runs": lambda one: one.runs_at_work(),
    "limits": lambda one: one._without_limits,
    "triggers": lambda one: one._without_event_triggers,
    "encoding": lambda one: one._home_encoding,
    "leftovers": lambda one: one.end_leftovers("x"),
    "head": lambda one: one.put_head("x", b"head"),
    "amcheck": lambda one: one.has_amcheck(),
    "survey": lambda one: survey(SimpleNamespace(query=lambda _sql: one.rows)),
    "snapshot": lambda one: queries.open_exported_snapshot(SimpleNamespace(query=lambda _sql: one.rows)),
    "lock watch": lambda one: one.lock_watch("shop")._look(),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
@FEW
@given(rows=st.lists(ANYTHING, max_size=3))
def test_no_answer_to_any_question_leads_to_an_error_that_nobody_expects(question, rows):
    with suppress(ScalrBackupError):
        question(Told(rows))


class Psql:
    """A psql that prints what it likes, and then the end of each script, if it has no *end* of its own."""

    def __init__(self, *pieces, ends=True):
        self.pieces, self.ends = pieces, ends
        self.script = b""
        self.read = 0

    def write(self, data, _waiting):
        self.script = data

    def frames(self, waiting):
        for kind, data in self.pieces:
            self.read += len(data)
            yield kind, data
        while not self.ends:
            waiting()
        yield STDOUT, b"\n" + self.script.split(b"\\echo ")[-1]

    def how_it_ended(self, said):
        return said


@FEW
@given(st.lists(st.binary(max_size=100), max_size=4))
def test_no_output_of_psql_leads_to_an_error_that_nobody_expects(pieces):
    session = SqlSession(Psql(*((STDOUT, piece) for piece in pieces)), "scalr-shop-db/shop", lambda: None)
    with suppress(PostgresError):
        session.query("SELECT 1;")


def endless(kind, piece):
    while True:
        yield kind, piece


@pytest.mark.parametrize("kind", [STDOUT, STDERR])
def test_a_flood_is_read_up_to_a_bound(kind, monkeypatch):
    psql = Psql()
    psql.pieces = endless(kind, b"y\n" * 50_000)
    session = SqlSession(psql, "scalr-shop-db/shop", lambda: None)
    with pytest.raises(InvalidAnswerError, match="psql in scalr-shop-db/shop printed more than"):
        session.query("SELECT 1;")
    assert psql.read <= spoken.MOST_BYTES + 100_000


class Clock:
    """A second passes with every look at it."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("psql", [Psql(ends=False), Psql(*[(STDOUT, b" ")] * 1000)], ids=["silent", "drip"])
def test_an_answer_has_its_time_in_all(psql, monkeypatch):
    monkeypatch.setattr(bounds, "time", Clock())
    session = SqlSession(psql, "scalr-shop-db/shop", lambda: None, seconds=20.0)
    with pytest.raises(LateAnswerError, match="psql in scalr-shop-db/shop has not answered within 20 s") as caught:
        session.query("SELECT 1;")
    assert caught.value.code == "late_answer"


@FEW
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("utf-8", "replace")))
def test_no_output_of_df_leads_to_an_error(told):
    assert len(volumes.read(told, ["/data", "/log"])) == 2
    assert volumes.read(f"dev {'9' * 5000} {'9' * 5000} {'9' * 5000} 5% /data\n", ["/data"]) == [None]


CONFIG = Config(
    host="h", repository="/r", containers=["*"], filter="Config.Labels.x == 'y' || length(Config.Env) > `0`"
)
DOCUMENT = {"Id": "1", "Name": "/scalr-shop-db", "State": {"Status": "running"}, "Config": {"Image": "postgres:17"}}


@FEW
@given(st.sampled_from(["Id", "Name", "State", "Config", "HostConfig", "Image"]), ANYTHING, ANYTHING)
def test_no_document_of_the_engine_leads_to_an_error_that_nobody_expects(key, value, inside):
    for found in ({**DOCUMENT, key: value}, {**DOCUMENT, "Config": {"Labels": value, "Env": inside}}):
        with suppress(ScalrBackupError):
            judge(CONFIG, found)
    for found in ({"Id": "1", "Names": value, "Labels": inside}, {"Names": ["/db"], key: value, "State": inside}):
        from_summary(found)
        unmatched(CONFIG, found, "why")


def test_one_container_that_the_engine_describes_oddly_costs_the_others_nothing():
    class Engine:
        def containers(self):
            return [
                {"Id": "1", "Names": ["/scalr-odd-db"], "Labels": {"scalr.backup": 7}},
                {"Id": "2", "Names": [["/x"]], "Labels": [1]},
                {"Id": "3", "Names": ["/scalr-good-db"], "Labels": None},
            ]

        def inspect(self, container):
            return {**DOCUMENT, "Name": "/scalr-good-db"} if container == "3" else {"Id": "1", "State": "yes"}

        def power(self, _document, *, accepted):
            assert not accepted

    found = Discovery(Config(host="h", repository="/r"), Engine()).matches()
    assert [(one.name, one.status) for one in found] == [("scalr-good-db", "ok"), ("scalr-odd-db", "unreachable")]


def test_a_container_that_answers_nonsense_is_not_asked_in_other_ways(monkeypatch):
    tried = []

    class Doors(Discovery):
        def postgres(self, _container, credentials, _application, *, seconds):
            tried.append(seconds)
            nonsense = InvalidAnswerError("nonsense")
            return SimpleNamespace(server_version=lambda: (_ for _ in ()).throw(nonsense), kept_open=nullcontext)

    engine = SimpleNamespace(
        containers=lambda: [{"Id": "1", "Names": ["/scalr-shop-db"]}],
        inspect=lambda _one: DOCUMENT,
        power=lambda _document, accepted: None,
    )
    [container] = Doors(Config(host="h", repository="/r"), engine).clusters().containers
    assert (container.status, container.code, len(tried)) == ("unreachable", "invalid_answer", 1)
    assert tried[0] <= 60


class Dump:
    """pg_dump's exec: pieces of its output, counted as they are taken."""

    def __init__(self, pieces, exit_code=0):
        self.pieces, self.exit_code, self.taken = pieces, exit_code, 0

    def frames(self, _waiting):
        for kind, piece in self.pieces:
            self.taken += len(piece)
            yield kind, piece

    def wait(self):
        return self.exit_code

    def how_it_ended(self, said):
        return f"pg_dump ended with exit code {self.exit_code}: {said}"


def produce(one, most=None):
    """What the producer comes to, and how many bytes it has passed on."""
    output = os.memfd_create("dump")
    try:
        with pytest.raises(DumpError) if most is ... else nullcontext() as caught:
            producer.produce(one, Outlet(output, None if most is ... else most), lambda: pytest.fail("not asked"))
        return caught, os.fstat(output).st_size
    finally:
        os.close(output)


def integer(value):
    return struct.pack("<BI", int(value < 0), abs(value))


def text(value):
    return integer(-1) if value is None else integer(len(value)) + value


def entry(number, desc, tag, *, dumper):
    return b"".join(
        (
            integer(number), integer(dumper), text(b"1259"), text(b"16384"), text(tag), text(desc), integer(3 if dumper else 2),
            text(None), text(None), text(b"COPY t FROM stdin;"), text(b"public"), text(None), text(None), integer(0),
            text(b"app"), text(b"false"), text(None), bytes((1,)) + bytes(8),
        )
    )  # fmt: skip


HEAD = (
    b"PGDMP" + bytes((1, 16, 0, 4, 8, 1, 0)) + b"".join(integer(one) for one in (0, 0, 3, 22, 10, 126, 0))
    + text(b"shop") + text(b"17.6") + text(b"17.6") + integer(1) + entry(1, b"TABLE DATA", b"t", dumper=True)
)  # fmt: skip
BLOCK = b"\x01" + integer(1)
WHOLE = HEAD + BLOCK + integer(2) + b"1\n" + integer(0)
MIB = 1024 * 1024


def test_a_whole_archive_is_passed_on_as_it_came():
    for size in (1, 7, 1000):
        pieces = [(STDOUT, WHOLE[start : start + size]) for start in range(0, len(WHOLE), size)]
        assert produce(Dump(pieces))[1] == len(WHOLE)


RUBBISH = {
    "from the first byte": b"",
    "in the head": HEAD[:-30],
    "where a block begins": HEAD,
    "where a chunk begins": HEAD + BLOCK,
    "behind the end": WHOLE,
}


@pytest.mark.parametrize("beginning", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_is_stopped_at_the_first_byte_that_is_wrong(beginning):
    def pieces():
        yield STDOUT, beginning
        yield from endless(STDOUT, b"\xfe" * 65536)

    one = Dump(pieces())
    caught, passed = produce(one, ...)
    assert isinstance(caught.value, InvalidDumpError)
    assert caught.value.code == "dump_failed"
    assert passed <= len(beginning)
    assert one.taken < 2 * MIB
    assert not deserves_another(caught.value, had_company=True)


@FEW
@given(st.binary(max_size=3000))
def test_no_bytes_of_a_dump_lead_to_an_error_that_nobody_expects(data):
    caught, passed = produce(Dump([(STDOUT, data)]), ...)
    assert passed == 0
    assert caught.value.message


def test_a_row_that_no_server_could_hold_is_wrong():
    reader = ArchiveReader()
    with pytest.raises(ScalrBackupError, match="not a valid chunk length"):
        reader.feed(HEAD + BLOCK + integer(MOST_CHUNK_BYTES + 1))


def test_the_last_words_of_a_pg_dump_that_has_failed_say_more_than_its_output():
    said = b"OCI runtime exec failed: exec: pg_dump: not found"
    caught, passed = produce(Dump([(STDOUT, said), (STDERR, b"no such file")], exit_code=127), ...)
    assert "exit code 127: no such file" in caught.value.message
    assert passed == 0


def test_complaints_without_end_are_not_read():
    one = Dump(endless(STDERR, b"y\n" * 50_000))
    with pytest.raises(InvalidAnswerError, match="pg_dump printed more than"):
        produce(one)
    assert one.taken <= spoken.MOST_COMPLAINTS + 100_000


def test_a_dump_has_no_more_bytes_than_its_database_explains():
    def pieces():
        yield STDOUT, HEAD + BLOCK
        yield from endless(STDOUT, integer(65536) + b"x" * 65536)

    one = Dump(pieces())
    with pytest.raises(
        DumpTooLargeError, match=r"sparse tables, columnar storage .*raise backup_dump_size_factor"
    ) as caught:
        produce(one, 10 * MIB)
    assert caught.value.code == "dump_too_large"
    assert one.taken < 11 * MIB
    assert not deserves_another(caught.value, had_company=True)


@pytest.mark.parametrize(
    ("factor", "size", "last", "most"),
    [
        (0, 10, None, None),
        (8, 0, None, 1024 * MIB),
        (8, 1024 * MIB, None, 9 * 1024 * MIB),
        # Its values are compressed very well: it was so large before the limit came, and it grows.
        (8, 1024 * MIB, 20 * 1024 * MIB, 26 * 1024 * MIB),
        (0, 10, 10, None),
        (8, 1024 * MIB, 1, 9 * 1024 * MIB),
    ],
)
def test_how_large_a_dump_may_be(factor, size, last, most):
    assert most_bytes(factor, size, last) == most


def test_a_line_of_json_steers_no_terminal():
    said = {"database": "a\x1b[31m\u202eb\x9b"}
    line = readable_json(said)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == said


def test_an_exec_that_goes_astray_is_named_by_its_program_and_container():
    with pytest.raises(InvalidAnswerError, match="df in scalr-shop-db printed more than"):
        bounds.Bounds(Command("df", "scalr-shop-db"), 10.0, 10).take(STDOUT, 11)


class Counting:
    """A clock that stands where a test puts it."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


def test_rows_are_not_counted_for_ever(monkeypatch):
    clock = Counting()
    monkeypatch.setattr(dump, "time", clock)
    patience = dump._CountingTime()
    clock.now = 10 * 24 * 3600.0
    patience.check()  # As long as the dump goes on, so may they.
    assert patience.begin(3 * 3600.0) == 6 * 3600.0
    clock.now += 6 * 3600.0
    patience.check()
    clock.now += 1.0
    with pytest.raises(LateAnswerError):
        patience.check()


def test_a_cluster_that_lists_databases_without_end_is_not_believed():
    row = {
        "name": "a", "owner": "app", "encoding": "UTF8", "size_bytes": 1, "is_template": False, "allows_connections": True,
        "is_valid": True,
    }  # fmt: skip
    assert len(shapes.DATABASE_ROWS.of([row] * 20_000, "psql")) == 20_000
    with pytest.raises(InvalidAnswerError, match="at most 20,000 are allowed"):
        shapes.DATABASE_ROWS.of([row] * 20_001, "psql")


@pytest.mark.parametrize("explain", [last_words, lambda said: explain_failure(said)[1]])
def test_a_containers_words_in_a_sentence_are_few_and_steer_no_terminal(explain):
    words = explain("ERROR:  XX001: \x1b[2J\u202egone\x07" + "y" * 100_000)
    assert words.isprintable()
    assert len(words) <= 2000
    assert "gone" in words
