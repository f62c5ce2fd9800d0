# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the modules call the agent, and what they say when that goes wrong."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.scalr.backup.plugins.module_utils import _agent


def test_the_data_of_a_good_result_is_returned(docker, run_module):
    docker.agent_returns({"host": "web1", "containers": []})

    result = run_module("database_info")

    assert result["host"] == "web1"
    assert result["containers"] == []
    assert result["changed"] is False
    assert docker.verb == ["discover"]


def test_another_container_may_be_the_agent(docker, run_module):
    docker.agent_returns({})

    run_module("database_info", agent="my-agent")

    assert docker.calls == [["exec", "my-agent", "scalr-backup", "discover", "--json"]]


def test_another_engine_may_run_the_agent(docker, run_module, monkeypatch):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    docker.agent_returns({})

    run_module("database_info")
    assert docker.engine == ""

    run_module("database_info", engine_socket="/run/podman/podman.sock")
    assert docker.engine == "unix:///run/podman/podman.sock"


def test_warnings_of_the_agent_become_warnings_of_the_module(docker, run_module, monkeypatch):
    warnings = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, warning: warnings.append(warning))
    docker.agent_returns({"containers": [], "warnings": ["scalr-old-db is stopped."]})

    result = run_module("database_info")

    assert warnings == ["scalr-old-db is stopped."]
    assert "warnings" not in result


def test_words_that_ansible_understands_otherwise_are_renamed(docker, run_module):
    docker.agent_returns({"failed": 0, "started": "2026-11-22T03:00:00Z", "finished": "2026-11-22T03:01:00Z"})

    result = run_module("database_backup")

    assert result["failed_databases"] == 0
    assert result["started_at"] == "2026-11-22T03:00:00Z"
    assert result["finished_at"] == "2026-11-22T03:01:00Z"
    assert not {"failed", "started", "finished"} & result.keys()


def test_a_failure_carries_the_agents_own_sentence_and_code(docker, run_module):
    docker.agent_returns({}, exit_code=1, error=("wrong_password", "The password does not open /repository."))

    result = run_module("snapshot_info")

    assert result["failed"] is True
    assert result["msg"] == "The password does not open /repository."
    assert result["code"] == "wrong_password"


def test_a_pass_in_which_some_databases_failed_is_a_failure_with_all_its_data(docker, run_module):
    databases = [{"database": "good", "ok": True}, {"database": "bad", "ok": False}]
    error = ("some_databases_failed", "1 of 2 databases was not saved.")
    docker.agent_returns({"databases": databases, "failed": 1, "run": "r"}, changed=True, exit_code=3, error=error)

    result = run_module("database_backup")

    assert result["failed"] is True
    assert result["msg"] == "1 of 2 databases was not saved."
    assert result["databases"] == databases
    assert result["failed_databases"] == 1


def test_a_failure_without_a_sentence_still_says_something(docker, run_module):
    line = {
        "event": "result",
        "verb": "check",
        "ok": False,
        "changed": False,
        "exit_code": 1,
        "error": None,
        "data": {},
    }
    docker.agent_prints(json.dumps(line), rc=1)

    assert (
        run_module("repository", action="check")["msg"]
        == "The agent's check failed without giving a reason (exit code 1)."
    )


def test_a_success_that_docker_does_not_confirm_is_a_failure(docker, run_module):
    docker.agent_returns({"containers": []}, rc=137)

    result = run_module("database_info")

    assert result["failed"] is True
    assert "exit code 137" in result["msg"]


