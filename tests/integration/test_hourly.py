# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is backed up every hour: what stays, what a bad hour costs, and when its backups are too old."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker, wait_until

NOTHING = {"last": 0, "hourly": 0, "daily": 0, "weekly": 0, "monthly": 0, "yearly": 0}

# Sets back by so many minutes when everything was last good, as if no pass had come since; the schedule is an old one.
AGE = """
import datetime, json, pathlib, sys
path = pathlib.Path("/var/lib/scalr-backup/state.json")
document = json.loads(path.read_text())
back = datetime.timedelta(minutes=int(sys.argv[1]))
aged = lambda moment: (datetime.datetime.fromisoformat(moment) - back).isoformat()
for entry in document["databases"].values():
    entry["last_success"] = aged(entry["last_success"])
document["schedule"]["since"] = aged(document["schedule"]["since"][:10] + "T00:00:00+00:00")
new = path.with_suffix(".aged")
new.write_text(json.dumps(document))
new.replace(path)
"""


class Hourly:
    """An agent with an hourly schedule, and its database."""

    def __init__(self, agent: AgentContainer, database: DatabaseContainer) -> None:
        self.agent, self.database = agent, database
        # None of its passes comes due while the tests make their own.
        self.schedule = f"{(datetime.now(UTC).minute + 40) % 60} * * * *"
        self.configure({"hourly": 3})
        events = lambda: {line["event"] for line in agent.log_lines()}  # noqa: E731
        wait_until(lambda: "The configuration has changed." in events(), "the agent has noticed the schedule")

    def configure(self, keep: dict[str, int]) -> None:
        """Back up every hour, with these rules."""
        self.agent.configure(schedule=self.schedule, keep={**NOTHING, **keep})

    def plant(self, moment: datetime, name: str) -> None:
        """Add the snapshot of an earlier hour, as a pass of then would have."""
        self.agent.restic(
            "backup", "--quiet", "--host", "test-host", "--tag", "nightly", "--tag", f"run={name}",
            "--time", f"{moment:%Y-%m-%d %H:%M:%S}", "--stdin-filename", f"/{self.database.name}/postgres.dump",
            "--stdin-from-command", "--", "echo", f"as of {moment:%H:%M}",
        )  # fmt: skip

    def hours(self) -> list[datetime]:
        """When the snapshots of the database were made, the earliest first."""
        listed = self.agent.ok("snapshots", "--db", self.database.name)["snapshots"]
        return sorted(datetime.fromisoformat(one["time"]) for one in listed)

    def age(self, minutes: int) -> None:
        """Let time go by without a pass."""
        docker("exec", self.agent.name, "/opt/scalr-backup/bin/python", "-c", AGE, str(minutes))

    def status(self) -> dict[str, Any]:
        return self.agent.call("status").data


@pytest.fixture(scope="module")
def host(keeper: AgentContainer, make_database: Callable[..., DatabaseContainer]) -> Hourly:
    database = make_database("hourly")
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id")
    return Hourly(keeper, database)


def test_an_hourly_host_keeps_hours_and_a_bad_one_costs_none_of_them(host: Hourly) -> None:
    now = datetime.now(UTC)
    # In two of the hours there are two of them, of which the later one stays as long as that hour is among the last.
    planted = [
        now.replace(minute=minute, second=0, microsecond=0) - timedelta(hours=back)
        for back, minute in ((4, 35), (3, 5), (3, 35), (2, 35), (1, 5), (1, 35))
    ]
    for moment in planted:
        host.plant(moment, f"planted-{moment:%d%H%M}")

    # A pass in which the dump dies, twice in one hour: nothing of the database goes, and nothing of it is added.
    host.database.wrap("pg_dump", "exit 1")
    for _rerun in range(2):
        call = host.agent.call("backup", "--reason", "nightly", "--db", host.database.name)
        assert call.exit_code != 0, call.output
        assert len(host.hours()) == len(planted)
    host.database.unwrap("pg_dump")

    # Then a good one, and another that by now may be of the same hour or not: it takes the place of none of another hour.
    for _rerun in range(2):
        before = host.hours()
        host.agent.ok("backup", "--reason", "nightly", "--db", host.database.name)
        kept = host.hours()
        assert kept[-1] > before[-1]
        assert kept == stays([*before, kept[-1]])
    assert len({hour(moment) for moment in kept}) == 3


def hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def stays(moments: list[datetime]) -> list[datetime]:
    """What restic keeps by the rule hourly 3: the last of each of the last three hours that have any."""
    return list({hour(moment): moment for moment in moments}.values())[-3:]


def test_an_hourly_host_is_judged_by_the_hour(host: Hourly) -> None:
    host.agent.ok("backup", "--reason", "nightly", "--db", host.database.name)
    status = host.status()
    assert (status["schedule"], status["schedule_interval_seconds"]) == (host.schedule, 3600)
    assert status["healthy"], status["problems"]
    [judged] = status["databases"]
    may_be = datetime.fromisoformat(judged["overdue_at"]) - datetime.fromisoformat(judged["last_success"])
    assert timedelta(minutes=90) <= may_be <= timedelta(minutes=91)
    said = host.agent.ok("health")["summary"]
    assert said == f"Good backups as young as the schedule {host.schedule} asks: all 1 database."

    host.age(80)
    assert host.agent.call("health").exit_code == 0
    host.age(15)
    assert host.agent.call("health").exit_code == 1
    [finding] = [one for one in host.status()["findings"] if one["code"] == "backup_too_old"]
    assert f"due since (schedule {host.schedule})" in finding["message"]


def test_an_hourly_host_says_if_its_rules_throw_hours_away(host: Hourly) -> None:
    host.configure({"daily": 7})
    notes = host.agent.ok("discover")["notes"]
    assert any("of which backup_keep keeps 1:" in note for note in notes), notes
    host.configure({"hourly": 48, "daily": 7})
    assert host.agent.ok("discover")["notes"] == []
