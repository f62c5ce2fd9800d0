"""The demonstration, as a newcomer runs it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import docker
from tests.support.controller import AGENT, CHECKOUT
from tests.support.documented import documented

DIRECTORY = Path("/opt/scalr/services/backup")
PASSWORD = Path("~/.config/scalr-backup/localhost.password").expanduser()
VOLUME = f"{AGENT}-repository"


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


@pytest.mark.timeout(900)
def test_the_demonstration_proves_itself_and_cleans_up(untouched_machine: None) -> None:
    output = run(documented("make demo"))

    tables = re.findall(r"^TABLE .*\n((?:\S+ +\d+ +[0-9a-f]+\n)+)", output, re.MULTILINE)
    before, damaged, after = (dict(re.findall(r"^(\S+) +(\d+ +\S+)$", table, re.MULTILINE)) for table in tables)
    assert before == after
    assert "order_lines" in set(before) - set(damaged)
    assert before["customers"] != damaged["customers"]
    assert sum(int(row.split()[0]) for table, row in before.items() if table != "(definitions)") > 2_000_000
    assert "PROVED: before and after are the same" in output
    assert re.search(r"localhost +scalr-demo-db +shop +ok ", output)
    assert PASSWORD.read_text().strip() not in output

    assert "stay" in run(documented("demo/clean"))
    assert left_on_the_machine() == [AGENT, f"volume {VOLUME}", str(DIRECTORY), str(PASSWORD)]
    assert "Removed: the agent" in run(documented("demo/clean --agent"))
    assert left_on_the_machine() == []


def run(command: str) -> str:
    """Run a command of the documentation at the top of the checkout."""
    done = subprocess.run(
        command.split(), cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
