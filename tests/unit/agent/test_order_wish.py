"""What a label and the configuration want of the order of rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scalr_backup.actions.backup.order import is_excepted
from scalr_backup.actions.discovery import Discovered, HostLook
from scalr_backup.core.clock import utc_now
from scalr_backup.core.config import Config, parse_config
from scalr_backup.core.errors import ConfigurationError
from scalr_backup.core.model import Cluster, Container, Credentials
from scalr_backup.core.new_data import OrderHistory
from scalr_backup.core.order_wish import LABEL, misread_label, order_wish
from scalr_backup.core.records.state import NewDataRecord
from scalr_backup.core.row_order import LEAST_BYTES, OrderWish, table_pattern


def a_container(label: str | None = None, **facts: Any) -> Container:
    labels = {} if label is None else {LABEL: label}
    return Container("1", "shop-db", "postgres:17", "2", "running", "ok", labels=labels, **facts)


def wished(label: str | None = None, **settings: Any) -> OrderWish:
    return order_wish(a_config(**settings), a_container(label), "app")


def a_config(**settings: Any) -> Config:
    return Config.model_validate({"host": "web1", "repository": "/repository", **settings})


def test_by_default_tables_decide() -> None:
    assert wished() == OrderWish(None, (), LEAST_BYTES, frozenset(), 2, 90)
    assert wished(parallel=4, nearly_full_percent=80, row_order_least_bytes=5) == OrderWish(
        None, (), 5, frozenset(), 4, 80
    )


@pytest.mark.parametrize(
    ("label", "setting", "why_not"),
    [
        (None, "auto", None),
        (None, "off", "backup_row_order is off"),
        ("", "off", "backup_row_order is off"),
        ("auto", "off", None),
        (" auto ", "off", None),
        ("off", "auto", f"the label {LABEL} is off"),
        ("public.events", "off", None),
    ],
)
def test_a_label_counts_before_the_configuration(label: str | None, setting: str, why_not: str | None) -> None:
    assert wished(label, row_order=setting).why_not == why_not


class History(OrderHistory):
    """A record that says that order does not pay."""

    def why_not(self, _container: str, _database: str) -> str | None:
        return "all of it is new"


def test_what_the_record_says_counts_only_where_order_is_wanted() -> None:
    history = History({}, utc_now())

    assert order_wish(a_config(), a_container(), "app", history).why_not == "all of it is new"
    assert "off" in (order_wish(a_config(row_order="off"), a_container(), "app", history).why_not or "")


def test_which_tables_were_in_order_before_is_known_by_the_names_of_the_backup() -> None:
    record: NewDataRecord = {"nights": [], "layout": {"0123456789ab": 5}}
    history = OrderHistory({"shop-db/app": record}, utc_now())

    assert order_wish(a_config(), a_container(), "app", history).before == {"0123456789ab"}
    assert order_wish(a_config(), a_container(), "other", history).before == frozenset()


def test_exceptions_of_label_and_configuration_add_up_each_for_its_database() -> None:
    found = wished(
        "public.events, app/audit.*,other/x.y",
        row_order_except=["a.b", "app/c.d", "shop-*/app/e.f", "other/g.h", "else-db/app/i.j", "made-*/*/k.l"],
    )
    assert found.exceptions == ("a.b", "c.d", "e.f", "public.events", "audit.*")
    named = order_wish(a_config(row_order_except=["made-*/*/k.l"]), a_container(called="made-1"), "app")
    assert named.exceptions == ("k.l",)


@pytest.mark.parametrize(
    "label", ["on", "of", "AUTO", "true", "events", "public.", ".t", "a/b/public.t", "a.b,,c.d", "/a.b"]
)
def test_a_label_that_makes_no_sense_leaves_its_container_alone_and_is_said(label: str) -> None:
    sentence = misread_label(a_container(label))

    assert sentence is not None
    assert sentence.startswith(f"shop-db: the label {LABEL} is invalid: ")
    assert wished(label).why_not == sentence


def test_a_label_steers_no_terminal_and_has_its_length() -> None:
    assert "\x1b" not in (misread_label(a_container("\x1b[31m")) or "")
    assert "longer" in (misread_label(a_container(",".join(["a.b"] * 2000))) or "")


@pytest.mark.parametrize("label", [None, "", "auto", "off", "public.events,app/audit.*", "*.*"])
def test_a_label_that_makes_sense_is_no_warning(label: str | None) -> None:
    assert misread_label(a_container(label)) is None


def test_discovery_warns_of_a_label_that_makes_no_sense() -> None:
    clusters = tuple(
        Cluster(container, Credentials("postgres"), "17.6", ()) for container in (a_container("of"), a_container("off"))
    )
    found = Discovered(tuple(one.container for one in clusters), clusters, HostLook((), ()))

    assert found.misread_labels == found.warnings
    assert len(found.warnings) == 1


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("row_order", "on", "row_order"),
        ("row_order_except", ["events"], "'events' is not schema.table, database/schema.table or container/database/schema.table"),
        ("row_order_except", ["a/b/c/d.e"], "is not schema.table"),
        ("row_order_least_bytes", -1, "row_order_least_bytes"),
    ],
)  # fmt: skip
def test_a_configuration_that_makes_no_sense_is_one_sentence(key: str, value: Any, words: str) -> None:
    document = a_config().model_dump(mode="json", by_alias=True, exclude_unset=True) | {key: value}
    with pytest.raises(ConfigurationError, match=r"config\.json") as raised:
        parse_config(json.dumps(document), "config.json")
    assert words in raised.value.message


def test_a_pattern_has_a_place_for_each_of_its_parts() -> None:
    assert table_pattern("a.b") == ("*", "*", "a.b")
    assert table_pattern(" d/a.b ") == ("*", "d", "a.b")
    assert table_pattern("c/d/a.b.c") == ("c", "d", "a.b.c")


def test_a_bracket_in_a_pattern_is_the_one_of_a_name() -> None:
    config = a_config(row_order_except=["app[1]/public.odd[12]"])

    [pattern] = order_wish(config, a_container(), "app[1]").exceptions
    assert is_excepted("public", "odd[12]", [pattern])
    assert not is_excepted("public", "odd1", [pattern])
    assert order_wish(config, a_container(), "app1").exceptions == ()
