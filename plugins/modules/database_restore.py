#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_restore
short_description: Put the databases of a container back to a snapshot
version_added: 0.1.0
description:
  - Has the agent restore the databases of a container from their snapshots.
  - Each is restored into a new database beside the live one, verified, and only then put in its place, in one
    transaction. Until then the app runs on. When anything fails, the live database is as it was.
  - A restore replaces what is there, so it must be confirmed with O(confirm).
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._agent
attributes:
  check_mode:
    support: full
    details:
      - The module returns the plan, see RV(plan). No O(confirm) is needed for that.
  diff_mode:
    support: full
    details:
      - Shows for every database what is there now and which snapshot takes its place.
options:
  db:
    description:
      - Name of the container.
    type: str
    required: true
  database:
    description:
      - Name of the one database to restore. Without it, all databases of the container are restored.
    type: str
  snapshot:
    description:
      - Which state to restore. V(latest), an id, or a time, which means the newest snapshot at or before it.
    type: str
    default: latest
  confirm:
    description:
      - The name of the container once more, as a sign that its databases may be replaced.
    type: str
  keep_old:
    description:
      - Whether to keep the replaced database under another name, see RV(databases[].old_database).
    type: bool
    default: false
  safety_snapshot:
    description:
      - Whether to back up the live database before it is replaced, with the tag V(pre-restore).
    type: bool
    default: true
seealso:
  - module: scalr.backup.database_backup
  - module: scalr.backup.snapshot_info
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Restore the newest backup of a container
  scalr.backup.database_restore:
    db: scalr-shop-db
    confirm: scalr-shop-db

- name: See what that would replace
  scalr.backup.database_restore:
    db: scalr-shop-db
  check_mode: true
  register: preview

- name: Go back to the state before an accident, and keep the present one
  scalr.backup.database_restore:
    db: scalr-shop-db
    database: shop
    snapshot: "2026-11-22T09:30:00Z"
    keep_old: true
    confirm: scalr-shop-db
"""

RETURN = r"""
plan:
  description: What the restore replaces, as it was found before it began.
  returned: when the snapshots were found
  type: dict
  contains:
    host:
      description: Name of the host, as it stands in the repository.
      type: str
      sample: web1
    container:
      description: Name of the container.
      type: str
      sample: scalr-shop-db
    databases:
      description: The databases, each with the snapshot that it is restored from.
      type: list
      elements: dict
      contains:
        database:
          description: Name of the database.
          type: str
          sample: shop
        exists:
          description: Whether there is one now.
          type: bool
          sample: true
        size_bytes:
          description: Its size on the server's disk.
          type: int
          sample: 371195904
        sessions:
          description: Who is connected to it.
          type: raw
        snapshot:
          description:
            - The snapshot, with C(id), C(short_id), C(time), C(age_seconds), C(dump_bytes), C(run) and C(reason).
          type: dict
        needed_bytes:
          description: How much room the new database is expected to need.
          type: int
          sample: 371195904
    free_bytes:
      description: How much room there is on the volume.
      type: int
      sample: 53687091200
    warnings:
      description: What the operator should know before he confirms.
      type: list
      elements: str
run:
  description: Id of the restore.
  returned: when databases were restored
  type: str
  sample: 20261122T101500Z-3f9a
databases:
  description: What happened to each database.
  returned: when databases were restored
  type: list
  elements: dict
  contains:
    database:
      description: Name of the database.
      type: str
      sample: shop
    ok:
      description: Whether it is restored.
      type: bool
      sample: true
    error:
      description: What went wrong, or null. A dictionary with C(code) and C(message).
      type: dict
    snapshot_id:
      description: The snapshot that it was restored from.
      type: str
      sample: 5f0c8e1b4c7d
    safety_snapshot_id:
      description: The snapshot of what was there before, or null.
      type: str
      sample: 0d2f6a9be411
    old_database:
      description: Name under which the replaced database was kept, or null.
      type: str
      sample: shop_before_restore_20261122T101500Z-3f9a
    verified:
      description:
        - What was compared with the manifest, C(tables) and C(rows), or null where there was nothing to compare with.
      type: dict
    duration_seconds:
      description: How long it took.
      type: float
      sample: 8.9
code:
  description: The agent's word for the error.
  returned: failure
  type: str
  sample: not_confirmed
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import AGENT_ARGUMENTS, call_or_fail, flag, option


def main():
    module = AnsibleModule(
        argument_spec=dict(
            AGENT_ARGUMENTS,
            db={"type": "str", "required": True},
            database={"type": "str"},
            snapshot={"type": "str", "default": "latest"},
            confirm={"type": "str"},
            keep_old={"type": "bool", "default": False},
            safety_snapshot={"type": "bool", "default": True},
        ),
        supports_check_mode=True,
    )
    wanted = module.params
    changed, values = call_or_fail(
        module,
        "restore",
        *option("db", wanted["db"]),
        *option("database", wanted["database"]),
        *option("snapshot", wanted["snapshot"]),
        *option("confirm", wanted["confirm"]),
        *flag("keep-old", wanted["keep_old"]),
        *flag("no-safety-snapshot", not wanted["safety_snapshot"]),
        *flag("plan", module.check_mode),
    )
    # A plan has changed nothing; what check mode predicts is that the restore itself would.
    if module.check_mode:
        changed = bool(values["plan"]["databases"])
    module.exit_json(changed=changed, diff=difference(values["plan"]), **values)


def difference(plan):
    """What is there now and what takes its place, a line for each database."""
    container = plan["container"]
    before, after = [], []
    for planned in plan["databases"]:
        name, snapshot = planned["database"], planned["snapshot"]
        present = f"{planned['size_bytes']} bytes" if planned["exists"] else "absent"
        restored = f"snapshot {snapshot['short_id']} of {snapshot['time']}, a dump of {snapshot['dump_bytes']} bytes"
        before.append(f"{container}/{name}: {present}\n")
        after.append(f"{container}/{name}: {restored}\n")
    return {
        "before_header": f"{container} now",
        "after_header": f"{container} restored",
        "before": "".join(before),
        "after": "".join(after),
    }


if __name__ == "__main__":
    main()
