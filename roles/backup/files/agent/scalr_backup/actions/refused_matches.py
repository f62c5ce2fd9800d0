# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers a configuration would match but must not: reported before it takes effect, by ``docker inspect``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from scalr_backup.actions.documents import judge, may_match
from scalr_backup.core import power
from scalr_backup.core.config import Config
from scalr_backup.core.errors import ConfigurationError, DockerUnreachableError, UsageError

Document = Mapping[str, Any]


def documents(text: str) -> list[Any]:
    """The JSON values that stand one after the other in a text, those of arrays each by itself. Raises UsageError."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"Standard input is not JSON: {error}.") from None
        found += value if isinstance(value, list) else [value]
    return found


def refused_matches(config: Config, found: list[Any]) -> list[str]:
    """A sentence for each container among inspect documents of containers and volumes that would be matched and is refused."""
    dictionaries = [one for one in found if isinstance(one, dict)]
    containers = {str(one["Id"]): one for one in dictionaries if "HostConfig" in one and "Id" in one}
    volumes = {str(one["Name"]): one for one in dictionaries if "Mountpoint" in one and "Name" in one}
    names = {str(one.get("Name")).removeprefix("/"): one for one in containers.values()}
    sentences = []
    for name, document in sorted(names.items()):
        if _is_match(config, name, document):
            held = power.through(
                document,
                accepted=name in config.host_namespaces_accepted,
                container=lambda reference: containers.get(reference) or names.get(reference),
                volume=volumes.get,
            )
            if held:
                sentences.append(power.sentence(name, held))
    return sentences


def _is_match(config: Config, name: str, document: Document) -> bool:
    if not may_match(config, name, (document.get("Config") or {}).get("Labels") or {}):
        return False
    try:
        container = judge(config, document)
    except (ConfigurationError, DockerUnreachableError):
        return False  # What the filter cannot decide over, and what says no state, is told of when it is looked at.
    return container is not None and container.status == "ok"
