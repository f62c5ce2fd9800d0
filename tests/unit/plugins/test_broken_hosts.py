# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks over several hosts, on one of which no module can be started: a wrong password of sudo is the error of no module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.plugins.test_playbooks import (
    can_restore,
    drilled,
    has_containers,
    line_with,
    recap_of,
    restores_of,
    saved,
)

CAUSE = "Missing sudo password"
WELL = {"healthy": True, "verdict": "safe", "summary": "Safe.", "problems": [], "next_pass": "", "databases": []}


@pytest.fixture
def between(fleet):
    """Two hosts that are well, and between them one that is not."""
    dockers = []
    for name in ("web1", "web3"):
        docker = fleet.host(name)
        docker.agents_image_is("sha256:5f0c")
        docker.agent_returns({"databases": [drilled("scalr-foo-db", "foo")]}, to="drill")
        docker.agent_returns(WELL, to="status")
        dockers.append(docker)
        if name == "web1":
            fleet.host_without_sudo("web2")
    return dockers


@pytest.mark.parametrize(
    ("playbook", "tally"),
    [("drill", "3 hosts: 1 failed, 2 passed."), ("status", "3 hosts: 1 without an answer, 2 safe.")],
)
def test_such_a_host_is_one_row_of_the_table_and_the_others_are_done(fleet, between, tmp_path, playbook, tally):
    page = tmp_path / "page.html"

    run = fleet.run(playbook, **({"report": str(page)} if playbook == "status" else {}))

    assert run.returncode == 2, run.stdout + run.stderr
    assert f"\n{tally}\n" in run.stdout
    assert line_with(run.stdout, "web2  ", CAUSE)
    assert [recap_of(run.stdout, host)["failed"] for host in ("web1", "web2", "web3")] == [0, 1, 0]
    assert page.is_file() == (playbook == "status")


@pytest.mark.parametrize(
    ("playbook", "verb", "answer", "tally"),
    [
        ("backup", "backup", {"databases": [saved("scalr-foo-db", "foo") | {"bytes_read": "2 KiB"}]}, "1 failed, 2 saved."),
        ("drill", "drill", {"databases": [drilled("scalr-foo-db", "foo") | {"assertions": [1]}]}, "1 failed, 2 passed."),
        ("status", "status", {**WELL, "databases": [{"container": "scalr-foo-db"}]}, "1 without an answer, 2 safe."),
        # Only the page needs the history.
        (
            "status", "history", {"entries": [{"kind": "pass", "time": "soon", "size_bytes": 1}], "timezone": "UTC"},
            "1 without an answer, 2 safe.",
        ),
    ],
)  # fmt: skip
def test_a_host_that_answers_what_nobody_can_read_is_one_row_of_the_table_and_fails(
    fleet, between, tmp_path, playbook, verb, answer, tally
):
    odd = fleet.host("web4")
    for docker in (*between, odd):
        docker.agents_image_is("sha256:5f0c")
        docker.agent_returns({"databases": [saved("scalr-foo-db", "foo")]}, to="backup")
        docker.agent_returns({"entries": [], "timezone": "UTC"}, to="history")
        docker.agent_returns({"snapshots": []}, to="snapshots")
        docker.agent_returns(WELL, to="status")
    odd.agent_returns(answer, to=verb)
    page = tmp_path / "page.html"

    run = fleet.run(playbook, "--limit", "!web2", **({"report": str(page)} if playbook == "status" else {}))

    assert run.returncode == 2, run.stdout + run.stderr
    assert f"\n3 hosts: {tally}\n" in run.stdout
    assert line_with(run.stdout, "web4  ", "The answer of this host cannot be read (")
    assert [recap_of(run.stdout, host)["failed"] for host in ("web1", "web3", "web4")] == [0, 0, 1]
    if playbook == "status":
        assert "1 of 3 hosts did not answer." in page.read_text()


def test_a_restore_goes_on_without_it_and_names_it(fleet, between):
    has_containers(between[1], "scalr-foo-db")
    has_containers(between[0], "scalr-bar-db")
    can_restore(between[1], "scalr-foo-db")

    run = fleet.run("restore", db="scalr-foo-db", confirm="scalr-foo-db")

    assert run.returncode == 0, run.stdout + run.stderr
    # Some versions of ansible-core say before the cause that a task has failed.
    assert re.search(rf"^WARNING: web2 gave no answer \((Task failed: )?{CAUSE}", run.stdout, re.MULTILINE)
    assert len(restores_of(between[1])) == 1


def tasks_in(content: Any) -> Iterator[dict[str, Any]]:
    """All tasks of a file, those within blocks too."""
    for entry in content if isinstance(content, list) else []:
        yield entry
        for part in ("tasks", "pre_tasks", "post_tasks", "block", "rescue", "always"):
            yield from tasks_in(entry.get(part))


def test_every_task_that_lets_a_host_go_on_does_so_whatever_the_cause(checkout: Path):
    files = [*checkout.glob("playbooks/*.yml"), *checkout.glob("roles/*/tasks/*.yml")]
    lenient = [
        task for file in files for task in tasks_in(yaml.safe_load(file.read_text())) if "ignore_unreachable" in task
    ]
    assert len(lenient) > 6
    # What is done in another place stands in a block that rescues all errors.
    assert [task["name"] for task in lenient if not (task.get("ignore_errors") is True or "delegate_to" in task)] == []
