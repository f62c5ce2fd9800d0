# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The page for the safe: what opens each of a host's repositories, which keys belong to older pages, and which hosts are on it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.scalr.backup.plugins.filter.text_table import text_table

#: The agent's name for a page's key.
_ESCROW = "scalr-backup-escrow"
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def secret_files(contents: Mapping[str, str], directory: str) -> dict[str, str]:
    """What the files in *directory* hold, by their names, of some files by their paths."""
    return {PurePosixPath(path).name: text for path, text in contents.items() if path.startswith(directory)}


def kit_places(
    secrets: Mapping[str, str],
    config: Mapping[str, Any],
    host_password: str,
    page_password: str,
    escrow: bool,
    keys: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """A host's repositories, the second repository last, each with what opens it.

    *keys* are, for each repository as ``item``, the ``key`` of the page's password.
    """
    places = []
    for copy in (False, True) if config.get("copy") else (False,):
        # Whatever a copy does not set itself comes from the first repository.
        own = secrets.get("copy_password", host_password) if copy else host_password
        variables = secrets.get("environment", "")
        if copy:
            variables = secrets.get("copy_environment", variables)
        places.append(
            {
                "copy": copy,
                "environment": environment(variables),
                "repository": config["copy"]["repository"] if copy else config["repository"],
                "password": page_password if escrow else own,
                "key": next(one["key"] for one in keys if bool(one["item"]) is copy) if escrow else "",
            }
        )
    return places


def environment(text: str) -> dict[str, str]:
    """The variables in one of the agent's files: a value is the rest of its line."""
    pairs = (line.partition("=") for line in text.splitlines() if _ASSIGNMENT.match(line))
    return {name: value for name, _sign, value in pairs}


def keys_of_older_pages(listings: Iterable[Mapping[str, Any]], new: Iterable[str]) -> list[dict[str, Any]]:
    """The pages' keys in each repository's listing, except the *new* ones."""
    stays = set(new)
    return [
        {"id": key["id"], "host": key["host"], "copy": listing["item"]}
        for listing in listings
        for key in listing.get("keys", [])
        if key["user"] == _ESCROW and key["id"] not in stays
    ]


def kit_lines(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which hosts are on the page. Their part of the page is not inspected."""
    return text_table([[host, _on_the_page(hostvars[host])] for host in hosts], ["HOST", "ON THE PAGE"])


def _on_the_page(known: Mapping[str, Any]) -> str:
    if "__backup_kit" in known:
        return "yes"
    return f"NO: {known.get('kit_failure', 'the host was not reached.')}"
