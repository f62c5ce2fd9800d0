# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml with backup_state=absent: no password is lost, whatever the host's directory is called and the controller has.

Each host is a case of its own, and all of them are in one run: a playbook over many hosts is dear to start. No engine runs
there, so only files go.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.plugins.conftest import Fleet

# Becomes nobody else, and notes what it was to run.
FAKE_SUDO = """#!/bin/sh
echo "$*" >> {log}
while [ "$1" != /bin/sh ]; do shift; done
exec "$@"
"""


class Decommission:
    """Some hosts, and one run over all of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.passwords = directory / "passwords"
        self.passwords.mkdir()
        self.fleet = Fleet(directory, seconds=400)
        self._all_become_root()
        self._prepare()
        self.run = self._run()

    def _all_become_root(self) -> None:
        sudo = self.directory / "sudo"
        sudo.write_text(FAKE_SUDO.format(log=self.directory / "sudo.log"))
        sudo.chmod(0o755)
        self.fleet.variables = {
            "ansible_become": True,
            # Who is that user already becomes nobody.
            "ansible_become_user": "daemon",
            "ansible_become_exe": str(sudo),
            "backup_password_directory": str(self.passwords),
            # So that the timer has a name that nothing on this machine has.
            "backup_engine_socket": str(self.directory / "engine.sock"),
        }

    def _prepare(self) -> None:
        self._host("slashed", "/")
        self._host("doubled", "//")
        self._host("halfway")
        self._write(self.of("halfway") / "previous/secrets/password", "set aside on halfway")
        self._host("linked")
        self.of("linked").rename(self.directory / "real")
        self.of("linked").symlink_to(self.directory / "real")
        self._host("third")
        self._write(self.of("third") / "secrets/copy_password", "third of the copies")
        for name, text in {"password": "first", "password.on-host": "second", "copy_password": "of copies"}.items():
            self._write(self.passwords / f"third.{name}", f"{text}\n")
        self._host("changing", "/")
        self._write(self.of("changing") / "rotation/new", "next")
        self._host("inside", "/", backup_repository=f"{self.of('inside')}//secrets/./repository")
        self._host("within")
        self.of("within").rename(self.directory / "beyond")
        self.of("within").symlink_to(self.directory / "beyond")
        self.fleet.hosts["within"]["backup_repository"] = f"{self.directory}/beyond/secrets/repository"
        self._host("dotted")
        self.fleet.hosts["dotted"]["backup_directory"] = f"{self.directory}/dotted/./backup"
        self._host("shared")
        self._write(self.of("shared") / ".mine", "of somebody else")
        # Where the password of a host should go, nobody can make a directory.
        self._host("blocked", backup_password_directory=f"{self.directory}/sudo/passwords")

    def _host(self, name: str, ending: str = "", **variables: object) -> None:
        self.fleet.host(name).engine_is_down()
        self.fleet.hosts[name] |= {"backup_directory": f"{self.of(name)}{ending}", **variables}
        self._write(self.of(name) / "secrets/password", f"only on {name}")
        self._write(self.of(name) / "config/config.json", "{}")

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _run(self) -> subprocess.CompletedProcess[str]:
        # What is an extra variable wins, whatever the role says.
        return self.fleet.run("site", "--forks", "8", backup_state="absent", backup_drill=True)

    def of(self, name: str) -> Path:
        """The agent's directory on a host."""
        return self.directory / name / "backup"

    def saved(self, name: str) -> dict[str, str]:
        """What the controller has of a host's passwords."""
        return {path.name: path.read_text() for path in self.passwords.glob(f"{name}.*") if path.is_file()}

    def said(self, sentence: str) -> bool:
        """Whether it is in the output, however it is folded there."""
        return sentence in " ".join(self.run.stdout.split())


@pytest.fixture(scope="module")
def decommission(tmp_path_factory: pytest.TempPathFactory) -> Decommission:
    """After the run."""
    return Decommission(tmp_path_factory.mktemp("decommission"))


