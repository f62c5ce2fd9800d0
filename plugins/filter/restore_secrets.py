# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._restore_source import restore_secrets

DOCUMENTATION = r"""
name: restore_secrets
short_description: Find the secrets of another host's repository
version_added: 0.4.0
description:
  - Takes the password and the environment of another host's repository from the options, or from the inventory.
positional: _input, hostvars, host, repository, kept
options:
  _input:
    description: The options, C(host), C(from_copy), C(repository), C(password) and C(environment); those not given are empty.
    type: dict
    required: true
  hostvars:
    description: The variables of all hosts. Only those needed are read from the other host.
    type: dict
    required: true
  host:
    description: The host that restores.
    type: str
    required: true
  repository:
    description: The repository, as P(scalr.backup.restore_source#filter) returns it; empty if it is the host's own.
    type: str
    required: true
  kept:
    description: Content of the file in which the controller keeps the password.
    type: str
    default: ''
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Restore from the repository of another host
  scalr.backup.database_restore:
    db: scalr-foo-db
    from_host: web9
    from_repository: "{{ repository }}"
    from_password: "{{ (given | scalr.backup.restore_secrets(hostvars, inventory_hostname, repository)).password }}"
"""

RETURN = r"""
_value:
  description: C(password), and C(environment), the variables of the store; both empty if the agent's own are used.
  type: dict
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"restore_secrets": restore_secrets}
