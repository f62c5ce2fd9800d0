# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._host import drill_moment

DOCUMENTATION = r"""
name: drill_moment
short_description: Find out when a host drills
version_added: 0.5.0
description:
  - Returns the given day and time, or else the host's own, which are derived from its name.
positional: _input, day, time
options:
  _input:
    description: The host's name in the inventory.
    type: str
    required: true
  day:
    description: A day of the month; 0 for the host's own.
    type: int
    required: true
  time:
    description: A time, or an empty string for the host's own.
    type: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show the day
  ansible.builtin.debug:
    msg: "{{ (inventory_hostname | scalr.backup.drill_moment(0, '14:30')).day }}"
"""

RETURN = r"""
_value:
  description: The C(day) of the month, the C(hour) and the C(minute).
  type: dict
  sample: {day: 17, hour: 14, minute: 30}
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"drill_moment": drill_moment}
