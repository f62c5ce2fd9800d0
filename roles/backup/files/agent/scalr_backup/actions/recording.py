# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check, a forget or a prune records about itself and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from scalr_backup.core.model import Failure
from scalr_backup.core.records.maintenance import MaintenanceFacts


@dataclass
class Noted:
    """Facts of its own; a *failure* is one that was no exception."""

    facts: MaintenanceFacts = field(default_factory=MaintenanceFacts)
    failure: Failure | None = None


# What a caller records the end of a forget and of a prune with: it is given the kind, and takes what is noted.
Record = Callable[[str], AbstractContextManager[Noted]]
