# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ansible_collections.scalr.backup.plugins.plugin_utils._units import counted

DOCUMENTATION = r"""
name: deployment
short_description: Summarise a deployment of the agent
version_added: 0.4.0
description:
  - Describes what the role M(scalr.backup.backup#role) deployed on a host. Notes come first, the summary comes last.
options:
  _input:
    description: What M(scalr.backup.database_info) returns for the host.
    type: dict
    required: true
  repository:
    description: Where the backups go.
    type: str
    required: true
  copy:
    description: Where they are copied to.
    type: str
    default: ''
  password:
    description: Where the repository's password is stored.
    type: str
    required: true
  first:
    description: Whether the host was deployed for the first time.
    type: bool
    default: false
  notes:
    description: Additional sentences for the operator.
    type: list
    elements: str
    default: []
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Report what was deployed
  scalr.backup.report:
    lines: "{{ discovered | scalr.backup.deployment('s3:https://s3.example.com/backups', password='/root/passwords/web1') }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
  sample:
    - >-
      web1 backs up 1 database in 1 container (scalr-shop-db) to s3:https://s3.example.com/backups. Next pass: 2026-11-29 03:00 UTC.
      Password: /root/passwords/web1.
"""


def deployment(
    discovered: Mapping[str, Any],
    repository: str,
    copy: str = "",
    password: str = "",
    first: bool = False,
    notes: Iterable[str] = (),
) -> list[str]:
    """What a deployment has come to: the notes, a line each, and one line of summary."""
    host = discovered["host"]
    running = [one for one in discovered["containers"] if one["status"] == "ok"]
    names = ", ".join(one["name"] for one in running)
    databases = counted(sum(len(one["databases"]) for one in running), "database")
    copied = f", and copies them to {copy}" if copy else ""
    summary = [
        f"{host} backs up {databases} in {counted(len(running), 'container')} ({names}) to {repository}{copied}."
    ]
    if not running:
        summary = [f"{host} has nothing to back up yet. Backups will go to {repository}{copied}."]
    if discovered.get("next_pass"):
        summary.append(f"Next pass: {_moment(discovered['next_pass'])}.")
    summary.append(f"Password: {password}.")
    if first and running:
        summary.append("Run backup.yml for a first backup now.")
    elif not running:
        summary.append("Start a database container that matches backup_containers, then run status.yml.")
    return [*(f"{host}: {note}" for note in [*notes, *discovered.get("notes", ())]), " ".join(summary)]


def _moment(text: str) -> str:
    """An ISO 8601 time in UTC, to the minute."""
    return datetime.fromisoformat(text).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"deployment": deployment}
