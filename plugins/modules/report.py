#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is documentation only: the action plugin of the same name does the work, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Show lines of text as they are
version_added: 0.1.0
description:
  - Shows lines on the controller's terminal without quoting or folding them, so that a table stays a table
    regardless of the callback.
extends_documentation_fragment:
  - scalr.backup._attributes.info_module
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: >-
      Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
options:
  lines:
    description:
      - The lines. Unprintable characters are shown as question marks.
    type: list
    elements: str
    required: true
seealso:
  - plugin: scalr.backup.text_table
    plugin_type: filter
  - module: ansible.builtin.debug
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show a table
  scalr.backup.report:
    lines: "{{ [['web1', 'shop', 3], ['web2', 'wiki', 12]] | scalr.backup.text_table(['HOST', 'APP', 'DATABASES']) }}"
"""

RETURN = r"""
lines:
  description: The lines that were shown.
  returned: always
  type: list
  elements: str
"""
