"""A proxy before a store that counts the requests, as a store that bills them would.

How a test uses it::

    with counted(network, "s3.test:8333") as proxy:  # listens on the host's own address in the network
        agent.configure(repository=proxy.repository("bucket/path"))
        proxy.counts.clear()
        agent.ok("backup")
        assert proxy.counts["PUT"] <= 9

The client signs the address that it speaks to, which is passed on as it is; so an S3 server finds the signature right.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.support.containers import docker, gateway_of

# Of one connection only, or made anew by whoever sends.
_NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


@dataclass
class CountingProxy:
    """Where it listens, and what was asked: by kind, and request by request."""

    address: str
    counts: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)

    def repository(self, path: str) -> str:
        """What restic calls a repository behind it; *path* begins with the bucket."""
        return f"s3:http://{self.address}/{path}"

    def clear(self) -> None:
        """Begin to count anew."""
        self.counts.clear()
        self.log.clear()

    def note(self, method: str, target: str) -> None:
        """Count a request: LIST is a GET of a listing, as every price list has it."""
        url = urlsplit(target)
        query = parse_qs(url.query, keep_blank_values=True)
        is_listing = method == "GET" and ("list-type" in query or "prefix" in query)
        self.counts["LIST" if is_listing else method] += 1
        self.log.append(f"{'LIST' if is_listing else method} {(query.get('prefix') or [url.path])[0]}")


@contextmanager
def counted(network: str, container: str, port: int) -> Iterator[CountingProxy]:
    """A proxy on the host's address in a Docker network, before a server in a container of it."""
    [found] = json.loads(docker("inspect", container).stdout)
    upstream = (found["NetworkSettings"]["Networks"][network]["IPAddress"], port)
    server = ThreadingHTTPServer((gateway_of(network), 0), BaseHTTPRequestHandler)
    proxy = CountingProxy(f"{server.server_address[0]}:{server.server_address[1]}")
    server.RequestHandlerClass = _handler(proxy, upstream)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(proxy: CountingProxy, upstream: tuple[str, int]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            proxy.note(self.command, self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection = http.client.HTTPConnection(*upstream, timeout=120)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _NOT_PASSED_ON:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in _NOT_PASSED_ON | {"content-length"}:
                    self.send_header(name, value)
            # What a HEAD tells is how long the file is.
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815 - http.server's names

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    return Handler
