# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The files that the agent reads, of what the variables say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The settings that are numbers.
NUMBERS = (
    "check_weeks",
    "drill_overdue_days",
    "dump_size_factor",
    "lock_hours",
    "metrics_port",
    "nearly_full_percent",
    "parallel",
    "pass_hours",
    "shrink_percent",
    "spread_minutes",
)

#: What "off" becomes on its way: YAML takes it for false.
_OFF = ("false", "off")


def agent_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the types that the agent takes.

    Before ansible-core 2.19, what a template makes is text, and nothing is empty text, unless it lies in a list or a
    dictionary.
    """
    # Read one by one: Ansible's own mappings evaluate a value when it is asked for.
    return {name: _typed(name, value) for name, value in settings.items()}


def _typed(name: str, value: Any) -> Any:
    if name in NUMBERS:
        return int(value)
    if name == "row_order":
        return "off" if str(value).lower() in _OFF else value
    return value or None if name == "copy" else value


def environment_file(variables: Mapping[str, Any]) -> str:
    """The file with the credentials of a store: a line for each variable, one without a value being empty."""
    lines = ["# What the agent gives restic. Written by the role scalr.backup.backup."]
    for name in sorted(variables, key=str.lower):
        value = variables[name]
        lines.append(f"{name}={'' if value is None else value}")
    return "\n".join([*lines, ""])