def test_the_container_of_a_job_keeps_no_password(fleet, monkeypatch):
    """What is saved there goes with it."""
    fleet.host("web1").engine_is_down()
    directory = fleet.directory / "web1/backup"
    (directory / "secrets").mkdir(parents=True)
    (directory / "secrets/password").write_text("only here")
    home = fleet.directory / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWX_HOST", "https://awx.test")
    fleet.hosts["web1"] |= {
        "backup_directory": str(directory),
        "backup_engine_socket": f"{fleet.directory}/engine.sock",
        "backup_password_directory": "~/.config/scalr-backup",
    }

    run = fleet.run("site", backup_state="absent")

    assert "Only web1 has the passwords in" in run.stdout
    assert run.returncode != 0
    assert (directory / "secrets/password").read_text() == "only here"
    assert not (home / ".config").exists()


@pytest.mark.parametrize("name", ["slashed", "doubled", "linked", "shared"])
def test_the_only_password_is_saved_before_it_goes(decommission, name):
    assert decommission.saved(name) == {f"{name}.password": f"only on {name}\n"}
    assert not (decommission.of(name) / "secrets").exists()


@pytest.mark.parametrize("name", ["slashed", "doubled", "third"])
def test_the_directory_goes(decommission, name):
    assert not decommission.of(name).exists()


def test_what_an_interrupted_run_has_set_aside_is_saved_too(decommission):
    assert decommission.saved("halfway") == {
        "halfway.password": "only on halfway\n",
        "halfway.password.on-host": "set aside on halfway\n",
    }
    assert not decommission.of("halfway").exists()


def test_a_link_goes_with_the_directory_that_it_leads_to(decommission):
    assert not decommission.of("linked").is_symlink()
    assert not (decommission.directory / "real").exists()


def test_what_others_have_put_there_stays(decommission):
    assert [path.name for path in decommission.of("shared").iterdir()] == [".mine"]


def test_passwords_that_the_controller_has_of_earlier_times_stay_beside_the_new_ones(decommission):
    assert decommission.saved("third") == {
        "third.password": "first\n",
        "third.password.on-host": "second\n",
        "third.password.on-host-2": "only on third\n",
        "third.copy_password": "of copies\n",
        "third.copy_password.on-host": "third of the copies\n",
    }
    its, another = (
        f"{decommission.passwords}/third.{name}" for name in ("password.on-host-2", "copy_password.on-host")
    )
    assert decommission.said(f"its password, in {its} on this controller")
    assert decommission.said(f"another password that only the host had, in {another} on this controller")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("changing", "A password change on changing is unfinished"),
        ("inside", "is among the agent's files on inside, which would be removed"),
        ("within", "is among the agent's files on within, which would be removed"),
        ("dotted", "it must be an absolute path without . and .. in it"),
        ("blocked", "/sudo"),
    ],
)
def test_where_something_would_be_lost_nothing_goes(decommission, name, sentence):
    assert decommission.said(sentence), decommission.run.stdout
    assert re.search(rf"^{name} .*failed=1", decommission.run.stdout, re.MULTILINE)
    assert (decommission.of(name) / "secrets/password").read_text() == f"only on {name}"


def test_no_password_is_shown(decommission):
    assert "only on " not in decommission.run.stdout
    assert "third of the copies" not in decommission.run.stdout


def test_a_drill_that_an_extra_variable_wants_is_not_scheduled(decommission):
    assert "nothing starts its monthly drill" not in decommission.run.stdout
    assert "Write the systemd units" not in decommission.run.stdout
    assert "Write the cron file" not in decommission.run.stdout


def test_the_controllers_own_files_are_written_as_who_runs_ansible(decommission):
    """A variable beats the keyword, and the controller has the variables of all hosts."""
    commands = (decommission.directory / "sudo.log").read_text().splitlines()
    modules = [command for command in commands if "BECOME-SUCCESS" in command and "python" in command]
    assert len(modules) > 10
    assert [command for command in modules if not re.search(rf"{decommission.directory}/\w+/python", command)] == []
