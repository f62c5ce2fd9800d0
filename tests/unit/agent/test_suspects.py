# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention against somebody who has a host, may add to its repository as he likes, and wants the good snapshots gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby

import pytest
from scalr_backup.actions.retention import run
from scalr_backup.actions.retention.memory import Memory
from scalr_backup.actions.retention.policy import policies
from scalr_backup.actions.retention.run import Retention, Wish
from scalr_backup.actions.retention.suspects import SnapshotsLook, find_suspects
from scalr_backup.actions.retention.witness import Look
from scalr_backup.core.config import Config, Keep, duration_hours
from scalr_backup.core.errors import AppendOnlyError, ForgedFilesError, ResticError, UnknownSnapshotError
from scalr_backup.core.model import MANIFEST_PATH, MANUAL, NIGHTLY, Snapshot
from scalr_backup.core.progress import nobody
from scalr_backup.tools.restic.repository import RetentionGroup
from scalr_backup.tools.state import State

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NIGHT = datetime(2026, 11, 22, 3, tzinfo=UTC)
PATH = "/scalr-shop-db/shop.dump"
OTHER = "/scalr-blog-db/blog.dump"
CONFIG = Config(host="web1", repository="/repository", keep_within="30d")

BUCKETS: dict[str, Callable[[datetime], object]] = {
    "last": lambda time: time,
    "hourly": lambda time: (time.date(), time.hour),
    "daily": lambda time: time.date(),
    "weekly": lambda time: time.isocalendar()[:2],
    "monthly": lambda time: (time.year, time.month),
    "yearly": lambda time: time.year,
}


class FakeRestic:
    """A repository whose ``forget`` decides as restic's does; a test with the real one is among those of integration."""

    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self.all = sorted(snapshots, key=lambda one: one.time)
        self.pruned = 0
        self.now = NOW

    def snapshots(self) -> list[Snapshot]:
        return list(self.all)

    def forget_plan(self, reason, keep, pinned_tag):
        chosen = sorted((one for one in self.all if reason in one.tags), key=lambda one: one.path)
        return [self._judge(path, list(group), keep) for path, group in groupby(chosen, lambda one: one.path)]

    def _judge(self, path, snapshots, keep):
        newest_first = sorted(snapshots, key=lambda one: one.time, reverse=True)
        kept = set()
        for rule, count in keep.items():
            if rule == "within":
                # restic takes no snapshot of the future for the newest.
                newest = max((one.time for one in snapshots if one.time < self.now), default=self.now)
                kept |= {one.id for one in snapshots if one.time > newest - timedelta(hours=duration_hours(count))}
                continue
            seen: list[object] = []
            for one in newest_first:
                if len(seen) < count and BUCKETS[rule](one.time) not in seen:
                    seen.append(BUCKETS[rule](one.time))
                    kept.add(one.id)
        return RetentionGroup(
            path,
            tuple(one for one in snapshots if one.id in kept),
            tuple(one for one in snapshots if one.id not in kept),
        )

    def forget_snapshots(self, ids):
        self.all = [one for one in self.all if one.id not in ids]

    def prune(self, _on_progress: object = None) -> None:
        self.pruned += 1

    def ids(self) -> set[str]:
        return {one.id for one in self.all}


@pytest.fixture(autouse=True)
def the_clock(monkeypatch):
    monkeypatch.setattr(run, "utc_now", lambda: NOW)


class Eyes:
    """A witness that sees what it is told to see."""

    def __init__(self, sees: Exception | None = None, *, read_all: bool = False) -> None:
        self.sees, self.read_all, self.done, self.seen = sees, read_all, [], Look()

    def look(self) -> None:
        if self.sees:
            raise self.sees
        self.done.append("look")

    def prune(self, _on_progress: object) -> None:
        self.done.append("prune")


def dump(name, time, *tags, path=PATH, size=100):
    return Snapshot(name, time, "web1", path, (*(tags or (NIGHTLY,)), f"run={name}"), size)


def nights(days, path=PATH, name="good"):
    """A snapshot a night, the last one of this night."""
    return [dump(f"{name}-{day:03}", NIGHT - timedelta(days=day), path=path) for day in range(days)]


def evenings(days, name="forged", *, first=0):
    """Somebody's: one after each good snapshot of a day, so that it is its day's newest."""
    return [dump(f"{name}-{day:03}", NIGHT - timedelta(days=day) + timedelta(hours=6)) for day in range(first, days)]


