"""What tests beside each other on one machine have in turns: containers that every agent sees, and volumes of fixed names."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.containers import docker

_PRUNE_VOLUMES = ("scalr-backup-prune", "scalr-backup-prune-cache")


@contextmanager
def labelled(name: str, image: str) -> Iterator[str]:
    """A container that the label gives to every agent on this machine, while no other test looks at all that there is.

    It does not run, and fails nobody's pass. Whoever has it waits for nobody else's turn.
    """
    with _turn("label"):
        docker("create", "--name", name, "--label", "scalr.backup=true", image)
        try:
            yield name
        finally:
            docker("rm", "--force", "--volumes", name)


@contextmanager
def nothing_labelled() -> Iterator[None]:
    """Look at all that there is, while no other test has a container that the label gives to every agent."""
    with _turn("label", fcntl.LOCK_SH):
        yield


@contextmanager
def trusted_place() -> Iterator[None]:
    """Prune for other hosts on this machine, with a memory in which there is nothing of an earlier test."""
    with _turn("prune"):
        docker("volume", "rm", "--force", *_PRUNE_VOLUMES)
        try:
            yield
        finally:
            docker("volume", "rm", "--force", *_PRUNE_VOLUMES, check=False)


@contextmanager
def _turn(what: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    with (Path(tempfile.gettempdir()) / f"scalr-test-{what}.lock").open("w") as lock:
        fcntl.flock(lock, how)
        yield
