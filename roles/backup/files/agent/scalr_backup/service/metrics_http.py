# SPDX-License-Identifier: GPL-3.0-or-later
"""What others watch the agent by: ``/metrics`` and ``/healthz`` over HTTP, and a file for node_exporter.

It runs in threads of the agent's main process, beside the jobs and for as long as they do. Nothing that happens here
can stop a backup: what goes wrong is logged once, and tried again.
"""

from __future__ import annotations

import gzip
import threading
import time
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from scalr_backup.actions.health import status
from scalr_backup.actions.health.metrics import MetricFacts, Metrics
from scalr_backup.core.address import redact_address
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config, load_config
from scalr_backup.core.errors import ConfigurationError
from scalr_backup.core.logs import make_logger
from scalr_backup.core.records.state import StateRecord
from scalr_backup.tools import place
from scalr_backup.tools.state import State

# Seconds between two looks at the configuration and the state.
_TURN_SECONDS = 5.0
# Seconds after which node_exporter's file is rewritten though no state has changed: it goes by the clock, too.
_REWRITE_SECONDS = 60.0
# Seconds that a client has for each part of its request.
_CLIENT_SECONDS = 10.0
# Requests that are answered at the same time; further ones are turned away before they cost anything.
_MOST_AT_ONCE = 8

_PLAIN = "text/plain; charset=utf-8"


class MetricsServer:
    """Serves while it is entered; follows the configuration by itself, also while a pass keeps the main thread."""

    def __init__(self, config: Config, state: State) -> None:
        self._config = config
        self._state = state
        self._log = make_logger()
        self._metrics = Metrics(self._facts)
        self._http: _Http | None = None
        self._written: tuple[Any, float] | None = None
        self._said: dict[str, str] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def __enter__(self) -> MetricsServer:
        self._follow()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._close()

    def answer(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        """What a path has to say: its status, content type and body."""
        if path == "/metrics":
            body, content_type = self._metrics.render(accept)
            return HTTPStatus.OK, content_type, body
        if path == "/healthz":
            health = self._judge()[2].health
            return HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, _line(health.sentence)
        return HTTPStatus.NOT_FOUND, _PLAIN, _line("There are /metrics and /healthz.")

    def failed(self, what: str, error: BaseException) -> None:
        """Log a failure, once for as long as it stays the same."""
        reason = f"{type(error).__name__}: {error}"
        if self._said.get(what) != reason:
            self._said[what] = reason
            self._log.error(what, reason=reason)

    def _run(self) -> None:
        while not self._stopping.wait(_TURN_SECONDS):
            with suppress(ConfigurationError):  # The main thread logs it; the one before stays in force.
                self._config = load_config()
            self._follow()

    def _follow(self) -> None:
        """Listen where the configuration says, and write the file that it wants."""
        try:
            self._listen()
        except OSError as error:
            self.failed(f"The metrics cannot be served on port {self._config.metrics_port}.", error)
        if self._config.metrics_textfile:
            self._write()

    def _listen(self) -> None:
        port = self._config.metrics_port
        if self._http is not None and self._http.server_port == port:
            return
        self._close()
        if port:
            self._http = _Http(port, self)
            threading.Thread(target=self._http.serve_forever, name="http", daemon=True).start()
            self._said.clear()
            self._log.info("The metrics are served.", port=port)

    def _close(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def _write(self) -> None:
        """Write node_exporter's file when the state has changed, and once a minute."""
        changed, now = self._state.changed(), time.monotonic()
        if self._written and self._written[0] == changed and now - self._written[1] < _REWRITE_SECONDS:
            return
        what = f"The metrics cannot be written to {self._config.metrics_textfile}."
        try:
            self._metrics.write()
        except Exception as error:  # noqa: BLE001 (whatever it is, the next turn tries again)
            self.failed(what, error)
        else:
            self._written = (changed, now)
            self._said.pop(what, None)

    def _judge(self) -> tuple[StateRecord, datetime, status.Status]:
        """What is on record, since when this agent is there, and the verdict on that; out of one reading."""
        now, document = utc_now(), self._state.read()
        installed = self._state.first_started(now, document)
        return (
            document,
            installed,
            status.judge(
                self._config,
                redact_address(self._config.repository),
                document,
                installed,
                now,
                lost_with_host=place.is_lost_with_the_host(self._config),
                damage=self._state.damage(),
            ),
        )

    def _facts(self) -> MetricFacts:
        document, installed, judged = self._judge()
        return MetricFacts(
            host=self._config.host,
            repository=self._config.repository,
            document=document,
            status=judged.as_dict(),
            backed_up=judged.health.ok,
            installed=installed,
            first_overdue=judged.first_overdue,
        )


class _Http(ThreadingHTTPServer):
    """Listens on every address of the container, whose port is published only if the role is told to."""

    daemon_threads = True
    # A port that was ours a moment ago can be ours again.
    allow_reuse_address = True

    def __init__(self, port: int, owner: MetricsServer) -> None:
        self.owner = owner
        self._free = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__(("", port), _MetricsHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, unless there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next one."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that went away is not news, and ``_MetricsHandler`` reports what fails on our side."""


class _MetricsHandler(BaseHTTPRequestHandler):
    """One request; only reading is possible."""

    server: _Http
    server_version = "scalr-backup"
    sys_version = ""
    timeout = _CLIENT_SECONDS

    def do_GET(self) -> None:
        """Answer with a body."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer without one."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        try:
            code, content_type, body = self.server.owner.answer(
                self.path.partition("?")[0], self.headers.get("Accept", "")
            )
        except Exception as error:  # noqa: BLE001 (the scraper is told that it failed, and the log why)
            self.server.owner.failed("The metrics cannot be collected.", error)
            code, content_type, body = HTTPStatus.INTERNAL_SERVER_ERROR, _PLAIN, _line("This failed; see the log.")
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Vary", "Accept, Accept-Encoding")
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name that http.server calls it by)
        """Nothing: the agent's log holds what it did, not who looked."""


def _line(sentence: str) -> bytes:
    return f"{sentence}\n".encode()