def forget(restic, config=CONFIG, *, memory=None, witness=None, **wishes):
    return Retention(config, restic, nobody, memory, witness=witness).forget(Wish(**wishes))


def forget_named(restic, ids, config=CONFIG, memory=None):
    return Retention(config, restic, nobody, memory).forget_named(ids)


def good(restic):
    return {one for one in restic.ids() if one.startswith("good")}


def test_honest_nights_are_judged_by_the_counts():
    restic = FakeRestic(nights(400))
    done = forget(restic, CONFIG.model_copy(update={"keep_within": ""}))
    assert done.error is None
    assert done.suspects == done.warnings == ()
    # 30 days, 4 weeks of which lie in them, and months: this one, the last one, and the 4 before them.
    assert 34 <= len(restic.all) <= 36
    assert done.kept == len(restic.all)
    assert restic.pruned == 1


def test_snapshots_of_the_future_are_never_counted():
    """One for each of the next 40 days would fill all 30 days of the policy."""
    forged = [dump(f"forged-{day}", NIGHT + timedelta(days=day)) for day in range(1, 41)]
    honest = nights(100) + nights(100, OTHER, "other")
    restic = FakeRestic(honest + forged)

    done = forget(restic)

    assert good(restic) == {one.id for one in nights(100)}, "of their path nothing goes"
    assert len([one for one in restic.ids() if one.startswith("other")]) < 50, "of the others it does"
    assert done.error is not None
    assert done.error.code == "forged_snapshots"
    assert done.error.message == (
        f"Snapshots of web1 cannot be trusted, and nothing was removed of {PATH}: 40 are dated in the future: "
        f"forged-4 of 2027-01-01 03:00 ({PATH}), forged-3 of 2026-12-31 03:00 ({PATH}), forged-3 of 2026-12-30 03:00 ({PATH}) "
        "and 37 more. Either a clock was wrong, or they are forged, which means that the host is compromised: check both "
        "before you remove them. On the host, scalr-backup forget --remove-future removes those dated in the future; from a "
        "trusted place, prune.yml does with -e remove=ID. If left alone, they count again from 2027-01-01 03:00 UTC on."
    )
    assert set(done.suspects) == {one.id for one in forged}


def test_a_look_by_a_clock_that_was_ahead_makes_no_honest_night_too_late():
    ahead = SnapshotsLook(NOW + timedelta(days=4000), frozenset({"good-001"}))
    assert find_suspects(nights(2), NOW, ahead).all == ()
    assert [one.id for one in find_suspects(nights(4), NOW, ahead).too_late] == ["good-002", "good-003"]


def test_an_hour_of_difference_between_clocks_is_none():
    assert find_suspects([dump("a", NOW + timedelta(minutes=59))], NOW, None).all == ()
    assert find_suspects([dump("a", NOW + timedelta(minutes=61))], NOW, None).all != ()


def test_a_flood_of_backdated_snapshots_takes_nothing_within_the_time():
    honest = nights(31)
    restic = FakeRestic(honest + evenings(31))
    forget(restic)
    assert good(restic) >= {one.id for one in honest[:30]}


def test_without_that_time_the_flood_would_take_them():
    restic = FakeRestic(nights(31) + evenings(31))
    forget(restic, CONFIG.model_copy(update={"keep_within": ""}))
    assert good(restic) == set(), "or this test proves nothing"


def test_a_flood_of_every_hour_takes_nothing_either():
    hours = [dump(f"forged-{hour}", NIGHT - timedelta(hours=hour, minutes=-30)) for hour in range(1000)]
    restic = FakeRestic(nights(30) + hours)
    forget(restic, CONFIG.model_copy(update={"keep": Keep(last=5, hourly=24, daily=7, weekly=2, monthly=2)}))
    assert good(restic) == {one.id for one in nights(30)}


def test_who_remembers_tells_what_came_too_late(tmp_path):
    """Beyond the time in which everything stays, only a memory tells the forged day's newest from the good one."""
    memory = Memory(State(tmp_path), "repo", "web1")
    restic = FakeRestic(nights(200))
    assert forget(restic, memory=memory).error is None
    before = good(restic)

    # Just those that the policy would take instead: of the days that are kept for their weeks and months.
    forged = evenings(200, first=2)
    restic.all += forged
    for _again in range(2):
        done = forget(restic, memory=memory)
        assert good(restic) == before
        assert set(done.suspects) == {one.id for one in forged}, "until somebody removes them"
        assert "198 are older than the last look here, but were not there then" in done.error.message

    forget_named(restic, [one.id for one in forged])
    done = forget(restic, memory=memory)
    assert done.error is None
    assert done.warnings == ()
    assert good(restic) == before


