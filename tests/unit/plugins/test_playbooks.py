# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks over several hosts, some of which fail or do not answer."""

from __future__ import annotations

import json
import os
import re

import pytest
from ansible_collections.scalr.backup.plugins.module_utils._agent import VERSION

from tests.support.documented import documented
from tests.unit.plugins.conftest import FakeDocker

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


def can_restore(docker, container, **changes):
    """The agent of a host has a snapshot of one database of a container; *changes* are those of its plan."""
    snapshot = {"short_id": "5f0c8e1b", "time": "2026-11-22T03:00:11.5+00:00", "age_seconds": 11549, "dump_bytes": 2048}
    database = {"database": "foo", "exists": True, "size_bytes": 4096, "snapshot": snapshot, "sessions": 3}
    connected = [{"user": "app", "application": "web", "address": "172.17.0.5", "sessions": 3}]
    database |= {"source_database": "foo", "connected": connected, "old_database": None}
    plan = {"host": "h", "container": container, "databases": [database], "warnings": ["The volume is nearly full."]}
    plan |= {"confirm": container, "strategy": "beside", "undo": None, "roles": ["reader"], "snapshot": "5f0c8e1b"}
    plan |= changes
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
    calls = [[word for word in call if word != "-i"] for call in docker.calls]
    return [call[3:-1] for call in calls if call[3:4] == ["restore"] and "--plan" not in call]


