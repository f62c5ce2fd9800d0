# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._recovery_kit import shell_word

DOCUMENTATION = r"""
name: shell_word
short_description: Quote a text for bash so that a reader sees all of it
version_added: 0.6.0
description:
  - Quotes a text as one word of bash on one line.
  - Characters that a reader cannot see, or that change the direction of text, are escaped.
options:
  _input:
    description: The text.
    type: raw
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Show a command to copy
  ansible.builtin.debug:
    msg: "docker inspect {{ container | scalr.backup.shell_word }}"
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"shell_word": shell_word}
