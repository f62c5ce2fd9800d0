# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer that grows with the number of a database's tables may be larger than others, and is bounded all the same."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from types import SimpleNamespace

import pytest
from scalr_backup.core import spoken
from scalr_backup.core.archive.parser import HEAD_LIMIT
from scalr_backup.core.errors import InvalidAnswerError, PostgresError
from scalr_backup.core.model import Credentials
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecResult
from scalr_backup.tools.postgres import left_out, queries
from scalr_backup.tools.postgres.cluster import Postgres
from scalr_backup.tools.postgres.session import SqlSession

ROWS = {
    "count": lambda session: queries.count_rows(session, queries.MOST_OF_TABLES),
    "sequences": queries.sequence_values,
}


class Docker:
    """A container whose programs say nothing; how much each may say."""

    def __init__(self):
        self.bounds = {}

    def run(self, _container, argv, _environment=None, *, most_bytes=spoken.MOST_BYTES, **_options):
        self.bounds[argv[0]] = most_bytes
        return ExecResult(0, b"", "")


def postgres(docker):
    facts = {("c", "home"): "postgres", ("c", "limits"): ""}
    return Postgres(docker, "c", Credentials("postgres"), "scalr-backup r", facts=facts)


@pytest.mark.parametrize(
    ("call", "program", "bound"),
    [
        (lambda one: one.check_archive(b"head"), "pg_restore", HEAD_LIMIT),
        (lambda one: one.check_relations("shop", 1), "pg_amcheck", spoken.MOST_OF_TABLES),
        (lambda one: one.run_read_only("shop", "SELECT true"), "psql", spoken.MOST_BYTES),
    ],
)
def test_how_much_a_program_may_say(call, program, bound):
    docker = Docker()
    with suppress(PostgresError):
        call(postgres(docker))
    assert docker.bounds[program] == bound


class Psql:
    """A psql that answers with so many rows of one kind, whatever it is asked that has rows."""

    def __init__(self, row, rows):
        self.row, self.rows, self.script = row, rows, b""

    def write(self, data, _waiting):
        self.script = data

    def frames(self, _waiting):
        while True:
            if b"jsonb_build_array" in self.script:
                for start in range(0, self.rows, 10_000):
                    yield STDOUT, self.row * min(10_000, self.rows - start)
            yield STDOUT, self.script.rsplit(b"\\echo ", 1)[-1]


@pytest.mark.parametrize(("ask", "row"), [("count", b'["a", "b", 1]\n'), ("sequences", b'["a", "b", 1, true]\n')])
def test_counts_and_values_may_be_more_than_other_answers(ask, row, monkeypatch):
    monkeypatch.setattr(spoken, "MOST_BYTES", 1000)
    monkeypatch.setattr("scalr_backup.tools.postgres.session.MOST_BYTES", 1000)
    monkeypatch.setattr("scalr_backup.tools.postgres.queries.MOST_OF_TABLES", 10_000)
    assert len(ROWS[ask](SqlSession(Psql(row, 400), "c/shop", lambda: None))) == 1
    with pytest.raises(InvalidAnswerError, match="printed more than"):
        ROWS[ask](SqlSession(Psql(row, 1000), "c/shop", lambda: None))


def test_the_bound_is_the_last_resort_of_the_machine():
    assert spoken.MOST_BYTES < spoken.MOST_OF_TABLES == 256 << 20 < HEAD_LIMIT


def test_of_tables_that_row_level_security_hides_a_thousand_are_read():
    asked = []

    def query(sql):
        asked.append(sql)
        return [[[], [["public", f"t{number}"] for number in range(1000)]]]

    _candidates, hidden = left_out.survey(SimpleNamespace(query=query))
    assert asked[0].count("LIMIT 1000") == 2
    assert "public.t9 and at least 990 more" in left_out.hidden_words(hidden, "app").replace('"', "")
    assert "public.t9 and 1 more" in left_out.hidden_words(hidden[:11], "app").replace('"', "")
    assert "more" not in left_out.hidden_words(hidden[:10], "app")


def test_counts_that_fit_no_manifest_are_not_taken_for_one(monkeypatch):
    """The dump is saved without them; a manifest that is too large would cost all databases of the pass theirs."""
    monkeypatch.setattr("scalr_backup.tools.postgres.session.MOST_BYTES", 1000)
    with pytest.raises(InvalidAnswerError, match="printed more than"):
        queries.count_rows(SqlSession(Psql(b'["a", "b", 1]\n', 400), "c/shop", lambda: None))


def test_a_database_that_is_verified_is_counted_up_to_the_larger_bound():
    asked = []

    class Counted(Postgres):
        def session(self, *_arguments, **_options):
            return nullcontext(SimpleNamespace(query=lambda sql, most=None: asked.append((sql, most)) or []))

    facts = {("c", "without event triggers"): ""}
    Counted(Docker(), "c", Credentials("postgres"), "scalr-backup r", facts=facts).count("shop", rows=True)
    assert [most for sql, most in asked if "jsonb_build_array" in sql] == [spoken.MOST_OF_TABLES] * 2
