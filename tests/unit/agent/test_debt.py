# SPDX-License-Identifier: GPL-3.0-or-later
"""When a pass prunes: where something is owed, once a day at most and once a week at least."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from scalr_backup.actions.repository.debt import PruneDebt, is_due
from scalr_backup.actions.repository.maintenance import recorded
from scalr_backup.core.errors import ResticError
from scalr_backup.tools.state import State

NOW = datetime.now(UTC)


def pruned(ok=True, last_success="", **ago):
    time = (NOW - timedelta(**ago)).isoformat()
    known = last_success or (time if ok else None)
    return {"time": time, "ok": ok, "error": None, "repository": "/r", "last_success": known}


@pytest.mark.parametrize(
    ("last", "owed", "due"),
    [
        (None, False, True),
        (pruned(hours=1), False, False),
        (pruned(hours=1), True, False),
        (pruned(hours=23), True, True),
        (pruned(hours=23), False, False),
        (pruned(days=7), False, True),
        (pruned(ok=False, hours=1), False, True),
        (pruned(ok=False, last_success=(NOW - timedelta(hours=2)).isoformat(), hours=1), False, True),
        (pruned(hours=-5), False, True),
    ],
    ids=[
        "of an unknown repository", "nothing owed", "owed since the one of today", "owed since yesterday",
        "nothing owed since yesterday", "nothing owed for a week", "none was ever good", "the last one failed",
        "the clock was set back",
    ],
)  # fmt: skip
def test_when_a_prune_is_due(last, owed, due):
    assert is_due(last, NOW, owed=owed) == due


class TestDebt:
    @pytest.fixture
    def state(self, tmp_path):
        return State(tmp_path)

    def test_a_good_prune_settles_it_and_a_failed_one_does_not(self, state):
        PruneDebt(state, "/r").owe(datetime.now(UTC))
        with pytest.raises(ResticError), recorded(state, "/r", "prune"):
            raise ResticError("locked")
        assert state.owes_prune("prune", "/r")
        with recorded(state, "/r", "prune"):
            pass
        assert not state.owes_prune("prune", "/r")

    def test_a_forget_and_a_prune_of_another_repository_settle_nothing(self, state):
        PruneDebt(state, "/r").owe(datetime.now(UTC))
        for repository, kind in (("/r", "forget"), ("/r", "copy_prune"), ("/other", "prune")):
            with recorded(state, repository, kind):
                pass
        assert state.owes_prune("prune", "/r")
        assert not state.owes_prune("prune", "/other")

    def test_what_came_to_be_owed_while_it_ran_stays_owed(self, state):
        with recorded(state, "/r", "prune"):
            PruneDebt(state, "/r").owe(datetime.now(UTC) + timedelta(seconds=1))
        assert state.owes_prune("prune", "/r")

    def test_another_repository_is_pruned_at_once(self, state):
        with recorded(state, "/r", "prune"):
            pass
        assert not PruneDebt(state, "/r").is_due(datetime.now(UTC))
        assert PruneDebt(state, "/other").is_due(datetime.now(UTC))
