# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The page for the safe: what opens each of a host's repositories, which keys belong to older pages, and which hosts are on it."""

from __future__ import annotations

import hashlib
import hmac
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.scalr.backup.plugins.filter.text_table import text_table
from ansible_collections.scalr.backup.plugins.module_utils._address import redact_address
from ansible_collections.scalr.backup.plugins.module_utils._network import is_on_loopback, server_of
from ansible_collections.scalr.backup.plugins.plugin_utils._units import printable

#: The agent's name for a page's key.
_ESCROW = "scalr-backup-escrow"
# No characters that are easily confused.
_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_LENGTH, _GROUP = 30, 5
# What a store may need. The page sets nothing else: a host says what these are, and the reader's own shell obeys some others.
_OF_STORES = re.compile(
    r"(AWS|B2|AZURE|GOOGLE|OS|ST|RCLONE|RESTIC_REST|RESTIC_AWS)_\w+|((HTTPS?|NO)_PROXY|(https?|no)_proxy)"
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def secret_files(contents: Mapping[str, str], directory: str) -> dict[str, str]:
    """What the files in *directory* hold, by their names, of some files by their paths."""
    return {PurePosixPath(path).name: text for path, text in contents.items() if path.startswith(directory)}


def kit_passwords(config: Mapping[str, Any], host: str, declared: Sequence[str], seed: str) -> list[str]:
    """The page's passwords for a host's repositories, the second one's last: one for each repository.

    *declared* is what the inventory has for these repositories, *seed* a random text of this run that no host learns. Hosts
    share the password of a repository that the inventory has for all of them. What only a host says of itself is not enough:
    it could say that it has another one's repository, and be told what opens that.
    """
    told = [config["repository"], *([config["copy"]["repository"]] if config.get("copy") else [])]
    passwords = []
    for place, address in enumerate(told):
        is_declared = place < len(declared) and address == declared[place]
        name = ["shared", address] if is_declared and _is_shared(address) else ["own", host, str(place)]
        passwords.append(_derived(seed, name))
    return passwords


def escrow_objection(
    hostvars: Mapping[str, Mapping[str, Any]], hosts: Iterable[str], host: str, chosen: str, declared: Sequence[str]
) -> str:
    """Why the operator's own password for the safe cannot be used on a host; empty if it can, or if there is none.

    A host is told the password that its repository is to be opened with, so two hosts may only have the same one if they have
    the same repositories. *hosts* are all that are backed up, whoever takes part in this run.
    """
    if not chosen:
        return ""
    mine = _repositories(host, declared)
    for other in sorted(set(hosts) - {host}):
        known = hostvars[other]
        if str(known.get("backup_escrow_password", "")) != chosen:
            continue
        theirs = [known.get("backup_repository", "/repository"), known.get("backup_copy_repository", "")]
        if _repositories(other, theirs) != mine:
            return (
                f"backup_escrow_password is the same for {host} and {other}, which have different repositories, so each of "
                "them would learn the password of the other's: remove it to get a generated password for each repository, or "
                "set one for each (docs/keys.md)."
            )
    return ""


def _repositories(host: str, addresses: Iterable[str]) -> set[tuple[str, str]]:
    """Which repositories these are; one on a host itself is no other host's, whatever its address."""
    return {("" if _is_shared(address) else host, address) for address in addresses if address}


def _is_shared(address: str) -> bool:
    """Whether an address means the same repository on all hosts; a remote of rclone is whatever each host says it is."""
    server = server_of(address)
    is_of_host = server is None or is_on_loopback(server) or server == "host.docker.internal"
    return not is_of_host and not address.startswith("rclone:")


def _derived(seed: str, name: Sequence[str]) -> str:
    """A password for what has this name: 30 characters, in groups that can be typed; about 148 bits."""
    number = int.from_bytes(hmac.digest(seed.encode(), "\0".join(name).encode(), hashlib.sha512), "big")
    letters = ""
    while len(letters) < _LENGTH:
        number, letter = divmod(number, len(_LETTERS))
        letters += _LETTERS[letter]
    return "-".join(letters[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP))


def kit_places(
    secrets: Mapping[str, str],
    config: Mapping[str, Any],
    host_password: str,
    page_passwords: Sequence[str],
    escrow: bool,
    keys: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """A host's repositories, the second repository last, each with what opens it.

    *page_passwords* are the page's own, in this order.
    *keys* are, for each repository as ``item``, the ``key`` of the page's password.
    """
    places = []
    for copy in (False, True) if config.get("copy") else (False,):
        # Whatever a copy does not set itself comes from the first repository.
        own = secrets.get("copy_password", host_password) if copy else host_password
        variables = secrets.get("environment", "")
        if copy:
            variables = secrets.get("copy_environment", variables)
        named = environment(variables)
        address = config["copy"]["repository"] if copy else config["repository"]
        places.append(
            {
                "copy": copy,
                "environment": {name: value for name, value in named.items() if _OF_STORES.fullmatch(name)},
                "further": sorted(name for name in named if not _OF_STORES.fullmatch(name)),
                "repository": address,
                # Where the store's credentials are not on the page.
                "shown": redact_address(address),
                "password": page_passwords[int(copy)] if escrow else own,
                "key": next(one["key"] for one in keys if bool(one["item"]) is copy) if escrow else "",
            }
        )
    return places


def shell_word(text: object) -> str:
    """A text as one word of bash, on one line, in which nothing is invisible and nothing turns the direction of writing."""
    word = str(text)
    if printable(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def _escaped(character: str) -> str:
    if printable(character) == character and character not in "'\\?":
        return character
    try:
        data = character.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = character.encode("utf-8", "surrogatepass")
    # Three digits each: what follows may be a digit itself.
    return "".join(f"\\{byte:03o}" for byte in data)


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
