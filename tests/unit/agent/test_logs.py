# SPDX-License-Identifier: GPL-3.0-or-later
"""What a line of the log may hold is declared, documented, and all that there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import scalr_backup
from scalr_backup.core import logs

CHECKOUT = Path(__file__).resolve().parents[3]
PACKAGE = Path(scalr_backup.__file__).parent
PAGE = CHECKOUT / "docs/logs.md"
# What makes an event, and what writes a line: functions and the methods of a logger.
WRITES = {"log", "debug", "info", "warning", "error"}


def rows(heading: str) -> dict[str, str]:
    """The table of the page that has this heading: the first column's code, and the second column."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    cells = [line.strip("|").split(" | ") for line in table[1].splitlines()]
    return {name.strip(" `"): meaning.strip() for name, meaning in cells}


def written_fields() -> dict[str, str]:
    """Every field that the agent's source gives to a line by name, and where."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _writes(node.func):
                found |= {word.arg: f"{path.name}:{node.lineno}" for word in node.keywords if word.arg}
    return found


def _writes(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id == "log"
    if isinstance(function, ast.Attribute) and function.attr == "_say":
        return True
    return isinstance(function, ast.Attribute) and function.attr in WRITES and "log" in ast.unparse(function.value)


def test_every_field_of_a_line_is_declared() -> None:
    fields = written_fields()
    assert {"run", "job", "exit_code"} <= set(fields)
    assert {name: where for name, where in fields.items() if name not in logs.FIELDS} == {}


def test_the_page_shows_the_fields_and_the_levels_as_they_are_declared() -> None:
    assert rows("field") == logs.FIELDS
    assert rows("level") == logs.LEVEL_MEANINGS
    assert set(logs.LEVEL_MEANINGS) == set(logs.LEVELS)
