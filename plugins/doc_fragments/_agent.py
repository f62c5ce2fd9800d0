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
  engine_socket:
    description:
      - The engine's socket on the host, for an engine other than Docker's own (C(unix:///var/run/docker.sock)), such as
        V(/run/podman/podman.sock).
      - By default, the host's variable C(backup_engine_socket), then C(DOCKER_HOST) in the task's environment.
    type: path
    version_added: 0.8.0
requirements:
  - the agent's container, as deployed by the role P(scalr.backup.backup#role)
  - the docker command
  - Python 3.9 or newer on the host
notes:
  - The user that runs the module must be allowed to use Docker. If that is only root, use C(become).
  - If the module fails, RV(ignore:msg) is the agent's sentence, RV(ignore:code) its error code (such as
    V(unknown_database) or V(wrong_password)), and everything that the agent did find out is returned as well. The
    code is stable; the sentence may change between releases.
"""

    # For modules whose verb reports progress. Goes together with the fragment above.
    PROGRESS = r"""
options:
  progress_file:
    description:
      - File on the host for the agent's output while the module runs, one JSON object per line. Only the user that
        runs the module can read it, and the module removes it at the end.
      - You need not set it. Ansible does, to show progress on the controller while the module runs.
    type: path
    version_added: 0.2.0
notes:
  - Progress is shown on the controller every few seconds, except in check mode, with C(async) or C(no_log), or if
    the task sets O(progress_file) itself.
  - For that, the module runs asynchronously on the host. If Ansible is interrupted on the controller, or loses the
    connection, the agent finishes what it has begun.
"""

    # For modules whose verb restores snapshots. Goes together with the fragments above.
    SOURCE = r"""
options:
  from_host:
    description:
      - Name in the repository of the host that made the snapshots, if it is another one.
    type: str
    version_added: 0.2.0
  from_repository:
    description:
      - Repository with the snapshots, in restic's notation, if it is not the agent's own. Requires O(from_host).
    type: str
    version_added: 0.2.0
  from_password:
    description:
      - Password of O(from_repository). By default, the agent uses the password of its own repository.
    type: str
    version_added: 0.2.0
  from_environment:
    description:
      - Credentials for the store of O(from_repository), such as C(AWS_SECRET_ACCESS_KEY). Requires
        O(from_password). By default, the agent uses its own store's credentials, or none if O(from_password) is
        set.
    type: dict
    version_added: 0.2.0
  from_copy:
    description:
      - Whether to read from the host's second repository (C(backup_copy_repository)) instead of its first.
    type: bool
    default: false
    version_added: 0.2.0
"""
