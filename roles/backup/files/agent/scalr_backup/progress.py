# SPDX-License-Identifier: GPL-3.0-or-later
"""Events of a run: what a terminal draws, ``--json`` prints and the log keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
Emit = Callable[[Event], None]


def progress(phase: str, **facts: Any) -> Event:
    """Something is under way; *facts* are bytes, names, counts."""
    return {"event": "progress", "phase": phase, **facts}


def log(level: str, message: str, **facts: Any) -> Event:
    """Something worth a line in the log."""
    return {"event": "log", "level": level, "message": message, **facts}


def nobody(event: Event) -> None:
    """Listen to nothing."""