def line_with(output, *words):
    """The one line of an output that holds all these words."""
    lines = [line for line in output.splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, output
    return lines[0]


def rows_of(output, first_column):
    """The cells of the first table that has this first column, a list for each row."""
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{first_column} "))
    end = next(number for number, line in enumerate(lines[start:], start) if not line)
    return [re.split(r" {2,}", line) for line in lines[start + 2 : end]]


def failed_with(run, sentence):
    """Whether a task failed with just this sentence, in the words of this version of ansible-core."""
    return f" failed: {sentence}\n" in run.stdout or f'"msg": "{sentence}"' in run.stdout


def recap_of(output, host):
    """The host's counts in the play recap."""
    counts = re.search(rf"^{host} +: (.*)$", output, re.MULTILINE)[1]
    return {name: int(count) for name, count in (pair.split("=") for pair in counts.split())}


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
    assert "Restore of scalr-foo-db on web1. These databases will be replaced:" in run.stdout
    assert line_with(run.stdout, "4.0 KiB").split() == [
        "foo", "4.0", "KiB", "3", "5f0c8e1b", "2026-11-22T03:00:11Z", "3", "h", "12", "min", "2.0", "KiB",
    ]  # fmt: skip
    assert "WARNING: The volume is nearly full." in run.stdout
    assert line_with(run.stdout, "restored").split() == [
        "foo", "restored", "5f0c8e1b", "0d2f6a9b", "-", "7", "1234", "8.9", "s",
    ]  # fmt: skip
    assert restores_of(web1) == [
        [
            "restore", "--db=scalr-foo-db", "--database=foo", "--snapshot=5f0c8e1b", "--strategy=beside",
            "--confirm=scalr-foo-db", "--keep-old",
        ]
    ]  # fmt: skip
    assert restores_of(web2) == []


@pytest.mark.parametrize(
    ("extra_vars", "sentence"),
    [
        ({"confirm": "scalr-bar-db"}, "Nothing was restored: confirm is scalr-bar-db, but must be scalr-foo-db."),
        ({"confirm": ""}, "Nothing was restored: confirm is empty, but must be scalr-foo-db."),
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
    assert "These databases will be replaced" in run.stdout
    assert restores_of(two_hosts[0]) == []


def test_restore_without_a_container_asks_for_one(fleet, two_hosts):
    run = fleet.run("restore")

    assert run.returncode == 2
    assert "Set the container to restore, for example -e db=scalr-foo-db." in run.stdout
    assert two_hosts[0].calls == two_hosts[1].calls == []


def test_restore_of_an_unknown_container_lists_what_every_host_has(fleet, two_hosts):
    fleet.unreachable_host("web3")
    fleet.host("web4").agent_is_missing()

    run = fleet.run("restore", db="scalr-nope-db", confirm="scalr-nope-db")

    assert run.returncode == 2
    assert (
        "No host has a database container scalr-nope-db: web1 has scalr-foo-db, scalr-bar-db; web2 has scalr-baz-db; "
        "web3 was not reached; web4 gave no answer (This host has no container scalr-backup: run site.yml, which "
        "deploys the agent.)."
    ) in run.stdout


def test_restore_of_a_container_that_several_hosts_have_lists_them(fleet, two_hosts):
    has_containers(two_hosts[1], "scalr-foo-db")

    run = fleet.run("restore", db="scalr-foo-db", confirm="scalr-foo-db")

    assert run.returncode == 2
    assert (
        "2 hosts have a database container scalr-foo-db; choose one with --limit: "
        "web1 has scalr-foo-db, scalr-bar-db; web2 has scalr-foo-db."
    ) in run.stdout
    assert restores_of(two_hosts[0]) == restores_of(two_hosts[1]) == []


def test_restore_goes_on_when_other_hosts_are_unreachable_and_names_them(fleet, two_hosts):
    # The first host of a play is the one that speaks for all: it must not have to be there.
    fleet.hosts = {"aaa": {}, **fleet.hosts}
    fleet.unreachable_host("aaa")

    run = fleet.run("restore", db="scalr-foo-db", confirm="scalr-foo-db")

    assert run.returncode == 0, run.stdout + run.stderr
    assert "WARNING: aaa was not reached. If a container scalr-foo-db is there too, it is left unchanged." in run.stdout
    assert len(restores_of(two_hosts[0])) == 1


def test_restore_ends_non_zero_with_the_agents_sentence(fleet, two_hosts):
    error = ("verification_failed", "foo has 3 rows too few.")
    failed = {"database": "foo", "ok": False, "error": {"code": error[0], "message": error[1]}, "duration_seconds": 1}
    failed |= {"snapshot_id": "5f0c8e1b", "safety_snapshot_id": None, "old_database": None, "verified": None}
    two_hosts[0].agent_returns({"databases": [failed]}, to="restore", exit_code=3, error=error)

    run = fleet.run("restore", db="scalr-foo-db", confirm="scalr-foo-db")

    assert run.returncode == 2
    assert failed_with(run, "foo has 3 rows too few.")
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
        "web1", "scalr-foo-db", "foo", "saved", "5f0c8e1b", "2.0", "KiB", "1.0", "KiB", "12", "1.2", "s",
    ]  # fmt: skip
    assert "saved" in line_with(run.stdout, "web2", "scalr-bar-db")
    assert "pg_dump ended with exit code 1." in line_with(run.stdout, "web2", "scalr-baz-db")
    assert failed_with(run, "1 of 2 failed.")
    assert failed_with(run, "The host was not reached.")
    assert [row[:3] for row in rows_of(run.stdout, "HOST")] == [
        ["web2", "scalr-baz-db", "baz"], ["web3", "-", "-"], ["web1", "scalr-foo-db", "foo"], ["web2", "scalr-bar-db", "bar"],
    ]  # fmt: skip
    assert "\n3 hosts: 1 not reached, 1 failed, 1 saved.\n" in run.stdout
    assert [recap_of(run.stdout, host)["failed"] for host in ("web1", "web2", "web3")] == [0, 1, 1]


def test_backup_of_everything_that_goes_well(fleet):
    web1 = fleet.host("web1")
    web1.agent_returns({"databases": [saved("scalr-foo-db", "foo")]}, changed=True)

    run = fleet.run("backup", extra_tags="release,2.4")

    assert run.returncode == 0, run.stdout + run.stderr
    assert web1.verb == ["backup", "--tag=release", "--tag=2.4", "--reason=manual"]


NOTE = "1 PostgreSQL container is not backed up: wiki-postgres-1."


def test_backup_where_nothing_is_to_be_backed_up_is_called_that_and_what_nothing_backs_up_is_told(fleet):
    fleet.host("web1").agent_returns({"databases": [], "notes": []})
    fleet.host("web2").agent_returns({"databases": [saved("scalr-foo-db", "foo")], "notes": [NOTE]}, changed=True)

    run = fleet.run("backup")

    assert run.returncode == 0, run.stdout + run.stderr
    assert "\n2 hosts: 1 nothing to back up, 1 saved.\n" in run.stdout
    assert f"\nweb2: {NOTE}\n" in run.stdout


def test_backup_of_a_stopped_container_by_its_name_is_a_failure(fleet):
    error = ("databases_failed", "1 of 1 databases were not backed up; first: scalr-foo-db cannot be backed up.")
    web1 = fleet.host("web1")
    web1.agent_returns({"databases": [saved("scalr-foo-db", "foo", FAILED)]}, exit_code=3, error=error)

    run = fleet.run("backup", db="scalr-foo-db")

    assert run.returncode == 2
    assert "\n1 host: 1 failed.\n" in run.stdout


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


@pytest.mark.parametrize("playbook", ["backup", "drill"])
def test_a_host_that_has_one_of_two_containers_and_did_nothing_is_a_failure(fleet, playbook):
    web1, web2 = fleet.host("web1"), fleet.host("web2")
    for host in (web1, web2):
        host.agents_image_is("sha256:5f0c")
    to = "exec" if playbook == "backup" else "drill"
    web1.agent_returns({"databases": []}, to=to)
    sentence = "There is no database container 'scalr-bar-db' on web2; the database containers there: scalr-foo-db."
    web2.agent_returns({}, to=to, exit_code=1, error=("partly_unknown", sentence))

    run = fleet.run(playbook, db="scalr-foo-db,scalr-bar-db")

    assert run.returncode == 2
    assert sentence in run.stdout
    assert "1 failed" in run.stdout


def test_backup_of_a_container_that_no_host_has_says_what_each_has(fleet):
    for name in ["web1", "web2"]:
        sentence = f"{name} has only scalr-{name}-db."
        fleet.host(name).agent_returns({}, exit_code=1, error=("unknown_database", sentence))

    run = fleet.run("backup", db="scalr-foo-db")

    assert run.returncode == 2
    assert (
        "No host has a database container scalr-foo-db. web1 has only scalr-web1-db. web2 has only scalr-web2-db."
    ) in run.stdout


def test_status_calls_no_host_safe_on_which_something_is_not_backed_up_or_nothing_is(fleet):
    known = {"healthy": True, "problems": [], "findings": [], "databases": [], "next_pass": "2026-11-23T03:00:00+00:00"}
    finding = {"message": NOTE, "command": "docker exec scalr-backup scalr-backup discover"}
    summary = f"NOT COMPLETE: {NOTE}"
    fleet.host("web1").agent_returns({**known, "verdict": "incomplete", "summary": summary, "findings": [finding]})
    fleet.host("web2").agent_returns({**known, "verdict": "nothing_to_back_up", "summary": "Nothing to back up."})
    fleet.host("web3").agent_returns({**known, "verdict": "waiting", "summary": "Waiting for the first pass."})

    run = fleet.run("status")

    assert run.returncode == 0, run.stdout
    assert "\n3 hosts: 1 not complete, 1 nothing to back up, 1 waiting for the first pass.\n" in run.stdout
    assert re.split(r" {2,}", line_with(run.stdout, "NOT COMPLETE"))[:2] == ["web1", "partly"]
    assert re.split(r" {2,}", line_with(run.stdout, "Nothing to back up."))[:2] == ["web2", "-"]
    assert f"\nweb1: {NOTE}\n" in run.stdout


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
        "web1", "scalr-foo-db", "foo", "ok", "2026-11-22T03:00:11Z", "3", "h", "12", "min", "2.0", "KiB", "-", "5f0c8e1b",
        "never", "-",
    ]  # fmt: skip
    assert "never backed up" in line_with(run.stdout, "web2", "scalr-foo-db")
    assert line_with(run.stdout, "web1", "Safe.").split() == ["web1", "yes", "2026-11-23T03:00:00Z", "Safe."]
    assert line_with(run.stdout, "web2  NO").split()[1:3] == ["NO", "2026-11-23T03:00:00Z"]
    assert line_with(run.stdout, "web3", "NO").split() == ["web3", "NO", "-", "The", "host", "was", "not", "reached."]
    assert "\nweb2: foo was never backed up.\n" in run.stdout
    # The worst first: what was never saved, and whoever does not answer.
    assert [row[0] for row in rows_of(run.stdout, "HOST")] == ["web2", "web1"]
    assert run.stdout.index("web3  NO ") < run.stdout.index("web2  NO ") < run.stdout.index("web1  yes ")
    assert "\n3 hosts: 1 not reached, 1 not safe, 1 safe.\n" in run.stdout
    assert failed_with(run, "NOT SAFE.")
    assert "failed=0" in line_with(run.stdout, "web1", "ok=")


def test_check_shows_one_table_and_goes_on_with_the_other_hosts(fleet):
    fleet.unreachable_host("web1")
    fleet.host("web2").agent_returns({"errors": 0, "read_data_subset": "5%"})
    fleet.host("web3").agent_returns({}, exit_code=1, error=("restic", "The repository is damaged."))

    run = fleet.run("check", read_data_subset="5%")

    assert run.returncode == 2
    assert rows_of(run.stdout, "HOST") == [
        ["web1", "The host was not reached.", "-"],
        ["web3", "The repository is damaged.", "-"],
        ["web2", "intact", "5%"],
    ]
    assert "\n3 hosts: 1 not reached, 1 failed, 1 intact.\n" in run.stdout
    assert [recap_of(run.stdout, host)["failed"] for host in ("web1", "web2", "web3")] == [1, 0, 1]


def test_prune_goes_on_with_the_other_hosts_and_shows_the_worst_first(fleet):
    fleet.host("web1").agent_returns({"removed": ["a", "b"], "kept": 5, "pruned": True, "suspects": []}, changed=True)
    suspicious = {"removed": ["c"], "kept": 7, "pruned": True, "suspects": ["d"], "warnings": ["3 snapshots are gone."]}
    fleet.host("web2").agent_returns(suspicious, changed=True, exit_code=1, error=("forged_snapshots", "Not believed."))
    fleet.unreachable_host("web3")
    fleet.host("web4").agent_is_missing()

    run = fleet.run("prune")

    assert run.returncode == 2, run.stderr
    assert line_with(run.stdout, "web1  ", "pruned").split() == ["web1", "pruned", "2", "5"]
    assert line_with(run.stdout, "web2  ", "Not believed.").split() == ["web2", "Not", "believed.", "1", "7"]
    assert "The host was not reached." in line_with(run.stdout, "web3  ", " -  ")
    assert "run site.yml" in line_with(run.stdout, "web4  ", " -  ")
    table = run.stdout[run.stdout.index("HOST ") :]
    assert table.index("web3") < table.index("web1"), "the worst first"
    assert "\n4 hosts: 1 not reached, 1 not trusted, 1 failed, 1 pruned.\n3 snapshots are gone.\n" in run.stdout
    assert failed_with(run, "Not believed.")
    assert "failed=0" in line_with(run.stdout, "web1", "ok=")


AGENT_IMAGE = "registry.example.com/agent@sha256:" + "5f0c" * 16
ADDS_ONLY = {
    "backup_append_only": True,
    "backup_repository": "rest:https://backup.example.com/web1/",
    "backup_environment": {"RESTIC_REST_USERNAME": "web1", "RESTIC_REST_PASSWORD": "canary-host"},
    "backup_prune_from": "vault1",
    "backup_prune_repository": "rest:https://backup.example.com:8001/web1/",
    "backup_prune_environment": {"RESTIC_REST_PASSWORD": "canary-vault", "NUMBER": 7},
    "backup_prune_password": "canary-password",
    "backup_keep": {"daily": 7, "weekly": 2},
    "backup_image": AGENT_IMAGE,
}


@pytest.fixture
def controller(fleet, tmp_path, monkeypatch):
    """The controller's own Docker, which is to prune for a host that is not there, and lacks the agent's image."""
    docker = FakeDocker(tmp_path / "controller")
    monkeypatch.setenv("PATH", f"{tmp_path}/controller:{os.environ['PATH']}")
    docker.agent_prints("", rc=1, to="image")
    fleet.unreachable_host("web1")
    fleet.hosts["web1"] |= {**ADDS_ONLY, "backup_image": "", "backup_prune_from": "localhost"}
    return docker


def prune_from_vault(fleet, *arguments, **changes):
    """Prune a host that only adds, and is not there, from another one."""
    vault = fleet.host("vault1")
    answer = {"removed": ["a"], "kept": 9, "pruned": True, "suspects": [], "look": {"packs": 3}}
    vault.agent_returns(answer, to="forget", changed=True)
    fleet.unreachable_host("web1")
    fleet.hosts["web1"] |= {**ADDS_ONLY, **changes}
    return vault, fleet.run("prune", "--limit", "web1", *arguments)


def test_prune_removes_what_a_host_only_added_from_a_trusted_place(fleet):
    vault, run = prune_from_vault(fleet)

    assert run.returncode == 0, run.stdout
    assert line_with(run.stdout, "web1  ", "pruned").split() == ["web1", "pruned", "1", "9"]
    (call,) = vault.calls
    assert call == [
        "run", "-i", "--rm", "--init", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
        "--tmpfs=/tmp:size=64m", "--memory=4g", "--cpu-shares=512", "--pids-limit=512",
        "--volume=scalr-backup-prune:/var/lib/scalr-backup",
        "--volume=scalr-backup-prune-cache:/var/cache/scalr-backup", "--network=bridge", AGENT_IMAGE,
        "forget", "--from-host=web1", "--from-repository=rest:https://backup.example.com:8001/web1/", "--from-secrets",
        "--keep=daily=7", "--keep=weekly=2", "--keep-within=30d", "--json",
    ]  # fmt: skip
    assert json.loads(vault.stdin) == {
        "password": "canary-password",
        "environment": {"RESTIC_REST_USERNAME": "web1", "RESTIC_REST_PASSWORD": "canary-vault", "NUMBER": "7"},
    }


def test_prune_shows_no_secret_of_the_trusted_place(fleet):
    _vault, run = prune_from_vault(fleet, "-vvv", "--diff")
    assert run.returncode == 0, run.stdout
    assert "canary" not in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ("remove=5f0c,0d2f", ["--snapshot=5f0c", "--snapshot=0d2f", "--dry-run"]),
        ("accept_late=true", ["--dry-run", "--accept-late"]),
    ],
)
def test_prune_passes_on_what_it_is_told_to_remove_or_to_believe(fleet, given, passed):
    vault, run = prune_from_vault(fleet, "--check", "-e", given)
    assert run.returncode == 0, run.stdout
    options = vault.calls[0][vault.calls[0].index("forget") + 1 :]
    assert options[: len(passed)] == passed
    assert "WOULD BE REMOVED" in run.stdout


