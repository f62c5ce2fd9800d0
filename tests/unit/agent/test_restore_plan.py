# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore judges before it changes anything, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from scalr_backup.actions.restore import plan as restore_plan
from scalr_backup.actions.restore import warnings
from scalr_backup.actions.restore.plan import major, require_room, survey_room
from scalr_backup.actions.restore.request import DatabasePlan, Plan, RestoreRequest
from scalr_backup.core.errors import (
    MissingExtensionError,
    NoRoomError,
    PostgresError,
    PreparedTransactionsError,
    RoomUnknownError,
    UsageError,
)
from scalr_backup.core.model import Snapshot
from scalr_backup.core.roles import Globals, Membership, MissingRoles, Role
from scalr_backup.core.room import LogSettings, Place, Survey
from scalr_backup.tools.postgres.cluster import LiveDatabase

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MIB = 1024 * 1024
RESERVE = 256 * MIB


def snapshot(age=timedelta(hours=9)):
    return Snapshot(
        id="ab12cd34" * 8,
        time=NOW - age,
        host="h",
        path="/scalr-shop-db/shop.dump",
        tags=("scalr-shop-db", "run=20261122T030000Z-3f9a", "nightly"),
        dump_bytes=5 * MIB,
    )


def database(name="shop", needed=100 * MIB, live=None, age=timedelta(hours=9), **facts):
    facts = {"row_counts": {"t": 1, "u": 2}, **facts}
    return DatabasePlan(name, snapshot(age), live, needed, "17.6", 3, **facts)


# -- what is asked for -------------------------------------------------------------------------------------


def test_a_restore_goes_where_the_snapshot_came_from_unless_told_otherwise():
    assert RestoreRequest("scalr-shop-db").into == "scalr-shop-db"
    assert RestoreRequest("scalr-shop-db", target="scalr-blog-db").into == "scalr-blog-db"


@pytest.mark.parametrize(
    ("request_", "whole"),
    [
        (RestoreRequest("c"), True),
        (RestoreRequest("c", target="c"), True),
        (RestoreRequest("c", from_host="dead"), True),
        (RestoreRequest("c", database="shop"), False),
        (RestoreRequest("c", target="d"), False),
    ],
)
def test_all_roles_belong_to_a_container_that_is_to_be_again_what_it_was(request_, whole):
    assert request_.is_whole_cluster is whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategy": "sideways"}, "beside, replace"),
        ({"strategy": "replace", "keep_old": True}, "keep_old cannot keep"),
        ({"database_as": "template0"}, "copied from template0"),
        ({"database_as": "template1"}, "copied from template1"),
        ({"database_as": "x" * 64}, "longer than the 63 bytes"),
        ({"database_as": "ü" * 32}, "longer than the 63 bytes"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    with pytest.raises(UsageError, match=words) as caught:
        RestoreRequest("scalr-shop-db", **options)
    assert "\n" not in caught.value.message


def test_a_name_of_just_63_bytes_fits():
    assert RestoreRequest("c", database_as="x" * 63).database_as == "x" * 63


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (RestoreRequest("a"), "a"),
        (RestoreRequest("a", target="b"), "b"),
        (RestoreRequest("a", strategy="replace"), "replace a"),
        (RestoreRequest("a", target="b", strategy="replace"), "replace b"),
    ],
)
def test_the_word_to_type_is_the_name_of_what_is_replaced(request_, word):
    cluster = SimpleNamespace(container=SimpleNamespace(name=request_.into), server_version="17.6")
    plan = Plan("h", "h", request_, cluster, (database(),), MissingRoles(), survey(1), 0, (), "latest")
    assert plan.confirm == word
    assert plan.as_dict()["confirm"] == word


