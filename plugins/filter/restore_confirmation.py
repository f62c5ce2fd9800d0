# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._restore_words import restore_confirmation

DOCUMENTATION = r"""
name: restore_confirmation
short_description: Say why a restore is not confirmed
version_added: 0.4.0
description:
  - Compares what was typed, or set as a variable, with the expected confirmation.
positional: _input, confirm, answer
options:
  _input:
    description: What has to be typed.
    type: str
    required: true
  confirm:
    description: The value of the variable C(confirm). None if it is not set; then the answer counts.
    type: raw
  answer:
    description: What was typed.
    type: str
    default: ''
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Fail if it is not confirmed
  ansible.builtin.fail:
    msg: "{{ 'scalr-foo-db' | scalr.backup.restore_confirmation(none, typed.user_input) }}"
"""

RETURN = r"""
_value:
  description: The sentence; empty if it is confirmed.
  type: str
  sample: "Nothing was restored: the answer was shop, but must be scalr-foo-db."
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"restore_confirmation": restore_confirmation}