def test_prune_takes_the_controllers_password_where_no_other_is_given(fleet, tmp_path):
    (tmp_path / "web1.password").write_text("kept here\n")
    vault, _run = prune_from_vault(fleet, backup_prune_password="", backup_password_directory=str(tmp_path))
    assert json.loads(vault.stdin)["password"] == "kept here"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"backup_prune_password": "", "backup_password_directory": "/nowhere"},
            "No password for rest:https://backup.example.com:8001/web1/: there is no /nowhere/web1.password, so set",
        ),
        (
            {"backup_prune_repository": "", "backup_repository": "/repository"},
            "/repository is a directory on web1 itself, which is not append-only",
        ),
        (
            {"backup_prune_repository": "local:/repository"},
            "local:/repository is a directory on web1 itself, which is not append-only",
        ),
        ({"backup_image": ""}, "lacks the agent's image scalr-backup:"),
        # The vault has none of that name, and would pull whatever the registry has under it today.
        ({"backup_image": "registry.example.com/agent:1"}, "registry.example.com/agent:1, which has no digest"),
    ],
)
def test_prune_says_what_the_trusted_place_lacks(fleet, changes, sentence):
    vault, run = prune_from_vault(fleet, **changes)
    assert run.returncode == 2
    assert sentence in line_with(run.stdout, "web1  ", "-  ")
    assert "run" not in [call[0] for call in vault.calls]


