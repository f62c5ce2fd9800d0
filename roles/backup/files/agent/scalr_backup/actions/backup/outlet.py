# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a dump goes: to restic, which reads it from a pipe, and no more of it than a database of that size can have."""

from __future__ import annotations

import os

from scalr_backup.core.errors import DumpTooLargeError
from scalr_backup.core.units import human_bytes


class Outlet:
    """A file descriptor that takes a dump, up to *most_bytes*; None for whatever it is."""

    def __init__(self, output: int, most_bytes: int | None = None) -> None:
        # How many bytes were admitted, however the dump ends.
        self.bytes = 0
        self._output = output
        self._most_bytes = most_bytes

    def admit(self, length: int) -> None:
        """Count so many bytes more. Raises DumpTooLargeError."""
        self.bytes += length
        if self._most_bytes is not None and self.bytes > self._most_bytes:
            raise DumpTooLargeError(_too_large(self._most_bytes))

    def write(self, data: bytes) -> None:
        """Pass on bytes that were admitted. Raises BrokenPipeError when nobody reads them."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._output, view) :]

    def pass_on(self, data: bytes) -> None:
        """Admit bytes and write them. Raises DumpTooLargeError or BrokenPipeError."""
        self.admit(len(data))
        self.write(data)


def _too_large(most_bytes: int) -> str:
    return (
        f"it has more than {human_bytes(most_bytes)}, which the size of the database does not explain; if that is right, as with "
        "wide sparse tables, columnar storage or values that are compressed very well, raise backup_dump_size_factor; "
        "otherwise check what runs in that container in place of pg_dump."
    )
