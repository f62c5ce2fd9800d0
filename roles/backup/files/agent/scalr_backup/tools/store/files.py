# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a repository in a directory and on a REST server.

Whoever prunes for a host that may be hostile has to know what lies in the store, and restic lists names only. What
a store says is bounded: a listing by its bytes, a name by its form.
"""

from __future__ import annotations

import io
import json
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, Protocol, get_args
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import requests
from requests.auth import HTTPBasicAuth
from requests.utils import should_bypass_proxies
from urllib3.util import ssl_

from scalr_backup.core.address import redact_address
from scalr_backup.core.errors import RepositoryRefusedError, RepositoryUnreachableError, ResticError
from scalr_backup.tools.store.access import Access
from scalr_backup.tools.store.patience import POOLS, SLOWEST, Wait

Kind = Literal["data", "index", "keys", "locks", "snapshots"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CONFIG = "config"
# What restic calls a file: the SHA-256 of its bytes.
NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SPAN = re.compile(r"bytes=(\d+)-(\d*)", re.ASCII)
_SIZE = re.compile(r"\d{1,15}", re.ASCII)
# A listing of three million files; what is longer is a flood.
MOST_BYTES_OF_A_LISTING = 256 << 20
CHUNK = 1 << 18
SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# Seconds to connect, and of silence; so that another attempt is left, half of what there is at most.
_TIMEOUT = (20.0, 120.0)
# A store that is overloaded, or starts again, is asked as often, after 1, 2, 4, 8 and 16 seconds.
ATTEMPTS = 6
_FOR_NOW = frozenset({429, 500, 502, 503, 504})
_OF_REST = "application/vnd.x.restic.rest.v2"


@dataclass(frozen=True)
class Stored:
    """A file in the store: its bytes, and where the store has one a mark that changes when the file is replaced."""

    size: int
    mark: str = ""

    @property
    def sign(self) -> str:
        """Both in a word, to be remembered."""
        return f"{self.size}:{self.mark}" if self.mark else str(self.size)


class MissingFileError(Exception):
    """The store has no such file."""


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """The next bytes."""


class Files(Protocol):
    """The files of one repository."""

    def listing(self, kind: Kind) -> dict[str, Stored]:
        """All files of a kind by their names; what is not called as restic calls a file is left out."""

    def read(self, kind: str, name: str, span: str | None = None) -> Any:
        """A context that yields the bytes of a file in chunks, or of a *span* as HTTP writes it, ``bytes=0-99``.

        Raises MissingFileError.
        """

    def add(self, kind: Kind, name: str, content: Readable, size: int) -> None:
        """Add a file."""

    def remove(self, kind: Kind, name: str) -> None:
        """Remove a file; one that is gone already is no failure."""


class DirectoryFiles:
    """A repository in a directory."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def listing(self, kind: Kind) -> dict[str, Stored]:
        """All files of a kind."""
        try:
            return {
                path.name: Stored(path.stat().st_size)
                for path in (self._place / kind).glob("*/*" if kind == "data" else "*")
                # A file at another place is none of restic's, whatever it is called.
                if NAME.fullmatch(path.name) and path == self._path(kind, path.name)
            }
        except OSError as error:
            raise _unreadable(str(self._place), error) from None

    @contextmanager
    def read(self, kind: str, name: str, span: str | None = None) -> Iterator[Iterator[bytes]]:
        """The bytes of a file."""
        try:
            file = self._path(kind, name).open("rb")
        except FileNotFoundError:
            raise MissingFileError(name) from None
        with file:
            begin, end = parse_span(span, os.fstat(file.fileno()).st_size)
            file.seek(begin)
            yield _pieces(file, end - begin)

    def add(self, kind: Kind, name: str, content: Readable, size: int) -> None:
        """Add a file, whole or not at all."""
        path = self._path(kind, name)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f"{name}.new")
        with temporary.open("wb") as file:
            for piece in _pieces(content, size):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def remove(self, kind: Kind, name: str) -> None:
        """Remove a file."""
        self._path(kind, name).unlink(missing_ok=True)

    def _path(self, kind: str, name: str) -> Path:
        if kind == CONFIG:
            return self._place / CONFIG
        return self._place / kind / name[:2] / name if kind == "data" else self._place / kind / name


