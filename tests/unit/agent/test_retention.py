from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.retention import run
from scalr_backup.actions.retention.pins import pin
from scalr_backup.actions.retention.policy import (
    choose_removable,
    count_kept,
    explain,
    newest_by_path,
    orphaned_manifests,
    policies,
)
from scalr_backup.core.config import Config, Keep
from scalr_backup.core.errors import AmbiguousSnapshotError, AppendOnlyError, UnknownSnapshotError
from scalr_backup.core.model import MANUAL, NIGHTLY, PRE_RESTORE, Snapshot
from scalr_backup.tools.restic.repository import RetentionGroup

from tests.unit.agent.test_suspects import CONFIG, FakeRestic, dump, forget, good, nights

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


def test_an_empty_snapshot_is_never_the_newest_good_one_and_its_pin_counts_for_nothing():
    good, empty = snapshot("good", 40, NIGHTLY), replace(snapshot("empty", 0, NIGHTLY, "pinned"), dump_bytes=0)
    assert choose_removable([RetentionGroup(PATH, (empty,), (good,))], [good, empty]) == []
    for judged, why in (([good], "newest good backup"), ([], "its database was not saved in this pass")):
        told = explain([good, empty], [], judged, (), [])
        assert [one.why for one in told] == [("its database was not saved in this pass",), (why,)]
        assert count_kept(told)["scalr-shop-db/shop"]["snapshots"] == 1, "what holds nothing is not kept"


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


def test_each_dump_is_told_why_it_stays_or_goes():
    new, weekly, old = snapshot("new", 0, NIGHTLY), snapshot("weekly", 6, NIGHTLY), snapshot("old", 40, NIGHTLY)
    pinned, empty = snapshot("pinned", 50, NIGHTLY, "pinned"), Snapshot("empty", NOW, "h", PATH, (NIGHTLY,), 0)
    odd = snapshot("odd", 3, "imported")
    forged, other = snapshot("forged", -400, NIGHTLY, path="/c/f.dump"), snapshot("other", 1, path="/c/o.dump")
    manifest = snapshot("manifest", 0, path="/manifest.json")
    group = RetentionGroup(
        PATH,
        (new, weekly, pinned),
        (old,),
        {
            "new": ("daily snapshot", "weekly snapshot"),
            "weekly": ("weekly snapshot",),
            "pinned": ("has tags [pinned]",),
        },
    )
    everything = [new, weekly, old, pinned, empty, odd, forged, other, manifest]
    judged = [new, weekly, old, pinned, empty, odd]
    told = explain(everything, [group], judged, {"/c/f.dump"}, ["old", "empty"])
    assert {one.snapshot.id: (one.keep, one.why) for one in told} == {
        "new": (True, ("newest good backup", "daily snapshot", "weekly snapshot")),
        "weekly": (True, ("weekly snapshot",)),
        "old": (False, ("no rule keeps it",)),
        "pinned": (True, ("pinned",)),
        "empty": (False, ("holds nothing",)),
        "odd": (True, ("no rule applies to it",)),
        "forged": (True, ("its database has a snapshot with an impossible time",)),
        "other": (True, ("its database was not saved in this pass",)),
    }
    assert [one.snapshot.id for one in told if one.snapshot.path == PATH][-2:] == ["old", "pinned"], "the newest first"
    assert count_kept(told) == {
        "c/f": {"snapshots": 1, "why": {"other": 1}},
        "c/o": {"snapshots": 1, "why": {"other": 1}},
        "scalr-shop-db/shop": {"snapshots": 4, "why": {"daily": 1, "weekly": 1, "other": 1, "pinned": 1}},
    }


@pytest.fixture
def pass_at(monkeypatch):
    """A pass at a moment, by the clock of its host and of its restic."""

    def saves(restic, moment, config, *tags):
        restic.now = moment + timedelta(minutes=1)
        monkeypatch.setattr(run, "utc_now", lambda: restic.now)
        restic.all.append(dump(f"good {moment:%Y-%m-%d}", moment, *tags))
        return forget(restic, config)

    return saves


AHEAD = datetime(2038, 1, 1, 3, tzinfo=UTC)
BY_TIME_ALONE = CONFIG.model_copy(update={"keep": Keep(last=1, daily=0, weekly=0, monthly=0)})


