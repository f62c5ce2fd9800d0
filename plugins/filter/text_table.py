# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.scalr.backup.plugins.plugin_utils._terminal import (
    MISSING,
    columns_of,
    folded,
    narrower,
    record,
    terminal_width,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._units import printable

DOCUMENTATION = r"""
name: text_table
short_description: Format rows as a text table
version_added: 0.1.0
description:
  - Turns a list of rows into the lines of a table with aligned columns.
  - Numbers, and columns that O(right) names, are aligned to the right. A missing value is shown as a dash.
  - If a terminal is too narrow for the table, the widest column is folded; if that is not enough, each row becomes a few
    lines that name what they show.
options:
  _input:
    description: The rows, each a list of cells.
    type: list
    elements: list
    required: true
  header:
    description: The names of the columns.
    type: list
    elements: str
    required: true
  right:
    description: Names of columns to align to the right.
    type: list
    elements: str
    default: []
  width:
    description:
      - How many columns a line may have.
      - The default is the terminal's width. Output to a file or to another program has lines of any length.
    type: int
    version_added: 0.8.0
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show a table
  ansible.builtin.debug:
    msg: "{{ [['web1', 'shop', 3], ['web2', 'wiki', 12]] | scalr.backup.text_table(['HOST', 'APP', 'DATABASES']) }}"
"""

RETURN = r"""
_value:
  description: The lines of the table.
  type: list
  elements: str
"""


def text_table(
    rows: Sequence[Sequence[object]], header: Sequence[str], right: Collection[str] = (), width: int | None = None
) -> list[str]:
    """The lines of a table; of records, a few lines each, where the terminal is too narrow for a table."""
    if not all(len(row) == len(header) for row in rows):
        raise AnsibleFilterError("text_table needs one cell per column in every row.")
    cells = [[_text(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(columns_of, column)) for column in zip(*cells, strict=True)]
    # A column is one of numbers when it holds nothing else: its first row tells.
    to_the_right = [name in right or (bool(rows) and _is_number(rows[0][column])) for column, name in enumerate(header)]
    room = width or terminal_width()
    if room and sum(widths) + 2 * (len(widths) - 1) > room:
        fitting = narrower(widths, room)
        if not fitting:
            return [line for row in cells[1:] for line in record(cells[0], row, to_the_right, room)]
        widths = fitting
    rule = ["-" * width for width in widths]
    folded_rows = [line for row in cells[1:] for line in folded(row, widths)]
    return [_line(row, widths, to_the_right) for row in (cells[0], rule, *folded_rows)]


def _line(cells: Sequence[str], widths: Sequence[int], to_the_right: Sequence[bool]) -> str:
    padded = []
    for cell, width, right in zip(cells, widths, to_the_right, strict=True):
        padding = " " * (width - columns_of(cell))
        padded.append(padding + cell if right else cell + padding)
    return "  ".join(padded).rstrip()


def _text(cell: object) -> str:
    if cell is None or cell == "":
        return MISSING
    # A database's name may hold anything, a line break among it; a row stays one line.
    return printable(cell)


def _is_number(cell: object) -> bool:
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"text_table": text_table}
