# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket proxy fails closed: what breaks its judgement, other people's execs, and containers with power over the host."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker as sdk
import pytest
from scalr_backup.core import power

from tests.support.containers import AgentContainer, DatabaseContainer, docker
from tests.support.taken import PLAIN, House

pytestmark = pytest.mark.timeout(300)

MakeDatabase = Callable[..., DatabaseContainer]

PROXY = Path(__file__).resolve().parents[2] / "roles/backup/files/agent/socket-proxy"
PRIVILEGED = '{"Cmd": ["id"], "Privileged": true}'
JSON_TYPE = ["Content-Type", "application/json"]

# Between HAProxy and the rules: at the place that the body of an exec names, Lua breaks as the body says.
BREAKING = """
local real, power = require("real_rules"), require("power")
local hogs, broken = {}, nil
local function breaks(place)
  if broken == nil or broken.place ~= place then return end
  if broken.how == "error" then error("broken") end
  if broken.how == "memory" then
    local hog = {}
    for number = 1, 1e9 do hog[number] = ("x"):rep(65536) .. number end
  end
  while broken.how == "time" do hogs[1] = nil end
end
local judge_body, judge_name, judge_power, sentence = real.exec_obstacle, real.obstacle, power.obstacle, power.volumes
function real.exec_obstacle(body)
  local how, place = body:match("BREAK (%l+) (%l+)")
  broken = how and { how = how, place = place } or nil
  breaks("body")
  return judge_body(body)
end
function real.obstacle(...) breaks("name") return judge_name(...) end
function power.obstacle(...) breaks("power") return judge_power(...) end
function power.volumes(...) breaks("volumes") return sentence(...) end
return real
"""
PLACES = ("body", "name", "power", "volumes")

# Docker's options of containers that give power over the host, each with a part of what is said of it.
POWERFUL = {
    "privileged": (["--privileged"], "it is privileged"),
    "socket": (["--volume", "/var/run/docker.sock:/tmp/harmless"], "it mounts /var/run/docker.sock"),
    "run": (["--volume", "/run:/srv/run:ro"], "it mounts /run of the host"),
    "var-run": (["--mount", "type=bind,source=/var/run,target=/srv/run"], "it mounts /var/run of the host"),
    "root": (["--volume", "/:/host:ro"], "it mounts / of the host"),
    "volume": (["--volume", "{prefix}-bound:/srv/run"], "is /run of the host"),
    "network": (["--network", "host"], "the host's network namespace"),
    "processes": (["--pid", "host"], "the host's process namespace"),
    "ipc": (["--ipc", "host"], "the host's IPC namespace"),
    "uts": (["--uts", "host"], "the host's UTS namespace"),
    "admin": (["--cap-add", "sys_admin"], "the capability SYS_ADMIN"),
    "ptrace": (["--cap-add", "CAP_SYS_PTRACE"], "the capability SYS_PTRACE"),
    "device": (["--device", "/dev/null:/dev/thing"], "it has devices of the host"),
    "rule": (["--device-cgroup-rule", "a *:* rwm"], "it has devices of the host"),
    "paths": (["--security-opt", "systempaths=unconfined"], "systempaths=unconfined"),
    "joined": (["--pid", "container:{prefix}-privileged-db"], "it shares a namespace of {prefix}-privileged-db"),
    "networked": (["--network", "container:{prefix}-network-db"], "it shares a namespace of {prefix}-network-db"),
    "overlay": (["--volume", "{prefix}-overlay:/srv/all"], "is an overlay of directories of the host"),
    "passwords": (["--volume", "/etc/passwd:/etc/passwd"], "it may write to /etc/passwd of the host"),
    "daily": (["--volume", "/etc/cron.daily:/srv/daily"], "it may write to /etc/cron.daily of the host"),
    "beside": (["--pid", "container:{agent}"], "it shares a namespace of {agent}"),
}
# And of such that do not.
HARMLESS = {
    "plain": [],
    "data": ["--volume", "/srv/data:/var/lib/postgresql/data", "--volume", "/etc/localtime:/etc/localtime:ro"],
    "named": ["--volume", "/etc/passwd:/etc/passwd:ro", "--volume", "/etc/cron.daily:/srv/daily:ro"],
    # What a neighbour in its network may do is not what it may do.
    "beside-a-router": ["--network", "container:{prefix}-privileged-db"],
    "tuned": ["--cap-add", "SYS_NICE", "--cap-add", "IPC_LOCK", "--shm-size", "1g", "--ulimit", "memlock=-1"],
    "sidecar": ["--network", "container:{prefix}-plain-db"],
    "unconfined": ["--security-opt", "seccomp=unconfined"],
}


