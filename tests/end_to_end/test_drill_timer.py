"""The monthly drill on a machine with systemd, on one with cron, and on one with neither."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import docker, wait_until
from tests.support.controller import CHECKOUT, Controller, Run

# The first test may build the image.
pytestmark = pytest.mark.timeout(900)

IMAGE = "scalr-test-timer:trixie"
DOCKERFILE = """
FROM scalr-test-docker-host:trixie
RUN apt-get update \\
 && apt-get install -y --no-install-recommends cron systemd systemd-sysv \\
 && rm -rf /var/lib/apt/lists/*
"""
# systemd wants its cgroups writable, and on a machine with the first version of them to be told that this is all right.
SYSTEMD = (
    "mount -o remount,rw /sys/fs/cgroup; for it in /sys/fs/cgroup/*/; do mount -o remount,rw ${it%/}; done;"
    "exec /sbin/init systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
)
# Says what the agent's image and mounts are, and notes what it is asked to run.
DOCKER = """#!/bin/sh
case "$*" in
  *{{.Image}}*) echo sha256:5f0c /opt/scalr/services/backup/config ;;
  'container inspect '*) echo cafe ;;
  *) echo "$*" >> /root/runs; echo 0123456789abcdef0123 ;;
esac
"""
CONFINED = "--rm --init --read-only --cap-drop ALL --security-opt no-new-privileges"
# The proxy, and the drill.
RUN = (
    f"run --detach {CONFINED} --network none --memory 256m --cpu-shares 512 --pids-limit 64 --no-healthcheck --group-add 4242 "
    "--volume /var/run/docker.sock:/var/run/docker.sock --volume /opt/scalr/services/backup/config:/etc/scalr-backup:ro "
    "--volume /run/scalr-backup --env DRILL_IMAGE= --entrypoint haproxy sha256:5f0c -db -f "
    "/opt/scalr-backup/socket-proxy/drill.cfg\n"
    f"run {CONFINED} --tmpfs /tmp:size=64m --memory 4g --cpu-shares 512 --pids-limit 512 "
    "--name scalr-backup-drill-0123456789ab --volumes-from scalr-backup --volume cafe:/run/scalr-backup:ro "
    "--volume /dev/null:/var/run/docker.sock:ro --env DOCKER_HOST=unix:///run/scalr-backup/docker.sock sha256:5f0c drill"
)
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "ansible.builtin.include_role": {"name": "scalr.backup.backup", "tasks_from": "drill.yml"},
                # What the tasks before these find out.
                "vars": {"__backup_directories": {"changed": False}},
            }
        ],
    }
]


