# SPDX-License-Identifier: GPL-3.0-or-later
"""Who watches the room ends a restore's sessions before it is gone, and says why."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from scalr_backup.actions.restore import room_watch
from scalr_backup.actions.restore.room_watch import RoomWatch
from scalr_backup.core.errors import DockerUnreachableError, NoRoomLeftError, PostgresError, RoomUnknownError
from scalr_backup.core.room import Place

MIB = 1024 * 1024


def place(free):
    return Place("/data", "/dev/sda1", "/", free * MIB, 1000 * MIB)


class Server:
    """A server whose room is as told, look after look, and then stays so; an error is raised instead."""

    container = "scalr-shop-db"

    def __init__(self, *looks, refuses=False):
        self.looks = list(looks)
        self.refuses = refuses
        self.ended = []
        self.watches = 0

    @contextmanager
    def watch_room(self, _places):
        self.watches += 1
        yield self

    def look(self):
        now = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(now, Exception):
            raise now
        return now

    def end_sessions(self, database):
        self.ended.append(database)
        if self.refuses:
            raise PostgresError("too many clients already")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(room_watch, "_LOOK_SECONDS", 0.0)


def watched_to_its_end(server):
    watch = RoomWatch(server, [place(900)], "scalr_restore_x", "the live shop is as it was.")
    with watch:
        watch._thread.join()
    return watch


@pytest.mark.parametrize("refuses", [False, True])
def test_before_the_room_is_gone_the_sessions_are_ended_and_it_is_said_why(refuses):
    server = Server([place(300)], [place(290)], [place(255)], refuses=refuses)
    watch = watched_to_its_end(server)
    assert server.ended == ["scalr_restore_x"]
    assert isinstance(watch.gave_up, NoRoomLeftError)
    with pytest.raises(
        NoRoomLeftError, match=r"gave up with 255\.0 MiB left on the volume of /data in scalr-shop-db"
    ) as caught:
        watch.check()
    assert caught.value.message.endswith("the live shop is as it was.")


def test_where_there_is_room_nothing_happens():
    server = Server([place(900)])
    watch = RoomWatch(server, [place(900)], "x", "")
    with watch:
        watch.check()
    assert server.ended == []
    assert watch.gave_up is None
    watch.check()


@pytest.mark.parametrize("blind", [[None], DockerUnreachableError("it is gone."), RoomUnknownError("df hangs.")])
def test_nobody_fills_a_volume_that_nobody_can_see(blind):
    server = Server([place(900)], blind)
    watch = watched_to_its_end(server)
    assert server.watches == 2
    assert server.ended == ["scalr_restore_x"]
    with pytest.raises(RoomUnknownError, match="its free space could not be monitored"):
        watch.check()
    # Its own words are better than ours where pg_restore fails for the same reason.
    assert watch.gave_up is None


def test_one_answer_that_does_not_come_is_asked_for_again():
    server = Server([place(300)], RoomUnknownError("df hangs."), [place(290)], [place(255)])
    watch = watched_to_its_end(server)
    assert server.watches == 2
    assert watch.gave_up is not None
