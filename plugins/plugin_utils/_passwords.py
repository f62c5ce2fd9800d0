# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Repository passwords: which hosts a change affects, and which passwords would be lost with a host."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import count
from pathlib import PurePosixPath
from typing import Any


def rotation_neighbours(answers: Iterable[Mapping[str, Any]], host: str, repositories: Collection[str]) -> list[str]:
    """The other hosts that have one of the *repositories*; each answer is a ``host`` and its ``repositories``."""
    return [answer["host"] for answer in _neighbours(answers, host, repositories)]


def rotation_laggards(
    answers: Iterable[Mapping[str, Any]], host: str, repositories: Collection[str], keys: Collection[str]
) -> list[str]:
    """Those of them that still open it with one of the *keys*: they have ``keys``, and have not ``switched``."""
    return [
        answer["host"]
        for answer in _neighbours(answers, host, repositories)
        if not answer.get("switched") and _have_in_common(answer.get("keys", ()), keys)
    ]


def rotation_others(known: Iterable[Mapping[str, Any]], released: Collection[str]) -> list[str]:
    """Who may need a password beside a host and those *released* from it, each once, in the order of the repositories.

    *known* is what each repository says of its keys: who has the host's own as well is in ``shared_with``.
    """
    sharing = dict.fromkeys(host for answer in known for host in answer.get("shared_with", ()))
    return [host for host in sharing if host not in released]


def _neighbours(
    answers: Iterable[Mapping[str, Any]], host: str, repositories: Collection[str]
) -> Iterable[Mapping[str, Any]]:
    return (
        answer
        for answer in answers
        if answer["host"] != host and _have_in_common(answer.get("repositories", ()), repositories)
    )


def _have_in_common(some: Iterable[object], others: Iterable[object]) -> bool:
    # A host may call its repository anything.
    return bool(set(map(str, some)) & set(map(str, others)))


def orphaned_passwords(
    contents: Mapping[str, str],
    kept: Collection[str],
    secrets: Collection[str],
    password_file: str,
    controller_file: str,
) -> list[dict[str, str | bool]]:
    """The passwords that exist only on a host, and where the controller should store each.

    *contents* is what was read on the host, *secrets* its directories of passwords, and *kept* are the passwords that also
    exist elsewhere. *password_file* is the one ``in_use``, which belongs in *controller_file*. No path is one that exists:
    what the controller has there is a different password, and stays.
    """
    orphans: list[dict[str, str | bool]] = []
    taken: set[str] = set()
    known = {*kept, ""}
    # The one in use first: what was set aside beside it is often the same.
    for path, text in sorted(contents.items(), key=lambda item: (item[0] != password_file, item[0].lower())):
        password = text.strip()
        if str(PurePosixPath(path).parent) not in secrets or password in known:
            continue
        known.add(password)
        name = "password" if path == password_file else PurePosixPath(path).name
        place = next(
            one
            for one in _places(f"{controller_file.removesuffix('.password')}.{name}")
            # On some controllers, upper and lower case are the same file; a link to nowhere is in the way, too.
            if one.lower() not in taken and not os.path.lexists(one)
        )
        taken.add(place.lower())
        orphans.append({"path": place, "content": password, "in_use": path == password_file})
    return orphans


def _places(first: str) -> Iterator[str]:
    """Where a password may go: its own file, or others beside it."""
    yield first
    yield f"{first}.on-host"
    yield from (f"{first}.on-host-{number}" for number in count(2))
