# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.restore.selection import LATEST, nobody_knows, of_database, select
from scalr_backup.core.errors import (
    AmbiguousSnapshotError,
    ScalrBackupError,
    UnknownDatabaseError,
    UnknownSnapshotError,
    UsageError,
)
from scalr_backup.core.model import MANUAL, NIGHTLY, PRE_RESTORE, Snapshot

C = "scalr-shop-db"
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def snapshot(id_, time, database="shop", container=C, reason=NIGHTLY, run="r1"):
    moment = datetime.fromisoformat(time).replace(tzinfo=UTC)
    tags = (container, reason) if run is None else (container, reason, f"run={run}")
    return Snapshot(id_.ljust(64, "0"), moment, "h", f"/{container}/{database}.dump", tags, 100)


MONDAY = [
    snapshot("aa11", "2026-11-16T03:00:04.5", run="mon"),
    snapshot("aa22", "2026-11-16T03:00:09", "ledger", run="mon"),
]
TUESDAY = [
    snapshot("bb11", "2026-11-17T03:00:04", run="tue"),
    snapshot("bb22", "2026-11-17T03:00:09", "ledger", run="tue"),
]
SAFETY = snapshot("cc11", "2026-11-17T10:00:00", reason=PRE_RESTORE, run="res")
STRANGER = snapshot("dd11", "2026-11-17T03:00:12", container="scalr-blog-db", database="blog", run="tue")
MANIFEST = Snapshot(
    "ee11".ljust(64, "0"), TUESDAY[1].time + timedelta(seconds=9), "h", "/manifest.json", ("run=tue",), 9
)
ALL = [*MONDAY, *TUESDAY, SAFETY, STRANGER, MANIFEST]


def ids(wanted=LATEST, database=None, timezone="UTC", snapshots=ALL, container=C, listed=nobody_knows):
    return [one.id[:4] for one in select(snapshots, container, database, wanted, timezone, NOW, listed).snapshots]


def refusal(kind, *arguments, **options):
    with pytest.raises(ScalrBackupError) as caught:
        ids(*arguments, **options)
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message
    return caught.value.message


def test_latest_is_the_newest_of_every_database():
    assert ids() == ["bb22", "bb11"]


def test_latest_never_is_what_a_restore_replaced():
    assert ids(database="shop") == ["bb11"]
    message = refusal(UnknownSnapshotError, snapshots=[SAFETY])
    assert "cc11" in message
    assert "choose one by its id" in message
    assert ids("cc11", snapshots=[SAFETY]) == ["cc11"]


def test_a_time_never_is_what_a_restore_replaced():
    assert ids("2026-11-17 12:00", database="shop") == ["bb11"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("2026-11-17T03:00:04", ["bb11"]),
        ("2026-11-17T03:00:03", ["aa11"]),
        # The moment of a list, which shows no fractions.
        ("2026-11-16 03:00:04", ["aa11"]),
        ("2026-11-16 03:00:04.499999+00:00", None),
        ("2026-11-16 03:00:04.500000+00:00", ["aa11"]),
        ("2026-11-16 03:00", ["aa11"]),
        ("20261116T030004", ["aa11"]),
        ("20261116T030003", None),
        ("2026-11-16 02:59", None),
        ("2026-11-16T04:00+01:00", ["aa11"]),
        ("2026-11-16T04:00:03+01:00", None),
        # A day is meant to its end.
        ("2026-11-16", ["aa11"]),
        ("20261116", ["aa11"]),
        ("2026-11-15", None),
        ("2099-01-01", ["bb11"]),
    ],
)
def test_a_time_is_the_newest_at_or_before(wanted, found):
    if found is None:
        assert "at or before" in refusal(UnknownSnapshotError, wanted, database="shop")
    else:
        assert ids(wanted, database="shop") == found


