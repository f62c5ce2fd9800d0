# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._restore_words import restore_objection

DOCUMENTATION = r"""
name: restore_objection
short_description: Say why a restore makes no sense
version_added: 0.4.0
description:
  - Checks the options for M(scalr.backup.database_restore) before any host is queried.
positional: _input, password, repository
options:
  _input:
    description: The request, including C(db), C(undo) and C(strategy).
    type: dict
    required: true
  password:
    description: The given password of another repository.
    type: str
    required: true
  repository:
    description: The other repository.
    type: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Reject variables that contradict each other
  ansible.builtin.fail:
    msg: "{{ {'db': db, 'undo': '', 'strategy': 'beside'} | scalr.backup.restore_objection('', '') }}"
"""

RETURN = r"""
_value:
  description: The sentence; empty if there is no objection.
  type: str
  sample: restore_strategy is bravely, but must be beside or replace.
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"restore_objection": restore_objection}
