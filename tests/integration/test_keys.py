"""The passwords that open a real repository: added, shared, retired, and interrupted."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import AgentContainer, Call, docker
from tests.support.restores import one_sentence
from tests.support.stores import store_network

pytestmark = pytest.mark.timeout(300)

OLD, NEW, PAPER = "correct horse battery staple", "canary of the new password", "canary of the paper"


@pytest.fixture(scope="module")
def provided(agent_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentContainer]:
    """An agent, and a repository with one snapshot of it and one of another host, for each test to take a copy of."""
    container = AgentContainer(tmp_path_factory.mktemp("keys") / "agent", ["none-*"], agent_image)
    try:
        container.configure(repository="/repository/template")
        container.start().ok("init")
        for host in ("test-host", "web2"):
            producer = ["--stdin-filename", "/a/b.dump", "--stdin-from-command", "--", "echo", "rows"]
            container.restic("--repo", "/repository/template", "backup", "--quiet", "--host", host, *producer)
        yield container
    finally:
        container.remove()


@pytest.fixture
def agent(provided: AgentContainer) -> AgentContainer:
    """The agent, with a repository that only the old password opens."""
    docker("exec", provided.name, "sh", "-c", "rm -rf /repository/copy && cp -a /repository/template /repository/copy")
    provided.configure(repository="/repository/copy")
    provided.set_password(OLD)
    return provided


def given(password: str) -> str:
    """A password as a verb reads it."""
    return json.dumps({"password": password})


def opens(agent: AgentContainer, password: str) -> bool:
    """Whether plain restic opens the repository with a password."""
    environment = ["--env", f"RESTIC_PASSWORD={password}", "--env", "RESTIC_REPOSITORY=/repository/copy"]
    done = docker("exec", *environment, agent.name, "restic", "cat", "config", "--no-lock", "--no-cache", check=False)
    assert done.returncode in (0, 12), done.stderr
    return done.returncode == 0


def refused(call: Call, code: str) -> str:
    """The sentence of a call that has failed as expected."""
    assert one_sentence(call)["code"] == code, call.output
    return call.error["message"]


def test_a_change_of_the_password(agent: AgentContainer) -> None:
    added = agent.ok("key", "add", stdin=given(NEW))
    assert added["added"]
    assert not agent.ok("key", "add", stdin=given(NEW))["added"], "once is enough"
    keys = agent.ok("key", "list")
    assert [(key["user"], key["host"]) for key in keys["keys"] if key["id"] == added["key"]] == [
        ("scalr-backup", "test-host")
    ]
    assert opens(agent, OLD)
    assert "test-host itself" in refused(
        agent.call("key", "remove", "--unused-by=web2", stdin=given(OLD)), "key_in_use"
    )

    agent.set_password(NEW)
    retire = ["key", "remove", "--unused-by=web2"]
    assert agent.ok(*retire, stdin=given(OLD))["removed"] == [keys["current"]]

    assert (opens(agent, OLD), opens(agent, NEW)) == (False, True)
    refused(agent.call(*retire, stdin=given(OLD)), "unknown_key")
    assert len(json.loads(agent.restic("--repo", "/repository/copy", "snapshots", "--json"))) == 2

    # Another host has removed the old key; this one was cut off before it used the new one.
    agent.set_password(OLD)
    refused(agent.call("key", "list"), "wrong_password")
    assert not agent.ok("key", "add", stdin=given(NEW))["added"]


def test_a_wrong_password_is_a_sentence(agent: AgentContainer) -> None:
    agent.set_password("something else")

    for call in (agent.call("key", "list"), agent.call("key", "add", stdin=given(NEW))):
        assert "Wrong password for the repository /repository/copy" in refused(call, "wrong_password")


def test_a_password_that_is_none_is_a_sentence(agent: AgentContainer) -> None:
    for stdin in ("", "horse", given(""), given(" horse")):
        assert "horse" not in refused(agent.call("key", "add", stdin=stdin), "configuration")


def test_a_key_that_another_host_may_use_is_not_removed(agent: AgentContainer) -> None:
    assert agent.ok("key", "list")["shared_with"] == ["web2"]
    agent.ok("key", "add", stdin=given(NEW))
    agent.set_password(NEW)

    sentence = refused(agent.call("key", "remove", stdin=given(OLD)), "key_in_use")

    assert (
        "may be in use by web2, which has snapshots there but no newer key of its own: nothing was removed" in sentence
    )
    assert opens(agent, OLD)


@pytest.mark.thorough
def test_a_key_for_the_safe(agent: AgentContainer) -> None:
    escrow = agent.ok("key", "add", "--escrow", "kit-1", stdin=given(PAPER))["key"]

    labels = {key["id"]: (key["user"], key["host"]) for key in agent.ok("key", "list")["keys"]}
    assert labels[escrow] == ("scalr-backup-escrow", "kit-1")
    assert opens(agent, PAPER)
    assert "by web2" in refused(agent.call("key", "remove", escrow[:8]), "key_in_use"), (
        "it may have been rebuilt with it"
    )
    assert agent.ok("key", "remove", escrow[:8], "--unused-by=web2")["removed"] == [escrow]
    assert not opens(agent, PAPER)


def test_the_table_for_people_names_the_keys_and_no_password(agent: AgentContainer) -> None:
    shown = docker("exec", agent.name, "scalr-backup", "key", "list").stdout
    assert "this host's" in shown
    assert OLD not in shown


def start(agent: AgentContainer, *arguments: str, password: str) -> subprocess.Popen[str]:
    """Start a verb that reads a password."""
    command = ["docker", "exec", "-i", agent.name, "scalr-backup", "key", *arguments, "--json"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(given(password))
    process.stdin.close()
    return process


def test_killed_at_any_moment_one_password_opens_and_the_next_call_finishes(agent: AgentContainer) -> None:
    """Both the agent's process and restic die, at moments from the first to after the last."""
    for number in range(4):
        process = start(agent, "add", password=NEW)
        time.sleep(0.3 + number * 1.1)
        agent.kill_processes("key")
        process.wait(60)
        assert opens(agent, OLD)
    agent.ok("key", "add", stdin=given(NEW))
    agent.set_password(NEW)
    for number in range(4):
        process = start(agent, "remove", "--unused-by", "web2", password=OLD)
        time.sleep(0.3 + number * 1.1)
        agent.kill_processes("key")
        process.wait(60)
        assert opens(agent, NEW)
    last = agent.call("key", "remove", "--unused-by", "web2", stdin=given(OLD))
    # A call may have come to its end before it was to be killed, and leaves nothing to the last one.
    assert last.exit_code == 0 or last.error["code"] == "unknown_key", last.output
    assert (opens(agent, OLD), opens(agent, NEW)) == (False, True)


def test_no_process_shows_a_password(agent: AgentContainer) -> None:
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(docker("top", agent.name).stdout)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        agent.ok("key", "add", stdin=given(NEW))
    finally:
        done.set()
        watcher.join()

    everything = "\n".join(seen)
    assert "restic key add" in everything
    assert "canary" not in everything
    assert docker("exec", agent.name, "find", "/tmp", "-type", "f").stdout == "", "nothing of it lies there"


def test_a_store_that_only_takes_gets_the_new_key_and_keeps_the_old_one(agent_image: str, tmp_path: Path) -> None:
    host = AgentContainer(tmp_path / "agent", ["none-*"], agent_image)
    with store_network() as network:
        rest = network.rest("--append-only")
        host.configure(repository=rest.repository("host"))
        host.set_environment(**rest.environment())
        try:
            network.connect(host.start().name)
            host.ok("init")
            host.ok("key", "add", stdin=given(NEW))
            host.set_password(NEW)
            call = host.call("key", "remove", stdin=given(OLD))
            assert "cannot be used" in refused(call, "repository_refused")
            assert len(host.ok("key", "list")["keys"]) == 2
        finally:
            host.remove()
