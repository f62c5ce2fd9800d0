# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._units import printable

DOCUMENTATION = r"""
name: printable
short_description: Replace characters that a reader cannot see
version_added: 0.6.0
description:
  - Replaces control characters, invisible ones, and those that change the direction of text with question marks.
options:
  _input:
    description: The text.
    type: raw
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show the name of a database
  ansible.builtin.debug:
    msg: "{{ database | scalr.backup.printable }}"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"printable": printable}
