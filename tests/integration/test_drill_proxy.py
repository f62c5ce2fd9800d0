# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody who has taken a drill over can ask of the Docker engine, and what planted files make an agent run."""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import docker as sdk
import pytest
from docker.errors import DockerException
from scalr_backup.actions.drill.plan import DrillSubject, throwaway
from scalr_backup.core.clock import utc_now
from scalr_backup.core.errors import DockerUnreachableError
from scalr_backup.core.model import Snapshot, new_run_id
from scalr_backup.tools.docker.throwaways import Throwaways

from tests.support.containers import AgentContainer, DatabaseContainer, docker, wait_until
from tests.support.drills import end_drills, idle_drill, proxies_of
from tests.support.registry import registry
from tests.support.taken import CONNECTED

pytestmark = pytest.mark.timeout(300)

# Runs in the drill's container. Reads calls, prints status and text of each answer.
CALLER = r"""
import json, sys
for method, path, body in json.load(sys.stdin):
    connection = connected(20)
    head = f"{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode())
    answer = b""
    while received := connection.recv(1 << 16):
        answer += received
    print(json.dumps([int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")]))
"""

# What else the engine does with a container, for one that is none of the drill's and for one that is.
ON_CONTAINERS = """
    GET /containers/{it}/logs?stdout=1
    GET /containers/{it}/top
    GET /containers/{it}/changes
    GET /containers/{it}/export
    GET /containers/{it}/archive?path=/etc
    HEAD /containers/{it}/archive?path=/etc
    PUT /containers/{it}/archive?path=/
    POST /containers/{it}/stop
    POST /containers/{it}/restart
    POST /containers/{it}/kill
    POST /containers/{it}/update
    POST /containers/{it}/rename?name=other
    POST /containers/{it}/pause
    POST /containers/{it}/wait
    POST /containers/{it}/copy
    POST /commit?container={it}
    GET /containers/{it}/attach/ws
    POST /networks/bridge/connect
"""
# And what it does with those that are none of the drill's.
ON_OTHERS = """
    GET /containers/{it}/json
    POST /containers/{it}/exec
    POST /containers/{it}/start
    POST /containers/{it}/attach?stdin=1&stream=1
    DELETE /containers/{it}?force=1
"""
ON_THE_HOST = """
    GET /info
    GET /events
    GET /system/df
    GET /images/json
    GET /images/postgres:17/get
    GET /images/postgres:17/history
    POST /images/load
    POST /images/prune
    POST /images/postgres:17/tag?repo=other
    POST /images/postgres:17/push
    DELETE /images/postgres:17
    POST /images/create?fromSrc=http://127.0.0.1/&repo=postgres&tag=17
    POST /images/create?fromImage=postgres&tag=17
    POST /images/create?fromImage=postgres
    POST /images/create?fromImage=other&tag=1&fromSrc=-
    POST /images/create?fromImage=other&tag=1&tag=2
    POST /images/create?fromImage=../../containers&tag=1
    GET /images/debian:trixie-slim/json
    GET /images/{agent_image}/json
    GET /volumes
    GET /volumes/{agent}-state
    POST /volumes/create
    DELETE /volumes/{agent}-state
    GET /networks
    POST /networks/create
    POST /build
    POST /containers/prune
    POST /auth
    POST /session
    POST /grpc
    GET /plugins
    POST /swarm/init
    GET /secrets
    GET /
    GET /containers/../info
    GET /v1.41//info
    GET /v1.18/version
"""


@dataclass
class Taken:
    """A drill that somebody has taken over, an agent, and a database container that is no business of a drill's."""

    agent: AgentContainer
    database: DatabaseContainer
    name: str
    shape: dict[str, Any]

    def ask(self, *calls: tuple[str, ...]) -> list[tuple[int, str]]:
        """Make calls out of the drill's container: method, path, and a body where there is one."""
        whole = [(*call, "")[:3] for call in calls]
        done = docker("exec", "-i", self.name, "python3", "-c", CONNECTED + CALLER, stdin=json.dumps(whole))
        answers = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
        assert len(answers) == len(calls), done.stderr
        return answers

    def create(self, *bodies: str, version: str = "/v1.41") -> list[tuple[int, str]]:
        """Ask for containers."""
        run = f"20261122t030000z-{secrets.token_hex(2)}"
        path = f"{version}/containers/create?name=scalr-backup-drill-{run}-"
        return self.ask(*(("POST", f"{path}{number}", body) for number, body in enumerate(bodies, 1)))

    def changed(self, *changes: Mapping[str, Any]) -> list[str]:
        """The settings of a throwaway container with something else about them: a key of HostConfig where there is none above."""
        bodies = []
        for change in changes:
            body = copy.deepcopy(self.shape)
            for key, value in change.items():
                (body if key in body else body["HostConfig"])[key] = value
            bodies.append(json.dumps(body))
        return bodies


