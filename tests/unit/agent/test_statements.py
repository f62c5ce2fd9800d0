# SPDX-License-Identifier: GPL-3.0-or-later
"""What psql is shown of statements that others may have written: nothing but digits."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scalr_backup.core.errors import PostgresError
from scalr_backup.core.text import decoded, encoded
from scalr_backup.tools.docker.exec_stream import STDOUT
from scalr_backup.tools.postgres.session import SqlSession
from scalr_backup.tools.postgres.statements import as_values

_LINE = re.compile(
    r"SELECT pg_catalog\.convert_from\(pg_catalog\.decode\('(?P<digits>[0-9a-f]*)', 'hex'\), "
    r"pg_catalog\.pg_client_encoding\(\)\) \\gexec"
)


@given(st.lists(st.text() | st.binary().map(decoded)))
def test_each_statement_is_one_line_of_digits_whatever_it_is(statements):
    statements = [one.encode("utf-8", "replace").decode() if _stands_for_no_bytes(one) else one for one in statements]
    lines = as_values(statements).splitlines()
    found = [_LINE.fullmatch(line) for line in lines]
    assert all(found)
    assert [bytes.fromhex(one["digits"]) for one in found] == [encoded(one) for one in statements]


def _stands_for_no_bytes(text):
    """Whether a text holds surrogates that stand for no byte, which no server ever said."""
    try:
        encoded(text)
    except UnicodeEncodeError:
        return True
    return False


class Stream:
    """A psql that answers each marker; what it was shown, and whether its input has ended."""

    def __init__(self):
        self.shown, self.ended = [], False

    def frames(self, _waiting):
        while True:
            yield STDOUT, b"not JSON\n" + self.shown[-1].rsplit(b"\\echo ", 1)[1]

    def write(self, data, _waiting):
        assert not self.ended
        self.shown.append(data)

    def end_input(self):
        self.ended = True


def test_what_statements_return_is_not_read_and_after_the_last_nothing_can_be_asked_for():
    stream = Stream()
    session = SqlSession(stream, "c/shop", lambda: None)
    session.run(["COPY t TO STDOUT"])
    assert not stream.ended
    session.run(["COPY t FROM STDIN", "SELECT 1"], last=True)
    assert stream.ended
    assert b"COPY" not in b"".join(stream.shown)


def test_a_name_with_a_nul_never_reaches_psql():
    """To psql, a line ends at a NUL, so that it would miss the quote that ends the name."""
    stream = Stream()
    session = SqlSession(stream, "c/shop", lambda: None)
    before = list(stream.shown)
    with pytest.raises(PostgresError, match="a name contains a NUL"):
        session.query("SELECT 'a\0b';")
    assert stream.shown == before
