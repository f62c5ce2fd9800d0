# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._recovery_kit import escrow_objection

DOCUMENTATION = r"""
name: escrow_objection
short_description: Find out whether hosts with different repositories have the same password for the safe
version_added: 0.6.0
description:
  - Explains why C(backup_escrow_password) cannot be used on a host, in one sentence that does not show it.
  - Each host learns the password that opens its repository, so hosts may have the same one only if they have the same
    repositories.
positional: _input, hosts, host, chosen, declared
options:
  _input:
    description: The variables of all hosts.
    type: dict
    required: true
  hosts:
    description: The hosts that are backed up.
    type: list
    elements: str
    required: true
  host:
    description: The host's name in the inventory.
    type: str
    required: true
  chosen:
    description: Its C(backup_escrow_password).
    type: str
    required: true
  declared:
    description: The addresses of its repositories in the inventory.
    type: list
    elements: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show what is wrong with the password
  ansible.builtin.debug:
    msg: "{{ hostvars | scalr.backup.escrow_objection(groups['all'], inventory_hostname, password, [backup_repository]) }}"
"""

RETURN = r"""
_value:
  description: The sentence; empty if nothing is wrong.
  type: str
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"escrow_objection": escrow_objection}
