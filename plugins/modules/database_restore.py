#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_restore
short_description: Restore the databases of a container
version_added: 0.1.0
description:
  - Restores the databases of a container from their snapshots.
  - Each is restored into a new database beside the live one, verified, and only then swapped in, in one
    transaction. Until then the app keeps running. If anything fails, the live database is untouched.
  - A restore replaces existing data, so you must confirm it with O(confirm).
  - The databases can be restored into another container, under another name, and from another host, even a lost
    one.
  - A database that was kept with O(keep_old) is swapped back with O(undo).
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._agent
  - scalr.backup._agent.progress
  - scalr.backup._agent.source
attributes:
  check_mode:
    support: full
    details:
      - The module returns the plan, see RV(plan). No O(confirm) is needed for that.
  diff_mode:
    support: full
    details:
      - Shows the current state of every database and the snapshot that replaces it.
options:
  db:
    description:
      - Name of the container whose snapshots to restore. Required unless O(undo) is set.
    type: str
  database:
    description:
      - Name of the one database to restore. Without it, all databases of the container are restored.
    type: str
  snapshot:
    description:
      - Which state to restore, V(latest), one or more ids separated by commas, the id of a run, V(tag=NAME) for the
        newest with that tag, or a time for the newest snapshot at or before it.
      - V(latest), a tag and a time mean the newest snapshot of each database, which may come from several passes. A
        database that a newer pass no longer found counts as dropped, and is restored only if you name it.
    type: str
    default: latest
  target:
    description:
      - Name of the container to restore into, if it is not O(db). It can be any running PostgreSQL container on the
        host to which the socket proxy gives the agent access, by its name or by the label C(scalr.backup=true).
        Without the proxy it can be any container.
    type: str
    version_added: 0.2.0
  database_as:
    description:
      - New name for the restored database.
    type: str
    version_added: 0.2.0
  strategy:
    description:
      - With V(beside), each database is restored beside the live one, which stays untouched until the new one is
        verified.
      - With V(replace), the live one is dropped first. B(If the restore then fails, there is no database.) This is
        for volumes without space for a second copy.
    type: str
    choices: [beside, replace]
    default: beside
    version_added: 0.2.0
  without_manifest:
    description:
      - Whether to ignore the manifests of the chosen snapshots, if one of them cannot be read (the code
        V(unreadable_manifest)) although the dump itself is good.
      - Row counts are then not verified, and roles come from the container's newest other manifest.
    type: bool
    default: false
    version_added: 0.4.0
  on_error:
    description:
      - What to do if an object of the snapshot cannot be restored as it was saved, such as a foreign key that rows violate.
      - With V(stop), the restore fails, and says how to fix it. This is the default.
      - With V(skip), a foreign key or a check that rows violate is restored as C(NOT VALID), and other objects are left out.
        All are listed in RV(databases[].objects).
      - Tables, rows, sequences, row-level security with its policies, security labels and revoked privileges are never left out.
    type: str
    choices: [stop, skip]
    version_added: 0.5.0
  undo:
    description:
      - Id of a restore, as in RV(run). The databases that it replaced and kept are swapped back.
      - Cannot be combined with options that choose a snapshot or a target.
    type: str
    version_added: 0.2.0
  confirm:
    description:
      - The name of the container whose databases are replaced, again, as a confirmation.
      - With O(strategy=replace), the word C(replace) and the name. RV(plan.confirm) is the expected value.
    type: str
  keep_old:
    description:
      - Whether to keep the replaced database under another name, see RV(databases[].old_database), so that O(undo)
        can swap it back.
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

- name: Show what that would replace
  scalr.backup.database_restore:
    db: scalr-shop-db
  check_mode: true
  register: preview

- name: Restore the state before an accident, and keep the current one
  scalr.backup.database_restore:
    db: scalr-shop-db
    database: shop
    snapshot: "2026-11-22T09:30:00Z"
    keep_old: true
    confirm: scalr-shop-db
  register: restored

