# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._restore_words import restore_plan

DOCUMENTATION = r"""
name: restore_plan
short_description: Show what a restore would replace
version_added: 0.4.0
description:
  - Turns the plan of M(scalr.backup.database_restore) into text for the operator to read before confirming it.
positional: _input, host, wish
options:
  _input:
    description: The plan.
    type: dict
    required: true
  host:
    description: The host.
    type: str
    required: true
  wish:
    description: The request, C(db), C(undo), C(target), C(source), C(strategy), C(keep_old) and C(safety_snapshot).
    type: dict
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show the plan
  scalr.backup.report:
    lines: "{{ (preview.plan | scalr.backup.restore_plan(inventory_hostname, wish)).lines }}"
"""

RETURN = r"""
_value:
  description: The C(title), all C(lines) with the title first, and the C(question) that asks for confirmation.
  type: dict
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"restore_plan": restore_plan}
