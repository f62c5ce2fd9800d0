# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a server's error is told: what is wrong and where, and no value of a row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from scalr_backup.core.archive.head import Section
from scalr_backup.core.archive.trouble import troubles, words_not_of_rows
from scalr_backup.core.discretion import without_values, words_of
from scalr_backup.core.endings import Command, ending, last_words
from scalr_backup.tools.postgres.failures import explain_failure


def entry(number, desc, tag, defn=None, section=Section.DATA):
    return SimpleNamespace(
        dump_id=number, tableoid=0, oid=number, desc=desc, tag=tag, namespace="public", owner="app", defn=defn,
        copy_stmt=None, section=section,
    )  # fmt: skip


def archive(*entries):
    return SimpleNamespace(entries=entries)


KNOWN = words_of(
    ["CREATE TABLE public.orders (card bigint, CONSTRAINT orders_ck CHECK (public.known(card)));", "x int4", "12 34"]
)
# As pg_restore 17 says it, and in German.
RAISED = """\
pg_restore: processing data for table "public.orders"
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 7; 0 7 TABLE DATA orders postgres
pg_restore: error: COPY failed for table "orders": ERROR:  no such customer: alice@example.com
with a second line: error: bob@example.com
CONTEXT:  PL/pgSQL function public.known(text) line 1 at RAISE
COPY orders, line 1: "1	carol@example.com, error: dave@example.com"
"""
IN_GERMAN = (
    RAISED.replace("error: COPY failed for table", "Fehler: COPY fehlgeschlagen für Tabelle")
    .replace("ERROR:  no such customer", "FEHLER:  kein solcher Kunde")
    .replace("CONTEXT:", "KONTEXT:")
)
ROWS = entry(7, "TABLE DATA", "orders")
CODE = entry(
    1, "FUNCTION", "known(text)", "CREATE FUNCTION public.known(text) AS $$ RAISE 'no such customer: %', a; $$;"
)
HEAD = archive(
    entry(2, "TABLE", "orders", "CREATE TABLE public.orders (state text DEFAULT 'alice@example.com');"), CODE, ROWS
)
PEOPLE = ("alice", "bob", "carol", "dave")


def quotes_nobody(words: str) -> bool:
    return not any(name in words for name in PEOPLE)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ('invalid input syntax for type bigint: "4111111111111111x"', 'invalid input syntax for type bigint: "***"'),
        ('value "9999999999" is out of range for type integer', 'value "***" is out of range for type integer'),
        ('new row for relation "orders" violates check constraint "orders_ck"', None),
        ("function public.known(bigint) does not exist", None),
        ("could not extend file: No space left on device", None),
        ('no row "Grace\'s card number" in "orders_ck"', 'no row "***" in "orders_ck"'),
        ("no such customer: alice@example.com", "no *** customer: ***"),
        ("Will May, 12, 34, 5.5", "***"),
        ("kein solcher Kunde: »alice« in »orders«", "***« in »orders«"),
        ("", None),
    ],
)
def test_words_of_postgresql_and_names_are_kept(message, told):
    assert without_values(message, KNOWN | {"customer"}) == (message if told is None else told)


@pytest.mark.parametrize("said", [RAISED, IN_GERMAN])
@pytest.mark.parametrize("known", [None, KNOWN])
def test_what_follows_the_first_line_of_an_error_is_never_told(said, known):
    words = ending(Command("pg_restore", "shop-db"), 1, said, dict, known)
    assert '"orders": ' in words
    assert not any(name in words for name in ("bob", "carol", "dave"))
    assert ("alice" in words) is (known is None)


def test_what_comes_after_an_error_is_told():
    assert last_words("pg_dump: error: it broke: ERROR:  no\nDETAIL:  error: x\npg_dump: detail: error: y\n") == (
        "pg_dump: error: it broke: ERROR:  no pg_dump: detail: error: y"
    )
    assert last_words("FEHLER:  nein\nDETAIL:  x\nZEILE 1: y\n") == "FEHLER:  nein"
    assert last_words("psql:<stdin>:2: FEHLER:  nein\nDETAIL:  x\n") == "psql:<stdin>:2: FEHLER:  nein"


@pytest.mark.parametrize("said", [RAISED, IN_GERMAN])
def test_rows_that_cannot_be_loaded_are_told_in_the_words_of_the_definitions(said):
    [trouble] = troubles(said, HEAD)
    assert "alice" in trouble.words, "by which is found out what is in the way"
    assert quotes_nobody(trouble.sentence + trouble.cause)
    assert quotes_nobody(last_words(said, words_not_of_rows([trouble], HEAD)))
    if said is RAISED:
        assert trouble.sentence == "TABLE DATA public.orders: ERROR:  no such customer: ***"


def test_what_is_made_before_the_first_row_is_told_in_all_words():
    made = entry(3, "EXTENSION", "postgis", section=Section.PRE_DATA)
    said = (
        "pg_restore: from TOC entry 3; 0 3 EXTENSION postgis\n"
        'pg_restore: error: could not execute query: ERROR:  extension "postgis" is not available\n'
    )
    head = archive(made)
    found = troubles(said, head)
    assert found[0].cause == 'ERROR:  extension "postgis" is not available'
    assert words_not_of_rows(found, head) is None
    assert words_not_of_rows([], head) is not None


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("22P02: invalid input syntax for type bigint: \"4111x\"", "ERROR:  22P02: invalid input syntax for type bigint: \"***\""),
        ("P0001: no such customer: alice", "ERROR:  P0001: no ***"),
        ("38000: alice", "ERROR:  38000: ***"),
        ("XX000: alice", "ERROR:  XX000: ***"),
        ("ABCDE: alice", "ERROR:  ABCDE: ***"),
        ("XX001: invalid page in block 7 of relation base/5/16400", "ERROR:  invalid page in block 7 of relation base/5/16400"),
        ('42P01: relation "nowhere" does not exist', 'ERROR:  relation "nowhere" does not exist'),
        ('23514: new row for relation "o" violates check constraint "c"', 'ERROR:  new row for relation "o" violates check constraint "c"'),
    ],
)  # fmt: skip
def test_the_code_decides_whether_an_error_may_quote_rows(error, told):
    assert explain_failure(f"ERROR:  {error}\nDETAIL:  alice\nLOCATION:  x, y.c:1\n") == (error[:5], told)


def test_what_is_asked_may_be_quoted():
    said = 'ERROR:  22023: invalid value for parameter "work_mem": "lots"\nLOCATION:  x, y.c:1\n'
    asked = words_of(["ALTER DATABASE shop SET work_mem = 'lots'"])
    assert explain_failure(said, asked)[1] == 'ERROR:  22023: invalid value for parameter "work_mem": "lots"'
