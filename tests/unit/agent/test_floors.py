"""The agent's house: a file's floor is in its path, imports go down only, and what lies outside has files that know it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "roles/backup/files/agent/scalr_backup"

# From the ground up. The one front door may open the other, and nobody below knows of either.
FLOORS = ("core", "tools", "actions", "service", "cli")

# The libraries that reach out of the process, and the paths that may: the tools, and the server that runs a pass as a
# process of its own.
OUTSIDE_WORLD = {
    "docker": ("tools/docker/",),
    "requests": ("tools/docker/", "tools/heartbeat.py", "tools/store/"),
    "socket": ("tools/docker/", "tools/store/"),
    "subprocess": ("tools/restic/", "service/server.py"),
}
# Actions that work on what is saved already, and the tools that they have no business with: those of databases.
FAR_FROM_DATABASES = ("health", "repository", "retention")
DATABASES = ("tools.docker", "tools.postgres")
MOST_LINES = 500


def name_of(path: Path) -> str:
    """The name of a module below the package, as imports write it; empty for the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
OURS = {f"scalr_backup.{name}" if name else "scalr_backup": name for name in MODULES}
FOLDERS = sorted(path.parent for path in MODULES.values() if path.name == "__init__.py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it; ours in full."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a floor is read off a whole name"
            # What is imported from a folder is a module, or stands in the folder's own file.
            modules = {alias.name for alias in node.names if f"{node.module}.{alias.name}" in OURS}
            found |= {f"{node.module}.{name}" for name in modules}
            if len(modules) < len(node.names):
                found.add(node.module)
    return found


IMPORTS = {name: imports(path) for name, path in MODULES.items()}
OURS_IN = {name: {OURS[one] for one in found if one in OURS} for name, found in IMPORTS.items()}


def floor_of(name: str) -> int:
    """How high a module stands: the package itself below all floors, what Python starts it by above them."""
    return ("", *FLOORS, "__main__").index(name.partition(".")[0])


def test_every_file_is_on_a_floor():
    assert {name.partition(".")[0] for name in MODULES} == {"", "__main__", *FLOORS}
    inhabited = {path.parent for path in MODULES.values()}
    assert inhabited == set(FOLDERS), "Python, and whoever reads the plan, wants to be told of each folder"


@pytest.mark.parametrize("name", MODULES)
def test_only_what_exists_is_imported(name):
    assert {one for one in IMPORTS[name] if one.partition(".")[0] == "scalr_backup"} <= set(OURS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_down_only(name):
    assert not {one for one in OURS_IN[name] if floor_of(one) > floor_of(name)}


def test_no_imports_go_round():
    TopologicalSorter(OURS_IN).prepare()


@pytest.mark.parametrize("name", MODULES)
def test_only_the_tools_touch_the_outside_world(name):
    path = MODULES[name].relative_to(PACKAGE).as_posix()
    touched = {one.partition(".")[0] for one in IMPORTS[name]} & set(OUTSIDE_WORLD)
    assert not {one for one in touched if not path.startswith(OUTSIDE_WORLD[one])}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("actions.")])
def test_who_works_on_what_is_saved_stays_away_from_databases(name):
    far = name.split(".")[1] in FAR_FROM_DATABASES
    assert not far or not {one for one in OURS_IN[name] if one.startswith(DATABASES)}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(PACKAGE).as_posix())
def test_a_folder_says_what_it_is_for_and_does_nothing(folder):
    """Each start of the agent runs this file; who wants a module names the module."""
    tree = ast.parse((folder / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    assert folder == PACKAGE or len(tree.body) == 1


@pytest.mark.parametrize("name", MODULES)
def test_no_file_is_too_long_to_be_read_at_once(name):
    assert len(MODULES[name].read_text().splitlines()) <= MOST_LINES


def test_no_two_classes_share_a_name():
    """Whoever reads a name, in a signature or in a traceback, knows what it is without its path."""
    classes = [
        node.name
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name, count in Counter(name.strip("_") for name in classes).items() if count > 1] == []


def test_a_producer_starts_without_what_it_does_not_need() -> None:
    """One starts for each database, and Python takes a processor longer to read pydantic than pg_dump to dump a small one."""
    program = "import sys; from scalr_backup.actions.backup import producer; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pydantic", "pydantic_core", "typer", "rich", "apprise", "structlog", "prometheus_client"}
