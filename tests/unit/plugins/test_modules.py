# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module asks the agent, and what it makes of the answer."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from ansible_collections.scalr.backup.plugins.module_utils._agent import VERSION

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

    assert docker.verb == [
        "restore",
        "--db=scalr-foo-db",
        "--snapshot=latest",
        "--strategy=beside",
        "--confirm=scalr-foo-db",
    ]
    assert result["changed"] is True
    assert result["run"] == "r"
    assert result["diff"] == DIFFERENCE


def test_restore_with_all_options(docker, run_module):
    docker.agent_returns({"plan": PLAN, "run": "r", "databases": []})

    run_module(
        "database_restore", db="c", database="d", snapshot="5f0c", target="t", database_as="e", from_host="h",
        from_repository="r", strategy="beside", confirm="t", keep_old=True, safety_snapshot=False,
    )  # fmt: skip

    assert docker.verb == [
        "restore", "--db=c", "--database=d", "--snapshot=5f0c", "--strategy=beside", "--target=t", "--database-as=e",
        "--from-host=h", "--from-repository=r", "--confirm=t", "--keep-old", "--no-safety-snapshot",
    ]  # fmt: skip


def test_restore_in_check_mode_is_the_plan(docker, run_module):
    docker.agent_returns({"plan": PLAN, "run": None, "databases": []}, changed=False)

    result = run_module("database_restore", check_mode=True, db="scalr-foo-db")

    assert docker.verb == ["restore", "--db=scalr-foo-db", "--snapshot=latest", "--strategy=beside", "--plan"]
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


def test_the_secrets_of_another_repository_go_to_standard_input_and_nowhere_else(docker, run_module):
    docker.agent_returns({"plan": PLAN, "run": "r", "databases": []})

    result = run_module(
        "database_restore", db="c", from_host="h", from_repository="r", from_password="p4ssw0rd",
        from_environment={"AWS_SECRET_ACCESS_KEY": "k3y-of-the-store", "AWS_DEFAULT_REGION": "eu", "N": 1},
    )  # fmt: skip

    call = next(call for call in docker.calls if call[0] == "exec")
    assert call == [
        "exec", "-i", "scalr-backup", "scalr-backup", "restore", "--db=c", "--snapshot=latest", "--strategy=beside",
        "--from-host=h", "--from-repository=r", "--from-secrets", "--json",
    ]  # fmt: skip
    assert json.loads(docker.stdin) == {
        "password": "p4ssw0rd",
        "environment": {"AWS_SECRET_ACCESS_KEY": "k3y-of-the-store", "AWS_DEFAULT_REGION": "eu", "N": "1"},
    }
    assert "p4ssw0rd" not in json.dumps(result)
    assert "k3y-of-the-store" not in json.dumps(result)
    assert result["plan"] == PLAN  # the name of a region is no secret: hiding it would tear holes into the result


def test_a_restore_that_is_undone_says_what_comes_back(docker, run_module):
    kept = {"database": "foo", "exists": True, "size_bytes": 4096, "snapshot": None, "old_database": "foo_before"}
    docker.agent_returns({"plan": {**PLAN, "databases": [kept]}, "run": "r", "databases": []}, changed=True)

    result = run_module("database_restore", undo="20261122T101500Z-3f9a", confirm="scalr-foo-db")

    assert docker.verb == ["restore", "--undo=20261122T101500Z-3f9a", "--confirm=scalr-foo-db"]
    assert result["diff"]["after"] == "scalr-foo-db/foo: the kept foo_before\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "Give db or undo: the container to restore, or the restore to undo."),
        ({"undo": "r", "target": "t", "database": "d"}, "undo cannot be combined with database, target: an undo swaps"),
        ({"undo": "r", "keep_old": True}, "undo cannot be combined with keep_old: an undo swaps"),
        ({"db": "c", "keep_old": True, "strategy": "replace"}, "keep_old works only with strategy=beside."),
        ({"undo": "r", "on_error": "skip"}, "undo cannot be combined with on_error: an undo swaps"),
        ({"db": "c", "on_error": "ignore"}, "value of on_error must be one of: stop, skip, got: ignore"),
        ({"undo": "r", "without_manifest": True}, "undo cannot be combined with without_manifest: an undo swaps"),
        ({"db": "c", "strategy": "bravely"}, "value of strategy must be one of: beside, replace, got: bravely"),
    ],
)
def test_options_of_a_restore_that_do_not_fit_together(docker, run_module, arguments, sentence):
    result = run_module("database_restore", **arguments)

    assert result["failed"] is True
    assert sentence in result["msg"]
    assert docker.calls == []


