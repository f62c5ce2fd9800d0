from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scalr_backup.actions.backup.result import PassRequest
from scalr_backup.actions.restore.verify import different_counts
from scalr_backup.core.errors import UsageError
from scalr_backup.core.model import dump_path, is_run_id, kept_since, new_run_id, old_name, parse_dump_path
from scalr_backup.core.sql import connection_string, cut_name, quote_identifier, quote_literal
from scalr_backup.tools.restic.messages import parse_snapshot, parse_version

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63)


@given(NAMES)
def test_every_database_name_survives_its_path(name):
    path = dump_path("scalr-shop-db", name)
    assert parse_dump_path(path) == ("scalr-shop-db", name)
    assert path.count("/") == 2


def test_ordinary_names_stand_as_they_are():
    assert dump_path("scalr-shop-db", "My shop's -ü") == "/scalr-shop-db/My shop's -ü.dump"
    assert dump_path("c", "a/b%\n") == "/c/a%2Fb%25%0A.dump"


@pytest.mark.parametrize("path", ["/manifest.json", "/a/b/c.dump", "/a/b", "a/b.dump", "//b.dump"])
def test_other_paths_are_no_dumps(path):
    assert parse_dump_path(path) is None


@pytest.mark.parametrize("name", ["shop", "odd_before_restore_x", "x" * 80, "größer" * 20, "two\nlines"])
def test_what_a_restore_keeps_is_known_by_its_name(name):
    run = "20261122T030000Z-3f9a"
    for kept in (old_name(name, run), cut_name(name, f"_restored_{run.lower()}")):
        assert kept_since(kept) == datetime(2026, 11, 22, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "name",
    [
        "shop_restored_items",
        "shop_before_restore_",
        "shop_before_restore_2026",
        "shop_before_restore_20261122T030000Z-3f9a",
        "shop_before_restore_20261322t030000z-3f9a",
        "shop_before_restore_20261122t030000z-3f9a_2",
        "shop_restored_20261122t030000z",
        "_restored_20261122t030000z-3f9a",
        "restored_20261122t030000z-3f9a",
        "shop 20261122t030000z-3f9a",
    ],
)
def test_a_users_database_that_only_sounds_alike_is_backed_up(name):
    assert kept_since(name) is None


def test_run_ids_sort_by_time():
    run = new_run_id(datetime(2026, 11, 22, 3, tzinfo=UTC))
    assert run.startswith("20261122T030000Z-")
    assert is_run_id(run)
    assert not is_run_id(run + "x")


@pytest.mark.parametrize("tag", ["", "a,b", "nightly", "pre-restore", "run=x", " a"])
def test_tags_that_would_lie_are_refused(tag):
    with pytest.raises(UsageError):
        PassRequest(tags=(tag,))


def test_an_unknown_reason_is_refused():
    with pytest.raises(UsageError, match="nightly, manual"):
        PassRequest(reason="because")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("restic 0.19.1 compiled with go1.25 on linux/amd64", (0, 19, 1)),
        ("restic 0.16.4 compiled with go1.21", (0, 16, 4)),
        ("", None),
        ("busybox", None),
    ],
)
def test_versions(text, version):
    assert parse_version(text) == version


def test_a_snapshot_out_of_restics_json():
    one = parse_snapshot(
        {
            "id": "a" * 64,
            "time": "2026-11-22T03:00:00.123456789+01:00",
            "hostname": "h",
            "paths": ["/c/d.dump"],
            "tags": ["c", "run=r", "nightly"],
            "summary": {"total_bytes_processed": 7},
        }
    )
    assert (one.container, one.database, one.run, one.reason, one.dump_bytes) == ("c", "d", "r", "nightly", 7)
    assert one.time.isoformat() == "2026-11-22T03:00:00.123456+01:00"


@pytest.mark.parametrize(
    "text",
    [
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "10000-01-01T00:00:00Z",
        "",
        "2026-11-22T03:00:00",
    ],
)
def test_a_time_that_is_none_is_of_the_future_and_can_be_told_in_each_zone(text):
    one = parse_snapshot({"id": "a" * 64, "time": text, "paths": None})
    assert one.is_from_the_future(datetime(2026, 11, 22, tzinfo=UTC))
    for zone in ("Pacific/Kiritimati", "America/Los_Angeles"):
        assert one.time.astimezone(ZoneInfo(zone)).year == 9999
    assert one.path == ""


def test_quoting():
    assert quote_identifier('a"b') == '"a""b"'
    assert quote_literal("it's") == "'it''s'"
    assert quote_literal("a\\b") == " E'a\\\\b'"
    assert connection_string("a'b\\c") == "dbname='a\\'b\\\\c'"


def test_different_counts_names_both():
    assert different_counts({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 0}) == [
        "b: 2 expected, 3 restored",
        "c: no table expected, 0 restored",
    ]
