# SPDX-License-Identifier: GPL-3.0-or-later
"""How far things are: never backwards, and how fast."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from scalr_backup.actions.restore import fill
from scalr_backup.cli.output import JsonOutput
from scalr_backup.core.progress import Course, log, progress, starting_over

MIB = 1024 * 1024
SHOP = {"container": "scalr-shop-db", "database": "shop"}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def course(clock):
    return Course(clock)


def dump(count, total=None, **names):
    return progress("dump", **(SHOP | names), bytes=count, **({"total_bytes": total} if total else {}))


class TestBackwards:
    def test_nothing_is_told_of_a_dump_that_is_done(self, course):
        """As when the thread that reads restic's output is behind the one that has seen its end."""
        assert course.take(dump(52)) is not None
        done = log("info", "database backed up", **SHOP, ok=True)
        assert course.take(done) == done
        assert course.take(dump(60)) is None
        assert course.take(dump(60, database="ledger")) is not None

    def test_nor_of_one_that_failed(self, course):
        course.take(log("error", "database NOT backed up", **SHOP, ok=False))
        assert course.take(dump(60)) is None

    def test_a_warning_ends_nothing(self, course):
        course.take(log("warning", "A lock is waited for.", **SHOP))
        assert course.take(dump(60)) is not None

    def test_the_next_run_begins_anew(self, course):
        course.take(log("info", "database backed up", **SHOP, ok=True, run="r1"))
        assert course.take(dump(1, run="r2")) is not None

    def test_an_amount_only_grows(self, course):
        told = [course.take(dump(count)) for count in (10, 30, 20, 30, 40)]
        assert [event and event["bytes"] for event in told] == [10, 30, None, 30, 40]

    def test_a_phase_that_was_left_does_not_come_back(self, course):
        assert course.take(progress("data", **SHOP, bytes=9))
        assert course.take(progress("verify", **SHOP))
        assert course.take(progress("data", **SHOP, bytes=10)) is None
        assert course.take(progress("verify", **SHOP, elapsed_seconds=2.0))

    def test_a_restore_that_starts_over_says_so_and_may_do_everything_again(self, course):
        for event in (progress("data", **SHOP, bytes=9), progress("indexes-and-constraints", **SHOP)):
            assert course.take(event)
        assert course.take(starting_over(**SHOP))
        assert course.take(progress("data", **SHOP, bytes=1))

    def test_a_restore_whose_jobs_failed_together_starts_over(self, monkeypatch):
        told = []

        def fill_or_fail(_filler, _plan, _new, _lenience, most_jobs=9):
            if most_jobs > 1:
                raise fill.TogetherError("a worker process died")
            told.append(progress("data", **SHOP))
            return fill.Filled(None)

        monkeypatch.setattr(fill.Filler, "_fill", fill_or_fail)
        postgres = SimpleNamespace(container=SHOP["container"], drop_database=lambda _name: None)
        filled = fill.Filler(None, postgres, told.append, lambda: None).fill(SimpleNamespace(database="shop"), "new")
        assert [event["phase"] for event in told] == ["starting-over", "data"]
        assert told[0].items() >= {**SHOP, "starts_over": True}.items()
        assert filled.warnings

    def test_a_prune_has_stages_and_is_made_of_two_repositories(self, course):
        told = [course.take(progress("prune", done=done, total=9)) for done in (9, 1)]
        told += [course.take(progress(phase)) for phase in ("check", "prune")]
        assert all(told)

    def test_the_lines_of_json_keep_to_it(self, capsys):
        out = JsonOutput()
        out.event(log("info", "database backed up", **SHOP, ok=True))
        out.event(dump(52))
        out.event(progress("forget"))
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one.get("phase", one.get("message")) for one in told] == ["database backed up", "forget"]


class TestSpeed:
    def test_what_goes_has_a_rate_and_a_time_left(self, course, clock):
        assert "bytes_per_second" not in course.take(dump(0, 200 * MIB))
        clock.now = 5
        told = course.take(dump(50 * MIB, 200 * MIB))
        assert (told["bytes_per_second"], told["seconds_left"]) == (10 * MIB, 15)

    def test_the_rate_is_that_of_the_last_seconds(self, course, clock):
        """An average over all of it would hide that it has nearly come to a stop."""
        for clock.now in range(60):
            course.take(dump(clock.now * MIB, 2000 * MIB))
        clock.now = 90
        told = course.take(dump(60 * MIB, 2000 * MIB))
        assert told["bytes_per_second"] == round(MIB / 31)

    def test_where_no_end_is_known_there_is_no_time_left(self, course, clock):
        course.take(dump(0))
        clock.now = 5
        assert "seconds_left" not in course.take(dump(10))

    def test_things_that_are_no_bytes_have_a_time_left_and_no_rate(self, course, clock):
        course.take(progress("check", done=0, total=40, unit="packs"))
        clock.now = 10
        told = course.take(progress("check", done=10, total=40, unit="packs"))
        assert told["seconds_left"] == 30
        assert "bytes_per_second" not in told

    def test_a_phase_has_a_rate_of_its_own(self, course, clock):
        course.take(dump(0))
        clock.now = 5
        course.take(dump(10))
        assert "bytes_per_second" not in course.take(progress("data", **SHOP, bytes=500))

    def test_what_stands_still_has_none(self, course, clock):
        course.take(dump(10, 20))
        clock.now = 5
        assert course.take(dump(10, 20)) == dump(10, 20)

    def test_json_says_it(self, capsys, monkeypatch):
        clock = Clock()
        monkeypatch.setattr("scalr_backup.cli.output.Course", lambda: Course(clock))
        monkeypatch.setattr("scalr_backup.cli.output._PROGRESS_SECONDS", 0.0)
        out = JsonOutput()
        for clock.now in (0, 2):
            out.event(dump(clock.now * MIB, 20 * MIB))
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (told["bytes_per_second"], told["seconds_left"]) == (MIB, 18)
