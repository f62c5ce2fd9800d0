# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._units import human_duration

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


def duration(seconds: float | str | None) -> str | None:
    """A number of seconds in words."""
    return None if seconds is None else human_duration(float(seconds))


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"duration": duration}