def test_without_a_memory_that_flood_would_take_them():
    restic = FakeRestic(nights(200))
    forget(restic)
    before = good(restic)
    restic.all += evenings(200, first=2)
    forget(restic)
    assert good(restic) < before, "or the test above proves nothing"


def test_what_a_wrong_clock_dated_in_the_future_goes_on_request_and_retention_goes_on():
    ahead = [
        replace(dump(name, NOW + timedelta(days=days)), tags=(*tags, NIGHTLY, f"run={days}"), path=path)
        for name, days, tags, path in (
            ("shop ahead", 1, (), PATH),
            ("pinned ahead", 2, ("pinned",), PATH),
            ("manifest ahead", 1, (), MANIFEST_PATH),
        )
    ]
    restic = FakeRestic([*nights(40), *ahead])
    before = restic.ids()
    refused = forget(restic)
    assert refused.error.code == "forged_snapshots"
    assert "scalr-backup forget --remove-future" in refused.error.message
    assert "count again from 2026-11-24 12:00 UTC on" in refused.error.message
    assert forget(restic, remove_future=True, dry_run=True).removed[:3] == (
        "shop ahead",
        "pinned ahead",
        "manifest ahead",
    )
    assert restic.ids() == before
    done = forget(restic, remove_future=True)
    assert done.error is None
    assert not restic.ids() & {one.id for one in ahead}
    assert len(done.removed) > len(ahead), "the policy was applied too"


def test_an_empty_dump_of_the_future_is_no_databases_only_good_one():
    ahead = replace(dump("ahead", NOW + timedelta(days=1)), path=OTHER, dump_bytes=0)
    manifest = replace(ahead, id="its manifest", path=MANIFEST_PATH, dump_bytes=9)
    restic = FakeRestic([*nights(3), ahead, manifest])
    assert forget(restic, remove_future=True).error is None
    assert not restic.ids() & {"ahead", "its manifest"}


def test_the_only_good_dump_of_a_database_stays_however_it_is_dated():
    ahead = replace(dump("only", NOW + timedelta(days=1)), path=OTHER, tags=(NIGHTLY, "run=x"))
    manifest = replace(ahead, id="its manifest", path=MANIFEST_PATH)
    safety = replace(dump("safety", NIGHT), path=OTHER, tags=("pre-restore",))
    empty = replace(dump("empty", NIGHT), path=OTHER, dump_bytes=0)
    restic = FakeRestic([*nights(3), ahead, manifest, safety, empty])
    done = forget(restic, remove_future=True)
    assert {"only", "its manifest"} <= restic.ids()
    assert done.suspects == ("only", "its manifest")


def test_a_sentence_names_a_few_paths_of_many():
    many = [replace(dump(f"d{n}", NOW + timedelta(days=1)), path=f"/c/d{n}.dump") for n in range(200)]
    message = forget(FakeRestic(many)).error.message
    assert "removed of /c/d0.dump, /c/d1.dump, /c/d10.dump and 197 more: 200 are dated" in message


def test_what_came_late_honestly_can_be_accepted(tmp_path):
    memory = Memory(State(tmp_path), "repo", "web1")
    restic = FakeRestic(nights(3))
    forget(restic, memory=memory)
    restic.all += [dump("copied", NIGHT - timedelta(days=5))]
    assert forget(restic, memory=memory).suspects == ("copied",)
    assert forget(restic, memory=memory, accept_late=True).error is None
    assert forget(restic, memory=memory).error is None, "it is known from then on"
    assert "copied" in restic.ids()


def test_a_dump_that_took_long_is_not_late(tmp_path):
    last = SnapshotsLook(NOW - timedelta(hours=2), frozenset())
    assert find_suspects([dump("long", NOW - timedelta(hours=20))], NOW, last).all == ()
    assert find_suspects([dump("late", NOW - timedelta(hours=27))], NOW, last).all != ()


