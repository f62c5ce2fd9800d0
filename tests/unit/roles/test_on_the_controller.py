# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As whom the roles and playbooks work on the controller, and what extra variables cannot turn round.

That the controller's files are not root's is seen in a whole run, too (tests/unit/plugins/test_decommission.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

_LISTS = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")
# They work in Ansible's own process, which becomes nobody.
_IN_PROCESS = ("scalr.backup.page",)


def tasks_of(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every task, block and play."""
    for task in found:
        yield task
        for name in _LISTS:
            yield from tasks_of(task.get(name) or [])


def all_tasks(checkout: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every task of the roles and playbooks, with where it is."""
    for path in sorted([*checkout.glob("roles/*/tasks/*.yml"), *checkout.glob("playbooks/*.yml")]):
        for task in tasks_of(yaml.safe_load(path.read_text()) or []):
            yield f"{path.parent.parent.name}/{path.name}: {task.get('name')}", task


def is_on_the_controller(task: dict[str, Any]) -> bool:
    """Whether it may run there."""
    return (
        "delegate_to" in task
        or "local_action" in task
        or task.get("connection") in ("local", "ansible.builtin.local")
        or task.get("hosts") == "localhost"
    )


def test_who_must_not_become_root_on_the_controller_does_not_where_a_variable_says_so(checkout: Path) -> None:
    """``ansible_become: true`` for all hosts beats the keyword, and the implicit localhost has it, too."""
    delegated = [
        (place, task) for place, task in all_tasks(checkout) if is_on_the_controller(task) and "become" in task
    ]
    assert len(delegated) >= 14
    assert [
        place
        for place, task in delegated
        if task["become"] is not True and "ansible_become" not in task.get("vars", {})
    ] == []
    assert {task["vars"]["ansible_become"] for _place, task in delegated if task["become"] is False} == {False}


def test_what_is_delegated_to_the_controller_says_as_whom(checkout: Path) -> None:
    local = [(place, task) for place, task in all_tasks(checkout) if task.get("delegate_to") == "localhost"]
    assert len(local) >= 11
    assert [place for place, task in local if task.get("become") is not False] == []


def test_other_tasks_that_become_nobody_work_in_ansibles_own_process_or_need_no_root(checkout: Path) -> None:
    found = {
        place
        for place, task in all_tasks(checkout)
        if task.get("become") is False
        and "ansible_become" not in task.get("vars", {})
        and not set(_IN_PROCESS) & set(task)
    }
    # Root sees the same as anybody.
    assert found == {"backup/machine.yml: Check Python, the clock and the memory"}


def test_no_task_decides_for_an_operators_variable_where_an_extra_variable_would_win(checkout: Path) -> None:
    """What an include passes by a public name holds only as long as nobody gives that name with ``-e``."""
    specs = [yaml.safe_load(path.read_text()) for path in checkout.glob("roles/*/meta/argument_specs.yml")]
    public = {name for spec in specs for name in spec["argument_specs"]["main"]["options"]}
    assert "backup_drill" in public
    assert [
        (place, name) for place, task in all_tasks(checkout) for name in task.get("vars") or {} if name in public
    ] == []


@pytest.mark.parametrize(
    ("place", "variable", "becomes"),
    [
        ("localhost", {}, False),
        ("localhost", {"ansible_become": True}, False),
        ("vault1", {}, True),
        ("vault1", {"ansible_become": False}, False),
        ("elsewhere", {}, True),
    ],
)
def test_as_whom_a_trusted_place_prunes(derived: Any, place: str, variable: dict[str, Any], becomes: bool) -> None:
    known = {"groups": {"all": ["web1", "vault1"]}, "hostvars": {"vault1": variable, "localhost": variable}}

    assert derived("__backup_prune_becomes", backup_prune_from=place, **known) is becomes