@pytest.mark.parametrize(
    ("found", "name"), [(0, f"scalr-backup:{VERSION}-5f0c5f0c5f0c"), (1, AGENT_IMAGE)], ids=["shipped", "pulled"]
)
def test_prune_takes_an_image_that_was_shipped_to_the_trusted_place(fleet, found, name):
    """An engine that has loaded it knows no digest, and would ask a registry that it may not reach."""
    vault = fleet.host("vault1")
    vault.agent_prints("", rc=found, to="image")
    vault.agent_returns({"removed": [], "kept": 9, "pruned": True, "suspects": [], "look": {"packs": 3}}, to="forget")
    fleet.unreachable_host("web1")
    fleet.hosts["web1"] |= {**ADDS_ONLY, "backup_image_from": "controller"}

    run = fleet.run("prune", "--limit", "web1")

    assert run.returncode == 0, run.stdout
    assert [call[call.index("forget") - 1] for call in vault.calls if "forget" in call] == [name]


def test_prune_asks_the_engine_of_the_trusted_place(fleet):
    """The place's, and not Docker's own nor that of the host; Podman has a name of its own for what was built there."""
    vault = fleet.host("vault1")
    fleet.hosts["vault1"]["backup_engine_socket"] = "/run/podman/podman.sock"
    vault.agent_prints("5.4.2 Podman Engine", to="version")
    vault.agent_prints("", rc=1, to="image")
    fleet.unreachable_host("web1")
    fleet.hosts["web1"] |= {**ADDS_ONLY, "backup_image": "", "backup_engine_socket": "/run/user/1000/docker.sock"}

    run = fleet.run("prune", "--limit", "web1")

    assert "lacks the agent's image localhost/scalr-backup:" in line_with(run.stdout, "web1  ", "-  ")
    assert [call[0] for call in vault.calls] == ["version", "image"]
    assert vault.engine == "unix:///run/podman/podman.sock"


@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["for good", "check mode"])
def test_prune_builds_the_image_on_the_controller_where_it_is_missing(fleet, controller, arguments):
    controller.agent_prints("sha256:5f0c", to="build")
    answer = {"removed": ["a"], "kept": 9, "pruned": True, "suspects": [], "look": {"packs": 3}}
    controller.agent_returns(answer, to="forget", changed=True)

    run = fleet.run("prune", "--limit", "web1", *arguments)

    assert run.returncode == 0, run.stdout
    assert [call[0] for call in controller.calls] == ["version", "image", "build", "run"]


def test_prune_says_why_the_controller_cannot_build_the_image(fleet, controller):
    controller.agent_prints("", stderr="#1 [internal]\nERROR: no space left on device\n", rc=1, to="build")

    run = fleet.run("prune", "--limit", "web1")

    assert run.returncode == 2
    assert "ERROR: no space left on device." in line_with(run.stdout, "web1  ", "-  ")


def test_prune_says_that_the_trusted_place_was_not_reached(fleet):
    fleet.unreachable_host("vault1")
    fleet.host("web0").agent_returns({"removed": [], "kept": 5, "pruned": True}, changed=True)
    fleet.unreachable_host("web1")
    fleet.hosts["web1"] |= {**ADDS_ONLY, "backup_image": ""}

    run = fleet.run("prune", "--limit", "web0,web1")

    assert run.returncode == 2
    assert "vault1, which prunes for web1, was not reached." in line_with(run.stdout, "web1  ", "-  ")
    assert "\n2 hosts: 1 failed, 1 pruned.\n" in run.stdout


