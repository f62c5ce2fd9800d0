"""Molecule's scenarios, each a test: the roles against machines that are not this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scenario", ["default"])
def test_scenario(scenario: str, checkout: Path) -> None:
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [programs / "molecule", "--base-config", ".config/molecule/config.yml", "test", "--scenario-name", scenario],
        cwd=checkout,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "MOLECULE_GLOB": "molecule/*/molecule.yml"},
    )
    if done.returncode:
        pytest.fail(f"molecule test --scenario-name {scenario}:\n{done.stdout}", pytrace=False)
