# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

DOCUMENTATION = r"""
name: duration
short_description: Format a number of seconds
version_added: 0.1.0
description:
  - Turns a number of seconds into its two largest units, such as C(3 h 12 min).
options:
  _input:
    description: The seconds. None stays none.
    type: float
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show how old the backup is
  ansible.builtin.debug:
    msg: "{{ 11549 | scalr.backup.duration }} old"
"""

RETURN = r"""
_value:
  description: The words.
  type: str
  sample: 3 h 12 min
"""

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


@overload
def duration(seconds: None) -> None: ...


@overload
def duration(seconds: float | str) -> str: ...


def duration(seconds: float | str | None) -> str | None:
    """A number of seconds in words."""
    if seconds is None:
        return None
    seconds = float(seconds)
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    rest = int(seconds)
    words: list[str] = []
    for unit, length in _UNITS:
        count, rest = divmod(rest, length)
        # Two units in a row, beginning with the first that counts; "1 d 5 s" says more than anyone wants to know.
        if count or words:
            words.append(f"{count} {unit}" if count else "")
        if len(words) == 2:
            break
    return " ".join(filter(None, words))


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"duration": duration}
