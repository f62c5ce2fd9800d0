# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks an image's archive on the controller, before any host gets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.scalr.backup.plugins.plugin_utils._image_archive import ship
from ansible_collections.scalr.backup.plugins.plugin_utils._image_tar import RefusedError


class ActionModule(ActionBase):
    """What the archive holds is proved, and written anew; a sentence if there is anything else in it."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check and write on the controller, whatever host the task is for."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            return {**result, "skipped": True, "msg": "An archive is checked while it is written."}
        text = {"type": "str", "required": True}
        path = {"type": "path", "required": True}
        _validation, wanted = self.validate_argument_spec({"src": path, "dest": path, "image": text, "id": text})
        destination = Path(wanted["dest"])
        told = destination.with_name(f"{destination.name}.ids")
        try:
            # Without its ids no archive is believed, so that none is while they change.
            told.unlink(missing_ok=True)
            ids = ship(Path(wanted["src"]), destination, wanted["image"], wanted["id"])
            told.write_text(json.dumps(ids))
        except RefusedError as refused:
            return {**result, "failed": True, "msg": f"{refused} It was not shipped to any host."}
        except OSError as problem:
            return {**result, "failed": True, "msg": f"The archive could not be checked on the controller: {problem}."}
        return {**result, "changed": True, "ids": ids}