def settings_of_a_throwaway(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the agent itself asks of the engine for a drill."""
    asked: list[dict[str, Any]] = []

    def record(_api: object, config: dict[str, Any], *_further: object) -> None:
        asked.append(json.loads(json.dumps(config)))
        raise DockerException("recorded")

    engine = Throwaways()
    image = engine.image("postgres:17")
    assert image is not None
    snapshot = Snapshot("5f0c", utc_now(), "host", "/shop-db/shop.dump", (), 1 << 20)
    labels = {"scalr.backup": "false", "scalr.backup.drill": new_run_id(), "scalr.backup.agent": secrets.token_hex(8)}
    subject = DrillSubject(snapshot, {}, {}, alone=True)
    with monkeypatch.context() as patch, suppress(DockerUnreachableError):
        patch.setattr(sdk.APIClient, "create_container_from_config", record)
        engine.create_throwaway(throwaway(subject, image, "any", "password", labels))
    return asked[0]


@pytest.fixture(scope="module")
def taken(keeper: AgentContainer, make_database: Callable[..., DatabaseContainer]) -> Iterator[Taken]:
    """The agent has the engine's socket itself, which its drill has not."""
    with pytest.MonkeyPatch.context() as patch:
        shape = settings_of_a_throwaway(patch)
    try:
        yield Taken(keeper, make_database("shop"), idle_drill(keeper), shape)
    finally:
        end_drills(keeper)


def calls_of(text: str, **places: str) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in text.format(**places).splitlines() if line.strip()]