def test_prune_wants_to_know_whose_snapshots_an_id_is_of(fleet):
    hosts = [fleet.host(name) for name in ("web1", "web2")]
    run = fleet.run("prune", remove="5f0c")
    assert run.returncode == 2
    assert "Name the host with --limit: a snapshot id belongs to one host." in run.stdout
    assert [host.calls for host in hosts] == [[], []]


def test_prune_shows_one_table_and_goes_on_with_the_other_hosts(fleet):
    fleet.host("web1").agent_returns({"removed": ["a", "b"], "kept": 5, "pruned": True}, changed=True)
    fleet.host("web2").agent_returns({}, exit_code=1, error=("locked", "The repository is locked."))

    run = fleet.run("prune")

    assert run.returncode == 2
    assert rows_of(run.stdout, "HOST") == [
        ["web2", "The repository is locked.", "-", "-"],
        ["web1", "pruned", "2", "5"],
    ]
    assert "\n2 hosts: 1 failed, 1 pruned.\n" in run.stdout
    assert [recap_of(run.stdout, host)["failed"] for host in ("web1", "web2")] == [0, 1]


def test_prune_in_check_mode_says_what_would_go(fleet):
    fleet.host("web1").agent_returns({"removed": ["a", "b"], "kept": 0, "pruned": False}, changed=True)

    run = fleet.run("prune", "--check")

    assert run.returncode == 0, run.stdout
    assert rows_of(run.stdout, "HOST") == [["web1", "would be pruned", "2", "0"]]


def test_five_hosts_in_two_batches_make_one_table(fleet):
    """Hosts that are gone do not take the rest of their batch, or the next batch, with them."""
    fleet.unreachable_host("web1")
    fleet.unreachable_host("web2")
    for name in ("web3", "web4", "web5"):
        fleet.host(name).agent_returns({"databases": [saved(f"scalr-{name}-db", "foo")]}, changed=True)

    run = fleet.run("backup", backup_serial=2)

    assert run.returncode == 2
    assert run.stdout.count("PLAY [Back up]") == 3
    assert [row[:4] for row in rows_of(run.stdout, "HOST")] == [
        ["web1", "-", "-", "The host was not reached."],
        ["web2", "-", "-", "The host was not reached."],
        *([f"web{number}", f"scalr-web{number}-db", "foo", "saved"] for number in (3, 4, 5)),
    ]
    assert "\n5 hosts: 2 not reached, 3 saved.\n" in run.stdout


def plan_of_undo(container):
    """What the agent of a host plans when a restore is undone."""
    kept = {"database": "foo", "source_database": "foo", "exists": True, "size_bytes": 4096, "snapshot": None}
    kept |= {"sessions": 0, "connected": [], "old_database": "foo_before_restore_r"}
    return {"databases": [kept], "undo": "r", "snapshot": None, "roles": [], "warnings": [], "confirm": container}


def test_restore_shows_who_is_connected_and_which_roles_are_made(fleet, two_hosts):
    run = fleet.run("restore", "--check", db="scalr-foo-db")

    assert "\nConnected to foo: app with web from 172.17.0.5, 3 sessions\n" in run.stdout
    assert "\nThese roles are missing and will be created: reader.\n" in run.stdout


def test_restore_with_strategy_replace_wants_the_word_typed(fleet, two_hosts):
    can_restore(two_hosts[0], "scalr-foo-db", strategy="replace", confirm="replace scalr-foo-db")

    refused = fleet.run("restore", db="scalr-foo-db", restore_strategy="replace", confirm="scalr-foo-db")
    done = fleet.run("restore", db="scalr-foo-db", restore_strategy="replace", confirm="replace scalr-foo-db")

    assert "Nothing was restored: confirm is scalr-foo-db, but must be replace scalr-foo-db." in refused.stdout
    assert done.returncode == 0, done.stdout
    assert "The live databases are DROPPED FIRST: if the restore fails, there are none." in done.stdout
    assert [call[-2:] for call in restores_of(two_hosts[0])] == [
        ["--strategy=replace", "--confirm=replace scalr-foo-db"]
    ]


def test_restore_into_another_container_finds_the_host_that_has_it(fleet):
    web1, web2 = fleet.host("web1"), fleet.host("web2")
    web1.agent_returns({}, exit_code=1, error=("unknown_database", "web1 has no scalr-new-db."))
    can_restore(web2, "scalr-new-db")

    shown = documented("ansible-playbook restore.yml -e db=scalr-foo-db -e without_manifest=true")
    variables = dict(re.findall(r"-e (\w+)=(\S+)", shown))
    run = fleet.run(
        "restore", **variables, target="scalr-new-db", database_as="bar", from_host="web9", confirm="scalr-new-db"
    )

    assert run.returncode == 0, run.stdout
    assert "Restore of scalr-foo-db of web9 into scalr-new-db on web2." in run.stdout
    assert restores_of(web1) == []
    assert restores_of(web2)[0][3:] == [
        "--strategy=beside", "--target=scalr-new-db", "--database-as=bar", "--from-host=web9", "--confirm=scalr-new-db",
        "--without-manifest",
    ]  # fmt: skip


def test_restore_into_a_container_that_refuses_ends_with_the_agents_sentence(fleet):
    web1, web2 = fleet.host("web1"), fleet.host("web2")
    web1.agent_returns({}, exit_code=1, error=("unknown_database", "web1 has no scalr-new-db."))
    web2.agent_returns({}, exit_code=1, error=("older_server", "PostgreSQL 15 cannot take a dump of 17."))

    run = fleet.run("restore", db="scalr-foo-db", target="scalr-new-db", confirm="scalr-new-db")

    assert run.returncode == 2
    assert failed_with(run, "PostgreSQL 15 cannot take a dump of 17.")
    assert "failed=1" in line_with(run.stdout, "web2", "ok=")


