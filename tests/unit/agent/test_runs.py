# SPDX-License-Identifier: GPL-3.0-or-later
"""Which runs are alive, asked of their locks; processes are killed for real."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.leftovers import half_made_by_dead
from scalr_backup.core.model import new_run_id, started_at
from scalr_backup.tools.postgres.cluster import RESTORE_PREFIX, run_of_half_made
from scalr_backup.tools.runs import Runs
from scalr_backup.tools.state import State

NOW = datetime.now(UTC)
HOLD = """
import sys
from pathlib import Path
from scalr_backup.tools.runs import Runs
with Runs(Path(sys.argv[1])).alive(sys.argv[2]):
    print("alive", flush=True)
    sys.stdin.read()
"""


def hold(directory, run):
    """Another process that is at a run until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory), run],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "alive\n"
    return process


def test_a_run_is_alive_until_its_process_is_killed(tmp_path):
    run = new_run_id()
    with hold(tmp_path, run) as process:
        assert Runs(tmp_path).any_alive()
        assert not Runs(tmp_path).is_dead(run)
        assert not Runs(tmp_path).is_dead(run, NOW + timedelta(days=9)), "however long it takes"
        process.kill()
        process.wait()
    assert Runs(tmp_path).is_dead(run)
    assert not Runs(tmp_path).any_alive()


def test_ones_own_run_is_alive(tmp_path):
    runs, run = Runs(tmp_path), new_run_id()
    with runs.alive(run):
        assert not runs.is_dead(run)


def test_a_run_that_has_ended_leaves_no_file(tmp_path):
    with hold(tmp_path, new_run_id()) as process:
        process.communicate("")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(("hours", "dead"), [(0, False), (22, False), (24, True), (-2, False)])
def test_a_run_that_nothing_is_known_of_is_dead_after_a_day(tmp_path, hours, dead):
    assert Runs(tmp_path).is_dead(new_run_id(NOW - timedelta(hours=hours)), NOW) is dead


@pytest.mark.parametrize("text", ["", "20261122T030000Z", "20261399T030000Z-3f9a", "../../etc/passwd", "look"])
def test_what_is_no_run_is_never_dead(tmp_path, text):
    assert started_at(text) is None
    assert not Runs(tmp_path).is_dead(text, NOW)


def test_the_files_of_killed_runs_do_not_pile_up(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    old, young = (new_run_id(NOW - timedelta(hours=hours)) for hours in (30, 1))
    for run in (old, young):
        (runs / run).touch()
    long_lived = new_run_id(NOW - timedelta(hours=40))
    with hold(tmp_path, long_lived) as process:
        with Runs(tmp_path).alive(new_run_id()):
            pass
        assert {path.name for path in runs.iterdir()} == {young, long_lived}
        assert Runs(tmp_path).is_dead(old)
        process.communicate("")


def test_a_half_made_database_tells_its_run():
    run = "20261122T030000Z-3f9a"
    assert run_of_half_made(f"{RESTORE_PREFIX}20261122t030000z_3f9a_12") == run
    assert run_of_half_made(f"{RESTORE_PREFIX}of_the_year") is None


class Cluster:
    """A server with half-made databases of these runs."""

    def __init__(self, *runs):
        self.names = {f"{RESTORE_PREFIX}{run.lower().replace('-', '_')}_1": 7 for run in runs}

    def kept_open(self):
        return nullcontext()

    def half_made_databases(self):
        return self.names


def test_only_a_dead_runs_half_made_database_is_a_leftover(tmp_path):
    state, killed = State(tmp_path), new_run_id()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / killed).touch()
    alive, of_another_agent = new_run_id(), new_run_id()
    with state.runs.alive(alive):
        found = half_made_by_dead(state, Cluster(killed, alive, of_another_agent))
    assert list(found) == list(Cluster(killed).names)
