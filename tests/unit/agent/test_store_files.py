# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a repository on servers that speak HTTP; tests with real servers are among those of integration."""

from __future__ import annotations

import io
import itertools
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from scalr_backup.core.errors import (
    InterruptedRunError,
    RepositoryMissingError,
    RepositoryRefusedError,
    RepositoryUnreachableError,
    ResticError,
)
from scalr_backup.tools.store import clock as store_clock
from scalr_backup.tools.store import files as store_files
from scalr_backup.tools.store import patience as store_patience
from scalr_backup.tools.store import s3 as store_s3
from scalr_backup.tools.store.access import Access
from scalr_backup.tools.store.clock import ahead_of_store
from scalr_backup.tools.store.files import MissingFileError, RestFiles, Stored, parse_span
from scalr_backup.tools.store.patience import Wait
from scalr_backup.tools.store.s3 import S3Files
from urllib3.util import ssl_

ONE, TWO = "1" * 64, "2" * 64
# Instead of a status: a body that ends too early, and no answer at all.
BREAKS_OFF, NOTHING = -1, -2
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}


class Server(ThreadingHTTPServer):
    """A server that answers what a test wants."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.at_first: list[tuple[int, bytes]] = []
        self.needs: tuple[str, ...] = ()
        self.knows_spans = True

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers each method by the test's table, a page of a listing by its token."""

    server: Server

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def answer(self) -> None:
        """The status and body for this method and token."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        token = parse_qs(urlsplit(self.path).query).get("continuation-token", [""])[0]
        status, body = self.server.answers.get(self.command + token, (404, b""))
        if self.server.at_first:
            status, body = self.server.at_first.pop(0)
        if needed := [name for name in self.server.needs if self.command == "PUT" and not self.headers.get(name)]:
            status, body = 400, f"<Error><Code>InvalidRequest</Code><Message>{needed}</Message></Error>".encode()
        if status == BREAKS_OFF:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + 5))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True
            return
        if status == NOTHING:
            self.close_connection = True
            return
        if status == 200 and self.headers.get("Range") and self.server.knows_spans:
            begin, end = parse_span(self.headers["Range"], len(body))
            status, body = 206, body[begin:end]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 (the library's own names)


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float]:
    """The seconds that were waited for a store, which here take no time."""
    found: list[float] = []
    monkeypatch.setattr(store_files.HttpFiles, "pause", staticmethod(found.append))
    return found


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def rest(server) -> RestFiles:
    return RestFiles(f"rest:{server.url.replace('//', '//us%40er:p%2Fw@')}/web1/", Access({}))


@pytest.fixture
def s3(server) -> S3Files:
    return S3Files(f"s3:{server.url}/backups/web1", Access(KEYS))


def page(*keys: str, more: str = "") -> bytes:
    """A page of a listing."""
    objects = "".join(
        f"<Contents><Key>{key}</Key><ETag>&quot;e-1&quot;</ETag><Size>5</Size></Contents>" for key in keys
    )
    token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    return f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{objects}{token}</ListBucketResult>'.encode()


class TestRestServer:
    """restic's REST server."""

    def test_lists_with_the_sizes_what_is_called_as_restic_calls_files(self, server, rest):
        server.answers["GET"] = 200, json.dumps([{"name": ONE, "size": 5}, {"name": "../config", "size": 1}]).encode()
        assert rest.listing("data") == {ONE: Stored(5)}
        [(_method, path, headers)] = server.asked
        assert path == "/web1/data/"
        assert headers["Authorization"] == "Basic dXNAZXI6cC93"

    @pytest.mark.parametrize(
        "body",
        [
            b"[1]",
            b"{}x",
            b"{}",
            b"0",
            b'["name"]',
            b'[{"name": 1, "size": 2}]',
            b"[" * 200_000,
            *(f'[{{"name": "{ONE}", "size": {size}}}]'.encode() for size in ("1e999", "-5", "1.5", "true", "9" * 5000)),
        ],
        ids=range(12),
    )
    def test_a_listing_without_sizes_is_one_sentence(self, server, rest, body):
        server.answers["GET"] = 200, body
        with pytest.raises(RepositoryUnreachableError, match=r"0\.10 or newer"):
            rest.listing("data")

    def test_what_is_not_there_is_empty_or_missing(self, rest):
        assert rest.listing("data") == {}
        rest.remove("data", ONE)
        with pytest.raises(MissingFileError), rest.read("data", ONE):
            pass

    def test_reads_adds_and_removes(self, server, rest):
        server.answers |= {"GET": (200, b"12345"), "POST": (200, b""), "DELETE": (200, b"")}
        with rest.read("config", "config", "bytes=0-4") as pieces:
            assert b"".join(pieces) == b"12345"
        rest.add("index", ONE, io.BytesIO(b"12345"), 5)
        rest.remove("data", ONE)
        assert [(method, path) for method, path, _headers in server.asked] == [
            ("GET", "/web1/config"), ("POST", f"/web1/index/{ONE}"), ("DELETE", f"/web1/data/{ONE}"),
        ]  # fmt: skip

    def test_waits_for_a_store_that_is_overloaded_and_asks_again(self, server, rest, pauses):
        server.answers["GET"] = 200, b"[]"
        server.at_first = [(503, b""), (NOTHING, b""), (500, b""), (429, b""), (BREAKS_OFF, b"[")]
        assert rest.listing("data") == {}
        assert pauses == [1, 2, 4, 8, 1]
        server.answers["GET"] = 500, b""
        server.asked.clear()
        with pytest.raises(RepositoryUnreachableError, match="HTTP 500"):
            rest.listing("data")
        assert len(server.asked) == 6

    @pytest.mark.parametrize("knows_spans", [True, False])
    @pytest.mark.parametrize(("span", "whole"), [(None, b"0123456789"), ("bytes=1-8", b"12345678")])
    def test_reads_the_rest_of_what_broke_off(self, server, rest, knows_spans, span, whole):
        server.knows_spans = knows_spans
        server.answers["GET"] = (200, b"0123456789" if knows_spans else whole)
        server.at_first = [(BREAKS_OFF, whole[:4]), (503, b"")]
        with rest.read("data", ONE, span) as pieces:
            assert b"".join(pieces) == whole

    def test_a_file_that_came_in_before_the_connection_broke_is_there(self, server, rest):
        server.answers |= {"POST": (403, b""), "HEAD": (200, b"12345")}
        server.at_first = [(NOTHING, b"")]
        rest.add("index", ONE, io.BytesIO(b"12345"), 5)
        server.answers["HEAD"] = 200, b"other"[:3]
        with pytest.raises(RepositoryRefusedError):
            rest.add("index", ONE, io.BytesIO(b"12345"), 5)
        del server.answers["HEAD"]
        with pytest.raises(RepositoryRefusedError):
            rest.add("index", ONE, io.BytesIO(b"12345"), 5)

    def test_a_refusal_and_a_failure_are_one_sentence_without_the_password(self, server, rest):
        for status, kind in (
            (401, RepositoryRefusedError),
            (403, RepositoryRefusedError),
            (500, RepositoryUnreachableError),
            (302, RepositoryUnreachableError),
        ):
            server.answers["GET"] = status, b""
            with pytest.raises(kind) as failed:
                rest.listing("data")
            assert "p%2Fw" not in str(failed.value)
        with pytest.raises(RepositoryUnreachableError, match="does not answer"):
            RestFiles("rest:http://127.0.0.1:1/", Access({})).listing("data")

    def test_goes_through_the_proxy_that_restic_is_given(self, server):
        server.answers["GET"] = 200, b"[]"
        given = {"http_proxy": server.url, "no_proxy": "near.test"}
        for names in ({name.upper(): value for name, value in given.items()}, given):
            server.asked.clear()
            RestFiles("rest:http://far.test/web1", Access(names)).listing("data")
            assert server.asked[0][1] == "http://far.test/web1/data/"
        with pytest.raises(RepositoryUnreachableError):
            RestFiles("rest:http://near.test/web1", Access(given)).listing("data")

    def test_trusts_whom_restic_trusts(self, tmp_path, monkeypatch):
        own, system = tmp_path / "own.pem", tmp_path / "system.pem"
        own.write_text("OWN")
        system.write_text("SYSTEM")
        monkeypatch.setattr(store_files, "SYSTEM_AUTHORITIES", system)
        assert RestFiles("rest:https://x/", Access({}))._session.verify == str(system)
        both = RestFiles("rest:https://x/", Access({}, own))
        assert Path(both._session.verify).read_text() == "SYSTEM\nOWN\n"
        monkeypatch.setattr(store_files, "SYSTEM_AUTHORITIES", tmp_path / "none")
        assert RestFiles("rest:https://x/", Access({}))._session.verify is True

    def test_a_flood_is_not_read_to_its_end(self, server, rest, monkeypatch):
        monkeypatch.setattr(store_files, "MOST_BYTES_OF_A_LISTING", 10)
        server.answers["GET"] = 200, b"[" + b" " * 100 + b"]"
        with pytest.raises(ResticError, match="more files than"):
            rest.listing("data")


