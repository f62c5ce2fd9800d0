# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Env files, as people write them."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.scalr.backup.plugins.filter.dotenv import dotenv
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("", {}),
        ("\n  \n# a comment\n   # another\n", {}),
        ("A=1", {"A": "1"}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1\n", {"A": "1"}),
        ("export A=1\n", {"A": "1"}),
        ("  A = 1  \n", {"A": "1"}),
        ("A=\nB=2\n", {"A": "", "B": "2"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=a=b==\n", {"A": "a=b=="}),
        ("A=a b\n", {"A": "a b"}),
        ("A=a # comment\n", {"A": "a"}),
        ("A=# comment\n", {"A": ""}),
        ("A=a#b\n", {"A": "a#b"}),
        ("A=it's\n", {"A": "it's"}),
        (r"A=a\nb", {"A": r"a\nb"}),
        ("A=$HOME/x\n", {"A": "$HOME/x"}),
        ("A=`id`\n", {"A": "`id`"}),
        ("A='a # b' # comment\n", {"A": "a # b"}),
        (r"A='a\n\'" + "\n", {"A": "a\\n\\"}),
        ("A=''\n", {"A": ""}),
        ('A=""\n', {"A": ""}),
        ('A="a # b"\nB=2\n', {"A": "a # b", "B": "2"}),
        (r'A="\"\\\$\n\t"', {"A": '"\\$\n\t'}),
        (r'A="\x"', {"A": r"\x"}),
        ("A='1\n2'\nB=3\n", {"A": "1\n2", "B": "3"}),
        ('A="1\n2"\nB=3\n', {"A": "1\n2", "B": "3"}),
        ("A=' padded '\n", {"A": " padded "}),
    ],
)
def test_what_a_line_means(text, variables):
    assert dotenv(text) == variables


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("A=1\nnonsense\n", "Line 2 of the env file is not NAME=value."),
        ("1A=1\n", "Line 1 of the env file is not NAME=value."),
        ("A-B=1\n", "Line 1 of the env file is not NAME=value."),
        ("\n\nA='1\n", "Line 3 of the env file opens a ' that is never closed."),
        ('A="1\\"\n', 'Line 1 of the env file opens a " that is never closed.'),
        ("A='1'2\n", "Line 1 of the env file continues after its closing quote."),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_line(text, complaint):
    with pytest.raises(AnsibleFilterError) as error:
        dotenv(text)

    assert str(error.value) == complaint


def test_a_complaint_never_shows_the_content():
    with pytest.raises(AnsibleFilterError) as error:
        dotenv("RESTIC_PASSWORD='s3cret\n")

    assert "s3cret" not in str(error.value)


def test_only_text_is_read():
    with pytest.raises(AnsibleFilterError):
        dotenv({"A": "1"})


@given(st.text(st.characters(exclude_characters="'\r", exclude_categories=["Cs"])))
def test_whatever_single_quotes_hold_is_taken_as_it_stands(value):
    assert dotenv(f"A='{value}'\n") == {"A": value}


@given(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
def test_whatever_is_escaped_in_double_quotes_comes_back(value):
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    assert dotenv(f'A="{escaped}"\n') == {"A": value}
