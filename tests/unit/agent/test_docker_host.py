# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the engine: through the proxy, which may come up a moment later, and may refuse."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import requests
from docker.errors import APIError, DockerException
from scalr_backup import docker_host
from scalr_backup.docker_host import DockerHost
from scalr_backup.errors import CallRefusedError, DockerUnreachableError

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
            raise DockerException("Connection refused")
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
    with pytest.raises(DockerUnreachableError, match=f"through the socket proxy at {PROXY}; does the proxy run"):
        DockerHost()


def test_an_engine_that_does_not_answer_is_not_waited_for(engine):
    engine.failures = 1000
    with pytest.raises(DockerUnreachableError, match=r"^The Docker Engine does not answer: Connection refused\.$"):
        DockerHost()
    assert len(engine.addresses) == 1