def test_only_containers_of_one_shape_are_made(taken: Taken) -> None:
    size = taken.shape["HostConfig"]["Tmpfs"]["/tmp"]
    labels = taken.shape["Labels"]
    bodies = taken.changed(
        {"Privileged": True}, {"Binds": ["/:/host"]}, {"VolumesFrom": [taken.agent.name]}, {"Devices": [{}]},
        {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}]}, {"DeviceRequests": [{"Count": -1}]},
        {"DeviceCgroupRules": ["a *:* rwm"]}, {"CapAdd": ["SYS_ADMIN"]}, {"CapDrop": []}, {"CapDrop": None},
        {"CapAdd": [*taken.shape["HostConfig"]["CapAdd"], "SYS_PTRACE"]}, {"NetworkMode": "host"}, {"NetworkMode": "bridge"},
        {"NetworkMode": f"container:{taken.database.name}"}, {"PidMode": "host"}, {"IpcMode": "host"}, {"UTSMode": "host"},
        {"UsernsMode": "host"}, {"CgroupnsMode": "host"}, {"CgroupParent": "/"}, {"SecurityOpt": ["seccomp=unconfined"]},
        {"SecurityOpt": None}, {"Sysctls": {"kernel.shmmax": "1"}}, {"LogConfig": {"Type": "json-file"}}, {"Memory": 0},
        {"Memory": 1 << 60, "MemorySwap": 1 << 60}, {"MemorySwap": -1}, {"PidsLimit": -1}, {"ReadonlyRootfs": False},
        {"AutoRemove": False}, {"RestartPolicy": {"Name": "always"}}, {"OomScoreAdj": -1000}, {"OomScoreAdj": 0}, {"OomScoreAdj": None},
        {"MaskedPaths": []},
        {"PortBindings": {"1/tcp": [{"HostPort": "1"}]}}, {"PublishAllPorts": True}, {"Links": ["a:b"]}, {"Init": False},
        {"Tmpfs": {"/proc/x": size}}, {"Tmpfs": {"/a/../sys": size}}, {"Tmpfs": {"/dev/shm": "exec"}}, {"Ulimits": []},
        {"Tmpfs": {"/tmp": "rw,exec"}}, {"Tmpfs": {"/tmp": f"{size},exec"}}, {"ShmSize": 1 << 40}, {"StorageOpt": {"size": "1"}},
        {"Runtime": "runc"}, {"User": "root"}, {"Entrypoint": ["sh"]}, {"Entrypoint": None}, {"Volumes": {"/x": {}}},
        {"Entrypoint": ["timeout", "-s", "KILL", "99999999", "sh"]}, {"Labels": {}}, {"Labels": labels | {"x": "y"}},
        {"Labels": labels | {"scalr.backup": "true"}}, {"Image": "postgres:17"}, {"Hostname": "x"}, {"Tty": True},
        {"OpenStdin": True}, {"WorkingDir": "/proc/1"}, {"Healthcheck": {"Test": ["CMD", "x"]}}, {"NetworkDisabled": None},
        {"Image": docker("inspect", "--format", "{{.Image}}", taken.agent.name).stdout.strip()},
        {"NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}}, {"HostConfig": None}, {"HostConfig": []},
    )  # fmt: skip
    whole = json.dumps(taken.shape)
    worse = json.dumps({"Privileged": True, "Binds": ["/:/host"]})
    host = json.dumps(taken.shape["HostConfig"])
    bodies += [
        whole.replace('"AutoRemove"', '"autoremove": true, "AutoRemove"'),
        whole.replace('"Init"', '"privileged": true, "Init"'),
        whole.replace('"Init"', '"\\u0050rivileged": true, "Init"'),
        whole.replace('"HostConfig"', f'"hostConfig": {worse}, "HostConfig"'),
        whole.replace(f'"HostConfig": {host}', f'"HostConfig": {host}, "HostConfig": {worse}'),
        f"[{whole}]", f"{whole} {worse}", worse, "", "x", "null", '{"Image": "postgres:17"}', whole + " " * 300_000,
    ]  # fmt: skip

    answers = taken.create(*bodies)

    passed = [body for body, (status, _text) in zip(bodies, answers, strict=True) if status not in (403, 413)]
    assert passed == []
    # The engine would have taken the last of two: it never sees the first.
    twice = whole.replace(f'"HostConfig": {host}', f'"HostConfig": {worse}, "HostConfig": {host}')
    ((status, text),) = taken.create(twice, version="")
    assert status == 201, text
    (made,) = json.loads(docker("inspect", json.loads(text)["Id"]).stdout)
    assert (made["HostConfig"]["Privileged"], made["HostConfig"]["Binds"], made["Mounts"]) == (False, None, [])
    assert taken.ask(("DELETE", f"/containers/{made['Id']}"))[0][0] == 204
    assert {status for status, _text in taken.ask(("POST", "/containers/create?name=other", whole))} == {403}
    assert taken.ask(("POST", "/containers/create", '{"Image": ""}'))[0][0] == 400


def test_nothing_else_of_the_host_is_within_reach(taken: Taken) -> None:
    others = [taken.database.name, taken.agent.name, taken.name, taken.name.rpartition("-")[2]]
    others += [docker("inspect", "--format", "{{.Id}}", taken.database.name).stdout.strip()]
    calls = calls_of(ON_THE_HOST, agent=taken.agent.name, agent_image=taken.agent.image)
    for other in others:
        calls += calls_of(ON_CONTAINERS + ON_OTHERS, it=other)
    plain = json.dumps({"Cmd": ["true"], "Privileged": False})
    calls = [(*call, plain) if call[1].endswith("/exec") else call for call in calls]

    answers = taken.ask(*calls)

    # A container of the first digits of an id there is none.
    assert [
        (call, answer)
        for call, answer in zip(calls, answers, strict=True)
        if answer[0] not in (400, 403, 404) or (answer[0] == 404 and "No such container" not in answer[1])
    ] == []
    for name in (taken.database.name, taken.agent.name, taken.name):
        assert docker("inspect", "--format", "{{.State.Status}}", name).stdout == "running\n"
    ((status, listed),) = taken.ask(("GET", "/containers/json?all=1"))
    assert status == 200
    assert taken.database.name not in listed
    assert taken.ask(("GET", "/images/postgres:17/json"), ("GET", "/images/postgres%2017/json"))[1][0] == 404
    # One that is not here may be pulled, and the engine itself says why it cannot.
    ((status, said),) = taken.ask(("POST", "/images/create?fromImage=localhost%3A1%2Fnobody%2Fpostgres&tag=17"))
    assert status not in (400, 403)
    assert "localhost:1" in said


