# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What is left of a host's backups when its agent is gone, and how to read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: The repository in the agent's own Docker volume, as the agent calls it, and that volume.
_IN_VOLUME = "/repository"
_VOLUME = "scalr-backup-repository"
_RESTIC_OF_VOLUME = f"docker run --rm -it --volume {_VOLUME}:/repository restic/restic:0.19.1"


def farewell(
    host: str,
    repository: str,
    copy: str,
    controller_file: str,
    password_given: bool,
    saved: Iterable[str] = (),
    volumes: Iterable[Mapping[str, Any]] = (),
    planned: bool = False,
) -> list[str]:
    """The lines of the report, for a run in check mode as *planned*.

    *saved* are the files on the controller with the passwords that only the host had, among them perhaps the
    *controller_file* of the one in use; *volumes* are the results of the attempts to remove the agent's volumes.
    """
    return [
        f"{host} {'would no longer have' if planned else 'no longer has'} an agent, and nothing backs up its databases. "
        "What remains:",
        f"  the repository {repository}" + (f", the Docker volume {_VOLUME} there" if repository == _IN_VOLUME else ""),
        "  its password, "
        + (
            "set in backup_password or backup_env_file"
            if password_given
            else f"in {controller_file} on this controller"
        ),
        *([f"  the second repository {copy}"] if copy else []),
        *(f"  the Docker volume {volume}, which another container uses" for volume in _in_use(volumes)),
        *(
            f"  another password that only the host had, in {path} on this controller"
            for path in saved
            if path != controller_file
        ),
        f"To read it: {_restic(repository)} snapshots --host {host}",
        "For the next steps, see docs/restore-without-us.md in the collection.",
    ]


def _in_use(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """The volumes that could not be removed, because of others' containers."""
    return [result["item"] for result in results if "in use" in result.get("msg", "")]


def _restic(repository: str) -> str:
    """The command that opens a repository, up to its verb."""
    return f"{_RESTIC_OF_VOLUME} --repo {_IN_VOLUME}" if repository == _IN_VOLUME else f"restic --repo {repository}"
