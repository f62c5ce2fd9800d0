# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._volumes import ownership_command

DOCUMENTATION = r"""
name: ownership_command
short_description: Find or change what another user owns in volumes
version_added: 0.5.0
description:
  - Returns a docker command that runs C(find) in a container with these volumes.
positional: _input, image, user
options:
  _input:
    description: The volumes and directories as C(key), each with its name in the container as C(value).
    type: list
    elements: dict
    required: true
  image:
    description: The image to run.
    type: str
    required: true
  user:
    description: The id of the user and of the group that should own everything.
    type: int
    required: true
  change:
    description: Whether to change the owner, instead of printing the first file that another user owns.
    type: bool
    default: false
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Look for files that another user owns
  ansible.builtin.command:
    argv: "{{ [{'key': 'scalr-backup-state', 'value': 'state'}] | scalr.backup.ownership_command('scalr-backup:0.4.0', 64738) }}"
"""

RETURN = r"""
_value:
  description: The command.
  type: list
  elements: str
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"ownership_command": ownership_command}
