# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this plugin util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Write a file on the controller that nobody reads but those who may, not even for a moment."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

_OCTAL = re.compile(r"0?[0-7]{3}")
_CLAUSE = re.compile(r"([ugoa]+)([=+-])([rw]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2}
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class PageError(Exception):
    """The file is not written, as a sentence; whatever was there is as it was."""


def parse_mode(name: str, given: object) -> int:
    """The permissions of a file, from octal digits or from clauses such as ``u=rw,g=r``, which begin at 0600.

    Raises PageError, with the *name* of the variable.
    """
    text = given if isinstance(given, str) else ""
    if _OCTAL.fullmatch(text):
        mode = int(text, 8)
    else:
        mode = 0o600
        for clause in text.split(","):
            match = _CLAUSE.fullmatch(clause)
            if match is None:
                raise PageError(_wrong(name, given))
            mode = _changed(mode, *match.groups())
    # What is not a program is not executed, and its owner must be able to read it.
    if mode & 0o111 or not mode & stat.S_IRUSR:
        raise PageError(_wrong(name, given))
    return mode


def _wrong(name: str, given: object) -> str:
    # YAML makes another number of octal digits that are not in quotation marks.
    quoted = " in quotation marks" if isinstance(given, int) else ""
    return (
        f"{name} is {given}: it must be the octal permissions of a file that its owner can read and nobody can execute{quoted}, "
        'such as "0640", or symbolic ones, such as u=rw,g=r.'
    )


def _changed(mode: int, whom: str, sign: str, what: str) -> int:
    for one in "ugo" if "a" in whom else whom:
        bits = sum(_BITS[letter] for letter in set(what)) << _SHIFTS[one]
        if sign == "=":
            mode &= ~(7 << _SHIFTS[one])
        mode = mode & ~bits if sign == "-" else mode | bits
    return mode


def write_page(path: Path, content: str, mode: int, *, dry_run: bool = False) -> bool:
    """Write a file that has these permissions from its first byte on; return whether anything changed.

    It appears complete or not at all. A symbolic link is followed only where nobody else can have placed it; whatever else is
    there is replaced, not written through.

    Raises PageError.
    """
    try:
        target = _target(path)
        data = content.encode("utf-8", "backslashreplace")
        if _is_so(target, data, mode):
            return False
        if not dry_run:
            _replace(target, data, mode)
    except OSError as error:
        raise PageError(f"Cannot write {path}: {error.strerror}; nothing was changed there.") from None
    return True


def _target(path: Path) -> Path:
    """Where a path leads to. Raises PageError if somebody else may have placed a link there."""
    if not path.is_symlink():
        return path
    mine = {os.geteuid(), 0}
    for place in (path.parent, path):
        found = place.lstat() if place is path else place.stat()
        if found.st_uid not in mine or (place is not path and found.st_mode & _OTHERS_WRITE):
            raise PageError(
                f"{path} is a symbolic link in a directory that others can write to: choose another path, or remove the link."
            )
    return path.resolve()


def _is_so(target: Path, data: bytes, mode: int) -> bool:
    """Whether the file is there, with this content and these permissions, and is nobody else's."""
    with contextlib.suppress(FileNotFoundError):
        found = target.lstat()
        is_fit = stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == mode and found.st_uid == os.geteuid()
        return is_fit and found.st_size == len(data) and target.read_bytes() == data
    return False


def _replace(target: Path, data: bytes, mode: int) -> None:
    made = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        made.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            made.unlink()
        raise
