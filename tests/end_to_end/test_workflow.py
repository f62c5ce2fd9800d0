"""The workflow that drills from CI: its steps, run one after the other as a runner would, in a clean directory."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.containers import DatabaseContainer, docker, running
from tests.support.controller import AGENT, CHECKOUT, PROXY, Controller, agent_set_aside, remove_agent, stand_ins
from tests.support.documented import documented

pytestmark = pytest.mark.timeout(600)

WORKFLOW = CHECKOUT / ".github/workflows/drill.yml"
HOST = "web-that-is-gone"
PASSWORD = "canary of the workflow's 'password"


def workflow() -> dict[Any, Any]:
    return yaml.safe_load(WORKFLOW.read_text())


@dataclass
class Runner:
    """A machine of GitHub's, as far as this workflow makes use of it."""

    directory: Path
    context: dict[str, str]
    output: list[str] = field(default_factory=list)

    def run(self, steps: list[dict[str, Any]]) -> int:
        """Run steps; the exit code of the first that failed. After it, only those run that always do."""
        failed = 0
        for step in steps:
            if "run" in step and (not failed or step.get("if") == "always()"):
                failed = self._step(step) or failed
        return failed

    def check_out(self) -> None:
        """The files of this checkout, and no tools: they are the workflow's to bring."""
        names = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=CHECKOUT, check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        for name in names:
            if (CHECKOUT / name).is_file():
                target = self.directory / "workspace" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, target)
        # A runner has a registry.
        beside_the_playbooks = self.directory / "workspace/playbooks/group_vars/all.yml"
        beside_the_playbooks.parent.mkdir()
        beside_the_playbooks.write_text(yaml.safe_dump(stand_ins()))

    def _step(self, step: dict[str, Any]) -> int:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.directory / "workspace" / step.get("working-directory", ""),
            env={**self._machine, **self._evaluated(step.get("env", {}))},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        self.output.append(done.stdout)
        return done.returncode

    @property
    def _machine(self) -> dict[str, str]:
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTEST_", "VIRTUAL"))
        }
        return {
            **clean,
            "PATH": f"{self.directory}/bin:{os.environ['PATH']}",
            "RUNNER_TEMP": str(self.directory / "temp"),
            "ANSIBLE_NOCOLOR": "true",
            "COLUMNS": "250",
        }

    def _evaluated(self, values: dict[str, str]) -> dict[str, str]:
        """The expressions of a workflow in their values: names of contexts only, and an unknown one is empty."""
        return {
            name: re.sub(r"\$\{\{ *([\w.]+) *\}\}", lambda found: self.context.get(found[1], ""), value)
            for name, value in values.items()
        }


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with the backup of a host that is no more: neither its agent nor its database is there."""
    directory = tmp_path_factory.mktemp("gone")
    database = DatabaseContainer(f"scalr-test-{secrets.token_hex(3)}-db", environment={"POSTGRES_PASSWORD": "s3cret"})
    variables = {
        "backup_containers": [database.name],
        "backup_directory": str(directory / "backup"),
        "backup_repository": str(directory / "repository"),
        "backup_password": PASSWORD,
    }
    with agent_set_aside():
        with running(database):
            database.sql("CREATE TABLE numbers AS SELECT n FROM generate_series(1, 1000) AS n; CREATE DATABASE other")
            controller = Controller(directory, HOST, variables)
            controller.play("site")
            controller.play("backup")
        remove_agent()
        yield directory / "repository"


@pytest.fixture
def runner(repository: Path, tmp_path: Path) -> Iterator[Runner]:
    context = {
        "secrets.BACKUP_REPOSITORY": str(repository),
        "secrets.BACKUP_PASSWORD": PASSWORD,
        "vars.BACKUP_HOSTS": HOST,
        "vars.BACKUP_COLLECTION": "0123456789abcdef0123456789abcdef01234567",
        "inputs.snapshot": "latest",
    }
    runner = Runner(tmp_path, context)
    (tmp_path / "temp").mkdir()
    (tmp_path / "bin").mkdir()
    if shutil.which("sudo") is None:
        (tmp_path / "bin/sudo").write_text('#!/bin/sh\nexec "$@"\n')
        (tmp_path / "bin/sudo").chmod(0o755)
    runner.check_out()
    yield runner
    remove_agent()


def test_it_can_be_started_by_hand_and_every_month() -> None:
    # YAML takes the word for a truth value.
    triggers = workflow()[True]

    assert set(triggers) == {"schedule", "workflow_dispatch"}
    assert re.fullmatch(r"\d+ \d+ \d+ \* \*", triggers["schedule"][0]["cron"])


def test_no_expression_stands_in_a_script() -> None:
    """What is pasted into a script is run by it; an environment variable is not."""
    for step in workflow()["jobs"]["drill"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_what_runs_is_named_so_that_it_cannot_change() -> None:
    steps = workflow()["jobs"]["drill"]["steps"]
    for step in steps:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", f"a/b@{0:040}"))
    (checkout,) = [step for step in steps if "uses" in step]
    assert checkout["with"]["ref"] == "${{ vars.BACKUP_COLLECTION }}"
    # Before it is used, it has been seen to be a commit.
    assert steps.index(checkout) == 1
    assert not workflow()["jobs"]["drill"]["runs-on"].endswith("latest")


def test_it_may_do_nothing_and_installs_nothing_as_root() -> None:
    job = workflow()["jobs"]["drill"]
    assert workflow()["permissions"] == {}
    assert "permissions" not in job
    (checkout,) = [step for step in job["steps"] if "uses" in step]
    assert checkout["with"]["persist-credentials"] is False
    # What was an administrator's to install would be run again with the secrets.
    as_root = [step["name"] for step in job["steps"] if "sudo" in step.get("run", "")]
    assert as_root == ["Leave nothing on the runner"]


def test_secrets_go_to_the_one_step_that_needs_them() -> None:
    document = workflow()
    with_secrets = [step for step in document["jobs"]["drill"]["steps"] if "secrets." in str(step)]
    assert [step["name"] for step in with_secrets] == ["Describe the runner to Ansible"]
    assert "ansible" not in with_secrets[0]["run"].replace("ansible_", "")
    del document["jobs"]["drill"]["steps"]
    assert "secrets." not in str(document)


@pytest.mark.parametrize("value", ["", "main", "v0.6.0", "0123456789abcdef0123456789abcdef0123456", "a" * 41, "A" * 40])
def test_a_branch_or_a_tag_is_no_commit(value: str, tmp_path: Path) -> None:
    step = workflow()["jobs"]["drill"]["steps"][0]
    (tmp_path / "workspace").mkdir()
    runner = Runner(tmp_path, {"vars.BACKUP_COLLECTION": value})
    assert runner.run([step]) == 1
    assert "BACKUP_COLLECTION is not set to a commit" in runner.output[0]


@pytest.mark.thorough
def test_its_steps_prove_a_backup_and_leave_nothing_behind(runner: Runner) -> None:
    job = workflow()["jobs"]["drill"]
    # What the page about other CI shows is what one of the steps says.
    shown = documented(
        "ansible-playbook drill.yml -e from_host=web1",
        {"web1": '"$host"', " -e": ' -i "$RUNNER_TEMP/inventory.json" -e'},
    )
    assert any(shown in step.get("run", "") for step in job["steps"])

    assert runner.run(job["steps"]) == 0, "\n".join(runner.output)

    output = "\n".join(runner.output)
    assert re.search(r"drill-in-ci +scalr-test-\w+-db +postgres +passed ", output), output
    assert "1000" in output
    assert PASSWORD not in output
    for container in (AGENT, PROXY):
        assert docker("container", "inspect", container, check=False).returncode != 0
    assert list((runner.directory / "temp").iterdir()) == []

    # What the drill finds is the job's result: the same steps, for a host that has no backup there.
    runner.context["vars.BACKUP_HOSTS"] = f"{HOST} nobody"
    assert runner.run(job["steps"]) == 1
    assert "These hosts failed their drill: nobody" in runner.output[-2]


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("secrets.BACKUP_PASSWORD", "The secret BACKUP_PASSWORD is not set."),
        ("secrets.BACKUP_REPOSITORY", "The secret BACKUP_REPOSITORY is not set."),
    ],
)
def test_what_is_not_set_is_a_sentence(runner: Runner, missing: str, sentence: str) -> None:
    del runner.context[missing]
    (runner.directory / "workspace/.venv").symlink_to(sys.prefix)
    job = workflow()["jobs"]["drill"]
    steps = [step for step in job["steps"] if "pip install" not in step.get("run", "")]

    assert runner.run(steps) == 1
    assert sentence in runner.output[1]
