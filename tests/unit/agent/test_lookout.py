# SPDX-License-Identifier: GPL-3.0-or-later
"""What the looks between passes put on record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.service.lookout import Lookout
from scalr_backup.tools.state import State

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def state(tmp_path) -> State:
    return State(tmp_path)


def look(*servers, minutes=0, matching=("scalr-a-db",)):
    found = [{"name": name, "why": "w"} for name in servers]
    return {"time": (NOW + timedelta(minutes=minutes)).isoformat(), "matching": list(matching), "unmatched": found}


def names(state):
    return [one["name"] for one in state.read().get("look", {})["unmatched"]]


def test_a_server_is_told_that_is_there_twice_and_one_of_a_moment_never(state):
    lookout = Lookout(state)
    lookout.note(look("app-postgres-1"))
    assert names(state) == []
    lookout.note(look("app-postgres-1", "a-test", minutes=5))
    assert names(state) == ["app-postgres-1"]
    lookout.note(look("app-postgres-1", minutes=10))
    assert names(state) == ["app-postgres-1"]
    lookout.note(look(minutes=15))
    assert names(state) == []


def test_one_that_a_pass_has_put_on_record_stays_there(state):
    state.put(look=look("app-postgres-1"))
    Lookout(state).note(look("app-postgres-1", minutes=5))
    assert names(state) == ["app-postgres-1"]


def test_the_record_is_written_where_it_is_news_and_once_an_hour(state):
    lookout = Lookout(state)
    for minutes, written in [(0, 0), (5, 0), (55, 0), (60, 60), (65, 60)]:
        lookout.note(look(minutes=minutes))
        assert state.read().get("look", {})["time"] == look(minutes=written)["time"]
    lookout.note(look(minutes=70, matching=()))
    assert state.read().get("look", {})["matching"] == []
