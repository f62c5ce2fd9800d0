# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pass records of itself when it cannot even begin."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from scalr_backup.backup import Pass, Request
from scalr_backup.errors import UnknownDatabaseError, WrongPasswordError
from scalr_backup.progress import nobody
from scalr_backup.state import State
from scalr_backup.use_case import Tools


def a_pass_that_meets(error, state):
    def fail():
        raise error

    restic = SimpleNamespace(require_version=fail)
    return Pass(Tools(SimpleNamespace(host="h"), None, restic, state, nobody, threading.Event()))


@pytest.mark.parametrize(
    ("error", "code"), [(WrongPasswordError("no key"), "wrong_password"), (ValueError("nobody foresaw"), "internal")]
)
def test_a_pass_that_fails_as_a_whole_is_recorded(tmp_path, error, code):
    state = State(tmp_path)
    with pytest.raises(type(error)):
        a_pass_that_meets(error, state).run(Request())
    assert state.read()["last_pass"]["error"]["code"] == code


def test_a_question_about_an_unknown_database_is_not(tmp_path):
    state = State(tmp_path)
    with pytest.raises(UnknownDatabaseError):
        a_pass_that_meets(UnknownDatabaseError("not here"), state).run(Request())
    assert "last_pass" not in state.read()