def test_restore_into_a_container_that_nobody_has(fleet):
    for name in ["web1", "web2"]:
        fleet.host(name).agent_returns({}, exit_code=1, error=("unknown_database", f"{name} has no scalr-new-db."))

    run = fleet.run("restore", db="scalr-foo-db", target="scalr-new-db", confirm="scalr-new-db")

    assert run.returncode == 2
    assert (
        "No host can restore into a container scalr-new-db: web1 says: web1 has no scalr-new-db; "
        "web2 says: web2 has no scalr-new-db."
    ) in run.stdout


def test_restore_is_undone_where_it_was_made(fleet):
    web1, web2 = fleet.host("web1"), fleet.host("web2")
    web1.agent_returns({}, exit_code=1, error=("unknown_run", "web1 knows no restore r."))
    can_restore(web2, "scalr-foo-db", **plan_of_undo("scalr-foo-db"))

    run = fleet.run("restore", undo="r", confirm="scalr-foo-db")

    assert run.returncode == 0, run.stdout
    assert "Undo of the restore r in scalr-foo-db on web2. These databases will be replaced:" in run.stdout
    assert "foo_before_restore_r" in line_with(run.stdout, "4.0 KiB")
    assert restores_of(web2) == [["restore", "--undo=r", "--confirm=scalr-foo-db"]]


def test_restore_of_an_unknown_run(fleet):
    fleet.host("web1").agent_returns({}, exit_code=1, error=("unknown_run", "No restore r was kept."))

    run = fleet.run("restore", undo="r", confirm="scalr-foo-db")

    assert run.returncode == 2
    assert "No host knows a restore r that can be undone: web1 says: No restore r was kept." in run.stdout


def test_restore_from_another_hosts_own_repository_takes_its_secrets_from_the_inventory(fleet, two_hosts, tmp_path):
    (tmp_path / "web9.password").write_text("kept on the controller\n")
    for name, host in fleet.hosts.items():
        host["backup_repository"] = f"s3:https://store/{name}"
    dead = {"backup_repository": "s3:https://store/web9", "backup_environment": {"AWS_ACCESS_KEY_ID": "the key's id"}}
    fleet.unreachable_host("web9")
    fleet.hosts["web9"] |= {**dead, "backup_password_directory": str(tmp_path)}

    run = fleet.run("restore", "-vvv", db="scalr-foo-db", from_host="web9", confirm="scalr-foo-db")

    assert run.returncode == 0, run.stdout
    assert "--from-host=web9" in restores_of(two_hosts[0])[0]
    assert "--from-repository=s3:https://store/web9" in restores_of(two_hosts[0])[0]
    assert json.loads(two_hosts[0].stdin) == {
        "password": "kept on the controller",
        "environment": {"AWS_ACCESS_KEY_ID": "the key's id"},
    }
    for secret in ("kept on the controller", "the key's id"):
        assert secret not in run.stdout + run.stderr


def test_restore_from_another_host_of_the_same_repository_needs_no_secrets(fleet, two_hosts):
    fleet.unreachable_host("web9")
    for host in fleet.hosts.values():
        host["backup_repository"] = "s3:https://store/all"

    run = fleet.run("restore", db="scalr-foo-db", from_host="web9", confirm="scalr-foo-db")

    assert run.returncode == 0, run.stdout
    assert "--from-host=web9" in restores_of(two_hosts[0])[0]
    assert not [option for option in restores_of(two_hosts[0])[0] if "repository" in option or "secrets" in option]


def drilled(container, database, error=None):
    """What became of one database in a drill."""
    return {
        "container": container,
        "database": database,
        "ok": error is None,
        "snapshot_id": "5f0c8e1b4c7d",
        "snapshot_time": "2026-11-22T03:00:11+00:00",
        "image": "postgres:17",
        "tables": 7,
        "rows": 1234,
        "recovery_seconds": 8.9,
        "amcheck": "passed",
        "assertions": {"passed": 1, "failed": 1 if error else 0},
        "error": error,
    }


def test_drill_shows_one_table_and_fails_for_those_that_failed(fleet):
    web1, web2 = fleet.host("web1"), fleet.host("web2")
    fleet.unreachable_host("web3")
    for docker in (web1, web2):
        docker.agents_image_is("sha256:5f0c")
    web1.agent_returns({"databases": [drilled("scalr-foo-db", "foo")]}, to="drill")
    error = {"code": "assertion_failed", "message": "orders.sql returned false."}
    web2.agent_returns(
        {"databases": [drilled("scalr-bar-db", "bar", error)]},
        to="drill",
        exit_code=3,
        error=("some", "1 of 1 failed."),
    )

    run = fleet.run("drill", snapshot="tag=release")

    assert run.returncode == 2
    assert line_with(run.stdout, "web1", "scalr-foo-db", "passed").split() == [
        "web1", "scalr-foo-db", "foo", "passed", "5f0c8e1b", "2026-11-22T03:00:11Z", "postgres:17", "7", "1234",
        "8.9", "s", "passed", "1", "of", "1",
    ]  # fmt: skip
    assert "orders.sql returned false." in line_with(run.stdout, "web2", "scalr-bar-db", "1 of 2")
    assert failed_with(run, "1 of 1 failed.")
    assert failed_with(run, "The host was not reached.")
    assert "failed=0" in line_with(run.stdout, "web1", "ok=")
    assert [row[0] for row in rows_of(run.stdout, "HOST")] == ["web2", "web3", "web1"]
    assert "\n3 hosts: 1 not reached, 1 failed, 1 passed.\n" in run.stdout
    assert web1.calls[-1][-3:] == ["drill", "--snapshot=tag=release", "--json"]


def test_drill_that_could_not_be_tried_is_no_failed_one(fleet):
    web1 = fleet.host("web1")
    web1.agents_image_is("sha256:5f0c")
    error = {"code": "no_memory", "message": "web1 has 500.0 MiB of memory available."}
    databases = [drilled("scalr-foo-db", "foo"), drilled("scalr-bar-db", "bar", error) | {"tried": False}]
    web1.agent_returns(
        {"databases": databases, "failed": 0, "not_tried": 1},
        to="drill",
        exit_code=2,
        error=("no_memory", "1 of 2 databases could not be drilled."),
    )

    run = fleet.run("drill")

    assert run.returncode == 2
    assert "not tried: web1 has 500.0 MiB of memory available." in line_with(run.stdout, "scalr-bar-db")
    assert "\n1 host: 1 not tried.\n" in run.stdout


