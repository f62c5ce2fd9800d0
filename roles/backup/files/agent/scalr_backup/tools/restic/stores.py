# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores: what a repository's address says of its store, and what its store's credentials are called.

Pure decisions over text. restic speaks to the store; this file knows what it needs for that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

from scalr_backup.core.errors import ConfigurationError
from scalr_backup.core.one_place import split_s3

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
# The name of the remote that rclone reads a copy's source by.
_REMOTE = "from"


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
            return urlsplit(f"//{split_s3(repository)[1]}").hostname or ""
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
    scheme, host, path = split_s3(repository)
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


@dataclass(frozen=True)
class S3Place:
    """What the address of a repository in an S3 store says; *region* is empty where it says nothing of it."""

    scheme: str
    host: str
    path: str
    region: str


def s3_place(repository: str) -> S3Place:
    """Where an S3 repository is; *path* begins with the bucket."""
    scheme, host, path = split_s3(repository)
    return S3Place(scheme, host, path, _region(host))


def _region(host: str) -> str:
    match = re.fullmatch(r"(?:s3[.-])?(?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)(?:\.amazonaws\.com(?:\.cn)?)?", host)
    return match[1] if match else ""
