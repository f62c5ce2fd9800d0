"""What docs/upgrade.md promises of versions: which is installed, and what a release leaves to an older one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from scalr_backup.tools.state import State

from tests.support.documented import documented
from tests.unit.agent.test_records import NEWEST

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs/upgrade.md"
OLDEST = CHECKOUT / "tests/releases/scalr-backup-0.1.0.tar.gz"
RECORDS = CHECKOUT / "tests/unit/agent/records"
URL = "https://github.com/scalr/ansible-backup.git"


def git(repository: Path, *arguments: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    subprocess.run(["git", *who, *arguments], cwd=repository, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The collection's repository with two releases, tagged."""
    directory = tmp_path / "repository"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (CHECKOUT / name).is_file() and not name.startswith(("tests/", "benchmarks/", "molecule/")):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, directory / name)
    galaxy = directory / "galaxy.yml"
    git(directory, "init", "--quiet")
    for version in ("0.8.0", "0.7.0"):
        galaxy.write_text(re.sub(r"^version: .*$", f"version: {version}", galaxy.read_text(), flags=re.MULTILINE))
        git(directory, "add", ".")
        git(directory, "commit", "--quiet", "--allow-empty", "--message", version)
        git(directory, "tag", f"v{version}")
    return directory


def test_the_version_that_is_named_is_installed_newer_or_older(repository: Path, tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```yaml\n(collections:.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (entry,) = yaml.safe_load(shown)["collections"]
    assert entry == {"name": URL, "type": "git", "version": "v0.8.0"}
    assert URL.removesuffix(".git") == yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())["repository"]

    collections = tmp_path / "collections"
    shutil.copytree(
        CHECKOUT / ".ansible/collections/ansible_collections/community", collections / "ansible_collections/community"
    )
    for version in ("v0.8.0", "v0.7.0"):
        text = shown.replace(URL, f"file://{repository}").replace("v0.8.0", version)
        (tmp_path / "requirements.yml").write_text(text)
        command = documented("ansible-galaxy collection install -r requirements.yml --force").split()
        done = subprocess.run(
            # Galaxy may be out of reach, and has nothing to give here.
            [Path(sys.executable).parent / command[0], *command[1:], "--offline", "--collections-path", collections],
            cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        manifest = json.loads((collections / "ansible_collections/scalr/backup/MANIFEST.json").read_text())
        assert f"v{manifest['collection_info']['version']}" == version


# What the first release's agent asks its record, and writes into it.
OLD_AGENT = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path
from scalr_backup.model import DatabaseBackup
from scalr_backup.state import State
state, now = State(Path(sys.argv[1])), datetime(2026, 11, 25, 3, tzinfo=UTC)
print(json.dumps({
    "agent_id": state.agent_id(), "first_started": state.first_started(now).isoformat(),
    "databases": sorted(state.known_databases()), "journals": [one.new for one in state.journals()],
    "kept": [one.database for one in state.kept()],
}))
state.nightly_started(now)
result = {"run": "old", "reason": "nightly", "started": now.isoformat(), "finished": now.isoformat(), "failed": 0,
          "retention": {"ok": True, "removed": [], "error": None}, "error": None, "databases": []}
state.record_pass(result, [DatabaseBackup("scalr-shop-db", "shop", ok=True, snapshot_id="bb", bytes_read=9, rows=1)])
"""


@pytest.fixture
def old_agent(tmp_path: Path) -> Path:
    """The agent of the first release."""
    (tmp_path / "old").mkdir()
    subprocess.run(["tar", "--extract", "--gzip", "--file", OLDEST], cwd=tmp_path / "old", check=True)
    return tmp_path / "old/roles/backup/files/agent"


def test_the_oldest_release_reads_the_newest_state_and_loses_nothing_of_it(old_agent: Path, tmp_path: Path) -> None:
    written = {**NEWEST, "part_of_tomorrow": {"of": "a release to come"}}
    (tmp_path / "state.json").write_text(json.dumps(written))

    done = subprocess.run(
        [sys.executable, "-c", OLD_AGENT, tmp_path],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(old_agent)},
        check=False, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "agent_id": written["agent_id"], "first_started": written["first_started"],
        "databases": sorted(written["databases"]), "journals": list(written["restores"]),
        "kept": [one["database"] for one in written["kept"].values()],
    }  # fmt: skip
    after = json.loads((tmp_path / "state.json").read_text())
    changed = {"last_pass", "nightly_started", "databases"}
    assert {name: after[name] for name in written if name not in changed} == {
        name: value for name, value in written.items() if name not in changed
    }
    # And back again: what the older one has written is the newer one's, too.
    state = State(tmp_path)
    assert state.known_databases()["scalr-shop-db/shop"]["snapshot_id"] == "bb"
    assert state.read()["last_pass"]["run"] == "old"


# What it reads of a manifest before a restore; restic gives it the document.
OLD_READER = """
import json, sys
from contextlib import contextmanager
from types import SimpleNamespace
from scalr_backup.manifest import MANIFEST_PATH, Manifests

class Restic:
    @contextmanager
    def dump(self, *_arguments, **_options):
        yield SimpleNamespace(chunks=lambda: [sys.stdin.buffer.read()])

made = [SimpleNamespace(id="m", run="r", path=MANIFEST_PATH), SimpleNamespace(id=sys.argv[1], run="r", path="/c/d.dump")]
manifests = Manifests(Restic(), made)
print(json.dumps({"database": manifests.describe(made[1]), "globals": manifests.cluster(made[1])["globals"]}))
"""


def test_the_oldest_release_reads_the_newest_manifest(old_agent: Path) -> None:
    newest = max(path for path in RECORDS.iterdir() if path.is_dir())
    document = json.loads((newest / "manifest.json").read_text())
    (cluster,) = document["clusters"]
    (database,) = cluster["databases"]
    database["part_of_tomorrow"] = {"of": "a release to come"}

    done = subprocess.run(
        [sys.executable, "-c", OLD_READER, database["snapshot_id"]],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(old_agent)},
        input=json.dumps(document), check=False, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"database": database, "globals": cluster["globals"]}


def test_what_the_page_says_of_formats_is_what_the_agent_writes() -> None:
    text = PAGE.read_text()
    source = CHECKOUT / "roles/backup/files/agent/scalr_backup"
    (version,) = re.findall(
        r"^MANIFEST_VERSION = (\d+)", (source / "core/records/manifest.py").read_text(), re.MULTILINE
    )
    assert f"`manifest_version` {version} |" in text
    oldest, with_history = (
        min(path.parent.name for path in RECORDS.rglob(name)) for name in ("state.json", "history.jsonl")
    )
    assert f"JSON, version 1, which is not written | reads all since {oldest} |" in text
    assert f"reads all since {with_history}, when it began" in text
