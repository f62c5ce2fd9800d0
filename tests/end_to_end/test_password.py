"""The password of the repository on its way from whoever gives it to restic: never changed, never replaced, never shown."""

from __future__ import annotations

import json
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import docker
from tests.support.controller import Controller, agent_set_aside, containers_of_the_agent, remove_agent

pytestmark = pytest.mark.timeout(480)

HOST = "web1"
# Every printable character of ASCII but the space, which may stand inside only; then some that are none.
PASSWORD = "".join(map(chr, range(33, 127))) + " {{ x }} ü€"
STORE_SECRET = "canary-of-the-store-5b7a"


def env_file(directory: Path) -> Path:
    """An env file as an app has it, with more in it than the agent's business."""
    quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    path = directory / ".env.shared"
    path.write_text(
        "# shared by all apps\n"
        "POSTGRES_PASSWORD=not-the-agents-business\n"
        f'export RESTIC_PASSWORD="{quoted}"\n'
        f"AWS_SECRET_ACCESS_KEY='{STORE_SECRET}' # of the store\n"
    )
    return path


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller with one host; nothing is provisioned yet."""
    directory = tmp_path_factory.mktemp("password")
    variables = {
        "backup_containers": [f"scalr-test-{secrets.token_hex(3)}-*-db"],
        "backup_directory": str(directory / "backup"),
        "backup_repository": str(directory / "repository"),
        "backup_password_directory": str(directory / "passwords"),
    }
    with agent_set_aside():
        yield Controller(directory, HOST, variables)


@pytest.fixture(scope="module")
def first_run(controller: Controller) -> str:
    """All that a first run with an env file prints."""
    arguments = ["-vvv", "--diff", "-e", f"backup_env_file={env_file(controller.directory)}"]
    return controller.play("site", *arguments).output


def test_the_env_files_password_arrives_as_it_is(controller: Controller, first_run: str) -> None:
    assert (controller.directory / "backup/secrets/password").read_text() == PASSWORD
    # It is for the controller to keep only what it made.
    assert not (controller.directory / "passwords").exists()


def test_plain_restic_opens_the_repository_with_it(controller: Controller, first_run: str) -> None:
    volume = f"{controller.directory}/repository:/repository:ro"
    command = ["cat", "config", "--repo", "/repository", "--no-lock", "--no-cache"]

    opened = docker(
        "run", "--rm", "--volume", volume, "--env", f"RESTIC_PASSWORD={PASSWORD}", "--entrypoint", "/usr/bin/restic",
        "restic/restic:0.19.1", *command,
    )  # fmt: skip

    marker = json.loads((controller.directory / "backup/config/repository.json").read_text())
    assert json.loads(opened.stdout)["id"] == marker["id"]
    assert marker["repository"] == str(controller.directory / "repository")


def test_only_what_is_the_agents_business_is_taken_from_the_env_file(controller: Controller, first_run: str) -> None:
    environment = controller.directory / "backup/secrets/environment"

    lines = [line for line in environment.read_text().splitlines() if not line.startswith("#")]

    assert lines == [f"AWS_SECRET_ACCESS_KEY={STORE_SECRET}"]
    # The agent is not root: its group may read what lies in a directory that only root can enter.
    assert stat.S_IMODE(environment.stat().st_mode) == 0o640
    assert (environment.stat().st_uid, environment.stat().st_gid) == (0, 64738)


def test_nothing_of_it_was_shown(first_run: str) -> None:
    assert "Write the password" in first_run
    for secret in (PASSWORD, PASSWORD[:20], json.dumps(PASSWORD)[1:20], STORE_SECRET, "not-the-agents-business"):
        assert secret not in first_run


@pytest.mark.thorough
def test_without_the_env_file_the_hosts_password_counts_and_the_controller_gets_a_copy(
    controller: Controller, first_run: str
) -> None:
    controller.play("site")

    copy = controller.directory / f"passwords/{HOST}.password"
    assert copy.read_text() == PASSWORD + "\n"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
    assert (controller.directory / "backup/secrets/password").read_text() == PASSWORD


@pytest.mark.thorough
def test_a_host_that_lost_everything_but_the_repository_needs_the_right_password(
    controller: Controller, first_run: str
) -> None:
    remove_agent()
    (controller.directory / "backup").rename(controller.directory / "lost")
    elsewhere = ["-e", f"backup_password_directory={controller.directory}/new-passwords"]

    wrong = controller.play("site", *elsewhere, exit_code=2)

    assert "Wrong password for the repository" in wrong.text
    # What was made up for a repository that has another password is of no use, and must not stop the next run.
    assert not (controller.directory / "backup/secrets/password").exists()
    assert not (controller.directory / f"new-passwords/{HOST}.password").exists()
    # Nothing half-made looks like an agent.
    assert not (controller.directory / "backup/config").exists()
    assert f"No agent was deployed on {HOST}." in wrong.text
    assert containers_of_the_agent() == set()

    variables = controller.directory / "password.json"
    variables.write_text(json.dumps({"backup_password": {"__ansible_unsafe": PASSWORD}}))
    controller.play("site", *elsewhere, "-e", f"@{variables}")

    assert (controller.directory / "backup/secrets/password").read_text() == PASSWORD
