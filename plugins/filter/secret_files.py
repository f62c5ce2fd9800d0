# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._recovery_kit import secret_files

DOCUMENTATION = r"""
name: secret_files
short_description: Select the files of one directory by name
version_added: 0.4.0
description:
  - Takes the contents of files by path, and returns those in one directory by name.
positional: _input, directory
options:
  _input:
    description: The texts of the files, by their paths.
    type: dict
    required: true
  directory:
    description: The directory.
    type: path
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: List the secrets of a host
  ansible.builtin.debug:
    msg: "{{ contents | scalr.backup.secret_files('/opt/scalr/services/backup/secrets') | list }}"
"""

RETURN = r"""
_value:
  description: The texts of the files, by their names.
  type: dict
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"secret_files": secret_files}
