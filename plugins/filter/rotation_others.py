# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._passwords import rotation_others

DOCUMENTATION = r"""
name: rotation_others
short_description: Find the hosts that a new password would lock out
version_added: 0.5.0
description:
  - Returns the hosts that may open one of the repositories with the password, and have not been released from it.
positional: _input, released
options:
  _input:
    description: What M(scalr.backup.repository_key_info) returns, for each repository.
    type: list
    elements: dict
    required: true
  released:
    description: The hosts that can do without the password.
    type: list
    elements: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: List the hosts that need the password
  ansible.builtin.debug:
    msg: "{{ [{'shared_with': ['web2', 'web3']}] | scalr.backup.rotation_others(['web3']) }}"
"""

RETURN = r"""
_value:
  description: Their names.
  type: list
  elements: str
  sample: [web2]
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"rotation_others": rotation_others}
