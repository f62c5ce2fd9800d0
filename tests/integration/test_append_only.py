# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that only adds falls into the wrong hands: all that its key to the store lets somebody do is done.

Against two real stores: restic's REST server with ``--append-only``, and S3 with a policy that lets remove nothing but
locks, in a bucket that keeps versions. Yesterday's snapshots have to survive, and to be pruned from the trusted place.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.containers import AgentContainer, Call, DatabaseContainer, docker, parse_call
from tests.support.stores import BUCKET, RestStore, S3Store, StoreNetwork, store_network
from tests.support.turns import trusted_place

CHECKOUT = Path(__file__).resolve().parents[2]

HOST = "test-host"
PASSWORD = "correct horse battery staple"
ROWS = "CREATE TABLE orders AS SELECT n, md5(n::text) AS note FROM generate_series(1, 3000) AS n"
SPOIL = "DROP TABLE orders; CREATE TABLE ransom (note text)"

# What restic offers to who has the repository's password and the host's key to the store. LATEST, FIRST and KEY stand for ids.
ATTACKS = [
    "forget LATEST",
    "forget FIRST LATEST --prune",
    "forget --keep-last 1 --host test-host --prune",
    "forget --host test-host --unsafe-allow-remove-all",
    "prune --max-unused 0",
    "key add --new-password-file /etc/hostname",
    "key passwd --new-password-file /etc/hostname",
    "key remove KEY",
    "tag --set evil LATEST",
    "rewrite --forget --exclude / FIRST",
    "repair snapshots --forget",
    "repair index --read-all-packs",
    "repair packs --help",
    "migrate upgrade_repo_v2 --force",
    "unlock --remove-all",
]