class TestS3:
    """An S3 store."""

    def test_lists_page_by_page_and_only_what_lies_where_restic_puts_it(self, server, s3):
        server.answers["GET"] = 200, page(f"web1/data/11/{ONE}", f"web1/data/xx/{TWO}", "web1/data/readme", more="next")
        server.answers["GETnext"] = 200, page(f"web1/data/22/{TWO}")
        assert s3.listing("data") == {ONE: Stored(5, "e-1"), TWO: Stored(5, "e-1")}
        first, second = server.asked[1:]
        assert first[1] == "/backups?list-type=2&prefix=web1%2Fdata%2F"
        assert "continuation-token=next" in second[1]
        assert first[2]["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=a/")
        assert "x-amz-security-token" in first[2]["Authorization"]

    @pytest.mark.parametrize(
        ("path", "prefix"),
        [
            # As restic 0.19.1 asked a server for the repository's config.
            ("backups", ""),
            ("backups/", ""),
            ("backups/./", ""),
            ("backups/web1/", "web1/"),
            ("backups/a//web1", "a/web1/"),
            ("backups/./a/../web1", "web1/"),
            ("backups//a//web1", "/a/web1/"),
            ("backups///web1", "/web1/"),
            ("backups/web%201", "web 1/"),
        ],
    )
    def test_looks_for_locks_where_restic_puts_them(self, server, path, prefix):
        server.answers["GET"] = 200, page(f"{prefix}locks/{ONE}")
        assert S3Files(f"s3:{server.url}/{path}", Access(KEYS)).listing("locks") == {ONE: Stored(5, "e-1")}
        assert server.asked[-1][1] == f"/backups?list-type=2&prefix={quote(f'{prefix}locks/', safe='')}"

    def test_an_address_that_is_no_url_is_taken_as_it_is_written(self):
        assert S3Files("s3:s3.test/backups/web%201", Access(KEYS | {"AWS_REGION": "x"}))._object("locks", ONE) == (
            f"web%201/locks/{ONE}"
        )

    @pytest.mark.parametrize(
        "body",
        [
            b"<",
            b"<a>" * 200_000,
            b'<?xml version="1.0" encoding="nobodys"?><ListBucketResult/>',
            b'<?xml version="1.0" encoding="utf-7"?><ListBucketResult/>',
            *(page(f"web1/data/11/{ONE}").replace(b">5<", size) for size in (b">12.0<", b"><", b">-5<", b">\xd9\xa3<")),
        ],
        ids=range(8),
    )
    def test_a_listing_that_is_none(self, server, s3, body):
        server.answers["GET"] = 200, body
        with pytest.raises(RepositoryUnreachableError, match="not list its files, with their sizes, as XML"):
            s3.listing("data")

    def test_a_listing_that_never_ends(self, server, s3, monkeypatch):
        server.answers |= {"GET": (200, page(more="next")), "GETnext": (200, page(more="next"))}
        monkeypatch.setattr("scalr_backup.tools.store.s3._MOST_PAGES", 3)
        with pytest.raises(RepositoryUnreachableError, match="more than 3000 files"):
            s3.listing("data")

    def test_a_listing_that_hides_its_end_and_a_bucket_that_is_not_there(self, server, s3):
        server.answers["GET"] = 200, page().replace(b"</List", b"<IsTruncated>true</IsTruncated></List")
        with pytest.raises(RepositoryUnreachableError, match="ListObjectsV2"):
            s3.listing("data")
        server.answers["GET"] = 404, b"<Error><Code>NoSuchBucket</Code></Error>"
        with pytest.raises(RepositoryMissingError, match="no bucket backups"):
            s3.listing("data")

    def test_says_what_a_bucket_with_object_lock_wants_to_know(self, server, s3):
        server.needs = ("Content-MD5",)
        server.answers["PUT"] = 200, b""
        s3.add("index", ONE, io.BytesIO(b"12345"), 5)
        assert server.asked[-1][2]["Content-MD5"] == "gnzLDuqKcGxMNKFokfhOew=="

    def test_each_attempt_is_signed_anew(self, server, s3, monkeypatch):
        server.answers["GET"] = 200, page()
        server.at_first = [(503, b"")]
        moments = iter(["20261129T100000Z", "20261129T100100Z"])
        monkeypatch.setattr(store_s3, "_moment", lambda: next(moments))
        s3.listing("data")
        assert [headers["x-amz-date"] for _method, _path, headers in server.asked[1:]] == [
            "20261129T100000Z",
            "20261129T100100Z",
        ]

    @pytest.mark.parametrize("code", ["AuthorizationHeaderMalformed", "PermanentRedirect"])
    def test_takes_the_region_that_a_refusal_names_once(self, server, s3, code):
        refusal = f"<Error><Code>{code}</Code><Region>eu-north-1</Region></Error>".encode()
        server.answers["GET"] = 200, page()
        server.at_first = [(400, refusal)]
        assert s3.listing("data") == {}
        assert "/eu-north-1/s3/aws4_request" in server.asked[-1][2]["Authorization"]
        server.answers["GET"] = 403, refusal.replace(b"north", b"south")
        with pytest.raises(RepositoryRefusedError):
            s3.listing("data")

    def test_signs_the_name_that_is_sent(self):
        environment = KEYS | {"AWS_REGION": "us-east-1"}
        for address, host in (
            ("s3:https://Store.Test:443/b", "store.test"),
            ("s3:http://store.test:80/b", "store.test"),
            ("s3:http://store.test:443/b", "store.test:443"),
        ):
            assert S3Files(address, Access(environment))._host == host

    def test_reads_adds_and_removes(self, server, s3):
        server.answers |= {"GET": (206, b"12"), "PUT": (200, b""), "DELETE": (204, b"")}
        with s3.read("config", "config", "bytes=0-1") as pieces:
            assert b"".join(pieces) == b"12"
        s3.add("index", ONE, io.BytesIO(b"12345"), 5)
        s3.remove("data", ONE)
        del server.answers["DELETE"]
        s3.remove("data", ONE)
        assert [path for _method, path, _headers in server.asked[1:]] == [
            "/backups/web1/config", f"/backups/web1/index/{ONE}", *[f"/backups/web1/data/11/{ONE}"] * 2,
        ]  # fmt: skip

    def test_needs_its_keys(self):
        with pytest.raises(RepositoryRefusedError, match="AWS_SECRET_ACCESS_KEY"):
            S3Files("s3:https://x/y", Access({}))

    @pytest.mark.parametrize(
        ("address", "environment", "host"),
        [
            ("s3:s3.amazonaws.com/b", {"AWS_REGION": "us-east-1"}, "s3.amazonaws.com"),
            ("s3:s3.amazonaws.com/b", {"AWS_DEFAULT_REGION": "eu-west-1"}, "s3.eu-west-1.amazonaws.com"),
            ("s3:s3.eu-west-2.amazonaws.com/b", {}, "s3.eu-west-2.amazonaws.com"),
        ],
    )
    def test_asks_amazon_in_the_buckets_own_region(self, address, environment, host):
        assert S3Files(address, Access(KEYS | environment))._host == host

    @pytest.mark.parametrize(
        ("status", "body", "region"),
        [
            (200, b'<LocationConstraint xmlns="x">eu-central-003</LocationConstraint>', "eu-central-003"),
            (200, b"<LocationConstraint/>", "us-east-1"),
            (200, b"<LocationConstraint>EU</LocationConstraint>", "eu-west-1"),
            (200, b"<LocationConstraint>../x</LocationConstraint>", "us-east-1"),
            (200, b"<", "us-east-1"),
            (200, b'<?xml version="1.0" encoding="nobodys"?><a/>', "us-east-1"),
            (403, b"", "us-east-1"),
        ],
    )
    def test_asks_the_store_for_the_region_as_restic_does(self, server, status, body, region):
        server.answers["GET"] = status, body
        found = S3Files(f"s3:{server.url}/backups/web1", Access(KEYS))
        server.answers["GET"] = 200, page()
        found.listing("data")
        assert server.asked[0][1] == "/backups?location="
        assert f"/{region}/s3/aws4_request" in server.asked[1][2]["Authorization"]

    @pytest.mark.parametrize(
        ("host", "region"),
        [
            ("s3.eu-central-003.backblazeb2.com", "eu-central-003"),
            ("s3.fr-par.scw.cloud", "fr-par"),
            ("s3.example.com", "us-east-1"),
            ("store.test", "us-east-1"),
        ],
    )
    def test_takes_the_region_in_a_name_where_the_store_does_not_tell(self, server, host, region):
        server.answers["GET"] = 403, b""
        found = S3Files(f"s3:http://{host}/b", Access(KEYS | {"HTTP_PROXY": server.url}))
        assert found._region == region


