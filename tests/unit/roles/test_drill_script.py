# SPDX-License-Identifier: GPL-3.0-or-later
"""The drill on the host, as the role installs it for another engine than Docker's own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

# Says what is asked of it, and notes how it was called and for which engine.
DOCKER = """#!/bin/sh
printf '%s %s\\n' "$DOCKER_HOST" "$*" >> "$0.calls"
case "$*" in
  *{{.Image}}*) echo sha256:5f0c /srv/config ;;
  *'--entrypoint stat'*) echo 101 ;;
  'container inspect '*) echo cafe ;;
  *) echo 0123456789abcdef0123 ;;
esac
"""
STAT = """#!/bin/sh
case "$*" in '-L -c %u /run/user/1000/it.sock') echo {owner} ;; '-L -c %g /run/user/1000/it.sock') echo 4242 ;; esac
"""
SOCKET = "/run/user/1000/it.sock"


@pytest.mark.parametrize(("owner", "group"), [(0, 4242), (1000, 101)])
def test_it_speaks_to_the_engine_of_the_socket_and_has_its_group(
    checkout: Path, tmp_path: Path, owner: int, group: int
) -> None:
    """Where the engine runs as a user, one of its containers says which number the socket's group has there."""
    [pattern] = re.findall(
        r"regex_replace\('(.*?)', 'socket=' ~ \(backup_engine_socket \| quote\)\)",
        yaml.safe_load((checkout / "roles/backup/vars/main/drill.yml").read_text())["__backup_drill_text"],
    )
    text, count = re.subn(pattern, f"socket={SOCKET}", (checkout / "roles/backup/files/drill").read_text())
    assert count == 1
    for name, script in {"docker": DOCKER, "stat": STAT.format(owner=owner), "drill": text}.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)

    subprocess.run([tmp_path / "drill"], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True)

    calls = (tmp_path / "docker.calls").read_text().splitlines()
    assert {call.split()[0] for call in calls} == {f"unix://{SOCKET}"}
    [proxy] = [call for call in calls if " --entrypoint haproxy " in call]
    assert f" --group-add {group} --volume {SOCKET}:/var/run/docker.sock " in proxy
    # The drill has it covered up where a container has it, and no other way there than its proxy's.
    assert (
        " --volume /dev/null:/var/run/docker.sock:ro --env DOCKER_HOST=unix:///run/scalr-backup/docker.sock "
        in calls[-1]
    )
    assert SOCKET not in calls[-1].removeprefix(f"unix://{SOCKET} ")