# -- versions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("17.6", 17),
        ("17.6 (Debian 17.6-1)", 17),
        ("15.14 (Debian 15.14-1.pgdg120+1)", 15),
        ("18", 18),
        ("18beta1", 18),
        ("18beta1 (Debian 18~beta1-1.pgdg130+1)", 18),
        ("18rc1", 18),
        ("19devel", 19),
        (" 16.3", 16),
        ("9" * 5000, 999_999_999),
        ("unknown", 0),
        ("", 0),
    ],
)
def test_the_major_version(version, number):
    assert major(version) == number


# -- room --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("throwaway", [True, False])
def test_only_a_throwaway_server_may_keep_silent_about_its_room(throwaway):
    def room():
        raise RoomUnknownError("neither df nor stat works")

    server, wanted = SimpleNamespace(room=room), replace(RestoreRequest("c"), throwaway=throwaway)
    if throwaway:
        unknown = survey_room(server, wanted)
        assert unknown.unknown == "neither df nor stat works"
        require_room([database()], unknown, wanted)
    else:
        with pytest.raises(RoomUnknownError):
            survey_room(server, wanted)


def survey(free, hoards=None, log=None):
    """A server with so much free room, in bytes, whose log lies there too or on a volume of its own."""
    data = Place("/data", "/dev/sda1", "/data", free, 10 * free)
    log_place = Place("/data/pg_wal", "/dev/sdb1" if log is not None else "/dev/sda1", "/wal", log or free, 10 * free)
    return Survey(log_place, {"pg_default": data}, LogSettings(1000 * MIB, hoards=hoards), 0, 64 * MIB, 2)


def test_a_second_copy_its_log_and_what_the_live_server_needs_have_to_fit():
    require_room([database()], survey(210 * MIB + RESERVE), RestoreRequest("c"))
    with pytest.raises(NoRoomError) as caught:
        require_room([database()], survey(210 * MIB + RESERVE - 1), RestoreRequest("c"))
    message = caught.value.message
    assert "\n" not in message
    assert "/data in c has 466.0 MiB free" in message
    assert "takes up to 466.0 MiB: 100.0 MiB of rows and indexes, 110.0 MiB of write-ahead log, " in message
    assert "256.0 MiB kept free" in message
    assert "free some space" in message
    assert "target=" in message
    assert "strategy=replace" in message


def test_sorts_are_counted_and_said():
    sorted_ = database(index_bytes=(80 * MIB, 70 * MIB, 60 * MIB))
    require_room([sorted_], survey(360 * MIB + RESERVE), RestoreRequest("c"))
    with pytest.raises(NoRoomError, match=r"150\.0 MiB for sorting"):
        require_room([sorted_], survey(360 * MIB + RESERVE - 1), RestoreRequest("c"))


def test_why_the_server_keeps_its_whole_log_is_said():
    big = database(needed=4000 * MIB)
    require_room([big], survey(5500 * MIB + RESERVE), RestoreRequest("c"))
    with pytest.raises(NoRoomError, match=r"4\.3 GiB of write-ahead log \(the replication slot x is not in use\)"):
        require_room([big], survey(5500 * MIB + RESERVE, "the replication slot x is not in use"), RestoreRequest("c"))


def test_a_log_on_a_volume_of_its_own_is_judged_there():
    require_room([database()], survey(100 * MIB + RESERVE, log=110 * MIB + RESERVE), RestoreRequest("c"))
    with pytest.raises(NoRoomError, match=r"The volume of /data/pg_wal in c has 366\.0 MiB free") as caught:
        require_room([database()], survey(900 * MIB, log=110 * MIB + RESERVE - 1), RestoreRequest("c"))
    assert "rows" not in caught.value.message
    with pytest.raises(NoRoomError, match=r"The volume of /data in c has 356\.0 MiB free") as caught:
        require_room([database()], survey(100 * MIB + RESERVE - 1, log=900 * MIB), RestoreRequest("c"))
    assert "log" not in caught.value.message


def test_what_is_removed_before_counts_as_free():
    require_room([database()], survey(200 * MIB + RESERVE), RestoreRequest("c"), 10 * MIB)


