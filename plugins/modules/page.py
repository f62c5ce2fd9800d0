#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is documentation only: the action plugin of the same name does the work, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: page
short_description: Write a page on the controller that only chosen users can read
version_added: 0.6.0
description:
  - Writes a file on the controller, as the user who runs Ansible. Its permissions are set before its first byte is written,
    and it appears complete or not at all.
  - A symbolic link is followed only in a directory that nobody else can write to. In others, such as C(/tmp), the module fails.
extends_documentation_fragment:
  - scalr.backup._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  path:
    description:
      - Path of the file. Its directory must exist.
    type: path
    required: true
  content:
    description:
      - The page.
    type: raw
    required: true
  mode:
    description:
      - The file's permissions, octal and in quotation marks, such as V("0640"), or symbolic, such as V(u=rw,g=r), starting from
        V("0600"). Nobody can execute the file.
    type: raw
    default: "0600"
seealso:
  - plugin: scalr.backup.status_page
    plugin_type: filter
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Write a page that a web server's group may read
  scalr.backup.page:
    path: /srv/www/backups.html
    content: "{{ answers | scalr.backup.status_page }}"
    mode: "0640"
"""

RETURN = r"""
path:
  description: The path.
  returned: success
  type: str
  sample: /srv/www/backups.html
mode:
  description: The permissions.
  returned: success
  type: str
  sample: "0640"
"""
