# SPDX-License-Identifier: GPL-3.0-or-later
"""What a night costs, as real passes find it: shown everywhere, and believed by auto."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker, wait_until
from tests.support.monitoring import address_of

PORT = 9797
NIGHTS_BEFORE_IT_GIVES_UP = 5
# restic cuts where a number of the repository's own says, after 8 MiB at the latest. The time of the dump is in the
# first piece: that one is new on each night, however large it happens to be, and nothing after it.
LARGEST_PIECE = 8 << 20
# 12 MB of rows that lie in no order at all, and of which each night makes others: the worst that order can meet.
FILL = (
    "TRUNCATE events; INSERT INTO events SELECT i, {hashes} FROM generate_series(1, 40000) AS i ORDER BY md5(i::text); "
    "ANALYZE events"
)
NEW = FILL.format(hashes="(SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 9) AS j)")
# So many days pass for all that is on record of new data; the last night was one of so many that were like it.
TIME_PASSES = """
import sys
from datetime import datetime, timedelta
from pathlib import Path

sys.path.insert(0, "/opt/scalr-backup/package")
from scalr_backup.tools.state_file import StateFile

days, alike = map(int, sys.argv[1:])

def earlier(moment, days):
    return (datetime.fromisoformat(moment) - timedelta(days=days)).isoformat()

def change(document):
    for record in document["new_data"].values():
        *before, last = record["nights"]
        before = [{**night, "time": earlier(night["time"], days + alike - 1)} for night in before]
        like_it = [{**last, "time": earlier(last["time"], days + back)} for back in reversed(range(alike))]
        record["nights"] = before + like_it
        if given_up := record.get("given_up"):
            record["given_up"] = {**given_up, "time": earlier(given_up["time"], days), "dumps": days}

StateFile(Path("/var/lib/scalr-backup")).change(change)
"""


@pytest.fixture(scope="module")
def database(make_database: Any) -> DatabaseContainer:
    """One large table whose key grows with time, and rows that never stay."""
    database: DatabaseContainer = make_database("events")
    database.sql("CREATE TABLE events (id bigserial PRIMARY KEY, body text NOT NULL)")
    return database


@pytest.fixture
def watched(agent: AgentContainer) -> AgentContainer:
    """An agent that orders whatever it can, and tells its metrics once it has read that it shall."""
    agent.configure(row_order_least_bytes=1 << 20, metrics_port=PORT)
    wait_until(lambda: listens(agent), "the agent serves its metrics")
    return agent


def listens(agent: AgentContainer) -> bool:
    """Whether it serves its metrics."""
    with socket.socket() as connection:
        connection.settimeout(10)
        return connection.connect_ex((address_of(agent.name, "bridge"), PORT)) == 0


def days_pass(agent: AgentContainer, days: int = 1, *, alike: int = 1) -> None:
    """Make what is on record older, with as many nights like the last one."""
    docker("exec", agent.name, "/opt/scalr-backup/bin/python", "-c", TIME_PASSES, str(days), str(alike))


def metrics(agent: AgentContainer) -> dict[str, float]:
    """The samples of its metrics, by their names without labels: there is one database."""
    address = f"http://{address_of(agent.name, 'bridge')}:{PORT}/metrics"
    with urllib.request.urlopen(address, timeout=10) as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name.partition("{")[0].removeprefix("scalr_backup_"): float(value) for name, _space, value in lines}


def pass_over(agent: AgentContainer) -> dict[str, Any]:
    (saved,) = agent.ok("backup", "--reason", "nightly")["databases"]
    return dict(saved)


def new_data(agent: AgentContainer) -> dict[str, Any]:
    (known,) = agent.ok("status")["databases"]
    return dict(known["new_data"])


def history(agent: AgentContainer) -> list[dict[str, Any]]:
    return [one for one in agent.ok("history", "--days", "1")["entries"] if one["kind"] == "backup"]


def test_what_is_new_is_shown_and_order_that_does_not_pay_is_given_up_and_tried_again(
    watched: AgentContainer, database: DatabaseContainer
) -> None:
    # The first backup is all new, and no bad night.
    database.sql(NEW)
    first = pass_over(watched)
    assert first["bytes_ordered"] > 0.9 * first["bytes_read"]
    assert new_data(watched)["night"] is None
    assert [one["anew"] for one in history(watched)] == ["first"]
    found = metrics(watched)
    assert found["database_added_bytes"] == first["bytes_added"]
    assert not [name for name in found if "night" in name or "row_order" in name]

    # A night on which nothing has changed costs one piece.
    days_pass(watched)
    same = pass_over(watched)
    night = new_data(watched)["night"]
    assert night["bytes_added"] == same["bytes_added"]
    assert same["bytes_added"] < 1.1 * LARGEST_PIECE < first["bytes_added"]
    assert night["share"] == pytest.approx(same["bytes_added"] / same["bytes_read"], abs=1e-4)
    found = metrics(watched)
    assert found["database_night_new_bytes"] == same["bytes_added"]
    assert found["database_night_stored_bytes"] == same["bytes_stored"]
    assert found["database_night_new_ratio"] == night["share"]
    assert found["database_row_order_ratio"] > 0.9
    assert found["database_row_order_pays"] == 1

    # Night after night of rows that are all new.
    days_pass(watched)
    database.sql(NEW)
    assert pass_over(watched)["bytes_ordered"] > 0
    days_pass(watched, alike=NIGHTS_BEFORE_IT_GIVES_UP - 1)
    database.sql(NEW)
    assert new_data(watched)["row_order"]["pays"]
    last = watched.call("backup", "--reason", "nightly")
    assert last.data["databases"][0]["bytes_ordered"] > 0
    assert "postgres: auto gave up on" in last.output
    order = new_data(watched)["row_order"]
    assert not order["pays"]
    assert "of each dump was new although its rows were in order" in order["why_not"]
    assert metrics(watched)["database_row_order_pays"] == 0
    said = docker("exec", watched.name, "scalr-backup", "status").stdout
    assert f"{database.name}/postgres: {order['why_not']}." in " ".join(said.split())
    (container,) = watched.ok("discover", "--row-order", "--db", database.name)["containers"]
    assert container["databases"][0]["row_order"]["why_not"] == order["why_not"]

    # So the next one is dumped as it lies. That makes all of it new once more, which is no bad night.
    days_pass(watched)
    heap = pass_over(watched)
    assert heap["bytes_ordered"] == 0
    assert heap["bytes_added"] > 0.7 * heap["bytes_read"]
    assert [one["anew"] for one in history(watched)][-1] == "order"
    known = new_data(watched)
    assert known["nights"][-1]["anew"] == "order"
    assert known["night"]["bytes_ordered"] > 0

    # A month later, order is tried again.
    days_pass(watched, 31)
    assert pass_over(watched)["bytes_ordered"] > 0
    order = new_data(watched)["row_order"]
    assert (order["pays"], order["given_up"], order["why_not"]) == (True, None, None)
