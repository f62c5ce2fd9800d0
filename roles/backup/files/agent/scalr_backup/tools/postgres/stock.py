# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container's own pg_restore says about an archive that this software cannot read itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from scalr_backup.core.archive.listing import ListedHead, parse_listing, wanted_of_script, with_statements
from scalr_backup.core.archive.parser import HEAD_LIMIT
from scalr_backup.core.errors import ScalrBackupError, UnreadableArchiveError
from scalr_backup.core.text import decoded
from scalr_backup.tools.docker.exec_stream import STDOUT, ExecStream, MessageTail
from scalr_backup.tools.postgres.clients import Clients

# A shell's codes for a program that is not there: its word is missing then, and not against the archive.
_NOT_STARTED = (126, 127)


class StockLook:
    """A pg_restore that reads a whole archive and writes nothing: a second opinion on whether it is whole."""

    def __init__(self, stream: ExecStream) -> None:
        self._stream = stream
        self._messages = MessageTail()
        self._reads = True
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def feed(self, data: bytes) -> None:
        """Give it the next bytes; one that has ended says why in the end."""
        if self._reads:
            try:
                self._stream.write(data, self._see_its_end)
            except (OSError, ScalrBackupError):
                self._reads = False

    def close(self) -> bool:
        """Take note that nothing follows. Whether it has read all; False where there is no pg_restore to ask.

        Raises UnreadableArchiveError in its words.
        """
        if self._reads:
            with suppress(OSError):
                self._stream.end_input()
        self._listener.join(self._stream.silence_seconds)
        if self._listener.is_alive():
            self._stream.close()
            raise UnreadableArchiveError(
                f"The container's own pg_restore has not ended within {self._stream.silence_seconds:.0f} s."
            )
        code = self._stream.wait()
        if code in _NOT_STARTED:
            return False
        if code != 0 or not self._reads:
            raise UnreadableArchiveError(
                f"The container's own pg_restore cannot read the archive: {self._stream.how_it_ended(self._messages.text)}"
            )
        return True

    def _see_its_end(self) -> None:
        # The engine may keep a dead command's input open, unread, for minutes; its output it ends at once.
        if not self._listener.is_alive():
            raise BrokenPipeError

    def _listen(self) -> None:
        with suppress(ScalrBackupError, ValueError):
            for kind, data in self._stream.frames():
                if kind != STDOUT:
                    self._messages.add(data)


def start_look(postgres: Clients, silence_seconds: float) -> StockLook:
    """Let the container's pg_restore read an archive to its end; what it makes of it goes nowhere."""
    argv = ["pg_restore", "--format=custom", "--file=/dev/null"]
    return StockLook(postgres.start_client(argv, silence_seconds))


def list_archive(postgres: Clients, name: str, beginning: bytes, chunks: Iterator[bytes]) -> tuple[ListedHead, bytes]:
    """The head of an archive by its listing, and the bytes that were read for it, the *beginning* among them.

    *name* is what a list in the container's memory is called meanwhile.

    Raises UnreadableArchiveError in pg_restore's words, or ArchiveError.
    """
    read = bytearray(beginning)
    listing = _list(postgres, read, chunks)
    head = parse_listing(listing)
    try:
        path = postgres.put_list(name, wanted_of_script(head))
        if path is None:
            raise UnreadableArchiveError(f"{postgres.container} has no space for a list in /dev/shm.")
        argv = ["pg_restore", "--create", f"--use-list={path}", "--file=-"]
        return with_statements(head, postgres.read_by_client(argv, bytes(read))), bytes(read)
    finally:
        postgres.remove_heads(name)


def _list(postgres: Clients, read: bytearray, chunks: Iterator[bytes]) -> str:
    """Feed a pg_restore until it has seen all that it lists; what was fed is in *read*."""
    said, messages = bytearray(), MessageTail()
    with postgres.start_client(["pg_restore", "--list", "--create"], 300.0) as stream:

        def listen() -> None:
            with suppress(ScalrBackupError, ValueError):
                for kind, data in stream.frames():
                    if kind == STDOUT and len(said) <= HEAD_LIMIT:
                        said.extend(data)
                    else:
                        messages.add(data)

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        _feed(stream, listener.is_alive, read, chunks)
        listener.join(stream.silence_seconds)
        if listener.is_alive() or len(said) > HEAD_LIMIT:
            raise UnreadableArchiveError("The target's pg_restore does not finish its listing.")
        if stream.wait() != 0:
            raise UnreadableArchiveError(f"The target cannot read this archive: {stream.how_it_ended(messages.text)}")
    return decoded(said)


def _feed(stream: ExecStream, reads: Callable[[], bool], read: bytearray, chunks: Iterator[bytes]) -> None:
    def see_its_end() -> None:
        if not reads():
            raise BrokenPipeError

    try:
        stream.write(bytes(read), see_its_end)
        for chunk in chunks:
            read += chunk
            stream.write(chunk, see_its_end)
            see_its_end()
        stream.end_input()
    except (OSError, ScalrBackupError):
        pass  # It has seen what it needs, or has failed and says so.
