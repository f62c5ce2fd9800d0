# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody with a host's key and the repository's password forges what restic's prune believes; the trusted place prunes.

The store is restic's REST server with ``--append-only`` for the host and without it for the trusted place. Every test has a copy
of one repository that holds two nights, and of what the trusted place remembers of it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.containers import Call, docker, inside, parse_call
from tests.support.forger import Forged, Forger, rubbish_that_replaces
from tests.support.stores import RestStore, store_network

HOST = "web1"
PASSWORD = "correct horse battery staple"
NIGHTS = (datetime.now(UTC) - timedelta(days=2), datetime.now(UTC) - timedelta(days=1))
OF_A_NIGHT = "head -c 300000 /dev/urandom"
PATH = "/shop-db/shop.dump"


@dataclass
class Place:
    """The trusted place, as a container that stands by, and the two servers of the store."""

    container: str
    for_hosts: RestStore
    for_itself: RestStore

    def run(self, *command: str, stdin: str | None = None, check: bool = True, **variables: str) -> Any:
        """Run something in the trusted place."""
        pairs = [f"{name}={value}" for name, value in variables.items()]
        return inside(self.container, "env", *pairs, *command, stdin=stdin, check=check)


@dataclass
class Repository:
    """One repository in the store, and a directory in which the trusted place remembers it."""

    place: Place
    name: str

    @property
    def memory(self) -> str:
        """Where the trusted place remembers it."""
        return f"/tmp/memory/{self.name}"

    def restic(self, *arguments: str, check: bool = True, who: str = "owner") -> str:
        """Plain restic, as owner past the trusted place, or as the host."""
        server = self.place.for_itself if who == "owner" else self.place.for_hosts
        done = self.place.run(
            "restic", *arguments, check=check,
            RESTIC_REPOSITORY=server.repository(self.name), RESTIC_PASSWORD=PASSWORD,
            RESTIC_CACHE_DIR=f"/tmp/cache/{self.name}-{who}", HOME="/tmp", **server.environment(who),
        )  # fmt: skip
        return str(done.stdout)

    def back_up(self, moment: datetime, script: str = OF_A_NIGHT) -> None:
        """A nightly snapshot, with the host's key."""
        self.restic(
            "backup", "--quiet", "--host", HOST, "--tag", "nightly", "--tag", f"run={moment:%Y%m%d%H%M%S}",
            "--time", f"{moment:%Y-%m-%d %H:%M:%S}", "--stdin-filename", PATH, "--stdin-from-command", "--", "sh", "-c", script,
            who="host",
        )  # fmt: skip

    def trusted(self, *options: str, keep: int = 5, address: str = "", **variables: str) -> Call:
        """Retention from the trusted place."""
        given = json.dumps({"password": PASSWORD, "environment": self.place.for_itself.environment("owner")})
        done = self.place.run(
            "scalr-backup", "forget", "--from-host", HOST, "--from-repository",
            address or self.place.for_itself.repository(self.name), "--from-secrets", "--keep", f"daily={keep}",
            "--keep-within", "1h", "--json", *options,
            stdin=given, check=False, SCALR_BACKUP_STATE=self.memory, SCALR_BACKUP_CACHE=f"/tmp/cache/{self.name}",
            **variables,
        )  # fmt: skip
        return parse_call(done)

    def copy(self) -> Repository:
        """Another repository with the same files, remembered in the same way."""
        other = Repository(self.place, f"{self.name}-{secrets.token_hex(3)}")
        self.place.for_hosts.shell(f"cp -a /srv/data/{self.name} /srv/data/{other.name}")
        self.place.run("cp", "-a", self.memory, other.memory)
        # Which is kept by the address.
        digest = hashlib.sha256(self.place.for_itself.repository(other.name).rstrip("/").encode()).hexdigest()[:16]
        rename = f'cd {other.memory} && old=$(ls files-*.json) && mv "$old" "${{old%-*}}-{digest}.json"'
        self.place.run("sh", "-c", rename)
        return other

    def plant(self, *files: Forged) -> None:
        """Add files with the host's key, which can do nothing else."""
        for file in files:
            server = self.place.for_hosts.container
            docker("exec", "-i", server, "sh", "-c", "base64 -d > /tmp/forged", stdin=b64encode(file.content))
            asked = self.place.for_hosts.shell(
                "curl --silent --output /dev/null --write-out '%{http_code}' --user host:host-secret --data-binary @/tmp/forged "
                f"http://127.0.0.1:8000/{self.name}/{file.kind}/{file.name}"
            )
            assert asked == "200", file

    def files(self, kind: str = "") -> set[str]:
        """What the store keeps, but locks."""
        found = self.place.for_hosts.shell(f"cd /srv/data/{self.name} && find . -type f ! -path './locks/*'").split()
        return {name[2:] for name in found if name[2:].startswith(kind)}

    def forger(self) -> Forger:
        """Whoever knows the password."""
        return Forger(self.restic("cat", "masterkey", who="host"))

    def indexes(self) -> list[str]:
        """What the indexes say."""
        return [self.restic("cat", "index", one, who="host") for one in self.restic("list", "index").split()]

    def remember(self, **entries: Any) -> None:
        """Change what the trusted place remembers."""
        path = self.place.run("sh", "-c", f"ls {self.memory}/files-*.json").stdout.strip()
        document = json.loads(self.place.run("cat", path).stdout) | entries
        self.place.run("sh", "-c", f"cat > {path}", stdin=json.dumps(document))

    def remembered(self, name: str) -> Any:
        """What it remembers."""
        return json.loads(self.place.run("sh", "-c", f"cat {self.memory}/files-*.json").stdout)[name]


