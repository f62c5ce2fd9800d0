# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._passwords import orphaned_passwords

DOCUMENTATION = r"""
name: orphaned_passwords
short_description: Find passwords that would be lost with a host
version_added: 0.4.0
description:
  - Finds passwords among a host's files that exist nowhere else, and says where the controller should store each.
positional: _input, kept, secrets, password_file, controller_file
options:
  _input:
    description: The texts of the files on the host, by their paths.
    type: dict
    required: true
  kept:
    description: The passwords that also exist elsewhere.
    type: list
    elements: str
    required: true
  secrets:
    description: The directories on the host with the passwords.
    type: list
    elements: path
    required: true
  password_file:
    description: The file on the host with the password in use.
    type: path
    required: true
  controller_file:
    description: The file on the controller for this password; its name ends in C(.password).
    type: path
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Count the passwords that only the host has
  ansible.builtin.debug:
    msg: "{{ contents | scalr.backup.orphaned_passwords([], ['/opt/secrets'], '/opt/secrets/password', '/root/web1.password') | length }}"
"""

RETURN = r"""
_value:
  description: >-
    For each password its C(content), the C(path) of a file on the controller that does not exist yet, and whether it is the one
    C(in_use).
  type: list
  elements: dict
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"orphaned_passwords": orphaned_passwords}
