# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._restore_choice import restore_choice

DOCUMENTATION = r"""
name: restore_choice
short_description: Choose the host that a restore is for
version_added: 0.4.0
description:
  - Compares all hosts' answers. Exactly one host is chosen; if none or several fit, the result is a refusal that lists what each has.
positional: _input, db, target, undo
options:
  _input:
    description: The hosts. Each has its name as C(host), and what P(scalr.backup.restore_answer#filter) returns as C(answer).
    type: list
    elements: dict
    required: true
  db:
    description: The container to look for.
    type: str
    default: ''
  target:
    description: The container to restore into, if it is another one.
    type: str
    default: ''
  undo:
    description: The restore to undo.
    type: str
    default: ''
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Fail unless exactly one host has it
  ansible.builtin.fail:
    msg: "{{ choice.refusal }}"
  vars:
    choice: "{{ ansible_play_hosts_all | scalr.backup.answers(hostvars, names) | scalr.backup.restore_choice('scalr-foo-db') }}"
    names: {host: inventory_hostname, answer: answer}
"""

RETURN = r"""
_value:
  description: The C(host), or the C(refusal); and a C(warning) about hosts that could not be queried. Whatever is missing is empty.
  type: dict
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"restore_choice": restore_choice}
