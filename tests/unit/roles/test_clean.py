"""What becomes of the images that an upgrade has replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.support.ansible_core import trusted


@pytest.mark.parametrize(
    ("stderr", "fails"),
    [
        # Of Docker 20.10 to 28.2, for containers that run, that stand still, and for an image by its id.
        ("conflict: unable to remove repository reference (must force) - container 93 is using its referenced image", False),
        ("conflict: unable to delete 0a (must be forced) - image is being used by stopped container 93", False),
        ("conflict: unable to delete 0a - image is in use by container 93", False),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", True),
    ],
)  # fmt: skip
def test_one_that_a_container_uses_stays_and_fails_nothing(checkout: Path, stderr: str, fails: bool) -> None:
    loader = DataLoader()
    tasks = loader.load_from_file(str(checkout / "roles/backup/tasks/clean.yml"))
    condition = trusted("{{ " + tasks[-1]["failed_when"] + " }}")
    answer = {"__backup_removed_image": {"rc": 1, "stderr": f"Error response from daemon: {stderr}"}}

    assert Templar(loader, variables=answer).template(condition) is fails
