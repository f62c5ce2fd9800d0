# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine for callers that may create containers, which the agent may not and a drill must."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from scalr_backup.core import power
from scalr_backup.core.errors import (
    CallRefusedError,
    ContainerGoneError,
    ContainerStoppedError,
    DockerUnreachableError,
    DrillRefusedError,
    NoImageError,
    ThrowawayError,
)
from scalr_backup.tools.docker.answers import translate
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.docker.throwaway import (
    FIRST_TO_END,
    PROCESSES,
    SHARED_MEMORY_BYTES,
    ContainerOutput,
    Image,
    Throwaway,
    host_memory,
    of_throwaway,
    place_on_disk,
)

# Seconds that the engine may take to remove a container that it is removing already.
_REMOVAL_SECONDS = 60.0


class Throwaways(DockerHost):
    """The Docker Engine of this host, its images, and containers of them to throw away."""

    def power(self, document: Mapping[str, Any], *, accepted: bool) -> str | None:
        """What power over the host a container has; a throwaway container is what a drill is there for, and has none."""
        if power.DRILL_LABEL in ((document.get("Config") or {}).get("Labels") or {}):
            return None
        return super().power(document, accepted=accepted)

    def require_throwaways(self) -> None:
        """Check that containers may be created at all, before starting anything that needs one.

        It asks for a container without an image: the engine rejects the request as invalid, the proxy as forbidden.

        Raises DrillRefusedError, or DockerUnreachableError when the engine does not answer.
        """
        try:
            self._api.create_container_from_config({"Image": ""})  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code == requests.codes.forbidden:
                raise DrillRefusedError(
                    "The socket proxy does not let this container create others, which a drill needs. Run drill.yml "
                    "from the controller, or the script drill in backup_directory on the host: both start the drill "
                    "in a container that may."
                ) from None
        except (DockerException, requests.RequestException, OSError) as error:
            raise DockerUnreachableError(f"The Docker Engine does not answer: {error}.") from None

    def image(self, reference: str) -> Image | None:
        """An image of this host by its id or name; None when it is not here, or when there can be none of that name."""
        try:
            document = translate(lambda: self._inspect_image(reference), reference)
        except ContainerGoneError:
            return None
        settings = document["Config"]
        return Image(
            id=str(document["Id"]),
            entrypoint=tuple(settings.get("Entrypoint") or ()),
            command=tuple(settings.get("Cmd") or ()),
            volumes=tuple(settings.get("Volumes") or ()),
            environment=dict(entry.split("=", 1) for entry in settings.get("Env") or () if "=" in entry),
            user=str(settings.get("User") or ""),
        )

    def _inspect_image(self, reference: str) -> dict[str, Any]:
        try:
            return dict(self._api.inspect_image(reference))  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code == requests.codes.bad_request:
                raise NotFound(str(error.explanation or error)) from None  # No image can have such a name.
            raise

    def pull(self, name: str, waiting: Callable[[], None]) -> None:
        """Get an image from its registry; *waiting* is called whenever the engine reports a step.

        Raises NoImageError in the registry's words, and whatever *waiting* raises.
        """
        # Without a tag the engine would pull every tag there is.
        reference = name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"
        try:
            for step in translate(lambda: self._api.pull(reference, stream=True, decode=True), name):
                waiting()
                if "error" in step:
                    raise NoImageError(f"The image {name} is not on this host and cannot be pulled: {step['error']}.")
        except (CallRefusedError, ContainerGoneError, DockerUnreachableError) as error:
            raise NoImageError(f"The image {name} is not on this host and cannot be pulled: {error.message}") from None
        except (DockerException, requests.RequestException) as error:
            raise NoImageError(f"The image {name} is not on this host and cannot be pulled: {error}.") from None

    def create_throwaway(self, spec: Throwaway) -> str:
        """Make a container that writes nowhere but into memory, and prove it before it runs; returns its id.

        Its output goes nowhere: PostgreSQL's messages quote rows, and the engine's log of them is a file.

        Raises ThrowawayError when the engine would have given it a place on a disk, or cannot make it.
        """
        settings = self._api.create_host_config(
            auto_remove=True,
            cap_drop=["ALL"],
            # What an entry point needs that begins as root and goes on as postgres.
            cap_add=["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"],
            init=True,
            log_config=docker.types.LogConfig(type="none"),
            mem_limit=spec.memory_bytes,
            memswap_limit=spec.memory_bytes,
            network_mode="none",
            oom_score_adj=FIRST_TO_END,
            pids_limit=PROCESSES,
            read_only=True,
            security_opt=["no-new-privileges"],
            shm_size=SHARED_MEMORY_BYTES,
            # The sticky bit and everybody's right to write: images run as root or as anybody else.
            tmpfs={path: f"rw,noexec,nosuid,nodev,mode=1777,size={size}" for path, size in sorted(spec.tmpfs.items())},
            ulimits=[docker.types.Ulimit(name="core", soft=0, hard=0)],
        )

        def create() -> str:
            # Nothing in it is worth an orderly end. These options both coreutils' timeout and busybox' know.
            created = self._api.create_container(
                spec.image.id,
                name=spec.name,
                entrypoint=["timeout", "-s", "KILL", str(spec.life_seconds), *spec.image.entrypoint],
                command=[*spec.image.command, *spec.arguments],
                environment=dict(spec.environment),
                user=spec.user,
                labels=dict(spec.labels),
                host_config=settings,
            )
            return str(created["Id"])

        container = of_throwaway(create, "made")
        try:
            if reason := place_on_disk(self.inspect(container), host_memory()):
                raise ThrowawayError(f"{spec.name} was not started: {reason}.")
        except BaseException:
            self.remove_container(container)
            raise
        return container

    def start_throwaway(self, container: str) -> ContainerOutput:
        """Start a container that was made so, and listen to what it says.

        Raises ThrowawayError when it cannot be started.
        """

        def start() -> ContainerOutput:
            streams = {"stdout": 1, "stderr": 1, "stream": 1}
            output = ContainerOutput(self._api.attach_socket(container, params=streams))
            self._api.start(container)
            return output

        return of_throwaway(start, "started")

    def remove_container(self, container: str) -> None:
        """Remove a container, running or not, with its anonymous volumes, and see that it is gone; none is fine too.

        Raises DockerUnreachableError when it is still there a minute later.
        """
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while True:
            try:
                translate(lambda: self._api.remove_container(container, force=True, v=True), container)
                self.inspect(container)
            except ContainerGoneError:
                return
            except ContainerStoppedError:
                pass  # A conflict: it is being removed already.
            if time.monotonic() > deadline:
                raise DockerUnreachableError(f"The Docker Engine did not remove {container}.")
            time.sleep(0.1)
