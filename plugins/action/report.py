# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows lines of text as they are."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.scalr.backup.plugins.module_utils._address import redact
from ansible_collections.scalr.backup.plugins.plugin_utils._units import printable

display = Display()


class ActionModule(ActionBase):
    """What ansible.builtin.debug does, without quoting and folding the lines: a table stays a table."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show the lines on the controller."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec({"lines": {"type": "list", "required": True}})
        # Text of a database or a server may be among the lines: it must not steer the terminal, nor show what opens a store.
        lines = [printable(redact(str(line))) for line in arguments["lines"]]
        display.display("\n" + "\n".join(lines) + "\n")
        return {**result, "changed": False, "lines": lines}
