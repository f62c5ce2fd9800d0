# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's artifact holds what users need and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
TOP = {
    "CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "COPYING", "FILES.json", "LICENSES",
    "MAINTAINERS", "MANIFEST.json", "README.md", "REUSE.toml", "SECURITY.md",
    "changelogs", "docs", "meta", "playbooks", "plugins", "roles",
}  # fmt: skip
NEEDED = {
    "changelogs/changelog.yaml",
    "meta/runtime.yml",
    "playbooks/restore.yml",
    "playbooks/vars/restore.yml",
    "plugins/module_utils/_agent.py",
    "plugins/modules/database_restore.py",
    "plugins/plugin_utils/_status_figures.css",
    "plugins/plugin_utils/_status_page.css",
    "plugins/plugin_utils/_status_page.html.j2",
    "plugins/plugin_utils/_status_page.js",
    "roles/backup/files/agent/.dockerignore",
    "roles/backup/files/agent/Dockerfile",
    "roles/backup/files/agent/requirements.txt",
    "roles/backup/meta/argument_specs.yml",
    "roles/backup/vars/main/main.yml",
    "roles/docker/tasks/main.yml",
}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """An artifact that is built of this checkout."""
    directory = tmp_path_factory.mktemp("artifact")
    galaxy = Path(sys.executable).parent / "ansible-galaxy"
    subprocess.run([galaxy, "collection", "build", "--output-path", directory, CHECKOUT], check=True)
    (built,) = directory.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def members(artifact):
    """The files in it."""
    with tarfile.open(artifact) as archive:
        return {PurePosixPath(member.name) for member in archive.getmembers() if member.isfile()}


def test_only_what_users_need_is_at_the_top(members):
    assert {path.parts[0] for path in members} <= TOP


def test_what_users_need_is_there(members):
    assert {str(path) for path in members} >= NEEDED


def test_nothing_hidden_is_in_it_but_what_the_image_build_needs(members):
    hidden = {str(path) for path in members if any(part.startswith(".") for part in path.parts)}

    assert hidden == {"roles/backup/files/agent/.dockerignore"}


def test_no_caches_and_no_settings_of_a_checkout_are_in_it(members):
    names = {part for path in members for part in path.parts}

    assert not names & {"__pycache__", "ansible.cfg", "tests", "molecule"}
    assert not [path for path in members if path.suffix in {".pyc", ".gz"}]


def test_every_playbook_of_the_checkout_is_in_it(members):
    playbooks = {f"playbooks/{path.name}" for path in (CHECKOUT / "playbooks").glob("*.yml")}

    assert playbooks <= {str(path) for path in members}


def test_the_agent_is_in_it_with_all_its_folders(members):
    package = "roles/backup/files/agent/scalr_backup"
    sources = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / package).rglob("*.py")}

    assert {str(path) for path in members if str(path).startswith(f"{package}/")} == sources
    assert any(name.startswith(f"{package}/tools/") for name in sources), (
        "what is left out at the top is meant there only"
    )


def test_what_the_readme_installs_in_a_checkout_is_found_from_elsewhere(artifact, tmp_path):
    """A checkout's ansible.cfg sends what is installed in it to a place that only the checkout looks at."""
    readme = (CHECKOUT / "README.md").read_text()
    (shown,) = re.findall(r"^```sh\n(make build\n.*?)^```", readme, re.MULTILINE | re.DOTALL)
    checkout, elsewhere, home = tmp_path / "ansible-backup", tmp_path / "elsewhere", tmp_path / "home"
    for directory in (checkout / ".ansible/collections/ansible_collections/scalr", elsewhere, home):
        directory.mkdir(parents=True)
    shutil.copy(CHECKOUT / "ansible.cfg", checkout)
    shutil.copy(artifact, checkout)
    # As make setup has left it.
    (checkout / ".ansible/collections/ansible_collections/scalr/backup").symlink_to(CHECKOUT)
    # Galaxy may be out of reach, and has nothing but this one to give here.
    others = home / ".ansible/collections/ansible_collections/community"
    shutil.copytree(CHECKOUT / ".ansible/collections/ansible_collections/community", others)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    install = shown.replace("make build\n", "").replace("collection install", "collection install --offline")
    found = "ansible-playbook scalr.backup.status -i localhost, --syntax-check"

    for directory, script in ((checkout, install), (elsewhere, found)):
        done = subprocess.run(
            ["bash", "-ec", script], cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
