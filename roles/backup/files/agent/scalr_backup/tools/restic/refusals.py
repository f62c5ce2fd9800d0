# SPDX-License-Identifier: GPL-3.0-or-later
"""What restic, ssh and the stores say when a store cannot be used, and what it means."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Literal

from scalr_backup.tools.restic import stores

RefusalKind = Literal["refused", "unreachable", "missing"]


@dataclass(frozen=True)
class Refusal:
    """Why a store cannot be used, in words that follow "The repository … cannot be used: ".

    *verdict* tells what will be the same in a minute (refused) from a store that cannot be reached now, and from one
    that has not what was looked for.
    """

    verdict: RefusalKind
    reason: str


# What a kernel says of a file that is somebody else's; the stores with credentials have more ways to say so.
_DENIED = r"permission denied"
# Where the default repository, a volume, is mounted.
_MOUNT = "/repository"
_NO_PERMISSION = "the credentials lack the permission for this; read-only credentials are not enough"
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
        rf"access ?denied|\b403\b|forbidden|{_DENIED}|not entitled",
        "refused",
        _NO_PERMISSION,
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


def explain(text: str, repository: str = "") -> Refusal | None:
    """What is behind the words of restic, ssh or a store; None when they come from no store.

    *repository* is the address that they are about, where that is known.
    """
    for pattern, verdict, reason in _COMPILED:
        if pattern.search(text):
            is_owners = reason == _NO_PERMISSION and re.search(_DENIED, text, re.IGNORECASE)
            return Refusal(verdict, (is_owners and _of_owner(repository)) or reason)
    return None


def _of_owner(repository: str) -> str:
    """Whose a repository's directory must be, which has no credentials; empty for another kind of store."""
    if not repository or stores.kind(repository) != "local":
        return ""
    path = repository.removeprefix("local:")
    # All others have the same path on the host.
    what = f"on what is mounted at {path}" if path == _MOUNT else shlex.quote(path)
    return (
        "its directory, with all that is in it, must belong to the agent's user, 64738: on the host, run "
        f"chown -R 64738:64738 {what}"
    )
