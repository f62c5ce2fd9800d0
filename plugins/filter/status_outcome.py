# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: status_outcome
short_description: Describe a host's backup status in a few words
version_added: 0.4.0
description:
  - Turns the result of M(scalr.backup.status_info), whether or not the host was reached, into words for a table and a
    tally.
options:
  _input:
    description: The registered result.
    type: dict
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show the backup status
  ansible.builtin.debug:
    msg: "{{ status | scalr.backup.status_outcome }}"
"""

RETURN = r"""
_value:
  description:
    - V(safe), V(not safe), V(not complete) if the host runs PostgreSQL that nothing backs up, V(waiting for the first pass),
      V(nothing to back up), V(not reached) or V(without an answer).
  type: str
  sample: safe
"""

_WORDS = {
    "safe": "safe",
    "not_safe": "not safe",
    "incomplete": "not complete",
    "waiting": "waiting for the first pass",
    "nothing_to_back_up": "nothing to back up",
}


def status_outcome(result: Mapping[str, Any]) -> str:
    """How the backups of a host are."""
    if "healthy" not in result:
        return "not reached" if result.get("unreachable") else "without an answer"
    if not result["healthy"]:
        return "not safe"
    # An agent before 0.4.0 knows no verdict; neither does a word of a later one mean that all is well.
    otherwise = "safe" if result.get("databases") else "waiting for the first pass"
    return _WORDS.get(result.get("verdict", ""), otherwise)


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"status_outcome": status_outcome}
