# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What the documentation of every module that calls the agent has in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  agent:
    description:
      - Name of the agent's container on the host.
    type: str
    default: scalr-backup
requirements:
  - the agent's container, as the role P(scalr.backup.backup#role) puts it on the host
  - the docker command
notes:
  - The user that runs the module must be allowed to use Docker. Where this is root only, use C(become).
  - When the module fails, RV(ignore:msg) is the agent's own sentence, RV(ignore:code) the agent's word for the error
    (such as V(unknown_database) or V(wrong_password)), and everything that the agent did find out is returned as well.
"""
