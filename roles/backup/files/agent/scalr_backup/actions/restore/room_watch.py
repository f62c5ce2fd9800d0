# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches the free space on a server's volumes while a restore loads a database, and stops it before space runs out.

A plan can only guess what a restore takes, and the live database goes on writing beside it. So whoever looks does not
only tell: it ends the restore's sessions itself, at once. Whatever waits for pg_restore then sees it end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from scalr_backup.core.errors import NoRoomLeftError, RoomUnknownError, ScalrBackupError
from scalr_backup.core.room import Gauge, Place
from scalr_backup.core.units import human_bytes
from scalr_backup.tools.docker.volumes import VolumeWatch
from scalr_backup.tools.postgres.cluster import Postgres

_LOOK_SECONDS = 0.5
# An answer that does not come is asked for once more, by a new process.
_TRIES = 2


class RoomWatch:
    """The watch over some places while *database* is filled; a context manager.

    Without places there is nothing to watch. *outcome* is what the operator is told when it ends the filling, beside how much room was left.
    """

    def __init__(self, postgres: Postgres, places: Sequence[Place], database: str, outcome: str) -> None:
        self._postgres = postgres
        self._places = places
        self._database = database
        self._outcome = outcome
        self._gauges = [Gauge() for _place in places]
        self._over = threading.Event()
        self._error: ScalrBackupError | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> RoomWatch:
        if self._places:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._places:
            self._thread.join()

    @property
    def gave_up(self) -> ScalrBackupError | None:
        """Why it ended the filling for lack of room; None when it has not."""
        return self._error if isinstance(self._error, NoRoomLeftError) else None

    def check(self) -> None:
        """Let the filling of the database know that it is over.

        Raises NoRoomLeftError or RoomUnknownError.
        """
        if self._error is not None:
            raise self._error

    def _watch(self) -> None:
        for left in reversed(range(_TRIES)):
            try:
                with self._postgres.watch_room(self._places) as watch:
                    self._look_on(watch)
                return
            except ScalrBackupError as error:
                if not left and not self._over.is_set():
                    self._end(
                        RoomUnknownError(
                            f"The restore was stopped, because its free space could not be monitored: {error.message}"
                        )
                    )
                self._over.wait(_LOOK_SECONDS)

    def _look_on(self, watch: VolumeWatch) -> None:
        while not self._over.is_set() and self._error is None:
            for place, gauge in zip(watch.look(), self._gauges, strict=True):
                if place is None:
                    raise RoomUnknownError(f"{self._postgres.container} no longer reports its free space.")
                if gauge.is_low(time.monotonic(), place.free_bytes):
                    self._end(self._given_up(place))
                    return
            self._over.wait(_LOOK_SECONDS)

    def _end(self, error: ScalrBackupError) -> None:
        # Told first: what the end of its sessions looks like to pg_restore is not why they were ended.
        self._error = error
        with suppress(ScalrBackupError):
            self._postgres.end_sessions(self._database)

    def _given_up(self, place: Place) -> NoRoomLeftError:
        return NoRoomLeftError(
            f"The restore gave up with {human_bytes(place.free_bytes)} left on the volume of {place.directory} in "
            f"{self._postgres.container}, because a server with no space for its write-ahead log stops; {self._outcome}"
        )
