# SPDX-License-Identifier: GPL-3.0-or-later
"""Why the Docker Engine gave no answer, in words: the exceptions of the libraries under its SDK are meant for programmers.

Their exceptions hold one another, as causes and as arguments; the innermost one that the operating system has raised says
what is wrong.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import requests
from docker.errors import APIError

# By the operating system's number, what an operator can do something with.
_REASONS = {
    errno.ENOENT: "there is no socket at its address, so it is not running",
    errno.ECONNREFUSED: "nothing listens at its address, so it is not running",
    errno.EACCES: "this agent may not use its socket",
    errno.EPERM: "this agent may not use its socket",
    errno.ECONNRESET: "it dropped the connection, as it does on a restart",
    errno.EPIPE: "it dropped the connection, as it does on a restart",
    errno.EMFILE: "this agent has too many files open",
    errno.ENFILE: "this host has too many files open",
}
_MOST_EXCEPTIONS = 50
# What the proxy itself answers when it does not get through to the engine; the engine's own words are JSON.
_OF_PROXY = {requests.codes.bad_gateway, requests.codes.service_unavailable, requests.codes.gateway_timeout}


def why_silent(error: BaseException) -> str:
    """What follows "The Docker Engine does not answer: ", without the full stop at the end."""
    if is_behind_proxy(error):
        return "the socket proxy cannot reach it; it is not running, or the proxy's group may not use its socket"
    chain = list(_within(error))
    for one in chain:
        if isinstance(one, (requests.Timeout, TimeoutError)):
            return "it did not answer in time"
    for one in reversed(chain):
        if isinstance(one, OSError) and one.errno in _REASONS:
            return _REASONS[one.errno]
    for one in reversed(chain):
        if isinstance(one, OSError) and one.strerror:
            return one.strerror[:1].lower() + one.strerror[1:]
    if any(isinstance(one, (requests.ConnectionError, ConnectionError, EOFError)) for one in chain):
        return _REASONS[errno.ECONNRESET]
    return f"its answer is invalid ({type(error).__name__})"


def is_behind_proxy(error: BaseException) -> bool:
    """Whether the socket proxy has answered, and says that the engine does not answer it."""
    return any(
        isinstance(one, APIError)
        and one.status_code in _OF_PROXY
        and str(one.explanation).lstrip().lower().startswith(("<html", "<!doctype"))
        for one in _within(error)
    )


def _within(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those that it holds: its arguments, its reason, its cause, and what it was raised in the course of."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MOST_EXCEPTIONS:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        held = [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
        waiting.extend(inner for inner in held if isinstance(inner, BaseException))
