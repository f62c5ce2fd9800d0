"""A web server that is told what goes wrong: a webhook, and a dead man's switch."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.containers import gateway_of, wait_until

# It stands in the addresses, and must stand nowhere else.
TOKEN = "canary-token-4711"


@dataclass
class Pager:
    """A web server that notes what it is told, and refuses it when it is told to."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    beats: list[tuple[str, str]] = field(default_factory=list)
    refused: int = 0
    refuses: bool = False

    def __post_init__(self) -> None:
        pager = self

        class Request(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if pager.refuses:
                    pager.refused += 1
                elif self.path.startswith("/ping"):
                    pager.beats.append((self.path.removeprefix(f"/ping/{TOKEN}"), body))
                else:
                    pager.messages.append(json.loads(body))
                self.send_response(503 if pager.refuses else 200)
                self.end_headers()

            def log_message(self, *_words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("", 0), Request)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"{gateway_of('bridge')}:{self.server.server_port}"

    @property
    def webhook(self) -> str:
        """Its address for Apprise."""
        return f"json://user:{TOKEN}@{self.address}/hook"

    @property
    def switch(self) -> str:
        """Its address as a dead man's switch."""
        return f"http://{self.address}/ping/{TOKEN}"

    def wait_for(self, *words: str) -> dict[str, Any]:
        """The first message that has all of these words, in its title or its body."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [
                one for one in self.messages if all(word in f"{one['title']}\n{one['message']}" for word in words)
            ]
            return bool(found)

        wait_until(is_there, f"a message with {words} among {self.messages}", 60)
        return found[0]
