# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What an address may show: which part of it is a secret, what is left without that, and why one is refused.

The agent and the collection cannot import each other, so each has this file, word for word; a test holds both equal.
Here, an address is whatever an operator writes for one, right or wrong: a password may hold any character, also those that
would end it for a program, so what could be a part of it counts as such.
"""

from __future__ import annotations

import re

#: What stands in place of a secret.
HIDDEN = "***"

# Where a user and a password may begin: after a scheme, or where restic's own scheme is followed by none.
_LOGIN = re.compile(r"://|^(?:rest|s3|sftp|https?):(?!//|https?://)", re.IGNORECASE)
# A server's port, which ends where a path begins.
_PORT = re.compile(r"[0-9]{1,5}(?=[/?#])")
# What the name of a secret has in it; the short ones as words of their own, since there is one in "design".
_TELLING = (
    r"pass|pwd|secret|token|key|signature|bearer|credential|oauth|authoriz|authentic"
    r"|(?<![a-z])(?:sig|sas|auth)(?![a-z])"
)
# What has that, and holds none: where a secret lies, whose it is and of which kind. A signed address is one.
_HARMLESS = (
    r"(?!(?:sas_url|secret_id)=)[^,?&=:/\s]*[_-](?:file|path|version|url|use_agent|id|type|name)="
    r"|(?:env_auth|v2_auth|ask_password|key_exchange|host_key_algorithms|pubkey)="
)
# In the settings that rclone takes with a remote, and in what follows a question mark.
_SETTING = re.compile(rf"[,?&](?!{_HARMLESS})[^,?&=:/\s]*(?:{_TELLING})[^,?&=:/\s]*=(?=.)", re.IGNORECASE | re.DOTALL)
# In running text an address ends at a blank or a quotation mark.
_WORD = re.compile(r"[^\s\"'`<>]+")
# Where the secrets of each kind of store belong; the rest is said of the variable for the environment.
_PLACES = {
    "rest": "RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD in {}",
    "http": "RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD in {}",
    "https": "RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD in {}",
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in {}",
    "sftp": "backup_ssh_private_key, because an SFTP server is reached with a key",
    "rclone": "the remote's RCLONE_CONFIG_… variables in {}",
}


def redact_address(address: str) -> str:
    """An address without its password; more is hidden where nobody can tell where a password ends."""
    span = _password(address)
    shown = address if span is None else address[: span[0]] + HIDDEN + address[span[1] :]
    setting = _setting(shown)
    # A value may hold what would end it.
    return shown if setting is None else shown[: setting.end()] + HIDDEN


def redact(text: str) -> str:
    """A text without the passwords of the addresses in it, each of which is one word."""
    if "@" not in text and "=" not in text:
        return text
    return _WORD.sub(lambda word: redact_address(word[0]), text)


def password_in(address: str) -> str:
    """The password in an address, empty where there is none."""
    span = _password(address)
    return "" if span is None else address[span[0] : span[1]]


def holds_secret(address: str) -> bool:
    """Whether there is a password in an address; a port and an ``@`` in a path are none."""
    span = _password(address)
    if span is not None and not _PORT.match(address, span[0]):
        return True
    return _setting(address) is not None


def objection(name: str, address: object, environment: str = "") -> str | None:
    """Why the address in a variable is refused, in a sentence that shows nothing of it; None if it is not.

    *environment* is where the variables of its store are set, if not in the variable of that name.
    """
    if not isinstance(address, str) or not holds_secret(address):
        return None
    place = _PLACES.get(address.partition(":")[0].lower(), "it in {}")
    return (
        f"The address in {name} contains a password, which would show up in logs and process lists: leave it out there, "
        f"and set {place.format(environment or name.replace('repository', 'environment'))}."
    )


def _setting(address: str) -> re.Match[str] | None:
    """The name of the first secret among an address's settings; of an SFTP server there are none, and a path may say anything."""
    return None if address[:5].lower() == "sftp:" else _SETTING.search(address)


def _password(address: str) -> tuple[int, int] | None:
    """Where the password in an address begins and ends."""
    start = _LOGIN.search(address)
    end = address.rfind("@")
    if start is None or end < start.end():
        return None
    colon = address.find(":", start.end(), end)
    if colon < 0:
        return None
    user = address[start.end() : colon]
    if start[0].lower() == "sftp:":
        # user@host:path, or host:path with an @ in the path.
        no_login = "@" in user or ":" not in address[end:]
    else:
        # A colon in a path, and those of an IPv6 address.
        no_login = any(sign in user for sign in "/?#") or user.rpartition("@")[2].startswith("[")
    if no_login or colon + 1 == end:
        return None
    return colon + 1, end
