# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a repository in an S3 store, with requests signed as AWS Signature Version 4 says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET

import requests

from scalr_backup.core.address import redact_address
from scalr_backup.core.errors import (
    RepositoryMissingError,
    RepositoryRefusedError,
    RepositoryUnreachableError,
    ResticError,
)
from scalr_backup.tools.restic import stores
from scalr_backup.tools.store.access import Access
from scalr_backup.tools.store.files import (
    ATTEMPTS,
    CONFIG,
    NAME,
    HttpFiles,
    Kind,
    MissingFileError,
    Readable,
    Stored,
    parse_size,
)
from scalr_backup.tools.store.patience import Wait

_UNSIGNED = "UNSIGNED-PAYLOAD"
_NO_REGION = "us-east-1"
_REGION = re.compile(r"[a-z0-9-]{2,40}")
# The name of a store in one of several regions, such as s3.eu-central-003.backblazeb2.com.
_IN_A_NAME = re.compile(r"s3[.-](?:dualstack\.)?([a-z]{2,}(?:-[a-z0-9]+)+)\.")
# The codes of a refusal that is the region's fault.
_OF_THE_REGION = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect"})
_MOST_BYTES_OF_AN_ERROR = 1 << 16
# Pages of a thousand keys each.
_MOST_PAGES = 3000


