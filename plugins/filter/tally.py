# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._units import counted

DOCUMENTATION = r"""
name: tally
short_description: Count outcomes in one line
version_added: 0.2.0
description:
  - Counts the outcomes in a list and describes them in one line, in the order of O(order), others last.
options:
  _input:
    description: The outcomes.
    type: list
    elements: str
    required: true
  thing:
    description: The thing that is counted, in the singular.
    type: str
    required: true
  order:
    description: The order of the outcomes, worst first.
    type: list
    elements: str
    default: []
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show the totals
  ansible.builtin.debug:
    msg: "{{ ['saved', 'failed', 'saved'] | scalr.backup.tally('host', ['not reached', 'failed']) }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
  sample: "3 hosts: 1 failed, 2 saved."
"""


def tally(outcomes: Iterable[str], thing: str, order: Iterable[str] = ()) -> str:
    """How many things came out how, in one line."""
    outcomes = list(outcomes)
    number = Counter(outcomes)
    told = [outcome for outcome in dict.fromkeys([*order, *outcomes]) if number[outcome]]
    counts = ", ".join(f"{number[outcome]} {outcome}" for outcome in told)
    return f"{counted(len(outcomes), thing)}{': ' if counts else ''}{counts}."


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"tally": tally}
