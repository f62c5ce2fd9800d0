# SPDX-License-Identifier: GPL-3.0-or-later
"""Under which name a container's backups are kept: one that stays when the container is made anew under another.

A label says it. A task of a Swarm service has the service's name and its slot, without the task's own id. While Compose makes
a container anew, it puts twelve hexadecimal digits before the old one's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# What design and documentation call it, and what somebody who thinks of services may.
LABELS = ("scalr.backup.name", "scalr.backup.service")
_SWARM_TASK, _SWARM_SERVICE = "com.docker.swarm.task.name", "com.docker.swarm.service.name"
_COMPOSE_PROJECT = "com.docker.compose.project"
_MADE_ANEW = re.compile(r"[0-9a-f]{12}_(?P<name>.+)\Z")
# Docker's own rule for names of containers, of which the repository's paths are made.
_VALID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")


class EngineNames(dict[str, str]):
    """What the engine calls containers whose backups are kept under another name; the others' own names."""

    def __missing__(self, container: str) -> str:
        """The engine has no other name for this one."""
        return container


def history_name(name: str, labels: Mapping[str, str]) -> str:
    """The name that stays; the container's own where nothing says another, or what is said is no name."""
    said = next((str(labels[label]) for label in LABELS if labels.get(label)), None)
    if said is None and labels.get(_SWARM_SERVICE):
        said = str(labels.get(_SWARM_TASK, "")).rpartition(".")[0] or str(labels[_SWARM_SERVICE])
    if said is None and _COMPOSE_PROJECT in labels and (found := _MADE_ANEW.match(name)):
        said = found["name"]
    return said if said is not None and _VALID.match(said) else name