@pytest.fixture(scope="module")
def two_nights(agent_image: str) -> Iterator[Repository]:
    """A repository that the trusted place has seen."""
    with store_network() as network:
        container = f"scalr-test-trusted-{secrets.token_hex(3)}"
        for_hosts = network.rest("--append-only")
        for_itself = network.rest(name="full-rest.test", volumes_from=for_hosts.container)
        docker(
            "run", "--detach", "--init", "--name", container, "--network", network.name, "--tmpfs=/tmp:size=256m,exec",
            "--entrypoint", "sleep", agent_image, "infinity",
        )  # fmt: skip
        try:
            place = Place(container, for_hosts, for_itself)
            place.run("mkdir", "-p", "/tmp/memory", "/tmp/cache")
            repository = Repository(place, "web1")
            repository.restic("init", "--quiet", who="host")
            # restic makes a key that takes it half a second to try, which it does a hundred times here.
            cheap, keys = repository.forger().key(PASSWORD), f"/srv/data/{repository.name}/keys"
            for_hosts.shell(f"mkdir /tmp/dear && mv {keys}/* /tmp/dear")
            repository.plant(cheap)
            for night in NIGHTS:
                repository.back_up(night)
            seen = repository.trusted()
            assert seen.exit_code == 0, seen.output
            assert seen.data["look"]["indexes"] == 2
            assert seen.data["look"]["bytes"] > 600_000
            yield repository
        finally:
            docker("rm", "--force", container, check=False)


@pytest.fixture
def repository(two_nights: Repository) -> Repository:
    """A copy for one test."""
    return two_nights.copy()


def refused(repository: Repository, *options: str) -> Mapping[str, Any]:
    """Prune from the trusted place, which must refuse and remove nothing; the error."""
    before = repository.files()
    call = repository.trusted(*options, keep=1)
    assert call.exit_code == 1, call.output
    assert call.error["code"] == "forged_files", call.output
    assert "Nothing was removed" in call.error["message"]
    assert "\n" not in call.error["message"]
    assert repository.files() == before
    return dict(call.error)


class TestNoiseThatReplacesAllGoodData:
    """The attack for which restic deletes every good pack."""

    def test_plain_restic_obeys_it(self, repository: Repository) -> None:
        good = {f"data/{pack[:2]}/{pack}" for pack in repository.restic("list", "packs").split()}
        repository.plant(*rubbish_that_replaces(repository.forger(), repository.indexes()))
        repository.restic("prune")
        assert len(good - repository.files("data")) == 2, "both nights' data"

    def test_the_trusted_place_names_it_and_removes_nothing(self, repository: Repository) -> None:
        noise, index = rubbish_that_replaces(repository.forger(), repository.indexes())
        repository.plant(noise, index)
        assert f"index/{index.name}" in refused(repository)["message"]
        assert "web1" in refused(repository, "--dry-run")["message"]

        # Whose memory is lost reads everything, and believes no more.
        repository.place.run("rm", "-r", repository.memory)
        message = refused(repository)["message"]
        assert f"index/{index.name}, data/{noise.name}." in message, "no good file is named"
        assert f"index/{index.name}" in refused(repository, "--read-all")["message"]

        repository.place.for_hosts.shell(f"rm /srv/data/{repository.name}/index/{index.name}")
        assert repository.trusted("--read-all").exit_code == 0
        assert repository.restic("check", "--read-data")