def test_a_time_without_offset_is_in_the_configured_zone():
    # 03:00:04 UTC is 04:00:04 in Paris.
    assert ids("2026-11-17 04:00:04", "shop", "Europe/Paris") == ["bb11"]
    assert ids("2026-11-17 04:00:03", "shop", "Europe/Paris") == ["aa11"]
    assert "of 2026-11-17 04:00:04" in refusal(UnknownSnapshotError, "noon", "shop", "Europe/Paris")


def test_every_listed_time_finds_its_snapshot():
    message = refusal(UnknownSnapshotError, "2001-01-01", "shop", "America/St_Johns")
    listed = [part.split(" of ") for part in message.partition("there are ")[2].partition(" (times")[0].split(", ")]
    assert len(listed) == 3
    for short_id, time in listed:
        if not short_id.startswith("cc11"):
            assert ids(time, "shop", "America/St_Johns") == [short_id[:4]]


def test_a_day_that_is_longer_than_others_is_meant_to_its_end():
    late = snapshot("ff11", "2026-10-25T22:59:00", run="oct")  # 23:59 in Paris, on a day of 25 hours
    assert ids("2026-10-25", "shop", "Europe/Paris", [late]) == ["ff11"]


def test_an_id_or_its_beginning_is_that_one_snapshot():
    assert ids("aa2") == ["aa22"]
    assert ids(MONDAY[0].id) == ["aa11"]
    assert ids("aa11", database="shop") == ["aa11"]


def test_ambiguous_and_unknown_ids():
    message = refusal(AmbiguousSnapshotError, "aa")
    assert "aa11" in message
    assert "aa22" in message
    assert "there are" in refusal(UnknownSnapshotError, "0123abcd")
    assert refusal(UnknownSnapshotError, MONDAY[0].id + "0")


def test_an_id_of_something_else():
    assert "/scalr-blog-db/blog.dump" in refusal(UnknownSnapshotError, "dd11")
    assert "/manifest.json" in refusal(UnknownSnapshotError, "ee11")
    assert f"not {C}/shop" in refusal(UnknownSnapshotError, "aa22", database="shop")


def test_unknown_containers_and_databases_say_what_there_is():
    message = refusal(UnknownDatabaseError, container="scalr-typo-db")
    assert C in message
    assert "scalr-blog-db" in message
    assert "ledger, shop" in refusal(UnknownDatabaseError, database="typo")
    assert "nothing" in refusal(UnknownDatabaseError, snapshots=[])


def test_a_snapshot_that_plain_restic_made_counts_for_its_database():
    plain = snapshot("ab99", "2026-11-18T03:00:00", run=None, reason=MANUAL)
    assert ids(snapshots=[*MONDAY, plain]) == ["aa22", "ab99"]


# -- passes that did not save everything -------------------------------------------------------------------

PARTIAL = [*MONDAY, TUESDAY[0]]


def listing(**runs):
    """What the manifests of runs list, and a note of who was asked."""
    asked = []

    def listed(run):
        asked.append(run)
        names = runs.get(run)
        return None if names is None else frozenset(names)

    listed.asked = asked
    return listed


def choose(snapshots=PARTIAL, wanted=LATEST, database=None, now=NOW, **runs):
    return select(snapshots, C, database, wanted, "UTC", now, listing(**runs))


@pytest.mark.parametrize(
    "runs",
    [
        # Its dump failed; the pass was killed; an agent before 0.4 made both.
        {"tue": ["shop", "ledger"], "mon": ["shop", "ledger"]},
        {"mon": ["shop", "ledger"]},
        {},
    ],
)
def test_a_database_that_the_newest_pass_did_not_save_comes_from_the_one_before(runs):
    chosen = choose(**runs)
    assert [one.id[:4] for one in chosen.snapshots] == ["aa22", "bb11"]
    assert chosen.warnings == (
        "ledger comes from another pass, of 2026-11-16 03:00 (UTC): the pass of 2026-11-17 03:00 (UTC) saved no snapshot of it.",
    )
    assert chosen.missing == ()


