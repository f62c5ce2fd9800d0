# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers a configuration must not match, as site.yml asks before it changes anything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from scalr_backup.actions.refused_matches import documents, refused_matches
from scalr_backup.core import power
from scalr_backup.core.config import Config
from scalr_backup.core.errors import UsageError
from scalr_backup.tools.docker.throwaways import Throwaways

LUA = Path(__file__).resolve().parents[3] / "roles/backup/files/agent/socket-proxy/power.lua"


def container(name, *, labels=None, mounts=(), **host):
    return {
        "Id": name * 8, "Name": f"/{name}", "Image": "sha256:1", "State": {"Status": "running"},
        "Config": {"Image": "postgres:17", "Labels": labels}, "Mounts": list(mounts),
        "HostConfig": {"Privileged": False, "NetworkMode": "bridge", **host},
    }  # fmt: skip


def config(**changes):
    return Config(host="h", repository="/repository", **changes)


def test_a_configuration_is_refused_for_each_container_that_it_matches_and_must_not():
    volume = {"Name": "run", "Mountpoint": "/x", "Options": {"device": "/var/run", "o": "bind", "type": "none"}}
    found = [
        container("scalr-a-db"), container("scalr-root-db", Privileged=True), container("web", Privileged=True),
        container("scalr-volume-db", mounts=[{"Type": "volume", "Driver": "local", "Name": "run", "Destination": "/srv"}]),
        container("scalr-joined-db", PidMode="container:web"), container("scalr-net-db", NetworkMode="host"),
        container("scalr-alone-db", Privileged=True, labels={"scalr.backup": "false"}),
        container("scalr-beside-db", NetworkMode="container:web", IpcMode="container:gone"),
        {**container("scalr-old-db", Privileged=True), "State": {"Status": "exited"}},
        {**container("scalr-odd-db", Privileged=True), "State": None},
        container("scalr-own-db", Privileged=True, labels={"scalr.backup.own": "true"}), volume, 7,
    ]  # fmt: skip
    assert [sentence.split(" is refused: ")[0] for sentence in refused_matches(config(), found)] == [
        "scalr-joined-db", "scalr-net-db", "scalr-root-db", "scalr-volume-db",
    ]  # fmt: skip
    accepting = config(
        host_namespaces_accepted=["scalr-net-db", "scalr-root-db"], exclude=["scalr-volume-*", "*-joined-*"]
    )
    [sentence] = refused_matches(accepting, found)
    assert sentence.startswith("scalr-root-db is refused: ")
    assert refused_matches(config(filter="`false`"), found) == []
    assert refused_matches(config(filter="sum(Name) > `0`"), found) == []


@pytest.mark.parametrize(
    ("options", "held"),
    [
        (["no-new-privileges", "unmask=/proc/sys"], "its security option unmask lets it change the kernel's settings"),
        (["UNMASK=all"], "its security option unmask lets it change the kernel's settings"),
        (["label=disable", "unmasked"], None),
        (None, None),
    ],
)
def test_podman_tells_that_a_container_may_change_the_kernels_settings_by_an_option(options, held):
    assert power.obstacle(container("scalr-a-db", SecurityOpt=options), accepted=True) == held


def bind(source, **mount):
    return {"Type": "bind", "Source": source, "Destination": "/srv", "RW": True, **mount}


ROOTED = [
    "/var/spool/cron/crontabs", "/etc/cron.daily", "/etc/cron.hourly", "/etc/cron.d/backup", "/etc/pam.d", "/etc/ssh", "/usr/bin",
    "/usr/sbin/cron", "/lib/systemd/system", "/usr/lib/systemd/system", "/home/admin/.ssh", "/etc/ld.so.preload", "/etc/shadow",
    "/root/.ssh/authorized_keys", "/root/.bashrc", "/boot/grub", "/etc/sudoers.d/x", "/etc/init.d/", "/etc/profile.d", "/etc//ssh",
    "/etc/rc.local", "/etc/rc2.d", "/etc/systemd/system/x.service", "/etc/docker", "/etc/docker/daemon.json", "/etc/gshadow",
    "/var/lib/docker/containers/x", "/var/lib/docker/165536.165536/overlay2/x", "/var/lib/containers/storage/overlay/x",
    "/srv/me/.config/systemd/user", "/sys/fs/cgroup", "/etc/passwd", "/etc//passwd", "/etc/security/pam_env.conf", "/usr/share",
    "/lib64/ld-linux-x86-64.so.2", "/usr/local/bin/x", "/etc/environment", "/etc/kubernetes/manifests", "/var/lib/containerd/x",
]  # fmt: skip
DATA = [
    "/etc/localtime", "/etc/timezone", "/usr/share/zoneinfo", "/etc/ssl", "/etc/ssl/private/x.pem", "/etc/letsencrypt/live/x",
    "/home/me/data", "/home/postgres", "/srv/x", "/opt/x/data", "/var/lib/postgresql", "/var/lib/postgresql/17/main", "/root/data",
    "/var/lib/docker/volumes/app/_data", "/var/lib/docker/165536.165536/volumes/app/_data", "/var/lib/docker-data/x", "/etc/hosts",
    "/var/lib/containers/storage/volumes/app/_data", "/etc/postgresql/17", "/etc/docker/compose/app/data", "/usr/local/pgsql/data",
    "/binaries", "/libs/x", "/bootstrap", "/etc/sshd-data", "/etc/security/limits.conf", "/usr/lib/locale", "/dev/shm", "/mnt/.sshfs/x",
    "/sys/kernel/mm/transparent_hugepage", "/run/postgresql", "/etc/pki/tls", "/usr/local/share/ca-certificates", "/etc/resolv.conf",
]  # fmt: skip


