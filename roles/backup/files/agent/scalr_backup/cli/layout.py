# SPDX-License-Identifier: GPL-3.0-or-later
"""How a table fits into a terminal: no name is cut, and no time or number is broken, however narrow it is.

What is too wide for one line a row gets its names on a line of their own, and below them the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

# Two names that begin and end alike differ in what would be cut.
_NAMES = ("CONTAINER", "DATABASE")
_TIME = "TIME"
# Only these are wrapped, between words.
_PROSE = ("DATABASES", "RESULT", "KEPT", "WHY", "ROWS COMPARED")
# Where even that is too wide, these have a line of their own below the rest of their row.
_APART = ("KEPT",)
# A sentence in fewer columns is a tower of words.
_LEAST_PROSE = 20
_GAP = 2
_INDENT = 2

Row = Sequence[str]


@dataclass(frozen=True)
class _Column:
    """One column: its heading and cells, and how wide it is at least and at most."""

    heading: str
    cells: Row

    @property
    def most(self) -> int:
        return max(map(cell_len, (self.heading, *self.cells)))

    @property
    def least(self) -> int:
        if self.heading not in _PROSE:
            return self.most
        longest = max((cell_len(word) for cell in (self.heading, *self.cells) for word in cell.split()), default=0)
        return max(longest, min(self.most, _LEAST_PROSE))


def show_table(console: Console, headings: Row, rows: Sequence[Row]) -> None:
    """Print a table in the widest form that fits."""
    columns = [_Column(heading, [row[number] for row in rows]) for number, heading in enumerate(headings)]
    if widths := _widths(columns, console.width):
        console.print(_table(columns, widths, range(len(rows))))
        return
    for above, apart in ((_NAMES, ()), ((*_NAMES, _TIME), ()), (_NAMES, _APART)):
        beside = [column for column in columns if column.heading not in (*above, *apart)]
        if len(beside) < len(columns) and (widths := _widths(beside, console.width - _INDENT)):
            below = [column for column in columns if column.heading in apart]
            _show_below(console, [column for column in columns if column.heading in above], beside, widths, below)
            return
    _show_pairs(console, columns)


def _widths(columns: Sequence[_Column], room: int) -> list[int]:
    """How wide each column is where they fit beside each other; none where they do not."""
    widths = [column.most for column in columns]
    excess = sum(widths) + _GAP * (len(widths) - 1) - room
    while excess > 0:
        spare = [width - column.least for width, column in zip(widths, columns, strict=True)]
        if not any(spare):
            return []
        # The widest of those that can give gives.
        widest = max((number for number, one in enumerate(spare) if one), key=lambda number: widths[number])
        widths[widest] -= 1
        excess -= 1
    return widths


def _table(columns: Sequence[_Column], widths: Sequence[int], rows: Sequence[int], *, header: bool = True) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, show_header=header)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column.heading, width=width, no_wrap=column.heading not in _PROSE)
    for row in rows:
        table.add_row(*(escape(column.cells[row]) for column in columns))
    return table


def _show_below(
    console: Console,
    above: Sequence[_Column],
    beside: Sequence[_Column],
    widths: Sequence[int],
    apart: Sequence[_Column],
) -> None:
    """The names of a row, under them what is known of it, and what has a line of its own."""
    console.print(_title([column.heading for column in above], above), style="bold", highlight=False, soft_wrap=True)
    console.print(Padding(_table(beside, widths, ()), (0, 0, 0, _INDENT)))
    for row in range(len(beside[0].cells)):
        text = _title([column.cells[row] for column in above], above)
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        console.print(Padding(_table(beside, widths, (row,), header=False), (0, 0, 0, _INDENT)))
        for column in apart:
            line = f"{column.heading.lower()} {column.cells[row]}"
            console.print(Padding(escape(line), (0, 0, 0, _INDENT)), highlight=False)


def _title(cells: Row, columns: Sequence[_Column]) -> str:
    """A time where there is one, and the names, as they are written everywhere: container/database."""
    times = [cell for cell, column in zip(cells, columns, strict=True) if column.heading == _TIME]
    names = [cell for cell, column in zip(cells, columns, strict=True) if column.heading != _TIME and cell]
    return (" " * _GAP).join(part for part in (*times, "/".join(names)) if part) or "–"


def _show_pairs(console: Console, columns: Sequence[_Column]) -> None:
    """Each cell on a line of its own, which the terminal folds where it must."""
    width = max(cell_len(column.heading) for column in columns)
    for row in range(len(columns[0].cells)):
        for column in columns:
            if column.cells[row]:
                text = f"{column.heading:{width}}  {column.cells[row]}".strip()
                console.print(text, markup=False, highlight=False, soft_wrap=True)
        console.print()
