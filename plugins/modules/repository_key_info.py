#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: repository_key_info
short_description: List the keys of a host's repository
version_added: 0.2.0
description:
  - Lists the repository's keys. Each belongs to a password that opens it. No password is shown.
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._attributes.info_module
  - scalr.backup._agent
options:
  copy:
    description:
      - Whether to use the host's second repository (C(backup_copy_repository)).
    type: bool
    default: false
seealso:
  - module: scalr.backup.repository_key
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: List the keys
  scalr.backup.repository_key_info:
  register: known

- name: Show their owners
  ansible.builtin.debug:
    msg: "{{ known['keys'] | map(attribute='host') }}"
"""

RETURN = r"""
repository:
  description: Where the repository is.
  returned: success
  type: str
  sample: s3:https://s3.example.com/backups
repository_id:
  description: The repository's id.
  returned: success
  type: str
  sample: 5f0c8e1b4c7d1a53e3a1f6a3f0f6f2a8b1f0e5b5c5d1f4a7b7e6c0d9a8f7e6d5
keys:
  description: The keys, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The key's id.
      type: str
      sample: 450fbce036e5fac3e8366820eedb8ae8abd7ce3bbb3fce674b0578567baa5053
    user:
      description: V(scalr-backup) for a host's own key, V(scalr-backup-escrow) for the safe's.
      type: str
      sample: scalr-backup
    host:
      description: The host, or the name of the recovery kit.
      type: str
      sample: web1
    created:
      description: When it was created.
      type: str
      sample: "2026-11-22 20:21:11"
    current:
      description: Whether this host opens the repository with it.
      type: bool
      sample: true
current:
  description: Id of the key that this host opens the repository with.
  returned: success
  type: str
  sample: 450fbce036e5fac3e8366820eedb8ae8abd7ce3bbb3fce674b0578567baa5053
shared_with:
  description:
    - Other hosts that have snapshots in the repository but no key of their own that is newer than this host's, so they
      may be using this one.
  returned: success
  type: list
  elements: str
  sample: [web2]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import AGENT_ARGUMENTS, call_or_fail, flag


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(AGENT_ARGUMENTS, copy={"type": "bool", "default": False}), supports_check_mode=True
    )
    changed, values = call_or_fail(module, "key", "list", *flag("copy", module.params["copy"]))
    module.exit_json(changed=changed, **values)


if __name__ == "__main__":
    main()
