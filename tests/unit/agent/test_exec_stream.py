# SPDX-License-Identifier: GPL-3.0-or-later
"""A command's stream whose end never comes, as Docker leaves it now and then when a container is stopped."""

from __future__ import annotations

import socket
import struct
import subprocess
from types import SimpleNamespace

import pytest
from docker.errors import NotFound
from scalr_backup.core.endings import Command
from scalr_backup.core.errors import CommandLostError, DockerUnreachableError, SilentCommandError
from scalr_backup.tools.docker import exec_stream
from scalr_backup.tools.docker.exec_stream import STDERR, STDOUT, ExecStream, outlived


class Engine:
    """Answers whether the command runs."""

    def __init__(self, *running):
        self.running = list(running)
        self.asked = 0

    def inspect_container(self, _container):
        return {"State": {"Restarting": True, "ExitCode": 1}}

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
    monkeypatch.setattr(exec_stream, "_ASK_SECONDS", 0.0)


def stream_over(ours, engine, silence_seconds=60.0, mark=""):
    reader = ours.makefile("rb")
    response = SimpleNamespace(raw=SimpleNamespace(_fp=SimpleNamespace(fp=reader)), close=reader.close)
    connection = SimpleNamespace(_response=response, _sock=ours)
    return ExecStream(engine, "id", connection, silence_seconds, Command("psql", "scalr-shop-db"), mark)


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


# -- how a command ended -----------------------------------------------------------------------------------


class Forgetful(Engine):
    """An engine that has restarted the container, or lost it, and knows nothing of the commands that ran in it."""

    def __init__(self, container_is_there=True):
        super().__init__(False)
        self.container_is_there = container_is_there

    def exec_inspect(self, _exec_id):
        raise NotFound("No such exec instance")

    def inspect_container(self, container):
        if not self.container_is_there:
            raise NotFound("No such container")
        return super().inspect_container(container)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (
            Forgetful(),
            "the container is restarting after exit code 1.",
        ),
        (Forgetful(container_is_there=False), "the container is gone."),
    ],
)
def test_a_command_that_the_engine_has_forgotten(sockets, engine, words):
    stream = stream_over(sockets[0], engine)
    with pytest.raises(CommandLostError) as caught:
        stream.wait()
    assert caught.value.message == f"psql in scalr-shop-db did not finish, because its container was stopped: {words}"
    assert stream.how_it_ended("") == caught.value.message


def test_a_command_that_was_killed(sockets):
    engine = Engine(False)
    engine.exec_inspect = lambda _exec_id: {"Running": False, "ExitCode": 137}
    assert stream_over(sockets[0], engine).how_it_ended("") == (
        "psql in scalr-shop-db was killed by SIGKILL (exit code 137) and printed nothing; the container is restarting after "
        "exit code 1."
    )


def test_who_is_silent_is_named(sockets):
    with pytest.raises(SilentCommandError, match=r"^psql in scalr-shop-db has said nothing for 0 s\.$"):
        list(stream_over(sockets[0], Engine(True), 0.0).frames())


class TestACommandThatEndsBeforeItsInput:
    """A shell stays behind and reads the rest, so that no reset connection swallows the command's last words."""

    def test_says_so_and_reads_the_rest(self):
        argv = outlived(["sh", "-c", "head -c 1 > /dev/null; echo out; echo words >&2; exit 3"], "mark")
        done = subprocess.run(argv, input=b"x" * 1_000_000, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (3, b"out\nmark\n", b"words\n")

    @pytest.mark.parametrize("pieces", [[b"out\nmark\n"], [b"out\nma", b"rk\n"], [b"o", b"ut\n", b"mark", b"\n"]])
    def test_has_its_output_without_the_mark_and_is_written_to_no_more(self, sockets, pieces):
        ours, engines = sockets
        for piece in pieces:
            engines.sendall(frame(piece))
        engines.sendall(struct.pack(">BxxxL", STDERR, 5) + b"words")
        engines.shutdown(socket.SHUT_WR)
        stream = stream_over(ours, Engine(False), mark="mark")
        received = list(stream.frames())
        assert b"".join(data for kind, data in received if kind == STDOUT) == b"out\n"
        assert b"".join(data for kind, data in received if kind == STDERR) == b"words"
        with pytest.raises(BrokenPipeError):
            stream.write(b"more")
        assert engines.recv(1) == b"", "the shell sees that nothing more comes"

    def test_loses_nothing_where_the_mark_never_comes(self, sockets):
        ours, engines = sockets
        engines.sendall(frame(b"out\nmar"))
        engines.shutdown(socket.SHUT_WR)
        received = list(stream_over(ours, Engine(False), mark="mark").frames())
        assert b"".join(data for _kind, data in received) == b"out\nmar"
