# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks over several hosts, some of which fail or do not answer."""

from __future__ import annotations

import pytest

FAILED = {"code": "dump_failed", "message": "pg_dump ended with exit code 1."}


def saved(container, database, error=None):
    """What became of one database in a pass."""
    return {
        "container": container,
        "database": database,
        "ok": error is None,
        "snapshot_id": None if error else "5f0c8e1b4c7d",
        "bytes_read": 2048,
        "bytes_added": 1024,
        "rows": 12,
        "duration_seconds": 1.25,
        "error": error,
    }


def has_containers(docker, *names):
    """The agent of a host discovers these containers."""
    containers = [{"name": name, "status": "ok", "databases": []} for name in names]
    docker.agent_returns({"host": "h", "containers": containers, "warnings": []}, to="discover")


def can_restore(docker, container):
    """The agent of a host has a snapshot of one database of a container."""
    snapshot = {"short_id": "5f0c8e1b", "time": "2026-11-22T03:00:11.5+00:00", "age_seconds": 11549, "dump_bytes": 2048}
    database = {"database": "foo", "exists": True, "size_bytes": 4096, "snapshot": snapshot, "sessions": 3}
    plan = {"host": "h", "container": container, "databases": [database], "warnings": ["The volume is nearly full."]}
    restored = {
        "database": "foo",
        "ok": True,
        "error": None,
        "snapshot_id": "5f0c8e1b4c7d",
        "safety_snapshot_id": "0d2f6a9be411",
        "old_database": None,
        "verified": {"tables": 7, "rows": 1234},
        "duration_seconds": 8.9,
    }
    docker.agent_returns({"plan": plan, "run": None, "databases": []}, to="restore --plan")
    docker.agent_returns({"plan": plan, "run": "r", "databases": [restored]}, to="restore", changed=True)


def restores_of(docker):
    """The restores that were really asked for."""
    return [call[3:-1] for call in docker.calls if call[3:4] == ["restore"] and "--plan" not in call]


