"""Somebody who has taken an agent over: what they ask of the Docker Engine, and how its socket proxy answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.support.containers import AgentContainer, DatabaseContainer, docker

# Goes before a script, which then connects to the proxy, also to one that has just started.
CONNECTED = r"""
import os, socket, time
def connected(seconds):
    for _attempt in range(200):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(seconds)
        if connection.connect_ex(os.environ["DOCKER_HOST"].removeprefix("unix://")) == 0:
            return connection
        connection.close()
        time.sleep(0.1)
    raise SystemExit("The proxy does not listen.")
"""
# Runs in the agent's container, with all that somebody has who took it over. Reads calls, prints how each was answered.
CALLER = r"""
import json, sys
for method, path, headers, body in json.load(sys.stdin):
    connection = connected(3 if "/events" in path else 20)  # events never end by themselves
    head = f"{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n" if method else path
    if method and not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
        headers.append(["Content-Length", str(len(body.encode()))])
    head += "".join(f"{name}: {value}\r\n" for name, value in headers) + ("\r\n" if method else "")
    answer = b""
    try:
        connection.sendall((head + body).encode())
        while len(answer) < 1 << 16 and (received := connection.recv(1 << 16)):
            answer += received
    except OSError:
        pass
    print(json.dumps(answer.decode("utf-8", "replace")))
"""

PLAIN = '{"Cmd": ["true"], "Privileged": false}'


@dataclass(frozen=True)
class Answer:
    """How the proxy answered a call."""

    status: int
    text: str

    @property
    def message(self) -> str:
        """The sentence in it."""
        return str(json.loads(self.text.partition("\r\n\r\n")[2])["message"])


@dataclass
class House:
    """An agent behind its proxy, its database, and what else runs on the host."""

    agent: AgentContainer
    database: DatabaseContainer
    web: str
    left_alone: str
    excluded: str

    def ask(self, *calls: tuple[str, str] | tuple[str, str, list[list[str]], str]) -> list[Answer]:
        """Make calls out of the agent's container: method, path, and headers and a body where there are."""
        whole = [(*call, [], "")[:4] if len(call) == 2 else call for call in calls]
        done = docker("exec", "-i", self.agent.name, "python3", "-c", CONNECTED + CALLER, stdin=json.dumps(whole))
        texts = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(texts) == len(calls), done.stderr
        return [Answer(int((re.match(r"HTTP/1.1 (\d+)", text) or ["", "0"])[1]), text) for text in texts]

    def start_exec(self, container: str, body: str = PLAIN) -> Answer:
        """Ask for an exec."""
        headers = [["Content-Type", "application/json"]]
        return self.ask(("POST", f"/v1.41/containers/{container}/exec", headers, body))[0]

    def refusals(self) -> list[dict[str, Any]]:
        """What the proxy has logged: each line has to be a JSON object."""
        assert self.agent.proxy
        return [json.loads(line) for line in docker("logs", self.agent.proxy).stdout.splitlines()]

    def refused(self) -> dict[str, int]:
        """How many calls the proxy has refused since it started, by kind."""
        counts = self.ask(("GET", "/scalr-backup/refused"))[0]
        assert counts.status == 200, counts
        return dict(json.loads(counts.text.partition("\r\n\r\n")[2])["refused"])

    def python(self, script: str, timeout: float = 120) -> str:
        """Run a script with the agent's own package."""
        command = ["env", "PYTHONPATH=/opt/scalr-backup/package", "/opt/scalr-backup/bin/python", "-"]
        return docker("exec", "-i", self.agent.name, *command, stdin=script, timeout=timeout).stdout.strip()
