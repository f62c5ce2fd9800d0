"""Style and types are tests like others: each tool must find nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "yamllint": ["yamllint", "--strict", "."],
    "shellcheck": ["shellcheck"],
    # Packages are pinned all at once, by the moment of Debian's archive that backup_apt_snapshot names.
    "hadolint": ["hadolint", "--no-color", "--ignore", "DL3008", "--failure-threshold", "warning"],
    # Offline, because a test asks nobody.
    "zizmor": ["zizmor", "--offline", "--no-progress", "--quiet", "--persona", "pedantic", ".github/workflows"],
    "reuse": ["reuse", "lint", "--lines"],
    "ansible-lint": ["ansible-lint", "--nocolor"],
}


def files(checkout: Path) -> list[str]:
    """What is in the checkout, with what is not committed yet."""
    return subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=checkout,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()


def shell_scripts(checkout: Path) -> list[str]:
    """Find the scripts by their first line, because most have no suffix."""
    return [name for name in files(checkout) if is_shell_script(checkout / name)]


def dockerfiles(checkout: Path) -> list[str]:
    return [name for name in files(checkout) if Path(name).name == "Dockerfile" and (checkout / name).is_file()]


def is_shell_script(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline()
    return first.startswith(b"#!") and first.rstrip().endswith((b"/bash", b"/sh", b" bash", b" sh"))


OF_FILES = {"shellcheck": shell_scripts, "hadolint": dockerfiles}


@pytest.mark.parametrize("tool", TOOLS)
def test_finds_nothing(tool: str, checkout: Path) -> None:
    command = TOOLS[tool]
    if tool in OF_FILES:
        command = [*command, *OF_FILES[tool](checkout)]
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [programs / command[0], *command[1:]],
        cwd=checkout,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
    )
    if done.returncode:
        pytest.fail(f"{tool} has something to say:\n{done.stdout}\n{done.stderr}", pytrace=False)


@pytest.mark.timeout(1800)
def test_ansible_test_finds_nothing(checkout: Path) -> None:
    """On the collection as it is built: what Galaxy and Automation Hub ask for."""
    done = subprocess.run([checkout / "tests" / "sanity" / "run"], check=False, capture_output=True, text=True)
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("ERROR", "FATAL"))]
    if done.returncode:
        pytest.fail("\n".join(errors or [done.stdout, done.stderr]), pytrace=False)
