"""A registry of images, Debian's docker-registry in a container of its own, on a port of this machine's loopback.

Docker speaks plain HTTP to registries there, so nothing of the engine has to be configured.
"""

from __future__ import annotations

import fcntl
import re
import secrets
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.containers import docker, wait_until

IMAGE = "scalr-test-registry:trixie"
CONTEXT = Path(__file__).resolve().parents[1] / "platform/images/registry"


@dataclass(frozen=True)
class Registry:
    """A registry that runs at an address such as ``127.0.0.1:32768``."""

    address: str

    def push(self, image: str, name: str) -> str:
        """Put an image of the engine there under a name and a tag; its digest. The engine forgets it by that name."""
        docker("image", "tag", image, f"{self.address}/{name}")
        try:
            said = docker("image", "push", f"{self.address}/{name}").stdout
        finally:
            docker("image", "rm", "--no-prune", f"{self.address}/{name}", check=False)
        found = re.search(r"digest: (sha256:[0-9a-f]{64})", said)
        assert found, said
        self.forget(name.partition(":")[0], found[1])
        return found[1]

    def forget(self, name: str, digest: str) -> None:
        """Have the engine forget by which digest it knows an image."""
        docker("image", "rm", "--no-prune", f"{self.address}/{name}@{digest}", check=False)

    def answers(self) -> bool:
        """Whether it does."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def registry() -> Iterator[Registry]:
    """Run one that has nothing yet."""
    with (Path(tempfile.gettempdir()) / "scalr-test-registry.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        docker("build", "--quiet", "--tag", IMAGE, str(CONTEXT), timeout=900)
    name = f"scalr-test-registry-{secrets.token_hex(4)}"
    docker("run", "--detach", "--name", name, "--publish", "127.0.0.1::5000", IMAGE)
    try:
        running = Registry(docker("port", name, "5000/tcp").stdout.split()[0])
        wait_until(running.answers, "the registry answers")
        yield running
    finally:
        docker("rm", "--force", "--volumes", name, check=False)
