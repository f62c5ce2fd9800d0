# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a host is called, what its machine is like, and when it drills."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$")
#: What is assumed where a machine does not say it, in KiB.
_ENOUGH_MEMORY = 1024 * 1024


def hostname(name: str) -> str:
    """A hostname for a host of the inventory.

    A name that had to be changed gets an ending of its own: web.1 and web-1 are two hosts.
    """
    if _HOSTNAME.match(name):
        return name
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name)[:54].strip("-")
    return f"{readable}-{_hash(name)}"


def machine_facts(lines: Iterable[str]) -> dict[str, Any]:
    """What a look at the machine has said: ``python``, its version, ``memory_mib`` and ``skew_seconds``, how far its clock is ahead."""
    said = "\n".join(line.strip() for line in lines)
    return {
        "python": _said(said, r"^python=(.+)"),
        "memory_mib": _number(_said(said, r"^MemTotal:(.+) kB") or str(_ENOUGH_MEMORY)) // 1024,
        "skew_seconds": _number(_said(said, r"^clock=(.+)")) - _number(_said(said, r"^controller=(.+)")),
    }


def _said(said: str, pattern: str) -> str:
    match = re.search(pattern, said, re.MULTILINE)
    return match[1] if match else ""


def _number(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0


def drill_moment(name: str, day: int | str, time: str) -> dict[str, int]:
    """The ``day`` of the month, the ``hour`` and the ``minute`` of a host's drill: as given, or else its own.

    Every host has its own day and time, always the same ones, so that hosts do not all drill at once; never between 1 and 5
    in the morning, when backups are made.
    """
    number = int(_hash(name), base=16)
    hour, minute = map(int, time.split(":")) if time else ((5 + number // 28 % 20) % 24, number // 560 % 60)
    return {"day": int(day or 0) or 1 + number % 28, "hour": hour, "minute": minute}


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
