"""A web server of a test's own, which answers as oddly as the test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Answers as it is told to, and notes what it is asked for."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[str] = []
        self.released = threading.Event()
        server = self

        class Request(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.asked.append(f"POST {self.path}")
                answer(self)

            def do_GET(self) -> None:
                server.asked.append(f"GET {self.path}")
                answer(self)

            def log_message(self, *_words: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Request)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        """Let go whoever still waits for an answer, and end."""
        self.released.set()
        self.shutdown()
        self.server_close()


def says(code: int, body: bytes = b"OK", **headers: str) -> Answer:
    """An answer that is the same to whoever asks."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer
