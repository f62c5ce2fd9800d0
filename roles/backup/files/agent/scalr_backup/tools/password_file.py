# SPDX-License-Identifier: GPL-3.0-or-later
"""The file with the repository's password, which is generated if there is none yet."""

from __future__ import annotations

import os
import secrets
import string
from contextlib import suppress
from pathlib import Path

from scalr_backup.core.errors import ConfigurationError
from scalr_backup.core.secrets import holds_password

# As many as the role generates.
_LENGTH = 64
_LETTERS = string.ascii_letters + string.digits


def generate(path: Path) -> bool:
    """Write a new password, which this process's group may read; False where there is a file already, which stays as it is.

    The directory is closed to everybody else. Raises ConfigurationError where it cannot be written, and for a file that holds none.
    """
    unfinished = path.with_name(f".{path.name}.new")
    try:
        if path.exists():
            _require_content(path)
            return False
        os.chown(path.parent, -1, os.getegid())
        path.parent.chmod(0o750)
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, 0o640)
            file.write("".join(secrets.choice(_LETTERS) for _letter in range(_LENGTH)))
            file.flush()
            os.fsync(descriptor)
        # Not renamed: whoever has written one meanwhile keeps it.
        with suppress(FileExistsError):
            os.link(unfinished, path)
            return True
        _require_content(path)
        return False
    except OSError as error:
        raise ConfigurationError(
            f"The password {path} cannot be written: {error.strerror}; its directory must belong to root, and the "
            "process must run as root."
        ) from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _require_content(path: Path) -> None:
    """Raises ConfigurationError for a file that nothing can be opened with, and OSError where it cannot be read."""
    if not holds_password(path.read_bytes()):
        raise ConfigurationError(f"The file {path} exists but contains no password: remove it, then run this again.")