IMAGE = "sha256:5f0c8e1b4c7d"
SOCKET = Path("/var/run/docker.sock")
GROUP = [f"--group-add={SOCKET.stat().st_gid}"] if SOCKET.exists() else []
CONFINED = ["--rm", "--init", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
PROXY = "c0ffee" + "0" * 58
APART = [
    "run", *CONFINED, "--tmpfs=/tmp:size=64m", "--memory=4g", "--cpu-shares=512", "--pids-limit=512",
    "--volume=/dev/null:/var/run/docker.sock:ro", "--name=scalr-backup-drill-c0ffee000000", "--volumes-from=scalr-backup",
    "--volume=cafe:/run/scalr-backup:ro", "--env=DOCKER_HOST=unix:///run/scalr-backup/docker.sock", IMAGE,
]  # fmt: skip
HAS = '{{range .Mounts}}{{if eq .Destination "%s"}}{{.%s}}{{end}}{{end}}'


def proxy_of_a_drill(image: str = "", socket: Path = SOCKET, group: Sequence[str] = ()) -> list[str]:
    return [
        "run", "--detach", *CONFINED, "--network=none", "--memory=256m", "--cpu-shares=512", "--pids-limit=64", "--no-healthcheck",
        "--volume=/run/scalr-backup", "--entrypoint=haproxy", f"--volume={socket}:/var/run/docker.sock", *(group or GROUP),
        "--volume=/opt/a b/config:/etc/scalr-backup:ro", f"--env=DRILL_IMAGE={image}", IMAGE,
        "-db", "-f", "/opt/scalr-backup/socket-proxy/drill.cfg",
    ]  # fmt: skip


def test_a_drill_runs_in_a_container_of_its_own_and_has_no_way_to_the_engine_but_a_proxy(docker, run_module):
    docker.agents_image_is(IMAGE)
    docker.agent_returns({"run": "r", "started": "s", "finished": "f", "failed": 0, "databases": []}, to="drill")

    result = run_module("database_drill")

    assert docker.calls == [
        ["container", "inspect", "--format", f"{{{{.Image}}}} {HAS % ('/etc/scalr-backup', 'Source')}", "scalr-backup"],
        proxy_of_a_drill(),
        ["container", "inspect", "--format", HAS % ("/run/scalr-backup", "Name"), PROXY],
        [*APART, "drill", "--snapshot=latest", "--json"],
    ]
    assert (result["changed"], result["failed_databases"], result["started_at"]) == (False, 0, "s")


def test_a_drill_with_all_options(docker, run_module):
    docker.agents_image_is(IMAGE)
    docker.agent_returns({"databases": []}, to="drill")

    run_module("database_drill", db=["a", "b*"], database="d", snapshot="5f0c", from_host="h", image="i")

    # The operator's word for an image comes to the proxy from here, not from the drill.
    assert docker.calls[1] == proxy_of_a_drill("i")
    assert docker.calls[-1] == [
        *APART, "drill", "--db=a", "--db=b*", "--database=d", "--snapshot=5f0c", "--from-host=h", "--image=i",
        "--json",
    ]  # fmt: skip


@pytest.mark.parametrize(("owner", "group"), [(0, 4242), (1000, 101)])
def test_a_drill_of_another_engine_has_that_ones_socket(docker, run_module, tmp_path, monkeypatch, owner, group):
    """In the containers of an engine that runs as a user the socket's group has another number, which one of them tells."""
    docker.agents_image_is(IMAGE)
    docker.agent_prints("101\n", to="%g")
    docker.agent_returns({"databases": []}, to="drill")
    socket = tmp_path / "podman.sock"
    socket.touch()
    status = os.stat_result((0o140660, 0, 0, 1, owner, 4242, 0, 0, 0, 0))
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **more: status if path == socket else real(path, **more))

    run_module("database_drill", engine_socket=str(socket))

    assert docker.engine == f"unix://{socket}"
    assert docker.calls[-3] == proxy_of_a_drill(socket=socket, group=[f"--group-add={group}"])
    # In the containers it has one place, whatever the host calls it.
    assert docker.calls[-1] == [*APART, "drill", "--snapshot=latest", "--json"]


