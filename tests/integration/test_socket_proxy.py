# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody who has taken the agent over can ask of the Docker engine: the proxy's whole list, each call made for real."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path

import pytest
from scalr_backup.actions.documents import exclusion, may_match
from scalr_backup.core.config import Config

from tests.support.containers import AgentContainer, DatabaseContainer, docker, wait_until
from tests.support.taken import House
from tests.support.turns import labelled

pytestmark = pytest.mark.timeout(300)

MakeDatabase = Callable[..., DatabaseContainer]

SHOP = "CREATE TABLE orders AS SELECT n, md5(n::text) AS note FROM generate_series(1, 2000) AS n;"
HAPROXY = Path(__file__).resolve().parents[2] / "roles/backup/files/agent/socket-proxy/haproxy.cfg"

# Every other thing that the engine's API offers (1.41 to 1.52), for a database container where it is about a container.
REFUSED = """
    POST /containers/create
    POST /containers/prune
    GET /containers/{db}/logs?stdout=1
    GET /containers/{db}/top
    GET /containers/{db}/changes
    GET /containers/{db}/export
    GET /containers/{db}/stats?stream=0
    GET /containers/{db}/archive?path=/etc/passwd
    HEAD /containers/{db}/archive?path=/etc/passwd
    PUT /containers/{db}/archive?path=/
    GET /containers/{db}/attach/ws
    POST /containers/{db}/attach?stream=1
    POST /containers/{db}/start
    POST /containers/{db}/stop
    POST /containers/{db}/restart
    POST /containers/{db}/kill
    POST /containers/{db}/update
    POST /containers/{db}/rename?name=other
    POST /containers/{db}/pause
    POST /containers/{db}/unpause
    POST /containers/{db}/wait
    POST /containers/{db}/resize?h=1&w=1
    DELETE /containers/{db}?force=1
    GET /images/json
    GET /images/postgres:17/json
    GET /images/postgres:17/history
    GET /images/postgres:17/get
    GET /images/get?names=postgres:17
    GET /images/search?term=postgres
    POST /images/create?fromImage=postgres
    POST /images/load
    POST /images/prune
    POST /images/postgres:17/push
    POST /images/postgres:17/tag?repo=other
    DELETE /images/postgres:17
    POST /build
    POST /build/prune
    POST /commit?container={db}
    GET /networks
    GET /networks/bridge
    POST /networks/create
    POST /networks/bridge/connect
    POST /networks/bridge/disconnect
    POST /networks/prune
    DELETE /networks/bridge
    GET /volumes
    GET /volumes/{agent}-state
    POST /volumes/create
    POST /volumes/prune
    PUT /volumes/{agent}-state
    DELETE /volumes/{agent}-state
    GET /info
    GET /system/df
    POST /auth
    POST /session
    POST /grpc
    GET /distribution/postgres:17/json
    GET /plugins
    GET /plugins/privileges?remote=other
    POST /plugins/pull?remote=other
    POST /plugins/create?name=other
    POST /plugins/other/enable
    GET /swarm
    GET /swarm/unlockkey
    POST /swarm/init
    POST /swarm/join
    POST /swarm/leave
    POST /swarm/update
    POST /swarm/unlock
    GET /nodes
    GET /nodes/other
    POST /nodes/other/update
    DELETE /nodes/other
    GET /services
    POST /services/create
    POST /services/other/update
    GET /services/other/logs
    DELETE /services/other
    GET /tasks
    GET /tasks/other/logs
    GET /secrets
    POST /secrets/create
    DELETE /secrets/other
    GET /configs
    POST /configs/create
    DELETE /configs/other
    GET /debug/pprof/
    GET /metrics
    POST /_ping
    PUT /_ping
    OPTIONS /_ping
    POST /version
    POST /containers/json
    DELETE /containers/json
    POST /events
    POST /containers/{db}/json
    GET /containers/{db}/exec
    PUT /containers/{db}/exec
    GET /exec/{none}/start
    POST /exec/{none}/json
    DELETE /exec/{none}
    GET /
    GET /containers/../info
    GET /containers/%2e%2e/info
    GET //info
    GET /_ping/../info
    GET /v1.41/../info
    GET /v1.41//containers/{db}/logs
    GET /containers/{db}/../{web}/json
    GET /containers/{db}%2f..%2f{web}/json
    GET /containers/{db}/json/
    GET /containers/{db}%00/json
    GET /containers/.../json
    POST /containers/{db}/exec/../../create
    POST /V1.41/containers/{db}/exec
    POST /containers/{db}/EXEC
"""

