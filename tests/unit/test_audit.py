"""``make audit``, against a server that answers as PyPI does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PROBLEM = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fixed_in": ["99.1"], "withdrawn": None}
WITHDRAWN = {**PROBLEM, "id": "PYSEC-2026-2", "withdrawn": "2026-01-01T00:00:00Z"}


class Advisories(BaseHTTPRequestHandler):
    """Knows something about the libraries in *known*; *asked* is what it was asked about."""

    known: dict[str, list[dict]]
    asked: list[str]
    answers_like_pypi: bool

    def do_GET(self) -> None:
        name = self.path.split("/")[1]
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        about = {"vulnerabilities": self.known.get(name, [])} if self.answers_like_pypi else {"info": {}}
        self.wfile.write(json.dumps(about).encode())

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Advisories]]]:
    handler = type("Handler", (Advisories,), {"known": {}, "asked": [], "answers_like_pypi": True})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


def audit(checkout: Path, address: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, checkout / "tools/audit"]
    environment = {**os.environ, "ADVISORIES": address}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def test_says_what_is_known_of_a_pinned_version(server: tuple[str, type[Advisories]], checkout: Path) -> None:
    address, handler = server
    handler.known = {"docker": [PROBLEM, WITHDRAWN]}

    done = audit(checkout, address)

    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith("docker ")
    assert line.endswith(": PYSEC-2026-1, CVE-2026-1; mended in 99.1")


def test_asks_about_every_pin_of_the_agent_and_of_the_tools(
    server: tuple[str, type[Advisories]], checkout: Path
) -> None:
    address, handler = server

    done = audit(checkout, address)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"no vulnerability is known in {len(handler.asked)} pinned versions" in done.stdout
    locked = (checkout / "roles/backup/files/agent/requirements.txt").read_text()
    names = {line.split("==")[0] for line in locked.splitlines() if "==" in line and line[0].isalnum()}
    assert names | {"ansible-core", "ruff", "molecule"} <= {path.split("/")[1] for path in handler.asked}


def test_silence_is_not_taken_for_safety(server: tuple[str, type[Advisories]], checkout: Path) -> None:
    address, handler = server
    handler.answers_like_pypi = False
    for nobody in (address, "http://127.0.0.1:9"):
        done = audit(checkout, nobody)
        assert done.returncode == 2
        assert "only 0 versions were checked" in done.stderr
