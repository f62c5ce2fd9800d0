# SPDX-License-Identifier: GPL-3.0-or-later
"""One spelling for each place that a repository's address names, so that two addresses can be compared.

Pure decisions over text, by what restic makes of an address. Two addresses of one place may still differ, such as a server's
name and its number: whether two repositories are one, only their ids say (``actions/repository/apart.py``).
"""

from __future__ import annotations

from posixpath import normpath
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443, "sftp": 22}
# The stores whose addresses are a bucket and a path in it.
_BUCKETS = frozenset({"b2", "azure", "gs", "swift"})


def one_spelling(repository: str) -> str:
    """The same for all spellings of a place; an address that restic would not understand stays as it is."""
    try:
        return _spelling(repository)
    except ValueError:
        return repository


def split_s3(repository: str) -> tuple[str, str, str]:
    """Scheme, server, and bucket with path of an S3 address, in each form that restic takes."""
    address = repository.removeprefix("s3:")
    if not address.startswith(("http://", "https://")):
        address = "https://" + address.removeprefix("//")
    url = urlsplit(address)
    return url.scheme, url.netloc, url.path.strip("/")


def _spelling(repository: str) -> str:
    """The same. Raises ValueError for an address that cannot be taken apart."""
    scheme, _colon, rest = repository.partition(":")
    if repository.startswith(("/", "local:")):
        return _path(repository.removeprefix("local:"))
    if scheme == "s3":
        way, server, path = split_s3(repository)
        return f"s3:{way}://{_server(way, server)}{_path(f'/{path}')}"
    if scheme == "rest":
        url = urlsplit(rest)
        return f"rest:{url.scheme}://{_server(url.scheme, url.netloc)}{_path(url.path or '/')}"
    if scheme == "sftp":
        return _sftp(rest)
    if scheme in _BUCKETS:
        bucket, _colon, path = rest.partition(":")
        return f"{scheme}:{bucket}:{_path(f'/{path}')}"
    return repository.rstrip("/")


def _sftp(rest: str) -> str:
    """Both of its forms; an account may see directories of its own, so it is a part of the place."""
    if rest.startswith("//"):
        url = urlsplit(rest)
        # The first slash ends the server's name.
        login, server, path = url.username or "", url.netloc.rpartition("@")[2], url.path[1:]
    else:
        machine, _colon, path = rest.partition(":")
        login, _at, server = machine.rpartition("@")
    return f"sftp:{login}@{_server('sftp', server)}:{_path(path)}"


def _server(scheme: str, server: str) -> str:
    """A server and its port, whoever logs in there. Raises ValueError for a port that is none."""
    url = urlsplit(f"//{server}")
    return f"{(url.hostname or '').rstrip('.')}:{url.port or _PORTS.get(scheme, 0)}"


def _path(path: str) -> str:
    """A path without detours; with two slashes before it, POSIX would let it be another one."""
    return f"/{normpath(path).lstrip('/')}" if path.startswith("/") else normpath(path)
