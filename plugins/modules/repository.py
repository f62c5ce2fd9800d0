#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: repository
short_description: Create, check and prune the repository of a host
version_added: 0.1.0
description:
  - Creates the restic repository in the agent's configuration, checks it, applies retention to it, or removes stale
    locks from it.
  - From a trusted place, applies retention to the repository of an append-only host.
extends_documentation_fragment:
  - scalr.backup._attributes
  - scalr.backup._agent
  - scalr.backup._agent.source
attributes:
  check_mode:
    support: partial
    details:
      - With O(action=init) and O(action=forget) the agent reports what it would do.
      - With O(action=check) the repository is checked, because that modifies nothing.
      - With O(action=unlock) and O(action=copy) the module is skipped, because the agent cannot predict these.
  diff_mode:
    support: partial
    details:
      - With O(action=init) shows the repository, with O(action=forget) the snapshots that are removed.
options:
  action:
    description:
      - What to do.
      - V(init) creates the repository if there is none. An existing one that opens is left unchanged.
      - V(check) verifies that the repository is intact.
      - V(forget) removes the snapshots that the host's retention rules do not keep, and frees their space.
      - V(unlock) removes locks that a killed process left behind. Locks in use stay.
      - V(copy) copies what is missing to the host's second repository, and applies its retention rules there. Each
        pass does so automatically. Since version 0.2.0.
    type: str
    required: true
    choices: [init, check, copy, forget, unlock]
  read_data_subset:
    description:
      - How much of the data to read back with O(action=check), such as V(5%), V(1/7) or V(2G). By default only the
        structure is checked.
    type: str
  copy:
    description:
      - Whether to use the host's second repository (C(backup_copy_repository)). For O(action=init) and
        O(action=check).
    type: bool
    default: false
    version_added: 0.2.0
  prune:
    description:
      - Whether O(action=forget) also frees the space of what is forgotten. Otherwise the next pass does.
    type: bool
    default: true
  snapshots:
    description:
      - Ids of snapshots, or the beginnings of ids, that O(action=forget) removes instead of applying the rules.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  accept_late:
    description:
      - Whether O(action=forget) with O(from_repository) trusts new snapshots that are dated before its last look.
        Otherwise it fails and lists them, and removes nothing of their databases.
    type: bool
    default: false
    version_added: 0.2.0
  read_all:
    description:
      - Whether O(action=forget) with O(from_repository) forgets which files of the repository it has read, and reads
        every file again. It then accepts that snapshots are gone, and that the repository at this address has another id
        than before. Otherwise it reads what is new since its last look.
    type: bool
    default: false
    version_added: 0.6.0
  keep:
    description:
      - The rules of retention for O(from_repository), such as C(daily) with V(30). A rule that is not set keeps
        nothing.
    type: dict
    version_added: 0.2.0
  keep_within:
    description:
      - How long everything is kept in O(from_repository) regardless of O(keep), counted back from each database's
        newest snapshot.
    type: str
    default: 30d
    version_added: 0.2.0
  ca_certificate:
    description:
      - Private CA's certificate for the store of O(from_repository), in PEM.
    type: str
    version_added: 0.2.0
  image:
    description:
      - Image of the agent, to run in a separate container on a host without an agent. Requires O(from_repository).
      - It remembers snapshots, and which files of the repository it has read, in the volume C(scalr-backup-prune).
      - The container is in the engine's default network, or in the machine's own if the store is there. Since version 0.6.0.
    type: str
    version_added: 0.2.0
seealso:
  - module: scalr.backup.snapshot_info
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Create the repository
  scalr.backup.repository:
    action: init

- name: Verify it, and read back a twentieth of its data
  scalr.backup.repository:
    action: check
    read_data_subset: 5%

- name: Apply the retention rules now
  scalr.backup.repository:
    action: forget

- name: Apply the retention rules of an append-only host, from here
  scalr.backup.repository:
    action: forget
    from_host: web1
    from_repository: s3:https://s3.example.com/backups/web1
    from_password: "{{ backup_password }}"
    from_environment: "{{ backup_prune_environment }}"
    keep: {daily: 30, weekly: 4, monthly: 6}
    image: registry.example.com/scalr-backup:0.2.0
  delegate_to: localhost

- name: Verify the second repository
  scalr.backup.repository:
    action: check
    copy: true

- name: Remove locks left by a power cut
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
  description: Whether the repository was created, or would be in check mode.
  returned: with O(action=init)
  type: bool
  sample: false
