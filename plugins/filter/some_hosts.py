# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._hosts import some_hosts

DOCUMENTATION = r"""
name: some_hosts
short_description: Fail if a pattern matches no hosts
version_added: 0.8.0
description:
  - Returns a pattern of hosts as it is, and fails if no host of the inventory matches it.
  - Ansible itself skips a play without hosts and calls that a success.
positional: groups, limit
options:
  _input:
    description: The pattern, or a list of patterns.
    type: raw
    required: true
  groups:
    description: The hosts of each group, as in the variable C(groups).
    type: dict
    required: true
  limit:
    description: The value of C(--limit), as in the variable C(ansible_limit).
    type: str
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Fail if there is no host to work on
  hosts: "{{ backup_hosts | default('all') | scalr.backup.some_hosts(groups, ansible_limit | default('')) }}"
"""

RETURN = r"""
_value:
  description: The pattern.
  type: raw
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"some_hosts": some_hosts}
