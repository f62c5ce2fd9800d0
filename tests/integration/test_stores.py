"""The stores that a repository may lie in, by real servers: what works there, what is refused and how that is said.

A second repository, two hosts in one repository, and secrets that show nowhere, too.
"""

from __future__ import annotations

import http.server
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.containers import AgentContainer, Call, DatabaseContainer, docker, finish, gateway_of, wait_until
from tests.support.stores import S3Store, Store, StoreNetwork, make_key, store_network

pytestmark = pytest.mark.timeout(300)

TOO_SKEWED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the '
    b"request time and the current time is too large.</Message></Error>"
)


# How many nightly snapshots a repository keeps where a test wants to see some go.
ONE = {"last": 1, "daily": 0, "weekly": 0, "monthly": 0}
TWO = {**ONE, "last": 2}


class Stores:
    """One server of each kind, and a second S3 account at another provider."""

    def __init__(self, network: StoreNetwork) -> None:
        self.network = network
        self.s3 = network.s3()
        self.private_s3 = network.s3(name="private-s3.test", tls=True)
        self.sftp = network.sftp()
        self.rest = network.rest()
        self.private_rest = network.rest(name="private-rest.test", tls=True)
        self.s3.make_bucket()

    def give(self, agent: AgentContainer, kind: str, path: str, who: str = "owner") -> str:
        """Have an agent use a repository of a kind, with all that it needs for it."""
        store: Store | None = getattr(self, kind, None)
        repository = store.repository(f"backups/{path}") if store else f"/repository/{path}"
        agent.configure(repository=repository)
        agent.set_environment(**(store.environment(who) if store else {}))
        self.let_in(agent)
        return repository

    def let_in(self, agent: AgentContainer) -> None:
        """Give an agent the SSH key, and the host key and the authorities that it may believe."""
        agent.set_secret("ssh_private_key", self.sftp.private_key)
        agent.set_secret("ssh_known_hosts", self.sftp.known_hosts)
        agent.set_secret("ca_certificate", self.private_s3.authority + self.private_rest.authority)


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    with store_network() as network:
        yield Stores(network)


@pytest.fixture(scope="module")
def shop(make_database: Callable[..., DatabaseContainer]) -> DatabaseContainer:
    database = make_database("shop")
    database.sql("CREATE TABLE orders (id int PRIMARY KEY, what text)")
    database.sql("INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 5000) i")
    return database


@pytest.fixture(scope="module")
def make_agent(
    agent_image: str, prefix: str, stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], AgentContainer]]:
    """Start agents that reach the stores; all are removed at the end."""
    made: list[AgentContainer] = []

    def make() -> AgentContainer:
        agent = AgentContainer(tmp_path_factory.mktemp("agent") / "agent", [f"{prefix}-*-db"], agent_image)
        made.append(agent)
        agent.start()
        stores.network.connect(agent.name)
        stores.let_in(agent)
        return agent

    yield make
    for agent in made:
        agent.remove()


@pytest.fixture(scope="module")
def agent(make_agent: Callable[[], AgentContainer]) -> AgentContainer:
    """One agent for all, which every test points at a repository of its own."""
    return make_agent()


@pytest.fixture
def path() -> str:
    """A place in a store that nobody else uses."""
    return secrets.token_hex(4)


@pytest.fixture(autouse=True)
def _fresh(agent: AgentContainer) -> Iterator[None]:
    """What a test has changed of the agent is as it was."""
    yield
    for name in ("copy_password", "copy_environment"):
        agent.set_secret(name, "")
    agent.configure(copy=None, answer_seconds=120, host="test-host", keep={"daily": 30})
    agent.set_password("correct horse battery staple")


def rows(database: DatabaseContainer) -> str:
    return database.sql("SELECT count(*) FROM orders")


def back_up(agent: AgentContainer, shop: DatabaseContainer) -> Call:
    """A pass over this module's database, whatever labels the containers of other tests have."""
    return agent.call("backup", "--db", shop.name, "--reason", "nightly")


