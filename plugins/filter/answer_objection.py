# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from inspect import unwrap
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.scalr.backup.plugins.plugin_utils._fleet_lines import backup_lines, drill_lines, status_lines
from ansible_collections.scalr.backup.plugins.plugin_utils._legible import why_not_shown

DOCUMENTATION = r"""
name: answer_objection
short_description: Say why a host's answer cannot be read
version_added: 0.8.0
description:
  - Checks whether what a host has answered can be shown in the playbooks' tables, and on the status page if its history is there.
positional: _input, playbook
options:
  _input:
    description: The registered result of M(scalr.backup.database_backup), M(scalr.backup.database_drill) or M(scalr.backup.status_info).
    type: dict
    required: true
  playbook:
    description: Which of them it is.
    type: str
    choices: [backup, drill, status]
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Fail if the host's answer cannot be read
  ansible.builtin.fail:
    msg: "{{ status | scalr.backup.answer_objection('status') }}"
  when: status | scalr.backup.answer_objection('status') | length > 0
"""

RETURN = r"""
_value:
  description: The reason, or an empty string if it can be read.
  type: str
"""

Answer = Mapping[str, Any]


def answer_objection(result: Answer, playbook: str) -> str:
    """Why what a host has answered cannot be shown."""
    said = {"host": "", "rows": result.get("databases") or result.get("plan") or [], "failure": ""}
    if playbook == "backup":
        return why_not_shown(unwrap(backup_lines), {**said, "outcome": "saved", "notes": result.get("notes") or []})
    if playbook == "drill":
        return why_not_shown(unwrap(drill_lines), {**said, "outcome": "passed"})
    if playbook == "status":
        said |= {"outcome": "safe", "next_pass": "", "summary": "", "findings": result.get("findings", [])}
        why = why_not_shown(unwrap(status_lines), {**said, "kept": result.get("kept_databases") or []})
        return why or (_why_not_on_the_page(result) if "history" in result else "")
    raise AnsibleFilterError(f"answer_objection knows backup, drill and status, not {playbook}.")


def _why_not_on_the_page(status: Answer) -> str:
    # As in status_page: what draws pages is loaded where there is one.
    from ansible_collections.scalr.backup.plugins.plugin_utils._status_figures import fleet  # noqa: PLC0415
    from ansible_collections.scalr.backup.plugins.plugin_utils._status_page import page  # noqa: PLC0415

    def drawn(answers: Sequence[Answer]) -> str:
        return page(fleet(answers, datetime.now(timezone.utc)))

    return why_not_shown(drawn, {"name": "", "outcome": "safe", "summary": "", "status": status})


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"answer_objection": answer_objection}
