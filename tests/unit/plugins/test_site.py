# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What site.yml refuses about a machine before it changes anything there, and that the others go on."""

from __future__ import annotations

import re
import shutil
import socket
import sys

FIT = {
    "python": f'exec {sys.executable} "$@"',
    "date": 'exec /bin/date "$@"',
    "grep": "echo 'MemTotal: 4000000 kB'",
}
# The agent's own container publishes that port already.
OURS = f'''[ "$1" != port ] || exec echo "9797/tcp -> 127.0.0.1:{{taken}}"; exec {shutil.which("docker")} "$@"'''
# By host: what is different there, a variable of the role, and how the sentence begins. Empty is a host that is fit.
HOSTS = {
    "bare": ({"python": None}, {}, "bare has no Python /"),
    "old": ({"python": "echo python=3.6"}, {}, "old has Python 3.6, but the modules need 3.9 or newer"),
    "ahead": (
        {"date": "echo $(( $(/bin/date +%s) + 11549 ))"},
        {},
        "The clock of ahead is 3 h 12 min ahead of the controller's",
    ),
    "behind": (
        # Half a minute more, so that a busy machine's own delay makes no difference.
        {"date": "echo $(( $(/bin/date +%s) - 629 ))"},
        {},
        "The clock of behind is 10 min",
    ),
    "small": (
        {"grep": "echo 'MemTotal: 245760 kB'"},
        {},
        "small has 240 MiB of memory: Docker, the agent and restic",
    ),
    "worded": ({}, {"backup_schedule_spread": "some"}, "backup_schedule_spread is some: it must be a number"),
    "negative": ({}, {"backup_schedule_spread": "-5"}, "backup_schedule_spread is -5: it must be a number"),
    "long": ({}, {"backup_schedule_spread": "721"}, "backup_schedule_spread is 721: it must be a number"),
    "dated": ({}, {"backup_apt_snapshot": "yesterday"}, "backup_apt_snapshot is yesterday: it must be a UTC timestamp"),
    "nowhere": (
        {},
        {"backup_metrics_publish": "9797"},
        "backup_metrics_publish is 9797: it must be one of the host's addresses",
    ),
    "elsewhere": (
        {},
        {"backup_metrics_publish": "192.0.2.10:9797"},
        "backup_metrics_publish is 192.0.2.10:9797, but elsewhere has no such address",
    ),
    "overflowing": (
        {},
        {"backup_metrics_publish": "127.0.0.1:99999"},
        "backup_metrics_publish is 127.0.0.1:99999: it must be one of the host's addresses and a port from 1 to 65535",
    ),
    "colon": (
        {},
        {"backup_repository": "/mnt/a:b"},
        "backup_repository is /mnt/a:b, but Docker cannot mount a path that contains a colon",
    ),
    "relative": (
        {},
        {"backup_engine_socket": "run/podman.sock"},
        "backup_engine_socket is run/podman.sock: it must be the absolute path of the engine's socket on the host",
    ),
    "mapped": (
        {},
        {"backup_engine_socket": "/run/podman.sock:/x"},
        "backup_engine_socket is /run/podman.sock:/x: it must be the absolute path",
    ),
    "taken": (
        {},
        {"backup_metrics_publish": "127.0.0.1:{taken}"},
        "backup_metrics_publish is 127.0.0.1:{taken}, but that port is already in use on taken",
    ),
    "ours": ({"docker": OURS}, {"backup_metrics_publish": "127.0.0.1:{taken}"}, ""),
    "slashed": (
        {},
        {"backup_repository": "rest:https://user:pa/ss@backup.example.com/"},
        "The address in backup_repository contains a password",
    ),
    # A clock that is a little off is none of our business.
    "fit": ({"date": "echo $(( $(/bin/date +%s) + 200 ))"}, {"backup_metrics_publish": "127.0.0.1:9797"}, ""),
    "ported": ({}, {"backup_repository": "s3:https://s3.example.com:9000/bucket/who@where"}, ""),
}


def test_what_is_wrong_with_one_host_is_one_sentence_and_does_not_stop_the_others(fleet):
    # So many hosts, two at a time.
    fleet.seconds = 400
    fleet.unreachable_host("away")
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = str(somebody.getsockname()[1])
        for host, (changes, variables, _sentence) in HOSTS.items():
            commands = {name: script.replace("{taken}", taken) for name, script in {**FIT, **changes}.items() if script}
            fleet.machine(host, **commands)
            fleet.hosts[host].update({name: value.replace("{taken}", taken) for name, value in variables.items()})

        run = fleet.run("site", "--check", "--tags=preflight", "--forks=2")

    assert run.returncode != 0
    assert re.search(r"^away .*unreachable=1", run.stdout, re.MULTILINE)
    # Those that failed are named at the end, where somebody looks.
    failed = re.search(r"^FAILED: (.*?)\. The cause is above", run.stdout, re.MULTILINE)
    assert set(failed[1].split(", ")) == {"away", *(host for host, (_, _, sentence) in HOSTS.items() if sentence)}
    # Up to ansible-core 2.18 a failure is shown as the result's msg only, from 2.19 on as a sentence only.
    sentences = re.findall(r"Task failed: (?:Action|Module) failed: (.*)", run.stdout)
    sentences = sentences or re.findall(r'"msg": "(.*)"', run.stdout)
    for host, (_changes, _variables, sentence) in HOSTS.items():
        recap = re.search(rf"^{host} .*", run.stdout, re.MULTILINE)[0]
        assert f"failed={1 if sentence else 0}" in recap, recap
        if sentence:
            beginning = sentence.replace("{taken}", taken)
            assert "changed=0" in recap, recap
            assert len([found for found in sentences if found.startswith(beginning)]) == 1, (beginning, sentences)


def test_hosts_follow_one_another_where_that_is_wanted(fleet):
    fleet.machine("web1", **FIT)
    fleet.machine("web2", **FIT)

    run = fleet.run("site", "--tags=nothing", "--check", backup_serial=1)

    assert run.stdout.count("PLAY [Provision the hosts]") == 2


def test_another_engine_that_does_not_answer_is_not_replaced_by_docker(fleet, tmp_path):
    fleet.machine("web1", **FIT)
    fleet.hosts["web1"]["backup_engine_socket"] = f"{tmp_path}/podman.sock"

    run = fleet.run("site", "--tags=docker", "--check")

    assert run.returncode != 0
    assert f"No engine answers on {tmp_path}/podman.sock of web1, and only Docker Engine" in " ".join(
        run.stdout.split()
    )
    assert re.search(r"^web1 .*changed=0 ", run.stdout, re.MULTILINE)
