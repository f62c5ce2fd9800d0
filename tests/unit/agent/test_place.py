# SPDX-License-Identifier: GPL-3.0-or-later
"""Which repositories are lost with the host."""

from __future__ import annotations

import pytest
from scalr_backup.core.config import Config
from scalr_backup.tools import place
from scalr_backup.tools.place import default_gateway, file_system, lies_on_host

MOUNTS = """\
21 26 0:20 / /proc rw,nosuid - proc proc rw
26 1 0:30 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker
40 26 8:1 /var/lib/docker/volumes/r/_data /repository rw,relatime master:1 - ext4 /dev/sda1 rw
41 26 0:44 / /mnt/nas rw,relatime shared:7 master:2 - nfs4 nas:/export rw
42 26 0:45 / /mnt/share rw - cifs //nas/share rw
43 26 0:46 / /mnt/ssh rw - fuse.sshfs store@nas: rw
44 26 0:47 / /mnt/pool rw - fuse.mergerfs a:b rw
45 41 8:2 / /mnt/nas/local rw - xfs /dev/sdb rw
46 26 0:48 / /mnt/my\\040nas rw - nfs nas:/other rw
"""
ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""
OWN = ("web1", "WEB1.example.com", "203.0.113.7", "fd00::7")


@pytest.mark.parametrize(
    "repository",
    [
        "/repository",
        "/mnt/pool/web1",
        "/mnt/nas/local/web1",
        "/mnt/nas2",
        "local:/srv/backups",
        "rest:http://localhost:8000/",
        "rest:https://user:secret@127.0.0.1:8000/web1",
        "rest:http://[::1]:8000/",
        "rest:http://[::ffff:127.0.0.1]:8000/",
        "rest:http://0.0.0.0:8000/",
        "rest:http://store.localhost/",
        "s3:http://localhost:9000/bucket",
        "s3:localhost:9000/bucket/web1",
        "s3:https://127.1.2.3/bucket",
        "sftp:localhost:/backups",
        "sftp:user@localhost:/backups",
        "sftp://user@[::1]:2222//backups",
        "sftp:user@[fd00::7]:/backups",
        "sftp:web1:/backups",
        "sftp:backup@web1.example.com:/backups",
        "rest:http://203.0.113.7:8000/",
        "rest:http://WEB1./",
        "s3:http://host.docker.internal:9000/bucket",
    ],
)
def test_a_place_on_the_host_is_known(repository: str) -> None:
    assert lies_on_host(repository, OWN, MOUNTS)


@pytest.mark.parametrize(
    "repository",
    [
        "/mnt/nas",
        "/mnt/nas/web1",
        "local:/mnt/nas/web1",
        "/mnt/share/web1",
        "/mnt/ssh/web1",
        "/mnt/my nas/web1",
        "s3:https://s3.example.com/web1",
        "s3:s3.amazonaws.com/localhost",
        "rest:https://localhost.example.com/",
        "rest:https://web10:8000/web1",
        "rest:https://[::1/",
        "sftp:web1@nas:/backups",
        "sftp:nas:/web1",
        "b2:web1:localhost",
        "azure:web1:/",
        "rclone:web1:/backups",
    ],
)
def test_a_place_elsewhere_is_none_on_the_host(repository: str) -> None:
    assert not lies_on_host(repository, OWN, MOUNTS)


def test_what_was_mounted_last_at_a_place_counts() -> None:
    assert file_system("/repository", MOUNTS + "50 40 0:50 / /repository rw - nfs4 nas:/e rw\n") == "nfs4"
    assert file_system("/repository", "") == ""


def test_the_gateway_of_the_container_is_its_host() -> None:
    assert default_gateway(ROUTES) == "172.17.0.1"
    assert default_gateway("") is None


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({}, True),
        ({"repository_on_host_accepted": True}, False),
        ({"copy": {"repository": "s3:https://s3.example.com/web1"}}, False),
        ({"copy": {"repository": "/srv/copy"}}, True),
        ({"repository": "s3:https://s3.example.com/web1"}, False),
        ({"repository": "rest:http://203.0.113.7/", "host_addresses": ["203.0.113.7"]}, True),
        ({"repository": "rest:http://172.17.0.1/"}, True),
        ({"repository": "rest:http://172.17.0.2/"}, False),
    ],
)
def test_one_repository_elsewhere_is_enough(changes: dict, lost: bool, tmp_path, monkeypatch) -> None:
    for name, text in (("_MOUNTS", MOUNTS), ("_ROUTES", ROUTES)):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr(place, name, tmp_path / name)
    config = Config.model_validate({"host": "web1", "repository": "/repository"} | changes)
    assert place.is_lost_with_the_host(config) is lost