def test_a_database_that_a_newer_pass_did_not_find_was_dropped_which_is_told():
    chosen = choose(tue=["shop"], mon=["shop", "ledger"])
    assert [one.id[:4] for one in chosen.snapshots] == ["bb11"]
    assert chosen.warnings == (
        "ledger is not restored, because the pass of 2026-11-17 03:00 (UTC) no longer found it; its last snapshot is "
        "aa220000 of 2026-11-16 03:00 (UTC): name it with database=ledger if you want it back.",
    )
    assert [one.id[:4] for one in choose(database="ledger", tue=["shop"]).snapshots] == ["aa22"]


def test_a_database_that_was_made_after_the_pass_that_tells_is_none_that_was_dropped():
    killed = snapshot("ff11", "2026-11-18T03:00:04", "new", run="wed")
    chosen = choose([*MONDAY, *TUESDAY, killed], tue=["shop", "ledger"])
    assert [one.id[:4] for one in chosen.snapshots] == ["bb22", "ff11", "bb11"]


def test_only_the_newest_pass_that_tells_says_what_was_dropped():
    chosen = choose(tue=["shop", "ledger"], mon=["shop"])
    assert [one.id[:4] for one in chosen.snapshots] == ["aa22", "bb11"], "it was made anew, and its dump failed since"


def test_a_pass_that_does_not_list_what_it_saved_is_not_believed():
    assert [one.id[:4] for one in choose(tue=[]).snapshots] == ["aa22", "bb11"]
    assert choose(tue=["blob"]).missing == ()


def test_a_database_that_no_pass_has_saved_is_missing():
    chosen = choose(tue=["shop", "ledger", "blob"])
    assert chosen.missing == ("blob",)
    assert "blob is missing: the pass of 2026-11-17 03:00 (UTC) found it" in " ".join(chosen.warnings)
    assert choose(database="shop", tue=["shop", "ledger", "blob"]).missing == ()
    assert choose(wanted="bb11", tue=["shop", "ledger", "blob"]).missing == ()


def test_a_time_means_the_newest_of_each_too():
    wednesday = snapshot("ff11", "2026-11-18T03:00:04", "ledger", run="wed")
    chosen = choose([*PARTIAL, wednesday], "2026-11-17", tue=["shop", "ledger"], wed=["ledger"])
    assert [one.id[:4] for one in chosen.snapshots] == ["aa22", "bb11"]
    # A moment in the middle of a pass.
    assert ids("2026-11-17 03:00:05") == ["aa22", "bb11"]
    assert choose([*MONDAY, wednesday], "2026-11-17", mon=["shop", "ledger", "new"]).missing == ("new",)


def test_a_tag_means_the_newest_of_each_that_has_it():
    tagged = [replace(one, tags=(*one.tags, "pinned")) for one in (MONDAY[0], MONDAY[1], TUESDAY[0])]
    assert ids("tag=pinned", snapshots=[*tagged, TUESDAY[1]]) == ["aa22", "bb11"]


def test_passes_are_asked_from_the_newest_on_and_no_more_than_needed():
    nights = [snapshot(f"{day:02x}00", f"2026-11-{day:02d}T03:00:04", run=f"day{day}") for day in range(1, 20)]
    silent = listing()
    select(nights, C, None, LATEST, "UTC", NOW, silent)
    assert silent.asked == ["day19", "day18", "day17", "day16", "day15"]
    told = listing(day18=["shop"])
    select(nights, C, None, LATEST, "UTC", NOW, told)
    assert told.asked == ["day19", "day18"]
    one = listing()
    select(nights, C, "shop", LATEST, "UTC", NOW, one)
    assert one.asked == []


def test_what_a_restore_replaced_is_no_pass_that_tells():
    told = listing(res=["shop"], tue=["shop", "ledger"])
    select([*ALL], C, None, LATEST, "UTC", NOW, told)
    assert told.asked == ["tue"]