def test_status_of_a_repository_on_the_host_and_of_a_kept_copy(fleet):
    lost = {"code": "repository_on_host", "severity": "warning", "message": "It lies on this host.", "command": "site"}
    copy = {
        "container": "scalr-foo-db", "database": "foo_before_restore_x", "kept_since": "2026-11-22T03:00:00+00:00",
        "size_bytes": 9, "command": "docker exec scalr-foo-db dropdb -- foo_before_restore_x",
    }  # fmt: skip
    well = {"healthy": True, "verdict": "safe", "summary": "Safe.", "problems": [], "next_pass": "", "databases": []}
    fleet.host("web1").agent_returns({**well, "findings": [lost], "kept_databases": [copy]})
    fleet.host("web2").agent_returns({**well, "findings": []})

    run = fleet.run("status")

    assert run.returncode == 0, run.stdout
    assert "\n2 hosts: 1 safe as long as the host lives, 1 safe.\n" in run.stdout
    assert "web1: It lies on this host." in run.stdout
    assert "web1: scalr-foo-db/foo_before_restore_x was kept by a restore on 2026-11-22" in run.stdout
    assert "    docker exec scalr-foo-db dropdb -- foo_before_restore_x" in run.stdout


def test_drill_of_a_container_that_no_host_has(fleet):
    web1 = fleet.host("web1")
    web1.agents_image_is("sha256:5f0c")
    web1.agent_returns({}, to="drill", exit_code=1, error=("unknown_database", "web1 has only scalr-foo-db."))

    run = fleet.run("drill", db="scalr-nope-db")

    assert run.returncode == 2
    assert "No host has a database container scalr-nope-db. web1 has only scalr-foo-db." in run.stdout


def test_drill_in_check_mode_restores_nothing_and_says_so(fleet):
    web1 = fleet.host("web1")

    run = fleet.run("drill", "--check")

    assert run.returncode == 0, run.stdout
    assert "Check mode cannot predict a drill: nothing was restored." in run.stdout
    assert web1.calls == []


def test_status_shows_the_last_drills(fleet):
    database = {"container": "scalr-foo-db", "database": "foo", "last_success": "2026-11-22T03:00:11+00:00"}
    database |= {"age_seconds": 60, "ok": True, "snapshot_id": "5f0c8e1b4c7d", "bytes_read": 2048, "error": None}
    drill = {
        "ok": True,
        "time": "2026-11-22T03:00:11+00:00",
        "age_seconds": 90000,
        "recovery_seconds": 8.9,
        "error": None,
    }
    databases = [
        {**database, "drill": drill},
        {**database, "database": "bar", "drill": {**drill, "ok": False}},
        {**database, "database": "new", "drill": None},
    ]
    well = {"healthy": True, "summary": "Safe.", "problems": [], "next_pass": "2026-11-23T03:00:00+00:00"}
    fleet.host("web1").agent_returns({**well, "databases": databases})

    run = fleet.run("status")

    assert line_with(run.stdout, "scalr-foo-db", " foo ").endswith("5f0c8e1b  passed 1 d 1 h ago        8.9 s")
    assert "FAILED 1 d 1 h ago" in line_with(run.stdout, "scalr-foo-db", " bar ")
    assert line_with(run.stdout, "scalr-foo-db", " bar ").split()[3:5] == ["drill", "failed"]
    assert "never" in line_with(run.stdout, "scalr-foo-db", " new ")


@pytest.mark.parametrize(
    ("extra_vars", "sentence"),
    [
        (
            {"undo": "r", "snapshot": "5f0c", "target": "t"},
            "undo cannot be combined with snapshot, target: an undo swaps back every database that the restore kept",
        ),
        ({"undo": "r", "safety_snapshot": False}, "undo cannot be combined with safety_snapshot"),
        ({"db": "c", "restore_strategy": "bravely"}, "restore_strategy is bravely, but must be beside or replace."),
        ({"db": "c", "strategy": "bravely"}, "restore_strategy is bravely, but must be beside or replace."),
        (
            {"db": "c", "restore_strategy": "replace", "keep_old": True},
            "keep_old works only with restore_strategy=beside.",
        ),
        (
            {"db": "c", "from_repository": "r"},
            "from_repository needs from_host as well: it says whose snapshots to use.",
        ),
        (
            {"db": "c", "from_repository": "r", "from_host": "h", "from_copy": True},
            "from_repository cannot be combined with from_copy",
        ),
        ({"db": "c", "from_password": "sesame"}, "set from_repository to its address."),
    ],
)
def test_restore_with_variables_that_do_not_fit_together_says_so(fleet, two_hosts, extra_vars, sentence):
    run = fleet.run("restore", **extra_vars)

    assert run.returncode == 2
    assert sentence in run.stdout
    assert two_hosts[0].calls == two_hosts[1].calls == []


def test_restore_that_several_hosts_refuse_lists_why(fleet):
    for name in ["web1", "web2"]:
        fleet.host(name).agent_returns({}, exit_code=2, error=("usage", f"{name} knows no host web9."))

    run = fleet.run("restore", db="scalr-foo-db", target="scalr-new-db", from_host="web9")

    assert run.returncode == 2
    assert (
        "No host can restore into a container scalr-new-db: web1 says: web1 knows no host web9; "
        "web2 says: web2 knows no host web9."
    ) in run.stdout


def test_a_module_that_is_killed_is_one_sentence(fleet):
    # The fake docker command starts a shell for what it does first, and the module has started that command.
    killed = 'kill -9 "$(cut -d" " -f4 /proc/$PPID/stat)"'
    fleet.host("web1").agent_returns({}, before=killed)

    run = fleet.run("status")

    assert run.returncode == 2
    assert "the module was killed on the host by SIGKILL" in run.stdout
    assert "deserialization" not in run.stdout
    assert "module_stdout" not in run.stdout


