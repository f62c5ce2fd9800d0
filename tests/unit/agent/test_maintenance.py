# SPDX-License-Identifier: GPL-3.0-or-later
"""The care of a repository: what is read when, what is recorded, and what it gives way to."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from scalr_backup.actions.repository import maintenance
from scalr_backup.actions.repository.maintenance import (
    Maintenance,
    RepositoryInCare,
    Rotation,
    count_parts,
    recall_rotation,
    recorded,
)
from scalr_backup.cli.app import app
from scalr_backup.cli.wiring import Agent
from scalr_backup.core.config import Config
from scalr_backup.core.errors import (
    ConfigurationError,
    InterruptedRunError,
    RepositoryUnreachableError,
    ResticError,
    UsageError,
)
from scalr_backup.core.jobs import CHECK as CHECK_JOB
from scalr_backup.core.model import Failure
from scalr_backup.tools.locks import PASS_LOCK
from scalr_backup.tools.state import State
from typer.testing import CliRunner

SUNDAY = datetime(2026, 11, 29, 4, 30, tzinfo=UTC)
WEEK = timedelta(weeks=1)
CONFIG = Config(host="h", repository="/repository")


def weeks_of_checks(parts, weeks, missed=(), within=None):
    """What each weekly check reads; those of *missed* weeks do not take place, and each is a few minutes late."""
    rotation, read = Rotation(parts, SUNDAY, {}), {}
    for week in range(weeks):
        if week not in missed:
            now = SUNDAY + week * WEEK + timedelta(minutes=week % 3)
            read[week] = rotation.due(now, WEEK, within or parts * WEEK)
            for part in read[week]:
                rotation = rotation.after(part, now + timedelta(minutes=20))
    return read


class TestTheRotation:
    def test_reads_one_part_a_week_and_each_within_eight(self):
        read = weeks_of_checks(8, 24)
        assert [read[week] for week in range(8)] == [[part] for part in range(1, 9)]
        assert all(read[week] == read[week + 8] for week in range(16))

    def test_makes_up_for_checks_that_were_missed(self):
        read = weeks_of_checks(8, 24, missed={9, 10, 11})
        assert sorted(read[12]) == [2, 3, 4, 5], "as many as were missed, and the one of that week"
        assert [read[week] for week in range(13, 17)] == [[6], [7], [8], [1]]

    @pytest.mark.parametrize("missed", [set(), {3}, {1, 2}, {5, 9, 14}, {20, 21, 22, 23}])
    def test_reads_no_part_later_than_it_should_while_there_is_a_check_left_to_do_it(self, missed):
        last = dict.fromkeys(range(1, 9), 0)
        for week, parts in weeks_of_checks(8, 40, missed).items():
            for part in parts:
                assert week - last[part] <= 8 or set(range(last[part] + 8, week)) <= missed
                last[part] = week
        assert min(last.values()) >= 32

    def test_reads_everything_when_nothing_was_read_in_time(self):
        assert Rotation(8, SUNDAY, {}).due(SUNDAY + timedelta(weeks=30), WEEK, 8 * WEEK) == list(range(1, 9))

    def test_survives_the_state(self):
        rotation = Rotation(8, SUNDAY, {3: SUNDAY + WEEK})
        entry = {"repository": "/r", "rotation": rotation.as_dict()}
        assert recall_rotation(entry, "/r", 8, SUNDAY + 9 * WEEK) == rotation
        assert recall_rotation(entry, "/other", 8, SUNDAY) == Rotation(8, SUNDAY, {})
        assert recall_rotation(entry, "/r", 4, SUNDAY) == Rotation(4, SUNDAY, {})

    def test_takes_a_part_that_was_read_in_the_future_for_unread(self):
        """The clock was ahead: such a part would be the last in turn for years."""
        entry = {"repository": "/r", "rotation": Rotation(2, SUNDAY, {1: SUNDAY + 600 * WEEK, 2: SUNDAY}).as_dict()}
        assert recall_rotation(entry, "/r", 2, SUNDAY + WEEK) == Rotation(2, SUNDAY, {2: SUNDAY})
        entry = {"repository": "/r", "rotation": Rotation(2, SUNDAY + 600 * WEEK, {}, (1,)).as_dict()}
        assert recall_rotation(entry, "/r", 2, SUNDAY) == Rotation(2, SUNDAY, {}, (1,))
        assert recall_rotation(None, "/r", 8, SUNDAY) == Rotation(8, SUNDAY, {})

    @pytest.mark.parametrize(
        ("schedule", "weeks", "parts"),
        [("30 4 * * 0", 8, 8), ("0 5 * * *", 2, 14), ("0 * * * *", 8, 256), ("0 5 1 * *", 8, 2), ("0 5 1 1 *", 1, 1)],
    )
    def test_has_a_part_for_each_check_within_the_weeks(self, schedule, weeks, parts):
        config = CONFIG.model_copy(update={"check_schedule": schedule, "check_weeks": weeks})
        assert count_parts(config, SUNDAY) == parts


class Repository:
    """A repository whose checks and prunes take a while, or fail."""

    def __init__(self, name="/repository", error=None, during=lambda: None, identity=None):
        self.repository, self._error, self._during, self.calls = name, error, during, []
        self._identity = identity or name

    def repository_id(self):
        return self._identity

    def check(self, subset, on_progress):
        self.calls.append(subset)
        self._work(on_progress)

    def prune(self, on_progress):
        self.calls.append("prune")
        self._work(on_progress)

    def _work(self, on_progress):
        on_progress(maintenance.Done(1, 2, "packs"))
        self._during()
        if self._error:
            raise self._error


class Care:
    """The use case on a state of its own, and what it told."""

    def __init__(self, directory, config=CONFIG):
        self.state, self.told, self.cancelled = State(directory), [], threading.Event()
        self.case = Maintenance(config, self.state, self.told.append, self.cancelled)


@pytest.fixture
def care(tmp_path, monkeypatch):
    monkeypatch.setattr(maintenance, "_SECONDS_BETWEEN_LOOKS", 0.02)
    return Care(tmp_path)


def test_what_fails_is_recorded_and_the_last_good_one_stays_known(care):
    place = RepositoryInCare(Repository())
    care.case.check(place)
    good = care.state.maintenance("check")
    assert (good["ok"], good["error"], good["last_success"], good["repository"]) == (
        True,
        None,
        good["time"],
        "/repository",
    )
    with pytest.raises(ResticError):
        care.case.check(RepositoryInCare(Repository(error=ResticError("pack 5f is damaged"))))
    bad = care.state.maintenance("check")
    assert (bad["ok"], bad["error"]) == (False, {"code": "restic", "message": "pack 5f is damaged"})
    assert bad["last_success"] == good["time"]


def test_what_was_said_of_another_repository_is_not_said_of_this_one(care):
    care.case.prune(RepositoryInCare(Repository()))
    with pytest.raises(ResticError):
        care.case.prune(RepositoryInCare(Repository("/new", ResticError("no room"))))
    assert care.state.maintenance("prune")["last_success"] is None


def test_what_was_told_to_stop_is_not_recorded_and_a_failure_need_be_no_exception(tmp_path):
    state = State(tmp_path)
    with pytest.raises(InterruptedRunError), recorded(state, "/r", "check"):
        raise InterruptedRunError("told to stop")
    assert state.maintenance("check") is None
    with recorded(state, "/r", "forget") as noted:
        noted.facts["kept"] = {"c/d": {"snapshots": 1, "why": {"daily": 1}}}
        noted.failure = Failure("forged_snapshots", "not believed")
    entry = state.maintenance("forget")
    assert (entry["ok"], entry["error"]["code"], entry["kept"], "failure" in entry) == (
        False,
        "forged_snapshots",
        {"c/d": {"snapshots": 1, "why": {"daily": 1}}},
        False,
    )


def test_scheduled_checks_read_part_after_part_of_both_repositories(care):
    here, copy = Repository(), Repository("/copy")
    places = [RepositoryInCare(here), RepositoryInCare(copy, "copy_")]
    first, second = care.case.scheduled_check(places), care.case.scheduled_check(places)
    assert (first.parts, second.parts, first.of) == ((1,), (2,), 8)
    assert here.calls == copy.calls == ["1/8", "2/8"]
    assert set(care.state.maintenance("copy_check")["rotation"]["read"]) == {"1", "2"}
    assert {"event": "progress", "phase": "check", "done": 1, "total": 2, "unit": "packs"}.items() <= care.told[
        1
    ].items()
    assert {one["run"] for one in care.told} == {first.run}


def test_the_first_repository_is_not_pruned_as_if_it_were_its_own_copy(care):
    here, alias = Repository(), Repository("/linked", identity="/repository")
    with pytest.raises(ConfigurationError, match="backup_copy_repository is /linked, which is the first repository"):
        care.case.scheduled_prune([RepositoryInCare(here), RepositoryInCare(alias, "copy_", copy_of=here)])
    assert (here.calls, alias.calls) == (["prune"], [])
    assert care.state.maintenance("copy_prune")["error"]["code"] == "configuration"
    another = Repository("/copy")
    care.case.prune(RepositoryInCare(another, "copy_", copy_of=here))
    assert another.calls == ["prune"]


def test_one_repository_that_fails_keeps_the_other_from_nothing(care):
    copy = Repository("/copy")
    with pytest.raises(ResticError, match="damaged"):
        care.case.scheduled_check(
            [RepositoryInCare(Repository(error=ResticError("damaged"))), RepositoryInCare(copy, "copy_")]
        )
    assert copy.calls == ["1/8"]


class TestDamage:
    """Damage that was found stays found until it is gone."""

    class Damaged(Repository):
        """One with a damaged part."""

        damaged = "1/8"

        def check(self, subset, on_progress):
            super().check(subset, on_progress)
            if subset == self.damaged:
                raise ResticError("a pack of part 1 is damaged")

    def test_is_looked_for_by_every_check_and_keeps_no_other_part_from_its_turn(self, care):
        here = self.Damaged()
        for _week in range(3):
            with pytest.raises(ResticError, match="part 1"):
                care.case.scheduled_check([RepositoryInCare(here)])
            assert not care.state.maintenance("check")["ok"]
        assert here.calls == ["1/8", "1/8", "2/8", "1/8", "3/8"]
        here.damaged = ""
        care.case.scheduled_check([RepositoryInCare(here)])
        entry = care.state.maintenance("check")
        assert (entry["ok"], entry["rotation"]["damaged"], here.calls[-2:]) == (True, [], ["1/8", "4/8"])

    def test_is_looked_for_by_a_check_of_the_structure_too(self, care):
        here = self.Damaged()
        with pytest.raises(ResticError):
            care.case.scheduled_check([RepositoryInCare(here)])
        with pytest.raises(ResticError):
            care.case.check(RepositoryInCare(here))
        here.damaged = ""
        care.case.check(RepositoryInCare(here))
        assert here.calls == ["1/8", None, "1/8", None, "1/8"]
        care.case.check(RepositoryInCare(here))
        assert here.calls[-1] is None, "it is gone"

    def test_is_not_what_a_store_says_that_cannot_be_reached(self, care):
        here = Repository(error=RepositoryUnreachableError("no answer"))
        with pytest.raises(RepositoryUnreachableError):
            care.case.scheduled_check([RepositoryInCare(here)])
        entry = care.state.maintenance("check")
        assert (entry["ok"], entry["rotation"]["read"], entry["rotation"]["damaged"]) == (False, {}, [])


@pytest.mark.parametrize("subset", ["abc", "", "200%", "0%", "-1", "0", "8/7", "0/7", "1/300", "5 %", "1/7\n"])
def test_a_share_of_the_data_that_is_none_is_refused_and_is_no_failed_check(care, subset):
    here = Repository()
    with pytest.raises(UsageError, match=r"is not a share of the data, such as 5%, 2G or 1/7\."):
        care.case.check(RepositoryInCare(here), subset)
    assert (here.calls, care.state.maintenance("check")) == ([], None)


@pytest.mark.parametrize("subset", ["5%", "0.5%", "100%", "2G", "512m", "1/7", "256/256", "1048576"])
def test_a_share_of_the_data_is_said_as_restic_takes_it(care, subset):
    here = Repository()
    care.case.check(RepositoryInCare(here), subset)
    assert here.calls == [subset]


def test_a_check_does_not_begin_beside_a_pass(care):
    here = Repository()
    with care.state.locks.hold(PASS_LOCK, "run r (nightly)"):
        done = care.case.scheduled_check([RepositoryInCare(here)])
    assert (done.deferred, here.calls, care.state.maintenance("check")) == ("run r (nightly)", [], None)


def test_a_prune_gives_way_to_a_restore_that_begins(care):
    began = threading.Event()

    def until_told_to_stop():
        began.set()
        assert care.cancelled.wait(60)
        raise InterruptedRunError("told to stop")

    def restore():
        began.wait(60)
        with care.state.locks.hold("container-shop", "restore r into it"):
            care.cancelled.wait(60)

    thread = threading.Thread(target=restore)
    thread.start()
    done = care.case.scheduled_prune([RepositoryInCare(Repository(during=until_told_to_stop))])
    thread.join()
    assert done.deferred == "restore r into it"
    assert care.state.maintenance("prune") is None
    assert care.told[-1]["level"] == "info"


def test_one_that_is_told_to_stop_ends_as_such(care):
    with pytest.raises(InterruptedRunError):
        care.case.scheduled_prune([RepositoryInCare(Repository(error=InterruptedRunError("told to stop")))])


def test_what_a_killed_run_left_of_its_lock_is_nobody(care, tmp_path):
    (tmp_path / "locks" / "container-shop").write_text("restore r, which was killed")
    assert care.state.locks.under_way() is None
    assert (tmp_path / "locks" / "container-shop").read_text() == ""


def test_a_check_that_gave_way_counts_as_missed_and_one_that_took_place_does_not(care):
    begun = SUNDAY - WEEK
    assert CHECK_JOB.missed(CONFIG, care.state.read(), begun, SUNDAY + timedelta(minutes=1))
    care.state.record_maintenance("check", {"time": SUNDAY.isoformat(), "ok": False, "error": None, "repository": "/r"})
    now = SUNDAY + timedelta(minutes=1)
    assert not CHECK_JOB.missed(CONFIG, care.state.read(), begun, now)


@pytest.mark.parametrize(("options", "copy"), [((), False), (("--copy",), True)])
def test_locks_are_removed_from_the_repository_that_is_asked_for(options, copy, monkeypatch):
    asked = []

    def restic(_agent, *, copy=False):
        asked.append(copy)
        return SimpleNamespace(unlock=lambda: 2)

    monkeypatch.setattr(Agent, "restic", restic)
    told = json.loads(CliRunner().invoke(app, ["unlock", *options, "--json"]).output)
    assert (told["data"], asked) == ({"removed": 2}, [copy])
