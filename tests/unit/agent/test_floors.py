"""The agent's house: imports go down only, and each external tool has one file that knows it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "roles/backup/files/agent/scalr_backup"

GROUND = {
    "__init__",
    "model",
    "store",
    "errors",
    "endings",
    "config",
    "memory",
    "progress",
    "remedies",
    "recognition",
    "sql",
    "archive",
    "schedule",
    "stopping",
    "roles",
    "room",
    "jobs",
    "logs",
    "place",
    "together",
    "words",
}
TOOLS = {
    "blockers",
    "docker_host",
    "engine_silence",
    "heartbeat",
    "history",
    "metrics",
    "notify",
    "postgres",
    "restic",
    "runs",
    "state",
    "volumes",
}
USE_CASES = {
    "backup",
    "copies",
    "courier",
    "discovery",
    "drill",
    "drill_plan",
    "dump",
    "findings",
    "fill",
    "keys",
    "known_roles",
    "leftovers",
    "maintenance",
    "manifest",
    "opening",
    "missing",
    "producer",
    "restore",
    "restore_plan",
    "room_watch",
    "retention",
    "saved_roles",
    "selection",
    "use_case",
    "status",
    "suspects",
    "swap",
    "undo",
    "watch",
}
DOORS = {"cli", "lookout", "metrics_server", "options", "output", "serve", "__main__"}
FLOORS = [GROUND, TOOLS, USE_CASES, DOORS]

# What a use case must not touch, and the files that may: the tools, the server that runs a pass as a process of
# its own, and nobody else.
OUTSIDE_WORLD = {"subprocess", "socket", "docker", "requests"}
MAY_TOUCH_IT = {"docker_host", "engine_silence", "heartbeat", "restic", "serve"}


def modules() -> list[Path]:
    return sorted(PACKAGE.glob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, ours by their own name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "scalr_backup":
            found |= {f"scalr_backup.{alias.name}" for alias in node.names if (PACKAGE / f"{alias.name}.py").exists()}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def floor_of(name: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if name in floor)


def test_every_file_has_its_floor():
    assert {path.stem for path in modules()} == set().union(*FLOORS)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_imports_go_down_only(path):
    ours = {name.removeprefix("scalr_backup.") for name in imports(path) if name.startswith("scalr_backup.")}
    above = {name for name in ours if floor_of(name) > floor_of(path.stem)}
    assert not above


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_only_the_tools_touch_the_outside_world(path):
    touched = {name.partition(".")[0] for name in imports(path)} & OUTSIDE_WORLD
    assert path.stem in MAY_TOUCH_IT or not touched
