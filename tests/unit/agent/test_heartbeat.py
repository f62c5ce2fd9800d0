"""The dead man's switch before servers that answer oddly, or not at all; nothing of it may cost a pass more than seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from scalr_backup.tools import heartbeat
from scalr_backup.tools.heartbeat import START, Heartbeat

from tests.support.web import Answer, Server, says

RUN = "0d9a7c1e-0000-0000-0000-000000000000"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Server]]:
    monkeypatch.setattr(heartbeat, "_PAUSES", ())
    monkeypatch.setattr(heartbeat, "_TRY_SECONDS", 0.5)
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def test_the_signal_goes_behind_the_path_and_before_the_query(serve: Callable[[Answer], Server]) -> None:
    server = serve(says(200))
    beat = Heartbeat(f"http://{server.address}/ping/token/?create=1").send(START, RUN)
    assert beat.error is None
    assert server.asked == [f"POST /ping/token/start?create=1&rid={RUN}"]


def test_a_server_that_has_no_such_check_says_so_with_200(serve: Callable[[Answer], Server]) -> None:
    beat = Heartbeat(f"http://{serve(says(200, b'OK (not found)')).address}/secret").send(START, RUN)
    assert beat.error == "the heartbeat server 127.0.0.1 has no check at this address."


def test_an_answer_that_does_not_end_is_not_waited_for(serve: Callable[[Answer], Server]) -> None:
    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not request.server.released.wait(0.1):  # type: ignore[attr-defined]
            request.wfile.write(b"O")
            request.wfile.flush()

    assert Heartbeat(f"http://{serve(drip).address}/secret").send(START, RUN).error is None


@pytest.mark.parametrize("elsewhere", ["http://a..b/", "nothing://x/", "http://[/"])
def test_a_redirect_to_nowhere_is_a_failure_and_no_more(serve: Callable[[Answer], Server], elsewhere: str) -> None:
    beat = Heartbeat(f"http://{serve(says(302, Location=elsewhere)).address}/secret").send(START, RUN)
    assert beat.error
    assert beat.error.startswith("the heartbeat server 127.0.0.1 cannot be reached: ")
    assert "secret" not in beat.error


@pytest.mark.parametrize("date", ["Sun, 22 Nov 2026 12:00:00 +99999999999999", "yesterday"])
def test_a_date_that_is_none_does_not_undo_the_call(date: str) -> None:
    assert heartbeat._server_time(date) is None