RUN = "20261118T030000Z-3f9a"
OF_RUN = [
    snapshot("ff11", "2026-11-18T03:00:04", run=RUN),
    snapshot("ff22", "2026-11-18T03:00:09", "ledger", run=RUN, reason=PRE_RESTORE),
]


def test_a_run_is_all_that_it_saved_safety_snapshots_too():
    assert ids(RUN, snapshots=[*ALL, *OF_RUN]) == ["ff22", "ff11"]
    assert ids(RUN, database="shop", snapshots=[*ALL, *OF_RUN]) == ["ff11"]
    assert RUN in refusal(UnknownSnapshotError, RUN)


def test_a_run_says_what_it_did_not_save():
    told = listing(**{RUN: ["shop", "ledger", "blob"]})
    chosen = select([*MONDAY, OF_RUN[0]], C, None, RUN, "UTC", NOW, told)
    assert [one.id[:4] for one in chosen.snapshots] == ["ff11"]
    assert chosen.missing == ("blob",)
    assert f"The run {RUN} saved no snapshot of ledger; another run did." in chosen.warnings


def test_several_ids_are_those_snapshots():
    assert ids("bb11,aa22") == ["aa22", "bb11"]
    assert ids("bb11,") == ["bb11"]
    assert ids("bb11,bb11") == ["bb11"]
    assert "both snapshots of shop" in refusal(UnknownSnapshotError, "bb11,aa11")
    assert "no snapshot 'feed'" in refusal(UnknownSnapshotError, "bb11,feed")
    assert "/scalr-blog-db/blog.dump" in refusal(UnknownSnapshotError, "bb11,dd11")
    assert refusal(AmbiguousSnapshotError, "bb11,aa")
    assert refusal(UnknownSnapshotError, "bb11,,x")


TWO_RUNS = [
    snapshot("a1", "2026-11-17T03:00:04", "ledger", run="20261117T030000Z-0000"),
    snapshot("a2", "2026-11-17T03:00:09", run="20261117T030000Z-0000"),
    snapshot("a3", "2026-11-18T03:00:04", run="20261118T030000Z-0000"),
]
NEWER = [
    snapshot("a4", "2026-11-19T03:00:00", run="20261119T030000Z-0000"),
    snapshot("a5", "2026-11-19T03:00:00", "blob", run="20261119T030000Z-0000"),
]


@pytest.mark.parametrize(
    ("snapshots", "names"),
    [
        ([*MONDAY, OF_RUN[0]], {}),
        (TWO_RUNS, {}),
        (TWO_RUNS[:2], {}),
        (TWO_RUNS[1:], {}),
        (TWO_RUNS, {"20261117T030000Z-0000": ["shop", "ledger", "blob"]}),
        (TWO_RUNS, {"20261118T030000Z-0000": ["shop", "ledger", "blob"]}),
        (TWO_RUNS, {"20261118T030000Z-0000": ["shop"]}),
        (TWO_RUNS, {"20261118T030000Z-0000": ["shop", "blob"]}),
        (TWO_RUNS[2:], {"20261118T030000Z-0000": ["shop", "ledger"]}),
        (TWO_RUNS[1:], {"20261117T030000Z-0000": ["shop", "ledger"]}),
    ],
)
@pytest.mark.parametrize("wanted", [LATEST, "2026-11-18", "tag=nightly"])
def test_the_reference_chooses_the_same_again_when_newer_ones_have_come(snapshots, names, wanted):
    names = {**names, "20261119T030000Z-0000": ["shop", "blob"]}
    before = select(snapshots, C, None, wanted, "UTC", NOW, listing(**names))
    again = select([*snapshots, *NEWER], C, None, before.reference, "UTC", NOW, listing(**names))
    assert again.snapshots == before.snapshots
    assert again.missing == before.missing
    third = select([*snapshots, *NEWER], C, None, again.reference, "UTC", NOW, listing(**names))
    assert (third.snapshots, third.missing) == (before.snapshots, before.missing)