- name: Undo that restore
  scalr.backup.database_restore:
    undo: "{{ restored.run }}"
    confirm: scalr-shop-db

- name: Restore last night's shop beside the live one, under another name
  scalr.backup.database_restore:
    db: scalr-shop-db
    database: shop
    database_as: shop_yesterday
    confirm: scalr-shop-db

- name: Restore the databases of a lost host into a new container on this one
  scalr.backup.database_restore:
    db: scalr-shop-db
    target: scalr-shop-new-db
    from_host: web1
    from_repository: s3:https://s3.example.com/backups/web1
    from_password: "{{ vault_web1_backup_password }}"
    confirm: scalr-shop-new-db
"""

RETURN = r"""
plan:
  description: What the restore replaces, as found before it started.
  returned: if the snapshots were found
  type: dict
  contains:
    host:
      description: Name of the host in the repository.
      type: str
      sample: web1
    container:
      description: Name of the container whose databases are replaced.
      type: str
      sample: scalr-shop-db
    source:
      description: Whose snapshots are restored. A dictionary with C(host) and C(container).
      type: dict
    strategy:
      description: Either V(beside) or V(replace).
      type: str
      sample: beside
    confirm:
      description: What O(confirm) has to be.
      type: str
      sample: scalr-shop-db
    undo:
      description: Id of the restore that is undone, or null.
      type: str
    roles:
      description: Names of roles that are missing and will be created.
      type: list
      elements: str
    databases:
      description: The databases, each with the snapshot that it is restored from.
      type: list
      elements: dict
      contains:
        database:
          description: Name that the database will have.
          type: str
          sample: shop
        source_database:
          description: Name of the database in the snapshot.
          type: str
          sample: shop
        exists:
          description: Whether a database with this name exists now.
          type: bool
          sample: true
        size_bytes:
          description: Its size on the server's disk.
          type: int
          sample: 371195904
        sessions:
          description: How many sessions are connected to it.
          type: int
          sample: 3
        connected:
          description: Who they are. Dictionaries with C(user), C(application), C(address) and C(sessions).
          type: list
          elements: dict
        slots:
          description:
            - Its logical replication slots, which a restore drops unless it keeps the database. Dictionaries with C(name),
              C(plugin), C(active) and C(consumer).
          type: list
          elements: dict
          version_added: 0.5.0
        snapshot:
          description:
            - The snapshot, with C(id), C(short_id), C(time), C(age_seconds), C(dump_bytes), C(run) and C(reason). It is null
              when a restore is undone.
          type: dict
        old_database:
          description: Name of the kept database that is swapped back when a restore is undone.
          type: str
        needed_bytes:
          description: How much space the new database is expected to need.
          type: int
          sample: 371195904
    missing:
      description:
        - Names of the container's databases that have no snapshot. The others are restored, and the module fails.
      type: list
      elements: str
    code_of:
      description:
        - Owners, other than superusers, whose functions the restore calls with the privileges of the agent's user while it
          loads rows, because their conditions or generated columns call them.
        - It is missing for an undo.
      type: list
      elements: str
      version_added: 0.6.0
    free_bytes:
      description: Free space on the volumes that the rows go to. It is null where the container does not report it.
      type: int
      sample: 53687091200
    room:
      description:
        - How much of that the restore needs. A dictionary with C(data_bytes), C(log_bytes) (write-ahead log),
          C(sort_bytes), C(reserve_bytes) (what stays free for the live server) and their sum, C(wanted_bytes).
        - It is missing for an undo.
      type: dict
    warnings:
      description: What the operator should know before confirming.
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
      description: Whether it was restored.
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
    kept_database:
      description:
        - Name under which a new database that failed verification was kept for inspection, or null.
      type: str
    objects:
      description:
        - Objects that were not restored as they were saved. Dictionaries with C(object), C(cause), C(mend) (SQL for the
          database that was backed up, or null) and C(outcome) (V(failed), V(not_valid), V(mended), V(left_out), or V(unreachable)
          for objects that read from another database).
      type: list
      elements: dict
      version_added: 0.5.0
    lost_slots:
      description:
        - The logical replication slots that were dropped with the replaced database. Dictionaries with C(name), C(plugin),
          C(active) and C(consumer).
      type: list
      elements: dict
      version_added: 0.5.0
    verified:
      description:
        - What was compared with the manifest, C(tables) and C(rows), or null if there was nothing to compare with.
      type: dict
    duration_seconds:
      description: How long it took.
      type: float
      sample: 8.9
