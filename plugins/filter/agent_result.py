# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._reason import agent_result

DOCUMENTATION = r"""
name: agent_result
short_description: Read the result of an agent that ran in a separate container
version_added: 0.4.0
description:
  - Extracts the result of an agent's verb from the result of the command that called it. If the agent printed nothing, the
    result is a failure with Docker's message.
options:
  _input:
    description: The registered result of M(ansible.builtin.command).
    type: dict
    required: true
  image:
    description: The image that was run.
    type: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Fail if the agent rejects the configuration
  ansible.builtin.fail:
    msg: "{{ (validation | scalr.backup.agent_result('scalr-backup:1')).error.message }}"
"""

RETURN = r"""
_value:
  description: C(ok), C(changed), C(error) with its C(code) and C(message), and C(data).
  type: dict
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"agent_result": agent_result}
