# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in the way, in words, and how often that is told."""

from __future__ import annotations

import pytest
from scalr_backup.core.sqlstate import LOCK_NOT_AVAILABLE
from scalr_backup.tools.postgres.blockers import Blocker, LockWatch, in_the_way
from scalr_backup.tools.postgres.failures import explain_failure

ORDERS = "the table public.orders"
HOLDER = Blocker(ORDERS, 1, 42, "app", "psql", "idle in transaction", "2026-11-28 03:00:00")


def test_the_holder_is_named_as_an_operator_finds_it():
    assert in_the_way([HOLDER]) == (
        "the table public.orders, locked by process 42 (user app, application psql, idle in transaction, "
        "since 2026-11-28 03:00:00 UTC)"
    )


def test_nobody_in_the_way_is_nothing_to_tell():
    assert in_the_way([]) is None


def test_a_holder_that_waits_itself_is_told_with_whom_it_waits_for():
    waits = Blocker(ORDERS, 1, 7, "admin", "", "active", "2026-11-28 03:10:00")
    words = in_the_way([waits, Blocker(ORDERS, 2, 42, "app", "psql", "idle in transaction", "2026-11-28 03:00:00")])
    assert words is not None
    assert (
        "locked by process 7 (user admin, active, since 2026-11-28 03:10:00 UTC), which waits for process 42 (" in words
    )


def test_one_who_is_in_the_way_twice_is_named_once():
    assert in_the_way([HOLDER, Blocker(ORDERS, 2, 42, "app")]) == in_the_way([HOLDER])


def test_a_prepared_transaction_has_no_process():
    assert in_the_way([Blocker(ORDERS, 1, 0, prepared="month end")]) == (
        "the table public.orders, locked by a prepared transaction (month end)"
    )


def test_of_many_the_first_are_named():
    many = [Blocker(ORDERS, 1, pid, "app") for pid in range(1, 9)]
    assert str(in_the_way(many)).endswith("process 3 (user app) and 5 more")


def watched(told_for, seconds):
    """What a watch told within so many seconds in which *told_for* tells who is in the way at a time."""
    now, told = [0.0], []
    watch = LockWatch(lambda: told_for(now[0]), lambda words: told.append((now[0], words)), clock=lambda: now[0])
    while now[0] < seconds:
        now[0] += 0.5
        watch.wait()
    return watch, told


def test_it_is_told_after_a_few_seconds_and_then_rarely():
    watch, told = watched(lambda _now: "x", 900)
    assert [moment for moment, _words in told] == [5.0, 65.0, 365.0, 665.0]
    assert watch.last == "x"


def test_what_moves_waits_for_nobody():
    watch, told = watched(lambda _now: "x", 8)
    watch.moved()
    assert watch.last is None
    assert len(told) == 1


def test_one_that_has_gone_is_forgotten():
    watch, told = watched(lambda now: "x" if now < 30 else None, 100)
    assert len(told) == 1
    assert watch.last is None


@pytest.mark.parametrize(
    ("stderr", "sqlstate", "words"),
    [
        (
            "ERROR:  55P03: canceling statement due to lock timeout\nLOCATION:  ProcessInterrupts, postgres.c:3386\n",
            LOCK_NOT_AVAILABLE,
            "ERROR:  canceling statement due to lock timeout",
        ),
        # In the server's language, and with what is no error before it.
        (
            "WARNUNG:  01000: es ist spät\nORT:  x, y.c:1\nFEHLER:  42P01: Relation »t« existiert nicht\nORT:  z, y.c:2\n",
            "42P01",
            "FEHLER:  Relation »t« existiert nicht",
        ),
        # Before there is a session, there is no code.
        (
            'psql: error: connection to server failed: FATAL:  role "app" does not exist\n',
            None,
            'psql: error: connection to server failed: FATAL:  role "app" does not exist',
        ),
    ],
)
def test_the_code_of_an_error_and_its_words(stderr, sqlstate, words):
    assert explain_failure(stderr) == (sqlstate, words)