def test_a_drill_of_an_engine_in_the_environment_has_that_ones_socket(docker, run_module, monkeypatch, tmp_path):
    docker.agents_image_is(IMAGE)
    docker.agent_returns({"databases": []}, to="drill")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/there.sock")

    run_module("database_drill")

    assert f"--volume={tmp_path}/there.sock:/var/run/docker.sock" in docker.calls[1]


def test_a_drill_from_another_repository_reads_its_secrets(docker, run_module):
    docker.agents_image_is(IMAGE)
    docker.agent_returns({"databases": []}, to="drill")

    run_module("database_drill", from_host="h", from_repository="r", from_password="p4ssw0rd")

    assert docker.calls[-1][:2] == ["run", "-i"]
    assert docker.calls[-1][-4:] == ["--from-host=h", "--from-repository=r", "--from-secrets", "--json"]
    assert json.loads(docker.stdin) == {"password": "p4ssw0rd", "environment": {}}


def test_a_drill_whose_proxy_does_not_start_says_so(docker, run_module):
    docker.agents_image_is(IMAGE)
    docker.drill_proxy_fails("docker: no space left on device.\n")

    assert run_module("database_drill")["msg"] == (
        "The drill's proxy to the Docker engine could not be started; if this host's agent is an older release, run "
        "site.yml. It said: docker: no space left on device."
    )


def test_a_drill_that_failed_returns_all_that_it_found_out(docker, run_module):
    docker.agents_image_is(IMAGE)
    databases = [{"database": "good", "ok": True}, {"database": "bad", "ok": False}]
    error = ("databases_failed", "1 of 2 databases failed its drill.")
    docker.agent_returns({"databases": databases, "failed": 1}, to="drill", exit_code=3, error=error)

    result = run_module("database_drill")

    assert (result["failed"], result["msg"], result["code"]) == (True, error[1], error[0])
    assert result["databases"] == databases


def test_a_drill_without_an_agent(docker, run_module):
    docker.agent_is_missing()

    assert run_module("database_drill")["msg"] == (
        "This host has no container scalr-backup: run site.yml, which deploys the agent."
    )


def test_a_drill_is_skipped_in_check_mode(docker, run_module):
    result = run_module("database_drill", check_mode=True)

    assert result["skipped"] is True
    assert docker.calls == []


def test_snapshots(docker, run_module):
    docker.agent_returns({"snapshots": [SNAPSHOT]})

    result = run_module("snapshot_info", db="c", database="d", snapshot="5f0c")

    assert docker.verb == ["snapshots", "--db=c", "--database=d", "--snapshot=5f0c"]
    assert result["snapshots"] == [SNAPSHOT]
    assert result["changed"] is False


def test_status_of_an_unhealthy_host_is_no_failure(docker, run_module):
    """The agent says so by its exit code, too; what is asked for is its answer."""
    data = {"healthy": False, "summary": "2 problems", "last_pass": {"failed": 2}}
    docker.agent_returns(data, exit_code=1, error=("not_safe", "2 problems"))

    result = run_module("status_info")

    assert docker.verb == ["status"]
    assert result["healthy"] is False
    assert result["last_pass"] == {"failed": 2}
    assert "failed" not in result


def test_status_of_an_agent_that_fails_is_a_failure(docker, run_module):
    docker.agent_returns({}, exit_code=2, error=("configuration", "There is no configuration."))

    result = run_module("status_info")

    assert (result["failed"], result["code"]) == (True, "configuration")


def test_status_of_an_agent_that_is_older_than_the_collection_says_so(docker, run_module):
    finding = {"code": "backup_failed", "severity": "failure", "message": "shop failed", "command": "run this"}
    docker.agent_returns({"host": "web1", "healthy": False, "findings": [finding], "agent_version": "0.1.9"})

    found = run_module("status_info")["findings"]

    assert found[0] == finding
    assert (found[1]["code"], found[1]["command"]) == (
        "agent_outdated", "ansible-playbook scalr.backup.site --limit web1",
    )  # fmt: skip
    assert "is version 0.1.9" in found[1]["message"]


