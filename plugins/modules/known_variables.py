#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is documentation only: the action plugin of the same name does the work, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: known_variables
short_description: Reject unknown variables
version_added: 0.4.0
description:
  - Fails with a sentence for each misspelled variable, which Ansible itself would ignore, and suggests the one that
    was probably meant.
  - The collection's playbooks and roles do this first. Your own playbooks that use its modules can do the same.
  - A variable is known if a playbook or a role documents it, if another variable in the inventory uses it in a
    template, if it begins with C(ansible_), C(awx_), C(tower_), C(semaphore_) or C(vault_), or if
    C(backup_extra_variables) lists it.
extends_documentation_fragment:
  - scalr.backup._attributes.info_module
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: >-
      Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
options:
  playbook:
    description:
      - Name of a playbook of the collection. Rejects unknown extra variables, empty values, and variables that
        contradict each other.
      - If your own playbook runs as well, a variable may belong to it. Then only variables that look misspelled, or
        begin with C(backup_), are rejected.
      - Inventories use some words for their own purposes, such as C(db), C(image), C(snapshot) or C(tags). Of the
        inventory, these never count. C(restore) and C(prune) reject them, the other playbooks warn.
    type: str
    choices: [backup, check, drill, prune, recovery_kit, restore, rotate_password, site, status]
  role:
    description:
      - Name of a role of the collection. Rejects unknown variables of the host that begin with C(backup_), and
        those that look like a misspelled variable of the role.
    type: str
    choices: [backup, docker, monitoring]
seealso:
  - module: scalr.backup.report
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Reject the host's unknown variables
  scalr.backup.known_variables:
    role: backup
"""

RETURN = r"""
given:
  description: Which of these words are extra variables, with O(playbook).
  type: list
  elements: str
  returned: with O(playbook)
"""
