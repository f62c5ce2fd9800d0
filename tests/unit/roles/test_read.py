# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role reads of a host in one go: the shell that it runs there, and what it makes of the answer."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def look(derived: Any):
    """Run one of the role's looks for files as its tasks do."""

    def run(script: str, *paths: Path) -> subprocess.CompletedProcess[str]:
        command = ["sh", "-c", derived(script), "sh", *map(str, paths)]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    return run


def contents(derived: Any, answer: subprocess.CompletedProcess[str]) -> dict[str, str]:
    # As the module command hands it on: without line breaks at the end.
    return derived("__backup_contents", __backup_read={"stdout_lines": answer.stdout.rstrip("\n").splitlines()})


def test_what_is_there_comes_as_it_is_and_what_is_missing_does_not(derived: Any, look: Any, tmp_path: Path) -> None:
    texts = {"empty": "", "a name with  spaces": " x ", "lines": "ü\n\n{{ x }} '\"$(id)\n", "last": ""}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)

    answer = look("__backup_read_files", *(tmp_path / name for name in [*texts, "missing"]))

    assert answer.returncode == 0
    assert contents(derived, answer) == {str(tmp_path / name): text for name, text in texts.items()}


def test_nothing_there_is_nothing(derived: Any, look: Any, tmp_path: Path) -> None:
    assert contents(derived, look("__backup_read_files", tmp_path / "missing")) == {}


@pytest.mark.parametrize("what", ["a directory", "a link to nowhere"])
def test_what_cannot_be_read_is_an_error_that_names_it(look: Any, tmp_path: Path, what: str) -> None:
    unreadable = tmp_path / "env"
    unreadable.mkdir() if what == "a directory" else unreadable.symlink_to(tmp_path / "gone")

    answer = look("__backup_read_files", unreadable)

    assert answer.returncode != 0
    assert str(unreadable) in answer.stderr


@pytest.mark.parametrize(
    ("text", "password", "blank"),
    [("", "", True), (" \n", "", True), ("\r\n", "", True), ("a b\n", "a b", False), (" a\r\n", "a", False)],
)
def test_a_password_is_what_restic_takes_from_its_file(
    derived: Any, tmp_path: Path, text: str, password: str, blank: bool
) -> None:
    """Else one that is the same would differ, and a blank one would count."""
    (tmp_path / "web1.password").write_bytes(text.encode())
    here = {"backup_password_directory": str(tmp_path), "__backup_controller_text": text}
    there = {"__backup_contents": {derived("__backup_password_file"): text}}

    assert derived("__backup_controller_password", **here) == password
    assert derived("__backup_controller_file_is_blank", **here) is blank
    assert (
        derived("__backup_controller_file_is_blank", host="web2", **{**here, "__backup_controller_text": ""}) is False
    )
    assert derived("__backup_host_password", **there) == password


def test_a_look_tells_what_is_there_links_to_nowhere_too(look: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone")

    answer = look("__backup_what_is_there", *(tmp_path / name for name in ("file", "missing", "link")))

    assert answer.stdout.splitlines() == [str(tmp_path / "file"), str(tmp_path / "link")]
