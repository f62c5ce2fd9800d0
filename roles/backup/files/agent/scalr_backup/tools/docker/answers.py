# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of the Docker SDK, and what the engine's many refusals mean here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from scalr_backup.core.errors import (
    CallRefusedError,
    ContainerGoneError,
    ContainerStoppedError,
    DockerUnreachableError,
    ScalrBackupError,
)
from scalr_backup.tools.docker.silence import is_behind_proxy, why_silent

Answered = TypeVar("Answered")

# What Podman says of a container that does not run, with the status of its own faults.
_STOPPED_FOR_PODMAN = "container state improper"


def document_of(api: docker.APIClient, container: str) -> dict[str, Any] | None:
    """The inspect document of a container; None when it does not exist, empty when the engine does not say."""
    try:
        return dict(translate(lambda: api.inspect_container(container), container))
    except ContainerGoneError:
        return None
    except ScalrBackupError:
        return {}


def translate(call: Callable[[], Answered], subject: str) -> Answered:
    """Call the SDK and turn its many exceptions into ours."""
    try:
        return call()
    except NotFound:
        raise ContainerGoneError(f"The container {subject} is gone.") from None
    except APIError as error:
        if error.status_code == requests.codes.conflict or _STOPPED_FOR_PODMAN in str(error.explanation):
            raise ContainerStoppedError(f"The container {subject} is not running; start it first.") from None
        if error.status_code == requests.codes.forbidden:
            raise CallRefusedError(_refusal(error)) from None
        if is_behind_proxy(error):
            raise DockerUnreachableError(f"The Docker Engine does not answer: {why_silent(error)}.") from None
        raise DockerUnreachableError(f"The Docker Engine refused: {_refusal(error)}.") from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise DockerUnreachableError(f"The Docker Engine does not answer: {why_silent(error)}.") from None


def _refusal(error: APIError) -> str:
    """The engine's own words, in one line; without any, its number for them."""
    return " ".join(str(error.explanation or f"status {error.status_code}").split())
