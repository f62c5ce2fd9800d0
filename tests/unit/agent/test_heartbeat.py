"""The dead man's switch before servers that answer oddly, or not at all; nothing of it may cost a pass more than seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from scalr_backup.cli import health
from scalr_backup.cli.app import app
from scalr_backup.cli.wiring import Agent
from scalr_backup.core.config import Config
from scalr_backup.core.secrets import Addresses
from scalr_backup.tools import heartbeat
from scalr_backup.tools.heartbeat import START, Heartbeat
from scalr_backup.tools.state import State
from typer.testing import CliRunner

from tests.support.web import Answer, Server, says

RUN = "0d9a7c1e-0000-0000-0000-000000000000"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Server]]:
    monkeypatch.setattr(heartbeat, "_PAUSES", ())
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


@pytest.fixture
def notify(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[..., dict[str, Any]]:
    """The verb, on an agent that has a heartbeat and nobody else to tell."""
    monkeypatch.setattr(Agent, "config", lambda _agent: Config(host="web1", repository="/repository"))
    monkeypatch.setattr(health, "State", lambda: State(tmp_path))

    def call(address: str, *options: str) -> dict[str, Any]:
        monkeypatch.setattr(health, "load_addresses", lambda: Addresses(heartbeat=f"http://{address}/secret"))
        told: dict[str, Any] = json.loads(CliRunner().invoke(app, ["notify", *options, "--json"]).output)
        return told

    return call


def test_a_test_calls_the_switch_too_in_a_way_that_is_neither_success_nor_failure(
    serve: Callable[[Answer], Server], notify: Callable[..., dict[str, Any]], tmp_path: Any
) -> None:
    bodies = []

    def take(request: BaseHTTPRequestHandler) -> None:
        bodies.append(request.rfile.read(int(request.headers["Content-Length"])))
        says(200)(request)

    State(tmp_path).put(heartbeat={"failed": 4, "since": "2026-11-22T03:00:00+00:00", "error": "no"})
    server = serve(take)
    told = notify(server.address, "--test")
    assert (told["ok"], told["data"]["tested"]) == (
        True,
        [{"service": "the heartbeat server 127.0.0.1", "error": None}],
    )
    [asked] = server.asked
    assert asked.startswith("POST /secret/log?rid=")
    # Words in it could make the server take it for something else.
    assert bodies == [b""]
    assert State(tmp_path).read()["heartbeat"] == {"failed": 0}


def test_a_switch_that_does_not_take_a_test_is_told_and_the_last_real_call_still_counts(
    serve: Callable[[Answer], Server], notify: Callable[..., dict[str, Any]], tmp_path: Any
) -> None:
    told = notify(serve(says(404)).address, "--test")
    assert told["error"] == {"code": "not_delivered", "message": "the heartbeat server 127.0.0.1 answered 404."}
    assert "heartbeat" not in State(tmp_path).read()


def test_where_there_is_only_a_heartbeat_no_message_waits_for_anybody(notify: Callable[..., dict[str, Any]]) -> None:
    assert notify("127.0.0.1:9")["error"]["code"] == "usage"