roles_created:
  description: Names of missing roles that were created.
  returned: when databases were restored
  type: list
  elements: str
code:
  description: The error's code.
  returned: failure
  type: str
  sample: not_confirmed
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import (
    AGENT_ARGUMENTS,
    PROGRESS_ARGUMENTS,
    SOURCE_ARGUMENTS,
    call_or_fail,
    flag,
    option,
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
            db={"type": "str"},
            database={"type": "str"},
            snapshot={"type": "str", "default": "latest"},
            target={"type": "str"},
            database_as={"type": "str"},
            strategy={"type": "str", "choices": ["beside", "replace"], "default": "beside"},
            without_manifest={"type": "bool", "default": False},
            on_error={"type": "str", "choices": ["stop", "skip"]},
            undo={"type": "str"},
            confirm={"type": "str"},
            keep_old={"type": "bool", "default": False},
            safety_snapshot={"type": "bool", "default": True},
        ),
        supports_check_mode=True,
    )
    require_fitting(module, "database_restore")
    changed, values = call_or_fail(module, "restore", *arguments(module), secrets=source_secrets(module))
    # A plan has changed nothing; what check mode predicts is that the restore itself would.
    if module.check_mode:
        changed = bool(values["plan"]["databases"])
    module.exit_json(changed=changed, diff=difference(values["plan"]), **values)


def arguments(module: AnsibleModule) -> list[str]:
    """What the agent is asked."""
    wanted = module.params
    if wanted["undo"] is not None:
        choice = option("undo", wanted["undo"])
    else:
        choice = [*option("snapshot", wanted["snapshot"]), *option("strategy", wanted["strategy"])]
    return [
        *option("db", wanted["db"]),
        *option("database", wanted["database"]),
        *choice,
        *option("target", wanted["target"]),
        *option("database-as", wanted["database_as"]),
        *source_options(module),
        *option("confirm", wanted["confirm"]),
        *flag("keep-old", wanted["keep_old"]),
        *flag("without-manifest", wanted["without_manifest"]),
        *option("on-error", wanted["on_error"]),
        *flag("no-safety-snapshot", not wanted["safety_snapshot"]),
        *flag("plan", module.check_mode),
    ]


def difference(plan: dict[str, Any]) -> dict[str, str]:
    """What is there now and what takes its place, a line for each database."""
    container = plan["container"]
    before, after = [], []
    for planned in plan["databases"]:
        name = planned["database"]
        present = f"{planned['size_bytes']} bytes" if planned["exists"] else "absent"
        before.append(f"{container}/{name}: {present}\n")
        after.append(f"{container}/{name}: {successor(planned)}\n")
    return {
        "before_header": f"{container} now",
        "after_header": f"{container} restored",
        "before": "".join(before),
        "after": "".join(after),
    }


def successor(planned: dict[str, Any]) -> str:
    """What takes a database's place, in words."""
    snapshot = planned["snapshot"]
    if snapshot is None:
        return f"the kept {planned['old_database']}"
    return f"snapshot {snapshot['short_id']} of {snapshot['time']}, a dump of {snapshot['dump_bytes']} bytes"


if __name__ == "__main__":
    main()
