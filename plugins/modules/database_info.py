#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: database_info
short_description: List the database containers and databases of a host
version_added: 0.1.0
description:
  - Lists the database containers that the agent discovers on this host, and their databases.
  - These are the databases that the next pass backs up. A container that matches but cannot be backed up, for
    example because it is stopped, is listed too, with the reason.
options:
  row_order:
    description:
      - Whether to show for each database which tables are dumped with their rows in the order of a key, and why others are
        not.
      - This opens one session in each database, to read its catalogs and statistics.
    type: bool
    default: false
    version_added: 0.7.0
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._attributes.info_module
  - scalr.backup._agent
seealso:
  - module: scalr.backup.database_backup
  - module: scalr.backup.snapshot_info
  - module: scalr.backup.status_info
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: List what would be backed up
  scalr.backup.database_info:
  register: discovered

- name: Show the names of all databases
  ansible.builtin.debug:
    msg: "{{ discovered.containers | map(attribute='databases') | flatten | map(attribute='name') }}"

- name: Verify that the new app is covered
  ansible.builtin.assert:
    that: "'scalr-shop-db' in discovered.containers | selectattr('status', 'eq', 'ok') | map(attribute='name')"

- name: Find out which tables stay in heap order, and how to change that
  scalr.backup.database_info:
    row_order: true
  register: ordered
"""

RETURN = r"""
host:
  description: Name of the host in the repository.
  returned: success
  type: str
  sample: web1
repository_note:
  description: A warning if no repository of the host is elsewhere, or an empty string.
  returned: success
  type: str
  sample: ""
  version_added: 0.4.0
next_pass:
  description: When the next pass starts.
  returned: success
  type: str
  sample: "2026-11-29T03:00:00+00:00"
  version_added: 0.4.0
unmatched:
  description:
    - PostgreSQL containers that are neither backed up nor deliberately excluded. Each has its C(name),
      C(image), C(state), in C(evidence) what identifies it as PostgreSQL, and in C(why) why it is left out.
  returned: success, from an agent of 0.4.0 or later
  type: list
  elements: dict
  version_added: 0.4.0
notes:
  description: What an operator has to know about them, one sentence each.
  returned: success, from an agent of 0.4.0 or later
  type: list
  elements: str
  sample: []
  version_added: 0.4.0
containers:
  description: The database containers of the host.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the container.
      type: str
      sample: scalr-shop-db
    id:
      description: Docker's id of the container.
      type: str
      sample: 4f66ad9a0b2e
    image:
      description: Image that the container runs.
      type: str
      sample: postgres:17
    state:
      description: Docker's state of the container.
      type: str
      sample: running
    status:
      description: Whether the container can be backed up.
      type: str
      sample: ok
    reason:
      description: Why it cannot.
      type: str
      sample: null
    server_version:
      description: Version of the PostgreSQL server.
      type: str
      sample: "17.6"
    databases:
      description: The databases of its cluster that are backed up.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the database.
          type: str
          sample: shop
        size_bytes:
          description: Size on the server's disk.
          type: int
          sample: 371195904
        owner:
          description: Role that owns the database.
          type: str
          sample: shop
        encoding:
          description: Encoding of the database.
          type: str
          sample: UTF8
        row_order:
          description: How the rows of its large tables are dumped.
          returned: if O(row_order=true)
          type: dict
          version_added: 0.7.0
          contains:
            ordered:
              description: The tables whose rows are dumped in the order of a key.
              type: list
              elements: dict
              contains:
                table:
                  description: Schema and name.
                  type: str
                  sample: public.orders
                bytes:
                  description: Size on the server's disk, without indexes.
                  type: int
                  sample: 371195904
                key:
                  description: The columns of the key.
                  type: list
                  elements: str
                  sample: [id]
                descending:
                  description: Whether the newest rows come first, so that they lie next to those of the previous table.
                  type: bool
                  version_added: 0.8.0
                  sample: false
                index:
                  description: The unique index that makes these columns a key.
                  type: str
                  sample: orders_pkey
                scan:
                  description: How the table is read, V(sort) or V(index).
                  type: str
                  sample: sort
                reason:
                  description: Why this key keeps rows in their places.
                  type: str
                  sample: id is an identity column
            heap:
              description:
                - The large tables whose rows are dumped in heap order. Each has its C(table), its C(bytes), in C(reason) why,
                  and in C(cure) a remedy, if there is one.
              type: list
              elements: dict
            why_not:
              description: Why none of its tables is ordered, if there is a single reason.
              type: str
              sample: null
            error:
              description: Why the database could not be inspected, with C(code) and C(message).
              type: dict
              sample: null
    kept_databases:
      description:
        - Copies that restores left beside the live databases, which are not backed up. Each has its C(container),
          C(database), C(kept_since), C(size_bytes), and in C(command) the command that drops it.
      type: list
      elements: dict
      version_added: 0.4.0
    left_out_databases:
      description:
        - Databases that cannot be backed up. Each has its C(container), C(database), and in C(why) the reason.
      type: list
      elements: dict
      version_added: 0.5.0
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import AGENT_ARGUMENTS, call_or_fail, flag


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(AGENT_ARGUMENTS, row_order={"type": "bool", "default": False}),
        supports_check_mode=True,
    )
    changed, values = call_or_fail(module, "discover", *flag("row-order", module.params["row_order"]))
    module.exit_json(changed=changed, **values)


if __name__ == "__main__":
    main()
