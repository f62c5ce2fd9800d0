# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a page on the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.scalr.backup.plugins.plugin_utils._page_file import PageError, parse_mode, write_page


class ActionModule(ActionBase):
    """What ansible.builtin.copy does, without a moment in which others could read the file, or choose where it goes."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write it, in this process, as whoever runs Ansible."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, wanted = self.validate_argument_spec(
            {
                "path": {"type": "path", "required": True},
                # A template must stay the text that it makes.
                "content": {"type": "raw", "required": True},
                "mode": {"type": "raw", "default": "0600"},
            }
        )
        try:
            mode = parse_mode("mode", wanted["mode"])
            content = str(wanted["content"])
            changed = write_page(Path(wanted["path"]), content, mode, dry_run=self._task.check_mode)
        except PageError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": changed, "path": wanted["path"], "mode": f"{mode:04o}"}