@pytest.mark.parametrize("source", ROOTED)
def test_what_lies_below_a_place_that_says_who_is_root_may_not_be_written(source):
    assert (
        power.obstacle(container("a-db", mounts=[bind(source)]), accepted=True)
        == f"it may write to {source} of the host"
    )
    assert power.obstacle(container("a-db", mounts=[bind(source, RW=False)]), accepted=True) is None
    volume = {"Type": "volume", "Driver": "local", "Name": "v", "Destination": "/srv"}
    for mount, held in ({}, f"its volume v is {source} of the host"), ({"RW": False}, None):
        document = container("a-db", mounts=[volume | mount])
        options = {"Options": {"device": source, "o": "bind", "type": "none"}}
        assert power.through(document, accepted=True, container=None, volume={"v": options}.get) == held


@pytest.mark.parametrize("source", DATA)
def test_what_databases_mount_by_habit_is_no_power(source):
    assert power.obstacle(container("a-db", mounts=[bind(source)]), accepted=True) is None


@pytest.mark.parametrize("writable", [True, False])
def test_the_agents_own_volumes_are_nobody_elses(writable):
    path = "/var/lib/docker/volumes/scalr-backup-state/_data"
    document = container("a-db", mounts=[bind(path, RW=writable)])
    assert power.obstacle(document, accepted=True) == f"it mounts {path} of the host"
    own = {"Type": "volume", "Driver": "local", "Name": "scalr-backup-socket", "Destination": "/srv", "RW": writable}
    held = power.through(container("a-db", mounts=[own]), accepted=True, container=None, volume={}.get)
    assert held == "its volume scalr-backup-socket is scalr.backup's own"
    other = {**own, "Name": "scalr-backup-statement"}
    assert power.through(container("a-db", mounts=[other]), accepted=True, container=None, volume={}.get) is None


@pytest.mark.parametrize("path", ["/./run", "/etc/./ssh", "/srv/../run", "/srv/."])
def test_a_path_that_leads_elsewhere_is_powerful(path):
    volume = {"Options": {"device": path}}
    assert power.of_volume("v", volume, writable=False) == f"its volume v is {path} of the host"


@pytest.mark.parametrize(
    "name",
    [
        "BEGINNINGS", "CAPABILITIES", "DIRECTORIES", "ENGINES", "FILES", "HARMLESS", "OF_USERS", "OWN_VOLUMES", "TREES",
        "WRITABLE_TREES",
    ],
)  # fmt: skip
def test_the_proxy_has_the_same_lists(name):
    found = re.search(rf"^local {name} = (?:set\(|{{)([^(){{}}]*)[)}}]$", LUA.read_text(), re.MULTILINE)
    assert found
    assert sorted(re.findall(r'"([^"]*)"', found[1])) == sorted(getattr(power, f"_{name}"))


def test_what_docker_says_comes_one_after_the_other():
    text = f"{json.dumps({'a': 1})}\n{json.dumps([{'b': 2}, {'c': 3}])}\n[]{json.dumps([4])}\n"
    assert documents(text) == [{"a": 1}, {"b": 2}, {"c": 3}, 4]
    for wrong in ("[1", "nothing", "[" * 100_000):
        with pytest.raises(UsageError, match="Standard input is not JSON"):
            documents(wrong)


@pytest.mark.parametrize("label", [True, False])
def test_a_drill_that_an_earlier_release_starts_restores_into_its_own_throwaway_container(monkeypatch, label):
    """It has the engine itself, which calls that container one of our own."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    labels = {"scalr.backup.drill": "20261122T030000Z-5f0c"} if label else {"scalr.backup.own": "true"}
    held = Throwaways().power(container("scalr-backup-drill-1", labels=labels), accepted=False)
    assert held == (None if label else power.OWN)
