# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of no known encoding: they go back to the server as they came, and whoever reads of them can."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scalr_backup.core.errors import PostgresError
from scalr_backup.core.model import Credentials, dump_path, parse_dump_path
from scalr_backup.core.text import decoded, distinct, encoded, readable, readable_json
from scalr_backup.tools.docker.engine import speakable
from scalr_backup.tools.docker.exec_stream import STDOUT
from scalr_backup.tools.postgres.clients import Clients
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.queries import count_rows
from scalr_backup.tools.postgres.session import SqlSession

STRANGE = b"caf\xe9\xc3\xa9'\\\n$x"


def test_every_byte_comes_back():
    assert encoded(decoded(bytes(range(256)))) == bytes(range(256))


@pytest.mark.parametrize(("text", "shown"), [("café", "café"), ("caf\udce9", r"caf\xe9"), ("\ud800", r"\ud800")])
def test_what_is_shown_is_text(text, shown):
    assert readable(text) == shown
    assert json.loads(readable_json({text: [text]}).encode().decode()) == {shown: [shown]}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\udce9", r"caf\xe9"), (r"caf\xe9", r"caf\x5cxe9"), (r"caf\x5cxe9", r"caf\x5cx5cxe9"), ("\\\udce9", r"\\xe9"),
        (r"\\xe9", r"\\x5cxe9"), ("\ud800", r"\ud800"), (r"\ud800", r"\x5cud800"), (r"C:\x\new", r"C:\x\new"),
    ],
)  # fmt: skip
def test_what_a_program_tells_things_by_is_readable_and_never_the_same_for_two(text, shown):
    assert distinct(text) == shown


LETTERS = st.text(st.sampled_from("\\x5ce9uda8\udce9\udc80\ud800\udfffé"), max_size=8)


@given(LETTERS, LETTERS)
def test_no_two_texts_become_one(one, other):
    distinct(one).encode()
    assert (distinct(one) == distinct(other)) == (one == other)


@given(LETTERS)
def test_what_is_distinct_can_be_read_back(text):
    spelled = r"\\(x5c|x[89a-f][0-9a-f]|ud[89a-f][0-9a-f]{2})"
    back = re.sub(spelled, lambda found: unspelled(found[1]), distinct(text))
    assert back == text


def unspelled(said):
    code = int(said[1:], 16)
    return "\\" if said == "x5c" else chr(code if said[0] == "u" else 0xDC00 + code)


@pytest.mark.parametrize("name", ["caf\udce9", "a/b%\udcff", "plain"])
def test_a_path_in_the_repository_is_text_and_names_the_database(name):
    path = dump_path("c", name)
    path.encode()
    assert parse_dump_path(path) == ("c", name)


def test_a_command_reaches_the_container_as_it_is():
    argv = ["printf", "%s|", "plain $HOME", decoded(STRANGE), "-x 'y'", decoded(b"\xff\n")]
    said = subprocess.run(speakable(argv), capture_output=True, check=True).stdout
    assert said == b"plain $HOME|" + STRANGE + b"|-x 'y'|\xff\n|"
    assert json.dumps(speakable(argv), ensure_ascii=False).encode()


def test_a_command_without_such_bytes_is_no_shells():
    assert speakable(["psql", "café"]) == ["psql", "café"]


class Stream:
    """A psql that answers each script with a row and the script's own end."""

    def __init__(self, row):
        self.row = row
        self.written = []

    def write(self, data, _waiting):
        self.written.append(data)

    def frames(self, _waiting):
        while True:
            yield STDOUT, self.row + b"\n" + self.written[-1].split(b"\\echo ")[-1]


def test_a_session_asks_for_bytes_as_they_are_and_keeps_them():
    stream = Stream(b'["sch\xe9ma", "caf\xe9", 3]')
    session = SqlSession(stream, "c/d", lambda: None)
    assert session.query("SELECT 'caf\udce9';") == [["sch\udce9ma", "caf\udce9", 3]]
    assert b"THEN 'SQL_ASCII' ELSE 'UTF8'" in b"".join(stream.written)
    assert b"SELECT 'caf\xe9';" in stream.written[-1]
    before = len(stream.written)
    assert count_rows(session) == {r'"sch\xe9ma"."caf\xe9"': 3}
    assert b"client_encoding" not in b"".join(stream.written[before:]), "once is enough"


def test_a_dump_is_in_the_databases_own_encoding():
    clients = Clients(None, "c", Credentials("app"), "run")
    assert "--encoding=SQL_ASCII" in clients.dump_argv("shop", "00000003-1", "SQL_ASCII")


def test_a_raw_session_has_nothing_converted():
    stream = Stream(b'["w\x81"]')
    assert SqlSession(stream, "c/d", lambda: None, raw=True).query("SELECT 1;") == [["w\udc81"]]
    assert b"client_encoding" not in b"".join(stream.written)


def test_what_cannot_be_translated_is_counted_as_it_is_written():
    asked = []

    class Server(Postgres):
        def _count(self, _database, *, rows, raw):
            asked.append(raw)
            if not raw:
                raise PostgresError("has no equivalent", "22P05")
            return {}, {}

    assert Server(None, "c", Credentials("app"), "run").count("shop", rows=True) == ({}, {})
    assert asked == [False, True]
