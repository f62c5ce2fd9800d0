#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: repository
short_description: Make, check and tidy the repository of a host
version_added: 0.1.0
description:
  - Has the agent make the restic repository that its configuration names, check it, apply retention to it, or remove
    stale locks from it.
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._agent
attributes:
  check_mode:
    support: partial
    details:
      - With O(action=init) and O(action=forget) the agent tells what it would do.
      - With O(action=check) the repository is checked, since that modifies nothing.
      - With O(action=unlock) and O(action=copy) the module is skipped, since what there is to do shows only when it is done.
  diff_mode:
    support: partial
    details:
      - With O(action=init) shows the repository, with O(action=forget) the snapshots that are removed.
options:
  action:
    description:
      - What to do.
      - V(init) makes the repository where there is none. One that is there already and opens is left as it is.
      - V(check) verifies that the repository is intact.
      - V(forget) removes the snapshots that the host's retention rules do not keep, and frees their room.
      - V(unlock) removes locks that a killed process left behind. Locks in use stay.
      - V(copy) copies to the host's second repository what that has not yet, and applies its retention rules there. Each
        pass does so by itself. Since version 0.2.0.
    type: str
    required: true
    choices: [init, check, copy, forget, unlock]
  read_data_subset:
    description:
      - How much of the data to read back with O(action=check), such as V(5%), V(1/7) or V(2G). By default the structure
        is checked, and no data is read.
    type: str
  copy:
    description:
      - Whether to do it to the host's second repository (C(backup_copy_repository)). For O(action=init) and
        O(action=check).
    type: bool
    default: false
    version_added: 0.2.0
  prune:
    description:
      - Whether O(action=forget) also frees the room of what is forgotten. Otherwise the next pass frees it.
    type: bool
    default: true
seealso:
  - module: scalr.backup.snapshot_info
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Make the repository
  scalr.backup.repository:
    action: init

- name: Verify it, and read a twentieth of its data back
  scalr.backup.repository:
    action: check
    read_data_subset: 5%

- name: Apply the retention rules now
  scalr.backup.repository:
    action: forget

- name: Verify the second repository
  scalr.backup.repository:
    action: check
    copy: true

- name: Remove what a power cut left
  scalr.backup.repository:
    action: unlock
"""

RETURN = r"""
repository:
  description: Where the repository is.
  returned: with O(action=init) and O(action=copy)
  type: str
  sample: s3:https://s3.example.com/backups
created:
  description: Whether the repository was made, or would be in check mode.
  returned: with O(action=init)
  type: bool
  sample: false
repository_id:
  description: The repository's own id. It tells one repository from another in the same place.
  returned: with O(action=init), when there is a repository
  type: str
  sample: 5f0c8e1b4c7d1a53e3a1f6a3f0f6f2a8b1f0e5b5c5d1f4a7b7e6c0d9a8f7e6d5
errors:
  description: How many errors the check found.
  returned: with O(action=check)
  type: int
  sample: 0
read_data_subset:
  description: How much of the data was read back, or null.
  returned: with O(action=check)
  type: str
  sample: 5%
removed:
  description:
    - The ids of the snapshots that were removed with O(action=forget) and O(action=copy), or how many locks with
      O(action=unlock).
  returned: with O(action=forget), O(action=copy) and O(action=unlock)
  type: raw
copied:
  description: How many snapshots were copied.
  returned: with O(action=copy)
  type: int
  sample: 3
kept:
  description: How many snapshots remain.
  returned: with O(action=forget)
  type: int
  sample: 40
pruned:
  description: Whether room was freed.
  returned: with O(action=forget)
  type: bool
  sample: true
code:
  description: The agent's word for the error.
  returned: failure
  type: str
  sample: wrong_password
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import AGENT_ARGUMENTS, call_or_fail, flag, option


def main():
    module = AnsibleModule(
        argument_spec=dict(
            AGENT_ARGUMENTS,
            action={"type": "str", "required": True, "choices": ["init", "check", "copy", "forget", "unlock"]},
            copy={"type": "bool", "default": False},
            read_data_subset={"type": "str"},
            prune={"type": "bool", "default": True},
        ),
        supports_check_mode=True,
    )
    action = module.params["action"]
    if module.params["read_data_subset"] is not None and action != "check":
        module.fail_json(msg="read_data_subset has a meaning with action=check only.")
    if module.params["copy"] and action not in ("init", "check"):
        module.fail_json(msg="copy has a meaning with action=init and action=check only.")
    if module.check_mode and action in ("unlock", "copy"):
        module.exit_json(changed=False, skipped=True, msg=f"What there is to {action} is only known once it is done.")

    arguments = {
        "init": flag("dry-run", module.check_mode) + flag("copy", module.params["copy"]),
        "check": option("read-data-subset", module.params["read_data_subset"]) + flag("copy", module.params["copy"]),
        "copy": [],
        "forget": flag("no-prune", not module.params["prune"]) + flag("dry-run", module.check_mode),
        "unlock": [],
    }
    changed, values = call_or_fail(module, action, *arguments[action])
    module.exit_json(changed=changed, diff=difference(action, changed, values), **values)


def difference(action, changed, values):
    """What an action makes appear or disappear."""
    if action == "init" and changed:
        return {"before": "", "after": f"{values['repository']}\n"}
    if action == "forget":
        return {"before": "".join(f"{snapshot}\n" for snapshot in values["removed"]), "after": ""}
    return {"before": "", "after": ""}


if __name__ == "__main__":
    main()