repository_id:
  description: The repository's id. It distinguishes repositories in the same place.
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
  description: Whether space was freed.
  returned: with O(action=forget)
  type: bool
  sample: true
suspects:
  description: The ids of snapshots with implausible times. Nothing of their databases was removed, and the module failed.
  returned: with O(action=forget)
  type: list
  elements: str
  version_added: 0.2.0
  sample: []
look:
  description:
    - What was read before anything was removed, or null. C(indexes), C(packs), C(bytes) and C(seconds) say how much, C(waiting)
      how many packs of unused data a later run deletes, and C(deleted) how many this one deleted.
  returned: with O(action=forget)
  type: dict
  version_added: 0.6.0
  sample: {indexes: 7, packs: 20, bytes: 310000000, seconds: 9.5, waiting: 12, deleted: 15}
decisions:
  description:
    - For each dump whether it is kept (C(keep)) and C(why), a list of words; also C(id), C(short_id), C(time),
      C(container),
      C(database) and C(reason).
  returned: with O(action=forget) in check mode
  type: list
  elements: dict
  version_added: 0.3.0
  sample: []
code:
  description: The error's code.
  returned: failure
  type: str
  sample: wrong_password
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils._agent import (
    AGENT_ARGUMENTS,
    SOURCE_ARGUMENTS,
    call_or_fail,
    flag,
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
            **SOURCE_ARGUMENTS,
            action={"type": "str", "required": True, "choices": ["init", "check", "copy", "forget", "unlock"]},
            copy={"type": "bool", "default": False},
            read_data_subset={"type": "str"},
            prune={"type": "bool", "default": True},
            snapshots={"type": "list", "elements": "str", "default": []},
            accept_late={"type": "bool", "default": False},
            read_all={"type": "bool", "default": False},
            keep={"type": "dict"},
            keep_within={"type": "str", "default": "30d"},
            ca_certificate={"type": "str"},
            image={"type": "str"},
        ),
        supports_check_mode=True,
    )
    action = module.params["action"]
    if module.params["from_copy"]:
        module.fail_json(msg="from_copy does not apply here: use copy for the second repository.")
    require_fitting(module, "repository")
    if module.check_mode and action in ("unlock", "copy"):
        module.exit_json(changed=False, skipped=True, msg=f"Check mode cannot predict what {action} would do.")

    arguments = {
        "init": flag("dry-run", module.check_mode) + flag("copy", module.params["copy"]),
        "check": option("read-data-subset", module.params["read_data_subset"]) + flag("copy", module.params["copy"]),
        "copy": [],
        "forget": forget_options(module) if action == "forget" else [],
        "unlock": [],
    }
    changed, values = call_or_fail(
        module, action, *arguments[action], secrets=secrets_of(module), image=module.params["image"]
    )
    if (
        action == "forget"
        and module.params["from_repository"] is not None
        and module.params["prune"]
        and "look" not in values
    ):
        module.fail_json(
            msg="The agent of the trusted place is an older release, which prunes without reading what is new: update it "
            "(site.yml, or the image of the current release) before you prune again.",
            **values,
        )
    module.exit_json(changed=changed, diff=difference(action, changed, values), **values)


def secrets_of(module: AnsibleModule) -> dict[str, Any] | None:
    """The secrets of the other repository, and what its store is known by."""
    secrets = source_secrets(module)
    if secrets and module.params["ca_certificate"]:
        secrets["ca_certificate"] = module.params["ca_certificate"]
    return secrets


def forget_options(module: AnsibleModule) -> list[str]:
    """How retention is to be applied, as options of the agent."""
    wanted = module.params
    elsewhere = wanted["from_repository"] is not None
    return [
        *options("snapshot", wanted["snapshots"]),
        *flag("no-prune", not wanted["prune"]),
        *flag("dry-run", module.check_mode),
        *flag("accept-late", wanted["accept_late"]),
        *flag("read-all", wanted["read_all"]),
        *source_options(module),
        *options("keep", [f"{rule}={count}" for rule, count in sorted((wanted["keep"] or {}).items())]),
        *option("keep-within", wanted["keep_within"] if elsewhere else None),
    ]


def difference(action: str, changed: bool, values: dict[str, Any]) -> dict[str, str]:
    """What an action makes appear or disappear."""
    if action == "init" and changed:
        return {"before": "", "after": f"{values['repository']}\n"}
    if action == "forget":
        return {"before": "".join(f"{snapshot}\n" for snapshot in values["removed"]), "after": ""}
    return {"before": "", "after": ""}


if __name__ == "__main__":
    main()
