# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Lines that fit the terminal in which somebody reads them."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence

from ansible import constants
from ansible.utils import color
from ansible.utils.display import Display

# What Ansible takes for the width where there is no terminal.
_GRANTED = 80
# What stands where a cell has nothing to say.
MISSING = "-"
# A column is not made narrower than this to keep a table.
_LEAST = 24
# So many of the first columns say which row it is, and how it is.
_HEADING = 4
_INDENT = "    "


def terminal_width() -> int | None:
    """How many columns the terminal has that Ansible writes to; None where it writes to a file or another program.

    Plugins run in processes that have no terminal of their own: what Ansible itself has found out is all that there is.
    """
    width = int(Display().columns) + 1
    # A pipeline's log may be in colours, too; then Ansible takes 80 columns for granted.
    is_asked_for = bool(constants.ANSIBLE_FORCE_COLOR) and width == _GRANTED
    return width if color.ANSIBLE_COLOR and not is_asked_for else None


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def prose(sentence: str) -> list[str]:
    """A sentence in lines that fit the terminal; where there is none, one line."""
    width = terminal_width()
    if not width or columns_of(sentence) <= width:
        return [sentence]
    indent = " " * (len(sentence) - len(sentence.lstrip()))
    return textwrap.wrap(
        sentence.strip(), width, initial_indent=indent, subsequent_indent=_INDENT, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip


def narrower(widths: Sequence[int], width: int) -> list[int] | None:
    """The widths of a table's columns with the widest made narrower, so that all fit; None where it would be too narrow."""
    widest = max(range(len(widths)), key=widths.__getitem__)
    room = widths[widest] - (sum(widths) + 2 * (len(widths) - 1) - width)
    return [room if number == widest else one for number, one in enumerate(widths)] if room >= _LEAST else None


def folded(cells: Sequence[str], widths: Sequence[int]) -> list[list[str]]:
    """A row as several lines, where a cell is wider than its column."""
    parts = [
        [cell] if columns_of(cell) <= width else _wrapped(cell, width)
        for cell, width in zip(cells, widths, strict=True)
    ]
    height = max(map(len, parts))
    return [[part[line] if line < len(part) else "" for part in parts] for line in range(height)]


def _wrapped(cell: str, width: int) -> list[str]:
    lines = textwrap.wrap(cell, width, break_on_hyphens=False)
    if any(columns_of(line) > width for line in lines):
        # It is letters that are counted, and there are none that take more than two columns.
        lines = textwrap.wrap(cell, width // 2, break_on_hyphens=False)
    return lines or [cell]


def record(header: Sequence[str], cells: Sequence[str], to_the_right: Sequence[bool], width: int) -> list[str]:
    """A row that is too wide for a table: what it is about in its first line, and what else is known below, by name."""
    words = [*to_the_right, True].index(True)
    said_first = max(1, min(words, _HEADING))
    heading = "  ".join(cell for cell in cells[:said_first] if cell != MISSING)
    others = zip(header[said_first:], cells[said_first:], strict=True)
    known = [f"{name.lower()} {cell}" for name, cell in others if cell != MISSING]
    lines = textwrap.wrap(heading, width, subsequent_indent=_INDENT, break_on_hyphens=False)
    line = ""
    for number, one in enumerate(known):
        said = one if number == len(known) - 1 else f"{one};"
        if line and len(_INDENT) + columns_of(f"{line} {said}") > width:
            lines.append(_INDENT + line)
            line = ""
        line = f"{line} {said}".strip()
    return [*lines, _INDENT + line] if line else lines