def test_the_reference_to_hundreds_of_databases_fits_an_argument():
    many = [
        snapshot(f"{n:016x}", f"2026-11-{17 + n % 2}T03:00:04", f"d{n}", run=f"2026111{7 + n % 2}T030000Z-0000")
        for n in range(2000)
    ]
    reference = select(many, C, None, LATEST, "UTC", NOW).reference
    assert len(reference) < 100_000
    assert len(select(many, C, None, reference, "UTC", NOW).snapshots) == 2000


def test_the_reference_to_an_id_is_the_id():
    by_id = select(ALL, C, None, "aa11", "UTC", NOW)
    assert by_id.reference == by_id.snapshots[0].id


def test_latest_never_is_of_the_future():
    forged = snapshot("ff11", "2050-01-01T00:00:00", run="fut")
    chosen = select([*ALL, forged], C, "shop", LATEST, "UTC", NOW)
    assert [one.id[:4] for one in chosen.snapshots] == ["bb11"]
    assert chosen.warnings == (
        f"Snapshots of {C} that are dated in the future were ignored (ff110000): a clock was wrong, or they are forged.",
    )
    assert ids("2051-01-01", database="shop", snapshots=[*ALL, forged]) == ["bb11"]
    assert ids("ff11", snapshots=[*ALL, forged]) == ["ff11"], "who asks for it by its id may look at it"
    assert "ff110000 of 2050-01-01" in refusal(UnknownSnapshotError, snapshots=[forged])


def test_a_clock_that_is_a_little_ahead_is_believed_and_told():
    early = snapshot("ff22", "2026-11-30T00:59:00", run="wed")
    assert ids(database="shop", snapshots=[*ALL, early]) == ["ff22"]
    for wanted in (LATEST, "ff22", "2026-12-24"):
        assert choose([*ALL, early], wanted, "shop").warnings == (
            "The snapshot ff220000 of shop is dated 59 min ahead of this host's clock: one of the two clocks is wrong, so "
            "it may not be the newest.",
        )
    just = snapshot("ff22", "2026-11-30T00:00:59", run="wed")
    assert choose([*ALL, just], LATEST, "shop").warnings == ()
    far = snapshot("ff22", "2026-12-02T00:00:00", run="wed")
    assert "dated 2 d ahead" in choose([*ALL, far], "ff22", "shop").warnings[0]


def test_an_empty_snapshot_is_never_chosen():
    empty = replace(snapshot("ff33", "2026-11-17T23:00:00", run="emp"), dump_bytes=0)
    assert ids(database="shop", snapshots=[*ALL, empty]) == ["bb11"]
    assert "no snapshot" in refusal(UnknownDatabaseError, snapshots=[empty])


def test_a_second_snapshot_of_one_database_in_one_run_is_told():
    added = snapshot("ff44", "2026-11-17T03:00:05", run="tue")
    chosen = select([*ALL, added], C, None, LATEST, "UTC", NOW)
    assert chosen.warnings == (
        "2 snapshots claim to be that of shop in the run tue, but a run saves one, so all but one are forged; ff440000 is "
        "the newest of them.",
    )


def test_an_id_is_that_of_the_snapshot_itself_before_that_of_what_another_is_a_copy_of():
    (good, *_rest) = MONDAY
    tagged = replace(snapshot("ff55", "2026-11-17T12:00:00", run=None), original=good.id)
    assert ids(good.id, snapshots=[*ALL, tagged]) == ["aa11"]
    assert ids(good.id, snapshots=[tagged, MONDAY[1]]) == ["ff55"]


@pytest.mark.parametrize(
    "wanted",
    [
        "2026-13-45",
        "2026-02-30",
        "2026-11-20 25:00",
        "2026-11-20T12:61",
        "2026/11/20",
        "20.11.2026",
        "20-11-2026",
        "20261345",
        "12:00",
        "2026-1-5",
        "9999-12-31",
    ],
)
def test_a_time_that_is_none_is_called_so(wanted):
    message = refusal(UsageError, wanted)
    assert message.startswith(f"{wanted!r} is not a valid time: write a day as 2026-11-20")
    assert "there are " in message


