"""A second repository that is the first one under another address: nothing is copied to it, and nothing removed from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker

NIGHTS = 3


@pytest.fixture
def nights(
    agent: AgentContainer, make_database: Callable[..., DatabaseContainer]
) -> Callable[[], list[tuple[str, str]]]:
    """What the first repository holds, after some nights; its copy may keep less than it does."""
    make_database("shop")
    agent.configure(keep={"last": 30, "daily": 0, "weekly": 0, "monthly": 0})
    for _night in range(NIGHTS):
        agent.ok("backup", "--reason", "nightly")

    def held() -> list[tuple[str, str]]:
        return [(one["id"], one["time"]) for one in agent.ok("snapshots")["snapshots"]]

    assert len(held()) == NIGHTS
    return held


def packs(agent: AgentContainer) -> set[str]:
    return set(
        docker("exec", agent.name, "find", "/repository", "-type", "f", "-not", "-path", "*/locks/*").stdout.split()
    )


def test_the_first_repository_under_another_address_is_refused_and_loses_nothing(
    agent: AgentContainer, nights: Callable[[], list[tuple[str, str]]]
) -> None:
    before, files = nights(), packs(agent)
    # Of one place, a link to it; of the other, another one that only has the first one's files.
    docker("exec", agent.name, "sh", "-c", "ln -s /repository /tmp/linked && cp -a /repository /tmp/mirrored")
    for place in ("/tmp/linked", "/tmp/mirrored"):
        agent.configure(copy={"repository": place, "keep": {"last": 1, "daily": 0, "weekly": 0, "monthly": 0}})
        for verb in ("init", "forget", "prune"):
            call = agent.call(verb, "--copy")
            assert (call.exit_code, call.error["code"]) == (2, "configuration"), call.output
            assert f"backup_copy_repository is {place}, which is the first repository" in call.error["message"]
        call = agent.call("copy")
        assert (call.error["code"], call.data["copied"], call.data["removed"]) == ("configuration", 0, []), call.output
        examined = {one["check"]: one for one in agent.call("doctor").data["checks"]}
        assert (examined["copy"]["verdict"], examined["repository"]["verdict"]) == ("failed", "ok")
    assert (nights(), packs(agent)) == (before, files)

    call = agent.call("backup", "--reason", "nightly")
    assert (call.error["code"], call.data["failed"], call.data["copy"]["ok"]) == ("configuration", 0, False), (
        call.output
    )
    assert len(nights()) == NIGHTS + 1, "the pass saves all the same, and its copy removes nothing"

    agent.configure(copy={"repository": "local:/repository/../repository"})
    call = agent.call("copy")
    assert (call.exit_code, call.error["code"]) == (2, "configuration")
    assert "backup_copy_repository: it is the same place as the first repository" in call.error["message"]

    agent.configure(copy={"repository": "/tmp/another"})
    assert agent.ok("init", "--copy")["created"]
    assert agent.ok("copy")["copied"] == 2 * (NIGHTS + 1), "a repository of its own gets the dumps and their manifests"
