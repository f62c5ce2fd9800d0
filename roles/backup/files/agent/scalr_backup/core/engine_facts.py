# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine answers, by what its version document says; Podman and others speak Docker's language, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What the engines call themselves among the components of their version document.
_ENGINES = {"Engine": "Docker Engine", "Podman Engine": "Podman"}
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class EngineFacts:
    """An engine's name and version, and the version of the API that it speaks."""

    name: str
    version: str
    api: str


def engine_facts(document: Mapping[str, Any]) -> EngineFacts:
    """Read ``GET /version``; never raises, whatever a document says."""
    components = document.get("Components")
    named = [one.get("Name") for one in components if isinstance(one, Mapping)] if isinstance(components, list) else []
    name = next((_ENGINES[str(one)] for one in named if str(one) in _ENGINES), "An engine with Docker's API")
    return EngineFacts(name, str(document.get("Version") or _UNKNOWN), str(document.get("ApiVersion") or _UNKNOWN))