# Ways to an exec with more rights than the container's own, and to anything else than running a command.
BODIES = [
    '{"Cmd": ["id"], "Privileged": true}',
    '{"Cmd": ["id"], "privileged": true}',
    '{"Cmd": ["id"], "PRIVILEGED": true}',
    '{"Cmd": ["id"], "Privileged": false, "privileged": true}',
    '{"Cmd": ["id"], "Privileged": true, "Privileged": false}',
    '{"Cmd": ["id"], "Privileged": false, "Privileged": true}',
    '{"Cmd": ["id"], "Privileged": true, "Privileged": null}',
    '{"Cmd": ["id"], "Privileged": null}',
    '{"Cmd": ["id"], "Privileged": 1}',
    '{"Cmd": ["id"], "Privileged": "true"}',
    r'{"Cmd": ["id"], "Privi\u006ceged": true}',
    r'{"Cmd": ["id"], "\u0050rivileged": false}',
    '{"Cmd": ["id"], "Privilege\u017f": true}',
    '{"Cmd": ["id"], "Privileged\\u0000": true}',
    '{"Cmd": ["id"], "User": "0"}',
    '{"Cmd": ["id"], "Tty": true}',
    '{"Cmd": ["id"], "WorkingDir": "/proc/1"}',
    '{"Cmd": ["id"], "DetachKeys": "a"}',
    '{"Cmd": ["id"], "HostConfig": {}}',
    '{"Cmd": "id"}',
    '{"Cmd": [1]}',
    '{"Cmd": {"a": "b"}}',
    '{"Cmd": ["id"]} {"Privileged": true}',
    '[{"Cmd": ["id"], "Privileged": true}]',
    '{"Cmd": ["id"], /* */ "Privileged": true}',
    '{"Cmd": ["id"], "Privileged": NaN}',
    '"Privileged"',
    "not JSON",
    "",
]


