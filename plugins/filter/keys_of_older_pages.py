# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._recovery_kit import keys_of_older_pages

DOCUMENTATION = r"""
name: keys_of_older_pages
short_description: Find the keys of older pages
version_added: 0.4.0
description:
  - Finds the recovery kits' keys in some repositories, except the new ones.
positional: _input, new
options:
  _input:
    description: What M(scalr.backup.repository_key_info) returns for each repository, with an C(item) that is true for the second repository.
    type: list
    elements: dict
    required: true
  new:
    description: The ids of the keys that stay.
    type: list
    elements: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show which keys belong to older pages
  ansible.builtin.debug:
    msg: "{{ listed.results | scalr.backup.keys_of_older_pages(['5f0c']) }}"
"""

RETURN = r"""
_value:
  description: For each key its C(id), its C(host), and whether it is in the second repository, C(copy).
  type: list
  elements: dict
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"keys_of_older_pages": keys_of_older_pages}