def built(directory: Path, name: str) -> str:
    """Build a small image that says nothing of PostgreSQL; its id."""
    (directory / "Dockerfile").write_text(f"FROM scratch\nCOPY Dockerfile /{name}\n")
    docker("build", "--quiet", "--tag", f"{name}:1", str(directory))
    return docker("image", "inspect", "--format", "{{.Id}}", f"{name}:1").stdout.strip()


def test_only_what_a_pull_has_brought_may_be_used(taken: Taken, tmp_path: Path) -> None:
    """Not an image that was here before: by the beginning of its id, or by a name that somebody's registry gives it."""
    word = secrets.token_hex(4)
    here, new = f"scalr-test-here-{word}", f"scalr-test-new-{word}"
    own = built(tmp_path, here)
    short = own.removeprefix("sha256:")[:12]
    built(tmp_path, new)
    with registry() as running:
        known, brought, nothing = (f"{running.address}/scalr/{one}" for one in (here, new, f"nothing-{word}"))
        try:
            running.push(f"{here}:1", f"scalr/{here}:1")
            running.push(f"{new}:1", f"scalr/{new}:1")
            docker("image", "rm", f"{new}:1")
            by_id, by_name, failed, fine = taken.ask(
                *(
                    ("POST", f"/v1.41/images/create?fromImage={quote(one, safe='')}&tag={tag}")
                    for one, tag in ((short, "latest"), (known, "1"), (nothing, "1"), (brought, "1"))
                )
            )
            assert (by_name[0], fine[0]) == (200, 200), (by_name, failed, fine)
            docker("image", "tag", f"{here}:1", f"{nothing}:1")
            names = (short, own, f"{known}:1", f"{nothing}:1", f"{brought}:1")
            looks = taken.ask(*(("GET", f"/images/{one}/json") for one in names))
            assert [status for status, _text in looks] == [403, 403, 403, 403, 200]
            # Nor does the beginning of its id come to mean another one.
            assert by_id[0] == 403, by_id
            ((status, said),) = taken.create(*taken.changed({"Image": own}))
            assert (status, "may not use the image" in said) == (403, True)
        finally:
            left = [f"{here}:1", f"{new}:1", f"{known}:1", f"{nothing}:1", f"{brought}:1"]
            docker("image", "rm", "--force", *left, check=False)


# A name, what an image is called, and whether that is the same.
NAMED = [
    ("postgres:17", "postgres:17", True), ("postgres", "postgres:latest", True), ("postgres", "postgres:17", False),
    ("postgres:17", "docker.io/library/postgres:17", True), ("index.docker.io/library/postgres:17", "postgres:17", True),
    ("me/postgres:17", "docker.io/me/postgres:17", True), ("me/postgres:17", "postgres:17", False),
    ("localhost/x:1", "localhost/x:1", True), ("x:1", "localhost/x:1", False), ("localhost:5/x", "localhost:5/x:latest", True),
    ("r.test/x:1@sha256:ab", "r.test/x@sha256:ab", True), ("r.test/x@sha256:ab", "r.test/x@sha256:cd", False),
    ("df2399cd3181", "debian:trixie-slim", False), ("df2399cd3181", "<none>:<none>", False), ("sha256:df23", "debian:1", False),
]  # fmt: skip
SAYING = """
local cjson, rules = require("cjson"), require("drill_rules")
local said = {}
for _, case in ipairs(cjson.decode(io.open("/cases/cases.json"):read("a"))) do
  local kind = case[2]:find("@", 1, true) and "RepoDigests" or "RepoTags"
  said[#said + 1] = rules.is_named({ [kind] = { case[2] }, Other = { case[1] } }, case[1])
end
said[#said + 1] = rules.is_named(cjson.decode('{"RepoTags": null, "RepoDigests": [null, 7]}'), "x")
print(cjson.encode(said))
"""


