# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._host import hostname

DOCUMENTATION = r"""
name: hostname
short_description: Turn a host's name in the inventory into a hostname
version_added: 0.5.0
description:
  - Returns the name if it is a hostname. Otherwise, returns a similar hostname that no other host gets.
options:
  _input:
    description: The host's name in the inventory.
    type: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show what the agent's container is called inside
  ansible.builtin.debug:
    msg: "{{ inventory_hostname | scalr.backup.hostname }}"
"""

RETURN = r"""
_value:
  description: The hostname.
  type: str
  sample: web1
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"hostname": hostname}
