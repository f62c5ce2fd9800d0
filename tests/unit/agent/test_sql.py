# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts of pg_dump and pg_dumpall, cut into statements and words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scalr_backup.core.sql import quote_identifier, quote_literal, split_statements, unquote_identifier


def texts(script: str) -> list[str]:
    return [statement.text for statement in split_statements(script)]


def words(script: str) -> list[tuple[str, ...]]:
    return [statement.words for statement in split_statements(script)]


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


class TestStatements:
    @pytest.mark.parametrize("script", ["", "\n", "-- nothing;\n", "\\restrict a;b'c\n", "-- it's \"open"])
    def test_none(self, script: str) -> None:
        assert texts(script) == []

    def test_one_after_the_other(self) -> None:
        assert texts("SET a = on;\n\n-- x;\n\\unrestrict '\nRESET a;RESET b;\n") == [
            "SET a = on;",
            "RESET a;",
            "RESET b;",
        ]

    def test_words_are_as_they_stand(self) -> None:
        script = 'GRANT SELECT("Id"),x ON  TABLE s.t\nTO "a;""b";'
        assert words(script) == [
            ("GRANT", "SELECT", "(", '"Id"', ")", ",", "x", "ON", "TABLE", "s", ".", "t", "TO", '"a;""b"')
        ]

    @pytest.mark.parametrize(
        "constant",
        [
            "''",
            "'a;b'",
            "'it''s'",
            "'\n-- no comment\n\\restrict x\n'",
            "'back\\'",
            "E'back\\\\'",
            "E'\\'; DROP '",
            "E''''",
        ],
    )
    def test_a_constant_is_one_word(self, constant: str) -> None:
        assert words(f"COMMENT IS {constant};RESET x;") == [("COMMENT", "IS", constant), ("RESET", "x")]

    @given(names)
    def test_any_constant_and_any_name(self, text: str) -> None:
        script = f"SET {quote_identifier(text)} TO {quote_literal(text)};\nRESET x;"
        (one, two) = split_statements(script)
        assert one.text + "\n" + two.text == script
        assert unquote_identifier(one.words[1]) == text

    @pytest.mark.parametrize(
        ("script", "complaint"),
        [
            ("SET a TO 'secret;", "the quote at character 10 is not closed"),
            ('SET "secret;', "the quote at character 5 is not closed"),
            ("RESET a;\nSET secret", "the last statement is not terminated"),
        ],
    )
    def test_the_end_is_missing(self, script: str, complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint) as raised:
            texts(script)
        assert "secret" not in str(raised.value)

    def test_nothing_of_it_is_printed(self) -> None:
        assert "hash" not in repr(list(split_statements("ALTER ROLE a WITH PASSWORD 'hash';")))


def test_an_unquoted_name_is_itself() -> None:
    assert unquote_identifier("app") == "app"
