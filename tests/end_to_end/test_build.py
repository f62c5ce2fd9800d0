"""``make build`` as a stranger runs it: in their own checkout, without root, Docker or the tools of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documented import documented

# Nobody in particular, on every Linux.
STRANGER = 65534


def files_of(checkout: Path) -> list[str]:
    """What is in the checkout, with what is not committed yet."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.splitlines() if (checkout / name).is_file()]


@pytest.fixture
def strangers_checkout(checkout: Path) -> Iterator[Path]:
    """A copy that belongs to somebody who is not root, and not among pytest's directories, which only root may enter."""
    with tempfile.TemporaryDirectory(prefix="scalr-test-stranger-") as directory:
        copy = Path(directory)
        for name in files_of(checkout):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, copy / name)
        for path in [copy, *copy.rglob("*")]:
            os.chown(path, STRANGER, STRANGER)
        yield copy


def test_needs_neither_root_nor_the_tools_of_the_tests(strangers_checkout: Path) -> None:
    done = subprocess.run(
        documented("make build").split(),
        cwd=strangers_checkout,
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
        env={"HOME": str(strangers_checkout), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    (artifact,) = strangers_checkout.glob("scalr-backup-*.tar.gz")
    with tarfile.open(artifact) as archive:
        assert {"README.md", "playbooks/restore.yml", "plugins/modules/database_restore.py"} <= set(archive.getnames())
    assert not (strangers_checkout / ".venv").exists()
