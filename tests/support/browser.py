"""A real browser, in a container of its own, that tests steer over its debugging protocol."""

from __future__ import annotations

import fcntl
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.support.containers import docker, wait_until

IMAGE = "scalr-test-browser:trixie"
CONTEXT = Path(__file__).resolve().parents[1] / "platform/images/browser"


@contextmanager
def browser(readable: Path) -> Iterator[Browser]:
    """A browser without a screen that sees one directory of this machine, under its own name, and may not write to it."""
    _ensure_image()
    name = f"scalr-test-browser-{secrets.token_hex(4)}"
    # Of the host's network it has the loopback's port of its debugging protocol, on which the test speaks to it.
    confined = ["--rm", "--network=host", "--shm-size=512m", "--security-opt=seccomp=unconfined"]
    options = [
        "--no-sandbox",
        "--remote-debugging-port=0",
        "--hide-scrollbars",
        "--force-color-profile=srgb",
        "about:blank",
    ]
    docker("run", "--detach", "--name", name, *confined, f"--volume={readable}:{readable}:ro", IMAGE, *options)
    try:
        with sync_playwright() as playwright:
            connected = playwright.chromium.connect_over_cdp(_address(name))
            yield connected
            connected.close()
    finally:
        docker("rm", "--force", name, check=False)


def _address(container: str) -> str:
    """Where it listens, which is the first that it says."""

    def said() -> str:
        found = re.search(r"DevTools listening on (ws://\S+)", docker("logs", container).stderr)
        return found[1] if found else ""

    wait_until(said, "the browser listens", seconds=60)
    return said()


def _ensure_image() -> None:
    with (Path(tempfile.gettempdir()) / "scalr-test-browser.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if docker("image", "inspect", IMAGE, check=False).returncode != 0:
            docker("build", "--quiet", "--tag", IMAGE, str(CONTEXT), timeout=900)
