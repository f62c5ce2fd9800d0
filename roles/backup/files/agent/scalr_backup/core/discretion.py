# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's words may tell of what it was working on: names, and no value of a row.

An error's first line may quote rows: a function that a condition calls says what it likes, and a value that has no place in a
type is quoted. So where rows are being worked on, only words are kept that PostgreSQL's own messages consist of, and those that
the caller knows to be no row's: of an archive's definitions, or of the statement. The words of a row are in neither, as a rule;
in another language than English only the names remain.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from scalr_backup.core.address import HIDDEN

# What PostgreSQL's messages consist of, and those of a system under it, without what might be a person's or say something of one.
_VOCABULARY = frozenset(
    """
    a aborted access administrator aggregate algorithm allowed already an and are argument arguments array as at attribute
    available based be because been between bigint bit block boolean btree buffer by byte bytea bytes cache called can
    canceling cannot cast character characters check closed code collation column columns command compare comparison
    compressed conflict conflicts connection constraint contain contains conversion convert copy corrupt corrupted could
    create data database date date/time deadlock default delete denied detected determine device dimensions directory disk
    division do does domain double down drop due duplicate duration element elements empty encoding encountered end entry
    enum equivalent error exceed exceeded exceeding exceeds exist exists expected expression extend extension extra failed
    field file files find for foreign format found from function generated gin gist group hash have hstore identifier
    identity implemented in inconsistent index inet infinite input insert insufficient integer interval into invalid is it
    item its json jsonb key large left length less level limit line list lock locks logical long lookup lost malformed
    materialized maximum memory message missing mode modified more multidimensional must name named names new no node not
    not-null null number numeric object objects of offset on one only open operand operator or out outside overflow
    overflows page parameter parent parse partition partitioned path pattern permission pointer precision primary
    procedure process query quota range reached read reading real recovery recursion referenced references refresh
    relation relations request required returned role row rows schema section select sequence server set shared shutting
    size smallint snapshot space specified sql stack statement still storage stored string subscript supported syntax
    system table tablespace temporary terminated terminating text than that the there this time timeout timestamp to token
    too transaction translate trigger truncated tsquery tsvector tuple type types unexpected unexpectedly unique unknown
    unrecognized unsupported unterminated update updated use used user uuid value values varying view violates was were
    when which while with within without working write written wrong xml zero zone No Permission Cannot Input/output Disk
    ALTER COPY JSON JSONB NULL SELECT SQL TOAST UTF8 XML
    """.split()  # noqa: SIM905 (a list of them is not to be read)
)
# An error of the server, and each of its fields, begins with a word of the server's language, a colon and two blanks.
SEVERITY = re.compile(r"(.*?[^\s:]:  )(?! )(.*)", re.DOTALL)
_FATAL = ("FATAL:  ", "PANIC:  ")
# What stands between two words; a name with a dot or a blank in it is two.
_WORD = re.compile(r"[^\s\"'`\u00ab\u00bb\u2018-\u201f\u2039\u203a()\[\]{}<>=.,:;|]+")
# A value of which one word is hidden is hidden as a whole.
_QUOTED = re.compile(r'"[^"]*"')
_SEVERAL = re.compile(rf"{re.escape(HIDDEN)}(?:[^\w*]*{re.escape(HIDDEN)})+")


def words_of(texts: Iterable[str | None]) -> frozenset[str]:
    """The words of texts that hold no row; a number that is among them might be a row's as well."""
    return frozenset(word for text in texts if text for word in _WORD.findall(text) if not word.isdigit())


def error_without_values(line: str, known: Collection[str] = ()) -> str | None:
    """The same for a line that ends in an error of the server, whose own beginning is kept; None for another line."""
    found = SEVERITY.match(line)
    if found is None:
        return None
    # What ends a session, no statement can raise.
    return line if found[1].endswith(_FATAL) else found[1] + without_values(found[2], known)


def without_values(message: str, known: Collection[str] = ()) -> str:
    """A server's message in which whatever may come out of a row is hidden."""

    def is_told(word: str) -> bool:
        return word in _VOCABULARY or word in known or not any(character.isalnum() for character in word)

    def shown(match: re.Match[str]) -> str:
        return match[0] if is_told(match[0]) else HIDDEN

    def quoted(match: re.Match[str]) -> str:
        return match[0] if all(map(is_told, _WORD.findall(match[0]))) else f'"{HIDDEN}"'

    return _SEVERAL.sub(HIDDEN, _WORD.sub(shown, _QUOTED.sub(quoted, message)))
