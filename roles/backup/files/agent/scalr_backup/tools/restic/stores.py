# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores: what a repository's address says of its store, what its store's credentials are called, and its refusals.

Pure decisions over text. restic speaks to the store; this file knows what it needs for that and what it then says.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

from scalr_backup.core.errors import ConfigurationError

RefusalKind = Literal["refused", "unreachable", "missing"]

# The beginnings of the variables that belong to one kind of store each (restic documentation, "Environment variables").
_VARIABLES = {
    "s3": ("AWS_", "RESTIC_AWS_"),
    "b2": ("B2_",),
    "azure": ("AZURE_",),
    "gs": ("GOOGLE_",),
    "swift": ("OS_", "ST_"),
    "rest": ("RESTIC_REST_",),
    "rclone": ("RCLONE_",),
}
_OF_SOME_STORE = tuple(beginning for beginnings in _VARIABLES.values() for beginning in beginnings)
_URL_PASSWORD = re.compile(r"(://[^/:@\s]*):[^/@\s]*@")
# The name of the remote that rclone reads a copy's source by.
_REMOTE = "from"


def redact(text: str) -> str:
    """*text* without the password that a URL in it may hold."""
    return _URL_PASSWORD.sub(r"\1:***@", text)


def kind(repository: str) -> str:
    """What stands before the colon of an address; ``local`` for a directory."""
    scheme, colon, _rest = repository.partition(":")
    return scheme if colon and scheme in {*_VARIABLES, "sftp"} else "local"


def server(repository: str) -> str | None:
    """The machine that an address names, empty where it names none; None for a directory."""
    store = kind(repository)
    try:
        if store == "local":
            return None
        if store == "s3":
            return urlsplit(f"//{_split_s3(repository)[1]}").hostname or ""
        if store == "rest":
            return urlsplit(repository.removeprefix("rest:")).hostname or ""
        if store == "sftp":
            place = repository.removeprefix("sftp:")
            if place.startswith("//"):
                return urlsplit(place).hostname or ""
            machine = place.rpartition("@")[2]
            return machine[1:].partition("]")[0] if machine.startswith("[") else machine.partition(":")[0]
    except ValueError:
        pass  # restic has the words for what is wrong with it.
    return ""


