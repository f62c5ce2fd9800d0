"""Molecule's scenarios, each a test: the roles against machines that are not this one.

What a scenario has said, its tables of backups, stores and times among it, is in ``tests/output`` afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.containers import far_hour


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "scenario",
    # Each store is backed up to and restored from by the agent and by the role in other tests, every time; so is a host that
    # is gone, and one of several that does not answer.
    ["default", "upgrade", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("fleet", "stores"))],
)
def test_scenario(scenario: str, checkout: Path) -> None:
    programs = Path(sys.executable).parent
    settings = {"MOLECULE_GLOB": "molecule/*/molecule.yml", "NO_COLOR": "1", "SCALR_TEST_HOUR": str(far_hour())}
    command = ["molecule", "--base-config", ".config/molecule/config.yml", "test", "--scenario-name", scenario]
    path = f"{programs}:{os.environ['PATH']}"
    transcript = checkout / "tests" / "output" / f"molecule-{scenario}.log"
    transcript.parent.mkdir(exist_ok=True)
    with transcript.open("w") as output:
        done = subprocess.run(
            [programs / command[0], *command[1:]],
            cwd=checkout,
            check=False,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": path, **settings},
        )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}:\n{transcript.read_text()}", pytrace=False)
