# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._recovery_kit import kit_places

DOCUMENTATION = r"""
name: kit_places
short_description: List what opens a host's repositories
version_added: 0.4.0
description:
  - Collects what the page for the safe says about each of a host's repositories, the second repository last.
positional: _input, config, host_password, page_passwords, escrow, keys
options:
  _input:
    description: Contents of the agent's secret files, by file name.
    type: dict
    required: true
  config:
    description: The agent's configuration.
    type: dict
    required: true
  host_password:
    description: The host's own password.
    type: str
    required: true
  page_passwords:
    description: The passwords of the page, one for each repository, as P(scalr.backup.kit_passwords#filter) returns them.
    type: list
    elements: str
    required: true
  escrow:
    description: Whether the page has passwords of its own.
    type: bool
    required: true
  keys:
    description: The keys of these passwords, each with an C(item) that is true for the second repository.
    type: list
    elements: dict
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Count the repositories
  ansible.builtin.debug:
    msg: "{{ secrets | scalr.backup.kit_places(config, 'first', ['second', 'third'], true, keys.results) | length }}"
"""

RETURN = r"""
_value:
  description: For each repository C(copy), C(repository), C(environment), C(password) and C(key).
  type: list
  elements: dict
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"kit_places": kit_places}
