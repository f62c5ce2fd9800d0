# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose code a restore runs with the rights of who restores, as far as an archive's table of contents tells.

Conditions of tables and domains, and what is generated or parted by an expression, are evaluated while rows are loaded, by
the session that loads them. Indexes, materialized views and statistics are not among it: PostgreSQL makes them with their
owner's rights. Triggers, policies and defaults do nothing to rows that are loaded whole before they are made.

It is an approximation, and to the safe side: an expression of nothing but operators and functions known to be harmless is
nobody's code. Where there is another, what it may call is unknown, as the bodies of functions are not read: then whoever
owns a function is named as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scalr_backup.core.archive.head import ArchiveHead, TocEntry

_CALLABLE = frozenset({"FUNCTION", "PROCEDURE", "AGGREGATE"})
# What has conditions, or keys by which rows are parted; of a composite type or a sequence there are none.
_EVALUATED = frozenset({"TABLE", "DOMAIN", "CHECK CONSTRAINT"})
# Functions that are called where no expression shows it, if they are not PostgreSQL's own, which stand without a schema but
# for casts.
_CALLS = {
    "CAST": re.compile(r"WITH FUNCTION (?!pg_catalog\.)"),
    "TYPE": re.compile(r'canonical = (?:"|\S*\.)'),
    "CONVERSION": re.compile(r' FROM (?:"|\S*\.)'),
}
_TOKEN = re.compile(
    r"""(?P<quoted>"(?:[^"]|"")*")|(?P<text>[Ee]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*')|(?P<word>[^\W\d][\w$]*)|(?P<space>\s+)|.""",
    re.DOTALL | re.VERBOSE,
)
# After these words, or these and AS, an expression stands in parentheses; see pg_get_constraintdef and the like.
_BEGINS = frozenset({"CHECK", "RANGE", "LIST", "HASH"})
# What may stand before a parenthesis without being a function that somebody wrote or that reaches anything else: words of
# SQL, types, and functions of PostgreSQL which compute with what they are given.
_HARMLESS = frozenset(
    """
    CHECK AND OR NOT IN ANY ALL SOME CASE WHEN THEN ELSE END IS NULL BETWEEN LIKE ILIKE AS FROM FOR COLLATE ARRAY ROW
    COALESCE NULLIF GREATEST LEAST EXTRACT OVERLAY POSITION SUBSTRING TRIM CAST RANGE LIST HASH BY USING DISTINCT
    numeric varying varchar character char bit bpchar time timestamp interval decimal
    abs array_length array_ndims array_position array_upper array_lower array_to_string array_remove btrim cardinality
    ceil ceiling char_length character_length chr date date_part date_trunc div exp floor initcap isempty isfinite
    jsonb_array_length json_array_length jsonb_typeof json_typeof left length ln log lower lower_inc lower_inf lpad ltrim
    concat concat_ws make_date make_interval make_time make_timestamp masklen md5 mod now num_nonnulls num_nulls octet_length
    overlay position power
    regexp_like regexp_replace repeat replace reverse right round rpad rtrim setweight sha256 sign split_part sqrt
    starts_with strpos substr substring timezone to_char to_date to_number to_timestamp to_tsvector translate trunc upper upper_inc
    upper_inf
    """.split()  # noqa: SIM905 (a hundred words)
)


def authors(head: ArchiveHead) -> frozenset[str]:
    """The owners whose code a restore of the archive may run; none where there is no code in what it evaluates."""
    if not head.is_known:
        # Its statements are not read here.
        return frozenset(_owners(head, _CALLABLE | _EVALUATED))
    evaluated = {entry.owner for entry in head.entries if entry.desc in _EVALUATED and has_code(entry)}
    if not (evaluated or any(map(_calls_by_itself, head.entries))):
        return frozenset()
    return frozenset(owner for owner in {*evaluated, *_owners(head, _CALLABLE)} if owner)


def _calls_by_itself(entry: TocEntry) -> bool:
    """Whether it calls a function where no expression shows it.

    A cast may be implicit, a range type's canonical function sees every value that is read, and PostgreSQL tries the function
    of a conversion when that is made.
    """
    calls = _CALLS.get(entry.desc)
    return calls is not None and calls.search(entry.defn or "") is not None


def _owners(head: ArchiveHead, kinds: frozenset[str]) -> Iterator[str]:
    return (entry.owner for entry in head.entries if entry.desc in kinds and entry.owner)


def has_code(entry: TocEntry) -> bool:
    """Whether an object has an expression that is evaluated for each row and may be anybody's code."""
    return any(not _is_harmless(one) for one in _expressions(entry.defn or ""))


def _expressions(defn: str) -> Iterator[list[str]]:
    """The tokens of each expression of a definition, from the parenthesis that opens it to the one that closes it."""
    if not any(word in defn for word in ("CHECK (", "ALWAYS AS (", "PARTITION BY")):
        return
    tokens = [found.group() for found in _TOKEN.finditer(defn) if found.lastgroup != "space"]
    place = 0
    while place < len(tokens):
        begins = tokens[place] == "(" and place > 0 and _opens(tokens, place)
        if not begins:
            place += 1
            continue
        end = _end(tokens, place)
        yield tokens[place:end]
        place = end


def _opens(tokens: list[str], place: int) -> bool:
    """Whether the parenthesis at a place opens such an expression: CHECK (…), GENERATED ALWAYS AS (…), PARTITION BY RANGE (…)."""
    return tokens[place - 1] in _BEGINS or tokens[max(place - 2, 0) : place] == ["ALWAYS", "AS"]


def _end(tokens: list[str], place: int) -> int:
    depth = 0
    for number in range(place, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[number], 0)
        if not depth:
            return number + 1
    return len(tokens)


def _is_harmless(tokens: list[str]) -> bool:
    """Whether nothing is called in an expression but what is known.

    pg_dump writes all that is not PostgreSQL's own with its schema, operators as ``OPERATOR(schema.…)``.
    """
    for place in range(1, len(tokens)):
        before = tokens[place - 1]
        is_called = tokens[place] == "(" and (before[:1].isalpha() or before[:1] in {'"', "_"})
        # One that is called like a keyword stands in quotes.
        if is_called and (before.strip('"') not in _HARMLESS or tokens[place - 2] == "."):
            return False
    return True
