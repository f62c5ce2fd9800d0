"""When role backup lets which host drill, and with whose help."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

HOSTS = [f"web{number}" for number in range(1000)]


def schedule(derived: Any, host: str, **variables: Any) -> tuple[int, int, int]:
    """Day, hour and minute of a host's drill."""
    moment = derived("__backup_drill_moment", host, **variables)
    return moment["day"], moment["hour"], moment["minute"]


def test_every_host_has_its_own_day_and_time(derived: Any) -> None:
    schedules = [schedule(derived, host) for host in HOSTS]

    assert schedules[:20] == [schedule(derived, host) for host in HOSTS[:20]], "it never changes"
    assert {day for day, _hour, _minute in schedules} == set(range(1, 29))
    # When backups are made, nobody drills.
    assert {hour for _day, hour, _minute in schedules} == {0, *range(5, 24)}
    assert {minute for _day, _hour, minute in schedules} == set(range(60))
    # A thousand hosts spread over 560 hours of the month.
    assert max(Counter((day, hour) for day, hour, _minute in schedules).values()) < 10


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"backup_drill_day": 3, "backup_drill_time": "04:05"}, (3, 4, 5)),
        ({"backup_drill_day": "28", "backup_drill_time": "23:59"}, (28, 23, 59)),
        ({"backup_drill_day": 1, "backup_drill_time": "00:00"}, (1, 0, 0)),
    ],
)
def test_a_given_day_and_time_count(derived: Any, variables: dict[str, Any], expected: tuple[int, int, int]) -> None:
    assert schedule(derived, "web1", **variables) == expected


@pytest.mark.parametrize(
    ("existing", "wanted", "starter"),
    [
        (["/run/systemd/system", "/etc/cron.d", "/usr/sbin/cron"], True, "systemd"),
        (["/etc/cron.d", "/usr/sbin/crond"], True, "cron"),
        (["/etc/cron.d"], True, "nobody"),
        (["/usr/sbin/cron"], True, "nobody"),
        ([], True, "nobody"),
        (["/run/systemd/system"], False, "none"),
        (["/run/systemd/system"], "false", "none"),
    ],
)
def test_who_starts_it(derived: Any, existing: list[str], wanted: Any, starter: str) -> None:
    found = {"stdout_lines": existing}

    assert derived("__backup_starter", __backup_starters=found, backup_drill=wanted) == starter


def test_nobody_starts_that_of_an_agent_that_goes(derived: Any) -> None:
    """An extra variable that wants it beats whatever the role says of it."""
    found = {"stdout_lines": ["/run/systemd/system"]}

    assert derived("__backup_starter", __backup_starters=found, backup_drill=True, backup_state="absent") == "none"


def test_two_engines_of_one_machine_do_not_share_a_timer(derived: Any) -> None:
    """The second one would replace the first one's, and take it away when it goes."""
    assert derived("__backup_units") == ["scalr-backup-drill.service", "scalr-backup-drill.timer"]
    assert derived("__backup_cron_file") == "/etc/cron.d/scalr-backup-drill"

    podman = {"backup_engine_socket": "/run/podman/podman.sock"}
    name = "scalr-backup-drill-run-podman-podman-sock"
    assert derived("__backup_units", **podman) == [f"{name}.service", f"{name}.timer"]
    assert derived("__backup_cron_file", **podman) == f"/etc/cron.d/{name}"
