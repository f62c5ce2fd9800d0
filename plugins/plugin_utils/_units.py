# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""How names, times and sizes are said to people, on the page, in tables and in lines of progress.

The agent has its own copy, ``scalr_backup/core/units.py``, for what it prints itself; a test holds the two together.
"""

from __future__ import annotations

import re
from itertools import pairwise

# What stands where there is nothing to say.
NOTHING = "\N{EN DASH}"
_UNITS_OF_SIZE = ("B", "KiB", "MiB", "GiB", "TiB")
# What is shown as nothing, or as a blank, although it counts as printable: joiners, fillers, and selectors of variants.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_UNITS_OF_TIME = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def printable(said: object) -> str:
    """A text without what could steer its reader: line breaks, control characters, and what turns the direction of writing.

    Whoever may make a database names it, and a server's words may be anything.
    """
    return "".join(character if character.isprintable() else "?" for character in _INVISIBLE.sub("?", str(said)))


def human_bytes(count: float | None) -> str:
    """A size in the units that restic uses, with one decimal from the first KiB on."""
    if count is None:
        return NOTHING
    if count < 0:
        return f"-{human_bytes(-count)}"
    count, exponent = float(round(count)), 0
    if count < 1024:
        return f"{count:.0f} B"
    # What would be rounded to 1024.0 of a unit is 1.0 of the next one.
    while round(count, 1) >= 1024 and exponent < len(_UNITS_OF_SIZE) - 1:
        count /= 1024
        exponent += 1
    return f"{count:.1f} {_UNITS_OF_SIZE[exponent]}"


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number of things: ``1 table``, ``2,000 tables``."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def human_rate(bytes_per_second: float) -> str:
    """How fast bytes go."""
    return f"{human_bytes(bytes_per_second)}/s"


def whole_percent(share: float) -> str:
    """A share in whole percents; not 0 where there is something."""
    return "< 1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def human_duration(seconds: float | None) -> str:
    """How long something took: to a tenth of a second below ten, otherwise in its two largest units."""
    if seconds is None:
        return NOTHING
    # 9.96 would be rounded to 10.0, which has no decimal any more.
    return f"{max(seconds, 0):.1f} s" if round(seconds, 1) < 10 else _in_two_units(round(seconds, 1))


def human_age(seconds: float | None) -> str:
    """How long ago something was, in its two largest units."""
    return "never" if seconds is None else _in_two_units(seconds)


def human_time_left(seconds: float) -> str:
    """How long something will take yet, which is never nothing."""
    return f"{_in_two_units(max(1, round(seconds)))} left"


def human_elapsed(seconds: float) -> str:
    """How long something is under way."""
    return f"{_in_two_units(seconds)} so far"


def _in_two_units(seconds: float) -> str:
    """Whole seconds, in the largest unit that counts and the next one, which is left out when there is none of it."""
    rest = max(0, int(seconds))
    for (unit, length), (smaller, part) in pairwise(_UNITS_OF_TIME):
        if rest >= length:
            count, parts = rest // length, rest % length // part
            return f"{count} {unit} {parts} {smaller}" if parts else f"{count} {unit}"
    return f"{rest} s"
