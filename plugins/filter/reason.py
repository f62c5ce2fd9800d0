# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._reason import reason

DOCUMENTATION = r"""
name: reason
short_description: Say in one sentence why a task failed
version_added: 0.4.0
description:
  - Turns the result of a failed task into one sentence, whatever the module put into it, even if the module ended without
    a result.
options:
  _input:
    description: The result, such as C(ansible_failed_result).
    type: dict
    required: true
  doing:
    description: What was being done, such as the name of the task.
    type: str
    default: ''
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Report what went wrong
  ansible.builtin.fail:
    msg: "{{ ansible_failed_result | scalr.backup.reason(ansible_failed_task.name) }}"
"""

RETURN = r"""
_value:
  description: The sentence.
  type: str
  sample: "Run the agent: Bind for 127.0.0.1:9797 failed: port is already allocated."
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"reason": reason}
