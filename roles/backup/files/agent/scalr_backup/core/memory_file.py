# SPDX-License-Identifier: GPL-3.0-or-later
"""Files in memory only: nothing of them remains, however a run ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_memory(content: bytes) -> Iterator[str]:
    """A file that is only in memory, under a path that a child process can open."""
    descriptor = os.memfd_create("scalr-backup")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)
