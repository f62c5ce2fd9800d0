# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._recovery_kit import kit_passwords

DOCUMENTATION = r"""
name: kit_passwords
short_description: Generate a recovery kit's passwords for a host's repositories
version_added: 0.6.0
description:
  - Generates a password for each of a host's repositories, the second repository last.
  - Hosts get the same password for a repository only if the inventory declares that repository for each of them.
positional: _input, host, declared, seed
options:
  _input:
    description: The agent's configuration.
    type: dict
    required: true
  host:
    description: The host's name in the inventory.
    type: str
    required: true
  declared:
    description: The addresses of its repositories in the inventory, the second repository last.
    type: list
    elements: str
    required: true
  seed:
    description: A random string. Anyone who knows it can derive every password of the kit.
    type: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Count the passwords
  ansible.builtin.debug:
    msg: "{{ config | scalr.backup.kit_passwords(inventory_hostname, [backup_repository], seed) | length }}"
"""

RETURN = r"""
_value:
  description: The passwords.
  type: list
  elements: str
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"kit_passwords": kit_passwords}
