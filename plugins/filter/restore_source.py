# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._restore_source import restore_source

DOCUMENTATION = r"""
name: restore_source
short_description: Find the repository with another host's snapshots
version_added: 0.4.0
description:
  - Returns where another host's snapshots are, from the options or from the inventory. Reads no secret.
positional: _input, hostvars, host, own
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
  own:
    description: The repository of the host that restores.
    type: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show where web9's snapshots are
  ansible.builtin.debug:
    msg: "{{ (given | scalr.backup.restore_source(hostvars, inventory_hostname, backup_repository)).repository }}"
  vars:
    given: {host: web9, from_copy: false, repository: '', password: '', environment: {}}
"""

RETURN = r"""
_value:
  description:
    - C(repository), empty if it is the host's own.
    - C(password_file), where the controller may keep its password; empty if it is not needed.
  type: dict
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"restore_source": restore_source}
