# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead man's switch: tells a server that a pass has begun and how it ended, so that silence pages, too.

The calls are those of Healthchecks (https://healthchecks.io/docs/http_api/): ``<url>/start``, ``<url>`` and
``<url>/fail``, each with the run's ``rid``, so that the server measures how long a pass takes; ``<url>/log`` changes nothing
there, and is a test's. Whatever speaks to other servers of that kind works as well. The address is a secret: anyone who has it can keep the switch from paging.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit, urlunsplit

import requests

from scalr_backup.core.errors import ConfigurationError

START, SUCCESS, FAIL, LOG = "start", "", "fail", "log"

# Seconds for one try, and between two: a pass must not wait for its pager.
_TRY_SECONDS = 10.0
_PAUSES = (1.0, 4.0)
# Bytes of what a server of that kind keeps of a body.
_BODY_BYTES = 10_000
# Bytes of an answer that are read.
_ANSWER_BYTES = 100
# Healthchecks answers 200 where the address is of no check of it, and says so in words.
_NOT_FOUND = b"OK (not found)"


@dataclass(frozen=True)
class Beat:
    """What became of a call: the error as a sentence, or None; and the server's clock, if it gave it."""

    error: str | None
    server_time: datetime | None = None


class Heartbeat:
    """The switch at one address."""

    def __init__(self, url: str) -> None:
        self._url = _split(url)
        # All of the address that may be shown.
        self.name = f"the heartbeat server {self._url.hostname}"

    def send(self, signal: str, run: str, body: str = "") -> Beat:
        """Send a signal, up to three times; *run* is a UUID that ties the end to the start. Never raises."""
        beat = Beat(f"{self.name} was not contacted.")
        for pause in (*_PAUSES, None):
            beat = self._send(signal, run, body)
            if beat.error is None or pause is None:
                break
            time.sleep(pause)
        return beat

    def _send(self, signal: str, run: str, body: str) -> Beat:
        try:
            with requests.post(
                self._address(signal),
                params={"rid": run},
                data=body.encode()[:_BODY_BYTES],
                timeout=_TRY_SECONDS,
                stream=True,  # Else its answer is waited for however long it goes on.
            ) as answer:
                told = _server_time(answer.headers.get("Date"))
                return Beat(self._fault(answer), told)
        except Exception as error:  # noqa: BLE001 (a name that cannot be looked up is not always a RequestException)
            # Its text quotes the address.
            return Beat(f"{self.name} cannot be reached: {type(error).__name__}.")

    def _fault(self, answer: requests.Response) -> str | None:
        if not answer.ok:
            return f"{self.name} answered {answer.status_code}."
        said = b""
        with suppress(Exception):  # It has taken the call, whatever keeps it from saying more.
            said = answer.raw.read1(_ANSWER_BYTES)
        return f"{self.name} has no check at this address." if said.startswith(_NOT_FOUND) else None

    def _address(self, signal: str) -> str:
        path = self._url.path.rstrip("/") + (f"/{signal}" if signal else "")
        return urlunsplit(self._url._replace(path=path))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if parts.scheme not in {"http", "https"} or not parts.hostname or any(character.isspace() for character in url):
        raise ConfigurationError(
            "backup_heartbeat_url must begin with http:// or https:// and name a server, such as https://hc-ping.com/…."
        )
    return parts


def _server_time(header: str | None) -> datetime | None:
    try:
        told = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
    return told if told.tzinfo else None