@pytest.mark.parametrize(
    "stdout",
    [
        "",
        "\n\n",
        "not JSON at all\n",
        '{"event": "progress", "done": 3}\n',
        '{"event": "result", "ok": true, "data": {}}\n{"event": "log"}\n',
        '{"event": "result", "ok": tr',
        '["event", "result"]\n',
        '"result"\n',
        "null\n",
    ],
)
def test_a_call_without_a_result_in_the_last_line_has_failed(docker, run_module, stdout):
    docker.agent_prints(stdout, stderr="Traceback\n\n  deep down\nKeyError: 'x'\n", rc=0)

    result = run_module("database_info")

    assert result["failed"] is True
    assert result["msg"] == (
        "The agent's discover ended without a result (exit code 0). It said: Traceback / deep down / KeyError: 'x'"
    )


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("verb", ["status", "history"])
def test_an_answer_with_a_number_that_is_none_is_no_answer(docker, run_module, number, verb):
    docker.agent_returns({"healthy": True, "findings": []}, to="status")
    data = f'{{"healthy": true, "entries": [], "timezone": "UTC", "age_seconds": {number}}}'
    docker.agent_prints(f'{{"event": "result", "ok": true, "changed": false, "data": {data}}}\n', to=verb)

    result = run_module("status_info", history_days=1)

    assert result["msg"] == (
        f"The agent's answer to {verb} cannot be read, because a number in it is {number}: run site.yml, which updates the agent."
    )
    assert "healthy" not in result


def test_only_the_end_of_a_long_standard_error_is_shown(docker, run_module):
    docker.agent_prints("", stderr="early\n" + "x" * 5000 + "\nlate\n", rc=1)

    message = run_module("database_info")["msg"]

    assert message.endswith("x / late")
    assert "early" not in message
    assert len(message) < 1000


def test_no_docker_command(run_module, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    # Ansible adds the system's own directories to the PATH, and this machine's docker command may be there.
    monkeypatch.setattr("ansible.module_utils.basic.get_bin_path", _raise_not_found)

    result = run_module("database_info")

    assert result["failed"] is True
    assert result["msg"].startswith("The docker command is not installed on this host: run site.yml")


def _raise_not_found(*arguments, **options):
    raise ValueError("Failed to find required executable")


def test_the_engine_does_not_answer(docker, run_module):
    docker.engine_is_down()

    assert run_module("database_info")["msg"] == (
        "The Docker engine does not answer on this host. "
        "It said: Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
    )


def test_the_agent_is_missing(docker, run_module):
    docker.agent_is_missing()

    assert run_module("database_info")["msg"] == (
        "This host has no container scalr-backup: run site.yml, which deploys the agent."
    )


@pytest.mark.parametrize("state", ["exited", "restarting", "paused", "created"])
def test_the_agent_does_not_run(docker, run_module, state):
    docker.agent_is(state)

    message = run_module("database_info")["msg"]

    assert message.startswith(f"The agent's container scalr-backup is {state}, not running: ")
    assert "site.yml" in message


NAMES = [
    "with space",
    'quo"te',
    "it's",
    "ünïcode",
    "UPPER",
    "-dash",
    "--db=x",
    "$HOME",
    "~",
    "`id`",
    "a;b",
    "*",
    "a\nb",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_reaches_the_agent_as_it_is(docker, run_module, name):
    docker.agent_returns({"snapshots": []})

    run_module("snapshot_info", db="scalr-foo-db", database=name)

    assert docker.verb == ["snapshots", "--db=scalr-foo-db", f"--database={name}"]


def test_the_agents_answer_may_hold_any_character(docker, run_module):
    # U+2028 ends a line for str.splitlines(), and JSON may hold it as it is.
    name = "a\u2028b ü"
    line = {"event": "result", "ok": True, "changed": False, "exit_code": 0, "error": None, "data": {"host": name}}
    docker.agent_prints(json.dumps(line, ensure_ascii=False) + "\n")

    assert run_module("database_info")["host"] == name


def test_options_are_one_argument_each():
    assert _agent.option("db", None) == []
    assert _agent.option("db", "-x") == ["--db=-x"]
    assert _agent.options("tag", ["a", "b"]) == ["--tag=a", "--tag=b"]
    assert _agent.flag("wait", True) == ["--wait"]
    assert _agent.flag("wait", False) == []
