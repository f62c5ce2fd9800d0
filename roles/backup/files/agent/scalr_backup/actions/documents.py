# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers are database containers, by what the engine's documents say: pure decisions.

What a document has of another kind than it should counts as not being there; without an id or a state it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from scalr_backup.core import power
from scalr_backup.core.config import Config
from scalr_backup.core.errors import ConfigurationError, DockerUnreachableError
from scalr_backup.core.model import Container, name_fits
from scalr_backup.core.naming import history_name
from scalr_backup.core.recognition import Unmatched, server_evidence

LABEL = "scalr.backup"
# Why a PostgreSQL container that is not excluded is not backed up.
UNNAMED = "neither backup_containers nor a label names it"
FILTERED = "backup_filter rejects it"


def may_match(config: Config, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a container deserves to be inspected: by its name, or by its label."""
    return labels.get(LABEL, "").lower() == "true" or name_fits(name, config.containers)


def exclusion(config: Config, name: str, labels: Mapping[str, str]) -> str | None:
    """Why a container is left alone; None where it is not."""
    if power.is_own(name, labels):
        return power.OWN
    label = labels.get(LABEL, "").lower()
    if label == "false":
        return f"its label {LABEL} is false"
    if label != "true" and name_fits(name, config.exclude):
        return "backup_exclude names it"
    return None


def unmatched(config: Config, summary: Mapping[str, Any], why: str) -> Unmatched | None:
    """A container of the engine's list that is not backed up, where it runs PostgreSQL and is not excluded."""
    container = from_summary(summary)
    called = container.called or container.name
    if not config.report_unmatched or exclusion(config, called, texts(summary.get("Labels"))):
        return None
    evidence = server_evidence(summary)
    return Unmatched(called, container.image, container.state, evidence, why) if evidence else None


def from_summary(summary: Mapping[str, Any]) -> Container:
    """What the engine's list says of a container; with links it has further names, of the form /other/alias."""
    names = (name.removeprefix("/") for name in _strings(summary.get("Names")))
    called = next((name for name in names if "/" not in name), "")
    name = history_name(called, texts(summary.get("Labels")))
    return Container(
        id=str(summary.get("Id", "")),
        name=name,
        called=called if called != name else "",
        image=str(summary.get("Image", "")),
        image_id=str(summary.get("ImageID", "")),
        state=str(summary.get("State", "")),
        status="ok",
        environment={},
    )


def judge(config: Config, document: Mapping[str, Any]) -> Container | None:
    """Decide on one inspect document; None when the filter rejects it.

    Raises ConfigurationError when the filter cannot be applied to it, DockerUnreachableError when it lacks what every
    container has.
    """
    called = str(document.get("Name", "")).removeprefix("/")
    settings = _object(document.get("Config"))
    condition = _object(document.get("State"))
    labels = texts(settings.get("Labels"))
    if labels.get(LABEL, "").lower() != "true" and config.filter and not _passes(config.filter, document, called):
        return None
    name = history_name(called, labels)
    state = str(condition.get("Status", ""))
    if not (called and state and document.get("Id")):
        raise DockerUnreachableError(f"the Docker Engine gives no name, id or state for {called or 'a container'}.")
    container = Container(
        id=str(document["Id"]),
        name=name,
        called=called if called != name else "",
        image=str(settings.get("Image", "")),
        image_id=str(document.get("Image", "")),
        state=state,
        status="ok",
        environment=_environment(_strings(settings.get("Env"))),
        labels=labels,
        own_network=_has_own_network(document),
        started=_moment(condition.get("StartedAt")),
    )
    if reason := exclusion(config, called, labels):
        return container.with_status("excluded", reason)
    if state != "running":
        return container.with_status("stopped", f"its state is {state}")
    return container


def _passes(expression: str, document: Mapping[str, Any], name: str) -> bool:
    try:
        return bool(jmespath.search(expression, document))
    except (JMESPathError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ConfigurationError(f"backup_filter cannot be applied to {name}: {error}") from None


def _has_own_network(document: Mapping[str, Any]) -> bool:
    mode = str(_object(document.get("HostConfig")).get("NetworkMode", ""))
    return mode != "host" and not mode.startswith(("container:", "service:"))


def _moment(text: object) -> datetime | None:
    """A moment in the engine's notation, whose fractions of a second are too fine for Python."""
    try:
        return datetime.fromisoformat(str(text)[:19]).replace(tzinfo=UTC)
    except ValueError:
        return None


def _object(thing: object) -> Mapping[str, Any]:
    """What the engine says of a part of a container; nothing where it is of another kind."""
    return thing if isinstance(thing, Mapping) else {}


def texts(thing: object) -> dict[str, str]:
    """The labels of a container, as texts."""
    return {str(name): str(value) for name, value in _object(thing).items()}


def _strings(thing: object) -> list[str]:
    return [one for one in thing if isinstance(one, str)] if isinstance(thing, list) else []


def _environment(entries: Sequence[str]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
