# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._volumes import volume_options

DOCUMENTATION = r"""
name: volume_options
short_description: Turn volumes into options of a docker command
version_added: 0.4.0
description:
  - Turns each volume of a container into an option; only existing ones, if that is known.
positional: _input, there
options:
  _input:
    description: The volumes, as C(source:target), optionally with options.
    type: list
    elements: str
    required: true
  there:
    description: The existing sources. None if all exist, or are created.
    type: list
    elements: str
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show how the volumes are mounted
  ansible.builtin.debug:
    msg: "{{ ['scalr-backup-repository:/repository', '/root/.ssh:/ssh:ro'] | scalr.backup.volume_options(['/root/.ssh']) }}"
"""

RETURN = r"""
_value:
  description: The options.
  type: list
  elements: str
  sample: ['--volume=/root/.ssh:/ssh:ro']
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"volume_options": volume_options}
