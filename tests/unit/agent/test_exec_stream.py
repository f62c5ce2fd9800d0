# SPDX-License-Identifier: GPL-3.0-or-later
"""A command's stream whose end never comes, as Docker leaves it now and then when a container is stopped."""

from __future__ import annotations

import socket
import struct
from types import SimpleNamespace

import pytest
from scalr_backup import docker_host
from scalr_backup.docker_host import STDOUT, ExecStream
from scalr_backup.errors import DockerUnreachableError


class Engine:
    """Answers whether the command runs."""

    def __init__(self, *running):
        self.running = list(running)
        self.asked = 0

    def exec_inspect(self, _exec_id):
        self.asked += 1
        return {"Running": self.running.pop(0) if len(self.running) > 1 else self.running[0], "ExitCode": 0}


@pytest.fixture
def sockets():
    ours, engines = socket.socketpair()
    yield ours, engines
    ours.close()
    engines.close()


@pytest.fixture(autouse=True)
def _asks_often(monkeypatch):
    monkeypatch.setattr(docker_host, "_ASK_SECONDS", 0.0)


def stream_over(ours, engine, silence_seconds=60.0):
    reader = ours.makefile("rb")
    response = SimpleNamespace(raw=SimpleNamespace(_fp=SimpleNamespace(fp=reader)), close=reader.close)
    connection = SimpleNamespace(_response=response, _sock=ours)
    return ExecStream(engine, "id", connection, silence_seconds)


def frame(data):
    return struct.pack(">BxxxL", STDOUT, len(data)) + data


def test_output_that_never_ends_although_the_command_has(sockets):
    ours, engines = sockets
    engines.sendall(frame(b"beginning"))
    received = []
    with pytest.raises(DockerUnreachableError, match="its container was stopped"):
        received.extend(stream_over(ours, Engine(False)).frames())
    assert received == [(STDOUT, b"beginning")]


def test_input_that_nobody_reads_any_more(sockets):
    ours, _engines = sockets
    with pytest.raises(DockerUnreachableError, match="its container was stopped"):
        stream_over(ours, Engine(False)).write(b"x" * 10_000_000)


def test_last_words_that_come_after_the_command_has_ended(sockets):
    ours, engines = sockets
    engine = Engine(True, False)

    class Late(Engine):
        def exec_inspect(self, exec_id):
            answer = engine.exec_inspect(exec_id)
            if engine.asked == 2:
                engines.sendall(frame(b"last words"))
                engines.close()
            return answer

    assert list(stream_over(ours, Late(False)).frames()) == [(STDOUT, b"last words")]


def test_a_command_that_works_in_silence_is_waited_for_until_its_limit(sockets):
    ours, _engines = sockets
    engine = Engine(True)
    with pytest.raises(DockerUnreachableError, match="said nothing for 2 s"):
        list(stream_over(ours, engine, 2.0).frames())
    assert engine.asked > 1


def test_output_that_came_with_the_headers_is_not_lost(sockets):
    ours, engines = sockets
    engines.sendall(b"headers\r\n" + frame(b"early") + frame(b"bird"))
    stream = stream_over(ours, Engine(True))
    assert stream._reader.readline() == b"headers\r\n"
    engines.close()
    assert [data for _kind, data in stream.frames()] == [b"early", b"bird"]