class _Adapter(requests.adapters.HTTPAdapter):
    """Trusts a certificate as restic does: from Python 3.13 on, a private authority without a key usage would be refused."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Where connections come from."""
        super().init_poolmanager(*arguments, **options | {"ssl_context": _lenient_context()})
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """The same behind a proxy."""
        manager = super().proxy_manager_for(*arguments, **options | {"ssl_context": _lenient_context()})
        manager.pool_classes_by_scheme = POOLS
        return manager


def _lenient_context() -> ssl.SSLContext:
    context = ssl_.create_urllib3_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class HttpFiles:
    """What the stores that speak HTTP have in common: a session, and their refusals as our errors."""

    def __init__(self, shown: str, url: str, access: Access) -> None:
        """*shown* is the repository as messages name it, *url* an address of its store."""
        self._shown = shown
        self._access = access
        self._session = requests.Session()
        # No credentials from a file of somebody's: only what the caller was given.
        self._session.trust_env = False
        self._session.verify, self._bundle = _trusted(access.authority)
        if not should_bypass_proxies(url, _variable(access.environment, "NO_PROXY") or ""):
            proxies = {scheme: _variable(access.environment, f"{scheme.upper()}_PROXY") for scheme in ("http", "https")}
            self._session.proxies = {scheme: proxy for scheme, proxy in proxies.items() if proxy}
        adapter = _Adapter(pool_maxsize=16)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def pause(self, seconds: float) -> None:
        """Wait before the next attempt."""
        self._access.cancelled.wait(seconds)

    def _wait(self, bytes_to_send: int = 0) -> Wait:
        """The patience for one question."""
        return Wait(self._shown, self._access.seconds + bytes_to_send / SLOWEST, self._access.cancelled)

    def _ask(
        self,
        wait: Wait,
        method: str,
        request: Callable[[], tuple[str, dict[str, str]]],
        data: bytes | None = None,
        attempts: int = ATTEMPTS,
    ) -> requests.Response:
        """Ask until the store answers; *request* makes an address and headers anew for each attempt."""
        seconds = 1
        while True:
            attempts -= 1
            url, headers = request()
            wait.require()
            try:
                with wait.counting():
                    answer = self._send(method, url, headers, data)
            except requests.exceptions.SSLError as error:
                wait.require()
                raise RepositoryUnreachableError(
                    f"The certificate of the repository {self._shown} is not trusted, or is not one for TLS "
                    f"({_reason(error)}); check the address and the authority's certificate, backup_ca_certificate."
                ) from None
            except requests.RequestException as error:
                wait.require()
                if attempts <= 0:
                    raise RepositoryUnreachableError(
                        f"The repository {self._shown} does not answer ({type(error).__name__}); check the network and "
                        "the address."
                    ) from None
            else:
                # A head that its wait has cut short looks like one that has ended.
                wait.require()
                if answer.status_code in range(200, 300):
                    return answer
                if self._learnt(answer, wait):
                    continue
                if answer.status_code not in _FOR_NOW or attempts <= 0:
                    self._refuse(method, url, answer)
                answer.close()
            with wait.counting():
                self.pause(seconds)
            seconds *= 2

    def _send(self, method: str, url: str, headers: dict[str, str], data: bytes | None) -> requests.Response:
        connecting, silence = (min(seconds, self._access.seconds / 2) for seconds in _TIMEOUT)
        return self._session.request(
            method,
            url,
            timeout=(connecting, silence),
            allow_redirects=False,
            stream=True,
            headers=headers,
            # Sent piece by piece: a socket's time-out is for all that is sent at once.
            data=io.BytesIO(data) if data else data,
        )

    def _learnt(self, answer: requests.Response, wait: Wait) -> bool:
        """Whether a refusal says how to ask rightly."""
        del answer, wait
        return False

    def _refuse(self, method: str, url: str, answer: requests.Response) -> NoReturn:
        """The error that a refusal is."""
        if answer.status_code == requests.codes.not_found:
            answer.close()
            raise MissingFileError(url)
        if answer.status_code in {401, 403}:
            answer.close()
            raise RepositoryRefusedError(
                f"The repository {self._shown} refuses {method} (HTTP {answer.status_code}): check the key of the trusted "
                "place, backup_prune_environment, which must be allowed to list, read, add and remove."
            )
        answer.close()
        raise RepositoryUnreachableError(
            f"The repository {self._shown} answers {method} with HTTP {answer.status_code}; check its address and its "
            "region."
        )

    def _whole(self, wait: Wait, ask: Callable[[], requests.Response], attempts: int = ATTEMPTS) -> bytes:
        """All that an answer holds, within limits; one that breaks off is asked for again."""
        seconds = 1
        while True:
            attempts -= 1
            content = bytearray()
            try:
                with ask() as answer:
                    for piece in _arriving(answer, wait):
                        content += piece
                        if len(content) > MOST_BYTES_OF_A_LISTING:
                            raise ResticError(
                                f"The listing of the repository {self._shown} is longer than "
                                f"{MOST_BYTES_OF_A_LISTING >> 20} MB: it holds more files than a prune from the trusted "
                                "place can judge."
                            )
                    return bytes(content)
            except requests.RequestException as error:
                wait.require()
                if attempts <= 0:
                    raise self._broke_off(error) from None
            with wait.counting():
                self.pause(seconds)
            seconds *= 2

    @contextmanager
    def _pieces(
        self, ask: Callable[[Wait, str | None], requests.Response], span: str | None
    ) -> Iterator[Iterator[bytes]]:
        """The bytes of a file or of a span of it; where they break off, the rest is asked for."""
        with self._wait() as wait, ask(wait, span) as first:
            yield self._continued(wait, first, partial(ask, wait), span)

    def _continued(
        self, wait: Wait, answer: requests.Response, ask: Callable[[str | None], requests.Response], span: str | None
    ) -> Iterator[bytes]:
        done, skipped, attempts, seconds = 0, 0, ATTEMPTS, 1
        while True:
            attempts -= 1
            try:
                with answer:
                    for piece in _arriving(answer, wait):
                        rest, skipped = piece[skipped:], max(0, skipped - len(piece))
                        done += len(rest)
                        yield rest
                return
            except requests.RequestException as error:
                wait.require()
                if attempts <= 0:
                    raise self._broke_off(error) from None
            with wait.counting():
                self.pause(seconds)
            seconds *= 2
            answer = ask(_rest_of(span, done))
            # A store that knows no spans begins anew.
            skipped = 0 if answer.status_code == requests.codes.partial else done

    def _broke_off(self, error: requests.RequestException) -> RepositoryUnreachableError:
        return RepositoryUnreachableError(
            f"The repository {self._shown} broke off ({type(error).__name__}) while a file was read; check the network."
        )


