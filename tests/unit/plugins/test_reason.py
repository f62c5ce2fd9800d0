# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every failure is one sentence, whatever a module, Docker or the agent has said."""

from __future__ import annotations

import json

import pytest
from ansible_collections.scalr.backup.plugins.plugin_utils._reason import agent_result, reason, without_rubble

NOT_STARTED = (
    "Error starting container 5c1d: 500 Server Error for http+docker://localhost/v1.41/containers/5c1d/start: Internal Server "
    'Error ("driver failed programming external connectivity on endpoint scalr-backup: Bind for 127.0.0.1:9797 failed: port '
    'is already allocated")'
)


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (
            {"msg": NOT_STARTED},
            "Run it: driver failed programming external connectivity on endpoint scalr-backup: Bind for 127.0.0.1:9797 failed: "
            "port is already allocated.",
        ),
        ({"msg": "No room\nat all"}, "Run it: No room at all."),
        ({"msg": "All is lost.", "code": "wrong_password"}, "All is lost."),
        ({}, "Run it: it gave no reason."),
        (
            {"cmd": ["docker"], "msg": "non-zero return code", "stderr": "a\nno such thing\nSee 'docker run --help'.\n"},
            "Run it: no such thing.",
        ),
        ({"results": [{"msg": "good"}, {"failed": True, "msg": "bad"}], "msg": "One or more"}, "Run it: bad."),
        ({"unreachable": True, "msg": "no route to host"}, "The host was not reached: no route to host."),
        ({"msg": "x" * 16_000}, f"Run it: {'x' * 400}…"),
        (
            {"msg": "Module result deserialization failed.", "module_stdout": "", "module_stderr": "", "rc": 137},
            "Run it: the module was killed on the host by SIGKILL, as happens when the host runs out of memory; run this again.",
        ),
        (
            {"msg": "whatever", "module_stdout": "", "module_stderr": "", "rc": -15},
            "Run it: the module was killed on the host by SIGTERM; run this again.",
        ),
        (
            {"msg": "MODULE FAILURE", "module_stdout": "", "module_stderr": "sh: 1: python9: not found\n", "rc": 127},
            "Run it: Python was not found on the host (exit code 127); set ansible_python_interpreter to its path. It said: "
            "sh: 1: python9: not found.",
        ),
        (
            {"msg": "MODULE FAILURE", "module_stdout": "", "module_stderr": "Traceback\n  x\nOSError: [Errno 28] full\n", "rc": 1},
            "Run it: the module ended on the host without a result (exit code 1), or the connection broke; run this again. It "
            "said: OSError: [Errno 28] full.",
        ),
    ],
)  # fmt: skip
def test_a_failed_result_is_one_sentence(result, sentence):
    assert reason({"failed": True, **result}, "Run it") == sentence


def test_what_a_dead_module_has_printed_is_not_shown():
    dead = {"msg": "x", "module_stdout": "y" * 16_000, "module_stderr": "", "rc": 1, "exception": "(traceback)"}

    result = without_rubble(dead, "scalr.backup.repository")

    assert set(result) == {"failed", "changed", "msg", "rc"}
    assert len(result["msg"]) < 600


def test_a_module_that_has_a_result_keeps_it():
    result = {"failed": True, "msg": "x", "databases": [1]}

    assert without_rubble(result, "scalr.backup.repository") is result


def test_the_agents_result_is_read_from_its_last_line():
    error = {"code": "wrong_password", "message": "No."}
    last = {
        "event": "result",
        "verb": "rehearse",
        "ok": False,
        "changed": False,
        "error": error,
        "data": {"copy": None},
    }
    printed = {"stdout": json.dumps({"event": "log"}) + "\n" + json.dumps(last), "rc": 1}

    read = agent_result(printed, "agent:1")

    assert read == {"ok": False, "changed": False, "error": error, "data": {"copy": None}}


@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        ({"stdout": "", "stderr": "docker: no such image.\nSee 'docker run --help'.", "rc": 125}, "docker: no such image."),
        ({"stdout": "rubbish", "stderr": "", "rc": 1}, "exit code 1."),
        ({"stdout": '{"event": "log"}', "stderr": "killed", "rc": 137}, "killed."),
        ({"msg": "no docker here", "rc": 2}, "no docker here."),
    ],
)  # fmt: skip
def test_an_agent_that_says_nothing_is_a_failure_in_dockers_words(printed, sentence):
    read = agent_result(printed, "agent:1")

    assert (read["ok"], read["error"]["message"]) == (False, f"Failed to run the image agent:1: {sentence}")


def test_what_opens_a_store_is_not_repeated():
    said = reason({"cmd": ["docker"], "stderr": 'Head "https://me:p@canary/1@registry.test/v2/": denied'})
    assert "canary" not in said
    assert "https://me:***@registry.test/v2/" in said


def test_what_an_agent_says_steers_nobodys_terminal():
    error = {"code": "c", "message": "\x9b2J\u202e rest:https://u:p@canary/1@h/"}
    result = {"stdout": json.dumps({"event": "result", "ok": False, "error": error})}
    assert agent_result(result, "i")["error"] == {"code": "c", "message": "?2J? rest:https://u:***@h/"}
