"""What is copied to the second repository, and what becomes of a pass whose copy fails."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from scalr_backup.actions.repository.copy import Copier, to_copy
from scalr_backup.actions.use_case import Tools
from scalr_backup.core.config import Config
from scalr_backup.core.errors import RepositoryUnreachableError, UsageError
from scalr_backup.core.model import Snapshot
from scalr_backup.core.progress import nobody
from scalr_backup.tools.state import State

START = datetime(2026, 11, 1, 3, tzinfo=UTC)
DOCUMENT = {"host": "web1", "repository": "/repository", "copy": {"repository": "s3:https://s3.test/copies"}}


def snapshot(name, day, path="/c/d.dump", original=None):
    return Snapshot(name, START + timedelta(days=day), "web1", path, ("nightly",), 1, original)


class TestWhatIsCopied:
    def test_is_everything_at_first_oldest_first(self):
        assert to_copy([snapshot("bb", 2), snapshot("aa", 1)], []) == ["aa", "bb"]

    def test_is_what_is_newer_than_the_newest_copy_of_its_path(self):
        here = [snapshot("aa", 1), snapshot("bb", 2), snapshot("cc", 3), snapshot("xx", 1, "/c/new.dump")]
        there = [snapshot("22", 2, original="bb")]
        assert to_copy(here, there) == ["xx", "cc"]

    def test_is_never_what_the_copys_own_retention_has_removed(self):
        here = [snapshot("aa", 1), snapshot("bb", 2)]
        assert to_copy(here, [snapshot("22", 2, original="bb")]) == []

    def test_is_not_what_was_copied_twice_over(self):
        """A copy of a copy keeps the first one's id."""
        here = [snapshot("bb", 2, original="aa")]
        assert to_copy(here, [snapshot("cc", 1, original="aa")]) == []


class Unreachable:
    """A second repository whose store is gone."""

    def repository_id(self):
        raise RepositoryUnreachableError("The name of the store cannot be resolved.")


def copier(tmp_path, target, document=DOCUMENT):
    config = Config.model_validate(document)
    source = SimpleNamespace(
        repository="/repository", repository_id=lambda: "aaaa1111ff", snapshots=lambda: [snapshot("aa", 1)]
    )
    state = State(tmp_path)
    tools = Tools(config, None, source, state, nobody, threading.Event(), lambda: target)
    return Copier(tools), state


def test_a_copy_that_fails_is_recorded_and_raises_nothing(tmp_path):
    use_case, state = copier(tmp_path, Unreachable())
    result = use_case.copy()
    assert (result.ok, result.error.code) == (False, "repository_unreachable")
    assert state.read()["copy"]["last_success"] is None


def test_a_failure_does_not_forget_the_last_good_copy(tmp_path):
    use_case, state = copier(tmp_path, Unreachable())
    good = {"repository": "s3:https://s3.test/copies", "ok": True, "time": START.isoformat()}
    good |= {"copied": 1, "removed": [], "error": None}
    state.record_copy(good)
    use_case.copy()
    assert state.read()["copy"]["last_success"] == START.isoformat()
    state.record_copy({**good, "repository": "another one", "ok": False})
    assert state.read()["copy"]["last_success"] is None, "that was in another repository"


def test_what_a_copy_has_sent_before_it_failed_is_owed_a_prune(tmp_path):
    use_case, state = copier(tmp_path, Unreachable())
    use_case.copy()
    assert state.owes_prune("copy_prune", "s3:https://s3.test/copies")
    assert not state.owes_prune("prune", "/repository")


def test_a_snapshot_that_did_not_arrive_is_a_failure(tmp_path):
    target = SimpleNamespace(
        repository_id=lambda: "bbbb2222", unlock=lambda: 0, snapshots=list, copy_from=lambda _source, _ids: None
    )
    result = copier(tmp_path, target)[0].copy()
    assert (result.ok, result.error.code) == (False, "copy_failed")
    assert "1 of 1 snapshots did not reach the copy" in result.error.message


def test_a_second_repository_that_is_the_first_one_is_neither_written_to_nor_pruned(tmp_path):
    """What else is asked of it than its id fails: it has nothing else."""
    itself = SimpleNamespace(repository="s3:https://10.0.0.5/b", repository_id=lambda: "aaaa1111ff")
    use_case, state = copier(tmp_path, itself)
    result = use_case.copy()
    assert (result.ok, result.copied, result.removed, result.error.code) == (False, 0, (), "configuration")
    assert result.error.message == (
        "backup_copy_repository is s3:https://10.0.0.5/b, which is the first repository, /repository, or was made of its files, "
        "because both have the id aaaa1111: nothing there was changed; choose an empty place, where scalr-backup init --copy "
        "creates a repository of its own."
    )
    assert state.read()["copy"]["last_success"] is None


def test_without_a_second_repository_there_is_nothing_to_copy_to(tmp_path):
    with pytest.raises(UsageError, match="backup_copy_repository is not set"):
        copier(tmp_path, None, {"host": "web1", "repository": "/repository"})