def relevant(repository: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that the store of a repository may need: its own, and those that belong to no store."""
    own = _VARIABLES.get(kind(repository), ())
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(own) or not name.startswith(_OF_SOME_STORE)
    }


def beside(
    repository: str, environment: Mapping[str, str], other: str, others: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """How a process that speaks to the repository *other* reads from this one, too: its address and its variables.

    restic takes the credentials of both from one environment. Where both stores are of one kind and their credentials
    are not the same, those of a REST server go into its address (which is a variable too, and no argument), and an S3
    store is read through rclone, as restic's documentation of ``copy`` advises.

    Raises ConfigurationError for two accounts of a kind that leaves no such way.
    """
    mine, theirs = relevant(repository, environment), relevant(other, others)
    clashing = kind(repository) == kind(other) and _credentials(repository, mine) != _credentials(other, theirs)
    if not clashing:
        return repository, mine
    rest = {name: value for name, value in mine.items() if not name.startswith(_VARIABLES[kind(repository)])}
    if kind(repository) == "rest":
        return _with_user(repository, mine), rest
    if kind(repository) == "s3":
        address, remote = _through_rclone(repository, mine)
        return address, rest | remote
    raise ConfigurationError(
        f"The repository and its copy are both {kind(repository)} stores with different credentials, and restic takes "
        "only one set at a time: use another kind of address for one of them, such as the store's S3 address."
    )


def _credentials(repository: str, environment: Mapping[str, str]) -> dict[str, str]:
    own = _VARIABLES.get(kind(repository), ())
    return {name: value for name, value in environment.items() if own and name.startswith(own)}


def _with_user(repository: str, environment: Mapping[str, str]) -> str:
    url = urlsplit(repository.removeprefix("rest:"))
    user = environment.get("RESTIC_REST_USERNAME", "")
    if not user:
        return repository
    login = f"{quote(user, safe='')}:{quote(environment.get('RESTIC_REST_PASSWORD', ''), safe='')}"
    return "rest:" + urlunsplit(url._replace(netloc=f"{login}@{url.netloc.rpartition('@')[2]}"))


def _through_rclone(repository: str, environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    scheme, host, path = _split_s3(repository)
    is_amazon = host.endswith("amazonaws.com") or "." not in host
    settings = {
        "TYPE": "s3",
        "PROVIDER": "AWS" if is_amazon else "Other",
        "ENDPOINT": "" if is_amazon else f"{scheme}://{host}",
        "ACCESS_KEY_ID": environment.get("AWS_ACCESS_KEY_ID", ""),
        "SECRET_ACCESS_KEY": environment.get("AWS_SECRET_ACCESS_KEY", ""),
        "SESSION_TOKEN": environment.get("AWS_SESSION_TOKEN", ""),
        "REGION": environment.get("AWS_DEFAULT_REGION", "") or _region(host),
    }
    variables = {f"RCLONE_CONFIG_{_REMOTE.upper()}_{name}": value for name, value in settings.items() if value}
    # A configuration that somebody may have left is none of ours.
    return f"rclone:{_REMOTE}:{path}", {**variables, "RCLONE_CONFIG": "/dev/null"}


def _split_s3(repository: str) -> tuple[str, str, str]:
    """Scheme, server, and bucket with path of an S3 address, in each form that restic takes."""
    address = repository.removeprefix("s3:")
    if not address.startswith(("http://", "https://")):
        address = "https://" + address.removeprefix("//")
    url = urlsplit(address)
    return url.scheme, url.netloc, url.path.strip("/")


def _region(host: str) -> str:
    match = re.fullmatch(r"(?:s3[.-])?(?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)(?:\.amazonaws\.com(?:\.cn)?)?", host)
    return match[1] if match else ""


# -- SSH --------------------------------------------------------------------------------------------------


def ssh_arguments(key: Path | None, known_hosts: Path | None) -> list[str]:
    """The options of ssh: these two files and no others, an unknown host is refused, without asking."""
    options = [
        f"UserKnownHostsFile={known_hosts or '/dev/null'}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "ConnectTimeout=20",
        "ServerAliveInterval=30",
        "ServerAliveCountMax=4",
    ]
    identity = ["-i", str(key)] if key else []
    return ["-F", "none", *identity, *(part for option in options for part in ("-o", option))]


def ssh_option(key: Path | None, known_hosts: Path | None) -> list[str]:
    """The same as an option of restic's; only the files' paths show in it."""
    return ["-o", f"sftp.args={shlex.join(ssh_arguments(key, known_hosts))}"]


def ssh_probe(repository: str, key: Path | None, known_hosts: Path | None) -> list[str]:
    """The command that opens the SFTP server's session as restic does, and ends."""
    address = repository.removeprefix("sftp:")
    if address.startswith("//"):
        url = urlsplit(f"sftp:{address}")
        user, host, port = url.username or "", url.hostname or "", url.port
    else:
        login, _colon, _path = address.partition(":")
        user, _at, host = login.rpartition("@")
        port = None
    where = [*(["-p", str(port)] if port else []), *(["-l", user] if user else []), host]
    return ["ssh", *ssh_arguments(key, known_hosts), *where, "-s", "sftp"]


# -- refusals ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """Why a store cannot be used, in words that follow "The repository … cannot be used: ".

    *verdict* tells what will be the same in a minute (refused) from a store that cannot be reached now, and from one
    that has not what was looked for.
    """

    verdict: RefusalKind
    reason: str


# What restic, ssh and the stores say, in the order of their weight, and what it means.
_REFUSALS: tuple[tuple[str, RefusalKind, str], ...] = (
    (
        r"RequestTimeTooSkewed|difference between the request time",
        "refused",
        "its store rejects this host's clock, which is too far off; set the host's time (NTP)",
    ),
    (
        r"no credentials found",
        "refused",
        "there are no credentials for its store; set them in backup_environment or backup_env_file",
    ),
    (
        r"InvalidAccessKeyId|access key ID you provided|SignatureDoesNotMatch|request signature we calculated|"
        r"signature does not match|\b401\b|unauthorized|bad_auth_token|InvalidClientTokenId|ExpiredToken|"
        r"authorization header.* malformed|credential should be scoped",
        "refused",
        "its store rejects the credentials; check the key and its secret in backup_environment or backup_env_file",
    ),
    (
        r"MakeBucket: Access ?Denied",
        "refused",
        "the bucket does not exist, and these credentials may not create it; create it at the provider, or correct "
        "the address",
    ),
    (
        r"NoSuchBucket|bucket does not exist|bucket not found|container not found|ContainerNotFound",
        "missing",
        "the bucket does not exist; create it at the provider, or correct the address",
    ),
    (
        r"HOST IDENTIFICATION HAS CHANGED|host key for .* has changed|Offending .* key in",
        "refused",
        "its SFTP server's host key is not the one in backup_ssh_known_hosts; if the server's key was really "
        "changed, put the new one there",
    ),
    (
        r"No .* host key is known|Host key verification failed",
        "refused",
        "the host key of its SFTP server is not in backup_ssh_known_hosts; ssh-keyscan prints the line to put there, "
        "and the server's owner can confirm that it is right",
    ),
    (
        r"Permission denied \(|no mutual signature|error in libcrypto|invalid format",
        "refused",
        "its SFTP server rejects the key; check the user in the address and backup_ssh_private_key",
    ),
    (
        r"x509:|failed to verify certificate",
        "refused",
        "its store's certificate is not trusted; if its authority is private, set the authority's certificate in "
        "backup_ca_certificate",
    ),
    (
        r"HTTP response to HTTPS client",
        "refused",
        "its store speaks plain HTTP there; write http:// instead of https://",
    ),
    (
        r"HTTP request to an HTTPS server|HTTP request was sent to HTTPS port|malformed HTTP response",
        "refused",
        "its store speaks HTTPS there; write https:// instead of http://",
    ),
    (r"read-only file ?system", "refused", "it is read-only"),
    (
        r"no space left|quota exceeded|insufficient storage|\b507\b|storage cap exceeded",
        "refused",
        "its store is full",
    ),
    (
        r"access ?denied|\b403\b|forbidden|permission denied|not entitled",
        "refused",
        "the credentials lack the permission for this; read-only credentials are not enough",
    ),
    (
        r"no such host|could not resolve hostname|server misbehaving|name resolution|name or service not known",
        "unreachable",
        "the name of its store cannot be resolved; check the address and the host's name servers",
    ),
    (
        r"connection refused|no route to host|network is unreachable|host is down|i/o timeout|connection timed out|dial tcp|"
        r"operation timed out|handshake timeout|context deadline exceeded|connection reset|unexpectedly closed connection|"
        r"file already closed|HTTP response \(5\d\d\)|\b50[0234] [A-Z]|not implemented|bucket",
        "unreachable",
        "its store does not answer properly; check the network and the address",
    ),
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), verdict, reason) for pattern, verdict, reason in _REFUSALS)


def explain(text: str) -> Refusal | None:
    """What is behind the words of restic, ssh or a store; None when they come from no store."""
    for pattern, verdict, reason in _COMPILED:
        if pattern.search(text):
            return Refusal(verdict, reason)
    return None
