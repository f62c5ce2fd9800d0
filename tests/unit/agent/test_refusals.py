# SPDX-License-Identifier: GPL-3.0-or-later
"""What the socket proxy refuses, as the agent remembers it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scalr_backup.core.refusals import KINDS, merged, suspicious
from scalr_backup.service.lookout import Lookout
from scalr_backup.tools.state import State

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def told(begun="a", **counts):
    return {"begun": begun, "refused": dict.fromkeys(KINDS, 0) | counts}


def test_counts_outlive_the_proxy_that_counts():
    first = merged(None, told(exec=2, look=1), NOW)
    assert (first["total"]["exec"], first["total"]["look"], first.get("last")) == (2, 1, NOW.isoformat())
    again = merged(first, told(exec=2, look=5), LATER)
    assert (again["total"]["exec"], again["total"]["look"], again.get("last")) == (2, 5, NOW.isoformat())
    restarted = merged(again, told("b", exec=1), LATER)
    assert (restarted["total"]["exec"], restarted["total"]["look"], restarted.get("last")) == (3, 5, LATER.isoformat())
    assert suspicious(restarted) == 3
    fallen = merged(merged(None, told(exec=5, look=2), NOW), told(exec=1, look=2), LATER)
    assert (fallen["total"]["exec"], fallen["total"]["look"]) == (6, 4)


def test_a_look_alone_is_nobodys_attempt():
    record = merged(None, told(look=7), NOW)
    assert "last" not in record
    assert suspicious(record) == 0


def test_what_is_no_count_counts_nothing():
    for strange in ({}, {"refused": []}, {"begun": 1, "refused": {"exec": "9", "call": -1, "look": None}}):
        assert set(merged(None, strange, NOW)["total"].values()) == {0}


def test_what_is_told_is_put_on_record(tmp_path):
    state = State(tmp_path)
    lookout = Lookout(state)
    lookout.count(None)
    assert "refused" not in state.read()
    lookout.count(told(call=1))
    lookout.count(told("b", call=1))
    assert state.read()["refused"]["total"]["call"] == 2
