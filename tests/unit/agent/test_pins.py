"""Tables that stay as they are while a query of them is planned: what is held, and when it is let go."""

from __future__ import annotations

import itertools
from typing import Any

from scalr_backup.tools.postgres.pins import Begun, Pins


class Session:
    """A server that lets a table be pinned, or not, and a query that begins to run, or not."""

    def __init__(self, *, pins: bool = True, begins: bool = True) -> None:
        self.answers, self.asked = {"ShareUpdateExclusiveLock": pins, "advisory": begins}, list[str]()

    def query(self, sql: str) -> list[Any]:
        self.asked.append(sql)
        if sql == "LOOK":
            return ["seen"]
        # Where the transaction has failed, nothing is said.
        return [True] if any(answer and word in sql for word, answer in self.answers.items()) else self._silence(sql)

    def _silence(self, sql: str) -> list[Any]:
        return [False] if "advisory" in sql else []

    def is_free(self) -> bool:
        return self.asked[-1].startswith("ROLLBACK;") and self.asked[-1].endswith("ON_ERROR_STOP on")


def pins_of(session: Session) -> Pins:
    seconds = itertools.count(0.0, 2.0)
    return Pins(session, lambda: next(seconds))  # type: ignore[arg-type]


def test_a_table_is_let_go_when_its_query_begins() -> None:
    session = Session()
    pins = pins_of(session)
    with pins.pinned(16400, "LOOK") as seen:
        assert seen == ["seen"]
        assert not session.is_free()
        pins.let_go_once(Begun(), 42)
        assert session.is_free()
        asked = len(session.asked)
    assert len(session.asked) == asked, "once is enough"


def test_a_table_is_held_on_to_where_nobody_sees_its_query_begin() -> None:
    session = Session(begins=False)
    pins = pins_of(session)
    with pins.pinned(16400, "LOOK"):
        pins.let_go_once(Begun(), 42)
        assert not session.is_free()
    assert session.is_free()


def test_a_table_that_cannot_be_pinned_is_not_looked_at() -> None:
    session = Session(pins=False)
    with pins_of(session).pinned(16400, "LOOK") as seen:
        assert seen == []
    assert "LOOK" not in session.asked
    assert session.is_free()


def test_a_query_that_shows_when_it_begins_leaves_out_no_row() -> None:
    clause = Begun().clause
    assert clause.startswith("OFFSET CASE WHEN ")
    assert clause.endswith(" THEN 0 ELSE 0 END")
    assert Begun().clause != clause
