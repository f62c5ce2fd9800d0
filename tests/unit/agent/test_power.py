# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers a configuration must not match, as site.yml asks before it changes anything."""

from __future__ import annotations

import json

import pytest
from scalr_backup.actions.refused_matches import documents, refused_matches
from scalr_backup.core import power
from scalr_backup.core.config import Config
from scalr_backup.core.errors import UsageError
from scalr_backup.tools.docker.throwaways import Throwaways


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
