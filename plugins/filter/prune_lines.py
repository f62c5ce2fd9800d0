# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._fleet_lines import prune_lines

DOCUMENTATION = r"""
name: prune_lines
short_description: Show the outcome of retention on all hosts
version_added: 0.4.0
description:
  - Returns a table of all hosts, failures first, and the number of hosts per outcome.
  - A host whose answer cannot be read is a failure, with the reason.
positional: _input, check_mode
options:
  _input:
    description: The hosts. Each has its name as C(host), and C(outcome), C(failure), C(removed), C(kept) and C(warnings).
    type: list
    elements: dict
    required: true
  check_mode:
    description: Whether this ran in check mode.
    type: bool
    default: false
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show the outcome
  scalr.backup.report:
    lines: "{{ ansible_play_hosts_all | scalr.backup.answers(hostvars, names) | scalr.backup.prune_lines }}"
  vars:
    names: {host: inventory_hostname, outcome: outcome, failure: failure, removed: removed, kept: kept, warnings: warnings}
  run_once: true
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
        return {"prune_lines": prune_lines}
