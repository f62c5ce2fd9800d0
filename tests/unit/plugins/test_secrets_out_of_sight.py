# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret is on the command line of any process, and no address with a password in it goes anywhere."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.unit.plugins.conftest import Fleet

PASSWORD = "p@canary/1:#?x"
ADDRESS = f"rest:https://web1:{PASSWORD}@rest.test:8000/web1/"
# Of this process alone: the command lines of the whole machine are searched for it.
CANARY = f"canary-{secrets.token_hex(6)}"
FROM_ELSEWHERE = {
    "from_host": "web9",
    "from_repository": "rest:https://rest.test/web9/",
    "from_password": f"{CANARY} of the repository",
    "from_environment": {"RESTIC_REST_PASSWORD": f"{CANARY} of the store"},
}


def vars_file(directory: Path, **variables: object) -> str:
    """The variables in a file, because what stands on a command line can be seen there anyhow."""
    path = directory / "given.json"
    path.write_text(json.dumps(variables))
    return f"@{path}"


def test_the_secrets_of_another_repository_are_on_no_command_line(fleet: Fleet, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    look = f"for one in /proc/[0-9]*; do tr '\\0' ' ' < $one/cmdline 2>/dev/null; echo; done >> {seen}"
    docker = fleet.host("web1")
    docker.agents_image_is("sha256:c0ffee")
    docker.agent_returns({"databases": [], "failed": 0}, to="drill", before=look)

    run = fleet.run("drill", "-vvv", "-e", vars_file(tmp_path, **FROM_ELSEWHERE))

    # The playbook, the module and the docker command were all there to be seen.
    lines = seen.read_text()
    assert "ansible-playbook drill.yml" in lines
    assert "--from-repository=rest:https://rest.test/web9/ --from-secrets" in lines
    assert json.loads(docker.stdin)["environment"] == FROM_ELSEWHERE["from_environment"]
    assert CANARY not in lines + run.stdout + run.stderr


def test_an_address_with_a_password_reaches_no_host(fleet: Fleet, tmp_path: Path) -> None:
    docker = fleet.host("web1")
    given = {**FROM_ELSEWHERE, "from_repository": ADDRESS, "db": "scalr-foo-db"}

    run = fleet.run("restore", "-vvv", "-e", vars_file(tmp_path, **given))

    assert run.returncode != 0
    assert "The address in from_repository contains a password" in run.stdout
    assert "RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD in from_environment" in run.stdout
    assert docker.calls == []
    assert "canary" not in run.stdout + run.stderr


def test_one_of_the_inventory_is_refused_where_it_would_be_used(fleet: Fleet) -> None:
    docker = fleet.host("web1")
    fleet.unreachable_host("web9")
    fleet.hosts["web9"] |= {"backup_repository": ADDRESS, "backup_password": "canary of the repository"}

    run = fleet.run("restore", "-vvv", "--limit", "web1", db="scalr-foo-db", from_host="web9", target="scalr-foo-db")

    assert run.returncode != 0
    assert "The address in from_repository contains a password" in run.stdout
    assert docker.calls == []
    assert "canary" not in run.stdout + run.stderr


def test_neither_does_one_go_to_the_trusted_place(fleet: Fleet) -> None:
    vault = fleet.host("vault1")
    fleet.unreachable_host("web1")
    fleet.hosts["web1"] |= {
        "backup_append_only": True,
        "backup_repository": "rest:https://rest.test/web1/",
        "backup_prune_from": "vault1",
        "backup_password": "canary of the repository",
        "backup_image": f"registry.test/agent@sha256:{'5f0c' * 16}",
        "backup_prune_repository": ADDRESS,
    }

    run = fleet.run("prune", "-vvv", "--limit", "web1")

    assert run.returncode != 0
    assert "The address in backup_prune_repository contains a password" in run.stdout
    assert vault.calls == []
    assert "canary" not in run.stdout + run.stderr


def test_what_a_taken_host_says_neither_steers_the_terminal_nor_shows_what_opens_a_store(fleet: Fleet) -> None:
    said = "No\x9b2J\x1b]0;x\x07\u202e way to rest:https://u:p@canary/1@rest.test/\u2028really"
    answer = {"databases": [], "warnings": [said]}
    fleet.host("web1").agent_returns(answer, exit_code=1, error=("failed", said))

    run = fleet.run("check")

    shown = run.stdout + run.stderr
    assert "No?2J?]0;x?? way to rest:https://u:***@rest.test/?really" in shown
    assert not [sign for sign in "\x9b\x1b\u202e\u2028" if sign in shown]
    assert "canary" not in shown


def test_neither_does_its_status(fleet: Fleet) -> None:
    answer = {"healthy": False, "databases": [], "findings": [], "summary": "All is\x9b lost.\u202e"}
    fleet.host("web1").agent_returns(answer, to="status")

    run = fleet.run("status")

    assert "All is? lost.?" in run.stdout
    assert not [sign for sign in "\x9b\u202e" if sign in run.stdout + run.stderr]


BUILDS = """
- name: Build the image
  hosts: all
  gather_facts: false
  tasks:
    - name: Build it
      ansible.builtin.include_role: {name: scalr.backup.backup, tasks_from: build}
      vars:
        __backup_context: "{{ __backup_context_source | scalr.backup.build_context(__backup_build_args) }}"
"""


def test_a_hidden_output_does_not_hide_why_the_build_context_was_not_copied(fleet: Fleet, tmp_path: Path) -> None:
    fleet.host("web1")
    (tmp_path / "file").write_text("")
    (tmp_path / "build.yml").write_text(BUILDS)

    run = fleet.run(f"{tmp_path}/build", backup_directory=f"{tmp_path}/file")

    assert run.returncode == 2
    sentence = f"Failed to copy the build context to {tmp_path}/file/image on web1 (mkdir: "
    assert sentence in " ".join(run.stdout.split()), run.stdout


# What a rescue of whoever includes these tells of a failure: rotate_password.yml, and container.yml.
RESCUED = ["rotate.yml", "write.yml"]


def hidden(tasks: list[dict[str, Any]], is_rescued: bool = False) -> Iterator[dict[str, Any]]:
    """The tasks whose failure would be hidden with their output."""
    for task in tasks:
        yield from hidden(task.get("block", []), is_rescued or "rescue" in task)
        fails = "ansible.builtin.set_fact" not in task and task.get("failed_when") is not False
        if task.get("no_log") is True and fails and not is_rescued:
            yield task


def test_where_an_output_is_hidden_a_sentence_says_what_failed(checkout: Path) -> None:
    files = [path for path in checkout.glob("roles/*/tasks/*.yml") if path.name not in RESCUED]
    unsaid = [task["name"] for path in files for task in hidden(yaml.safe_load(path.read_text()))]
    assert unsaid == []