def test_what_is_gone_without_our_doing_keeps_everything_until_somebody_has_looked(tmp_path):
    memory = Memory(State(tmp_path), "repo", "web1")
    restic = FakeRestic(nights(3))
    forget(restic, memory=memory)
    restic.forget_snapshots(["good-001"])
    restic.pruned = 0
    for _night in range(2):
        with pytest.raises(
            ForgedFilesError, match="1 snapshots of web1 that were here on 2026-11-22 12:00 UTC are gone"
        ):
            forget(restic, memory=memory)
    assert restic.pruned == 0
    assert forget(restic, memory=memory, witness=Eyes(read_all=True)).error is None
    assert forget(restic, memory=memory).error is None


class Failing(FakeRestic):
    """A restic that fails at one of its calls."""

    at = ""

    def forget_snapshots(self, ids):
        super().forget_snapshots(ids)
        if ids and self.at == "forget":
            raise ResticError("killed")

    def prune(self, on_progress: object = None) -> None:
        if self.at == "prune":
            raise ResticError("locked")
        super().prune(on_progress)


@pytest.mark.parametrize("at", ["forget", "prune"])
def test_what_was_there_and_we_set_out_to_remove_is_not_missed(tmp_path, at):
    memory = Memory(State(tmp_path), "repo", "web1")
    restic = Failing(nights(60))
    assert not forget(restic, CONFIG.model_copy(update={"keep_within": "90d"}), memory=memory).removed
    restic.at = at
    with pytest.raises(ResticError):
        forget(restic, memory=memory)
    assert len(restic.all) < 60
    restic.at = ""
    assert forget(restic, memory=memory).error is None
    assert memory.recall().going == frozenset()


def test_what_an_earlier_release_did_not_write_down_is_told_once_and_ends_nothing(tmp_path):
    state = State(tmp_path)
    state.record_look("repo/web1", {"time": NOW.isoformat(), "ids": ["good-000", "gone"]})
    memory, restic = Memory(state, "repo", "web1"), Failing(nights(60))
    restic.at = "forget"
    with pytest.raises(ResticError):
        forget(restic, memory=memory, accept_late=True)
    restic.at = ""
    assert forget(restic, memory=memory, accept_late=True).warnings == ()

    state.record_look("repo/web1", {"time": NOW.isoformat(), "ids": ["good-000", "gone"]})
    [warning] = forget(restic, memory=memory, accept_late=True).warnings
    assert "1 snapshots of web1 that were here on 2026-11-22 12:00 UTC are gone: gone. If the last prune.yml" in warning
    assert forget(restic, memory=memory).warnings == ()


def test_having_everything_read_again_accepts_a_loss_although_the_run_then_fails(tmp_path):
    memory = Memory(State(tmp_path), "repo", "web1")
    restic = FakeRestic(nights(3))
    forget(restic, memory=memory)
    restic.forget_snapshots(["good-001"])
    with pytest.raises(ResticError):
        forget(restic, memory=memory, witness=Eyes(ResticError("no answer"), read_all=True))
    assert forget(restic, memory=memory, witness=Eyes()).error is None


def test_nothing_goes_before_a_witness_has_looked_and_only_it_prunes(tmp_path):
    memory = Memory(State(tmp_path), "repo", "web1")
    restic, blind = FakeRestic(nights(40)), Eyes(ForgedFilesError("an index lies"))
    with pytest.raises(ForgedFilesError):
        forget(restic, memory=memory, witness=blind)
    with pytest.raises(ForgedFilesError):
        forget(restic, memory=memory, witness=blind, dry_run=True)
    assert len(restic.all) == 40
    seeing = Eyes()
    forgotten = forget(restic, memory=memory, witness=seeing)
    assert forgotten.removed
    assert seeing.done == ["look", "prune"]
    assert forgotten.as_dict()["look"]["packs"] == 0


def test_what_we_have_removed_by_its_id_is_not_missed(tmp_path):
    memory = Memory(State(tmp_path), "repo", "web1")
    restic = FakeRestic(nights(3))
    forget(restic, memory=memory)
    forget_named(restic, ["good-001"], memory=memory)
    assert forget(restic, memory=memory).warnings == ()


