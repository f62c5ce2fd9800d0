# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The volumes of a container, as a docker command has them, and who owns what lies in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping


def volume_options(volumes: Iterable[str], there: Collection[str] | None = None) -> list[str]:
    """An option for each volume; where it is known which sources are *there*, for those alone.

    Docker would make what is missing, and in check mode nothing is made.
    """
    return [f"--volume={volume}" for volume in volumes if there is None or volume.partition(":")[0] in there]


def ownership_command(
    mounts: Iterable[Mapping[str, str]], image: str, user: int | str, change: bool = False
) -> list[str]:
    """The docker command that names the first file that another *user* owns, or that changes the owner of all of them.

    *mounts* are volumes or directories, each with its name in the container as ``value``.
    """
    # fmt: off
    rights, access, action = (
        (["DAC_READ_SEARCH", "CHOWN"], "", ["-exec", "chown", "--no-dereference", f"{user}:{user}", "{}", "+"])
        if change
        else (["DAC_READ_SEARCH"], ":ro", ["-print", "-quit"])
    )
    return [
        "docker", "run", "--rm", "--user", "0:0", "--network", "none", "--read-only",
        "--security-opt", "no-new-privileges", "--cap-drop", "ALL",
        *(word for right in rights for word in ("--cap-add", right)),
        *(word for mount in mounts for word in ("--volume", f"{mount['key']}:/owned/{mount['value']}{access}")),
        "--entrypoint", "find", image, "/owned", "-mindepth", "1",
        "(", "!", "-user", str(user), "-o", "!", "-group", str(user), ")", *action,
    ]
    # fmt: on
