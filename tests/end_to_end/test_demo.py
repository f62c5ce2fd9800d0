"""The demonstration, as a newcomer runs it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import docker
from tests.support.controller import AGENT, CHECKOUT, PROGRAMS
from tests.support.documented import documented
from tests.support.printed import assert_as_shown

DIRECTORY = Path("/opt/scalr/services/backup")
PASSWORD = Path("~/.config/scalr-backup/localhost.password").expanduser()
VOLUME = f"{AGENT}-repository"
TUTORIAL = CHECKOUT / "docs/tutorial.md"


def left_on_the_machine() -> list[str]:
    """What there is of an agent or of the demonstration, under the names that they have by default."""
    names = docker("ps", "--all", "--format", "{{.Names}}").stdout.split()
    volumes = docker("volume", "ls", "--format", "{{.Name}}").stdout.split()
    found = [name for name in ("scalr-demo-db", AGENT) if name in names]
    found += [f"volume {name}" for name in ("scalr-demo-db", VOLUME) if name in volumes]
    return found + [str(path) for path in (DIRECTORY, PASSWORD) if path.exists()]


@pytest.fixture
def untouched_machine() -> Iterator[None]:
    """A machine without an agent of its own; the demonstration uses the default names, and must not meet a real one."""
    if found := left_on_the_machine():
        pytest.skip(f"this machine has an agent or a demonstration already: {', '.join(found)}")
    yield
    subprocess.run(["demo/clean", "--agent"], cwd=CHECKOUT, check=False)


@pytest.mark.timeout(1200)
def test_the_demonstration_proves_itself_and_cleans_up(untouched_machine: None) -> None:
    output = run(documented("make demo"))

    tables = re.findall(r"^TABLE .*\n((?:\S+ +\d+ +[0-9a-f]+\n)+)", output, re.MULTILINE)
    before, damaged, after = (dict(re.findall(r"^(\S+) +(\d+ +\S+)$", table, re.MULTILINE)) for table in tables)
    assert before == after
    assert "order_lines" in set(before) - set(damaged)
    assert before["customers"] != damaged["customers"]
    assert sum(int(row.split()[0]) for table, row in before.items() if table != "(definitions)") > 2_000_000
    assert "PROVED: before and after are identical" in output
    assert re.search(r"localhost +scalr-demo-db +shop +ok ", output)
    assert PASSWORD.read_text().strip() not in output
    the_tutorial_shows_what_was_printed(output)

    assert "stay" in run(documented("demo/clean"))
    assert left_on_the_machine() == [AGENT, f"volume {VOLUME}", str(DIRECTORY), str(PASSWORD)]
    assert "Removed: the agent" in run(documented("demo/clean --agent"))
    assert left_on_the_machine() == []


def the_tutorial_shows_what_was_printed(output: str) -> None:
    """The demonstration's own commands, and then those that the tutorial has beyond them."""
    for command in (
        documented("ansible-playbook site.yml"),
        documented(
            "docker run --detach --name scalr-demo-db --volume scalr-demo-db:/var/lib/postgresql/data "
            "--env POSTGRES_USER=shop --env POSTGRES_PASSWORD=demo postgres:17"
        ),
        documented("docker exec -i scalr-demo-db psql --username shop --quiet < ../demo/shop.sql"),
        documented("ansible-playbook backup.yml -e db=scalr-demo-db"),
        documented("docker exec scalr-demo-db psql --username shop --command 'DROP TABLE order_lines CASCADE'"),
        documented(
            "docker exec scalr-demo-db psql --username shop --command \"UPDATE customers SET name = 'oops'\" "
            "--command 'DELETE FROM events WHERE id % 3 = 0'"
        ),
        documented("ansible-playbook restore.yml -e db=scalr-demo-db -e confirm=scalr-demo-db"),
    ):
        assert f"\n$ {command}\n" in output
        printed = re.split(r"\n(?:\$ |=== )", output.partition(f"\n$ {command}\n")[2])[0]
        if f"{command}\n```\n\n```text" in TUTORIAL.read_text():
            assert_as_shown(TUTORIAL, command, printed)
    for command in (
        documented("docker exec scalr-demo-db psql --username shop --command 'SELECT count(*) FROM order_lines'"),
        documented("ansible-playbook drill.yml -e db=scalr-demo-db"),
        documented("ansible-playbook status.yml"),
    ):
        assert_as_shown(TUTORIAL, command, run(command, CHECKOUT / "playbooks"))


def run(command: str, directory: Path = CHECKOUT) -> str:
    """Run a command of the documentation, at the top of the checkout or elsewhere in it."""
    done = subprocess.run(
        ["bash", "-ec", command],
        cwd=directory,
        env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
