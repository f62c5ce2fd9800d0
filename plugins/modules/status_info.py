#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: status_info
short_description: Tell how well the databases of a host are backed up
version_added: 0.1.0
description:
  - Asks the agent for every database when it was last backed up and with what result, when the next pass begins, and
    what is wrong.
  - The module succeeds on an unhealthy host too. RV(healthy) tells.
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._attributes.info_module
  - scalr.backup._agent
seealso:
  - module: scalr.backup.database_info
  - module: scalr.backup.snapshot_info
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Ask how the backups are
  scalr.backup.status_info:
  register: status

- name: Do not migrate the database of a host whose backups fail
  ansible.builtin.assert:
    that: status.healthy
    fail_msg: "{{ status.summary }}"
"""

RETURN = r"""
host:
  description: Name of the host, as it stands in the repository.
  returned: success
  type: str
  sample: web1
repository:
  description: Where the backups go.
  returned: success
  type: str
  sample: s3:https://s3.example.com/backups
healthy:
  description: Whether everything is backed up as it should be.
  returned: success
  type: bool
  sample: true
summary:
  description: The state of the host in one sentence.
  returned: success
  type: str
  sample: 7 databases, all backed up within the last day.
problems:
  description: What is wrong, a sentence each.
  returned: success
  type: list
  elements: str
  sample: []
next_pass:
  description: When the next pass begins.
  returned: success
  type: str
  sample: "2026-11-23T03:00:00Z"
append_only:
  description: Whether the host only adds to its repository, so that old snapshots go when C(prune.yml) is run.
  returned: success
  type: bool
  sample: false
  version_added: 0.2.0
last_pass:
  description: What the last pass did, as M(scalr.backup.database_backup) returns it, or null when there was none yet.
  returned: success
  type: dict
databases:
  description: The state of every database.
  returned: success
  type: list
  elements: dict
  contains:
    container:
      description: Name of the container.
      type: str
      sample: scalr-shop-db
    database:
      description: Name of the database.
      type: str
      sample: shop
    ok:
      description: Whether the last attempt succeeded.
      type: bool
      sample: true
    last_success:
      description: When the database was last backed up, or null when it never was.
      type: str
      sample: "2026-11-22T03:00:11Z"
    age_seconds:
      description: How long ago that was.
      type: int
      sample: 36540
    snapshot_id:
      description: The snapshot that holds the last good backup.
      type: str
      sample: 5f0c8e1b4c7d
    bytes_read:
      description: Size of its dump.
      type: int
      sample: 204010923
    error:
      description: What went wrong in the last attempt, or null.
      type: dict
    drill:
      description:
        - What the last drill found, or null when there was none. A dictionary with C(ok), C(time), C(age_seconds),
          C(snapshot_id), C(recovery_seconds) and C(error).
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import AGENT_ARGUMENTS, call_or_fail


def main():
    module = AnsibleModule(argument_spec=dict(AGENT_ARGUMENTS), supports_check_mode=True)
    changed, values = call_or_fail(module, "status")
    module.exit_json(changed=changed, **values)


if __name__ == "__main__":
    main()
