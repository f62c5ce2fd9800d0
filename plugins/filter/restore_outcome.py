# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._restore_words import restore_outcome

DOCUMENTATION = r"""
name: restore_outcome
short_description: Show the outcome of a restore
version_added: 0.4.0
description:
  - Turns the result of M(scalr.backup.database_restore) into a table with notes.
positional: _input, title, undo
options:
  _input:
    description: The result.
    type: dict
    required: true
  title:
    description: The title above it.
    type: str
    required: true
  undo:
    description: The restore that was undone.
    type: str
    default: ''
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show the outcome
  scalr.backup.report:
    lines: "{{ restored | scalr.backup.restore_outcome('Restore of scalr-foo-db on web1') }}"
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
        return {"restore_outcome": restore_outcome}
