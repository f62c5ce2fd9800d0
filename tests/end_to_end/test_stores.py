"""A host whose backups go to an SFTP server, and from there to another provider's S3: by variables alone."""

from __future__ import annotations

import json
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.containers import DatabaseContainer, docker, running
from tests.support.controller import AGENT, Controller, Run, agent_set_aside, containers_of_the_agent
from tests.support.documented import documented
from tests.support.stores import S3Store, SftpStore, store_network

pytestmark = pytest.mark.timeout(480)

# A name that is no hostname, and would be that of web-1 if it were made one carelessly.
HOST = "web.1"
STORE_SECRET = "owner-secret"
COPY_PASSWORD = "canary-of-the-copy-71d0"


@dataclass
class Site:
    """A provisioned host, and the two stores."""

    controller: Controller
    first_run: Run
    shop: DatabaseContainer
    sftp: SftpStore
    s3: S3Store

    @property
    def names(self) -> dict[str, str]:
        """The documentation's example container, and this test's."""
        return {"scalr-foo-db": self.shop.name}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never show."""
        return (STORE_SECRET, COPY_PASSWORD, *self.sftp.private_key.splitlines()[1:4])


def address_for_the_agent(container: str) -> str:
    """Where the agent, which is on no network of the tests', reaches a store."""
    docker("network", "connect", "bridge", container)
    return docker("inspect", "--format", "{{.NetworkSettings.Networks.bridge.IPAddress}}", container).stdout.strip()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("stores")
    prefix = f"scalr-test-{secrets.token_hex(3)}"
    shop = DatabaseContainer(f"{prefix}-shop-db")
    with agent_set_aside(), running(shop), store_network() as network:
        shop.sql("CREATE TABLE orders (id int); INSERT INTO orders SELECT generate_series(1, 500)")
        sftp, s3 = network.sftp(), network.s3()
        sftp_address, s3_address = address_for_the_agent(sftp.container), address_for_the_agent(s3.container)
        variables = {
            "backup_containers": [f"{prefix}-*-db"],
            "backup_directory": str(directory / "backup"),
            "backup_password_directory": str(directory / "passwords"),
            "backup_repository": f"sftp:store@{sftp_address}:/backups/{HOST}",
            "backup_ssh_private_key": sftp.private_key,
            "backup_ssh_known_hosts": sftp.known_hosts.replace("sftp.test", sftp_address),
            "backup_ca_certificate": network.rest(tls=True).authority,
            "backup_copy_repository": f"s3:http://{s3_address}:8333/copies/{HOST}",
            "backup_copy_environment": s3.environment(),
            "backup_copy_password": COPY_PASSWORD,
            "backup_copy_keep": {"last": 1},
        }
        controller = Controller(directory, HOST, variables)
        yield Site(controller, controller.play("site", "-vvv", "--diff"), shop, sftp, s3)


def files_as_they_are(site: Site) -> dict[str, bytes]:
    """What the role has written on the host, but for what the image is built of, and on the controller."""
    roots = [site.controller.directory / "backup", site.controller.directory / "passwords"]
    files = [path for root in roots for path in root.rglob("*") if path.is_file() and "image" not in path.parts]
    return {str(path): path.read_bytes() for path in files}


# So it is without a store, and in molecule.
@pytest.mark.thorough
def test_a_second_run_changes_nothing(site: Site) -> None:
    assert site.first_run.recap(HOST)["changed"] > 0
    assert site.controller.play("site").recap(HOST)["changed"] == 0


def test_nothing_secret_was_shown_and_who_is_not_root_reads_no_file(site: Site) -> None:
    inspected = docker("inspect", AGENT).stdout
    for secret in site.secrets:
        assert secret not in site.first_run.output
        assert secret not in inspected
    directory = Path(site.controller.variables["backup_directory"])
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    names = {"ssh_private_key", "ssh_known_hosts", "ca_certificate", "copy_password", "copy_environment"}
    files = {path.name: path for path in (directory / "secrets").iterdir()}
    assert names <= set(files)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o007 for path in files.values()} == {0}


def test_a_name_that_is_no_hostname_becomes_one_that_is_nobody_elses(site: Site) -> None:
    hostname = docker("inspect", "--format", "{{.Config.Hostname}}", AGENT).stdout.strip()
    assert hostname.startswith("web-1-")
    assert len(hostname) == len("web-1-") + 8


def test_a_copy_that_is_gone_or_another_one_is_noticed(site: Site) -> None:
    marker = Path(site.controller.variables["backup_directory"]) / "config/copy_repository.json"
    known = json.loads(marker.read_text())
    marker.write_text(json.dumps({**known, "id": "0" * 64}))
    assert "has copied to one with the id 0000" in site.controller.play("site", exit_code=2).text
    marker.write_text(json.dumps(known))


# What cannot work, and the sentence that says so; each is the one wrong thing of a host of its own.
WRONG = {
    "unknown-server": ("backup_ssh_known_hosts", "", "needs backup_ssh_known_hosts"),
    "no-key": ("backup_ssh_private_key", "~/.ssh/id_ed25519", "backup_ssh_private_key is not a private key"),
    "no-authority": ("backup_ca_certificate", "/etc/ssl/ca.pem", "backup_ca_certificate is not a certificate"),
    "password-in-address": (
        "backup_copy_repository",
        "rest:https://u:p@copy.test/",
        "The address in backup_copy_repository contains a password",
    ),
    "password-with-spaces": ("backup_copy_password", " x ", "backup_copy_password cannot be passed to restic"),
    "nothing-kept": ("backup_copy_keep", {"daily": 0}, "every count is 0"),
}


