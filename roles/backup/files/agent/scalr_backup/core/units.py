# SPDX-License-Identifier: GPL-3.0-or-later
"""How names, times and sizes are said to people, in tables and in messages alike."""

from __future__ import annotations


def printable(text: str) -> str:
    """The same without what would steer a terminal, or pass for a line of ours: anybody who may make a database names it."""
    return "".join(character if character.isprintable() else "?" for character in text)


def human_seconds(seconds: float) -> str:
    """A short time in its two largest units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def human_age(seconds: float | None) -> str:
    """An age in its two largest units, as the collection's tables and its page have it, too."""
    if seconds is None:
        return "never"
    minutes = max(0, int(seconds)) // 60
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def human_bytes(count: float | None) -> str:
    """A size in the units that restic uses."""
    if count is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