@pytest.mark.parametrize(
    ("playbook", "extra_vars", "sentence"),
    [
        (
            "restore",
            {"db": "scalr-foo-db", "databse": "foo"},
            "does not know the variable databse: did you mean database?",
        ),
        ("backup", {"db": ""}, "db is empty: give it a value, or leave it out."),
        ("drill", {"dbs": "scalr-foo-db"}, "does not know the variable dbs: did you mean db?"),
        ("status", {"repotr": "page.html"}, "does not know the variable repotr: did you mean report?"),
        ("check", {"subset": "5%"}, "does not know the variable subset"),
        ("prune", {"remove": "ab12", "accept_late": True}, "remove cannot be combined with accept_late"),
        ("rotate_password", {"new_password": ""}, "new_password is empty: give it a value, or leave it out."),
        (
            "recovery_kit",
            {"kit": "/tmp/kit.html", "escrow": False, "replace": True},
            "replace works only with escrow=True",
        ),
    ],
)
def test_what_a_playbook_does_not_know_or_cannot_mean_is_refused_once_and_nobody_is_asked(
    fleet, two_hosts, playbook, extra_vars, sentence
):
    run = fleet.run(playbook, **extra_vars)

    assert run.returncode == 2
    assert sentence in run.stdout
    assert run.stdout.count("FAILED!") == 1
    assert two_hosts[0].calls == two_hosts[1].calls == []


def test_an_extra_variable_in_a_file_is_refused_and_one_that_the_inventory_uses_is_not(fleet, tmp_path):
    web1 = fleet.host("web1")
    web1.agent_returns({"plan": [{"container": "scalr-foo-db", "database": "foo"}]}, to="backup")
    file = tmp_path / "vars.yml"
    file.write_text("env: prod\ndbb: scalr-foo-db\n")

    refused = fleet.run("backup", "--check", "-e", f"@{file}")
    fleet.hosts["web1"]["backup_repository"] = "s3:https://s3.example.com/{{ env }}"
    near_miss_only = fleet.run("backup", "--check", "-e", f"@{file}")
    # How a host is reached is the inventory's business, too.
    fleet.hosts["web1"]["ansible_ssh_common_args"] = "-J {{ bastion | default('none') }}"
    file.write_text("env: prod\ndb: scalr-foo-db\nbastion: jump.example.com\n")
    known = fleet.run("backup", "--check", "-e", f"@{file}")

    assert "does not know the variable env" in refused.stdout
    assert "does not know the variable env" not in near_miss_only.stdout
    assert "does not know the variable dbb: did you mean db?" in near_miss_only.stdout
    assert known.returncode == 0, known.stdout
    assert web1.verb == ["backup", "--db=scalr-foo-db", "--reason=manual", "--dry-run"]


def test_variables_of_an_operators_own_playbook_are_his(fleet, tmp_path):
    web1 = fleet.host("web1")
    web1.agent_returns({"plan": []}, to="backup")
    mine = tmp_path / "mine.yml"
    mine.write_text("- name: Back up\n  ansible.builtin.import_playbook: scalr.backup.backup\n")

    passes = fleet.run(str(mine).removesuffix(".yml"), "--check", app_version="3")
    refused = fleet.run(str(mine).removesuffix(".yml"), "--check", app_version="3", extra_tag="x")

    assert passes.returncode == 0, passes.stdout
    assert "does not know the variable extra_tag: did you mean extra_tags?" in refused.stdout


RESERVED = "Found variable using reserved name"


def test_the_old_names_of_reserved_words_still_work_and_the_new_ones_bring_no_warning(fleet, two_hosts):
    web1, web2 = two_hosts
    for host in two_hosts:
        host.agent_returns({"databases": []}, to="backup", changed=True)
    can_restore(web1, "scalr-foo-db", strategy="replace", confirm="replace scalr-foo-db")
    replace = {"db": "scalr-foo-db", "confirm": "replace scalr-foo-db"}

    old = [fleet.run("backup", tags="x"), fleet.run("restore", **replace, strategy="replace")]
    new = [fleet.run("backup", extra_tags="x"), fleet.run("restore", **replace, restore_strategy="replace")]

    assert all(run.returncode == 0 and RESERVED in run.stderr + run.stdout for run in old), [run.stdout for run in old]
    assert all(run.returncode == 0 and RESERVED not in run.stderr + run.stdout for run in new), [
        run.stdout for run in new
    ]
    asked = [call[3:-1] for call in web2.calls if "backup" in call]
    assert asked == [["backup", "--tag=x", "--reason=manual"]] * 2
    first, second = restores_of(web1)
    assert first == second
    assert "--strategy=replace" in first


def test_each_host_is_asked_through_its_own_engine(fleet):
    docker = fleet.host("docker1")
    podman = fleet.host("podman1")
    fleet.hosts["podman1"]["socket_of_podman"] = "/run/podman/podman.sock"
    fleet.hosts["podman1"]["backup_engine_socket"] = "{{ socket_of_podman }}"
    for host in (docker, podman):
        host.agent_returns({"databases": [saved("c", "d")], "failed": 0})

    run = fleet.run("backup", "--check")

    assert run.returncode == 0, run.stdout
    assert (docker.engine, podman.engine) == ("", "unix:///run/podman/podman.sock")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["status"], "The inventory has no hosts"),
        (["restore", "--limit", "web1", "-e", "db=scalr-foo-db"], "The inventory has no hosts"),
        (["backup", "-e", "backup_hosts=nobody"], "No host of the inventory matches nobody"),
    ],
)
def test_a_playbook_that_finds_no_host_is_no_success(fleet, arguments, sentence):
    if sentence.startswith("No host"):
        fleet.unreachable_host("web1")
    done = fleet.run(*arguments)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "so nothing was done" in done.stderr
    assert "Traceback" not in done.stderr