def line_with(output, *words):
    """The one line of an output that holds all these words."""
    lines = [line for line in output.splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, output
    return lines[0]


@pytest.fixture
def two_hosts(fleet):
    """Two hosts with different containers."""
    web1, web2 = fleet.host("web1"), fleet.host("web2")
    has_containers(web1, "scalr-foo-db", "scalr-bar-db")
    has_containers(web2, "scalr-baz-db")
    can_restore(web1, "scalr-foo-db")
    return web1, web2


def test_restore_finds_the_host_shows_the_plan_and_restores_when_confirmed(fleet, two_hosts):
    web1, web2 = two_hosts

    run = fleet.run(
        "restore", db="scalr-foo-db", confirm="scalr-foo-db", database="foo", snapshot="5f0c", keep_old=True
    )

    assert run.returncode == 0, run.stdout
    assert "Restore of scalr-foo-db on web1. These databases are replaced:" in run.stdout
    assert line_with(run.stdout, "4.00 KB").split() == [
        "foo", "4.00", "KB", "3", "5f0c8e1b", "2026-11-22T03:00:11Z", "3", "h", "12", "min", "2.00", "KB",
    ]  # fmt: skip
    assert "WARNING: The volume is nearly full." in run.stdout
    assert line_with(run.stdout, "restored").split() == [
        "foo", "restored", "5f0c8e1b", "0d2f6a9b", "-", "7", "1234", "8.9", "s",
    ]  # fmt: skip
    assert restores_of(web1) == [
        ["restore", "--db=scalr-foo-db", "--database=foo", "--snapshot=5f0c", "--confirm=scalr-foo-db", "--keep-old"]
    ]
    assert restores_of(web2) == []


@pytest.mark.parametrize(
    ("extra_vars", "sentence"),
    [
        ({"confirm": "scalr-bar-db"}, "Nothing was restored: confirm is scalr-bar-db and not scalr-foo-db."),
        ({"confirm": ""}, "Nothing was restored: confirm is empty and not scalr-foo-db."),
        ({}, "Nothing was restored: there was no answer."),
    ],
)
def test_restore_without_the_right_confirmation_changes_nothing(fleet, two_hosts, extra_vars, sentence):
    run = fleet.run("restore", db="scalr-foo-db", **extra_vars)

    assert run.returncode == 2
    assert sentence in run.stdout
    assert restores_of(two_hosts[0]) == []


def test_restore_in_check_mode_shows_the_plan_only(fleet, two_hosts):
    run = fleet.run("restore", "--check", db="scalr-foo-db", confirm="scalr-foo-db")

    assert run.returncode == 0, run.stdout
    assert "These databases are replaced" in run.stdout
    assert restores_of(two_hosts[0]) == []


def test_restore_without_a_container_asks_for_one(fleet, two_hosts):
    run = fleet.run("restore")

    assert run.returncode == 2
    assert "Name the container whose databases are to be restored, for example -e db=scalr-foo-db." in run.stdout
    assert two_hosts[0].calls == two_hosts[1].calls == []


def test_restore_of_an_unknown_container_lists_what_every_host_has(fleet, two_hosts):
    fleet.unreachable_host("web3")
    fleet.host("web4").agent_is_missing()

    run = fleet.run("restore", db="scalr-nope-db", confirm="scalr-nope-db")

    assert run.returncode == 2
    assert (
        "No host has a database container scalr-nope-db: web1 has scalr-foo-db, scalr-bar-db; web2 has scalr-baz-db; "
        "web3 was not reached; web4 gave no answer (This host has no container scalr-backup: run site.yml, which puts "
        "the agent on it.)."
    ) in run.stdout


def test_restore_of_a_container_that_several_hosts_have_lists_them(fleet, two_hosts):
    has_containers(two_hosts[1], "scalr-foo-db")

    run = fleet.run("restore", db="scalr-foo-db", confirm="scalr-foo-db")

    assert run.returncode == 2
    assert (
        "2 hosts have a database container scalr-foo-db, name one with --limit: "
        "web1 has scalr-foo-db, scalr-bar-db; web2 has scalr-foo-db."
    ) in run.stdout
    assert restores_of(two_hosts[0]) == restores_of(two_hosts[1]) == []


def test_restore_goes_on_when_other_hosts_are_unreachable_and_names_them(fleet, two_hosts):
    # The first host of a play is the one that speaks for all: it must not have to be there.
    fleet.hosts = {"aaa": {}, **fleet.hosts}
    fleet.unreachable_host("aaa")

    run = fleet.run("restore", db="scalr-foo-db", confirm="scalr-foo-db")

    assert run.returncode == 0, run.stdout + run.stderr
    assert "WARNING: aaa was not reached. If a container scalr-foo-db is there too, it stays as it is." in run.stdout
    assert len(restores_of(two_hosts[0])) == 1


def test_restore_ends_non_zero_with_the_agents_sentence(fleet, two_hosts):
    error = ("verification_failed", "foo has 3 rows too few.")
    failed = {"database": "foo", "ok": False, "error": {"code": error[0], "message": error[1]}, "duration_seconds": 1}
    failed |= {"snapshot_id": "5f0c8e1b", "safety_snapshot_id": None, "old_database": None, "verified": None}
    two_hosts[0].agent_returns({"databases": [failed]}, to="restore", exit_code=3, error=error)

    run = fleet.run("restore", db="scalr-foo-db", confirm="scalr-foo-db")

    assert run.returncode == 2
    assert "Module failed: foo has 3 rows too few." in run.stdout
    assert "foo has 3 rows too few." in line_with(run.stdout, "5f0c8e1b", "1.0 s")


def test_backup_shows_one_table_and_fails_for_those_that_failed(fleet):
    web1, web2 = fleet.host("web1"), fleet.host("web2")
    fleet.unreachable_host("web3")
    good = [saved("scalr-foo-db", "foo")]
    web1.agent_returns({"databases": good}, changed=True)
    partly = [saved("scalr-bar-db", "bar"), saved("scalr-baz-db", "baz", FAILED)]
    web2.agent_returns({"databases": partly}, changed=True, exit_code=3, error=("some", "1 of 2 failed."))

    run = fleet.run("backup")

    assert run.returncode == 2
    assert line_with(run.stdout, "web1", "foo").split() == [
        "web1", "scalr-foo-db", "foo", "saved", "5f0c8e1b", "2.00", "KB", "1.00", "KB", "12", "1.2", "s",
    ]  # fmt: skip
    assert "saved" in line_with(run.stdout, "web2", "scalr-bar-db")
    assert "pg_dump ended with exit code 1." in line_with(run.stdout, "web2", "scalr-baz-db")
    assert "Action failed: 1 of 2 failed." in run.stdout
    assert "Action failed: The host was not reached." in run.stdout
    assert "failed=0" in line_with(run.stdout, "web1", "ok=")
    assert "failed=1" in line_with(run.stdout, "web2", "ok=")
    assert "failed=1" in line_with(run.stdout, "web3", "ok=")


def test_backup_of_everything_that_goes_well(fleet):
    web1 = fleet.host("web1")
    web1.agent_returns({"databases": [saved("scalr-foo-db", "foo")]}, changed=True)

    run = fleet.run("backup", tags="release,2.4")

    assert run.returncode == 0, run.stdout + run.stderr
    assert web1.verb == ["backup", "--tag=release", "--tag=2.4", "--reason=manual"]


def test_backup_in_check_mode_shows_what_would_be_saved(fleet):
    web1 = fleet.host("web1")
    web1.agent_returns({"plan": [{"container": "scalr-foo-db", "database": "foo"}]}, changed=True)

    run = fleet.run("backup", "--check")

    assert run.returncode == 0, run.stdout
    assert line_with(run.stdout, "scalr-foo-db").split()[:6] == ["web1", "scalr-foo-db", "foo", "would", "be", "saved"]
    assert web1.verb == ["backup", "--reason=manual", "--dry-run"]


def test_backup_of_one_container_is_no_failure_of_the_hosts_without_it(fleet):
    web1, web2 = fleet.host("web1"), fleet.host("web2")
    web1.agent_returns({"databases": [saved("scalr-foo-db", "foo")]}, changed=True)
    web2.agent_returns({}, exit_code=1, error=("unknown_database", "web2 has no scalr-foo-db."))

    run = fleet.run("backup", db="scalr-foo-db")

    assert run.returncode == 0, run.stdout + run.stderr
    assert web1.verb == ["backup", "--db=scalr-foo-db", "--reason=manual"]


def test_backup_of_a_container_that_no_host_has_says_what_each_has(fleet):
    for name in ["web1", "web2"]:
        sentence = f"{name} has only scalr-{name}-db."
        fleet.host(name).agent_returns({}, exit_code=1, error=("unknown_database", sentence))

    run = fleet.run("backup", db="scalr-foo-db")

    assert run.returncode == 2
    assert (
        "No host has a database container scalr-foo-db. web1 has only scalr-web1-db. web2 has only scalr-web2-db."
    ) in run.stdout


def test_status_shows_all_hosts_and_fails_for_the_unwell(fleet):
    database = {"container": "scalr-foo-db", "database": "foo", "last_success": "2026-11-22T03:00:11+00:00"}
    database |= {"age_seconds": 11549, "ok": True, "snapshot_id": "5f0c8e1b4c7d", "bytes_read": 2048, "error": None}
    well = {"healthy": True, "summary": "Safe.", "problems": [], "next_pass": "2026-11-23T03:00:00+00:00"}
    never = {
        **database,
        "last_success": None,
        "age_seconds": None,
        "ok": False,
        "snapshot_id": None,
        "bytes_read": None,
    }
    unwell = {**well, "healthy": False, "summary": "NOT SAFE.", "problems": ["foo was never backed up."]}
    fleet.host("web1").agent_returns({**well, "databases": [database]})
    fleet.host("web2").agent_returns({**unwell, "databases": [never]})
    fleet.unreachable_host("web3")

    run = fleet.run("status")

    assert run.returncode == 2
    assert line_with(run.stdout, "web1", "scalr-foo-db").split() == [
        "web1", "scalr-foo-db", "foo", "ok", "2026-11-22T03:00:11Z", "3", "h", "12", "min", "2.00", "KB", "5f0c8e1b",
    ]  # fmt: skip
    assert "never backed up" in line_with(run.stdout, "web2", "scalr-foo-db")
    assert line_with(run.stdout, "web1", "Safe.").split() == ["web1", "yes", "2026-11-23T03:00:00Z", "Safe."]
    assert line_with(run.stdout, "web2", "NOT SAFE").split()[1:3] == ["NO", "2026-11-23T03:00:00Z"]
    assert line_with(run.stdout, "web3", "NO").split() == ["web3", "NO", "-", "The", "host", "was", "not", "reached."]
    assert "\nweb2: foo was never backed up.\n" in run.stdout
    assert "Action failed: NOT SAFE." in run.stdout
    assert "failed=0" in line_with(run.stdout, "web1", "ok=")


def test_check_goes_on_with_the_other_hosts(fleet):
    fleet.host("web1").agent_returns({}, exit_code=1, error=("restic", "The repository is damaged."))
    fleet.host("web2").agent_returns({"errors": 0, "read_data_subset": "5%"})

    run = fleet.run("check", read_data_subset="5%")

    assert run.returncode == 2
    assert "Module failed: The repository is damaged." in run.stdout
    assert "The repository of web2 is intact, and so is 5% of its data." in run.stdout


def test_prune_says_what_it_removed(fleet):
    fleet.host("web1").agent_returns({"removed": ["a", "b"], "kept": 5, "pruned": True}, changed=True)

    run = fleet.run("prune")

    assert run.returncode == 0, run.stderr
    assert "web1: 2 snapshots were removed, 5 remain." in run.stdout