def test_a_dry_run_changes_and_remembers_nothing(tmp_path):
    memory = Memory(State(tmp_path), "repo", "web1")
    restic = FakeRestic([*nights(60), dump("empty", NIGHT, size=0)])
    before = restic.ids()
    done = forget(restic, memory=memory, dry_run=True)
    assert "empty" in done.removed
    assert len(done.removed) > 20
    assert restic.ids() == before
    assert restic.pruned == 0
    assert not done.pruned
    assert memory.recall() is None


def test_an_empty_snapshot_is_nobodys_newest_and_goes():
    """What a failed dump leaves on a host that removes nothing."""
    days = nights(40)
    empties = [dump(f"empty-{day}", NIGHT - timedelta(days=day) + timedelta(hours=1), size=0) for day in range(40)]
    restic = FakeRestic(days + empties)
    done = forget(restic, CONFIG.model_copy(update={"keep_within": ""}))
    assert not {one for one in restic.ids() if one.startswith("empty")}
    assert {one.id for one in days[:30]} <= good(restic)
    assert done.error is None


@pytest.mark.parametrize("age", [0, 31])
def test_an_empty_snapshot_that_is_pinned_takes_no_good_ones_place(age):
    """A host that only adds may pin as it backs up: eight nights of nothing would be the newest ones, and stay for ever."""
    honest = [dump(f"good-{day}", NIGHT - timedelta(days=day)) for day in range(31, 39)]
    pinned = [
        dump(f"empty-{day}", NIGHT - timedelta(days=day, hours=-1), NIGHTLY, "pinned", size=0)
        for day in range(age, age + 8)
    ]
    restic = FakeRestic(honest + pinned)
    done = forget(restic, CONFIG.model_copy(update={"keep": Keep(daily=7), "keep_within": "1d"}))
    assert good(restic) == {one.id for one in honest[:7]}
    assert restic.ids() == good(restic)
    assert done.error is None


def test_a_dump_of_unknown_size_is_not_taken_for_empty():
    restic = FakeRestic([replace(dump("old-restic", NIGHT), dump_bytes=None)])
    assert forget(restic).removed == ()


def test_manifests_stay_while_one_is_forged():
    orphan = dump("orphan", NIGHT - timedelta(days=50), path=MANIFEST_PATH)
    forged = dump("forged", NIGHT + timedelta(days=50), path=MANIFEST_PATH)
    restic = FakeRestic([*nights(2), orphan, forged])
    done = forget(restic)
    assert {"orphan", "forged"} <= restic.ids()
    assert done.suspects == ("forged",)
    restic.forget_snapshots(["forged"])
    assert forget(restic).removed == ("orphan",)


def test_only_the_paths_of_a_pass_are_judged():
    restic = FakeRestic([*nights(100), *nights(100, OTHER, "other"), dump("empty", NIGHT, path=OTHER, size=0)])
    forget(restic, only_paths={PATH})
    assert len(good(restic)) < 50
    assert len([one for one in restic.ids() if one.startswith("other")]) == 100
    assert "empty" in restic.ids()


@pytest.mark.parametrize("call", [forget, lambda restic, config: forget_named(restic, ["good-000"], config)])
def test_a_host_that_only_adds_removes_nothing(call):
    restic = FakeRestic(nights(100))
    with pytest.raises(AppendOnlyError, match=r"web1 is append-only .* run prune\.yml") as refused:
        call(restic, CONFIG.model_copy(update={"append_only": True}))
    assert "\n" not in refused.value.message
    assert len(restic.all) == 100


def test_a_host_that_only_adds_may_tell_what_would_go():
    restic = FakeRestic(nights(100))
    assert forget(restic, CONFIG.model_copy(update={"append_only": True}), dry_run=True).removed
    assert len(restic.all) == 100


@pytest.mark.parametrize(("wanted", "sentence"), [("good-00", "10 snapshots"), ("none", "No snapshots"), ("", "No")])
def test_an_id_must_name_one_snapshot(wanted, sentence):
    restic = FakeRestic(nights(20))
    with pytest.raises(UnknownSnapshotError, match=f"{sentence}.*nothing was removed"):
        forget_named(restic, ["good-001", wanted])
    assert len(restic.all) == 20


def test_the_longer_of_two_times_counts():
    assert policies({"daily": 3}, "90d") == {
        NIGHTLY: {"daily": 3, "within": "90d"},
        MANUAL: {"daily": 3, "within": "90d"},
        "pre-restore": {"within": "90d"},
    }
    assert policies({"daily": 3}, "2d")[MANUAL]["within"] == "7d"
