# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of each host, out of the variables of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

DOCUMENTATION = r"""
name: answers
short_description: Collect variables of several hosts
version_added: 0.4.0
description:
  - Picks some variables of some hosts out of C(hostvars).
  - Before ansible-core 2.19, a variable cannot hold a list of whole hosts, because that would evaluate everything known
    about each of them. It can hold a list of selected variables.
positional: _input, hostvars, names
options:
  _input:
    description: The hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variables of all hosts.
    type: dict
    required: true
  names:
    description:
      - The wanted variables, by their new names.
      - A list means variables that keep their names.
    type: raw
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show which versions the hosts run
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | scalr.backup.answers(hostvars, {'host': 'inventory_hostname', 'version': 'app_version'}) }}"
"""

RETURN = r"""
_value:
  description: For each host its variables; one that a host does not have is left out.
  type: list
  elements: dict
"""


def answers(
    hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], names: Mapping[str, str] | Iterable[str]
) -> list[dict[str, Any]]:
    """Some variables of some hosts."""
    wanted = names if isinstance(names, Mapping) else {name: name for name in names}
    return [
        {key: hostvars[host][variable] for key, variable in wanted.items() if variable in hostvars[host]}
        for host in hosts
    ]


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"answers": answers}
