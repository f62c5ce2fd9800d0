#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_drill
short_description: Verify that a host's snapshots can be restored
version_added: 0.2.0
description:
  - Restores snapshots into throwaway containers, compares every table with what the backup counted, and checks the
    result with C(pg_amcheck), if the image has it, and with your own assertions.
  - The throwaway containers have no network, keep their data in memory, and are always removed. The host's
    databases are not touched.
  - The drill runs in a separate container, so that the agent needs no permission to create containers.
  - One database's failure does not stop the others. The module fails if any of them failed, and returns what
    happened to each.
  - A drill that cannot start, for example because of too little memory or a missing image, says nothing about the
    backup. The module fails then too, but the agent does not record it as a failed drill.
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._agent
  - scalr.backup._agent.progress
  - scalr.backup._agent.source
attributes:
  check_mode:
    support: partial
    details:
      - The module is skipped, because only a restore proves a snapshot.
  diff_mode:
    support: N/A
    details:
      - A drill changes nothing but the agent's record of drills.
options:
  db:
    description:
      - Names of containers, or glob patterns of names. Without any, all database containers are drilled.
    type: list
    elements: str
    default: []
  database:
    description:
      - Name of the one database to drill. Without it, all databases of the containers are drilled.
    type: str
  snapshot:
    description:
      - Which state to restore, V(latest), one or more ids separated by commas, the id of a run, V(tag=NAME) for the
        newest with that tag, or a time for the newest snapshot at or before it.
      - V(latest), a tag and a time mean the newest snapshot of each database, which may come from several passes. A
        database that a newer pass no longer found counts as dropped, and is restored only if you name it.
    type: str
    default: latest
  image:
    description:
      - Image of the throwaway containers. By default, the source's image at the time of the backup.
    type: str
notes:
  - The playbook C(scalr.backup.drill) shows a table of all hosts and sets the exit code.
seealso:
  - module: scalr.backup.database_restore
  - module: scalr.backup.status_info
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Verify that a host's latest backups can be restored
  scalr.backup.database_drill:

- name: Check whether a snapshot can be restored into the next version of PostgreSQL
  scalr.backup.database_drill:
    db: [scalr-shop-db]
    image: postgres:18

- name: Verify the backups of another host, from an unrelated machine
  scalr.backup.database_drill:
    from_host: web1
"""

RETURN = r"""
run:
  description: Id of the drill.
  returned: when a drill was made
  type: str
  sample: 20261122T101500Z-3f9a
host:
  description: Name in the repository of the host whose snapshots were restored.
  returned: when a drill was made
  type: str
  sample: web1
started_at:
  description: When the drill started.
  returned: when a drill was made
  type: str
  sample: "2026-11-22T10:15:00Z"
finished_at:
  description: When it ended.
  returned: when a drill was made
  type: str
  sample: "2026-11-22T10:15:19Z"
duration_seconds:
  description: How long it took.
  returned: when a drill was made
  type: float
  sample: 19.2
failed_databases:
  description: How many databases failed.
  returned: when a drill was made
  type: int
  sample: 0
not_tried:
  description: How many databases could not be tried, which says nothing about their backups.
  returned: when a drill was made
  type: int
  sample: 0
  version_added: 0.4.0
databases:
  description: What happened to each database.
  returned: when a drill was made
  type: list
  elements: dict
  contains:
    container:
      description: Name of the container that was backed up.
      type: str
      sample: scalr-shop-db
    database:
      description: Name of the database.
      type: str
      sample: shop
    ok:
      description: Whether it could be restored and matches the backup.
      type: bool
      sample: true
    tried:
      description: Whether the drill could start. If not, C(error) says why.
      type: bool
      sample: true
      version_added: 0.4.0
    own_image:
      description: Whether the image was the source's.
      type: bool
      sample: true
      version_added: 0.4.0
    snapshot_id:
      description: The snapshot that was restored.
      type: str
      sample: 5f0c8e1b4c7d
    snapshot_time:
      description: When that was made.
      type: str
      sample: "2026-11-22T03:00:11Z"
    image:
      description: The image that it was restored in.
      type: str
      sample: postgres:17
    tables:
      description: How many tables were compared.
      type: int
      sample: 31
    rows:
      description: How many rows they have.
      type: int
      sample: 1250000
    recovery_seconds:
      description: How long the restore took.
      type: float
      sample: 8.9
    amcheck:
      description: What C(pg_amcheck) found. V(passed), V(failed) or V(not in the image).
      type: str
      sample: passed
    assertions:
      description: How many assertions held. A dictionary with C(passed) and C(failed).
      type: dict
    objects:
      description:
        - Objects that could not be created as they were saved. Dictionaries with C(object), C(cause), C(mend) (SQL for the
          database that was backed up, or null) and C(outcome) (V(failed), or V(unreachable) for objects that read from another
          database).
      type: list
      elements: dict
      version_added: 0.5.0
    error:
      description: What went wrong, or null. A dictionary with C(code) and C(message).
      type: dict
code:
  description: The error's code.
  returned: failure
  type: str
  sample: no_memory
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import (
    AGENT_ARGUMENTS,
    PROGRESS_ARGUMENTS,
    SOURCE_ARGUMENTS,
    call_or_fail,
    option,
    options,
    require_fitting,
    source_options,
    source_secrets,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            AGENT_ARGUMENTS,
            **PROGRESS_ARGUMENTS,
            **SOURCE_ARGUMENTS,
            db={"type": "list", "elements": "str", "default": []},
            database={"type": "str"},
            snapshot={"type": "str", "default": "latest"},
            image={"type": "str"},
        ),
        supports_check_mode=True,
    )
    require_fitting(module, "database_drill")
    if module.check_mode:
        module.exit_json(
            changed=False, skipped=True, msg="Check mode cannot predict a drill: only a restore proves a snapshot."
        )
    wanted = module.params
    _changed, values = call_or_fail(
        module,
        "drill",
        *options("db", wanted["db"]),
        *option("database", wanted["database"]),
        *option("snapshot", wanted["snapshot"]),
        *source_options(module),
        *option("image", wanted["image"]),
        secrets=source_secrets(module),
        apart=True,
        database_image=wanted["image"],
    )
    module.exit_json(changed=False, **values)


if __name__ == "__main__":
    main()
