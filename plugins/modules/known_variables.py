#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is documentation only: the action plugin of the same name does the work, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: known_variables
short_description: Refuse variables that the collection does not know
version_added: 0.4.0
description:
  - Fails with a sentence for each variable with a typing error in its name, which Ansible itself would ignore, and names
    the variable that was probably meant.
  - The playbooks and roles of the collection do this by themselves, before anything else. A playbook of your own that calls
    modules of the collection can do the same.
  - A variable is known where a playbook or a role documents it, where another variable of the inventory uses it in a template,
    where it begins with C(ansible_), C(awx_), C(tower_), C(semaphore_) or C(vault_), or where C(backup_extra_variables) names it.
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
      - Name of a playbook of the collection. Refused are extra variables that it does not know, values that say nothing, and
        variables that do not go together.
      - Where another playbook than the collection's runs too, a variable may be that one's. Then only those are refused
        that look like a typing error, or begin with C(backup_).
    type: str
    choices: [backup, check, drill, prune, recovery_kit, restore, rotate_password, site, status]
  role:
    description:
      - Name of a role of the collection. Refused are variables of the host that begin with C(backup_) and are none of that role,
        and those that look like a typing error in the name of one.
    type: str
    choices: [backup, docker, monitoring]
seealso:
  - module: scalr.backup.report
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Refuse variables of the host that the role does not know
  scalr.backup.known_variables:
    role: backup
"""

RETURN = r"""
"""
