"""What the documentation says to do when a volume is full, and what goes on when it is the agent's own, with real containers."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.containers import AgentContainer, DatabaseContainer, docker, running, wait_until, with_repository
from tests.support.documented import documented
from tests.support.pager import Pager

# The agent's user, whom its volume belongs to.
AGENT = 64738
STATE = "/var/lib/scalr-backup"


@pytest.fixture
def house() -> Iterator[DatabaseContainer]:
    house = DatabaseContainer(f"full-{secrets.token_hex(4)}-db")
    with running(house):
        yield house


def test_the_steps_for_a_full_volume_can_be_followed(house: DatabaseContainer) -> None:
    house.sql("CREATE TABLE orders AS SELECT 1 AS id")
    names, larger = {"scalr-foo-db": house.name}, f"{house.name}-larger"

    follow(documented("docker update --restart=no scalr-foo-db && docker stop scalr-foo-db", names))
    assert "shut down" in follow(documented("docker logs --tail 20 scalr-foo-db", names))
    mounts = follow(
        documented(
            """docker inspect --format '{{ range .Mounts }}{{ .Source }} on {{ .Destination }}{{ "\\n" }}{{ end }}' scalr-foo-db""",
            names,
        )
    )
    assert " on /var/lib/postgresql/data" in mounts
    assert "Use%" in follow(documented("df -h /var/lib/docker"))
    try:
        follow(
            documented(
                "docker run --rm --volumes-from scalr-foo-db -v foo-larger:/larger postgres:17 "
                "cp -a /var/lib/postgresql/data/. /larger/",
                {**names, "foo-larger": larger},
            )
        )
        copied = docker("run", "--rm", "--volume", f"{larger}:/larger:ro", house.image, "cat", "/larger/PG_VERSION")
        assert copied.stdout == "17\n"
    finally:
        docker("volume", "rm", "--force", larger)

    start = documented("docker start scalr-foo-db && docker logs --follow --since 1m scalr-foo-db", names)
    # Whoever waits for the sentence leaves when it has come; the log goes on, and a pipe would wait for its next line.
    ready = "database system is ready to accept connections"
    assert ready in follow(f"grep --max-count=1 '{ready}' < <({{ {start}; }} 2>&1)")
    house.wait()
    assert house.sql("SELECT id FROM orders").strip() == "1"


def follow(command: str) -> str:
    """Run a command as whoever copies it does; what it printed, on either stream."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def small(agent_image: str, prefix: str, tmp_path: Path) -> Iterator[AgentContainer]:
    """An agent whose state lies on a disk of 256 KiB."""
    agent = AgentContainer(tmp_path / "agent", [f"{prefix}-*-db"], agent_image)
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size=256k,uid={AGENT},gid={AGENT}"}
    docker(
        "volume", "create", *(f"--opt={name}={value}" for name, value in options.items()), f"{agent.name}-state"
    )  # fmt: skip
    with with_repository(agent):
        yield agent


@pytest.fixture
def pager() -> Iterator[Pager]:
    pager = Pager()
    yield pager
    pager.server.shutdown()


def fill(agent: AgentContainer) -> None:
    """Let nothing more fit on the disk of its state."""
    docker("exec", agent.name, "sh", "-c", f"cat /dev/zero > {STATE}/filler 2> /dev/null; true")
    assert "100%" in docker("exec", agent.name, "df", STATE).stdout


@pytest.mark.timeout(600)
def test_a_full_disk_of_the_agents_own_keeps_no_dump_from_the_store_and_everybody_is_told(
    small: AgentContainer, make_database: Callable[..., DatabaseContainer], pager: Pager
) -> None:
    house = make_database("house")
    house.sql("CREATE TABLE orders AS SELECT 1 AS id")
    before = small.ok("backup")["databases"][0]["snapshot_id"]
    small.set_secret("notify", pager.webhook)
    small.set_secret("heartbeat", pager.switch)
    fill(small)

    saved = small.call("backup", "--reason", "nightly")
    assert (saved.exit_code, saved.error["code"]) == (1, "record_unwritable")
    assert f"{STATE}/state.json cannot be written: No space left on device." in saved.error["message"]
    assert saved.error["message"] in saved.data["warnings"]
    snapshot = saved.data["databases"][0]["snapshot_id"]
    assert {before, snapshot} <= {one["id"] for one in small.ok("snapshots")["snapshots"]}
    assert small.restic("dump", snapshot, f"/{house.name}/postgres.dump").startswith("PGDMP")

    assert small.call("discover").exit_code == 0
    assert small.call("check").error["code"] == "record_unwritable"
    assert [one["code"] for one in small.ok("status")["findings"] if one["severity"] == "failure"] == [
        "record_unwritable"
    ]
    refused = small.call("restore", "--db", house.name, "--snapshot", snapshot, "--confirm", house.name)
    assert "No space left on device" in refused.error["message"]
    assert house.sql("SELECT id FROM orders") == "1"

    # And by itself: the schedule goes on, the switch hears of each pass, and a message goes out.
    small.configure(schedule="* * * * *")
    told = pager.wait_for("FAILED: record unwritable")
    assert f"{STATE}/state.json cannot be written: No space left on device." in told["message"]
    assert f"Run next: docker exec scalr-backup df -h {STATE}" in told["message"]
    wait_until(lambda: any(path.startswith("/fail") for path, _body in pager.beats), "a scheduled pass has ended")
    reason = next(body for path, body in pager.beats if path.startswith("/fail"))
    assert reason.startswith(f"The agent's record {STATE}/state.json cannot be written")
    assert docker("inspect", "--format", "{{.RestartCount}} {{.State.Running}}", small.name).stdout == "0 true\n"
    assert len([one for one in pager.messages if "record unwritable" in one["title"]]) == 1

    docker("exec", small.name, "rm", f"{STATE}/filler")
    pager.wait_for("Recovered", "cannot be written")
    wait_until(lambda: not small.ok("status")["findings"], "the next pass is on record")
