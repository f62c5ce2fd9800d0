# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module asks the agent, and what it makes of the answer."""

from __future__ import annotations

import pytest

SNAPSHOT = {"short_id": "5f0c8e1b", "time": "2026-11-22T03:00:11Z", "dump_bytes": 2048}
PLAN = {
    "host": "web1",
    "container": "scalr-foo-db",
    "databases": [
        {"database": "foo", "exists": True, "size_bytes": 4096, "snapshot": SNAPSHOT},
        {"database": "new", "exists": False, "size_bytes": 0, "snapshot": SNAPSHOT},
    ],
}
DIFFERENCE = {
    "before_header": "scalr-foo-db now",
    "after_header": "scalr-foo-db restored",
    "before": "scalr-foo-db/foo: 4096 bytes\nscalr-foo-db/new: absent\n",
    "after": (
        "scalr-foo-db/foo: snapshot 5f0c8e1b of 2026-11-22T03:00:11Z, a dump of 2048 bytes\n"
        "scalr-foo-db/new: snapshot 5f0c8e1b of 2026-11-22T03:00:11Z, a dump of 2048 bytes\n"
    ),
}


def test_backup_of_everything(docker, run_module):
    docker.agent_returns({"databases": [], "failed": 0}, changed=True)

    result = run_module("database_backup")

    assert docker.verb == ["backup", "--reason=manual"]
    assert result["changed"] is True


def test_backup_with_all_options(docker, run_module):
    docker.agent_returns({"databases": []})

    run_module("database_backup", db=["scalr-a-db", "scalr-b*"], tags=["x", "y"], reason="nightly", wait=True)

    assert docker.verb == [
        "backup", "--db=scalr-a-db", "--db=scalr-b*", "--tag=x", "--tag=y", "--reason=nightly", "--wait",
    ]  # fmt: skip


def test_backup_in_check_mode_is_a_dry_run(docker, run_module):
    plan = [{"container": "scalr-foo-db", "database": "foo"}]
    docker.agent_returns({"plan": plan}, changed=True)

    result = run_module("database_backup", check_mode=True)

    assert docker.verb == ["backup", "--reason=manual", "--dry-run"]
    assert result["changed"] is True
    assert result["plan"] == plan


def test_restore(docker, run_module):
    docker.agent_returns({"plan": PLAN, "run": "r", "databases": [{"database": "foo", "ok": True}]}, changed=True)

    result = run_module("database_restore", db="scalr-foo-db", confirm="scalr-foo-db")

    assert docker.verb == ["restore", "--db=scalr-foo-db", "--snapshot=latest", "--confirm=scalr-foo-db"]
    assert result["changed"] is True
    assert result["run"] == "r"
    assert result["diff"] == DIFFERENCE


def test_restore_with_all_options(docker, run_module):
    docker.agent_returns({"plan": PLAN, "run": "r", "databases": []})

    run_module(
        "database_restore", db="c", database="d", snapshot="5f0c", confirm="c", keep_old=True, safety_snapshot=False
    )

    assert docker.verb == [
        "restore", "--db=c", "--database=d", "--snapshot=5f0c", "--confirm=c", "--keep-old", "--no-safety-snapshot",
    ]  # fmt: skip


def test_restore_in_check_mode_is_the_plan(docker, run_module):
    docker.agent_returns({"plan": PLAN, "run": None, "databases": []}, changed=False)

    result = run_module("database_restore", check_mode=True, db="scalr-foo-db")

    assert docker.verb == ["restore", "--db=scalr-foo-db", "--snapshot=latest", "--plan"]
    assert result["changed"] is True
    assert result["plan"] == PLAN
    assert result["diff"] == DIFFERENCE


def test_a_plan_that_replaces_nothing_would_change_nothing(docker, run_module):
    docker.agent_returns({"plan": {**PLAN, "databases": []}, "run": None, "databases": []})

    assert run_module("database_restore", check_mode=True, db="scalr-foo-db")["changed"] is False


def test_a_restore_that_is_not_confirmed_fails_as_the_agent_says(docker, run_module):
    docker.agent_returns({}, exit_code=1, error=("not_confirmed", "Confirm with the name."))

    result = run_module("database_restore", db="scalr-foo-db")

    assert (result["msg"], result["code"]) == ("Confirm with the name.", "not_confirmed")
    assert not result.get("changed")


def test_a_restore_needs_a_container(docker, run_module):
    result = run_module("database_restore")

    assert "db" in result["msg"]
    assert docker.calls == []


def test_snapshots(docker, run_module):
    docker.agent_returns({"snapshots": [SNAPSHOT]})

    result = run_module("snapshot_info", db="c", database="d", snapshot="5f0c")

    assert docker.verb == ["snapshots", "--db=c", "--database=d", "--snapshot=5f0c"]
    assert result["snapshots"] == [SNAPSHOT]
    assert result["changed"] is False


def test_status_of_an_unhealthy_host_is_no_failure(docker, run_module):
    docker.agent_returns({"healthy": False, "summary": "2 problems", "last_pass": {"failed": 2}})

    result = run_module("status_info")

    assert docker.verb == ["status"]
    assert result["healthy"] is False
    assert result["last_pass"] == {"failed": 2}
    assert "failed" not in result


@pytest.mark.parametrize(
    ("arguments", "check_mode", "verb"),
    [
        ({"action": "init"}, False, ["init"]),
        ({"action": "init"}, True, ["init", "--dry-run"]),
        ({"action": "check"}, False, ["check"]),
        ({"action": "check"}, True, ["check"]),
        ({"action": "check", "read_data_subset": "5%"}, False, ["check", "--read-data-subset=5%"]),
        ({"action": "forget"}, False, ["forget"]),
        ({"action": "forget"}, True, ["forget", "--dry-run"]),
        ({"action": "forget", "prune": False}, False, ["forget", "--no-prune"]),
        ({"action": "unlock"}, False, ["unlock"]),
    ],
)
def test_repository_asks_for_its_action(docker, run_module, arguments, check_mode, verb):
    docker.agent_returns({"removed": [], "repository": "/repository"})

    run_module("repository", check_mode=check_mode, **arguments)

    assert docker.verb == verb


def test_a_repository_that_is_made_shows_in_the_difference(docker, run_module):
    docker.agent_returns({"repository": "/repository", "created": True, "repository_id": "abc"}, changed=True)

    result = run_module("repository", action="init")

    assert result["changed"] is True
    assert result["diff"] == {"before": "", "after": "/repository\n"}


def test_a_repository_that_is_there_makes_no_difference(docker, run_module):
    docker.agent_returns({"repository": "/repository", "created": False, "repository_id": "abc"})

    result = run_module("repository", action="init")

    assert result["changed"] is False
    assert result["diff"] == {"before": "", "after": ""}


def test_what_is_forgotten_shows_in_the_difference(docker, run_module):
    docker.agent_returns({"removed": ["5f0c", "0d2f"], "kept": 3, "pruned": True}, changed=True)

    result = run_module("repository", action="forget")

    assert result["diff"] == {"before": "5f0c\n0d2f\n", "after": ""}
    assert result["kept"] == 3


def test_unlock_is_skipped_in_check_mode(docker, run_module):
    result = run_module("repository", check_mode=True, action="unlock")

    assert result["skipped"] is True
    assert docker.calls == []


def test_a_subset_is_refused_where_nothing_is_read(docker, run_module):
    result = run_module("repository", action="forget", read_data_subset="5%")

    assert result["msg"] == "read_data_subset has a meaning with action=check only."
    assert docker.calls == []