@pytest.mark.parametrize("wanted", ["yesterday", "v2.4", "1.2", "release-7", "ffffffff", "tag"])
def test_what_is_not_meant_as_a_time_is_an_unknown_snapshot(wanted):
    assert f"There is no snapshot {wanted!r}" in refusal(UnknownSnapshotError, wanted)


@pytest.mark.parametrize("wanted", ["tag=", "tag= "])
def test_a_tag_without_a_name_is_none(wanted):
    assert "needs a tag" in refusal(UsageError, wanted)


def test_a_list_of_what_there_is_not_says_what_there_is():
    dumps = [one for one in ALL if one.container]
    assert of_database(dumps, C, "shop") == [MONDAY[0], TUESDAY[0], SAFETY]
    assert of_database(dumps, None, "blog") == [STRANGER]
    with pytest.raises(
        UnknownDatabaseError, match=r"no snapshot of nope; it holds snapshots of: scalr-blog-db, scalr-shop-db"
    ):
        of_database(dumps, "nope", None)
    with pytest.raises(
        UnknownDatabaseError, match=r"no snapshot of a database 'nope' of scalr-shop-db; it holds: ledger, shop"
    ):
        of_database(dumps, C, "nope")
    with pytest.raises(UnknownDatabaseError, match=r"no snapshot of a database 'nope'; it holds: blog, ledger, shop"):
        of_database(dumps, None, "nope")


class TestAnHourThatDaylightSavingRepeats:
    """In Paris, 2026-10-25 02:30 came twice: at 00:30 UTC and at 01:30 UTC."""

    NIGHT = (
        snapshot("a111", "2026-10-25T00:20:00", run="before"),
        snapshot("b222", "2026-10-25T00:40:00", run="first"),
        snapshot("c333", "2026-10-25T01:20:00", run="second"),
    )

    def chosen(self, wanted):
        found = select(self.NIGHT, C, None, wanted, "Europe/Paris", NOW)
        return [one.id[:4] for one in found.snapshots], found.warnings

    def test_is_the_earlier_one_which_is_said_with_the_way_to_the_later(self):
        ids_, warnings = self.chosen("2026-10-25 02:30")
        assert ids_ == ["a111"]
        assert warnings[-1] == (
            "2026-10-25 02:30 happened twice in Europe/Paris, because the clocks went back: the earlier one was used, "
            "00:30 UTC. For the later one, give 2026-10-25 02:30+01:00."
        )
        later, silent = self.chosen("2026-10-25 02:30+01:00")
        assert (later, silent) == (["c333"], ())

    def test_ends_with_its_last_minute_and_not_an_hour_later(self):
        assert self.chosen("2026-10-25 02:59")[0] == ["b222"]

    def test_is_told_apart_in_a_list(self):
        message = refusal(UnknownSnapshotError, "ffff", snapshots=self.NIGHT, timezone="Europe/Paris")
        assert "c333" in message
        assert "02:20:00+01:00" in message
        assert "02:40:00+02:00" in message

    def test_a_time_that_never_was_is_said_too(self):
        spring = (snapshot("d444", "2026-03-28T03:00:00"),)
        found = select(spring, C, None, "2026-03-29 02:30", "Europe/Paris", NOW)
        assert found.warnings[-1] == (
            "2026-03-29 02:30 never happened in Europe/Paris, because the clocks went forward: it was read as 03:30."
        )

    @pytest.mark.parametrize("wanted", ["2026-10-25", "2026-10-25 01:30", "2026-10-25 03:00", "latest", "a111"])
    def test_of_any_other_time_nothing_is_said(self, wanted):
        found = select((snapshot("a111", "2026-10-20T00:00:00"),), C, None, wanted, "Europe/Paris", NOW)
        assert not any("Europe/Paris" in warning for warning in found.warnings)