@pytest.mark.parametrize(("version", "codes"), [(VERSION, []), ("99.0.0", []), (None, ["problem", "agent_outdated"])])
def test_status_of_an_agent_of_any_version_has_findings(docker, run_module, version, codes):
    data = {"findings": [], "agent_version": version} if version else {"problems": ["shop failed"]}
    docker.agent_returns({"host": "web1", "healthy": True, **data})

    assert [one["code"] for one in run_module("status_info")["findings"]] == codes


def test_the_collection_knows_its_own_version(checkout):
    assert yaml.safe_load((checkout / "galaxy.yml").read_text())["version"] == VERSION


def test_status_with_what_the_host_remembers(docker, run_module):
    docker.agent_returns({"healthy": True, "databases": []}, to="status")
    docker.agent_returns({"host": "h", "timezone": "Europe/Berlin", "entries": [{"kind": "pass"}]}, to="history")

    result = run_module("status_info", history_days=7)

    assert docker.calls[-1][3:] == ["history", "--days=7", "--json"]
    assert (result["timezone"], result["history"]) == ("Europe/Berlin", [{"kind": "pass"}])
    assert result["healthy"] is True


def test_an_agent_that_knows_no_history_is_asked_for_its_status_all_the_same(docker, run_module):
    docker.agent_prints("Usage: scalr-backup [OPTIONS] COMMAND\nNo such command 'history'.\n", rc=2)
    docker.agent_returns({"healthy": True}, to="status")

    result = run_module("status_info", history_days=7)

    assert (result["healthy"], result["history"]) == (True, [])


def test_a_history_that_the_agent_refuses_is_a_failure_in_its_words(docker, run_module):
    docker.agent_returns({"healthy": True}, to="status")
    docker.agent_returns({}, to="history", exit_code=2, error=("usage", "--days must be a number from 1 to 400."))

    result = run_module("status_info", history_days=4000)

    assert (result["msg"], result["code"]) == ("--days must be a number from 1 to 400.", "usage")


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
        ({"action": "forget", "snapshots": ["5f0c", "0d2f"]}, False, ["forget", "--snapshot=5f0c", "--snapshot=0d2f"]),
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

    assert result["msg"] == "read_data_subset works only with action=check."
    assert docker.calls == []


ELSEWHERE = {"action": "forget", "from_repository": "s3:there", "from_host": "web1", "from_password": "secret one"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ELSEWHERE,
            "from_repository needs keep as well: they say whose snapshots to use, what opens the repository, and how many "
            "to keep.",
        ),
        (
            {"action": "forget", "accept_late": True},
            "accept_late needs from_repository as well: a host's own repository follows its own rules.",
        ),
        (
            {"action": "forget", "from_copy": True},
            "from_copy does not apply here: use copy for the second repository.",
        ),
        (
            {"action": "forget", "image": "i"},
            "image needs from_repository as well: the agent maintains its own repository.",
        ),
    ],
)
def test_retention_elsewhere_must_be_told_everything(docker, run_module, arguments, sentence):
    assert run_module("repository", **arguments)["msg"] == sentence
    assert docker.calls == []


def test_retention_elsewhere_may_be_applied_by_an_agent_too(docker, run_module):
    docker.agent_returns({"removed": [], "kept": 1, "pruned": True, "look": None})
    calls = run_module("repository", **ELSEWHERE, keep={"daily": 3}, keep_within="60d")
    assert docker.calls[0] == [
        "exec", "-i", "scalr-backup", "scalr-backup", "forget", "--from-host=web1", "--from-repository=s3:there",
        "--from-secrets", "--keep=daily=3", "--keep-within=60d", "--json",
    ]  # fmt: skip
    assert "secret one" not in str(calls)