@pytest.fixture(scope="module")
def house(
    agent_image: str, prefix: str, make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    # On a file system of its own: how much is free there changes only by what it does itself.
    database = make_database("shop", options=["--tmpfs", "/var/lib/postgresql/data:size=512m"])
    database.sql(SHOP)
    agent = AgentContainer(tmp_path_factory.mktemp("house") / "agent", [f"{prefix}-*-db"], agent_image, proxied=True)
    agent.configure(exclude=[f"{prefix}-scratch-*"])
    others = {"web": "", "alone-db": "false", "scratch-db": ""}
    for name, label in others.items():
        labels = ["--label", f"scalr.backup={label}"] if label else []
        docker("run", "--detach", "--name", f"{prefix}-{name}", *labels, "debian:trixie-slim", "sleep", "3600")
    try:
        agent.start()
        agent.make_repository()
        yield House(agent, database, *(f"{prefix}-{name}" for name in others))
    finally:
        agent.remove()
        docker("rm", "--force", "--volumes", *(f"{prefix}-{name}" for name in others))


def test_refuses_every_other_call_of_the_engine_and_logs_it(house: House) -> None:
    places = {"db": house.database.name, "web": house.web, "agent": house.agent.name, "none": "0" * 64}
    calls = [tuple(line.split()) for line in REFUSED.format(**places).strip().splitlines()]
    versioned = [
        (method, f"/v1.41{path}") for method, path in calls if path.startswith("/") and "/v1." not in path.lower()
    ]
    before = len(house.refusals())

    answers = house.ask(*calls, *versioned)

    let_through = [
        call for call, answer in zip([*calls, *versioned], answers, strict=True) if answer.status not in (400, 403)
    ]
    assert let_through == []
    assert {
        answer.message
        for answer in answers
        if answer.status == 403 and "HEAD" not in answer.text and "{" in answer.text
    } == {"The agent may not make this call."}
    logged = house.refusals()[before:]
    assert len(logged) == len(answers)
    assert {line["level"] for line in logged} == {"warning"}
    assert ("POST", "/containers/create") in {(line["method"], line["path"]) for line in logged}
    for name in (house.database.name, house.web, house.agent.name):
        assert docker("inspect", "--format", "{{.State.Status}}", name).stdout == "running\n"


def test_looks_and_runs_commands_in_database_containers_only(house: House, prefix: str) -> None:
    """By name and by label, by full id and by nothing shorter."""

    def statuses(container: str) -> tuple[int, int]:
        return house.ask(("GET", f"/v1.41/containers/{container}/json"))[0].status, house.start_exec(container).status

    identity = docker("inspect", "--format", "{{.Id}}", house.database.name).stdout.strip()
    other = docker("inspect", "--format", "{{.Id}}", house.web).stdout.strip()
    assert statuses(house.database.name) == (200, 201)
    with labelled(f"{prefix}-labelled", "debian:trixie-slim") as container:
        # It does not run, and the engine itself says so.
        assert statuses(container) == (200, 409)
    assert statuses(identity) == (200, 201)
    for container in (house.web, other, house.left_alone, house.excluded, house.agent.name, house.agent.proxy):
        assert statuses(str(container)) == (403, 403), container
    for container in (identity[:12], other[:12], "no-such-container"):
        assert statuses(container) == (404, 404), container

    assert house.start_exec(house.web).message == (
        f"The agent may not look into {house.web}, which is none of its database containers; give it the label "
        "scalr.backup=true, or let backup_containers name it."
    )
    assert "whose label scalr.backup is false" in house.start_exec(house.left_alone).message
    assert "which backup_exclude names" in house.start_exec(house.excluded).message


def test_leaves_other_peoples_execs_alone(house: House) -> None:
    docker("exec", "--detach", house.web, "sleep", "600")
    (theirs,) = json.loads(docker("inspect", "--format", "{{json .ExecIDs}}", house.web).stdout)

    paths = [
        ("GET", f"/exec/{theirs}/json"),
        ("POST", f"/exec/{theirs}/start"),
        ("POST", f"/exec/{theirs}/resize?h=1&w=1"),
    ]
    assert [answer.status for answer in house.ask(*paths)] == [403, 403, 403]

    ours = json.loads(house.start_exec(house.database.name).text.partition("\r\n\r\n")[2])["Id"]
    assert house.ask(("GET", f"/exec/{ours}/json"))[0].status == 200
    assert house.ask(("GET", f"/exec/{'0' * 64}/json"))[0].status == 404


def test_an_exec_gets_no_more_rights_by_any_spelling(house: House) -> None:
    path = f"/v1.41/containers/{house.database.name}/exec"
    json_type = ["Content-Type", "application/json"]
    assert house.start_exec(house.database.name).status == 201

    answers = house.ask(*(("POST", path, [json_type], body) for body in BODIES))
    assert [body for body, answer in zip(BODIES, answers, strict=True) if answer.status != 403] == []

    wanted = '{"Cmd": ["id"], "Privileged": true}'
    chunked = f"{len(wanted):x}\r\n{wanted}\r\n0\r\n\r\n"
    large = json.dumps({"Cmd": ["true", "x" * 300_000]})
    answers = house.ask(
        ("POST", path, [json_type, ["Transfer-Encoding", "chunked"]], chunked),
        ("POST", path, [json_type, ["Transfer-Encoding", "chunked"], ["Content-Length", "4"]], chunked),
        ("POST", path, [json_type, ["Content-Length", "2"], ["Content-Length", str(len(wanted))]], wanted),
        ("POST", path, [json_type], large),
    )
    assert {answer.status for answer in answers} <= {400, 403, 413}
    assert '"Id"' not in "".join(answer.text for answer in answers)


def test_speaks_one_protocol(house: House) -> None:
    """The engine takes HTTP/2 and gRPC after an upgrade, and several calls on one connection: no rule is passed by them."""
    upgrade = [["Connection", "Upgrade, HTTP2-Settings"], ["Upgrade", "h2c"], ["HTTP2-Settings", "AAMAAABkAAQAAP__"]]
    execution = json.loads(house.start_exec(house.database.name).text.partition("\r\n\r\n")[2])["Id"]
    start = f"/v1.41/exec/{execution}/start"
    ping = "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"
    create = "POST /containers/create HTTP/1.1\r\nHost: docker\r\nContent-Length: 2\r\n\r\n{}"
    answers = house.ask(
        ("GET", "/_ping", [["Connection", "Upgrade"], ["Upgrade", "tcp"]], ""),
        ("POST", start, [["Connection", "Upgrade"], ["Upgrade", "other"]], "{}"),
        ("POST", start, [["Connection", "Upgrade"], ["Upgrade", "tcp, other"]], "{}"),
        # HAProxy itself takes this word away, and what is left is no upgrade.
        ("GET", "/_ping", upgrade, ""),
        ("POST", start, upgrade, "{}"),
        ("", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [], ""),
        ("", ping + create, [], ""),
        ("", ping + "GET /info HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n", [], ""),
    )

    assert [answer.status for answer in answers[:3]] == [403] * 3
    assert 101 not in {answers[3].status, answers[4].status}
    assert "upgrade" not in (answers[3].text + answers[4].text).lower()
    assert answers[5].status in (0, 400, 403, 505)
    assert [re.findall(r"HTTP/1.1 (\d+)", answer.text) for answer in answers[6:]] == [["200", "403"]] * 2


def test_events_tell_of_containers_and_of_no_command_line(house: House) -> None:
    docker("exec", house.web, "echo", "a-secret-on-a-command-line")
    docker("restart", "--time", "0", house.excluded)

    (answer,) = house.ask(
        ("GET", "/v1.41/events?since=0&until=9999999999&filters=%7B%22type%22%3A%5B%22volume%22%5D%7D")
    )

    assert answer.status in (0, 200)
    assert "a-secret-on-a-command-line" not in answer.text
    assert "exec_create" not in answer.text


def test_judges_as_the_agent_does(house: House, tmp_path: Path) -> None:
    """The rules and the agent's discovery agree on every name, label, and glob."""
    names = ["", "a", "b", "scalr-shop-db", "scalr-db", "x.y", "xzy", "a-b", "]", "[a", "web", "a*b", "Scalr-shop-db"]
    globs = [
        *("*", "?", "a", "", "scalr-*-db", "scalr-*", "*-db", "[ab]", "[!ab]", "[a-c]", "[!a-c]", "[c-a]", "[a-c-e]"),
        *(
            "x.y",
            "x?y",
            "[",
            "[a",
            "[]]",
            "[]a]",
            "[!]]",
            "a[-]b",
            "a[!-]b",
            "**",
            "*?*",
            "[A-Z]*",
            "a[+--]b",
            "*a*b*",
            "[!]",
        ),
    ]
    labels = ["", "true", "false", "True", "FALSE", "yes"]
    judged = [
        {"name": name, "label": label, "containers": containers, "exclude": exclude}
        for name, label, containers, exclude in product(
            names[1:], labels, (["scalr-*"], ["a", "x?y"], []), (["*shop*"], [])
        )
    ]
    (tmp_path / "cases.json").write_text(json.dumps({"names": names, "globs": globs, "judged": judged}))
    (tmp_path / "cases.lua").write_text(LUA_CASES)
    (tmp_path / "haproxy.cfg").write_text(
        "global\n lua-prepend-path /opt/scalr-backup/socket-proxy/?.lua\n lua-load /cases/cases.lua\n"
    )
    tmp_path.chmod(0o755)
    done = docker(
        "run", "--rm", "--network", "none", "--volume", f"{tmp_path}:/cases:ro", "--entrypoint", "haproxy",
        house.agent.image, "-c", "-f", "/cases/haproxy.cfg", check=False,
    )  # fmt: skip
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))

    assert found["fits"] == [fnmatchcase(name, glob) for name in names for glob in globs]
    expected = []
    for case in judged:
        config = Config(host="h", repository="/r", containers=case["containers"], exclude=case["exclude"])
        own = {"scalr.backup": case["label"]} if case["label"] else {}
        name = str(case["name"])
        expected.append(may_match(config, name, own) and exclusion(config, name, own) is None)
    # A label decides before patterns do, and so it is for the proxy.
    assert found["allowed"] == expected