class Siege:
    """A host that only adds, one database of it, and its repository in a store; a subclass knows the store."""

    good: dict[str, str]
    yesterday: list[str]
    suspects: list[str]
    moment: datetime

    def __init__(self, agent: AgentContainer, database: DatabaseContainer, network: StoreNetwork) -> None:
        self.agent = agent
        self.database = database
        self.network = network
        self.repository, self.host_key, self.trusted_repository, self.trusted_key = self.open_store()
        agent.configure(repository=self.repository, append_only=True, keep={"daily": 2}, keep_within="2d")
        agent.set_environment(**self.host_key)

    def open_store(self) -> tuple[str, dict[str, str], str, dict[str, str]]:
        """Start the store; the repository and the key of the host, and those of the trusted place."""
        raise NotImplementedError

    def files(self) -> dict[str, str]:
        """All that the store keeps of the repository but locks, and a digest of each."""
        raise NotImplementedError

    def remove_and_replace(self, file: str) -> list[str]:
        """Try to remove a file, and to replace it, past restic, with the host's key; what the store answered."""
        raise NotImplementedError

    def spoil(self) -> None:
        """Make the repository unreadable with the host's key, whatever that takes."""
        raise NotImplementedError

    def as_it_was(self, moment: datetime) -> str:
        """The repository as it was once, under another address that the trusted place reads."""
        raise NotImplementedError

    def wait(self) -> None:
        """Let a moment pass that the store can tell from the ones before and after."""
        time.sleep(1.5)

    def restic(self, *arguments: str, key: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Plain restic, with the host's key unless another is given."""
        environment = {
            "RESTIC_REPOSITORY": self.repository,
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_CACHE_DIR": "/tmp/restic",
        }
        environment |= {"HOME": "/tmp"} | (key or self.host_key)
        options = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
        return docker("exec", *options, self.agent.name, "timeout", "60", "restic", *arguments, check=False)

    def snapshots(self) -> list[dict[str, Any]]:
        """All snapshots of the database, oldest first."""
        return [one for one in self.agent.ok("snapshots")["snapshots"] if one["container"] == self.database.name]

    def forge(self, moment: datetime, content: str = "echo rubbish") -> None:
        """Add a nightly snapshot of the database at any time."""
        path = f"/{self.database.name}/postgres.dump"
        added = self.restic(
            "backup", "--quiet", "--host", HOST, "--tag", "nightly", "--tag", f"run=forged-{moment:%Y%m%d}",
            "--time", f"{moment:%Y-%m-%d %H:%M:%S}", "--stdin-filename", path,
            "--stdin-from-command", "--", "sh", "-c", content,
        )  # fmt: skip
        assert added.returncode in (0, 3), added.stderr

    def trusted(self, *options: str) -> Call:
        """Retention from the trusted place, in a container of its own as the module runs it."""
        secrets = json.dumps({"password": PASSWORD, "environment": self.trusted_key})
        done = docker(
            "run", "--rm", "-i", "--init", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
            "--tmpfs=/tmp:size=64m", "--network", self.network.name,
            "--volume=scalr-backup-prune:/var/lib/scalr-backup", "--volume=scalr-backup-prune-cache:/var/cache/scalr-backup",
            self.agent.image, "forget", "--from-host", HOST, "--from-repository", self.trusted_repository, "--from-secrets",
            "--keep", "daily=2", "--keep-within", "2d", "--json", *options,
            stdin=secrets, check=False,
        )  # fmt: skip
        return parse_call(done)

    def playbook(self, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The playbook, on this machine as the trusted place; the host itself is not there."""
        server = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        address = docker("inspect", "--format", server, self.trusted_server).stdout.strip()
        name = self.trusted_repository.split("//")[1].split(":")[0]
        host = {
            "ansible_host": "192.0.2.1",
            "backup_append_only": True,
            "backup_repository": self.repository,
            "backup_environment": self.host_key,
            "backup_password": PASSWORD,
            "backup_prune_repository": self.trusted_repository.replace(name, address),
            "backup_prune_environment": self.trusted_key,
            "backup_keep": {"daily": 2},
            "backup_keep_within": "2d",
            "backup_image": self.agent.image,
        }
        inventory = directory / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": {HOST: host}}}))
        return subprocess.run(
            ["ansible-playbook", "prune.yml", "-i", str(inventory), *arguments],
            cwd=CHECKOUT / "playbooks",
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "400"},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def restore(self, *arguments: str, stdin: str | None = None) -> dict[str, Any]:
        """Restore the database over what the attacker left of it."""
        self.database.sql(SPOIL)
        return self.agent.ok(
            "restore", "--db", self.database.name, "--confirm", self.database.name, *arguments, stdin=stdin
        )


class RestSiege(Siege):
    """The store is a pair of REST servers over one directory, of which the host reaches the one that is append-only."""

    store: RestStore

    def open_store(self) -> tuple[str, dict[str, str], str, dict[str, str]]:
        self.store = self.network.rest("--append-only")
        full = self.network.rest(name="full-rest.test", volumes_from=self.store.container)
        self.trusted_server = full.container
        return (
            self.store.repository("web1"), self.store.environment("host"),
            full.repository("web1"), full.environment("owner"),
        )  # fmt: skip

    def files(self) -> dict[str, str]:
        lines = self.store.shell(
            "cd /srv/data/web1 && find . -type f ! -path './locks/*' -exec sha256sum {} +"
        ).splitlines()
        return {line.split("  ./")[1]: line.split()[0] for line in lines}

    def remove_and_replace(self, file: str) -> list[str]:
        name = re.sub(r"^data/../", "data/", file)
        ways = ["--request DELETE", "--request POST --data-binary rubbish", "--request PUT --data-binary rubbish"]
        return [self._ask(way, name) for way in [*ways, "--request POST --header 'X-HTTP-Method-Override: DELETE'"]]

    def spoil(self) -> None:
        # What does not exist yet can be added: under the name of its digest, as the server demands.
        digest = self.store.shell("printf rubbish | sha256sum").split()[0]
        for kind in ("keys", "index", "snapshots", "locks"):
            assert self._ask("--request POST --data-binary rubbish", f"{kind}/{digest}") == "200"

    def as_it_was(self, moment: datetime) -> str:
        # The server sets the times, and nothing that was there can have changed: what came later goes.
        self.store.shell(
            "cp -a /srv/data/web1 /srv/data/as-it-was && cd /srv/data/as-it-was && rm -rf locks/* && "
            f"find . -type f -newermt '{moment:%Y-%m-%d %H:%M:%S.%f} UTC' -delete"
        )
        return self.trusted_repository.replace("web1", "as-it-was")

    def _ask(self, request: str, file: str) -> str:
        curl = "curl --silent --location --output /dev/null --write-out '%{http_code}' --user host:host-secret"
        return self.store.shell(f"{curl} {request} http://127.0.0.1:8000/web1/{file}")


class S3Siege(Siege):
    """The store is an S3 server whose bucket keeps versions; the host's policy lets it remove nothing but locks."""

    store: S3Store

    def open_store(self) -> tuple[str, dict[str, str], str, dict[str, str]]:
        self.store = self.network.s3()
        self.store.make_bucket()
        versions = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self._ask("owner", f"--fail --request PUT --data-binary '{versions}'", "?versioning")
        self.trusted_server = self.store.container
        address = self.store.repository(f"{BUCKET}/web1")
        return address, self.store.environment("host"), address, self.store.environment("owner")

    def files(self) -> dict[str, str]:
        listed = self._ask("owner", "", "?list-type=2&prefix=web1/")
        found = re.findall(r"<Key>web1/([^<]*)</Key><ETag>([^<]*)</ETag>", listed)
        return {key: digest for key, digest in found if not key.startswith("locks/")}

    def remove_and_replace(self, file: str) -> list[str]:
        version = self._versions(f"web1/{file}")[0][1]
        several = f"<Delete><Object><Key>web1/{file}</Key></Object></Delete>"
        return [
            self._code("host", "--request DELETE", f"/web1/{file}"),
            self._code("host", "--request DELETE", f"/web1/{file}?versionId={version}"),
            re.search(r"<Code>(\w+)", self._ask("host", f"--request POST --data-binary '{several}'", "?delete"))[1],
            self._code("host", "--request PUT --data-binary '<VersioningConfiguration/>'", "?versioning"),
            self._code("host", "--request PUT --data-binary '<LifecycleConfiguration/>'", "?lifecycle"),
            self._code("host", "--request DELETE", ""),
        ]

    def spoil(self) -> None:
        # Who may add an object may replace it: S3 does not tell the one from the other.
        for file in self.files():
            assert self._code("host", "--request PUT --data-binary rubbish", f"/web1/{file}") == "200"

    def as_it_was(self, moment: datetime) -> str:
        # What rclone copy --s3-version-at does; by hand, because it is not there.
        newest = {}
        for key, version, modified in self._versions("web1/"):
            if modified <= moment and "/locks/" not in key and modified >= newest.get(key, ("", modified))[1]:
                newest[key] = (version, modified)
        for key, (version, _modified) in newest.items():
            source = f"/{BUCKET}/{key}?versionId={version}"
            target = f"/{key.replace('web1/', 'as-it-was/', 1)}"
            assert self._code("owner", f"--request PUT --header 'x-amz-copy-source: {source}'", target) == "200"
        return self.trusted_repository.replace("web1", "as-it-was")

    def _versions(self, prefix: str) -> list[tuple[str, str, datetime]]:
        listed = self._ask("owner", "", f"?versions&prefix={quote(prefix, safe='')}")
        return [
            (key, version, datetime.fromisoformat(modified))
            for key, version, modified in re.findall(
                r"<Version><Key>([^<]*)</Key><VersionId>([^<]*)</VersionId>.*?<LastModified>([^<]*)</LastModified>",
                listed,
            )
        ]

    def _code(self, who: str, request: str, what: str) -> str:
        return self._ask(who, f"{request} --output /dev/null --write-out '%{{http_code}}'", what)

    def _ask(self, who: str, request: str, what: str) -> str:
        curl = f"curl --silent --aws-sigv4 aws:amz:us-east-1:s3 --user {who}-key:{who}-secret"
        return self.store.shell(f"{curl} {request} 'http://127.0.0.1:8333/{BUCKET}{what}'")


@pytest.fixture(
    scope="module", params=[RestSiege, pytest.param(S3Siege, marks=pytest.mark.thorough)], ids=["rest-server", "s3"]
)
def siege(
    request: pytest.FixtureRequest,
    agent_image: str,
    prefix: str,
    make_database: Callable[..., DatabaseContainer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Siege]:
    """A database with yesterday's backups, on a host that only adds."""
    kind = request.param.__name__.lower()
    database = make_database(kind)
    agent = AgentContainer(tmp_path_factory.mktemp(kind) / "agent", [database.name], agent_image)
    with trusted_place(), store_network() as network:
        try:
            agent.start()
            network.connect(agent.name)
            yield request.param(agent, database, network)
        finally:
            agent.remove()


class TestTheHostInTheWrongHands:
    """The tests go on where the one before has ended, as the attack does."""

    def test_backs_up_and_removes_nothing_itself(self, siege: Siege) -> None:
        siege.agent.ok("init")
        siege.database.sql(ROWS)
        siege.good = siege.database.fingerprint("postgres")
        for _night in range(2):
            passed = siege.agent.ok("backup", "--db", siege.database.name, "--reason", "nightly")
            assert passed["retention"] == {"ok": True, "removed": [], "error": None}
        siege.yesterday = [one["id"] for one in siege.snapshots()]
        assert siege.trusted().exit_code == 0, "the trusted place has seen them"

        refused = siege.agent.call("forget")
        assert refused.exit_code == 2
        assert refused.error["code"] == "append_only"
        assert "run prune.yml" in refused.error["message"]
        assert siege.agent.ok("forget", "--dry-run")["removed"] == []
        status = siege.agent.ok("status")
        assert status["append_only"] is True
        assert "prune.yml removes old snapshots" in status["summary"]

    def test_restic_removes_and_replaces_nothing(self, siege: Siege) -> None:
        before = siege.files()
        assert {name.partition("/")[0] for name in before} == {"config", "data", "index", "keys", "snapshots"}
        key = json.loads(siege.restic("key", "list", "--json").stdout)[0]["id"]
        ids = {"LATEST": siege.yesterday[-1], "FIRST": siege.yesterday[0], "KEY": key}
        for attack in ATTACKS:
            siege.restic(*(ids.get(word, word) for word in attack.split()))

        now = siege.files()
        assert {name: now.get(name) for name in before} == before
        assert {one["id"] for one in siege.snapshots()} >= set(siege.yesterday)

        # An index that was built anew is not what a backup adds; what it says is true, and can be believed after reading all.
        doubted = siege.trusted()
        assert doubted.error["code"] == "forged_files", doubted.output
        assert siege.trusted("--read-all").exit_code == 0
        assert siege.trusted().exit_code == 0

    def test_past_restic_the_store_refuses_too(self, siege: Siege) -> None:
        before = siege.files()
        of_each_kind = {name.partition("/")[0]: name for name in before}
        for file in of_each_kind.values():
            answers = siege.remove_and_replace(file)
            assert set(answers) <= {"403", "405", "AccessDenied"}, (file, answers)
        assert siege.files() == before

    def test_what_holds_nothing_is_taken_for_no_backup(self, siege: Siege) -> None:
        siege.database.wrap("pg_dump", "exit 0")
        failed = siege.agent.call("backup", "--db", siege.database.name, "--reason", "nightly")
        siege.database.unwrap("pg_dump")
        assert failed.data["databases"][0]["error"]["code"] == "dump_failed"
        siege.forge(datetime.now(UTC), content="exit 0")
        empty = siege.snapshots()[-1]
        assert empty["dump_bytes"] == 0

        refused = siege.agent.call("restore", "--db", siege.database.name, "--snapshot", empty["id"], "--plan")
        assert refused.error["code"] == "unknown_snapshot"
        plan = siege.agent.ok("restore", "--db", siege.database.name, "--plan")["plan"]
        assert plan["databases"][0]["snapshot"]["id"] != empty["id"]

    def test_forged_snapshots_make_retention_take_nothing(self, siege: Siege) -> None:
        now = datetime.now(UTC)
        siege.forge(now + timedelta(days=1))
        siege.forge(now + timedelta(days=400))
        siege.forge(now - timedelta(days=3))

        pruned = siege.trusted()
        assert pruned.exit_code == 1
        assert pruned.error["code"] == "forged_snapshots"
        assert "2 are dated in the future" in pruned.error["message"]
        assert "1 is older than the last look here" in pruned.error["message"]
        assert len(pruned.data["suspects"]) == 3
        assert {one["id"] for one in siege.snapshots()} >= set(siege.yesterday)

        # Yesterday's come back whole, with what the host itself has.
        latest = siege.agent.ok("restore", "--db", siege.database.name, "--plan")["plan"]
        assert latest["databases"][0]["snapshot"]["id"] not in pruned.data["suspects"]
        assert any("dated in the future" in sentence for sentence in latest["warnings"])
        siege.restore("--snapshot", siege.yesterday[-1])
        assert siege.database.fingerprint("postgres") == siege.good
        siege.suspects = pruned.data["suspects"]

    def test_the_trusted_place_removes_them_and_prunes(self, siege: Siege, tmp_path: Path) -> None:
        removed = siege.playbook(tmp_path, "-e", "remove=" + ",".join(one[:12] for one in siege.suspects))
        assert removed.returncode == 0, removed.stdout
        assert not {one["id"] for one in siege.snapshots()} & set(siege.suspects)

        # Empty ones go, and everything of the last two days stays.
        pruned = siege.playbook(tmp_path, "-vvv")
        assert pruned.returncode == 0, pruned.stdout
        assert re.search(rf"^{HOST} +pruned +\d+ +\d+$", pruned.stdout, re.MULTILINE), pruned.stdout
        secrets = [
            PASSWORD,
            *(value for name, value in siege.trusted_key.items() if re.search("PASSWORD|SECRET", name)),
        ]
        assert not [secret for secret in secrets if secret in pruned.stdout + pruned.stderr]
        left = siege.snapshots()
        assert all(one["dump_bytes"] for one in left)
        assert {one["id"] for one in left} >= set(siege.yesterday)
        siege.agent.ok("check")
        siege.wait()
        siege.moment = datetime.now(UTC)
        siege.wait()

    def test_what_is_spoilt_comes_back_as_it_was(self, siege: Siege) -> None:
        siege.spoil()
        broken = siege.agent.call("snapshots")
        assert broken.error["code"] == "repository_unreadable", broken.output
        assert "\n" not in broken.error["message"]

        repository = siege.as_it_was(siege.moment)
        secrets = json.dumps({"password": PASSWORD, "environment": siege.trusted_key})
        siege.restore(
            "--from-repository",
            repository,
            "--from-host",
            HOST,
            "--from-secrets",
            "--no-safety-snapshot",
            stdin=secrets,
        )
        assert siege.database.fingerprint("postgres") == siege.good