@pytest.fixture(scope="module")
def house(
    agent_image: str, prefix: str, make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    database = make_database("shop")
    agent = AgentContainer(tmp_path_factory.mktemp("house") / "agent", [f"{prefix}-*-db"], agent_image, proxied=True)
    try:
        agent.start()
        agent.make_repository()
        yield House(agent, database, "", "", "")
    finally:
        agent.remove()


@contextmanager
def created(prefix: str, kinds: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """Containers with such options, never started; their names by their kinds."""
    names = {kind: f"{prefix}-{kind}-db" for kind in kinds}
    try:
        for kind, options in kinds.items():
            docker("create", "--name", names[kind], *options, "debian:trixie-slim", "sleep", "3600")
        yield names
    finally:
        docker("rm", "--force", "--volumes", *names.values(), check=False)


def document_of(container: str) -> dict[str, Any]:
    """What the engine says of a container."""
    return dict(json.loads(docker("inspect", "--type", "container", container).stdout)[0])


def execs_of(container: str) -> list[str]:
    """The execs of a container that the engine knows."""
    return list(document_of(container)["ExecIDs"] or [])


@contextmanager
def broken_proxy(house: House, directory: Path) -> Iterator[None]:
    """The proxy with rules that break where a body says it."""
    shutil.copytree(PROXY, directory, dirs_exist_ok=True)
    (directory / "rules.lua").rename(directory / "real_rules.lua")
    (directory / "rules.lua").write_text(BREAKING)
    # What never ends costs this machine's processor as long as it may take.
    config = (directory / "haproxy.cfg").read_text()
    assert "session-timeout 2s" in config
    (directory / "haproxy.cfg").write_text(config.replace("session-timeout 2s", "session-timeout 300ms"))
    for path in (directory, *directory.iterdir()):
        path.chmod(0o755)
    docker("rm", "--force", str(house.agent.proxy))
    try:
        house.agent.start_proxy("--volume", f"{directory}:/opt/scalr-backup/socket-proxy:ro")
        yield
    finally:
        docker("rm", "--force", str(house.agent.proxy))
        house.agent.start_proxy()


def test_a_judgement_that_breaks_lets_nothing_pass(house: House, tmp_path: Path) -> None:
    """By a mistake, for lack of memory, and for lack of time: at each place, with the body of a plain and of another exec."""
    path = f"/v1.41/containers/{house.database.name}/exec"
    before = execs_of(house.database.name)
    with broken_proxy(house, tmp_path / "proxy"):
        assert house.start_exec(house.database.name).status == 201
        for place in PLACES:
            bodies = [
                json.dumps({"Cmd": [f"BREAK {how} {place}"], "Privileged": privileged})
                for how in ("error", "memory", "time")
                for privileged in (False, True)
                # A body that is refused is judged no further.
                if not privileged or place == "body"
            ]
            answers = house.ask(*(("POST", path, [JSON_TYPE], body) for body in bodies))
            assert [answer.status for answer in answers] == [503] * len(bodies), (place, answers)
            assert {answer.message for answer in answers} == {"The socket proxy could not judge this call."}
        assert house.refused() == {"call": 0, "container": 0, "look": 0, "exec": 0, "unjudged": 15}
        # It goes on as before.
        assert house.start_exec(house.database.name).status == 201
    assert len(execs_of(house.database.name)) - len(before) <= 2


def test_what_is_enormous_or_deep_is_refused_and_costs_nobody_else(house: House, prefix: str, tmp_path: Path) -> None:
    path = f"/v1.41/containers/{house.database.name}/exec"
    deep = '{"Cmd": ' + "[" * 100_000 + "]" * 100_000 + ', "Privileged": true}'
    many = '{"Privileged": true, "Cmd": [' + ",".join(['""'] * 80_000) + "]}"
    keys = "{" + ",".join(f'"k{number}": 0' for number in range(20_000)) + ', "Privileged": true}'
    answers = house.ask(
        *(("POST", path, [JSON_TYPE], body) for body in (deep, many, keys, '{"Cmd": [' + '"' * 200_001))
    )
    assert [answer.status for answer in answers] == [403] * 4

    # A container that its maker gave so many labels that to read them takes more memory than Lua has.
    labels = tmp_path / "labels"
    labels.write_text("".join(f"label.{number:08d}={'x' * 80}\n" for number in range(250_000)))
    with created(prefix, {"labelled": ["--label-file", str(labels)]}) as names:
        answers = house.ask(
            ("POST", f"/v1.41/containers/{names['labelled']}/exec", [JSON_TYPE], PRIVILEGED),
            ("POST", f"/v1.41/containers/{names['labelled']}/exec", [JSON_TYPE], PLAIN),
            ("GET", f"/v1.41/containers/{names['labelled']}/json"),
        )
        assert [answer.status for answer in answers] == [403, 503, 503]
        assert house.start_exec(house.database.name).status == 201


def test_patterns_that_would_take_for_ever_are_decided_at_once(house: House) -> None:
    patterns = house.agent.config["containers"]
    try:
        house.agent.configure(containers=["*".join("a" * 40) + "*b", *patterns], exclude=["*".join("t?" * 30) + "*!"])
        assert house.start_exec(house.database.name).status == 201
    finally:
        house.agent.configure(containers=patterns, exclude=[])


def test_only_an_exec_that_was_created_here_is_started_and_only_once(house: House) -> None:
    """Also where somebody else made it, plain or with more rights."""
    engine = sdk.APIClient()
    name = house.database.name
    theirs = {
        "plain": engine.exec_create(name, ["id"])["Id"],
        "privileged": engine.exec_create(name, ["id"], privileged=True)["Id"],
        "user": engine.exec_create(name, ["id"], user="postgres")["Id"],
        "terminal": engine.exec_create(name, ["id"], tty=True)["Id"],
        "place": engine.exec_create(name, ["id"], workdir="/tmp")["Id"],
    }
    before = house.refused()["exec"]
    start = '{"Detach": false, "Tty": false}'
    starts = house.ask(*(("POST", f"/v1.41/exec/{one}/start", [JSON_TYPE], start) for one in theirs.values()))
    resizes = house.ask(*(("POST", f"/v1.41/exec/{one}/resize?h=1&w=1", [], "") for one in theirs.values()))
    looks = house.ask(*(("GET", f"/v1.41/exec/{one}/json") for one in theirs.values()))
    assert [answer.status for answer in starts] == [403] * 5
    assert [answer.status for answer in resizes] == [403] * 5
    assert [answer.status for answer in looks] == [200, 403, 403, 403, 200]
    assert all(engine.exec_inspect(one)["Pid"] == 0 for one in theirs.values())
    assert house.refused()["exec"] == before + 8

    ours = [json.loads(house.start_exec(name).text.partition("\r\n\r\n")[2])["Id"] for _ in range(2)]
    path = f"/v1.41/exec/{ours[0]}/start"
    others = (
        '{"Detach": true}',
        '{"Tty": true}',
        '{"Detach": false, "ConsoleSize": [1, 1]}',
        '{"tty": true}',
        "[]",
        "",
    )
    assert {answer.status for answer in house.ask(*(("POST", path, [JSON_TYPE], body) for body in others))} == {403}
    assert [house.ask(("POST", path, [JSON_TYPE], start))[0].status for _ in range(2)] == [200, 403]

    # A proxy that has just started knows of none.
    docker("restart", "--time", "5", str(house.agent.proxy))
    assert house.agent.ok("discover", "--db", house.database.name)["containers"][0]["status"] == "ok"
    assert house.ask(("POST", f"/v1.41/exec/{ours[1]}/start", [JSON_TYPE], start))[0].status == 403


def test_no_pattern_opens_a_container_with_power_over_the_host(house: House, prefix: str) -> None:
    """What the proxy says is what the agent's own rules say, of what the engine really tells of such containers."""
    places = {"prefix": prefix, "agent": house.agent.name}
    docker("volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", "device=/run", f"{prefix}-bound")
    layers = "o=lowerdir=/,upperdir=/srv/upper,workdir=/srv/work"
    overlay = ["--opt", "type=overlay", "--opt", layers, "--opt", "device=overlay"]
    docker("volume", "create", *overlay, f"{prefix}-overlay")
    harmless = {kind: [option.format(**places) for option in options] for kind, options in HARMLESS.items()}
    powerful = {kind: [option.format(**places) for option in options] for kind, (options, _) in POWERFUL.items()}
    patterns = house.agent.config["containers"]
    try:
        house.agent.configure(containers=["*"])
        # None has the label that opens it to every agent: those of other tests would find it, too.
        with created(prefix, harmless | powerful) as names:
            for kind in harmless:
                # It does not run, and the engine itself says so.
                assert house.start_exec(names[kind]).status == 409, kind
                assert house.ask(("GET", f"/v1.41/containers/{names[kind]}/json"))[0].status == 200
            for kind in powerful:
                wanted = POWERFUL[kind][1].format(**places)
                exec_answer = house.start_exec(names[kind])
                (look_answer,) = house.ask(("GET", f"/v1.41/containers/{names[kind]}/json"))
                document = document_of(names[kind])
                (power_answer,) = house.ask(("GET", f"/scalr-backup/power/{document['Id']}"))
                # Its document is the agent's to read: a filter may decide over it.
                assert (exec_answer.status, look_answer.status, power_answer.status) == (403, 200, 200), kind
                assert wanted in exec_answer.message, kind
                held = power.through(document, accepted=False, container=document_of, volume=volume_of)
                assert exec_answer.message == power.sentence(names[kind], str(held))
                assert json.loads(power_answer.text.partition("\r\n\r\n")[2]) == {"held": held}
            refused = house.refused()
            house.agent.configure(containers=[f"{prefix}-*-db"])
            statuses = {one["name"]: one["status"] for one in house.agent.ok("discover")["containers"]}
            # Nothing can be run in what does not run.
            assert {statuses[names[kind]] for kind in powerful} == {"stopped"}
            docker("start", names["processes"])
            statuses = {one["name"]: one["status"] for one in house.agent.ok("discover")["containers"]}
            assert [name for name, status in statuses.items() if status == "refused"] == [names["processes"]]
            assert statuses[house.database.name] == "ok"
            # To find out is no attempt.
            assert house.refused() == refused
            house.agent.configure(containers=["*"])

            house.agent.configure(host_namespaces_accepted=[names[kind] for kind in powerful])
            opened = {kind for kind in powerful if house.start_exec(names[kind]).status in (201, 409)}
            assert opened == {"network", "processes", "ipc", "uts", "networked"}
        for own in (house.agent.name, str(house.agent.proxy)):
            assert house.start_exec(own).status == 403
            assert house.ask(("GET", f"/v1.41/containers/{own}/json"))[0].status == 403
            assert "one of scalr.backup's own containers" in house.start_exec(own).message
    finally:
        house.agent.configure(containers=patterns, host_namespaces_accepted=[])
        docker("volume", "rm", "--force", f"{prefix}-bound", f"{prefix}-overlay", check=False)


def volume_of(name: str) -> dict[str, Any]:
    """What the engine says of a volume."""
    return dict(json.loads(docker("volume", "inspect", name).stdout)[0])


SOURCES = [
    "/", "//", "/run", "/run/", "/var/run", "/var//run/", "/var/run/docker.sock", "/run/user/1000", "/run/user/1000/docker.sock",
    "/run/user/x", "/run/postgresql", "/run/containerd/containerd.sock", "/run/docker/plugins", "/run/dockers", "/runs", "/var/runs",
    "/srv/Docker.SOCK", "/srv/mydocker.sock", "/srv/docker.sock.d", "/srv/other.sock", "/srv/../run", "/srv/..", "/srv/..x", "/etc",
    "/etc/localtime", "/home", "/home/me/data", "/var/lib", "/var/lib/docker", "/var/lib/docker/volumes/x/_data", "/dev/shm", "",
    "/var/lib/docker/volumes/scalr-backup-state/_data", "/var/lib/docker/volumes/scalr-backup-state", "/./run", "/srv/.",
    "/var/lib/containers/storage/volumes/scalr-backup-cache/_data", "/var/lib/docker/1.2/volumes/scalr-backup-state", "/etc//passwd",
    "/var/lib/docker/1.2", "/var/lib/docker/1.2.3/image", "/var/lib/docker/1.2x/image", "/var/lib/docker/1.2/image", "/etc/passwd",
    "/home/me/.ssh", "/home/me/.ssh/x", "/home/me/x.ssh", "/home/me/.sshfs", "/root/.bash_aliases", "/etc/security/limits.conf",
    "/sys/kernel/mm", "/sys/kernel/mmx", "/sys/fs/cgroup", "/usr/lib/locale/x", "/usr/lib/x", "/libs", "/etc/cronies", "/etc/ssl/x",
]  # fmt: skip


def cases() -> list[dict[str, Any]]:
    """Documents as the engine might say them, and some that it never says."""
    base: dict[str, Any] = {"Name": "/x", "Config": {"Labels": None}, "HostConfig": {"Privileged": False}, "Mounts": []}
    hosts: list[dict[str, Any]] = [
        {}, {"Privileged": True}, {"Privileged": None}, {"CapAdd": None}, {"CapAdd": ["NET_ADMIN", "cap_bpf"]}, {"CapAdd": ["ALL"]},
        {"CapAdd": ["SYS_NICE"]}, {"Devices": []}, {"Devices": [{"PathOnHost": "/dev/x"}]}, {"DeviceCgroupRules": ["a"]},
        {"ReadonlyPaths": []}, {"ReadonlyPaths": None}, {"ReadonlyPaths": ["/proc/sys"]}, {"NetworkMode": "host"}, {"PidMode": "host"},
        {"IpcMode": "host"}, {"IpcMode": "private"}, {"UTSMode": "host"}, {"UsernsMode": "host"}, {"NetworkMode": "container:abc"},
        {"SecurityOpt": ["no-new-privileges", "unmask=/proc/sys"]}, {"SecurityOpt": ["UNMASK=ALL"]}, {"SecurityOpt": ["label=disable"]},
        {"SecurityOpt": []}, {"SecurityOpt": None},
    ]  # fmt: skip
    found = [base | {"HostConfig": {"Privileged": False} | host} for host in hosts]
    found += [base | {"Mounts": [{"Type": "bind", "Source": one, "Destination": "/d"}]} for one in SOURCES]
    found += [base | {"Mounts": [{"Type": "bind", "Source": "/srv/x", "Destination": one}]} for one in SOURCES]
    found += [base | {"Mounts": [{"Type": "bind", "Source": one, "Destination": "/d", "RW": False}]} for one in SOURCES]
    named = {"Type": "volume", "Source": "/x", "Destination": "/d", "Driver": "local", "Name": "v"}
    found += [base | {"Mounts": [named, named | {"RW": False}, named | {"RW": True}, named | {"Driver": "x"}]}]
    found += [
        base | {"Mounts": [{"Type": "volume", "Source": "/run", "Destination": "/d"}]},
        base | {"HostConfig": None},
    ]
    found += [
        base | {"Config": {"Labels": {label: ""}}}
        for label in ("scalr.backup.own", "scalr.backup.drill", "scalr.backup.x")
    ]
    return [
        *found,
        base | {"Name": "/scalr-backup"},
        base | {"Name": "/scalr-backup-socket-proxy"},
        base | {"Config": None},
    ]


SAYING = """
local cjson, power = require("cjson"), require("power")
local said = {}
for _, case in ipairs(cjson.decode(io.open("/cases/cases.json"):read("a"))) do
  local volume = { Options = { device = case.Mounts[1] and case.Mounts[1].Source } }
  said[#said + 1] = {
    power.obstacle(case, false) or false, power.obstacle(case, true) or false, power.of_volume("v", volume, true) or false,
    power.of_volume("v", volume, false) or false, power.of_volume("scalr-backup-state", volume, false), power.volumes(case),
  }
end
print(cjson.encode(said))
"""


def test_the_proxy_and_the_agent_say_the_same_of_every_kind_of_power(house: House, tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text(json.dumps(cases()))
    (tmp_path / "cases.lua").write_text(SAYING)
    paths = "lua-prepend-path /opt/scalr-backup/socket-proxy/?.lua"
    (tmp_path / "haproxy.cfg").write_text(f"global\n {paths}\n lua-load /cases/cases.lua\n")
    tmp_path.chmod(0o755)
    command = ["--entrypoint", "haproxy", house.agent.image, "-c", "-f", "/cases/haproxy.cfg"]
    done = docker("run", "--rm", "--network", "none", "--volume", f"{tmp_path}:/cases:ro", *command, check=False)
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[")))
    for case, words in zip(cases(), said, strict=True):
        volume = {"Options": {"device": case["Mounts"][0]["Source"] if case["Mounts"] else None}}
        expected = [
            power.obstacle(case, accepted=False),
            power.obstacle(case, accepted=True),
            power.of_volume("v", volume, writable=True),
            power.of_volume("v", volume, writable=False),
            power.of_volume("scalr-backup-state", volume, writable=False),
        ]
        # Lua's empty list is an object in JSON.
        mounted = [list(one) for one in power.volumes(case)] or {}
        assert words == [*(one or False for one in expected), mounted], case


def test_counts_what_it_refuses_and_nothing_of_what_the_agent_does(house: House) -> None:
    nothing = {"call": 0, "container": 0, "look": 0, "exec": 0, "unjudged": 0}
    docker("restart", "--time", "5", str(house.agent.proxy))
    assert house.agent.ok("discover", "--db", house.database.name)["containers"][0]["status"] == "ok"
    house.agent.ok("backup", "--db", house.database.name)
    assert house.refused() == nothing

    house.ask(("POST", "/containers/create"), ("GET", f"/containers/{house.agent.name}/json"), ("POST", "/build"))
    house.ask(("GET", f"/containers/{house.database.name}/json?size=1"), ("POST", "/scalr-backup/refused"))
    house.ask(("GET", "/scalr-backup/refused?x=1"), ("GET", f"/containers/{secrets.token_hex(32)}/json"))
    house.start_exec(house.agent.name)
    house.start_exec(house.database.name, PRIVILEGED)
    assert house.refused() == {"call": 5, "container": 1, "look": 1, "exec": 1, "unjudged": 0}

    # The agent asks every five minutes, as here.
    house.python(COUNT)
    findings = {one["code"]: one for one in house.agent.ok("status")["findings"]}
    assert "that the agent never makes, 7 times so far" in findings["calls_refused"]["message"]
    docker("restart", "--time", "5", str(house.agent.proxy))
    # It waits for the proxy, which listens a moment later.
    house.agent.ok("discover")
    house.ask(("POST", "/containers/create"))
    house.python(COUNT)
    findings = {one["code"]: one for one in house.agent.ok("status")["findings"]}
    assert "that the agent never makes, 8 times so far" in findings["calls_refused"]["message"]


COUNT = """
from scalr_backup.service.lookout import Lookout
from scalr_backup.tools.docker.engine import DockerHost
from scalr_backup.tools.state import State
Lookout(State()).count(DockerHost().refused())
"""
