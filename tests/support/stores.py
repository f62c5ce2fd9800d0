"""Real stores of backups: an S3 server, an SFTP server and restic's REST server, each in a container of its own.

How a test uses them::

    with store_network() as network:  # a Docker network of the test's own
        s3 = network.s3()  # http://s3.test:8333, a bucket is made on demand
        sftp = network.sftp()  # sftp.test, a key and a host key of its own
        rest = network.rest("--append-only")  # http://rest.test:8000, options as rest-server takes them
        network.connect(agent.name)  # a container that is to reach them under these names
        agent.configure(repository=s3.repository("bucket/path"))
        agent.set_environment(**s3.environment())  # or s3.environment("reader"), "host", "stranger"

Each store has ``repository(path)`` (what ``backup_repository`` would be) and ``environment(who)`` (what
``backup_environment`` would be). An SFTP server has ``private_key`` and ``known_hosts``; a server that was started with
``tls=True`` has ``authority``, the certificate that a client has to trust. Several servers of one kind need names of
their own: ``network.s3(name="other-s3.test")``. Names have a dot, because nested engines resolve no others.

Who there is on S3: ``owner`` may do everything, ``reader`` only read, ``stranger`` is not known. Two have the policies that
docs/stores.md shows, for the bucket ``backups``, which must be there: ``least`` may do what a repository needs, ``host``
adds and reads and deletes nothing but restic's locks.

The image is ``scalr-test-store:trixie``; what its containers take from their environment stands at the top of
``tests/platform/images/store/store``. Other tests, such as molecule's scenarios, may run it by hand.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.containers import docker, wait_until

STORE_IMAGE = "scalr-test-store:trixie"
_BUILD = Path(__file__).resolve().parents[1] / "platform" / "images" / "store" / "build"

BUCKET = "backups"
_DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "stores.md"
# The policies as docs/stores.md shows them: the least that works, and that of a host which may add and must not delete.
LEAST_POLICY, APPEND_ONLY_POLICY = (
    json.loads(block)
    for block in re.findall(r"^```json\n(.*?)^```", _DOCUMENTED.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
)
_EVERYTHING = ["Admin", "Read", "Write", "List", "Tagging"]


def identity(name: str, **rights: Any) -> dict[str, Any]:
    """Somebody whom the S3 server knows; the keys follow from the name."""
    return {"name": name, "credentials": [{"accessKey": f"{name}-key", "secretKey": f"{name}-secret"}], **rights}


IDENTITIES: dict[str, Any] = {
    "identities": [
        identity("owner", actions=_EVERYTHING),
        identity("reader", actions=["Read", "List"]),
        identity("least", policyNames=["least"]),
        identity("host", policyNames=["append-only"]),
    ],
    "policies": [
        {"name": "least", "content": json.dumps(LEAST_POLICY)},
        {"name": "append-only", "content": json.dumps(APPEND_ONLY_POLICY)},
    ],
}


def build_store_image() -> str:
    """Build the image; unchanged layers come from Docker's cache. Of several at once, one builds."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (Path(tempfile.gettempdir()) / "scalr-test-store.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [str(_BUILD), STORE_IMAGE], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return STORE_IMAGE


@dataclass
class Store:
    """A server of backups that runs; *address* is its name on the network."""

    container: str
    address: str
    tls: bool

    def repository(self, path: str) -> str:
        """What restic calls a repository there."""
        raise NotImplementedError

    def environment(self, who: str = "owner") -> dict[str, str]:
        """The credentials of somebody, as restic takes them."""
        raise NotImplementedError

    @property
    def authority(self) -> str:
        """The certificate, in PEM, of the authority that has signed the server's."""
        return docker("exec", self.container, "cat", "/srv/ca.pem").stdout

    def shell(self, script: str, *, check: bool = True) -> str:
        """Run a script beside the server; what it keeps lies below /srv/data."""
        return docker("exec", self.container, "sh", "-c", script, check=check).stdout

    def stop(self) -> None:
        """Take it away at once, as a power cut does; ``start`` brings it back."""
        docker("kill", self.container)

    def start(self) -> None:
        """Bring it back with what it had."""
        docker("start", self.container)
        self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        raise NotImplementedError

    def _answers(self, port: int, scheme: str = "http") -> bool:
        probe = ["curl", "--silent", "--insecure", "--output", "/dev/null", f"{scheme}://127.0.0.1:{port}/"]
        return docker("exec", self.container, *probe, check=False).returncode == 0


class S3Store(Store):
    """SeaweedFS; a bucket is made when its owner first writes to it."""

    def repository(self, path: str) -> str:
        """Path begins with the bucket."""
        server = f"https://{self.address}:8443" if self.tls else f"http://{self.address}:8333"
        return f"s3:{server}/{path}"

    def environment(self, who: str = "owner") -> dict[str, str]:
        """The keys of owner, reader, least, host, or of a stranger whom the server does not know."""
        return {"AWS_ACCESS_KEY_ID": f"{who}-key", "AWS_SECRET_ACCESS_KEY": f"{who}-secret"}

    def make_bucket(self, name: str = BUCKET) -> None:
        """Make a bucket for those who may not make one."""
        url = f"http://127.0.0.1:8333/{name}"
        signed = "--aws-sigv4 aws:amz:us-east-1:s3 --user owner-key:owner-secret"
        self.shell(f"curl --silent --fail --request PUT {signed} {url}")

    def wait(self) -> None:
        """It answers before it takes writes, so wait for a write."""
        wait_until(lambda: self._answers(8333), f"{self.container} answers")
        signed = "--aws-sigv4 aws:amz:us-east-1:s3 --user owner-key:owner-secret"
        put = f"curl --silent --fail --request PUT --data-binary x {signed} http://127.0.0.1:8333/probe/it"
        wait_until(
            lambda: docker("exec", self.container, "sh", "-c", put, check=False).returncode == 0,
            f"{self.container} takes writes",
        )


