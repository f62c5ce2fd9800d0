# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's own code for an error says (PostgreSQL documentation, "Error Codes"), whatever language its words are in.

A client program that is not let in tells no code: libpq keeps it to itself. So no code means that nothing is known.
"""

from __future__ import annotations

# A lock that was not had within the time that it may take.
LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
# What was lost against another transaction, and may not be another time.
SERIALIZATION_FAILURE = "40001"
# What a name stood for when a statement was made, and does not any more: a table, and its schema.
_GONE = ("42P01", "3F000")
# Bytes that have no meaning in an encoding, and characters that another one does not have.
_UNTRANSLATABLE = ("22021", "22P05")
# What the server has too little of: connections, memory, entries in its table of locks, room on a disk.
_INSUFFICIENT_RESOURCES = "53"
# Somebody ended it: a session, a statement, the server.
_OPERATOR_INTERVENTION = "57"
# A lost connection, a transaction that lost against another one, resources, locks, an operator's or a crash's doing, and the
# system under the server. Anything else is the same in a minute.
_PASSING = ("08", "40", _INSUFFICIENT_RESOURCES, "55P03", "57P", "58")

# Whose messages name objects, settings, files and the like. All others, such as what functions raise themselves, and what is
# wrong with a value, may say what is in a row. Of a condition that rows violate, the row is in the error's detail, which nobody tells.
_WITHOUT_VALUES = (
    "08", "0A", "0L", "0P", "23", "25", "26", "28", "2B", "34", "3B", "3D", "3F", "40", "42", "53", "54", "55", "57", "58",
    "F0", "HV", "XX001", "XX002",
)  # fmt: skip


def may_quote_rows(sqlstate: str) -> bool:
    """Whether the message of an error may quote values of rows."""
    return not sqlstate.startswith(_WITHOUT_VALUES)


def is_passing(sqlstate: str | None) -> bool:
    """Whether what failed so may succeed later, or in another session; where nothing is known, it may."""
    return sqlstate is None or sqlstate.startswith(_PASSING)


def is_refusal(sqlstate: str | None) -> bool:
    """Whether a server has said of a statement that it does not take it, now or later."""
    return not is_passing(sqlstate) and not str(sqlstate).startswith(_OPERATOR_INTERVENTION)


def is_gone(sqlstate: str | None) -> bool:
    """Whether what was asked for by its name is not there, or has another one."""
    return sqlstate in _GONE


def is_untranslatable(sqlstate: str | None) -> bool:
    """Whether a look failed because of what is written somewhere, and not because of what was asked."""
    return sqlstate in _UNTRANSLATABLE