# Adds what lies in a directory to a repository, with the host's key.
PLANTER = """
import base64, pathlib, sys, urllib.request
key = base64.b64encode(b"host:host-secret").decode()
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/*")):
    url = f"{sys.argv[2]}{path.parent.name}/{path.name}"
    request = urllib.request.Request(url, path.read_bytes(), {"Authorization": f"Basic {key}"}, method="POST")
    urllib.request.urlopen(request).close()
"""


def test_what_is_planted_between_the_look_and_the_prune_is_not_obeyed(repository: Repository) -> None:
    directory = f"/tmp/planted-{repository.name}"
    for file in rubbish_that_replaces(repository.forger(), repository.indexes()):
        script = f"mkdir -p {directory}/{file.kind} && base64 -d > {directory}/{file.kind}/{file.name}"
        repository.place.run("sh", "-c", script, stdin=b64encode(file.content).decode())
    url = repository.place.for_hosts.repository(repository.name).removeprefix("rest:")
    # A restic that is called to prune is one that the attacker has waited for.
    wrapper = (
        f'#!/bin/sh\n[ "$1" = prune ] && /opt/scalr-backup/bin/python {directory}/planter.py {directory} {url}\n'
        'exec /usr/local/bin/restic "$@"\n'
    )
    for name, content in (("planter.py", PLANTER), ("restic", wrapper)):
        repository.place.run("sh", "-c", f"cat > {directory}/{name} && chmod +x {directory}/{name}", stdin=content)

    before = repository.files("data")
    pruned = repository.trusted(PATH=f"{directory}:/usr/local/bin:/usr/bin:/bin")
    assert pruned.exit_code == 0, pruned.output
    assert len(repository.files("data") - before) == 1, "the noise is there"
    assert before <= repository.files("data")
    assert "repeats packs" in refused(repository)["message"]


def test_a_pack_whose_blob_is_another_is_found_out(repository: Repository) -> None:
    blob = next(one for text in repository.indexes() for pack in json.loads(text)["packs"] for one in pack["blobs"])
    forger = repository.forger()
    pack, entries = forger.pack([(blob["type"], blob["id"], b"something else")])
    index = forger.index([{"id": pack.name, "blobs": entries}])
    repository.plant(pack, index)
    assert f"index/{index.name}, data/{pack.name}." in refused(repository)["message"]


def test_an_index_that_tells_another_story_than_the_packs_head_is_found_out(repository: Repository) -> None:
    forger = repository.forger()
    good = next(one for text in repository.indexes() for pack in json.loads(text)["packs"] for one in pack["blobs"])
    pack, [first, second] = forger.pack([("data", "11" * 32, b"one"), ("data", "22" * 32, b"two")])
    index = forger.index([{"id": pack.name, "blobs": [first, {**second, "id": good["id"]}]}])
    repository.plant(pack, index)
    assert f"index/{index.name}" in refused(repository)["message"]


def test_what_no_backup_writes_is_refused_before_anything_is_read(repository: Repository) -> None:
    forger = repository.forger()
    known = json.loads(repository.indexes()[0])["packs"]
    for index, what in (
        (forger.index([{"id": "ab" * 32, "blobs": known[0]["blobs"]}]), "not there"),
        (forger.index([{"id": known[0]["id"], "blobs": []}]), "a pack with nothing in it"),
        (forger.index([], supersedes=repository.restic("list", "index").split()), "supersede others"),
        # restic's reader takes names in any case.
        (forger.index([], Packs=known), "holds what no index holds"),
        (forger.index(known), "repeats packs"),
        (Forged("index", b"rubbish" * 20), "cannot read"),
    ):
        repository.plant(index)
        message = refused(repository)["message"]
        assert what in message
        assert f"index/{index.name}" in message
        repository.place.for_hosts.shell(f"rm /srv/data/{repository.name}/index/{index.name}")


