# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Where another host's snapshots are, and what opens that repository: from the options, or from the inventory.

Only the necessary variables of the other host are read, and its secrets last.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

HostVars = Mapping[str, Mapping[str, Any]]

_PASSWORDS = "~/.config/scalr-backup"


def restore_source(given: Mapping[str, Any], hostvars: HostVars, host: str, own: str) -> dict[str, str]:
    """The repository that *host* is to read, where it is not the agent's *own*, and the file with its password."""
    known = _known(given, hostvars, host)
    theirs = _first(known, "backup_copy_repository" if given["from_copy"] else "backup_repository")
    repository = given["repository"] or (theirs if theirs != own else "")
    # A password in the options needs no file.
    password_file = str(_password_file(given["host"], known)) if known and repository and not given["password"] else ""
    return {"repository": str(repository or ""), "password_file": password_file}


def restore_secrets(
    given: Mapping[str, Any], hostvars: HostVars, host: str, repository: str, kept: str = ""
) -> dict[str, Any]:
    """The password of *repository*, and its store's environment; *kept* is the content of the password file."""
    known = _known(given, hostvars, host)
    password = given["password"]
    if not password and known and repository:
        # As restic reads a password from a file: what an editor puts at its end is not part of it.
        password = _first(known, *_names(given, "password")) or kept.strip()
    if not password:
        return {"password": "", "environment": {}}
    environment = given["environment"] or _first(known, *_names(given, "environment")) or {}
    return {
        "password": str(password),
        "environment": {str(name): str(value) for name, value in environment.items()},
    }


def _known(given: Mapping[str, Any], hostvars: HostVars, host: str) -> Mapping[str, Any]:
    """The other host's variables; empty if it is not in the inventory, or is this host."""
    source = given["host"]
    return hostvars[source] if source and source in hostvars and source != host else {}


def _names(given: Mapping[str, Any], what: str) -> tuple[str, ...]:
    """The variables that may hold it: a copy without its own uses the first repository's."""
    return (f"backup_copy_{what}", f"backup_{what}") if given["from_copy"] else (f"backup_{what}",)


def _first(known: Mapping[str, Any], *names: str) -> Any:
    """The first of these variables with a value."""
    return next((value for name in names if name in known and (value := known[name])), "")


def _password_file(source: str, known: Mapping[str, Any]) -> Path:
    return Path(str(_first(known, "backup_password_directory") or _PASSWORDS)).expanduser() / f"{source}.password"