def test_an_agent_that_prunes_without_looking_is_named(docker, run_module):
    docker.agent_returns({"removed": ["5f0c"], "kept": 1, "pruned": True})
    result = run_module("repository", **ELSEWHERE, keep={"daily": 3})
    assert result["failed"]
    assert result["msg"].startswith("The agent of the trusted place is an older release")
    assert result["removed"] == ["5f0c"]
    assert "failed" not in run_module("repository", **ELSEWHERE, keep={"daily": 3}, prune=False)


def test_the_password_of_a_key_goes_to_standard_input_and_nowhere_else(docker, run_module):
    docker.agent_returns({"repository_id": "r", "key": "k", "added": True}, changed=True)

    result = run_module("repository_key", password="canary of the safe", escrow="kit-7")

    assert docker.verb == ["key", "add", "--escrow=kit-7"]
    assert json.loads(docker.stdin) == {"password": "canary of the safe"}
    assert (result["changed"], result["added"]) == (True, True)
    assert not any("canary" in word for call in docker.calls for word in call)


def test_a_key_in_check_mode_is_a_dry_run(docker, run_module):
    docker.agent_returns({"repository_id": "r", "key": "", "added": True}, changed=True)

    assert run_module("repository_key", check_mode=True, password="p", copy=True)["changed"] is True
    assert docker.verb == ["key", "add", "--dry-run", "--copy"]


def test_the_keys_of_a_password_are_removed(docker, run_module):
    docker.agent_returns({"removed": ["k"]}, changed=True)

    result = run_module("repository_key", state="absent", password="old", unused_by=["web2", "web3"])

    assert docker.verb == ["key", "remove", "--unused-by=web2", "--unused-by=web3"]
    assert json.loads(docker.stdin) == {"password": "old"}
    assert result["removed"] == ["k"]


def test_a_key_is_removed_by_its_id(docker, run_module):
    docker.agent_returns({"removed": []})

    assert run_module("repository_key", state="absent", key="450fbce0")["changed"] is False
    assert docker.verb == ["key", "remove", "450fbce0"]


def test_a_key_that_is_needed_stays_and_the_sentence_says_by_whom(docker, run_module):
    docker.agent_returns({}, exit_code=1, error=("key_in_use", "It may be in use by web2."))

    result = run_module("repository_key", state="absent", key="450fbce0")

    assert (result["msg"], result["code"]) == ("It may be in use by web2.", "key_in_use")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "Give password or key"),
        ({"state": "absent"}, "Give password or key"),
        ({"state": "absent", "password": "sesame", "key": "k"}, "password cannot be combined with key"),
        ({"state": "absent", "key": "k", "escrow": "safe"}, "escrow works only with state=present."),
        ({"key": "k"}, "key works only with state=absent."),
        ({"password": "sesame", "unused_by": ["web9"]}, "unused_by works only with state=absent."),
    ],
)
def test_options_of_a_key_that_do_not_fit_together(docker, run_module, arguments, words):
    assert words in run_module("repository_key", **arguments)["msg"]
    assert docker.calls == []


def test_a_key_that_is_not_there_is_absent(docker, run_module):
    docker.agent_returns({}, exit_code=1, error=("unknown_key", "No key begins with abc."))

    result = run_module("repository_key", state="absent", key="abc")

    assert (result["changed"], result["removed"]) == (False, [])


def test_the_keys_are_listed(docker, run_module):
    docker.agent_returns({"keys": [{"id": "k"}], "shared_with": []})

    assert run_module("repository_key_info")["keys"] == [{"id": "k"}]
    assert docker.verb == ["key", "list"]


def test_status_with_the_snapshots_of_the_repository(docker, run_module):
    docker.agent_returns({"healthy": True}, to="status")
    docker.agent_returns({"snapshots": [SNAPSHOT]}, to="snapshots")

    assert run_module("status_info", snapshots=True)["snapshots"] == [SNAPSHOT]
    assert "snapshots" not in run_module("status_info")


def test_a_repository_that_does_not_answer_hides_nothing_of_the_status(docker, run_module):
    docker.agent_returns({"healthy": True}, to="status")
    docker.agent_returns(
        {}, to="snapshots", exit_code=1, error=("repository_unreachable", "The store does not answer.")
    )

    result = run_module("status_info", snapshots=True)

    assert (result["healthy"], result["snapshots"]) == (True, None)
    assert "failed" not in result