class TrickleHandler(BaseHTTPRequestHandler):
    """Never silent and never done: what it is told to send at once, and then a byte at a time for as long as anybody listens."""

    server: Trickle

    def setup(self) -> None:
        """Count the connections."""
        super().setup()
        self.server.connections += 1

    def handle(self) -> None:
        """Send."""
        self.rfile.readline()
        self.wfile.write(self.server.head)
        with suppress(OSError):
            # Not for ever: a test that fails has to end.
            for _time in range(400):
                self.wfile.write(b" ")
                self.server.began.set()
                time.sleep(0.05)
            self.server.was_heard_out = True


class Trickle(ThreadingHTTPServer):
    """A server that trickles."""

    daemon_threads = True

    def __init__(self, head: bytes) -> None:
        super().__init__(("127.0.0.1", 0), TrickleHandler)
        self.head = head
        self.connections = 0
        self.was_heard_out = False
        self.began = threading.Event()


OK = b"HTTP/1.1 200 OK\r\n"


class TestPatience:
    """A store that sends a byte now and then does not hold up a pass, nor a prune."""

    @pytest.fixture(
        params=[OK + b"X: ", OK + b"Content-Length: 100000\r\n\r\n[", OK + b"\r\n"], ids=["head", "body", "no length"]
    )
    def trickle(self, request) -> Iterator[Trickle]:
        with Trickle(request.param) as found:
            threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            yield found
            found.shutdown()
            assert not found.was_heard_out

    @pytest.fixture
    def address(self, trickle) -> str:
        return f"http://127.0.0.1:{trickle.server_address[1]}"

    @pytest.mark.parametrize("store", ["rest", "s3"])
    def test_a_listing_ends_in_time_and_is_not_tried_again(self, trickle, address, monkeypatch, store):
        files = {
            "rest": lambda: RestFiles(f"rest:{address}/", Access({})),
            "s3": lambda: S3Files(f"s3:{address}/b", Access(KEYS | {"AWS_REGION": "x"})),
        }[store]()
        # Once the store trickles, each look at the clock is a thousand seconds after the one before.
        leaps = itertools.count(1000, 1000)
        clock = SimpleNamespace(monotonic=lambda: next(leaps) if trickle.began.is_set() else 0)
        monkeypatch.setattr(store_patience, "time", clock)
        with pytest.raises(RepositoryUnreachableError, match="did not answer in full within 300 s"):
            files.listing("locks")
        assert trickle.connections == 1

    def test_reading_ends_in_time(self, address):
        files = RestFiles(f"rest:{address}/", Access({}, seconds=0.3))
        with (
            pytest.raises(RepositoryUnreachableError, match="did not answer in full"),
            files.read("data", ONE) as pieces,
        ):
            b"".join(pieces)

    def test_a_region_is_not_waited_for_longer(self, address):
        assert S3Files(f"s3:{address}/b", Access(KEYS, seconds=0.3))._region == "us-east-1"

    def test_whoever_is_told_to_stop_stops(self, trickle, address):
        cancelled = threading.Event()
        threading.Thread(target=lambda: (trickle.began.wait(), cancelled.set()), daemon=True).start()
        with pytest.raises(InterruptedRunError, match="Told to stop"):
            RestFiles(f"rest:{address}/", Access({}, cancelled=cancelled)).listing("locks")

    def test_the_time_is_not_waited_for_longer(self, address, monkeypatch):
        monkeypatch.setattr(store_clock, "_PATIENCE", 0.3)
        assert ahead_of_store(f"rest:{address}/", {}, None, lambda: datetime.now(UTC)) is None

    def test_the_next_question_on_the_same_connection_is_answered(self, server, rest, monkeypatch):
        monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.1")
        server.answers["GET"] = 200, b"[]"
        lines = []
        monkeypatch.setattr(Wait, "_hold", lambda _self, line: lines.append(line and line.getsockname()))
        assert [rest.listing("data"), rest.listing("data")] == [{}, {}]
        assert lines == [lines[0], None, lines[0], None]

    def test_bytes_buy_time_up_to_a_limit_and_a_caller_that_is_busy_costs_none(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(store_patience.time, "monotonic", lambda: now[0])
        wait = Wait("r", 30, threading.Event())
        with wait.counting():
            now[0] += 29
        now[0] += 1000
        wait.require()
        wait.moved(10 * store_patience.SLOWEST)
        with wait.counting():
            now[0] += 10.5
        wait.require()
        wait.moved(1 << 40)
        assert wait.left == store_patience.MOST_SECONDS - 39.5
        with wait.counting():
            now[0] += store_patience.MOST_SECONDS
        with pytest.raises(RepositoryUnreachableError, match="within 3600 s"):
            wait.require()

    def test_what_is_sent_is_sent_piece_by_piece(self, server, rest, monkeypatch):
        sent = []
        through = HTTPConnection.send
        monkeypatch.setattr(HTTPConnection, "send", lambda self, data: (sent.append(len(data)), through(self, data)))
        server.answers["POST"] = 200, b""
        server.at_first = [(503, b"")]
        rest.add("data", ONE, io.BytesIO(b"x" * 100_000), 100_000)
        assert max(sent) < 20_000
        assert [headers["Content-Length"] for _method, _path, headers in server.asked] == ["100000"] * 2


class TestCertificates:
    """Whom restic trusts, this trusts, whatever Python's newer defaults are."""

    @pytest.fixture
    def authority(self, tmp_path) -> Path:
        """A private one as openssl req -x509 makes it, with no word of what its key is for, and a server's certificate of it."""
        now = datetime.now(UTC)
        keys = [ec.generate_private_key(ec.SECP256R1()) for _both in range(2)]
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in ("authority", "server")]

        def certificate(which: int, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
            made = x509.CertificateBuilder().subject_name(names[which]).issuer_name(names[0])
            made = made.public_key(keys[which].public_key()).serial_number(which + 1)
            made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            for extension, critical in extensions:
                made = made.add_extension(extension, critical=critical)
            return made.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

        (tmp_path / "ca.pem").write_bytes(certificate(0, (x509.BasicConstraints(ca=True, path_length=None), True)))
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        key = keys[1].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / "server.pem").write_bytes(key + certificate(1, (alternative, False)))
        return tmp_path / "ca.pem"

    @pytest.fixture
    def secure(self, server, authority, monkeypatch) -> Server:
        """The server with that certificate, for a Python that is strict by default."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.with_name("server.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.answers["GET"] = 200, b"[]"
        lenient = ssl_.create_urllib3_context

        def strict(*arguments: object, **options: object) -> ssl.SSLContext:
            made = lenient(*arguments, **options)
            made.verify_flags |= ssl.VERIFY_X509_STRICT
            return made

        monkeypatch.setattr("urllib3.util.ssl_.create_urllib3_context", strict)
        monkeypatch.setattr("urllib3.connection.create_urllib3_context", strict)
        return server

    def test_a_private_authority_of_the_usual_kind_is_trusted(self, secure, authority):
        url = secure.url.replace("http:", "https:")
        assert RestFiles(f"rest:{url}/", Access({}, authority)).listing("data") == {}

    def test_a_foreign_one_is_not_and_the_sentence_says_so(self, secure, pauses):
        url = secure.url.replace("http:", "https:")
        with pytest.raises(
            RepositoryUnreachableError, match=r"certificate of the repository .*unable to get local issuer"
        ):
            RestFiles(f"rest:{url}/", Access({})).listing("data")
        assert pauses == []

    def test_a_store_that_trickles_ends_in_time_with_tls_too(self, authority):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.with_name("server.pem"))
        with Trickle(OK + b"X: ") as trickle:
            trickle.socket = context.wrap_socket(trickle.socket, server_side=True)
            threading.Thread(target=trickle.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
            files = RestFiles(
                f"rest:https://127.0.0.1:{trickle.server_address[1]}/", Access({}, authority, seconds=0.5)
            )
            with pytest.raises(RepositoryUnreachableError, match="did not answer in full"):
                files.listing("locks")
            trickle.shutdown()
            assert not trickle.was_heard_out
