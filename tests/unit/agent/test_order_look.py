"""What ``discover --row-order`` shows of the order of rows."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from scalr_backup.actions import order_look
from scalr_backup.actions.order_look import answer, row_orders
from scalr_backup.cli.tables import _discover
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config
from scalr_backup.core.errors import InterruptedRunError, PostgresError
from scalr_backup.core.model import Cluster, Container, Credentials, Database
from scalr_backup.core.new_data import OrderHistory
from scalr_backup.core.row_order import HeapTable, OrderedTable, OrderPlan, OrderWish, Scan
from scalr_backup.core.units import NOTHING

CONFIG = Config.model_validate({"host": "web1", "repository": "/repository"})
PLAN = OrderPlan(
    (OrderedTable(1, "public", "orders", ("id", "v"), ("id",), "orders_pkey", Scan.INDEX, 2, 4 << 30, "id is an identity column"),),
    (
        HeapTable("public", "Odd", 1 << 30, "its key id holds random UUIDs", "UUIDs of version 7"),
        HeapTable("app", "caf\udce9", 1 << 20, "it is busy"),
    ),
)  # fmt: skip


def a_cluster(name: str, *databases: str, **labels: str) -> Cluster:
    container = Container("1", name, "postgres:17", "2", "running", "ok", labels=labels)
    return Cluster(
        container, Credentials("postgres"), "17.6", tuple(Database(one, 1, "o", "UTF8") for one in databases)
    )


class History(OrderHistory):
    """A record that says that order does not pay for one database."""

    def why_not(self, _container: str, database: str) -> str | None:
        return "all of it is new each night" if database == "shop" else None


class FakeDiscovery:
    """Servers, whose sessions are counted."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str]] = []

    def postgres(self, container: Container, *_way: Any, seconds: float) -> Any:
        @contextmanager
        def session(database: str, *_options: Any, **_more: Any) -> Any:
            self.opened.append((container.name, database))
            yield SimpleNamespace(query=lambda _sql: [])

        assert seconds > 0
        return SimpleNamespace(session=session)


def test_each_database_has_its_own_answer_and_one_that_fails_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    discovery = FakeDiscovery()

    def choose(_session: Any, _wish: OrderWish, _volumes: Any) -> OrderPlan:
        if discovery.opened[-1][1] == "broken":
            raise PostgresError("broken: it is gone")
        return PLAN

    monkeypatch.setattr(order_look, "choose", choose)
    clusters = [a_cluster("a", "broken", "shop"), a_cluster("b", "wiki", **{"scalr.backup.row-order": "off"})]

    found = row_orders(CONFIG, discovery, clusters)  # type: ignore[arg-type]

    assert found["a", "broken"]["error"] == {"code": "postgres", "message": "broken: it is gone"}
    assert found["a", "shop"] == answer(PLAN)
    assert found["b", "wiki"]["why_not"] == "the label scalr.backup.row-order is off"
    # Who wants no order is not asked.
    assert discovery.opened == [("a", "broken"), ("a", "shop")]


def test_what_the_record_says_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_look, "choose", lambda *_arguments: PLAN)

    found = row_orders(CONFIG, FakeDiscovery(), [a_cluster("a", "shop", "wiki")], History({}, utc_now()))  # type: ignore[arg-type]

    assert found["a", "shop"]["why_not"] == "all of it is new each night"
    assert found["a", "wiki"]["why_not"] is None


def test_being_told_to_stop_ends_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(*_arguments: Any) -> OrderPlan:
        raise InterruptedRunError("stop")

    monkeypatch.setattr(order_look, "choose", choose)
    with pytest.raises(InterruptedRunError):
        row_orders(CONFIG, FakeDiscovery(), [a_cluster("a", "shop")])  # type: ignore[arg-type]


def test_an_answer_can_be_read_by_every_program_whatever_a_table_is_called() -> None:
    found = answer(PLAN)

    json.dumps(found).encode()
    assert [one["table"] for one in found["heap"]] == ['public."Odd"', 'app."caf\\xe9"']
    assert found["ordered"][0] == {
        "table": "public.orders", "bytes": 4 << 30, "key": ["id"], "descending": False, "index": "orders_pkey",
        "scan": "index", "reason": "id is an identity column",
    }  # fmt: skip


def shown(**databases: Any) -> str:
    console = Console(width=200, record=True)
    rows = [
        {"name": name, "size_bytes": 1} | ({"row_order": order} if order else {}) for name, order in databases.items()
    ]
    container = {
        "name": "c",
        "status": "ok",
        "server_version": "17",
        "databases": rows,
        "reason": None,
        "kept_databases": [],
    }
    _discover(console, {"containers": [container], "unmatched": [], "notes": []})
    return console.export_text()


def test_people_see_each_table_its_order_and_what_would_help() -> None:
    failed = {"ordered": [], "heap": [], "why_not": None, "error": {"code": "postgres", "message": "it is gone"}}
    text = shown(shop=answer(PLAN), wiki=answer(OrderPlan(why_not="backup_row_order is off")), gone=failed)

    nothing = " ".join([NOTHING] * 3)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "c/shop public.orders 4.0 GiB id (index) id is an identity column" in lines
    assert 'c/shop public."Odd" 1.0 GiB heap order its key id holds random UUIDs' in lines
    assert f"c/wiki {nothing} backup_row_order is off" in lines
    assert f"c/gone {nothing} it is gone" in lines
    assert 'To improve c/shop public."Odd": UUIDs of version 7.' in lines


def test_people_see_which_tables_begin_with_their_newest_rows() -> None:
    [table] = PLAN.ordered
    text = shown(shop=answer(OrderPlan((replace(table, descending=True),))))

    assert "id (index, descending)" in text


def test_people_who_did_not_ask_see_nothing_of_it() -> None:
    assert "ORDER" not in shown(shop=None)
    assert "No table is large enough" in shown(shop=answer(OrderPlan()))


def test_a_name_steers_no_terminal() -> None:
    heap = HeapTable("public", "x\x1b[31m", 1 << 30, "why \x1b[0m", "cure \x1b[0m")

    assert "\x1b" not in shown(shop=answer(OrderPlan(heap=(heap,))))
