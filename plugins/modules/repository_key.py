#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_key
short_description: Add or remove a password that opens a host's repository
version_added: 0.2.0
description:
  - Adds a password's key to the repository, or removes one.
  - The agent's own password does not change. To change that on the host and on the controller, use the playbook
    C(rotate_password.yml).
  - A password that already opens the repository is not added again. A key that another host may still need is not
    removed, not even one for a safe, because a host may have been rebuilt with it.
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._agent
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  state:
    description:
      - V(present) adds O(password) to the repository, and verifies that it opens.
      - V(absent) removes all keys of O(password), or the one in O(key).
    type: str
    default: present
    choices: [present, absent]
  password:
    description:
      - The password. The agent receives it on its standard input.
    type: str
  key:
    description:
      - Id of the key to remove with O(state=absent), or its beginning.
    type: str
  escrow:
    description:
      - Name of the safe for the password, such as the number of a recovery kit. The key is then labelled as one
        that no host uses. Otherwise it is labelled with the host's name.
      - Applies to O(state=present) only.
    type: str
  copy:
    description:
      - Whether to use the host's second repository (C(backup_copy_repository)).
    type: bool
    default: false
  unused_by:
    description:
      - Names of hosts that have snapshots in the repository but do not need the removed key. Hosts that have made a newer
        key for themselves need not be named.
      - Applies to O(state=absent) only.
    type: list
    elements: str
seealso:
  - module: scalr.backup.repository_key_info
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Add a second password to the repository that no host knows
  scalr.backup.repository_key:
    password: "{{ vault_backup_escrow_password }}"
    escrow: safe

- name: Remove the key of a stolen host
  scalr.backup.repository_key:
    state: absent
    key: 450fbce0
    unused_by: [web9]
"""

RETURN = r"""
repository_id:
  description: The repository's id.
  returned: with O(state=present)
  type: str
  sample: 5f0c8e1b4c7d1a53e3a1f6a3f0f6f2a8b1f0e5b5c5d1f4a7b7e6c0d9a8f7e6d5
key:
  description: Id of the password's key; empty in check mode, when it would be added.
  returned: with O(state=present)
  type: str
  sample: 450fbce036e5fac3e8366820eedb8ae8abd7ce3bbb3fce674b0578567baa5053
added:
  description: Whether the password did not open the repository before.
  returned: with O(state=present)
  type: bool
  sample: true
removed:
  description: Ids of the keys that were removed, or would be in check mode.
  returned: with O(state=absent)
  type: list
  elements: str
  sample: [450fbce036e5fac3e8366820eedb8ae8abd7ce3bbb3fce674b0578567baa5053]
code:
  description: The error's code.
  returned: failure
  type: str
  sample: key_in_use
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import (
    AGENT_ARGUMENTS,
    call_or_fail,
    flag,
    option,
    options,
    require_fitting,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            AGENT_ARGUMENTS,
            state={"type": "str", "default": "present", "choices": ["present", "absent"]},
            password={"type": "str", "no_log": True},
            # The id of a key opens nothing.
            key={"type": "str", "no_log": False},
            escrow={"type": "str"},
            copy={"type": "bool", "default": False},
            unused_by={"type": "list", "elements": "str"},
        ),
        supports_check_mode=True,
    )
    require_fitting(module, "repository_key")
    wanted = module.params
    only = flag("dry-run", module.check_mode) + flag("copy", wanted["copy"])
    if wanted["state"] == "present":
        arguments = ["add", *option("escrow", wanted["escrow"]), *only]
    else:
        named = [] if wanted["key"] is None else [wanted["key"]]
        arguments = ["remove", *named, *options("unused-by", wanted["unused_by"]), *only]
    secrets = None if wanted["password"] is None else {"password": wanted["password"]}
    # What is not there is absent: a run that was interrupted may be repeated.
    answers = ("unknown_key",) if wanted["state"] == "absent" else ()
    changed, values = call_or_fail(module, "key", *arguments, secrets=secrets, answers=answers)
    if wanted["state"] == "absent":
        values.setdefault("removed", [])
    module.exit_json(changed=changed, **values)


if __name__ == "__main__":
    main()