def test_the_way_out_is_not_what_was_asked_for():
    replace = RestoreRequest("c", strategy="replace")
    live = LiveDatabase(60 * MIB, 0)
    require_room([database(live=live)], survey(150 * MIB + RESERVE), replace)
    with pytest.raises(NoRoomError, match="in place of") as caught:
        require_room([database(live=live)], survey(150 * MIB + RESERVE - 1), replace)
    assert "strategy=replace" not in caught.value.message


def test_the_plan_tells_what_it_takes():
    cluster = SimpleNamespace(container=SimpleNamespace(name="c"), server_version="17.6")
    plan = Plan(
        "h", "h", RestoreRequest("c"), cluster, (database(),), MissingRoles(), survey(900), 100, (), "latest"
    ).as_dict()
    assert plan["free_bytes"] == 1000
    assert plan["room"] == {
        "data_bytes": 100 * MIB, "log_bytes": 110 * MIB, "sort_bytes": 0, "reserve_bytes": RESERVE,
        "wanted_bytes": 210 * MIB + RESERVE,
    }  # fmt: skip


def test_rows_on_several_volumes_are_said():
    two = survey(1)
    two.tablespaces["fast"] = Place("/fast", "/dev/sdc1", "/fast", 1, 1)
    assert warnings.spread_warnings([database()], two) == []
    [warning] = warnings.spread_warnings([database(lies_in=frozenset({"pg_default", "fast"}))], two)
    assert "2 volumes (/data, /fast)" in warning


# -- what the plan warns of --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(hours=9), None),
        (timedelta(days=2), None),
        (timedelta(days=2, seconds=1), "2 d"),
        (timedelta(days=40, hours=5), "40 d 5 h"),
    ],
)
def test_a_snapshot_of_more_than_two_days_is_called_old(monkeypatch, age, words):
    monkeypatch.setattr(warnings, "utc_now", lambda: NOW)
    expected = [] if words is None else [f"The snapshot ab12cd34 of shop is {words} old."]
    assert warnings.age_warnings([database(age=age)]) == expected


def test_what_cannot_be_verified_is_said():
    assert warnings.count_warnings([database()]) == []
    [warning] = warnings.count_warnings([database(row_counts=None)])
    assert "ab12cd34 of shop" in warning
    # A database without tables has been counted.
    assert warnings.count_warnings([database(row_counts={})]) == []


def test_rows_that_no_dump_holds_and_databases_that_none_can_save_are_said():
    lost = [{"relation": "pgmq.q_orders", "why": "extension", "extension": "pgmq", "rows": 500}]
    manifests = SimpleNamespace(
        describe=lambda _: {"left_out": lost},
        cluster=lambda _: {"left_out": [{"database": "frozen", "why": "it does not allow connections"}]},
    )
    [rows] = warnings.left_out_warnings([database()], manifests)
    assert rows.startswith("The snapshot ab12cd34 of shop lacks rows that pg_dump leaves out")
    assert "pgmq.q_orders (500 rows, part of the extension pgmq)" in rows
    [unsaved] = warnings.unsaved_warnings([snapshot(), snapshot()], manifests, is_whole_cluster=True)
    assert unsaved == "frozen was not backed up, and is not restored: it does not allow connections."
    assert list(warnings.unsaved_warnings([snapshot()], manifests, is_whole_cluster=False)) == []
    empty = SimpleNamespace(describe=lambda _: {}, cluster=lambda _: {})
    assert list(warnings.left_out_warnings([database()], empty)) == []
    assert list(warnings.unsaved_warnings([snapshot()], empty, is_whole_cluster=True)) == []


