# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a play has anybody to run on: Ansible calls a play without hosts a success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible import context
from ansible.errors import AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader

# Options of ansible-playbook with which nothing is done anyway.
_ONLY_TOLD = ("syntax", "listhosts", "listtasks", "listtags")


def some_hosts(
    pattern: str | Sequence[str], groups: Mapping[str, Sequence[str]], limit: str | None = None
) -> str | Sequence[str]:
    """The pattern itself, if hosts of the inventory's *groups* match it within the *limit*.

    Raises AnsibleFilterError where none does.
    """
    if any(context.CLIARGS.get(option) for option in _ONLY_TOLD):
        return pattern
    inventory = InventoryManager(DataLoader(), sources=[], parse=False)
    for group, hosts in groups.items():
        inventory.add_group(group)
        for host in hosts:
            inventory.add_host(host, group)
    inventory.subset(limit or None)
    if inventory.list_hosts(pattern):
        return pattern
    if not groups.get("all"):
        raise AnsibleFilterError(
            "The inventory has no hosts, so nothing was done: set the inventory with -i, such as -i hosts.yml."
        )
    within = f" within --limit {limit}" if limit else ""
    raise AnsibleFilterError(
        f"No host of the inventory matches {pattern}{within}, so nothing was done: correct backup_hosts, or leave it out."
    )