def backed_up(agent: AgentContainer, shop: DatabaseContainer) -> dict[str, Any]:
    """One that has to succeed; its data."""
    call = back_up(agent, shop)
    assert call.exit_code == 0, call.output
    return call.data


# Other tests work with a directory anyway, those of a host that only adds with a REST server, and the role's with SFTP.
FURTHER = [pytest.param(kind, marks=pytest.mark.thorough) for kind in ("local", "rest", "sftp")]


@pytest.mark.parametrize("kind", ["s3", *FURTHER])
def test_everything_works_in_a_store_by_its_address_alone(
    agent: AgentContainer, stores: Stores, shop: DatabaseContainer, path: str, kind: str
) -> None:
    repository = stores.give(agent, kind, path, "least" if kind == "s3" else "owner")
    made = agent.ok("init")
    assert made["created"]
    assert made["repository"] == repository
    assert agent.ok("init")["repository_id"] == made["repository_id"]

    agent.configure(keep=ONE)
    for _night in range(2):
        retained = backed_up(agent, shop)["retention"]
    assert len(retained["removed"]) == 2, "the first night's dump, and its manifest"
    (left,) = agent.ok("snapshots")["snapshots"]
    shop.sql("DELETE FROM orders WHERE id > 100")
    restored = agent.ok("restore", "--db", shop.name, "--confirm", shop.name, "--no-safety-snapshot")
    assert restored["databases"][0]["snapshot_id"] == left["id"]
    assert restored["databases"][0]["verified"]["rows"] == 5000
    assert rows(shop) == "5000"
    assert agent.ok("forget")["removed"] == []
    assert agent.ok("check", "--read-data-subset", "100%")["errors"] == 0
    assert agent.ok("unlock")["removed"] == 0