LUA_CASES = """
local cjson, rules = require("cjson"), require("rules")
local file = io.open("/cases/cases.json")
local cases = cjson.decode(file:read("a"))
local found = { fits = {}, allowed = {} }
for _, name in ipairs(cases.names) do
  for _, glob in ipairs(cases.globs) do found.fits[#found.fits + 1] = rules.fits(name, glob) end
end
for _, case in ipairs(cases.judged) do
  found.allowed[#found.allowed + 1] = rules.obstacle(case.name, { ["scalr.backup"] = case.label }, case) == nil
end
print(cjson.encode(found))
"""


STREAMS = """
import hashlib, sys, threading
from scalr_backup.tools.docker.engine import DockerHost
SIZE = 200
block = hashlib.shake_256(b"block").digest(1 << 20)
def blocks():
    for number in range(SIZE):
        yield number.to_bytes(8, "big") + block[8:]
whole = hashlib.sha256()
for one in blocks():
    whole.update(one)
docker = DockerHost()
def stream(command, send):
    received, count = hashlib.sha256(), 0
    with docker.start_exec("CONTAINER", ["sh", "-c", command], stdin=send) as execution:
        def write():
            for one in blocks():
                execution.write(one)
            execution.end_input()
        writer = threading.Thread(target=write)
        if send:
            writer.start()
        for kind, data in execution.frames():
            received.update(data)
            count += len(data)
        if send:
            writer.join()
        return received.hexdigest(), count, execution.wait()
up = docker.start_exec("CONTAINER", ["sh", "-c", "cat > /dev/shm/blocks; sha256sum < /dev/shm/blocks"], stdin=True)
for one in blocks():
    up.write(one)
up.end_input()
text = b"".join(data for kind, data in up.frames()).decode()
assert up.wait() == 0 and text.split()[0] == whole.hexdigest(), text
assert stream("cat /dev/shm/blocks", False) == (whole.hexdigest(), SIZE << 20, 0)
assert stream("cat", True) == (whole.hexdigest(), SIZE << 20, 0)
assert stream("exit 7", False)[2] == 7
print("intact")
"""

