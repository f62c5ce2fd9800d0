"""Drills as a host starts them: by the role's own script, for a test's agent."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.containers import SOCKET, AgentContainer, Call, docker, parse_call, wait_until

SCRIPT = Path(__file__).resolve().parents[2] / "roles" / "backup" / "files" / "drill"


def drill_command(agent: AgentContainer, *arguments: str) -> list[str]:
    """The command that drills an agent's backups, with ``--json``."""
    text = SCRIPT.read_text()
    for said, here in {
        "agent=scalr-backup": f"agent={agent.name}",
        "socket=/var/run/docker.sock": f"socket={SOCKET}",
    }.items():
        assert text.count(f"\n{said}\n") == 1
        text = text.replace(f"\n{said}\n", f"\n{here}\n")
    return ["sh", "-c", text, "drill", *arguments, "--json"]


def drill(agent: AgentContainer, *arguments: str) -> Call:
    """Drill to the end."""
    try:
        command = drill_command(agent, *arguments)
        return parse_call(subprocess.run(command, capture_output=True, text=True, timeout=300, check=False))
    finally:
        end_drills(agent)


def drills_of(agent: AgentContainer) -> list[str]:
    """The containers of drills of an agent that run."""
    mounts = ["--filter", f"volume={agent.name}-state", "--filter", "name=^/?scalr-backup-drill-[0-9a-f]{12}$"]
    return docker("ps", "--format", "{{.Names}}", *mounts).stdout.split()


def proxies_of(drills: Sequence[str]) -> list[str]:
    """Those of the proxies of these drills that are there."""
    known = docker("ps", "--all", "--format", "{{.ID}}").stdout.split()
    return [one for one in (drill.rpartition("-")[2] for drill in drills) if one in known]


def end_drills(agent: AgentContainer) -> None:
    """Leave no drill that another test would meet, and no proxy of one."""
    drills = drills_of(agent)
    if drills:
        docker("rm", "--force", "--volumes", *drills, check=False)
        wait_until(lambda: not proxies_of(drills), "the proxies have ended with their drills")


def idle_drill(agent: AgentContainer, *arguments: str) -> str:
    """A drill's container that does nothing, with all that a drill has: what somebody can do who has taken one over."""
    command, end = drill_command(agent, *arguments), '"$image" drill "$@"\n'
    assert command[2].endswith(end)
    script = command[2].removesuffix(end) + '--entrypoint sleep "$image" 3600\n'
    command[2] = script.replace("exec docker run --rm", "exec docker run --detach --rm")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return docker("inspect", "--format", "{{.Name}}", done.stdout.strip()).stdout.strip().removeprefix("/")