def _arriving(answer: requests.Response, wait: Wait) -> Iterator[bytes]:
    """The pieces of an answer as they come; one that its wait has cut short does not look like one that has ended."""
    pieces = answer.iter_content(CHUNK)
    while True:
        with wait.counting():
            piece = next(pieces, None)
        wait.require()
        if piece is None:
            return
        wait.moved(len(piece))
        yield piece


def _variable(environment: Mapping[str, str], name: str) -> str | None:
    """A variable that programs read in capitals and in small letters, as restic reads it."""
    return environment.get(name) or environment.get(name.lower())


def _rest_of(span: str | None, done: int) -> str | None:
    """The span that is left of one when so many of its bytes have come."""
    match = _SPAN.fullmatch(span or "bytes=0-")
    return f"bytes={int(match[1]) + done}-{match[2]}" if match else span


def _reason(error: BaseException) -> str:
    """What OpenSSL says of a certificate, where it says something."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return found.verify_message
        arguments = [one for one in (getattr(found, "reason", None), *found.args) if isinstance(one, BaseException)]
        found = arguments[0] if arguments else None
    return type(error).__name__


def _trusted(authority: Path | None) -> tuple[str | bool, IO[bytes] | None]:
    """The authorities that restic trusts, too: the system's and one's own; the file that holds both, to be kept."""
    system = SYSTEM_AUTHORITIES if SYSTEM_AUTHORITIES.exists() else None
    if authority is None:
        return (str(system) if system else True), None
    bundle = tempfile.NamedTemporaryFile(suffix=".pem")  # noqa: SIM115 (it lasts as long as the session)
    for file in (system, authority):
        bundle.write(file.read_bytes() + b"\n" if file else b"")
    bundle.flush()
    return bundle.name, bundle


class RestFiles(HttpFiles):
    """A repository on restic's REST server."""

    def __init__(self, repository: str, access: Access) -> None:
        url = urlsplit(repository.removeprefix("rest:"))
        super().__init__(redact_address(repository), url.geturl(), access)
        user = access.environment.get("RESTIC_REST_USERNAME") or unquote(url.username or "")
        password = access.environment.get("RESTIC_REST_PASSWORD") or unquote(url.password or "")
        self._session.auth = HTTPBasicAuth(user.encode(), password.encode()) if user else None
        self._base = urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2])).rstrip("/")

    def listing(self, kind: Kind) -> dict[str, Stored]:
        """All files of a kind."""
        try:
            with self._wait() as wait:
                text = self._whole(wait, lambda: self._at(wait, "GET", f"{kind}/", {"Accept": _OF_REST}))
        except MissingFileError:
            return {}
        try:
            return _parse_listing(text)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise RepositoryUnreachableError(
                f"The repository {self._shown} lists its files without their sizes: its REST server must be 0.10 or newer."
            ) from None

    @contextmanager
    def read(self, kind: str, name: str, span: str | None = None) -> Iterator[Iterator[bytes]]:
        """The bytes of a file."""
        place = CONFIG if kind == CONFIG else f"{kind}/{quote(name)}"

        def ask(wait: Wait, part: str | None) -> requests.Response:
            return self._at(wait, "GET", place, {"Range": part} if part else {})

        with self._pieces(ask, span) as pieces:
            yield pieces

    def add(self, kind: Kind, name: str, content: Readable, size: int) -> None:
        """Add a file."""
        data = content.read(size)
        with self._wait(len(data)) as wait:
            try:
                self._at(wait, "POST", f"{kind}/{name}", {}, data).close()
            except RepositoryRefusedError:
                # What came in whole before the connection broke cannot be added a second time.
                with suppress(MissingFileError), self._at(wait, "HEAD", f"{kind}/{name}", {}) as there:
                    if there.headers.get("Content-Length") == str(len(data)):
                        return
                raise

    def remove(self, kind: Kind, name: str) -> None:
        """Remove a file."""
        with self._wait() as wait, suppress(MissingFileError):
            self._at(wait, "DELETE", f"{kind}/{name}", {}).close()

    def _at(
        self, wait: Wait, method: str, place: str, headers: dict[str, str], data: bytes | None = None
    ) -> requests.Response:
        return self._ask(wait, method, lambda: (f"{self._base}/{place}", headers), data)


def _parse_listing(text: bytes) -> dict[str, Stored]:
    """What a REST server lists; raises ValueError, TypeError, KeyError or RecursionError for what is no listing."""
    document = json.loads(text)
    if not isinstance(document, list | None):
        raise TypeError
    return {one["name"]: Stored(parse_size(str(one["size"]))) for one in document or () if NAME.fullmatch(one["name"])}


def parse_size(text: str) -> int:
    """How many bytes a file has, as a store says; raises ValueError for what is no such number."""
    if not _SIZE.fullmatch(text):
        raise ValueError(text)
    return int(text)


def parse_span(span: str | None, size: int) -> tuple[int, int]:
    """The first byte of a span and the one after its last, within a file of *size*."""
    match = _SPAN.fullmatch(span or "")
    if not match:
        return 0, size
    end = min(int(match[2]) + 1, size) if match[2] else size
    return min(int(match[1]), end), end


def _pieces(file: Readable, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(CHUNK, size))):
        size -= len(piece)
        yield piece


def _unreadable(place: str, error: OSError) -> ResticError:
    return ResticError(f"The repository {place} cannot be read: {error.strerror}.")