def test_what_cannot_work_is_refused_before_anything_is_changed(site: Site) -> None:
    document = json.loads(site.controller.inventory.read_text())
    (machine,) = document["all"]["hosts"].values()
    document["all"]["hosts"] = {host: {**machine, variable: value} for host, (variable, value, _) in WRONG.items()}
    inventory = site.controller.directory / "wrong.yml"
    inventory.write_text(json.dumps(document))

    run = site.controller.play("site", "--forks", "3", inventory=inventory, exit_code=2)

    for host, (_variable, _value, sentence) in WRONG.items():
        assert sentence in run.text
        assert (run.recap(host)["failed"], run.recap(host)["changed"]) == (1, 0)


# What a store, or the registry of the image, refuses, and the sentence that says so; each is the one wrong thing of a host.
NOBODY = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "canary-of-nobody-03fe"}
REFUSED = {
    "dead-endpoint": (
        {"backup_repository": "s3:http://127.0.0.1:9/backups", "backup_environment": NOBODY},
        "s3:http://127.0.0.1:9/backups did not answer within",
    ),
    "wrong-keys": (
        {"backup_repository": "s3:http://{s3}:8333/others/b", "backup_environment": NOBODY},
        "its store rejects the credentials",
    ),
    "wrong-password": (
        {
            "backup_repository": "s3:http://{s3}:8333/copies/web.1",
            "backup_environment": "owner",
            "backup_copy_repository": "",
        },
        "Wrong password for the repository",
    ),
    "closed-sftp": ({"backup_repository": "sftp:store@{s3}:/b"}, "its store does not answer properly"),
    "dead-copy": (
        {"backup_copy_repository": "s3:http://127.0.0.1:9/copies"},
        "s3:http://127.0.0.1:9/copies did not answer within",
    ),
    "no-image": (
        {"backup_image": f"127.0.0.1:9/nobody/agent@sha256:{'5f0c' * 16}"},
        "Failed to pull the image 127.0.0.1:9/nobody/agent@sha256:5f0c",
    ),
}


@pytest.mark.parametrize(
    "mode", [[], pytest.param(["--check"], marks=pytest.mark.thorough)], ids=["really", "in-check-mode"]
)
def test_a_store_that_refuses_leaves_the_agent_as_it_was(site: Site, mode: list[str]) -> None:
    """Each host stands for this machine and its agent, which would be pointed at the store if that took it."""
    address = site.controller.variables["backup_copy_repository"].split("/")[2].partition(":")[0]
    password = (site.controller.directory / f"passwords/{HOST}.password").read_text().strip()
    document = json.loads(site.controller.inventory.read_text())
    (machine,) = document["all"]["hosts"].values()
    document["all"]["hosts"] = {}
    for host, (changes, _sentence) in REFUSED.items():
        changed = json.loads(
            json.dumps(changes).replace("{s3}", address).replace('"owner"', json.dumps(site.s3.environment()))
        )
        document["all"]["hosts"][host] = {**machine, "backup_password": password, **changed}
    inventory = site.controller.directory / "refused.yml"
    inventory.write_text(json.dumps(document))
    before = (containers_of_the_agent(), files_as_they_are(site))

    hosts = [host for host in REFUSED if not mode or host != "no-image"]  # nothing is pulled in check mode
    run = site.controller.play("site", *mode, "--limit", ",".join(hosts), inventory=inventory, exit_code=2)

    for host in hosts:
        assert REFUSED[host][1] in run.text
        assert (run.recap(host)["failed"], run.recap(host)["changed"]) == (1, 0), run.output
    assert "canary-of-nobody" not in run.output
    assert (containers_of_the_agent(), files_as_they_are(site)) == before
    assert site.controller.shell("docker exec scalr-backup scalr-backup snapshots").exit_code == 0


def test_a_copy_is_made_on_the_word(site: Site) -> None:
    """What the last test restores is made here."""
    site.controller.play("backup")
    listed = site.controller.shell(documented("docker exec scalr-backup scalr-backup snapshots --copy"))
    assert site.shop.name in listed.text
    copied = site.controller.shell(documented("docker exec scalr-backup scalr-backup copy"))
    assert "0 snapshots copied to s3:" in copied.text, "the pass has copied them already"


@pytest.mark.thorough
def test_a_second_repository_that_is_no_longer_wanted_leaves_no_secret(site: Site) -> None:
    site.controller.play("site", "-e", json.dumps({"backup_copy_repository": ""}))
    directory = Path(site.controller.variables["backup_directory"])
    assert not list((directory / "secrets").glob("copy_*"))
    assert json.loads((directory / "config/config.json").read_text())["copy"] is None
    site.controller.play("site")


def test_the_copy_restores_when_the_first_store_is_lost(site: Site) -> None:
    site.shop.sql("TRUNCATE orders")
    site.sftp.stop()

    restored = site.controller.shell(
        documented("ansible-playbook restore.yml -e db=scalr-foo-db -e from_copy=true", site.names)
        + f" -e confirm={site.shop.name} -e safety_snapshot=false"
    )
    assert site.shop.sql("SELECT count(*) FROM orders") == "500"
    assert "500" in restored.text
    drilled = site.controller.shell(documented("ansible-playbook drill.yml -e from_copy=true"))
    assert "passed" in drilled.text
    checked = site.controller.shell(documented("ansible-playbook check.yml -e from_copy=true"))
    assert f"{HOST} intact" in checked.text
