# SPDX-License-Identifier: GPL-3.0-or-later
"""A REST server for one restic, in front of the repository's own store: restic sees what it is shown, and nothing else.

restic trusts every file that it finds, and finds what is there at that moment: what somebody adds between our look and
restic's would be trusted unseen. So restic is not given the store, but this gate, on the loopback interface and with a
password of its own: a *view* says which files exist, and may be read, added and removed. The gate speaks the protocol that
restic's documentation describes ("References", "REST Backend").
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from scalr_backup.core.errors import ForgedFilesError, ResticError, ScalrBackupError
from scalr_backup.tools.store.files import CONFIG, KINDS, NAME, Files, Kind, MissingFileError, Stored, parse_span

_USER = "restic"
_TYPE = "application/vnd.x.restic.rest.v2"
_LISTING = re.compile(r"/([a-z]+)/")
_FILE = re.compile(r"/([a-z]+)/([0-9a-f]+)")
# More than restic makes of anything: a pack is 128 MiB at most, and one blob more.
_MOST_BYTES_ADDED = 512 << 20


class ForbiddenError(Exception):
    """The view does not let restic do this."""


class View(Protocol):
    """What a restic sees of a repository, and may do in it."""

    def shown(self, kind: Kind) -> dict[str, Stored]:
        """The files of a kind, when restic lists them."""

    def find(self, kind: Kind, name: str) -> Stored | None:
        """One of these; None for what is not shown."""

    def adding(self, kind: Kind, name: str, size: int) -> None:
        """Hear of a file before it is added; raises ForbiddenError."""

    def removing(self, kind: Kind, name: str) -> bool:
        """Hear of a file before it is removed, and say whether it really goes; raises ForbiddenError."""


class ReadingView:
    """Some indexes and some packs of a repository, nothing else, and nothing may be changed."""

    def __init__(self, indexes: dict[str, Stored], packs: dict[str, Stored], keys: dict[str, Stored]) -> None:
        self._files: dict[Kind, dict[str, Stored]] = {"index": indexes, "data": packs, "keys": keys}

    def shown(self, kind: Kind) -> dict[str, Stored]:
        """The files of a kind."""
        return self._files.get(kind, {})

    def find(self, kind: Kind, name: str) -> Stored | None:
        """One of these."""
        return self.shown(kind).get(name)

    def adding(self, kind: Kind, name: str, size: int) -> None:
        """Nothing may be added."""
        del kind, name, size
        raise ForbiddenError

    def removing(self, kind: Kind, name: str) -> bool:
        """Nothing may be removed."""
        del kind, name
        raise ForbiddenError


@dataclass(frozen=True)
class Address:
    """How restic reaches a gate: an address, and variables that hold what opens it."""

    repository: str
    environment: dict[str, str]


@contextmanager
def gate(files: Files, view: View) -> Iterator[Address]:
    """Open a gate before a repository for as long as the context lasts."""
    password = secrets.token_urlsafe(32)
    server = _Gatekeeper(files, view, password)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Address(
            f"rest:http://127.0.0.1:{server.server_address[1]}/",
            {"RESTIC_REST_USERNAME": _USER, "RESTIC_REST_PASSWORD": password},
        )
    except (ResticError, ForgedFilesError):
        # What looks forged may be what the store broke off.
        if server.failure is not None:
            raise server.failure from None
        raise
    finally:
        server.shutdown()
        server.server_close()


class _Gatekeeper(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, files: Files, view: View, password: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.view = files, view
        self.wanted = "Basic " + base64.b64encode(f"{_USER}:{password}".encode()).decode()
        # Why the store could not be used, which restic would tell in its own words, or try again for long.
        self.failure: ScalrBackupError | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Gatekeeper
    # Whether an answer's head is out.
    _begun = False

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the library's own name)
        """Say nothing: what restic asked for is in its own messages."""

    def do_GET(self) -> None:
        """A listing, or a file or a part of it."""
        self._answer(self._get)

    def do_HEAD(self) -> None:
        """The size of a file."""
        self._answer(self._head)

    def do_POST(self) -> None:
        """Add a file."""
        self._answer(self._post)

    def do_DELETE(self) -> None:
        """Remove a file."""
        self._answer(self._delete)

    def _answer(self, act: Callable[[], None]) -> None:
        self._begun = False
        try:
            if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), self.server.wanted.encode()):
                self._end(HTTPStatus.UNAUTHORIZED)
                return
            act()
        except MissingFileError:
            self._end(HTTPStatus.NOT_FOUND)
        except ForbiddenError:
            self._end(HTTPStatus.FORBIDDEN)
        except ScalrBackupError as error:
            self.server.failure = self.server.failure or error
            if self._begun:
                # What came of a file must not be followed by words that are none of it.
                self.close_connection = True
                return
            # Not a 5xx: restic would try again for a quarter of an hour.
            self._end(HTTPStatus.FORBIDDEN)
        except OSError:
            self.close_connection = True

    def _get(self) -> None:
        if match := _LISTING.fullmatch(self.path):
            files = self.server.view.shown(_kind(match[1]))
            body = json.dumps([{"name": name, "size": one.size} for name, one in files.items()]).encode()
            self._end(HTTPStatus.OK, body, _TYPE)
            return
        kind, name, size = self._file()
        span = self.headers.get("Range")
        begin, end = parse_span(span, size)
        with self.server.files.read(kind, name, span) as pieces:
            self.send_response(HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK)
            if kind == CONFIG:
                body = b"".join(pieces)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            self.send_header("Content-Length", str(end - begin))
            self.end_headers()
            self._begun = True
            left = end - begin
            for piece in pieces:
                self.wfile.write(piece[:left])
                left -= len(piece[:left])
            if left:
                # The file is shorter than the store says: restic must not wait for the rest.
                self.close_connection = True

    def _head(self) -> None:
        kind, name, size = self._file()
        if kind == CONFIG:
            with self.server.files.read(kind, name) as pieces:
                size = sum(len(piece) for piece in pieces)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _post(self) -> None:
        match = _FILE.fullmatch(self.path)
        size = int(self.headers.get("Content-Length", "-1"))
        if not match or not NAME.fullmatch(match[2]) or not 0 <= size <= _MOST_BYTES_ADDED:
            raise ForbiddenError
        kind, name = _kind(match[1]), match[2]
        self.server.view.adding(kind, name, size)
        self.server.files.add(kind, name, self.rfile, size)
        self._end(HTTPStatus.OK)

    def _delete(self) -> None:
        match = _FILE.fullmatch(self.path)
        if not match or not NAME.fullmatch(match[2]):
            raise ForbiddenError
        kind, name = _kind(match[1]), match[2]
        if self.server.view.removing(kind, name):
            self.server.files.remove(kind, name)
        self._end(HTTPStatus.OK)

    def _file(self) -> tuple[str, str, int]:
        """The kind, name and size of the file that is asked for; MissingFileError where the view does not show it."""
        if self.path == f"/{CONFIG}":
            return CONFIG, CONFIG, 0
        match = _FILE.fullmatch(self.path)
        if not match:
            raise MissingFileError(self.path)
        found = self.server.view.find(_kind(match[1]), match[2])
        if found is None:
            raise MissingFileError(self.path)
        return match[1], match[2], found.size

    def _end(self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain") -> None:
        if status >= HTTPStatus.BAD_REQUEST:
            # What restic sends along is not read.
            self.close_connection = True
        with suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)


def _kind(word: str) -> Kind:
    for kind in KINDS:
        if kind == word:
            return kind
    raise MissingFileError(word)
