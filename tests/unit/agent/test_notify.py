"""Messages to services that answer oddly."""

from __future__ import annotations

import time
from http.server import BaseHTTPRequestHandler

from scalr_backup.tools.notify import Message, services

from tests.support.web import Answer, Server, says

MESSAGE = Message("failure", "[web1] FAILED", "a backup failed")
REFUSED = "json (number 1 of backup_notify) refused the message, or did not answer."


def deliver(answer: Answer, query: str = "") -> tuple[str | None, list[str]]:
    """What came of a message, and what the server was asked for."""
    server = Server(answer)
    try:
        [service] = services([f"json://user:secret@{server.address}/hook{query}"])
        return service.deliver(MESSAGE), server.asked
    finally:
        server.stop()


def test_a_message_that_is_redirected_is_not_delivered() -> None:
    assert deliver(says(302, Location="/elsewhere")) == (REFUSED, ["POST /hook"])


def test_redirects_are_followed_where_the_address_says_so() -> None:
    def redirect_once(request: BaseHTTPRequestHandler) -> None:
        says(307 if request.path == "/hook" else 200, Location="/elsewhere")(request)

    assert deliver(redirect_once, "?redirect=yes") == (None, ["POST /hook", "POST /elsewhere"])


def test_a_server_that_is_slow_to_answer_is_waited_for() -> None:
    def slow(request: BaseHTTPRequestHandler) -> None:
        time.sleep(4.5)  # Apprise itself would give up after four.
        says(200)(request)

    assert deliver(slow) == (None, ["POST /hook"])


def test_a_server_that_fails_or_hangs_up_has_not_taken_it() -> None:
    assert deliver(says(500))[0] == REFUSED
    assert deliver(lambda request: request.connection.close())[0] == REFUSED
