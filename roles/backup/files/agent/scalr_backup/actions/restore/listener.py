# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads pg_restore's output while its input is written, so that neither waits for the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from scalr_backup.core.errors import RestoreError, ScalrBackupError
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecStream, MessageTail

# What pg_restore --verbose says of each item.
ITEM_OF_ONE_JOB, ITEM_OF_SEVERAL_JOBS = b": creating ", b": finished item "
# Where it goes on after errors, all of them count, and between them it tells each item.
_MOST_BYTES = 8 * 1024 * 1024


class Listener:
    """Listens in a thread of its own, and counts the items that are done."""

    def __init__(self, target: ExecStream, item: bytes = ITEM_OF_ONE_JOB) -> None:
        self.items = 0
        self._target = target
        self._item = item
        self._tail = MessageTail(_MOST_BYTES)
        self._error: ScalrBackupError | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def messages(self) -> str:
        """What it said."""
        return self._tail.text

    def finished(self, seconds: float) -> bool:
        """Wait a little for its output to end; raises what broke the connection."""
        self._thread.join(seconds)
        if self._error is not None:
            raise self._error
        return not self._thread.is_alive()

    def exit_code(self, waiting: Callable[[], None]) -> int:
        """Wait for pg_restore's end; *waiting* is called meanwhile, and may raise."""
        while not self.finished(0.5):
            waiting()
        return self._target.wait()

    def failure(self, known: Collection[str] | None = None) -> RestoreError:
        """How it ended, in its words; where it worked on rows, *known* are those of the server's that are none of a row's."""
        return RestoreError(self._target.how_it_ended(self.messages, known))

    def _listen(self) -> None:
        try:
            for kind, data in self._target.frames():
                if kind != STDOUT:
                    self._tail.add(data)
                    self.items += data.count(self._item)
        except ScalrBackupError as error:
            self._error = error
        except ValueError:
            pass  # The stream was closed under us: the restore has been given up.
