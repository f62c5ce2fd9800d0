# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filter for the role backup: what the host calls a user of a container's."""

from __future__ import annotations

DOCUMENTATION = r"""
name: host_numbers
short_description: Translate a container's user and group ids to the host's
description:
  - Reads the id maps of a container's user namespace.
options:
  _input:
    description:
      - Content of C(/proc/self/uid_map), followed by that of C(/proc/self/gid_map), in the container. Lines that do not have
        three numbers are ignored.
    type: str
    required: true
  number:
    description:
      - Id of the user and of the group in the container.
    type: int
    required: true
positional: number
author:
  - Contributors to the scalr.backup collection
version_added: 0.8.0
"""

EXAMPLES = r"""
- name: Give a file to the agent's group
  ansible.builtin.file:
    path: /srv/agent
    group: "{{ (maps.stdout | scalr.backup.host_numbers(64738)).group }}"
"""

RETURN = r"""
_value:
  description:
    - The ids C(user) and C(group) on the host; empty if either is not mapped.
  type: dict
"""


def host_numbers(maps: str, number: int) -> dict[str, int]:
    """The host's numbers of a user and a group, from both maps after one another; empty where one has none."""
    lines = [line.split() for line in maps.splitlines()]
    users, groups = _split(
        [[int(word) for word in line] for line in lines if len(line) == 3 and all(map(str.isdecimal, line))]
    )
    user, group = _mapped(users, number), _mapped(groups, number)
    return {} if user is None or group is None else {"user": user, "group": group}


def _split(lines: list[list[int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Two maps of a namespace, each of which begins with the container's number 0."""
    starts = [position for position, line in enumerate(lines) if line[0] == 0]
    middle = starts[1] if len(starts) > 1 else len(lines)
    return lines[:middle], lines[middle:]


def _mapped(lines: list[list[int]], number: int) -> int | None:
    """The number outside of one inside; None where there is none."""
    for inside, outside, count in lines:
        if inside <= number < inside + count:
            return outside + number - inside
    return None


class FilterModule:
    """Ansible filters."""

    def filters(self) -> dict[str, object]:
        """All of them by name."""
        return {"host_numbers": host_numbers}
