# SPDX-License-Identifier: GPL-3.0-or-later
"""With what a store is asked: the credentials that restic has, whose certificates are trusted, and how long to wait."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Seconds that one question may take, its attempts included, and more with each byte that arrives.
PATIENCE = 300.0


@dataclass(frozen=True)
class Access:
    """Access to a store.

    *environment* is what restic is given, *authority* a certificate that is trusted beside the system's. Once
    *cancelled* is set, whatever waits for the store ends; else one question may take *seconds*, and more for many bytes.
    """

    environment: Mapping[str, str]
    authority: Path | None = None
    seconds: float = PATIENCE
    cancelled: threading.Event = field(default_factory=threading.Event)
