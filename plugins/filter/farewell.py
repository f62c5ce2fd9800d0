# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._farewell import farewell

DOCUMENTATION = r"""
name: farewell
short_description: Report what remains of a host's backups without an agent
version_added: 0.5.0
description:
  - Lists what remains when the agent has been removed from a host, and how to read it.
positional: _input, repository, copy, controller_file
options:
  _input:
    description: The host.
    type: str
    required: true
  repository:
    description: Its repository.
    type: str
    required: true
  copy:
    description: Its second repository, or an empty string.
    type: str
    required: true
  controller_file:
    description: The file on the controller for the repository's password.
    type: path
    required: true
  password_given:
    description: Whether the password is set in a variable, and not in that file.
    type: bool
    required: true
  saved:
    description: The files on the controller for passwords that only the host had.
    type: list
    elements: path
    default: []
  volumes:
    description: The results of removing the agent's volumes.
    type: list
    elements: dict
    default: []
  planned:
    description: Whether the agent would be removed, and was not, as in check mode.
    type: bool
    default: false
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Report what remains
  scalr.backup.report:
    lines: "{{ inventory_hostname | scalr.backup.farewell('/repository', '', '/root/web1.password', password_given=false) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"farewell": farewell}