class Machine:
    """A machine on which the role has done all but the drill."""

    def __init__(self, directory: Path, first_process: str) -> None:
        self.name = f"scalr-test-timer-{secrets.token_hex(3)}"
        rights = ["--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--security-opt", "seccomp=unconfined"]
        temporary = ["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp"]
        docker(
            "run", "--detach", "--name", self.name, *rights, "--security-opt", "apparmor=unconfined", *temporary,
            "--env", "container=docker", "--entrypoint", "/bin/bash", IMAGE, "-c", first_process,
        )  # fmt: skip
        self.shell("mkdir -p /opt/scalr/services/backup/config; cat > /usr/local/bin/docker", DOCKER)
        self.shell("touch /var/run/docker.sock; chgrp 4242 /var/run/docker.sock")
        self.shell("chmod 755 /usr/local/bin/docker; echo {} > /opt/scalr/services/backup/config/config.json")
        self._controller = Controller(directory, self.name, {})
        self._inventory = directory / "machine.json"
        host = {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3"}
        self._inventory.write_text(json.dumps({"all": {"hosts": {self.name: host}}}))
        self._playbook = directory / "drill.json"
        self._playbook.write_text(json.dumps(PLAY))

    def shell(self, script: str, stdin: str | None = None) -> str:
        """Run a script on it."""
        return docker("exec", "-i", self.name, "sh", "-c", script, stdin=stdin).stdout

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return docker("exec", self.name, "test", "-e", path, check=False).returncode == 0

    def play(self, *arguments: str, exit_code: int = 0, **variables: object) -> Run:
        """Run the role's tasks about the drill."""
        command = ["ansible-playbook", str(self._playbook), "-i", str(self._inventory), "-e", json.dumps(variables)]
        return self._controller.run(
            [*command, *arguments],
            exit_code=exit_code,
            ANSIBLE_COLLECTIONS_PATH=str(CHECKOUT / ".ansible/collections"),
        )

    def changes(self, *arguments: str, **variables: object) -> int:
        """How many tasks changed something."""
        return self.play(*arguments, **variables).recap(self.name)["changed"]


@pytest.fixture(scope="module")
def image() -> None:
    docker("build", "--quiet", "--tag", IMAGE, "-", stdin=DOCKERFILE, timeout=280)


@pytest.fixture
def machine(image: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = Machine(tmp_path, request.param)
    yield machine
    docker("rm", "--force", "--volumes", machine.name)


@pytest.mark.parametrize("machine", [SYSTEMD], indirect=True)
def test_systemd_starts_the_drill(machine: Machine) -> None:
    wait_until(lambda: machine.has("/run/systemd/private"), "systemd answers")
    assert machine.changes("--check", "--diff") > 0
    assert not machine.has("/etc/systemd/system/scalr-backup-drill.timer")

    assert machine.changes(backup_drill_day=7, backup_drill_time="14:30") > 0
    assert machine.changes(backup_drill_day=7, backup_drill_time="14:30") == 0
    # systemd itself says when, and what it starts is run for real.
    when = machine.shell("systemctl show --property NextElapseUSecRealtime scalr-backup-drill.timer")
    assert re.search(r"-07 14:30:00", when), when
    assert machine.shell("systemctl is-enabled scalr-backup-drill.timer") == "enabled\n"
    machine.shell("systemctl start scalr-backup-drill.service")
    assert machine.shell("cat /root/runs") == f"{RUN}\n"

    machine.play(backup_drill_day=8, backup_drill_time="14:30")
    assert "-08 14:30:00" in machine.shell("systemctl show --property NextElapseUSecRealtime scalr-backup-drill.timer")

    assert machine.changes(backup_drill=False) > 0
    assert machine.changes(backup_drill=False) == 0
    assert not machine.has("/etc/systemd/system/scalr-backup-drill.timer")
    assert "scalr-backup-drill" not in machine.shell("systemctl list-timers --all")
    assert not machine.has("/etc/cron.d/scalr-backup-drill")


@pytest.mark.parametrize("machine", ["exec sleep infinity"], indirect=True)
def test_cron_starts_the_drill_where_there_is_no_systemd(machine: Machine) -> None:
    assert machine.changes(backup_drill_day=7, backup_drill_time="04:05") > 0
    assert machine.changes(backup_drill_day=7, backup_drill_time="04:05") == 0

    line = machine.shell("grep -v '^#' /etc/cron.d/scalr-backup-drill").strip()
    assert line == "5 4 7 * * root /opt/scalr/services/backup/drill"
    assert machine.shell("stat -c '%a %U' /etc/cron.d/scalr-backup-drill") == "644 root\n"
    # cron itself, with a day that is always: it starts what the file says as it stands there.
    machine.shell("sed -i 's/^5 4 7 /* * * /' /etc/cron.d/scalr-backup-drill; cron")
    wait_until(lambda: machine.shell("head -2 /root/runs || true") == f"{RUN}\n", "cron starts the drill", 90)

    assert machine.changes(backup_drill=False) > 0
    assert not machine.has("/etc/cron.d/scalr-backup-drill")


@pytest.mark.parametrize("machine", ["rm -r /usr/sbin/cron /etc/cron.d; exec sleep infinity"], indirect=True)
def test_a_machine_with_neither_is_told_and_its_script_works(machine: Machine, tmp_path: Path) -> None:
    run = machine.play()

    assert f"WARNING: {machine.name} has neither systemd nor cron, so nothing starts its monthly drill." in run.text
    assert "WARNING" not in machine.play(backup_drill=False).text
    machine.shell("/opt/scalr/services/backup/drill --db 'scalr-foo-db'")
    assert machine.shell("cat /root/runs") == f"{RUN} --db scalr-foo-db\n"
    assert machine.shell("stat -c %a /opt/scalr/services/backup/drill") == "700\n"

    # The assertions follow the controller's directory, and nothing else in the configuration is touched.
    there = "cd /opt/scalr/services/backup/config; find . -type f | sort | xargs stat -c '%a %n'; find drill -type d | wc -l"
    shop = tmp_path / "assertions/scalr-shop-db/shop"
    shop.mkdir(parents=True)
    (shop / "recent.sql").write_text("SELECT true")
    (shop.parent / "all.sql").write_text("SELECT true")
    wanted = {"backup_drill": False, "backup_drill_assertions": str(tmp_path / "assertions")}
    assert machine.changes(**wanted) > 0
    assert machine.changes(**wanted) == 0
    assert machine.shell(there).splitlines() == [
        "644 ./config.json", "640 ./drill/scalr-shop-db/all.sql", "640 ./drill/scalr-shop-db/shop/recent.sql", "3",
    ]  # fmt: skip
    (shop / "recent.sql").rename(shop / "renamed.sql")
    assert machine.changes(**wanted) == 2
    assert "renamed.sql" in machine.shell(there)
    assert "recent.sql" not in machine.shell(there)
    assert machine.changes(backup_drill=False) == 1
    assert machine.shell("ls /opt/scalr/services/backup/config") == "config.json\n"


@pytest.mark.parametrize("machine", ["exec sleep infinity"], indirect=True)
@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"backup_drill_day": 31}, "backup_drill_day is 31: it must be a day from 1 to 28"),
        ({"backup_drill_time": 870}, "backup_drill_time is 870: it must be a time such as '14:30', in quotes"),
        (
            {"backup_drill_assertions": "/nowhere"},
            "backup_drill_assertions is /nowhere, but the controller has no such directory",
        ),
    ],
)
def test_a_schedule_that_makes_no_sense(machine: Machine, variables: dict[str, object], sentence: str) -> None:
    assert sentence in machine.play(exit_code=2, **variables).text
