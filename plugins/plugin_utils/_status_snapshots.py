# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Which snapshots a database can be restored from, and the commands that restore one."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# What the shell and Ansible's key=value take as it is.
_PLAIN = re.compile(r"[A-Za-z0-9_.@:/+-]+\Z")
# Ansible takes a value of -e for a template where these stand in it.
_TEMPLATE = ("{{", "{%", "{#")


@dataclass(frozen=True)
class Snapshot:
    """A snapshot of a database, *time* in ISO 8601."""

    id: str
    time: str
    dump_bytes: float | None
    reason: str | None
    pinned: bool


def by_database(snapshots: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[Snapshot, ...]]:
    """The snapshots that the agent has listed, of each container and database, the newest first."""
    found: dict[tuple[str, str], list[Snapshot]] = {}
    for one in snapshots:
        if one.get("container") and one.get("database"):
            found.setdefault((one["container"], one["database"]), []).append(_snapshot(one))
    return {key: tuple(sorted(several, key=lambda one: one.time, reverse=True)) for key, several in found.items()}


def _snapshot(one: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        id=one.get("short_id") or one["id"][:8],
        time=one["time"],
        dump_bytes=one.get("dump_bytes"),
        reason=one.get("reason"),
        pinned=bool(one.get("pinned")),
    )


def restore_from_controller(host: str, container: str, database: str) -> str | None:
    """The command that restores a database, for the controller; None where Ansible would read a name as a template."""
    if any(mark in name for name in (host, container, database) for mark in _TEMPLATE):
        return None
    variables = {"db": container, "database": database}
    if all(map(_PLAIN.match, variables.values())):
        chosen = " ".join(f"-e {name}={value}" for name, value in variables.items())
    else:
        chosen = f"-e {shlex.quote(json.dumps(variables))}"
    return f"ansible-playbook scalr.backup.restore --limit {shlex.quote(host)} {chosen}"


def restore_on_host(container: str, database: str) -> str:
    """The same for the host itself."""
    words = ["docker", "exec", "-it", "scalr-backup", "scalr-backup", "restore", f"--db={container}"]
    return shlex.join([*words, f"--database={database}"])


def list_on_host(container: str) -> str:
    """The command that lists all snapshots of a container."""
    return shlex.join(["docker", "exec", "scalr-backup", "scalr-backup", "snapshots", f"--db={container}"])
