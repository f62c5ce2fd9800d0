"""What role backup tells the agent of its host, and the operator of what the agent finds."""

from __future__ import annotations

from typing import Any

import pytest

ALONE = {"all": ["web1"]}


@pytest.mark.parametrize(
    ("variables", "addresses"),
    [
        ({}, []),
        ({"ansible_host": "203.0.113.7"}, ["203.0.113.7"]),
        ({"ansible_host": "203.0.113.7", "ansible_ssh_host": "203.0.113.7"}, ["203.0.113.7"]),
    ],
)
def test_the_agent_knows_the_hosts_addresses(derived: Any, variables: dict[str, Any], addresses: list[str]) -> None:
    assert derived("__backup_config", groups=ALONE, **variables)["host_addresses"] == addresses


@pytest.mark.parametrize(
    ("variables", "days"),
    [
        ({}, 40),
        ({"backup_drill": "false"}, 0),
        ({"backup_drill_overdue_days": "90"}, 90),
        ({"backup_drill_overdue_days": 90, "backup_drill": False}, 0),
    ],
)
def test_where_nothing_drills_nothing_is_overdue(derived: Any, variables: dict[str, Any], days: int) -> None:
    assert derived("__backup_config", groups=ALONE, **variables)["drill_overdue_days"] == days


@pytest.mark.parametrize("said", [True, "true", False, "false"])
def test_a_repository_on_the_host_is_accepted_where_the_operator_says_so(derived: Any, said: bool | str) -> None:
    told = derived("__backup_config", groups=ALONE, backup_repository_on_host_accepted=said)
    assert told["repository_on_host_accepted"] is (said in (True, "true"))


@pytest.mark.parametrize(
    ("discovered", "notes"),
    [
        ({"repository_note": "It lies on this host."}, ["It lies on this host."]),
        ({"repository_note": ""}, []),
        ({}, []),
    ],
)
def test_the_end_of_the_run_says_that_the_repository_lies_on_the_host(
    derived: Any, discovered: dict[str, Any], notes: list[str]
) -> None:
    assert derived("__backup_notes", __backup_discovered=discovered) == notes