def test_a_name_of_an_image_is_the_same_however_it_is_spelled(taken: Taken, tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text(json.dumps(NAMED))
    (tmp_path / "cases.lua").write_text(SAYING)
    paths = "lua-prepend-path /opt/scalr-backup/socket-proxy/?.lua"
    (tmp_path / "haproxy.cfg").write_text(f"global\n {paths}\n lua-load /cases/cases.lua\n")
    tmp_path.chmod(0o755)
    command = ["--entrypoint", "haproxy", taken.agent.image, "-c", "-f", "/cases/haproxy.cfg"]
    done = docker("run", "--rm", "--network", "none", "--volume", f"{tmp_path}:/cases:ro", *command, check=False)
    said = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[")))
    assert said == [*(is_same for _name, _called, is_same in NAMED), False]


def test_its_own_containers_do_what_a_drill_needs_and_no_more(taken: Taken) -> None:
    first, second = taken.create(json.dumps(taken.shape), json.dumps(taken.shape))
    assert (first[0], second[0], "one throwaway container at a time" in second[1]) == (201, 403, True), (first, second)
    own = json.loads(first[1])["Id"]
    try:
        host = json.dumps({"Privileged": True, "Binds": ["/:/host"]})
        refused: list[tuple[str, ...]] = [
            ("POST", f"/v1.18/containers/{own}/start", host),
            ("POST", f"/containers/{own}/start", host),
        ]
        refused += calls_of(ON_CONTAINERS, it=own)
        assert {status for status, _text in taken.ask(*refused)} <= {400, 403}
        plain = {
            "Cmd": ["true"],
            "Privileged": False,
            "Tty": False,
            "User": "",
            "AttachStdout": True,
            "AttachStderr": True,
        }
        path = f"/containers/{own}/exec"
        started, execution, privileged, root = taken.ask(
            ("POST", f"/v1.41/containers/{own}/start"), ("POST", path, json.dumps(plain)),
            ("POST", path, json.dumps(plain | {"Privileged": True})), ("POST", path, json.dumps(plain | {"User": "0"})),
        )  # fmt: skip
        assert (started[0], execution[0], privileged[0], root[0]) == (204, 201, 403, 403), (started, execution)
        theirs = docker("exec", "--detach", taken.database.name, "sleep", "600")
        assert theirs.returncode == 0
        (foreign,) = json.loads(docker("inspect", "--format", "{{json .ExecIDs}}", taken.database.name).stdout)
        calls = [
            ("GET", f"/exec/{foreign}/json"),
            ("POST", f"/exec/{foreign}/start", '{"Detach": false, "Tty": false}'),
        ]
        assert [status for status, _text in taken.ask(*calls)] == [403, 403]
        assert (
            docker("inspect", "--format", "{{.HostConfig.PidsLimit}} {{.HostConfig.NetworkMode}}", own).stdout
            == "1024 none\n"
        )
        # Where the host's memory runs out, it is what the kernel ends first.
        assert docker("exec", own, "cat", "/proc/1/oom_score_adj").stdout == "1000\n"
    finally:
        assert taken.ask(("DELETE", f"/v1.41/containers/{own}?v=True&link=False&force=True"))[0][0] == 204


def test_leftovers_of_another_drill_can_only_be_removed(taken: Taken) -> None:
    ended = ("--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none", "--read-only", "--rm")
    added = [f"--cap-add={name}" for name in taken.shape["HostConfig"]["CapAdd"]]
    labels = [f"--label={name}={value}" for name, value in taken.shape["Labels"].items()]
    name = f"scalr-backup-drill-20261122t030000z-{secrets.token_hex(2)}"
    tmpfs = "--tmpfs=/var/lib/postgresql/data"
    docker("create", "--name", f"{name}-1", *ended, *added, *labels, tmpfs, "postgres:17")
    # Of the same name and labels, and something else.
    docker("create", "--name", f"{name}-2", *ended, *added, *labels, tmpfs, "--volume", "/etc:/host", "postgres:17")
    try:
        body = '{"Cmd": ["true"], "Privileged": false}'
        for it, status in ((f"{name}-1", 200), (f"{name}-2", 403)):
            calls = [("POST", f"/containers/{it}/start"), ("POST", f"/containers/{it}/exec", body)]
            assert [one for one, _text in taken.ask(*calls, ("GET", f"/containers/{it}/json"))] == [403, 403, status]
        removed = taken.ask(("DELETE", f"/containers/{name}-1?force=1"), ("DELETE", f"/containers/{name}-2?force=1"))
        assert [status for status, _text in removed] == [204, 403]
    finally:
        docker("rm", "--force", f"{name}-1", f"{name}-2", check=False)


def test_the_proxy_has_the_socket_and_the_drill_has_everything_else(taken: Taken) -> None:
    proxy, drill = json.loads(docker("inspect", taken.name.rpartition("-")[2], taken.name).stdout)
    assert proxy["HostConfig"]["NetworkMode"] == "none"
    assert {mount["Destination"] for mount in proxy["Mounts"]} == {
        "/var/run/docker.sock", "/etc/scalr-backup", "/run/scalr-backup",
    }  # fmt: skip
    sources = {mount["Destination"]: mount["Source"] for mount in drill["Mounts"]}
    assert sources["/var/run/docker.sock"] == "/dev/null"
    assert drill["HostConfig"]["GroupAdd"] is None
    for one in (proxy, drill):
        assert one["HostConfig"]["CapDrop"] == ["ALL"]
        assert one["HostConfig"]["ReadonlyRootfs"] is True
        assert one["Config"]["User"] == "64738:64738"
        assert one["HostConfig"]["Memory"] > 0
        assert one["HostConfig"]["PidsLimit"] > 0
    seen = docker(
        "exec", taken.name, "python3", "-c", "import os, stat; print(oct(os.stat('/var/run/docker.sock').st_mode))"
    )
    assert seen.stdout.startswith("0o20666"), "it is a device, no socket"


def test_the_image_that_the_operator_names_may_be_used_and_the_proxy_ends_with_its_drill(taken: Taken) -> None:
    name = idle_drill(taken.agent, "--image", "debian:trixie-slim")
    second = Taken(taken.agent, taken.database, name, taken.shape)
    wait_until(lambda: second.ask(("GET", "/_ping"))[0][0] == 200, "its proxy answers")
    assert second.ask(("GET", "/images/debian:trixie-slim/json"))[0][0] == 200
    (way,) = [
        mount["Name"]
        for mount in json.loads(docker("inspect", "--format", "{{json .Mounts}}", name).stdout)
        if mount["Destination"] == "/run/scalr-backup"
    ]
    # Docker's libraries write the sign before a digest so; this one is nobody's.
    [(status, text)] = second.ask(("GET", f"/images/nothing%40sha256:{'0' * 64}/json"))
    assert (status, "No such image: nothing@sha256:000" in text) == (404, True)
    [(status, text)] = second.create(json.dumps(second.shape))
    assert status == 201, text
    docker("rm", "--force", name)
    wait_until(lambda: not proxies_of([name]), "the proxy has ended")
    # What the drill has made goes with it, whatever it has become.
    assert docker("container", "inspect", json.loads(text)["Id"], check=False).returncode != 0
    wait_until(lambda: way not in docker("volume", "ls", "--quiet").stdout, "its volume is gone")
    # Another drill's goes on.
    assert taken.ask(("GET", "/_ping"))[0][0] == 200


PLANT = r"""
for home in /var/cache/scalr-backup /var/lib/scalr-backup; do
  mkdir -p $home/.aws $home/.config/rclone $home/.ssh $home/.docker && cd $home || exit
  printf '#!/bin/sh\necho "$0 $*" >> /var/lib/scalr-backup/ran\n' > run; chmod 755 run
  printf '[default]\ncredential_process = %s/run aws\n' $home | tee .aws/credentials > .aws/config
  printf '[planted]\ntype = webdav\nurl = http://127.0.0.1:1/\nbearer_token_command = %s/run rclone\n' $home > .config/rclone/rclone.conf
  cp .config/rclone/rclone.conf .rclone.conf
  printf 'Host *\nProxyCommand %s/run ssh\nPermitLocalCommand yes\nLocalCommand %s/run ssh\n' $home $home > .ssh/config
  chmod 600 .ssh/config
done
"""


@pytest.mark.parametrize("repository", ["s3:http://127.0.0.1:1/bucket", "rclone:planted:x", "sftp:planted:/x"])
def test_what_is_planted_in_the_agents_volumes_is_not_run(taken: Taken, repository: str) -> None:
    agent = taken.agent
    docker("exec", agent.name, "sh", "-c", PLANT)
    try:
        agent.configure(repository=repository, answer_seconds=5)
        for container in (agent.name, taken.name):
            done = docker("exec", container, "scalr-backup", "snapshots", "--json", check=False)
            assert done.returncode == 1, done.stdout
        ran = docker("exec", agent.name, "sh", "-c", "cat /var/lib/scalr-backup/ran 2>/dev/null || true").stdout
        assert ran == ""
    finally:
        agent.configure(repository="/repository", answer_seconds=120)
        docker("exec", agent.name, "sh", "-c", "rm -f /var/lib/scalr-backup/ran")
