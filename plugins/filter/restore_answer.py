# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._restore_choice import restore_answer

DOCUMENTATION = r"""
name: restore_answer
short_description: Evaluate a host's answer before a restore
version_added: 0.4.0
description:
  - A host was asked for its containers, or whether it can restore into another one or undo. Returns how well its answer fits.
positional: _input, tried, db
options:
  _input:
    description: What M(scalr.backup.database_info) returns for the host, or the result of its being skipped.
    type: dict
    required: true
  tried:
    description: What M(scalr.backup.database_restore) returns in check mode, or the result of its being skipped.
    type: dict
    required: true
  db:
    description: The container to look for.
    type: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Record the answer
  ansible.builtin.set_fact:
    answer: "{{ discovered | scalr.backup.restore_answer(tried, 'scalr-foo-db') }}"
"""

RETURN = r"""
_value:
  description:
    - C(can) is 2 if the host can do it, 1 if it refuses, and 0 if it does not have the container or run.
    - C(names) are its containers, C(reason) is why it refuses, and C(silence) is why it has not answered.
  type: dict
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"restore_answer": restore_answer}
