# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: memory_limit
short_description: Turn a share of the host's memory into an amount
version_added: 0.6.0
description:
  - Turns O(_input) into an amount that Docker understands, in MiB. A percentage becomes that share of the host's memory,
    rounded down to 64 MiB, so that a kernel that reserves a little more changes nothing.
options:
  _input:
    description: A percentage such as V(75%), an amount such as V(4g) or V(900m), or V(0) for no limit.
    type: str
    required: true
  memory_mib:
    description: The host's memory.
    type: int
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show how much memory the agent gets
  ansible.builtin.debug:
    msg: "{{ '75%' | scalr.backup.memory_limit(4096) }}"
"""

RETURN = r"""
_value:
  description: The amount, or V(0) for no limit.
  type: str
  sample: 3072m
"""

_STEP_MIB = 64
# The agent and restic do not start with less.
_LEAST_MIB = 192


def memory_limit(wanted: str | int, memory_mib: int) -> str:
    """An amount of memory in Docker's notation; raises AnsibleFilterError for what is none."""
    text = str(wanted).strip().lower()
    if text == "0":
        return "0"
    match = re.fullmatch(r"([0-9]{1,6})(%|m|g)b?", text)
    if not match or (match[2] == "%" and not 1 <= int(match[1]) <= 100):
        raise AnsibleFilterError(
            f"backup_memory is {wanted}: it must be a percentage of the host's memory such as 75%, an amount such as 4g or "
            "900m, or 0 for no limit."
        )
    number = int(match[1])
    share = max(number * int(memory_mib) // 100 // _STEP_MIB * _STEP_MIB, _LEAST_MIB)
    amount = {"%": share, "m": number, "g": number * 1024}[match[2]]
    if amount < _LEAST_MIB:
        raise AnsibleFilterError(f"backup_memory is {wanted}: the agent and restic need at least {_LEAST_MIB}m.")
    return f"{amount}m"


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"memory_limit": memory_limit}