@pytest.mark.parametrize("days", [1, 8])
@pytest.mark.parametrize("leap", [AHEAD, NOW + timedelta(days=20)])
def test_a_clock_that_is_ahead_for_some_nights_takes_nothing_within_the_time(pass_at, leap, days):
    """A safety snapshot has no other rule that keeps it."""
    safety = [dump(f"good safety {day}", NOW - timedelta(days=day, hours=-9), "pre-restore") for day in (12, 40)]
    honest = nights(40)
    restic = FakeRestic([*honest, *safety])
    for day in range(days):
        pass_at(restic, leap + timedelta(days=day), BY_TIME_ALONE)
        assert good(restic) >= {one.id for one in (*honest[:30], *safety)}
    pass_at(restic, leap + timedelta(days=days, hours=-20), BY_TIME_ALONE, "pre-restore")
    assert good(restic) >= {one.id for one in (*honest[:30], *safety)}


def test_what_was_within_the_time_before_a_host_was_off_goes_once_it_has_run_for_some_days(pass_at):
    restic = FakeRestic(nights(40))
    for day in range(30, 38):
        pass_at(restic, NOW + timedelta(days=day), BY_TIME_ALONE)
    assert "good-025" in restic.ids()
    decisions = forget(restic, BY_TIME_ALONE, dry_run=True).decisions
    assert next(one.why for one in decisions if one.snapshot.id == "good-025") == ("within the time before a long gap",)
    last = pass_at(restic, NOW + timedelta(days=38), BY_TIME_ALONE)
    assert "good-025" in last.removed


class TaggedRestic:
    """A repository that only changes tags."""

    def __init__(self, *snapshots):
        self.all, self.calls = snapshots, []

    def snapshots(self):
        return list(self.all)

    def tag(self, name, *, add=None, remove=None):
        self.calls.append((name, add, remove))
        return "new-id"


class TestPins:
    CONFIG = Config(host="web1", repository="s3:https://s3.test/b")

    def test_a_pinned_snapshot_gets_another_id_which_is_told(self):
        restic = TaggedRestic(snapshot("aa1", 1), snapshot("bb2", 2))
        done = pin(self.CONFIG, restic, "aa", pinned=True)
        assert (done.id, done.was, done.changed) == ("new-id", "aa1", True)
        assert restic.calls == [("aa1", "pinned", None)]

    def test_what_holds_nothing_is_not_pinned_since_it_goes_nevertheless(self):
        restic = TaggedRestic(
            replace(snapshot("aa1", 1), dump_bytes=0), replace(snapshot("bb2", 1, "pinned"), dump_bytes=0)
        )
        with pytest.raises(UnknownSnapshotError, match="aa1 of scalr-shop-db/shop holds nothing"):
            pin(self.CONFIG, restic, "aa1", pinned=True)
        assert pin(self.CONFIG, restic, "bb2", pinned=False).changed

    def test_it_is_found_by_the_id_that_it_had_before_and_unpinned(self):
        one = Snapshot("bb2", NOW, "h", PATH, ("pinned",), 1, original="aa1")
        restic = TaggedRestic(one)
        assert pin(self.CONFIG, restic, "aa1", pinned=False).changed
        assert restic.calls == [("bb2", None, "pinned")]

    def test_what_is_so_already_and_a_look_change_nothing(self):
        restic = TaggedRestic(snapshot("aa1", 1, "pinned"), snapshot("bb2", 2))
        assert not pin(self.CONFIG, restic, "aa1", pinned=True).changed
        assert pin(self.CONFIG, restic, "bb2", pinned=True, dry_run=True).changed
        assert restic.calls == []

    @pytest.mark.parametrize(
        ("wanted", "error"), [("cc", UnknownSnapshotError), ("", UnknownSnapshotError), ("a", AmbiguousSnapshotError)]
    )
    def test_an_id_that_fits_none_or_several_is_refused(self, wanted, error):
        restic = TaggedRestic(snapshot("aa1", 1), snapshot("ab2", 2), snapshot("cc3", 3, path="/manifest.json"))
        with pytest.raises(error):
            pin(self.CONFIG, restic, wanted, pinned=True)

    def test_a_host_that_only_adds_pins_only_in_its_copy(self):
        only_adds = self.CONFIG.model_copy(update={"append_only": True})
        with pytest.raises(AppendOnlyError, match="back up with the tag pinned instead"):
            pin(only_adds, TaggedRestic(), "aa", pinned=True)
        assert pin(only_adds, TaggedRestic(snapshot("aa1", 1)), "aa", pinned=True, anywhere=True).changed
