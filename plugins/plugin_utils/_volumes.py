# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The volumes of a container, as a docker command has them."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def volume_options(volumes: Iterable[str], there: Collection[str] | None = None) -> list[str]:
    """An option for each volume; where it is known which sources are *there*, for those alone.

    Docker would make what is missing, and in check mode nothing is made.
    """
    return [f"--volume={volume}" for volume in volumes if there is None or volume.partition(":")[0] in there]
