# SPDX-License-Identifier: GPL-3.0-or-later
"""Nights that go wrong, and what a webhook and a dead man's switch are told of them; the words are in ``tests/output/alerts.txt``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.containers import WAIT, AgentContainer, DatabaseContainer, docker, wait_until
from tests.support.pager import TOKEN, Pager

pytestmark = pytest.mark.timeout(600)

MakeDatabase = Callable[..., DatabaseContainer]
PASSWORD = "correct horse battery staple"


@pytest.fixture
def pager() -> Iterator[Pager]:
    pager = Pager()
    yield pager
    pager.server.shutdown()


@pytest.fixture
def night(agent: AgentContainer, make_database: MakeDatabase, pager: Pager) -> Callable[[], None]:
    """An agent that tells a pager of what goes wrong."""
    agent.set_secret("notify", pager.webhook)
    agent.configure(notify_events=["failure", "warning", "recovery"])


@pytest.mark.usefixtures("unlabelled")
def test_every_failure_is_told_with_what_to_run_and_so_is_its_end(
    agent: AgentContainer, make_database: MakeDatabase, pager: Pager, checkout: Path, night: None
) -> None:
    shop, wiki, blog = (make_database(name) for name in ("shop", "wiki", "blog"))
    shop.sql("CREATE TABLE orders AS SELECT generate_series(1, 1000) AS n; CREATE DATABASE ledger")
    shop.sql("CREATE TABLE entries AS SELECT generate_series(1, 10) AS n", "ledger")
    for database in (wiki, blog):
        database.sql("CREATE TABLE pages AS SELECT generate_series(1, 10) AS n")
    agent.ok("backup")
    assert agent.ok("notify", "--test")["tested"] == [{"service": "json (number 1 of backup_notify)", "error": None}]
    assert pager.wait_for("This is a test")["title"] == "[test-host] Test of the backup alerts"
    status = agent.ok("status")
    assert (status["healthy"], status["findings"]) == (True, [])

    # One bad night: a dump that dies, rows and a database that vanish, a container that stands still.
    wiki.wrap("pg_dump", "echo 'pg_dump: error: out of luck' >&2; exit 1")
    shop.sql("DELETE FROM orders WHERE n > 400; DROP DATABASE ledger")
    docker("stop", "--time", "2", blog.name)
    assert agent.call("backup").exit_code == 3

    failed = pager.wait_for("FAILED")
    assert failed["title"] == f"[test-host] FAILED: {wiki.name}/postgres backup failed"
    assert "out of luck" in failed["message"]
    assert "Since: 20" in failed["message"]
    assert "Last good snapshot: 20" in failed["message"]
    assert f"Run next: ansible-playbook scalr.backup.backup --limit test-host -e db={wiki.name}" in failed["message"]
    warned = pager.wait_for("Warning")["message"]
    assert f"{shop.name}/postgres shrank from 1,000 to 400 rows" in warned
    assert f"{shop.name}/ledger was backed up before and is gone." in warned
    assert f"{blog.name} matches but is not backed up, because it is not running." in warned
    assert f"Run next: docker start {blog.name}" in warned
    assert {one["code"] for one in agent.ok("status")["findings"]} == {
        "backup_failed", "database_shrank", "database_gone", "container_stopped",
    }  # fmt: skip

    # The same again is no news.
    told = len(pager.messages)
    assert agent.call("backup", "--db", wiki.name).exit_code == 3
    docker("exec", agent.name, "sleep", "7")
    assert len(pager.messages) == told

    # A pass that cannot open the repository, while the pager itself is out of order.
    pager.refuses = True
    agent.set_password("another one")
    assert agent.call("backup").exit_code == 1
    wait_until(lambda: pager.refused > 0, "the pager refuses a message")
    wait_until(lambda: "not_delivered" in {one["code"] for one in agent.ok("status")["findings"]}, "the status knows")
    pager.refuses = False
    assert agent.ok("notify")["pending"] == 0
    lost = pager.wait_for("The last pass failed")
    assert (
        "What to do: Restore the right one from your copy.\nRun next: ansible-playbook scalr.backup.site --limit test-host"
        in lost["message"]
    )
    assert any(line["event"] == "A message was not delivered." for line in agent.log_lines())

    # All is mended, and said to be.
    agent.set_password(PASSWORD)
    wiki.unwrap("pg_dump")
    docker("start", blog.name)
    wait_until(lambda: agent.call("backup").exit_code == 0, "a good pass")
    over = pager.wait_for("Recovered", "out of luck")
    assert "Resolved after" in over["message"]
    assert agent.ok("status")["healthy"]

    output = checkout / "tests/output/alerts.txt"
    output.parent.mkdir(exist_ok=True)
    output.write_text("\n\n---\n\n".join(f"{one['title']}\n\n{one['message']}" for one in pager.messages) + "\n")
    for told_of in (
        docker("logs", agent.name).stdout,
        json.dumps(agent.ok("status")),
        docker("inspect", agent.name).stdout,
    ):
        assert TOKEN not in told_of


def test_a_scheduled_pass_that_hangs_pages_while_it_does_and_the_dead_mans_switch_hears_of_it(
    agent: AgentContainer, make_database: MakeDatabase, pager: Pager, night: None
) -> None:
    database = make_database("pulse")
    database.sql("CREATE TABLE t AS SELECT 1 AS n")
    database.wrap("pg_dump", f'{WAIT}; exec $real "$@"')
    agent.set_secret("heartbeat", pager.switch)
    agent.configure(schedule="* * * * *", containers=[database.name])
    wait_until(database.reached, "the next minute's pass hangs", 100)
    wait_until(lambda: pager.beats, "the switch hears that it has begun")

    # As if it hung since yesterday.
    yesterday = "State().put(running={'since': (utc_now() - timedelta(hours=13)).isoformat()})"
    imports = "from datetime import timedelta; from scalr_backup.core.clock import utc_now"
    program = f"{imports}; from scalr_backup.tools.state import State; {yesterday}"
    python = ("env", "PYTHONPATH=/opt/scalr-backup/package", "/opt/scalr-backup/bin/python")
    docker("exec", agent.name, *python, "-c", program)
    long = pager.wait_for("pass runs long")
    assert "A pass has been running for 13 h (the limit is 12 h)" in long["message"]
    assert "\nRun next: docker logs --tail 50 scalr-backup\n" in long["message"]
    assert len(pager.beats) == 1

    database.let_go()
    wait_until(lambda: len(pager.beats) >= 2, "it has ended")
    (start, _nothing), (end, summary) = pager.beats[:2]
    assert start.startswith("/start?rid=")
    assert end == start.removeprefix("/start")
    assert "Safe: 1 database" in summary
    pager.wait_for("Recovered", "A pass has been running")
    assert TOKEN not in docker("logs", agent.name).stdout


@pytest.mark.parametrize(
    ("addresses", "sentence"),
    [
        (
            {"notify": ["json://localhost", f"nothing://{TOKEN}@host"]},
            "Apprise does not recognise nothing (number 2 of backup_notify)",
        ),
        ({"heartbeat": f"hc-ping.com/{TOKEN}"}, "backup_heartbeat_url must begin with"),
    ],
)
def test_addresses_that_are_none_are_refused_before_they_are_installed(
    agent_image: str, addresses: dict, sentence: str
) -> None:
    command = ("run", "--rm", "-i", "--network", "none", agent_image, "validate", "--addresses", "--json")
    done = docker(*command, stdin=json.dumps(addresses), check=False)

    assert done.returncode == 2
    assert sentence in json.loads(done.stdout)["error"]["message"]
    assert TOKEN not in done.stdout + done.stderr