class S3Files(HttpFiles):
    """A repository in a bucket, addressed by the path as restic does where the store is not Amazon's."""

    def __init__(self, repository: str, access: Access) -> None:
        place = stores.s3_place(repository)
        url = f"{place.scheme}://{place.host}/"
        super().__init__(redact_address(repository), url, access)
        environment = access.environment
        self._bucket, _slash, path = place.path.partition("/")
        self._prefix = _prefix(path, is_url="://" in repository.removeprefix("s3://"))
        self._key = environment.get("AWS_ACCESS_KEY_ID", "")
        self._secret = environment.get("AWS_SECRET_ACCESS_KEY", "")
        self._token = environment.get("AWS_SESSION_TOKEN", "")
        self._region = environment.get("AWS_DEFAULT_REGION") or environment.get("AWS_REGION") or place.region
        self._scheme = place.scheme
        # As it is sent, since it is signed.
        self._host = place.host.lower().removesuffix({"http": ":80", "https": ":443"}[place.scheme])
        if not self._key or not self._secret:
            raise RepositoryRefusedError(
                f"There are no credentials for {self._shown}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in "
                "backup_prune_environment; the trusted place takes none from a cloud's roles."
            )
        self._is_told = False
        # The region that the store has said the bucket is in, where it was asked and has answered.
        self.told_region = ""
        self._use(self._region or self._told_region())

    def _use(self, region: str) -> None:
        self._region = region
        # Amazon's one name for all regions sends whoever asks elsewhere, and a signature is good for one name.
        if self._host == "s3.amazonaws.com" and region != _NO_REGION:
            self._host = f"s3.{region}.amazonaws.com"

    def _told_region(self) -> str:
        """The region that the store says the bucket is in, asked as restic asks for it; else the one in its name."""
        self._region = _NO_REGION
        named = _IN_A_NAME.match(self._host)
        try:
            with self._wait() as wait:
                text = self._whole(wait, lambda: self._signed(wait, "GET", "", {"location": ""}, attempts=1), 1)
            told = (_parse_xml(text).text or "").strip()
        except (MissingFileError, ResticError, ValueError):
            # Or what the refusal told.
            return self._region if self._is_told else named[1] if named else _NO_REGION
        if self._is_told:
            return self._region
        # Amazon's oldest buckets in Europe have a name of their own for their region.
        told = {"EU": "eu-west-1"}.get(told, told)
        self.told_region = told if _REGION.fullmatch(told) else _NO_REGION
        return self.told_region

    def _learnt(self, answer: requests.Response, wait: Wait) -> bool:
        """Whether the store refuses because of the region, and tells the right one; it is believed once."""
        if answer.status_code not in {301, 400, 403} or self._is_told:
            return False
        try:
            with wait.counting():
                text = next(answer.iter_content(_MOST_BYTES_OF_AN_ERROR), b"").decode("utf-8", "replace")
        except requests.RequestException:
            return False
        code = re.search(r"<Code>(\w+)</Code>", text)
        told = re.search(r"<Region>([a-z0-9-]{2,40})</Region>", text)
        if not code or not told or code[1] not in _OF_THE_REGION or told[1] == self._region:
            return False
        answer.close()
        self._is_told = True
        self._use(told[1])
        return True

    def listing(self, kind: Kind) -> dict[str, Stored]:
        """All files of a kind, page by page; a mark is the object's ETag."""
        with self._wait() as wait:
            return self._listed(wait, kind)

    def _listed(self, wait: Wait, kind: Kind) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        token = ""
        for _page in range(_MOST_PAGES):
            query = {"list-type": "2", "prefix": f"{self._prefix}{kind}/"}
            if token:
                query["continuation-token"] = token
            try:
                text = self._whole(wait, partial(self._signed, wait, "GET", "", query))
            except MissingFileError:
                raise RepositoryMissingError(
                    f"There is no repository at {self._shown}, because the store has no bucket {self._bucket}; check the "
                    "address and its region."
                ) from None
            try:
                page = _parse_xml(text)
                found |= self._files_on(page, kind)
            except ValueError:
                raise RepositoryUnreachableError(
                    f"The repository {self._shown} does not list its files, with their sizes, as XML."
                ) from None
            token = page.findtext("{*}NextContinuationToken") or ""
            if not token and page.findtext("{*}IsTruncated") == "true":
                raise RepositoryUnreachableError(
                    f"The repository {self._shown} lists only a part of its files and does not say how to get the rest; its "
                    "store must know ListObjectsV2."
                )
            if not token:
                return found
        raise RepositoryUnreachableError(
            f"The repository {self._shown} holds more than {_MOST_PAGES * 1000} files of a kind, more than a prune from the "
            "trusted place can judge."
        )

    def _files_on(self, page: ET.Element, kind: Kind) -> dict[str, Stored]:
        """The files that a page of a listing names; raises ValueError for one without a size."""
        found = {}
        for one in page.findall("{*}Contents"):
            key = one.findtext("{*}Key") or ""
            name = key.rpartition("/")[2]
            # A file at another place is none of restic's, whatever it is called.
            if NAME.fullmatch(name) and key == self._object(kind, name):
                mark = re.sub(r"[^0-9A-Za-z-]", "", one.findtext("{*}ETag") or "")
                found[name] = Stored(parse_size(one.findtext("{*}Size") or ""), mark)
        return found

    @contextmanager
    def read(self, kind: str, name: str, span: str | None = None) -> Iterator[Iterator[bytes]]:
        """The bytes of a file."""
        key = self._object(kind, name)

        def ask(wait: Wait, part: str | None) -> requests.Response:
            return self._signed(wait, "GET", key, {}, {"Range": part} if part else {})

        with self._pieces(ask, span) as pieces:
            yield pieces

    def add(self, kind: Kind, name: str, content: Readable, size: int) -> None:
        """Add a file."""
        # An index or a pack, of which restic makes none larger than this container's memory allows.
        data = content.read(size)
        # Where Object Lock keeps versions, a store takes nothing without it.
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        with self._wait(len(data)) as wait:
            self._signed(wait, "PUT", self._object(kind, name), {}, {"Content-MD5": digest}, data).close()

    def remove(self, kind: Kind, name: str) -> None:
        """Remove a file."""
        with self._wait() as wait, suppress(MissingFileError):
            self._signed(wait, "DELETE", self._object(kind, name), {}).close()

    def _object(self, kind: str, name: str) -> str:
        if kind == CONFIG:
            return f"{self._prefix}{CONFIG}"
        return f"{self._prefix}data/{name[:2]}/{name}" if kind == "data" else f"{self._prefix}{kind}/{name}"

    def _signed(
        self,
        wait: Wait,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        attempts: int = ATTEMPTS,
    ) -> requests.Response:
        return self._ask(wait, method, lambda: self._sign(method, key, query, headers or {}), data, attempts)

    def _sign(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """The address and the headers of a request, signed for this moment."""
        moment = _moment()
        path = quote(f"/{self._bucket}/{key}" if key else f"/{self._bucket}")
        search = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
        signed = {"host": self._host, "x-amz-content-sha256": _UNSIGNED, "x-amz-date": moment}
        if self._token:
            signed["x-amz-security-token"] = self._token
        names = ";".join(sorted(signed))
        canonical = "\n".join(
            [method, path, search, *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, _UNSIGNED]
        )
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        step = f"AWS4{self._secret}".encode()
        for part in (moment[:8], self._region, "s3", "aws4_request"):
            step = hmac.digest(step, part.encode(), "sha256")
        signature = hmac.digest(step, to_sign.encode(), "sha256").hex()
        authorization = f"AWS4-HMAC-SHA256 Credential={self._key}/{scope}, SignedHeaders={names}, Signature={signature}"
        url = f"{self._scheme}://{self._host}{path}" + (f"?{search}" if search else "")
        given = {name: value for name, value in signed.items() if name != "host"}
        return url, {**given, "Authorization": authorization, **headers}


def _prefix(path: str, *, is_url: bool) -> str:
    """What restic puts before the names of objects: the path in the bucket without what leads nowhere (Go's ``path.Clean``).

    Where it and we do not agree, a repository would look as if it had neither locks nor files.
    """
    clean = posixpath.normpath(unquote(path) if is_url else path)
    # One slash at the beginning is part of the names; of several, Go leaves one.
    clean = re.sub(r"^/+", "/", clean)
    return "" if clean in {".", "/"} else f"{clean}/"


def _parse_xml(text: bytes) -> ET.Element:
    """The store's document, which is no file of a repository; raises ValueError for what is none."""
    try:
        # Python's expat knows no external entities.
        return ET.fromstring(text)  # noqa: S314
    except (ET.ParseError, LookupError) as error:
        # An encoding that nobody knows is a LookupError, or a ValueError.
        raise ValueError(str(error)) from None


def _moment() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
