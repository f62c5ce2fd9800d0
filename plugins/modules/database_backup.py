#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_backup
short_description: Back up the databases of a host
version_added: 0.1.0
description:
  - Runs the same pass as every night, over all databases of the host or over those of some containers.
  - One database's failure does not stop the others. The module fails if any of them failed, and returns what
    happened to each.
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._agent
  - scalr.backup._agent.progress
attributes:
  check_mode:
    support: full
    details:
      - The agent lists what it would back up, see RV(plan).
  diff_mode:
    support: none
    details:
      - A pass adds snapshots. There is nothing to compare them with.
options:
  db:
    description:
      - Names of containers, or glob patterns of names. Without any, all database containers are backed up.
    type: list
    elements: str
    default: []
  tags:
    description:
      - Additional tags for the snapshots. With V(pinned), retention keeps them forever.
    type: list
    elements: str
    default: []
  reason:
    description:
      - The reason for the backup. It becomes a tag of the snapshots, and retention treats each reason separately.
    type: str
    choices: [manual, nightly]
    default: manual
  wait:
    description:
      - Whether to wait if a pass is already running. Otherwise the module fails and names that pass.
    type: bool
    default: false
seealso:
  - module: scalr.backup.database_restore
  - module: scalr.backup.snapshot_info
  - module: scalr.backup.status_info
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Back up all databases of the host
  scalr.backup.database_backup:

- name: Back up one container before its app is upgraded
  scalr.backup.database_backup:
    db: [scalr-shop-db]
    tags: [pinned, before-shop-2.4]
    wait: true

- name: Start backing up a large host, and do something else meanwhile
  scalr.backup.database_backup:
  async: 21600
  poll: 0
"""

RETURN = r"""
run:
  description: Id of the pass.
  returned: when a pass was made
  type: str
  sample: 20261122T101500Z-3f9a
reason:
  description: Why it was made.
  returned: when a pass was made
  type: str
  sample: manual
host:
  description: Name of the host in the repository.
  returned: when a pass was made
  type: str
  sample: web1
started_at:
  description: When the pass started.
  returned: when a pass was made
  type: str
  sample: "2026-11-22T10:15:00Z"
finished_at:
  description: When it ended.
  returned: when a pass was made
  type: str
  sample: "2026-11-22T10:15:19Z"
duration_seconds:
  description: How long it took.
  returned: when a pass was made
  type: float
  sample: 19.2
roles:
  description:
    - For each container, null if its roles were saved, otherwise the reason. A dictionary with C(code) and
      C(message).
  returned: when a pass was made
  type: dict
databases:
  description: What happened to each database.
  returned: when a pass was made
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
      description: Whether it was saved.
      type: bool
      sample: true
    snapshot_id:
      description: The snapshot that holds its dump, or null.
      type: str
      sample: 5f0c8e1b4c7d
    bytes_read:
      description: Size of the dump.
      type: int
      sample: 204010923
    bytes_added:
      description: How much of it was new to the repository.
      type: int
      sample: 1048576
    bytes_ordered:
      description: How much of it is rows in the order of a key.
      type: int
      sample: 180000000
      version_added: 0.7.0
    left_out:
      description:
        - Relations whose rows C(pg_dump) leaves out. Each has its C(relation), in C(why) the reason, the C(extension) it
          belongs to, and how many C(rows), or null if they were not counted.
      type: list
      elements: dict
      version_added: 0.5.0
    archive_unchecked:
      description:
        - Why the structure of the dump could not be checked, or null. It was written by a PostgreSQL that is newer than the
          agent, and only PostgreSQL's own programs have checked it.
      type: str
      version_added: 0.5.0
    rows:
      description: How many rows the dump holds, if they were counted.
      type: int
      sample: 1250000
    duration_seconds:
      description: How long it took.
      type: float
      sample: 6.6
    error:
      description: What went wrong, or null. A dictionary with C(code) and C(message).
      type: dict
plan:
  description: What would be backed up. A list of dictionaries with C(container) and C(database).
  returned: in check mode
  type: list
  elements: dict
failed_databases:
  description: How many databases could not be saved.
  returned: when a pass was made
  type: int
  sample: 0
unmatched:
  description:
    - PostgreSQL containers that are neither backed up nor deliberately excluded. Each has its C(name),
      C(image), C(state), in C(evidence) what identifies it as PostgreSQL, and in C(why) why it is left out.
  returned: when a pass was made, from an agent of 0.4.0 or later
  type: list
  elements: dict
  version_added: 0.4.0
notes:
  description: What an operator has to know about them, one sentence each.
  returned: when a pass was made, from an agent of 0.4.0 or later
  type: list
  elements: str
  sample: []
  version_added: 0.4.0
retention:
  description: What retention did at the end of the pass. A dictionary with C(ok), C(removed) and C(error).
  returned: when a pass was made
  type: dict
manifest_snapshot_id:
  description: The snapshot that holds the pass's manifest.
  returned: when a pass was made
  type: str
  sample: 9b1fd3a07c21
code:
  description: The error's code.
  returned: failure
  type: str
  sample: unknown_database
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import (
    AGENT_ARGUMENTS,
    PROGRESS_ARGUMENTS,
    call_or_fail,
    flag,
    option,
    options,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            AGENT_ARGUMENTS,
            **PROGRESS_ARGUMENTS,
            db={"type": "list", "elements": "str", "default": []},
            tags={"type": "list", "elements": "str", "default": []},
            reason={"type": "str", "choices": ["manual", "nightly"], "default": "manual"},
            wait={"type": "bool", "default": False},
        ),
        supports_check_mode=True,
    )
    wanted = module.params
    changed, values = call_or_fail(
        module,
        "backup",
        *options("db", wanted["db"]),
        *options("tag", wanted["tags"]),
        *option("reason", wanted["reason"]),
        *flag("wait", wanted["wait"]),
        *flag("dry-run", module.check_mode),
    )
    module.exit_json(changed=changed, **values)


if __name__ == "__main__":
    main()