SILENCE = """
from scalr_backup.tools.docker.engine import DockerHost
docker = DockerHost()
with docker.start_exec("CONTAINER", ["sh", "-c", "cat > /dev/null; sleep 7; echo late; exit 3"], stdin=True) as execution:
    execution.write(b"x")
    execution.end_input()
    text = b"".join(data for kind, data in execution.frames())
    assert (text, execution.wait()) == (b"late\\n", 3), text
with docker.start_exec("CONTAINER", ["sh", "-c", "sleep 7; echo late"]) as execution:
    assert b"".join(data for kind, data in execution.frames()) == b"late\\n"
print("patient")
"""


# More than the engine and the proxy take at once: some of it is still in the socket when the sender ends, while output
# goes the other way. Prints how much has arrived.
LAST_BYTES = """
import threading, time
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.docker.exec_stream import STDERR
docker = DockerHost()
command = "exec 3<&0; head -c 3000000 /dev/zero & sleep 1; wc -c <&3 >&2; wait"
for size in (700_000, 750_000, 775_000, 800_000, 850_000):
    with docker.start_exec("CONTAINER", ["sh", "-c", command], stdin=True) as execution:
        def send():
            execution.write(bytes(size))
            execution.end_input()
        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(0.3)
        counted = b""
        for kind, data in execution.frames():
            counted += data if kind == STDERR else b""
            time.sleep(0.005)
        sender.join()
        assert int(counted) == size, (size, counted)
print("whole")
"""


def test_what_was_sent_last_arrives_though_its_sender_has_ended(house: House) -> None:
    assert house.python(LAST_BYTES.replace("CONTAINER", house.database.name)) == "whole"


def test_streams_200_megabytes_intact_each_way_and_both(house: House) -> None:
    docker("exec", house.database.name, "mount", "-o", "remount,size=300m", "/dev/shm", check=False)
    script = STREAMS.replace("CONTAINER", house.database.name).replace("/dev/shm/blocks", "/var/tmp/blocks")
    try:
        assert house.python(script) == "intact"
    finally:
        docker("exec", house.database.name, "rm", "-f", "/var/tmp/blocks")


