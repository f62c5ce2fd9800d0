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

    # For modules whose verb reports progress. Goes together with the fragment above.
    PROGRESS = r"""
options:
  progress_file:
    description:
      - File on the host that the agent's output goes to while the module runs, one JSON object a line. Only the user that
        the module runs as can read it, and the module removes it at the end.
      - You need not set it. Ansible itself does, to show lines of progress on the controller while the module runs.
    type: path
    version_added: 0.2.0
notes:
  - Lines of progress are shown on the controller every few seconds, except in check mode, where the task has C(async) or
    C(no_log), or where it sets O(progress_file) itself.
  - For that, the module runs asynchronously on the host. When Ansible is interrupted on the controller, or loses the
    connection, the agent finishes what it has begun.
"""

    # For modules whose verb restores snapshots. Goes together with the fragments above.
    SOURCE = r"""
options:
  from_host:
    description:
      - Name of the host that made the snapshots, as it stands in the repository, when it is another one.
    type: str
    version_added: 0.2.0
  from_repository:
    description:
      - Repository that holds the snapshots, in restic's notation, when it is not the agent's own. Requires O(from_host).
    type: str
    version_added: 0.2.0
  from_password:
    description:
      - Password of O(from_repository). By default, the agent uses the password of its own repository.
    type: str
    version_added: 0.2.0
  from_environment:
    description:
      - Credentials of the store that O(from_repository) lies in, such as C(AWS_SECRET_ACCESS_KEY). Requires
        O(from_password). By default, the agent uses those of its own repository, or none where O(from_password) is set.
    type: dict
    version_added: 0.2.0
  from_copy:
    description:
      - Whether to read from the host's second repository (C(backup_copy_repository)) instead of its first.
    type: bool
    default: false
    version_added: 0.2.0
"""
