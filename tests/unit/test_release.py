"""How a release comes about: the workflows, and the tools that they run, as far as that can be seen without GitHub."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import yaml

from tests.support import cores
from tests.support.documented import documented

CHECKOUT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((CHECKOUT / ".github/workflows").glob("*.yml"))
RELEASE = CHECKOUT / ".github/workflows/release.yml"
TEST = CHECKOUT / ".github/workflows/test.yml"
VERSION = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())["version"]
DIGEST = "sha256:" + "5f0c" * 16
PLACES = run_path(str(CHECKOUT / "tools/release"))["PLACES"]
TOKEN = "canary-of-galaxy-5f0c"


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    return yaml.safe_load(workflow.read_text())["jobs"]


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(workflow).values() for step in job.get("steps", [])]


def step_named(name: str) -> dict[str, Any]:
    (found,) = [step for step in steps(RELEASE) if step["name"] == name]
    return found


def program(directory: Path, name: str, script: str) -> None:
    """Put a shell script before a real program."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def run_step(name: str, checkout: Path, programs: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a step of the release as a runner would."""
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step_named(name)["run"]],
        cwd=checkout,
        env={"PATH": f"{programs}:{os.environ['PATH']}", "GITHUB_REF_NAME": f"v{VERSION}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """What is looked at before a release, with a changelog that tells of it."""
    copy = tmp_path / "checkout"
    for name in [*PLACES, "tools/release"]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, copy / name)
    (copy / "changelogs/fragments").mkdir(parents=True)
    anchor, heading = f'<a id="v{VERSION.replace(".", "-")}"></a>', "## v" + VERSION.replace(".", "\\.")
    older = '<a id="v0-0-1"></a>\n## v0\\.0\\.1\n\nThe first\\.\n'
    (copy / "CHANGELOG.md").write_text(
        f'# Notes\n\n{anchor}\n{heading}\n\n<a id="bugfixes"></a>\n### Bugfixes\n\n* Mended\\.\n\n{older}'
    )
    return copy


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_named_by_commit_and_its_release_for_people(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    for name in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\$/\.github/workflows/[a-z]+\.yml", name), (
            name
        )


def test_an_action_is_the_same_everywhere() -> None:
    used = {line for workflow in WORKFLOWS for line in re.findall(r"uses: (\S+@\S+)", workflow.read_text())}
    assert len({name.partition("@")[0] for name in used}) == len(used)


@pytest.mark.parametrize("workflow", [RELEASE, TEST], ids=lambda path: path.name)
def test_nothing_is_allowed_that_is_not_asked_for_and_no_script_is_made_of_words(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {}
    for step in steps(workflow):
        assert "${{" not in step.get("run", ""), step["name"]
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    for job in jobs(workflow).values():
        assert not str(job.get("runs-on", "")).endswith("latest")


def test_each_job_of_a_release_may_do_its_own_part_only() -> None:
    assert {name: job["permissions"] for name, job in jobs(RELEASE).items()} == {
        "check": {"contents": "read"},
        "test": {"contents": "read"},
        "image": {"contents": "read", "packages": "write"},
        "publish": {"packages": "write", "id-token": "write", "attestations": "write"},
        "collection": {"contents": "write", "id-token": "write", "attestations": "write"},
    }
    # Nothing is published before all that goes before has passed.
    assert [job.get("needs") for job in jobs(RELEASE).values()] == [None, "check", "test", "image", "publish"]
    assert "continue-on-error" not in RELEASE.read_text()
    with_secrets = [step["name"] for step in steps(RELEASE) if "secrets." in str(step)]
    assert with_secrets == ["Publish on Galaxy"]


def test_what_runs_in_a_release_is_named_by_digest() -> None:
    images = re.findall(r"(\S+/\S+:v?[\d.]+\S*)$", RELEASE.read_text(), re.MULTILINE)
    assert [name for name in images if "@sha256:" in name] == images
    assert len(images) == 1
    assert re.search(r"scanner=\S+:[\d.]+@sha256:[0-9a-f]{64}", (CHECKOUT / "tools/image").read_text())


def test_a_release_starts_with_a_tag_that_is_a_version() -> None:
    # YAML takes the word for a truth value.
    (pattern,) = yaml.safe_load(RELEASE.read_text())[True]["push"]["tags"]
    assert re.fullmatch(pattern, "v0.8.0")
    assert not re.fullmatch(pattern, "v0.8.0-rc1")


def test_every_supported_core_is_tested_for_each_pull_request_with_every_python() -> None:
    workflow = yaml.safe_load(TEST.read_text())
    assert {"pull_request", "workflow_call", "schedule"} <= set(workflow[True])

    job = workflow["jobs"]["cores"]
    tested = job["strategy"]["matrix"]["core"]
    assert tested == list(cores.PYTHONS) == sorted(cores.pins(), key=lambda line: int(line.partition(".")[2]))
    oldest = yaml.safe_load((CHECKOUT / "meta/runtime.yml").read_text())["requires_ansible"]
    assert oldest == f">={tested[0]}.0"

    (setup,) = [step for step in job["steps"] if "python-version" in step.get("with", {})]
    brought = set(setup["with"]["python-version"].split())
    matrix = run_path(str(CHECKOUT / "tools/matrix"))
    assert brought == set(matrix["PYTHONS"])
    assert {version for versions in cores.PYTHONS.values() for version in versions} == brought - {"3.9"}
    settings = yaml.safe_load((CHECKOUT / "tests/config.yml").read_text())
    assert settings == {"modules": {"python_requires": ">=3.9"}}
    assert "version('3.9', '<')" in (CHECKOUT / "roles/backup/tasks/machine.yml").read_text()


def test_the_tag_is_held_to_every_file_that_names_a_version(ready: Path, tmp_path: Path) -> None:
    name = "Compare the tag with what the files say"
    done = run_step(name, ready, tmp_path)
    assert (done.returncode, done.stdout) == (0, "")

    other = run_step(name, ready, tmp_path, GITHUB_REF_NAME="v99.0.0")
    assert other.returncode == 1
    for place in PLACES:
        assert f"release: {place} names version {VERSION}, and not 99.0.0." in other.stdout
    assert "release: CHANGELOG.md has no section v99.0.0" in other.stdout

    (ready / "changelogs/fragments/a.yml").write_text("bugfixes: []")
    assert "changelogs/fragments still holds a.yml" in run_step(name, ready, tmp_path).stdout


def test_this_checkout_has_one_version() -> None:
    """Whatever the changelog says yet."""
    command = documented("tools/release check v0.8.0", {"0.8.0": VERSION}).split()
    done = subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if " names version " in line] == []


@pytest.mark.parametrize(
    "arguments",
    [[], ["check"], ["check", VERSION], ["check", "v1.2"], ["notes", "v1.2.3"], ["notes", "v1.2.3", "latest"], ["tag"]],
)
def test_a_wrong_call_says_what_a_right_one_is(arguments: list[str]) -> None:
    done = subprocess.run([CHECKOUT / "tools/release", *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "release: use check TAG, or notes TAG DIGEST, with a tag such as v0.8.0." in done.stderr


def test_the_notes_are_the_changelogs_and_the_image(ready: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin", "gh", f'printf "%s\\n" "$@" > {tmp_path}/calls; cp notes.md {tmp_path}')
    done = run_step(
        "Make the release, with the image's digest in its notes", ready, tmp_path / "bin", DIGEST=DIGEST,
        GITHUB_STEP_SUMMARY=str(tmp_path / "summary"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout

    notes = (tmp_path / "notes.md").read_text()
    assert notes.startswith("### Bugfixes\n\n* Mended\\.\n\n## The agent's image\n")
    assert f"backup_image: ghcr.io/scalr/scalr-backup@{DIGEST}" in notes
    assert "first" not in notes
    assert (tmp_path / "summary").read_text() == notes
    tag = f"v{VERSION}"
    assert (tmp_path / "calls").read_text().split() == [
        "release", "create", tag, "--verify-tag", "--notes-file", "notes.md", f"scalr-backup-{VERSION}.tar.gz",
    ]  # fmt: skip


def test_the_collection_goes_to_galaxy_where_there_is_a_token(tmp_path: Path) -> None:
    program(tmp_path / "bin", "ansible-galaxy", f'echo "$@ $ANSIBLE_GALAXY_TOKEN" >> {tmp_path}/calls')

    without = run_step("Publish on Galaxy", tmp_path, tmp_path / "bin", ANSIBLE_GALAXY_TOKEN="")
    assert (without.returncode, (tmp_path / "calls").exists()) == (0, False)
    assert "The secret GALAXY_TOKEN is not set: the collection is not published on Galaxy." in without.stdout

    run_step("Publish on Galaxy", tmp_path, tmp_path / "bin", ANSIBLE_GALAXY_TOKEN=TOKEN)
    # Ansible takes the token out of the environment, where no other process sees it.
    published = (tmp_path / "calls").read_text()
    assert published == f"collection publish scalr-backup-{VERSION}.tar.gz {TOKEN}\n"


DOCKER = """
for argument; do echo "$argument"; done > {directory}/calls
for last; do :; done
cp -r "$last" {directory}/context
while [ $# -gt 0 ]; do
  if [ "$1" = --metadata-file ]; then echo '  "containerimage.digest": "{digest}",' > "$2"; fi
  shift
done
"""


@pytest.fixture
def commit(tmp_path: Path) -> Path:
    """A repository with a commit of long ago, and a file beside it that was not committed."""
    repository = tmp_path / "repository"
    context = repository / "roles/backup/files/agent"
    context.mkdir(parents=True)
    (repository / "tools").mkdir()
    shutil.copy2(CHECKOUT / "tools/image", repository / "tools/image")
    (context / "Dockerfile").write_text("FROM scratch\n")
    then = {"GIT_AUTHOR_DATE": "2026-11-01T10:00:00Z", "GIT_COMMITTER_DATE": "2026-11-01T10:00:00Z"}
    who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    for command in (["init", "--quiet"], ["add", "."], [*who, "commit", "--quiet", "--message=one"]):
        subprocess.run(["git", *command], cwd=repository, check=True, env={**os.environ, **then})
    (context / "left.py").write_text("")
    program(tmp_path / "bin", "docker", DOCKER.format(directory=tmp_path, digest=DIGEST))
    return repository


def built(commit: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{commit.parent / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        [commit / "tools/image", *arguments],
        env={**os.environ, "PATH": path, **environment},
        check=False, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("push", [False, True])
def test_an_image_is_made_of_a_commit_and_of_nothing_younger(commit: Path, push: bool) -> None:
    scratch = commit.parent / "scratch"
    scratch.mkdir()
    options = {"BUILD_ARGS": "--build-arg=A=b --pull", "TMPDIR": str(scratch)}
    done = built(commit, *(["--push"] if push else []), "registry.test/agent", **options)

    assert done.returncode == 0, done.stderr
    assert list(scratch.iterdir()) == [], "nothing is left behind"
    calls = (commit.parent / "calls").read_text().splitlines()
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=commit, check=True, capture_output=True, text=True)
    assert {
        "--build-arg=SOURCE_DATE_EPOCH=1793527200",
        "--build-arg=APT_SNAPSHOT=20261101T100000Z",
        f"--label=org.opencontainers.image.revision={revision.stdout.strip()}",
        "--label=org.opencontainers.image.created=2026-11-01T10:00:00Z",
        "--build-arg=A=b",
        "--pull",
    } <= set(calls)
    assert [path.name for path in (commit.parent / "context").iterdir()] == ["Dockerfile"]
    if push:
        assert calls[:2] == ["buildx", "build"]
        assert "type=provenance,mode=max" in calls
        assert any(call.startswith("type=sbom,generator=") for call in calls)
        assert any("push-by-digest=true" in call and "name=registry.test/agent," in call for call in calls)
        assert done.stdout == f"{DIGEST}\n"
    else:
        assert calls[0] == "build"


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ([], {}, "image: say what the image is to be called."),
        (["a", "b"], {}, "image: say what the image is to be called."),
        (["a"], {"COMMIT": "nothing"}, "image: there is no commit nothing."),
    ],
)
def test_what_cannot_be_built_is_a_sentence(
    commit: Path, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    done = built(commit, *arguments, **environment)
    assert (done.returncode, done.stderr) == (2, f"{sentence}\n")
