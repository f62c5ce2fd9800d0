# SPDX-License-Identifier: GPL-3.0-or-later
"""The name that a container's history is kept under, whatever the engine calls the container today."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from scalr_backup.actions.discovery import choose, one_of_each_name
from scalr_backup.actions.documents import from_summary, judge
from scalr_backup.core.config import Config
from scalr_backup.core.endings import Command
from scalr_backup.core.errors import UnknownDatabaseError
from scalr_backup.core.naming import history_name
from scalr_backup.tools.docker.engine import DockerHost

SWARM = {"com.docker.swarm.service.name": "shop_db", "com.docker.swarm.task.name": "shop_db.1.x8k3qz"}
COMPOSE = {"com.docker.compose.project": "shop", "com.docker.compose.service": "db"}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("scalr-shop-db", {}, "scalr-shop-db"),
        ("blue-db-1", {"scalr.backup.name": "shop-db"}, "shop-db"),
        ("blue-db-1", {"scalr.backup.service": "shop-db"}, "shop-db"),
        ("blue-db-1", {"scalr.backup.name": "a/b"}, "blue-db-1"),
        ("blue-db-1", {"scalr.backup.name": "../x"}, "blue-db-1"),
        ("shop_db.1.x8k3qz", SWARM, "shop_db.1"),
        ("shop_db.1.x8k3qz", {**SWARM, "scalr.backup.name": "shop-db"}, "shop-db"),
        ("shop_db.1.x8k3qz", {"com.docker.swarm.service.name": "shop_db"}, "shop_db"),
        ("0123456789ab_shop-db-1", COMPOSE, "shop-db-1"),
        ("0123456789ab_shop-db-1", {}, "0123456789ab_shop-db-1"),
        ("shop-db-1", COMPOSE, "shop-db-1"),
    ],
)
def test_the_name_that_stays(name, labels, expected):
    assert history_name(name, labels) == expected


def a_match(called, labels, state="running", id_="c"):
    return judge(
        Config(host="h", repository="/r"),
        {
            "Id": id_ * 64, "Name": f"/{called}", "Image": "sha256:1", "State": {"Status": state},
            "Config": {"Image": "postgres:17", "Labels": labels, "Env": []},
        },
    )  # fmt: skip


LABEL = {"scalr.backup.name": "shop-db"}


def test_a_match_is_asked_for_by_either_name():
    match = a_match("blue-db", LABEL)
    assert (match.name, match.called) == ("shop-db", "blue-db")
    assert choose([match], ["shop-db"], "h") == choose([match], ["blue-*"], "h") == [match]
    with pytest.raises(UnknownDatabaseError):
        choose([match], ["green-db"], "h")


def test_the_list_and_the_document_say_the_same():
    summary = {"Id": "c", "Names": ["/blue-db"], "State": "running", "Labels": LABEL}
    assert (from_summary(summary).name, from_summary(summary).called) == ("shop-db", "blue-db")


class TestSeveralOfOneName:
    def test_the_one_that_runs_is_meant(self):
        old, new = a_match("blue-db", LABEL, "exited"), a_match("green-db", LABEL)
        assert one_of_each_name([old, new]) == [new]

    def test_that_run_each_keep_their_own(self):
        found = one_of_each_name([a_match("blue-db", LABEL), a_match("green-db", LABEL), a_match("x-db", {})])
        assert [(one.name, one.called) for one in found] == [("blue-db", ""), ("green-db", ""), ("x-db", "")]

    def test_a_label_takes_nobody_elses_history(self):
        found = one_of_each_name([a_match("shop-db", {}), a_match("evil-db", LABEL)])
        assert [one.name for one in found] == ["shop-db", "evil-db"]

    def test_that_are_all_stopped_are_one(self):
        stopped = [a_match("a-db", LABEL, "exited"), a_match("b-db", LABEL, "exited")]
        assert one_of_each_name(stopped) == stopped[:1]


def test_the_engine_is_asked_by_its_own_name_and_people_are_told_ours():
    engine = DockerHost.__new__(DockerHost)
    asked = []
    engine._api = SimpleNamespace(inspect_container=lambda name: asked.append(name) or {"Name": name})
    engine._called = {}
    engine.know("shop-db", "blue-db")
    engine.inspect("shop-db")
    engine.inspect("other-db")
    assert asked == ["blue-db", "other-db"]
    command = Command("psql", "shop-db", "blue-db")
    assert (str(command), command.reference) == ("psql in shop-db", "blue-db")
