#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_info
short_description: List the snapshots of a host
version_added: 0.1.0
description:
  - Lists this host's snapshots in the repository.
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._attributes.info_module
  - scalr.backup._agent
options:
  db:
    description:
      - Name of a container. Only its snapshots are listed.
    type: str
  database:
    description:
      - Name of a database. Only its snapshots are listed.
    type: str
  snapshot:
    description:
      - Id of the one snapshot to list, or its beginning.
    type: str
  copy:
    description:
      - Whether to list the host's second repository (C(backup_copy_repository)).
    type: bool
    default: false
    version_added: 0.2.0
seealso:
  - module: scalr.backup.database_restore
  - module: scalr.backup.repository
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: List all snapshots of one database
  scalr.backup.snapshot_info:
    db: scalr-shop-db
    database: shop
  register: shop

- name: Show when they were made
  ansible.builtin.debug:
    msg: "{{ shop.snapshots | map(attribute='time') | sort }}"

- name: Show one of them
  scalr.backup.snapshot_info:
    snapshot: 5f0c8e1b
"""

RETURN = r"""
snapshots:
  description: The snapshots.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The snapshot's id.
      type: str
      sample: 5f0c8e1b4c7d1a53e3a1f6a3f0f6f2a8b1f0e5b5c5d1f4a7b7e6c0d9a8f7e6d5
    short_id:
      description: Its first characters, as restic prints them.
      type: str
      sample: 5f0c8e1b
    time:
      description: When the snapshot was made.
      type: str
      sample: "2026-11-22T03:00:11Z"
    host:
      description: Name of the host that made it.
      type: str
      sample: web1
    container:
      description: The container that was backed up.
      type: str
      sample: scalr-shop-db
    database:
      description: The database that it holds.
      type: str
      sample: shop
    path:
      description: Path of the dump in the snapshot.
      type: str
      sample: /scalr-shop-db/shop.dump
    run:
      description: The pass that made it.
      type: str
      sample: 20261122T030000Z-3f9a
    reason:
      description: Why it was made.
      type: str
      sample: nightly
    tags:
      description: All its tags.
      type: list
      elements: str
      sample: [scalr-shop-db, run=20261122T030000Z-3f9a, nightly]
    dump_bytes:
      description: Size of the dump.
      type: int
      sample: 204010923
    pinned:
      description: Whether retention keeps it forever.
      type: bool
      sample: false
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import AGENT_ARGUMENTS, call_or_fail, flag, option


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            AGENT_ARGUMENTS,
            db={"type": "str"},
            database={"type": "str"},
            snapshot={"type": "str"},
            copy={"type": "bool", "default": False},
        ),
        supports_check_mode=True,
    )
    wanted = module.params
    changed, values = call_or_fail(
        module,
        "snapshots",
        *option("db", wanted["db"]),
        *option("database", wanted["database"]),
        *option("snapshot", wanted["snapshot"]),
        *flag("copy", wanted["copy"]),
    )
    module.exit_json(changed=changed, **values)


if __name__ == "__main__":
    main()