def test_rows_that_are_gone_with_the_live_database_are_said_before_it_is_replaced(monkeypatch):
    def rows(_postgres, name):
        if name == "closed":
            raise PostgresError("closed does not accept connections")
        return [{"relation": "pgmq.q", "why": "extension", "extension": "pgmq", "rows": 5}] if name == "shop" else []

    monkeypatch.setattr(restore_plan, "lost_with_live", rows)
    live = LiveDatabase(1, 0)
    plans = [database(name, live=live) for name in ("closed", "plain", "shop")] + [database("new")]

    def said(**options):
        ground = SimpleNamespace(request=RestoreRequest("c", **options), postgres=None)
        return list(restore_plan.Planner._warnings_of_what_is_lost(None, ground, plans))

    [sentence] = said()
    assert sentence.startswith("Replacing shop loses rows")
    assert said(keep_old=True) == []


def test_tablespaces_that_are_gone_are_said():
    assert warnings.tablespace_warnings([database()]) == []
    [warning] = warnings.tablespace_warnings([database(tablespaces=False)])
    assert warning.startswith("shop was in tablespaces")


def test_roles_of_which_only_the_name_is_known_are_said():
    app = Role("app")
    [unknown] = warnings.unknown_role_warnings(MissingRoles((app,), (), ("ghost", "spectre")))
    assert "ghost, spectre" in unknown
    assert list(warnings.unknown_role_warnings(MissingRoles((app,)))) == []


def test_the_rows_of_a_database_are_all_its_tables():
    assert database().rows == 3
    assert database(row_counts=None).rows is None
    assert database(row_counts={}).rows == 0


# -- roles and extensions ----------------------------------------------------------------------------------


def test_the_first_manifest_that_knows_a_role_counts():
    def source(password, *members):
        grants = tuple(Membership("owner", member) for member in members)
        return Globals({"app": Role("app", (password,)), **{one: Role(one) for one in members}}, grants)

    merged = restore_plan._merged([source("newer", "a", "b"), source("older", "b", "c")])
    assert merged.roles["app"].definition == ("newer",)
    assert set(merged.roles) == {"app", "a", "b", "c"}
    assert [one.member for one in merged.memberships] == ["a", "b", "c"]
    assert restore_plan._merged([]).roles == {}


def test_extensions_that_the_image_lacks_are_named():
    heads = [SimpleNamespace(extensions=("hstore", "postgis")), SimpleNamespace(extensions=("hstore", "age"))]
    with pytest.raises(MissingExtensionError, match="scalr-blog-db has no extension age, postgis,"):
        restore_plan._require_extensions({"hstore": "1.8"}, RestoreRequest("c", target="scalr-blog-db"), heads)
    restore_plan._require_extensions({"hstore": "1.8", "postgis": "3.5", "age": "1.6"}, RestoreRequest("c"), heads)


def test_an_extension_that_comes_back_in_another_version_is_said():
    described = {
        "database": "shop",
        "extensions": [{"name": "pg_trgm", "version": "1.5"}, {"name": "x", "version": "1"}],
    }
    [sentence] = warnings.extension_warnings({"pg_trgm": "1.6", "x": "1"}, [described, {}])
    assert "pg_trgm of shop was 1.5 and comes back as 1.6" in sentence


def test_subscriptions_that_come_back_disabled_are_said():
    entries = [SimpleNamespace(desc="SUBSCRIPTION", tag="orders"), SimpleNamespace(desc="TABLE", tag="t")]
    [sentence] = warnings.subscription_warnings([SimpleNamespace(entries=entries)])
    assert "come back disabled: orders;" in sentence
    assert not list(warnings.subscription_warnings([SimpleNamespace(entries=entries[1:])]))


def test_a_database_that_nobody_could_rename_is_refused_beforehand():
    with pytest.raises(PreparedTransactionsError, match="shop has prepared transactions"):
        restore_plan.require_swappable("shop", LiveDatabase(1, 0, (), 2))
    restore_plan.require_swappable("shop", LiveDatabase(1, 0))
    restore_plan.require_swappable("shop", None)
