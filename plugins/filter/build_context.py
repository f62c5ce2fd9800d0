# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: build_context
short_description: List and fingerprint the files that an image is built from
version_added: 0.1.0
description:
  - Walks a directory on the controller and returns what belongs in the image's build context, together with a
    checksum that changes exactly when a file or a build argument does.
  - What tools leave behind in a checkout, such as C(__pycache__) and hidden directories, is left out.
options:
  _input:
    description: The directory.
    type: path
    required: true
  build_args:
    description: The arguments of the build.
    type: dict
    default: {}
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Name an image after what it is built from
  ansible.builtin.set_fact:
    image: "example:{{ ('files/example' | scalr.backup.build_context).checksum[:12] }}"
"""

RETURN = r"""
_value:
  description: The context.
  type: dict
  contains:
    directories:
      description: The directories in it, parents first, relative to the given one.
      type: list
      elements: str
    files:
      description: The files in it, relative to the given directory.
      type: list
      elements: str
    checksum:
      description: SHA-256 over the names and contents of the files and the build arguments.
      type: str
"""


def build_context(directory: str, build_args: Mapping[str, object] | None = None) -> dict[str, Any]:
    """What an image is built from, and its checksum."""
    root = Path(directory)
    if not root.is_dir():
        raise AnsibleFilterError(f"There is no directory {directory} to build an image from.")
    paths = sorted(path for path in root.rglob("*") if not _is_left_behind(path.relative_to(root)))
    files = [path for path in paths if path.is_file()]

    checksum = hashlib.sha256()
    for name, value in sorted((build_args or {}).items()):
        _feed(checksum, name.encode(), str(value).encode())
    for path in files:
        _feed(checksum, path.relative_to(root).as_posix().encode(), path.read_bytes())
    return {
        "directories": [path.relative_to(root).as_posix() for path in paths if path.is_dir()],
        "files": [path.relative_to(root).as_posix() for path in files],
        "checksum": checksum.hexdigest(),
    }


def _is_left_behind(path: Path) -> bool:
    """Whether a path is the work of a tool and no part of the context."""
    if path.suffix == ".pyc":
        return True
    return any(part == "__pycache__" or part.endswith(".egg-info") or _is_hidden(part) for part in path.parts)


def _is_hidden(name: str) -> bool:
    # The caches of mypy, ruff, pytest …, but not the one hidden file that belongs to a context.
    return name.startswith(".") and name != ".dockerignore"


def _feed(checksum: hashlib._Hash, *parts: bytes) -> None:
    # Each part with its length before it, so that no two different contexts run together into the same bytes.
    for part in parts:
        checksum.update(b"%d:" % len(part))
        checksum.update(part)


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"build_context": build_context}
