# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``doctor`` sees of a real agent, engine, proxy, store and database, whole and broken."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containers import PASSWORD, AgentContainer, Call, DatabaseContainer, docker, with_repository
from tests.support.documented import documented

SECRET = "v3ry-s3cret-key"
# How full this machine is, and what it has of memory, is nobody's business here.
OF_MACHINE = {"room", "memory"}


@pytest.fixture(scope="module")
def proxied(
    agent_image: str,
    prefix: str,
    tmp_path_factory: pytest.TempPathFactory,
    make_database: Callable[..., DatabaseContainer],
) -> Iterator[AgentContainer]:
    """An agent behind its proxy, with one database to back up."""
    make_database("shop")
    container = AgentContainer(tmp_path_factory.mktemp("doctor"), [f"{prefix}-*-db"], agent_image, proxied=True)
    with with_repository(container):
        yield container


@pytest.fixture
def patient(proxied: AgentContainer) -> Iterator[AgentContainer]:
    """The same; what a test breaks is mended afterwards."""
    before = dict(proxied.config)
    yield proxied
    proxied.config = {}
    proxied.configure(**before)
    proxied.set_password(PASSWORD)
    proxied.set_environment()


def checks(call: Call) -> dict[str, dict[str, Any]]:
    return {check["check"]: check for check in call.data["checks"]}


def failed(call: Call) -> set[str]:
    return {name for name, check in checks(call).items() if check["verdict"] == "failed"} - OF_MACHINE


def files_of_repository(agent: AgentContainer) -> str:
    return docker("exec", agent.name, "sh", "-c", "find /repository -type f | sort").stdout


def refused_by_proxy(agent: AgentContainer) -> dict[str, int]:
    """What the proxy has counted since it started."""
    program = "import json; from scalr_backup.tools.docker.engine import DockerHost; print(json.dumps(DockerHost().refused()))"
    python = ["env", "PYTHONPATH=/opt/scalr-backup/package", "/opt/scalr-backup/bin/python", "-c", program]
    return dict(json.loads(docker("exec", agent.name, *python).stdout)["refused"])


def human(agent: AgentContainer) -> str:
    command = documented("docker exec scalr-backup scalr-backup doctor", {"exec scalr-backup": f"exec {agent.name}"})
    done = docker(*command.split()[1:], check=False)
    assert done.returncode in {0, 1}
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("unlabelled")
def test_a_healthy_installation_has_nothing_that_failed(patient: AgentContainer, prefix: str) -> None:
    before = files_of_repository(patient)
    call = patient.call("doctor")
    found = checks(call)
    assert failed(call) == set(), call.output
    assert found["engine"]["seen"].startswith(("Docker Engine ", "Podman "))
    assert "refuses what it must" in found["socket_proxy"]["seen"]
    assert found["containers"]["seen"] == f"1 container to back up: {prefix}-shop-db."
    assert found["servers"]["details"][0].startswith(f"{prefix}-shop-db: PostgreSQL 17")
    assert found["repository"]["verdict"] == found["locks"]["verdict"] == found["versions"]["verdict"] == "ok"
    assert f"The schedule runs ({patient.config['schedule']})" in found["schedule"]["seen"]
    assert found["notifications"]["verdict"] == "warning"
    # The look that had to be refused is no attempt of anybody's, and nothing was changed.
    refused = refused_by_proxy(patient)
    assert refused["look"] >= 1
    assert refused["call"] == refused["container"] == refused["exec"] == 0
    assert files_of_repository(patient) == before


def test_people_read_it_in_80_columns(patient: AgentContainer) -> None:
    lines = human(patient).splitlines()
    assert lines[0].startswith("test-host: ")
    assert [line for line in lines if len(line) > 80 and " " in line.strip()] == []
    assert any(line.startswith("ok       engine: ") for line in lines)


def test_postgresql_that_nothing_backs_up_is_named(patient: AgentContainer, prefix: str) -> None:
    other = DatabaseContainer(f"{prefix}-orders")
    try:
        other.start()
        patient.configure(report_unmatched=True)
        unmatched = checks(patient.call("doctor"))["unmatched"]
    finally:
        other.remove()
    assert unmatched["verdict"] == "warning"
    assert any(detail.startswith(f"{prefix}-orders: ") for detail in unmatched["details"])
    assert f'"{prefix}-orders"' in unmatched["cure"]


def test_a_wrong_password_is_said_and_no_secret_is_shown(patient: AgentContainer) -> None:
    patient.set_password("another-s3cret-password")
    patient.set_environment(AWS_SECRET_ACCESS_KEY=SECRET, RESTIC_REST_PASSWORD=SECRET)
    call, shown = patient.call("doctor"), human(patient)
    assert failed(call) == {"repository"}
    assert checks(call)["repository"]["code"] == "wrong_password"
    assert checks(call)["locks"]["verdict"] == checks(call)["password"]["verdict"] == "skipped"
    assert call.error["code"] == "checks_failed"
    assert re.match(r"test-host: \d checks? failed \((.*, )?repository[,)]", shown)
    for secret in (SECRET, PASSWORD, "another-s3cret-password", "s3cret"):
        assert secret not in call.output + shown


def test_a_store_that_does_not_answer_is_said_without_what_opens_it(patient: AgentContainer) -> None:
    patient.configure(repository=f"rest:http://user:{SECRET}@127.0.0.1:9/web1/", answer_seconds=5)
    call = patient.call("doctor")
    assert failed(call) == {"repository"}
    assert checks(call)["repository"]["code"] == "repository_unreachable"
    assert checks(call)["engine"]["verdict"] == checks(call)["servers"]["verdict"] == "ok"
    assert SECRET not in call.output + human(patient)


def test_a_configuration_that_cannot_be_read_leaves_the_other_checks(patient: AgentContainer) -> None:
    patient.configure(nonsense=True)
    call = patient.call("doctor")
    assert failed(call) == {"configuration"}
    assert "nonsense: no such key" in checks(call)["configuration"]["seen"]
    assert checks(call)["engine"]["verdict"] == checks(call)["versions"]["verdict"] == "ok"
    assert checks(call)["repository"]["verdict"] == "skipped"


def test_without_an_engine_the_store_is_still_looked_at(agent_image: str, tmp_path: Path) -> None:
    agent = AgentContainer(tmp_path / "agent", ["*"], agent_image)
    agent._way_to_docker = list  # type: ignore[method-assign]
    try:
        agent.start()
        agent.make_repository()
        call = agent.call("doctor")
    finally:
        agent.remove()
    assert failed(call) == {"engine"}
    assert checks(call)["engine"]["code"] == "docker_unreachable"
    assert checks(call)["containers"]["verdict"] == "skipped"
    assert checks(call)["repository"]["verdict"] == "ok"
