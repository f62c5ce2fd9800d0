# SPDX-License-Identifier: GPL-3.0-or-later
"""How restic, and whoever looks before it, reaches an SFTP server: with these two files and nothing else of a user's."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import urlsplit


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
