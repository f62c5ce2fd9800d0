# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the engine: through the proxy, which may come up a moment later, and may refuse."""

from __future__ import annotations

import re
import threading
from http.client import RemoteDisconnected
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import docker
import pytest
import requests
from docker.errors import APIError, DockerException
from docker.transport.unixconn import UnixHTTPConnectionPool
from scalr_backup.core.errors import CallRefusedError, ContainerStoppedError, DockerUnreachableError
from scalr_backup.tools.docker import engine as docker_host
from scalr_backup.tools.docker.answers import translate
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.docker.exec_stream import ExecResult
from urllib3.exceptions import MaxRetryError, ProtocolError, ReadTimeoutError

PROXY = "unix:///run/scalr-backup/docker.sock"
SENTENCE = "The agent may not look into web, which is none of its database containers."


class Clients:
    """A Docker SDK whose first clients find nobody."""

    def __init__(self, failures):
        self.failures = failures
        self.addresses = []

    def __call__(self, base_url, version, timeout):
        self.addresses.append(base_url)
        if len(self.addresses) <= self.failures:
            raise DockerException("Error while fetching server API version") from ConnectionRefusedError(111, "x")
        return SimpleNamespace(inspect_container=self.refuse)

    def refuse(self, _container):
        response = requests.Response()
        response.status_code = 403
        raise APIError("403 Client Error", response, SENTENCE)


@pytest.fixture
def engine(monkeypatch):
    clients = Clients(0)
    monkeypatch.setattr(docker_host.docker, "APIClient", clients)
    monkeypatch.setattr(docker_host.time, "sleep", lambda _seconds: None)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return clients


def test_a_refusal_of_the_proxy_is_its_own_sentence(engine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", PROXY)
    with pytest.raises(CallRefusedError) as caught:
        DockerHost().inspect("web")
    assert caught.value.message == SENTENCE
    assert engine.addresses == [PROXY]


def test_a_proxy_that_comes_up_a_moment_later_is_waited_for(engine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", PROXY)
    engine.failures = 3
    DockerHost()
    assert engine.addresses == [PROXY] * 4


def test_a_proxy_that_stays_away_is_named(engine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", PROXY)
    monkeypatch.setattr(docker_host, "_PROXY_SECONDS", 0.0)
    engine.failures = 1000
    with pytest.raises(DockerUnreachableError, match=f"through the socket proxy at {PROXY}; is the proxy running"):
        DockerHost()


class Haproxy(BaseHTTPRequestHandler):
    """The socket proxy, before an engine whose socket it may not use."""

    def do_GET(self):
        body = b"<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n"
        self.send_response_only(503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_proxy_that_does_not_get_through_is_told_from_one_that_does_not_run(monkeypatch):
    """As where its group is not that of the engine's socket."""
    with HTTPServer(("127.0.0.1", 0), Haproxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("DOCKER_HOST", address)
        expected = (
            "The Docker Engine does not answer: the socket proxy cannot reach it; it is not running, or the proxy's group may "
            "not use its socket."
        )
        with pytest.raises(DockerUnreachableError) as at_first:
            DockerHost(proxy_seconds=0.0)
        assert at_first.value.message == expected
        client = docker.APIClient(base_url=address, version="1.41")
        with pytest.raises(DockerUnreachableError) as later:
            translate(client.containers, "the list of containers")
        assert later.value.message == expected
        server.shutdown()


def test_an_engine_that_does_not_answer_is_not_waited_for(engine):
    engine.failures = 1000
    with pytest.raises(
        DockerUnreachableError, match=r"^The Docker Engine does not answer: nothing listens at its address"
    ):
        DockerHost()
    assert len(engine.addresses) == 1


def aborted(inner):
    """What requests raises when a connection breaks: urllib3's exception, with the operating system's in its arguments."""
    return requests.ConnectionError(ProtocolError("Connection aborted.", inner))


POOL = UnixHTTPConnectionPool("/run/docker.sock", 60)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (aborted(FileNotFoundError(2, "No such file or directory")), "there is no socket at its address"),
        (aborted(PermissionError(13, "Permission denied")), "this agent may not use its socket"),
        (aborted(ConnectionResetError(104, "Connection reset by peer")), "it dropped the connection"),
        (aborted(RemoteDisconnected("Remote end closed connection without response")), "it dropped the connection"),
        (requests.ConnectionError(MaxRetryError(POOL, "/version", ConnectionRefusedError(111, "x"))), "nothing listens"),
        (requests.ReadTimeout(ReadTimeoutError(POOL, "/containers", "Read timed out.")), "it did not answer in time"),
        (TimeoutError("timed out"), "it did not answer in time"),
        (OSError(28, "No space left on device"), "no space left on device"),
        (requests.exceptions.InvalidJSONError("<html>"), "its answer is invalid (InvalidJSONError)"),
    ],
)  # fmt: skip
def test_no_answer_is_a_sentence_and_no_librarys_text(engine, error, words):
    host = DockerHost()
    host._api.inspect_container = lambda _container: (_ for _ in ()).throw(error)

    with pytest.raises(DockerUnreachableError) as caught:
        host.inspect("web")

    assert caught.value.message.startswith(f"The Docker Engine does not answer: {words}")
    assert not re.search(r"Pool|aborted|\(\d+,|object at|HTTPConnection", caught.value.message)


def test_a_refusal_without_words_is_its_number(engine):
    response = requests.Response()
    response.status_code = 502
    host = DockerHost()
    host._api.inspect_container = lambda _container: (_ for _ in ()).throw(
        APIError("502 for http+docker://x", response)
    )

    with pytest.raises(DockerUnreachableError, match=r"^The Docker Engine refused: status 502\.$"):
        host.inspect("web")


def test_a_file_of_a_container_is_read_or_it_is_told_why_not(engine):
    host = DockerHost()
    host.run = lambda _container, argv, waiting, most_bytes: (
        ExecResult(0, b"secret\n", "")
        if argv == ["cat", "--", "/run/secrets/one"]
        else ExecResult(1, b"", f"cat: {argv[-1]}: No such file or directory\n")
    )
    assert host.read_file("web", "/run/secrets/one") == (b"secret\n", "")
    content, why = host.read_file("web", "/run/secrets/two")
    assert content == b""
    assert why.endswith("cat: /run/secrets/two: No such file or directory")


@pytest.mark.parametrize(
    ("status", "words", "error"),
    [
        (409, "Container 4f66 is not running", ContainerStoppedError),
        # As Podman 5.4 says it.
        (500, "can only create exec sessions on running containers: container state improper", ContainerStoppedError),
        (500, "no space left on device", DockerUnreachableError),
    ],
)
def test_an_exec_in_a_container_that_does_not_run_is_told_from_an_engine_in_trouble(status, words, error):
    def exec_create():
        response = requests.Response()
        response.status_code = status
        raise APIError("Error", response, words)

    with pytest.raises(error):
        translate(exec_create, "shop-db")