class Skewed(http.server.BaseHTTPRequestHandler):
    """A store that refuses the clock: no server can be made to disagree about the time in a container."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(TOO_SKEWED)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(TOO_SKEWED)

    do_HEAD = do_PUT = do_GET  # noqa: N815 (the library's names)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def skewed_store(stores: Stores) -> Iterator[str]:
    """The address of a repository in a store that refuses the clock."""
    server = http.server.ThreadingHTTPServer(("", 0), Skewed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"s3:http://{gateway_of(stores.network.name)}:{server.server_address[1]}/backups/x"
    server.shutdown()


@dataclass(frozen=True)
class Refused:
    """What is wrong with a store: what makes it so, and the words that say it."""

    kind: str
    words: str
    who: str = "owner"
    code: str = "repository_refused"
    # Puts something else into the repository's address.
    address: tuple[str, str] = ("", "")
    # The agent's secret files that are other ones.
    secrets: Mapping[str, Callable[[], str]] = field(default_factory=dict)


def another_host_key() -> str:
    """The line of a server of the same name with a key of its own."""
    return f"sftp.test {' '.join(make_key()[1].split()[:2])}\n"


REFUSALS = {
    "an access key that nobody knows": Refused("s3", "rejects the credentials", who="stranger"),
    "a wrong user of a REST server": Refused("rest", "rejects the credentials", who="stranger"),
    "a wrong secret": Refused(
        "s3",
        "rejects the credentials",
        secrets={"environment": lambda: "AWS_ACCESS_KEY_ID=owner-key\nAWS_SECRET_ACCESS_KEY=canary-secret\n"},
    ),
    "no credentials": Refused("s3", "there are no credentials for its store", secrets={"environment": str}),
    "a bucket that is not there": Refused(
        "s3", "the bucket does not exist, and these credentials may not", who="reader", address=("backups/", "nowhere/")
    ),
    "a store that can only be read": Refused("s3", "lack the permission", who="reader"),
    "a clock that is wrong": Refused("skewed", "rejects this host's clock"),
    "a private authority of S3": Refused("private_s3", "backup_ca_certificate", secrets={"ca_certificate": str}),
    "a private authority of REST": Refused("private_rest", "backup_ca_certificate", secrets={"ca_certificate": str}),
    "plain HTTP where HTTPS is": Refused("private_s3", "write https:// instead", address=("https:", "http:")),
    "HTTPS where plain HTTP is": Refused("s3", "write http:// instead", address=("http:", "https:")),
    "a host key that is not known": Refused("sftp", "not in backup_ssh_known_hosts", secrets={"ssh_known_hosts": str}),
    "another host key": Refused(
        "sftp", "host key is not the one in backup_ssh_known_hosts", secrets={"ssh_known_hosts": another_host_key}
    ),
    "a wrong SSH key": Refused("sftp", "rejects the key", secrets={"ssh_private_key": lambda: make_key()[0]}),
    "a directory of somebody else": Refused("sftp", "lack the permission", address=("/backups/", "/elsewhere/")),
    "a name that nobody knows": Refused(
        "s3", "cannot be resolved", code="repository_unreachable", address=("s3.test", "s4.test")
    ),
    "an SFTP name that nobody knows": Refused(
        "sftp", "cannot be resolved", code="repository_unreachable", address=("sftp.test", "sftp4.test")
    ),
    "a dead port": Refused("s3", "does not answer properly", code="repository_unreachable", address=("8333", "1")),
    "a file system that can only be read": Refused("local", "it is read-only", address=("/repository/", "/opt/")),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_wrong_with_a_store_is_one_sentence_and_soon(
    agent: AgentContainer, stores: Stores, skewed_store: str, path: str, what: str
) -> None:
    refused = REFUSALS[what]
    repository = stores.give(agent, refused.kind, path, refused.who)
    if refused.kind == "skewed":
        agent.configure(repository=skewed_store)
        agent.set_environment(**stores.s3.environment())
    elif refused.address[0]:
        assert refused.address[0] in repository
        agent.configure(repository=repository.replace(*refused.address))
    for name, content in refused.secrets.items():
        agent.set_secret(name, content())

    agent.configure(answer_seconds=8)

    started = time.monotonic()
    call = agent.call("init")

    assert call.exit_code == 1
    assert (call.error["code"], refused.words in call.error["message"]) == (refused.code, True), call.error["message"]
    assert "\n" not in call.error["message"]
    assert "canary-secret" not in call.output
    assert time.monotonic() - started < 200, "restic itself would try for a quarter of an hour"


def test_a_repository_of_another_password_is_one_sentence(agent: AgentContainer, stores: Stores, path: str) -> None:
    stores.give(agent, "s3", path)
    agent.ok("init")
    agent.set_password("another one")
    call = agent.call("init")
    assert call.error["code"] == "wrong_password"


# The same keys, as it happens, but another provider's: restic has one environment for both.
OTHER_ACCOUNT = "AWS_ACCESS_KEY_ID=owner-key\nAWS_SECRET_ACCESS_KEY=owner-secret\nAWS_DEFAULT_REGION=elsewhere-1\n"


class TestASecondRepository:
    """Copies in another account of S3, with a password of their own."""

    @pytest.fixture
    def copied(self, agent: AgentContainer, stores: Stores, path: str) -> S3Store:
        stores.give(agent, "s3", path)
        elsewhere = stores.private_s3
        agent.configure(copy={"repository": elsewhere.repository(f"copies/{path}"), "keep": TWO})
        agent.set_secret("copy_environment", OTHER_ACCOUNT)
        agent.set_secret("copy_password", "a password of its own")
        assert agent.ok("init")["created"]
        assert agent.ok("init", "--copy")["created"]
        return elsewhere

    def test_gets_every_pass_and_restores_when_the_first_one_is_lost(
        self, agent: AgentContainer, stores: Stores, shop: DatabaseContainer, copied: S3Store
    ) -> None:
        first = backed_up(agent, shop)
        assert (first["copy"]["ok"], first["copy"]["copied"], first["copy"]["removed"]) == (True, 2, [])
        assert agent.ok("copy")["copied"] == 0, "what is there is not copied again"
        for _night in range(2):
            last = backed_up(agent, shop)
        assert last["copy"]["copied"] == 2
        assert len(last["copy"]["removed"]) == 2, "it keeps two dumps, and the manifests of their runs"
        copies = agent.ok("snapshots", "--copy")["snapshots"]
        assert len(copies) == 2
        assert agent.ok("copy")["copied"] == 0, "what the copy's own retention has removed does not come back"
        assert agent.ok("check", "--copy")["errors"] == 0
        status = agent.ok("status")
        assert (status["healthy"], status["copy"]["ok"], status["copy"]["fresh"]) == (True, True, True)

        shop.sql("TRUNCATE orders")
        stores.s3.stop()
        try:
            id_there = agent.ok("snapshots", "--copy", "--db", shop.name)["snapshots"][-1]["id"]
            assert id_there != last["databases"][0]["snapshot_id"]
            # The id that the first repository knows it by finds it, too.
            known_as = last["databases"][0]["snapshot_id"]
            restored = agent.ok(
                "restore", "--from-copy", "--db", shop.name, "--snapshot", known_as, "--confirm", shop.name,
                "--no-safety-snapshot",
            )  # fmt: skip
        finally:
            stores.s3.start()
        assert restored["databases"][0]["verified"]["rows"] == 5000, "the manifest was found in the copy"
        assert rows(shop) == "5000"

    def test_that_fails_stops_nothing_and_is_told(
        self, agent: AgentContainer, stores: Stores, shop: DatabaseContainer, copied: S3Store
    ) -> None:
        agent.set_secret("copy_environment", "AWS_ACCESS_KEY_ID=stranger-key\nAWS_SECRET_ACCESS_KEY=canary-secret\n")
        call = back_up(agent, shop)
        assert call.exit_code == 1
        assert call.error["code"] == "repository_refused"
        assert call.error["message"].startswith(f"The copy to {copied.repository('copies/')}")
        assert "canary-secret" not in call.output
        data = call.data
        assert (data["failed"], data["retention"]["ok"], data["copy"]["ok"]) == (0, True, False)
        status = agent.ok("status")
        assert not status["healthy"]
        assert [problem.split(" failed:")[0] for problem in status["problems"]] == [
            f"The copy to {status['copy']['repository']}"
        ]
        assert [one["ok"] for one in status["databases"]] == [True]

        agent.set_secret("copy_environment", OTHER_ACCOUNT)
        assert backed_up(agent, shop)["copy"]["copied"] == 4, "what was missed is made up for"
        assert agent.ok("status")["healthy"]

    def test_is_not_another_repository_as_well(self, agent: AgentContainer, copied: S3Store) -> None:
        call = agent.call("restore", "--db", "x", "--from-copy", "--from-repository", copied.repository("x"))
        assert (call.exit_code, call.error["code"]) == (2, "usage")


@pytest.mark.parametrize(
    ("kind", "second"),
    [
        pytest.param("rest", "private_rest", marks=pytest.mark.thorough),
        pytest.param("private_s3", "sftp", marks=pytest.mark.thorough),
        pytest.param("sftp", "local", marks=pytest.mark.thorough),
    ],
)
def test_a_copy_goes_between_stores_of_any_kind(
    agent: AgentContainer, stores: Stores, shop: DatabaseContainer, path: str, kind: str, second: str
) -> None:
    stores.give(agent, kind, path, "host" if kind == "rest" else "owner")
    store: Store | None = getattr(stores, second, None)
    repository = store.repository(f"backups/copy-{path}") if store else f"/repository/copy-{path}"
    agent.configure(copy={"repository": repository})
    agent.set_secret(
        "copy_environment", "".join(f"{k}={v}\n" for k, v in (store.environment() if store else {}).items())
    )
    agent.ok("init")
    agent.ok("init", "--copy")
    assert backed_up(agent, shop)["copy"] | {"time": ""} == {
        "repository": repository, "ok": True, "time": "", "copied": 2, "removed": [], "error": None,
    }  # fmt: skip
    assert len(agent.ok("snapshots", "--copy")["snapshots"]) == 1


class TestOneRepositoryOfTwoHosts:
    def test_keeps_each_hosts_snapshots_from_the_others_retention(
        self,
        agent: AgentContainer,
        make_agent: Callable[[], AgentContainer],
        stores: Stores,
        shop: DatabaseContainer,
        path: str,
    ) -> None:
        other = make_agent()
        for one, host in ((agent, "web1"), (other, "web2")):
            stores.give(one, "s3", path)
            one.configure(host=host, keep=ONE)
        agent.ok("init")
        other.ok("init", "--must-exist")
        mine = backed_up(agent, shop)["databases"][0]["snapshot_id"]
        for _night in range(2):
            theirs = backed_up(other, shop)["databases"][0]["snapshot_id"]
        assert [one["id"] for one in agent.ok("snapshots")["snapshots"]] == [mine]
        assert [one["id"] for one in other.ok("snapshots")["snapshots"]] == [theirs]

    def test_is_noticed_when_both_have_one_name(
        self,
        agent: AgentContainer,
        make_agent: Callable[[], AgentContainer],
        stores: Stores,
        shop: DatabaseContainer,
        path: str,
    ) -> None:
        twin = make_agent()
        for one in (agent, twin):
            stores.give(one, "s3", path)
        agent.ok("init")
        backed_up(agent, shop)
        # One that was made anew takes over what the old one has left; it cannot know that the old one is not gone.
        backed_up(twin, shop)
        for one in (agent, twin):
            call = back_up(one, shop)
            assert call.exit_code == 1
            assert call.error["code"] == "two_hosts"
            assert "Another agent backed up under the name test-host" in call.error["message"]
            assert call.data["failed"] == 0, "its dumps are saved"
            assert call.data["retention"]["removed"] == []
            assert not one.ok("status")["healthy"]
        assert len(agent.ok("snapshots")["snapshots"]) == 4


def test_no_credential_shows_anywhere_while_a_pass_runs(
    agent: AgentContainer, stores: Stores, shop: DatabaseContainer, path: str
) -> None:
    """Of an SFTP repository with a copy in S3: the key, the keys and both passwords."""
    stores.give(agent, "sftp", path)
    elsewhere = stores.private_s3
    agent.configure(copy={"repository": elsewhere.repository(f"copies/{path}")})
    agent.set_password("canary-password")
    agent.set_secret("copy_password", "canary-copy")
    agent.set_secret("copy_environment", "".join(f"{k}={v}\n" for k, v in elsewhere.environment().items()))
    agent.ok("init")
    agent.ok("init", "--copy")
    shown = [docker("inspect", agent.name).stdout]
    every_argv = 'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline 2>/dev/null; echo; done'
    process = agent.start_call("backup", "--db", shop.name)
    while process.poll() is None:
        shown.append(docker("exec", agent.name, "sh", "-c", every_argv).stdout)
    call = finish(process)
    shown += [call.output, docker("logs", agent.name).stdout]
    assert call.exit_code == 0, call.output

    argv = "\n".join(shown)
    assert "sftp.args=" in argv, "restic was seen at work"
    body_of_key = stores.sftp.private_key.splitlines()[2]
    for secret in ("canary-password", "canary-copy", "owner-secret", body_of_key):
        assert secret not in argv


def test_a_store_that_dies_is_given_up_in_time(agent: AgentContainer, stores: Stores, path: str) -> None:
    stores.give(agent, "rest", path)
    agent.configure(answer_seconds=5)
    stores.rest.stop()
    try:
        call = agent.call("snapshots")
    finally:
        stores.rest.start()
    assert call.error["code"] == "repository_unreachable"
    assert "did not answer within 5 s while listing the snapshots" in call.error["message"]
    assert stores.rest.address in call.error["message"]
    # What the verb needs itself may take longer, as it makes a repository with little of a processor.
    agent.configure(answer_seconds=120)
    wait_until(lambda: agent.call("init").exit_code == 0, "the store is back")
