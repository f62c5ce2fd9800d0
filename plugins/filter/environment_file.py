# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._agent_files import environment_file

DOCUMENTATION = r"""
name: environment_file
short_description: Write the variables of a store as the agent reads them
version_added: 0.5.0
description:
  - Writes each variable on a line of its own, sorted by name. The result holds credentials.
options:
  _input:
    description: The variables.
    type: dict
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Count the lines
  ansible.builtin.debug:
    msg: "{{ ({'AWS_DEFAULT_REGION': 'eu-central-1'} | scalr.backup.environment_file).splitlines() | length }}"
"""

RETURN = r"""
_value:
  description: The content of the file.
  type: str
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"environment_file": environment_file}
