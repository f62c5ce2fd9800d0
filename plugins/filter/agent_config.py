# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._agent_files import agent_config

DOCUMENTATION = r"""
name: agent_config
short_description: Convert the agent's settings to the types that it expects
version_added: 0.5.0
description:
  - Turns numeric settings into numbers, even if the operator or ansible-core made strings of them.
  - A second repository that is not set becomes null.
options:
  _input:
    description: The settings, as the agent names them.
    type: dict
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show the agent's settings
  ansible.builtin.debug:
    msg: "{{ {'host': 'web1', 'parallel': '2', 'copy': ''} | scalr.backup.agent_config }}"
"""

RETURN = r"""
_value:
  description: The settings.
  type: dict
  sample: {host: web1, parallel: 2, copy: null}
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"agent_config": agent_config}