def test_no_limit_of_http_ends_a_silent_stream(house: House, tmp_path: Path) -> None:
    """A dump and an index may keep silent for hours, after the input's end, too: only the tunnel's limit counts."""
    assert house.agent.proxy
    config = HAPROXY.read_text()
    assert re.findall(r"timeout (?:tunnel|client-fin|server-fin) (\w+)", config) == ["24h"] * 3
    impatient, changed = re.subn(r"timeout (client|server|http-request) .*", r"timeout \1 2s", config)
    assert changed == 3
    (tmp_path / "haproxy.cfg").write_text(impatient)
    (tmp_path / "haproxy.cfg").chmod(0o644)
    docker("rm", "--force", house.agent.proxy)
    try:
        house.agent.start_proxy("--volume", f"{tmp_path}/haproxy.cfg:/opt/scalr-backup/socket-proxy/haproxy.cfg:ro")
        assert house.python(SILENCE.replace("CONTAINER", house.database.name)) == "patient"
    finally:
        docker("rm", "--force", house.agent.proxy)
        house.agent.start_proxy()


def test_the_agent_backs_up_and_restores_through_it(house: House) -> None:
    name = house.database.name
    assert {found["name"]: found["status"] for found in house.agent.ok("discover", "--db", "*shop*")["containers"]} == {
        name: "ok"
    }
    statuses = {found["name"]: found["status"] for found in house.agent.ok("discover")["containers"]}
    assert (statuses[house.left_alone], statuses[house.excluded]) == ("excluded", "excluded")
    before = house.database.fingerprint("postgres")

    volume = house.agent.ok("backup", "--db", name)["volumes"][name]
    assert volume["directory"] == house.database.sql("SHOW data_directory")
    used, free = docker("exec", name, "df", "-Pk", volume["directory"]).stdout.split()[-4:-2]
    assert volume["free_bytes"] == pytest.approx(int(free) * 1024, rel=0.05)
    assert volume["total_bytes"] == pytest.approx((int(used) + int(free)) * 1024, rel=0.05)
    house.database.sql("DELETE FROM orders WHERE n > 100")
    restored = house.agent.ok("restore", "--db", name, "--confirm", name)

    assert [one["ok"] for one in restored["databases"]] == [True]
    assert house.database.fingerprint("postgres") == before

    elsewhere = house.agent.call("restore", "--db", name, "--target", house.web, "--confirm", house.web)
    assert (elsewhere.exit_code, elsewhere.error["code"]) == (1, "call_refused")
    assert elsewhere.error["message"].startswith(f"The agent may not look into {house.web}, ")
    assert "give it the label scalr.backup=true" in elsewhere.error["message"]


def test_survives_its_restart_and_takes_changed_patterns_without_one(house: House) -> None:
    assert house.agent.proxy
    docker("kill", house.agent.proxy)
    docker("start", house.agent.proxy)
    assert house.agent.ok("discover", "--db", house.database.name)["containers"][0]["status"] == "ok"

    patterns = house.agent.config["containers"]
    try:
        house.agent.configure(containers=[*patterns, house.web])
        assert house.start_exec(house.web).status == 201
    finally:
        house.agent.configure(containers=patterns)
    assert house.start_exec(house.web).status == 403

    docker("stop", "--time", "5", house.agent.proxy)
    try:
        call = house.agent.call("discover")
        assert call.error["code"] == "docker_unreachable"
        assert "is the proxy running?" in call.error["message"]
    finally:
        docker("start", house.agent.proxy)


def test_has_no_more_rights_than_it_needs(house: House) -> None:
    assert house.agent.proxy
    agent, proxy = json.loads(docker("inspect", house.agent.name, house.agent.proxy).stdout)

    assert "docker.sock" not in json.dumps(agent["HostConfig"]["Binds"]).replace("/run/scalr-backup/docker.sock", "")
    assert agent["Config"]["User"] == proxy["Config"]["User"] == "64738:64738"
    # Two threads over one select are one too many: the second may stop answering.
    threads = docker("exec", house.agent.proxy, "grep", "^Threads:", "/proc/1/status").stdout.split()
    assert threads == ["Threads:", "1"]
    # The agent can neither replace nor remove the proxy's socket, nor is there anything else of the engine's.
    docker("exec", house.agent.name, "sh", "-c", "! rm -f /run/scalr-backup/docker.sock && ! touch /run/scalr-backup/x")
    wait_until(lambda: house.ask(("GET", "/_ping"))[0].status == 200, "the proxy answers")
    assert docker("exec", house.agent.name, "sh", "-c", "ls /var/run/docker.sock", check=False).returncode != 0
    identity = secrets.token_hex(32)
    assert house.ask(("GET", f"/containers/{identity}/json"))[0].status == 404
