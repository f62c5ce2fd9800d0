from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scalr_backup.model import MANUAL, NIGHTLY, PRE_RESTORE, Snapshot
from scalr_backup.restic import RetentionGroup
from scalr_backup.retention import choose_removable, newest_by_path, orphaned_manifests, policies

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
PATH = "/scalr-shop-db/shop.dump"


def snapshot(name, days_ago, *tags, path=PATH, run=None):
    return Snapshot(name, NOW - timedelta(days=days_ago), "h", path, (*tags, f"run={run or name}"), 100)


def test_every_manual_snapshot_stays_for_a_week_beside_the_rules():
    asked = policies({"daily": 3})
    assert asked == {
        NIGHTLY: {"daily": 3},
        MANUAL: {"daily": 3, "within": "7d"},
        PRE_RESTORE: {"within": "30d"},
    }


def test_what_the_policy_removes_goes():
    old, new = snapshot("old", 40, NIGHTLY), snapshot("new", 0, NIGHTLY)
    assert choose_removable([RetentionGroup(PATH, (new,), (old,))], [old, new]) == ["old"]


def test_what_is_not_sound_is_left_alone():
    old, new = snapshot("old", 40, NIGHTLY), snapshot("new", 0, NIGHTLY)
    assert choose_removable([RetentionGroup(PATH, (new,), (old,))], []) == []


def test_the_last_good_snapshot_stays_whatever_the_policy_says():
    only = snapshot("only", 400, NIGHTLY)
    later = snapshot("later", 1, PRE_RESTORE)
    group = RetentionGroup(PATH, (), (only,))
    assert choose_removable([group], [only]) == []
    assert choose_removable([group], [only, later]) == [], "a safety snapshot does not replace a good one"


def test_a_pinned_snapshot_stays():
    pinned, new = snapshot("old", 400, NIGHTLY, "pinned"), snapshot("new", 0, NIGHTLY)
    assert choose_removable([RetentionGroup(PATH, (new,), (pinned,))], [pinned, new]) == []


def test_newest_by_path_prefers_regular_dumps():
    regular, safety = snapshot("regular", 2, MANUAL), snapshot("safety", 1, PRE_RESTORE)
    assert newest_by_path([safety, regular]) == {PATH: "regular"}
    assert newest_by_path([safety]) == {PATH: "safety"}


def test_a_manifest_lives_as_long_as_a_dump_of_its_run():
    dump = snapshot("dump", 1, NIGHTLY, run="r1")
    kept = snapshot("kept", 1, NIGHTLY, path="/manifest.json", run="r1")
    orphan = snapshot("orphan", 9, NIGHTLY, path="/manifest.json", run="r0")
    assert orphaned_manifests([dump, kept, orphan], []) == ["orphan"]
    assert set(orphaned_manifests([dump, kept, orphan], ["dump"])) == {"kept", "orphan"}


def test_manifests_are_never_judged_by_the_policy():
    manifest = snapshot("manifest", 40, NIGHTLY, path="/manifest.json")
    assert choose_removable([RetentionGroup("/manifest.json", (), (manifest,))], [manifest]) == []