def test_what_was_there_must_be_there(repository: Repository) -> None:
    snapshot = repository.restic("list", "snapshots").split()[0]
    pack = repository.restic("list", "packs").split()[0]
    index = repository.restic("list", "index").split()[0]
    away = f"cd /srv/data/{repository.name} && mv"
    for path in (f"index/{index}", f"data/{pack[:2]}/{pack}", f"snapshots/{snapshot}"):
        repository.place.for_hosts.shell(f"{away} {path} /tmp/away")
        message = refused(repository)["message"]
        assert path.rpartition("/")[2][:8] in message
        repository.place.for_hosts.shell(f"{away} /tmp/away {path}")
    assert repository.trusted().exit_code == 0


def test_a_config_with_another_id_makes_it_forget_nothing(repository: Repository) -> None:
    # Where whoever adds may replace; this store would not let a host do it.
    config = json.loads(repository.restic("cat", "config")) | {"id": secrets.token_hex(32)}
    content = b64encode(repository.forger().encrypt(json.dumps(config).encode()))
    path = f"/srv/data/{repository.name}/config"
    repository.place.for_hosts.shell(f"chmod u+w {path}")
    docker(
        "exec", "-i", repository.place.for_hosts.container, "sh", "-c", f"base64 -d > {path}", stdin=content,
    )  # fmt: skip
    repository.back_up(NIGHTS[0] - timedelta(days=30))
    for options in ((), ("--dry-run",)):
        assert "it is not the one that was there at the last look" in refused(repository, *options)["message"]

    accepted = repository.trusted("--read-all", keep=1)
    assert accepted.error["code"] == "forged_snapshots", "what came too late still did"
    assert len(repository.restic("list", "snapshots").split()) == 3


def test_the_same_data_in_two_packs_is_no_crime_and_one_good_copy_stays(repository: Repository) -> None:
    # Two hosts that back up at the same time each save what both have.
    other = repository.copy()
    same = "seq 1 40000"
    for one in (repository, other):
        one.back_up(datetime.now(UTC), same)
    inside_store = repository.place.for_hosts.shell
    inside_store(
        f"cd /srv/data && cp -a {other.name}/data {other.name}/index {other.name}/snapshots {repository.name}/"
    )
    seen = repository.trusted()
    assert seen.exit_code == 0, seen.output
    assert seen.data["look"]["waiting"] > 0
    assert "no errors were found" in repository.restic("check", "--read-data")


def test_what_nobody_needs_goes_at_the_second_look_a_day_later(repository: Repository) -> None:
    before = repository.files("data")
    first = repository.trusted(keep=1)
    assert first.exit_code == 0, first.output
    assert len(first.data["removed"]) == 1
    waiting = first.data["look"]["waiting"]
    assert waiting > 0
    assert before <= repository.files("data")
    assert repository.trusted(keep=1).data["look"] | {"seconds": 0} == {
        "indexes": 0, "packs": 0, "bytes": 0, "seconds": 0, "waiting": waiting, "deleted": 0,
    }  # fmt: skip

    # Till then they can be had back.
    rescued = repository.copy()
    rescued.restic("repair", "index")
    named = [pack for text in rescued.indexes() for pack in json.loads(text)["packs"]]
    assert len(named) == len(before)

    yesterday = (datetime.now(UTC) - timedelta(hours=23, minutes=5)).isoformat()
    repository.remember(waiting=dict.fromkeys(repository.remembered("waiting"), yesterday))
    last = repository.trusted(keep=1)
    assert last.data["look"]["deleted"] == waiting
    assert len(repository.files("data")) < len(before)
    assert "no errors were found" in repository.restic("check", "--read-data")


def test_a_lock_that_nobody_renews_and_a_new_key_are_told(repository: Repository) -> None:
    lock = repository.forger().file(
        "locks", {"time": "2099-01-01T00:00:00Z", "exclusive": True, "hostname": "x", "pid": 1}
    )
    repository.plant(lock)
    repository.remember(locks={lock.name: (datetime.now(UTC) - timedelta(hours=2)).isoformat()}, keys=[])
    pruned = repository.trusted()
    assert pruned.exit_code == 0, pruned.output
    assert "1 keys were added" in pruned.data["warnings"][0]
    assert not repository.restic("list", "locks", "--no-lock").split()


def test_a_store_that_cannot_be_read_past_restic_is_refused(repository: Repository) -> None:
    call = repository.trusted(address="sftp:store@sftp.test:/backups/web1")
    assert call.exit_code == 2
    assert call.error["code"] == "configuration"
    assert "cannot be pruned from a trusted place" in call.error["message"]
