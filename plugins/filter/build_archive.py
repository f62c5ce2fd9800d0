# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DOCUMENTATION = r"""
name: build_archive
short_description: Pack the files that an image is built from
version_added: 0.4.0
description:
  - Packs what P(scalr.backup.build_context#filter) found in a directory on the controller into one archive for a host.
    Everything in it belongs to root; directories have the mode V(0755) and files V(0644).
options:
  _input:
    description: What P(scalr.backup.build_context#filter) has returned.
    type: dict
    required: true
  directory:
    description: The directory.
    type: path
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Unpack the build context on the host
  ansible.builtin.command:
    argv: [sh, -c, "base64 -d | tar --extract --gzip --directory /opt/build"]
    stdin: "{{ '/root/agent' | scalr.backup.build_context | scalr.backup.build_archive('/root/agent') }}"
"""

RETURN = r"""
_value:
  description: A tar archive that gzip has compressed, in base64.
  type: str
"""


def build_archive(context: Mapping[str, list[str]], directory: str) -> str:
    """The files of a context, as what ``build_context`` says of a directory, in one compressed archive; in base64."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in [*context["directories"], *context["files"]]:
            archive.add(Path(directory) / name, name, recursive=False, filter=_anybodys)
    return base64.b64encode(packed.getvalue()).decode()


def _anybodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member of an archive as it is in an image, whoever has the file on the controller."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() else 0o644
    return member


class FilterModule:
    """The plugin, as Ansible loads it."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"build_archive": build_archive}