@dataclass
class SftpStore(Store):
    """OpenSSH; one user, ``store``, whose key is generated for each server."""

    private_key: str = field(repr=False, default="")

    def repository(self, path: str) -> str:
        """Path is below /backups, where the user may write."""
        return f"sftp:store@{self.address}:/backups/{path}"

    def environment(self, who: str = "owner") -> dict[str, str]:
        """Nothing: a key is given otherwise."""
        return {}

    @property
    def known_hosts(self) -> str:
        """The line by which a client knows the server."""
        return docker("exec", self.container, "cat", "/srv/known_hosts").stdout

    def wait(self) -> None:
        """Wait until it listens."""
        wait_until(lambda: "listening" in docker("logs", self.container).stderr, f"{self.container} listens")


class RestStore(Store):
    """restic's REST server; its users are owner and host, with the passwords owner-secret and host-secret."""

    def repository(self, path: str) -> str:
        """Path is a directory of the server."""
        return f"rest:{'https' if self.tls else 'http'}://{self.address}:8000/{path}/"

    def environment(self, who: str = "owner") -> dict[str, str]:
        """User and password of owner, host, or of a stranger whom the server does not know."""
        return {"RESTIC_REST_USERNAME": who, "RESTIC_REST_PASSWORD": f"{who}-secret"}

    def wait(self) -> None:
        """Wait until it answers."""
        wait_until(lambda: self._answers(8000, "https" if self.tls else "http"), f"{self.container} answers")


class StoreNetwork:
    """A Docker network with stores on it; ``remove`` takes them away with all that they keep."""

    def __init__(self) -> None:
        self.name = f"scalr-test-stores-{secrets.token_hex(4)}"
        self._containers: list[str] = []
        self._connected: list[str] = []
        build_store_image()
        docker("network", "create", self.name)

    def s3(self, *, name: str = "s3.test", tls: bool = False, identities: Mapping[str, Any] = IDENTITIES) -> S3Store:
        """Start an S3 server; *identities* is SeaweedFS's document of who may do what."""
        store = S3Store(self._run("s3", name, tls, {"STORE_IDENTITIES": json.dumps(identities)}), name, tls)
        store.wait()
        return store

    def sftp(self, *, name: str = "sftp.test") -> SftpStore:
        """Start an SFTP server."""
        private_key, public_key = make_key()
        container = self._run("sftp", name, True, {"STORE_AUTHORIZED_KEY": public_key})
        store = SftpStore(container, name, False, private_key)
        store.wait()
        return store

    def rest(self, *options: str, name: str = "rest.test", tls: bool = False, volumes_from: str = "") -> RestStore:
        """Start a REST server; *volumes_from* names the container of another one whose repositories it serves, too."""
        users = "owner:owner-secret\nhost:host-secret"
        docker_options = ["--volumes-from", volumes_from] if volumes_from else []
        container = self._run("rest", name, tls, {"STORE_USERS": users}, options, docker_options)
        store = RestStore(container, name, tls)
        store.wait()
        return store

    def connect(self, container: str) -> None:
        """Let a container reach the stores by their names."""
        docker("network", "connect", self.name, container)
        self._connected.append(container)

    def remove(self) -> None:
        """Remove stores, their data and the network."""
        for container in self._containers:
            docker("rm", "--force", "--volumes", container, check=False)
        for container in self._connected:
            docker("network", "disconnect", "--force", self.name, container, check=False)
        docker("network", "rm", self.name, check=False)

    def _run(
        self,
        kind: str,
        name: str,
        named: bool,
        environment: Mapping[str, str],
        options: Sequence[str] = (),
        docker_options: Sequence[str] = (),
    ) -> str:
        container = f"scalr-test-store-{secrets.token_hex(4)}"
        given = {**environment, "STORE_NAMES": name if named else ""}
        arguments = [part for variable in given for part in ("--env", f"{variable}={given[variable]}")]
        docker(
            "run", "--detach", "--name", container, "--network", self.name, "--network-alias", name, *arguments,
            "--volume", "/srv/data", *docker_options, STORE_IMAGE, kind, *options,
        )  # fmt: skip
        self._containers.append(container)
        return container


@contextmanager
def store_network() -> Iterator[StoreNetwork]:
    """A network for stores, for a while."""
    network = StoreNetwork()
    try:
        yield network
    finally:
        network.remove()


def make_key() -> tuple[str, str]:
    """A new SSH key: the private part and the line of the public one."""
    script = "ssh-keygen -q -t ed25519 -N '' -C '' -f /tmp/key && cat /tmp/key.pub /tmp/key"
    public_key, _newline, private_key = docker(
        "run", "--rm", "--entrypoint", "sh", STORE_IMAGE, "-c", script
    ).stdout.partition("\n")
    return private_key, public_key.strip()
