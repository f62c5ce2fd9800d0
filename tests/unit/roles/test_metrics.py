"""Where role backup lets others watch the agent."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("variables", "port", "published"),
    [
        ({}, 0, []),
        ({"backup_metrics_port": "9797"}, 9797, []),
        ({"backup_metrics_publish": "127.0.0.1:9797"}, 9797, ["127.0.0.1:9797:9797"]),
        ({"backup_metrics_publish": "[fd00::1]:9797"}, 9797, ["[fd00::1]:9797:9797"]),
        ({"backup_metrics_publish": "127.0.0.1:80", "backup_metrics_port": 9797}, 9797, ["127.0.0.1:80:9797"]),
    ],
)
def test_the_port_is_published_only_where_that_is_wanted(
    derived: Any, variables: dict[str, Any], port: int, published: list[str]
) -> None:
    assert int(derived("__backup_metrics_port", **variables)) == port
    assert derived("__backup_published_ports", **variables) == published


NODE = "/var/lib/node_exporter"


@pytest.mark.parametrize(
    ("before", "now", "state", "left"),
    [
        ("", NODE, "present", []),
        (NODE, f"{NODE}/", "present", []),
        (NODE, "", "present", [f"{NODE}/scalr_backup.prom", f"{NODE}/.scalr-backup"]),
        (NODE, "/elsewhere", "present", [f"{NODE}/scalr_backup.prom", f"{NODE}/.scalr-backup"]),
        (NODE, NODE, "absent", [f"{NODE}/scalr_backup.prom", f"{NODE}/.scalr-backup"]),
    ],
)
def test_a_file_that_nobody_writes_any_more_does_not_stay(
    derived: Any, before: str, now: str, state: str, left: list[str]
) -> None:
    """It would go on telling that all was well."""
    known = {"__backup_old_config": {"metrics_textfile": before} if before else {}}
    assert derived("__backup_textfile_left", backup_metrics_textfile=now, backup_state=state, **known) == left


def test_the_agent_gets_its_own_directory_and_no_other(derived: Any) -> None:
    mounted = derived("__backup_textfile_volumes", backup_metrics_textfile=f"{NODE}/")
    assert mounted == [f"{NODE}/.scalr-backup:/run/scalr-backup-textfile"]
