# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._host import machine_facts

DOCUMENTATION = r"""
name: machine_facts
short_description: Parse the facts of a machine
version_added: 0.5.0
description:
  - Parses the output of the first check of a machine, which needs no Python there.
options:
  _input:
    description: The lines, in any order.
    type: list
    elements: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show how much memory there is
  ansible.builtin.debug:
    msg: "{{ (['python=3.11', 'MemTotal:  2048000 kB'] | scalr.backup.machine_facts).memory_mib }}"
"""

RETURN = r"""
_value:
  description:
    - The version of Python, or an empty string, as C(python); C(memory_mib); and C(skew_seconds), which is how far the
      machine's clock is ahead of the controller's.
  type: dict
  sample: {python: '3.11', memory_mib: 2000, skew_seconds: 0}
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"machine_facts": machine_facts}
