# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._passwords import rotation_neighbours

DOCUMENTATION = r"""
name: rotation_neighbours
short_description: Find the hosts that share a repository
version_added: 0.4.0
description:
  - Returns the other hosts that use one of a host's repositories.
positional: _input, host, repositories
options:
  _input:
    description: The hosts. Each has its name as C(host), and C(repositories).
    type: list
    elements: dict
    required: true
  host:
    description: The host.
    type: str
    required: true
  repositories:
    description: The ids of its repositories.
    type: list
    elements: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: List the hosts that share a repository with this one
  ansible.builtin.debug:
    msg: "{{ hosts | scalr.backup.rotation_neighbours(inventory_hostname, ['5f0c']) }}"
"""

RETURN = r"""
_value:
  description: Their names.
  type: list
  elements: str
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"rotation_neighbours": rotation_neighbours}
