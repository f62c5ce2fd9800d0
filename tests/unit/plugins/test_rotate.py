# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""rotate_password.yml over hosts that share a repository, that fail half-way, that do not answer, and that are well.

Each host is a case of its own, and all of them are in one run: a playbook over many hosts is dear to start.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.unit.plugins.conftest import FakeDocker, Fleet

OLD, NEW = "canary of the old password", "canary of the new password"
# What a host calls the agent's group where the engine runs as a user of its own.
ROOTLESS = 164737
REFUSED = ("wrong_password", "Wrong password for the repository /repository.")


class Host:
    """A host that the role has provisioned, and its agent."""

    def __init__(self, fleet: Fleet, name: str, *shared_with: str, repository: str = "", **variables: object) -> None:
        self.name = name
        self.directory = fleet.directory / name / "backup"
        self.docker: FakeDocker = fleet.host(name)
        fleet.hosts[name] |= {"backup_directory": str(self.directory), **variables}
        self.write("secrets/password", OLD)
        (self.directory / "secrets/password").chmod(0o640)
        place = repository or name
        listing = {"keys": [], "current": "k1", "repository_id": place, "shared_with": list(shared_with)}
        self.docker.agent_returns(listing, to="key list")
        self.docker.agent_returns({"repository_id": place, "key": "k9", "added": True}, to="key add", changed=True)
        self.docker.agent_returns({"removed": ["k1"]}, to="key remove", changed=True)

    def write(self, name: str, text: str) -> None:
        """Put a file there, as an earlier run has."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    @property
    def password(self) -> str:
        """The password that the agent uses."""
        return (self.directory / "secrets/password").read_text()

    @property
    def asked(self) -> list[list[str]]:
        """What the agent was asked to do with keys; listings and dry runs change nothing."""
        calls = [[word for word in call if word != "-i"] for call in self.docker.calls]
        keys = [call[4:-1] for call in calls if call[3:4] == ["key"]]
        return [words for words in keys if words[0] != "list" and "--dry-run" not in words]

    @property
    def files(self) -> list[str]:
        """What lies there."""
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file())

    @property
    def unchanged(self) -> bool:
        """Whether everything is as it was."""
        return (self.password, self.asked, self.files) == (OLD, [], ["secrets/password"])


class Rotation:
    """The hosts, and a first run over all of them."""

    def __init__(self, directory: Path) -> None:
        self.fleet = fleet = Fleet(directory, seconds=400)
        self.passwords = directory / "passwords"
        hosts = [
            Host(fleet, "alone"),
            Host(fleet, "first", "second", repository="both", new_password=NEW),
            Host(fleet, "second", "first", repository="both", new_password=NEW),
            Host(fleet, "ahead", "behind", repository="halves", new_password=NEW),
            Host(fleet, "behind", "ahead", repository="halves", new_password=NEW),
            Host(fleet, "sharing", "elsewhere"),
            Host(fleet, "heir", "lost1", "lost2", gone="lost1, lost2"),
            Host(fleet, "generous", "elsewhere", keep_old=True),
            Host(fleet, "vaulted", backup_password=OLD),
            Host(fleet, "revaulted", backup_password=OLD, new_password=NEW),
            Host(fleet, "cut"),
            Host(fleet, "stubborn", new_password="a third one"),
            Host(fleet, "closing"),
            Host(fleet, "done", new_password=OLD),
            Host(fleet, "wrong"),
            Host(fleet, "bare"),
            Host(fleet, "twofold"),
            Host(fleet, "adding"),
        ]
        self.hosts = {host.name: host for host in hosts}
        self._prepare()
        fleet.unreachable_host("silent")
        self.first = self.run("-vvv", "--diff")

    def _prepare(self) -> None:
        behind = self["behind"].docker
        behind.agent_returns(
            {"repository_id": "halves", "key": "", "added": True}, to="key add --dry-run", changed=True
        )
        behind.agent_returns({}, to="key add", exit_code=1, error=("repository_unreachable", "The store is away."))
        for name in ("cut", "stubborn"):
            self[name].write("rotation/old", OLD)
            self[name].write("rotation/new", NEW)
        self["closing"].write("rotation/new", NEW)
        self["closing"].write("secrets/password", NEW)
        self["wrong"].docker.agent_returns({}, to="key list", exit_code=1, error=REFUSED)
        (self["bare"].directory / "secrets/password").unlink()
        os.chown(self["alone"].directory / "secrets/password", 0, ROOTLESS)
        # What a run of site.yml has kept that was interrupted, and what the next one would put back.
        self["alone"].write("previous/secrets/password", OLD)
        self["first"].write("previous.rest/secrets/password", OLD)
        self["adding"].write("config/config.json", '{"repository": "/repository", "append_only": true}')
        self["twofold"].write("config/config.json", '{"repository": "/repository", "copy": {"repository": "s3:there"}}')
        self["closing"].write("config/config.json", '{"repository": "/repository", "copy": {"repository": "s3:there"}}')
        self["closing"].write("secrets/copy_password", "one of its own")

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def run(self, *arguments: str):
        """Run the playbook."""
        variables = {"backup_password_directory": str(self.passwords)}
        return self.fleet.run("rotate_password", "--forks", "8", *arguments, **variables)

    def said_of(self, name: str) -> str:
        """The row of a host in the table at the end."""
        rows = [line for line in self.first.stdout.splitlines() if line.startswith(f"{name} ")]
        return next(row for row in rows if ": ok=" not in row)


@pytest.fixture(scope="module")
def rotation(tmp_path_factory: pytest.TempPathFactory) -> Rotation:
    """After the first run."""
    return Rotation(tmp_path_factory.mktemp("rotation"))


def test_a_host_of_its_own_gets_a_generated_password(rotation):
    alone, on_controller = rotation["alone"], rotation.passwords / "alone.password"
    assert alone.asked == [["add"], ["remove"]]
    assert json.loads(alone.docker.stdin) == {"password": OLD}
    assert (on_controller.read_text(), len(alone.password)) == (alone.password + "\n", 64)
    assert stat.S_IMODE(on_controller.stat().st_mode) == 0o600
    assert stat.S_IMODE((alone.directory / "secrets/password").stat().st_mode) == 0o640
    assert (alone.directory / "secrets/password").stat().st_gid == ROOTLESS, "it is the agent's group that reads it"
    assert alone.files == ["secrets/password"], "the journal is gone, and so is every copy of the old password"
    assert rotation.said_of("alone").endswith(" changed")


def test_hosts_that_share_a_key_change_it_together(rotation):
    first, second = rotation["first"], rotation["second"]
    assert (first.password, second.password) == (NEW, NEW)
    assert first.files == ["secrets/password"]
    assert first.asked == [["add"], ["remove", "--unused-by=second"]]
    assert second.asked == [["add"], ["remove", "--unused-by=first"]]


def test_a_key_that_a_host_outside_of_the_run_may_use_stays(rotation):
    assert rotation["sharing"].unchanged
    assert "elsewhere may use the same password for /repository as sharing" in rotation.said_of("sharing")
    assert "-e gone=elsewhere" in rotation.said_of("sharing")


def test_hosts_that_are_gone_need_nothing(rotation):
    assert rotation["heir"].asked == [["add"], ["remove", "--unused-by=lost1", "--unused-by=lost2"]]


def test_the_old_password_may_go_on_opening(rotation):
    assert rotation["generous"].asked == [["add"]]
    assert "changed; the old one still works" in rotation.said_of("generous")
    assert rotation["generous"].files == ["secrets/password"]


def test_a_host_that_can_only_add_leaves_the_old_key_to_others(rotation):
    assert rotation["adding"].asked == [["add"]]
    assert "changed; the old one still works" in rotation.said_of("adding")


def test_a_password_from_a_vault_needs_the_new_one_too(rotation):
    assert rotation["vaulted"].unchanged
    assert "comes from backup_password, so pass the new one as new_password" in rotation.said_of("vaulted")
    assert (rotation["revaulted"].password, rotation.said_of("revaulted").split()[1:]) == (NEW, ["changed"])
    assert not (rotation.passwords / "revaulted.password").exists()
    assert "put the new one there now" in rotation.first.stdout


def test_an_interrupted_change_is_finished_and_not_replaced_by_another(rotation):
    assert (rotation["cut"].password, rotation["cut"].files) == (NEW, ["secrets/password"])
    assert json.loads(rotation["cut"].docker.stdin) == {"password": OLD}
    assert "to a different password than new_password, was interrupted" in rotation.said_of("stubborn")
    assert (rotation["stubborn"].password, rotation["stubborn"].asked) == (OLD, [])


def test_a_journal_without_the_old_password_only_has_to_be_closed(rotation):
    assert rotation["closing"].asked == [["add"]]
    assert rotation["closing"].password == NEW
    assert not (rotation["closing"].directory / "rotation").exists()


def test_a_second_repository_changes_with_the_first_unless_it_has_a_password_of_its_own(rotation):
    assert rotation["twofold"].asked == [["add"], ["add", "--copy"], ["remove"], ["remove", "--copy"]]
    assert (rotation["closing"].directory / "secrets/copy_password").read_text() == "one of its own"


def test_one_that_has_the_new_password_already_stays_as_it_is(rotation):
    assert rotation["done"].unchanged
    assert "unchanged" in rotation.said_of("done")


def test_a_wrong_password_is_a_sentence_and_changes_nothing(rotation):
    assert rotation["wrong"].unchanged
    assert REFUSED[1] in rotation.said_of("wrong")


def test_a_host_without_the_agent_or_without_an_answer_is_a_sentence(rotation):
    assert "run site.yml first to deploy the agent" in rotation.said_of("bare")
    assert "NOT changed: the host was not reached" in rotation.said_of("silent")


def test_the_run_fails_where_a_host_has(rotation):
    assert rotation.first.returncode != 0


def test_no_password_is_shown_or_is_part_of_a_command(rotation):
    generated = [rotation[name].password for name in ("alone", "heir", "generous")]
    for secret in (OLD, NEW, *generated):
        assert secret not in rotation.first.stdout
        assert not any(
            secret in word for host in rotation.hosts.values() for call in host.docker.calls for word in call
        )


def test_while_one_of_them_has_not_switched_the_old_password_opens_and_a_second_run_finishes(rotation):
    ahead, behind = rotation["ahead"], rotation["behind"]
    assert "The old one still opens /repository, because behind had the same password" in rotation.said_of("ahead")
    assert "The store is away." in rotation.said_of("behind")
    assert (ahead.password, ahead.asked, behind.password) == (NEW, [["add"]], OLD)
    assert (ahead.directory / "rotation/old").read_text() == OLD

    behind.docker.agent_returns({"repository_id": "halves", "key": "k9", "added": False}, to="key add")
    # What the agent says in between: its old password may be gone already, and its new one not be in use yet.
    behind.docker.agent_returns({}, to="key list", exit_code=1, error=REFUSED)
    second = rotation.run("--limit", "ahead,behind")

    assert ahead.asked[-1] == ["remove", "--unused-by=behind"], second.stdout
    assert ahead.files == ["secrets/password"]
    assert behind.password == NEW


def test_check_mode_changes_nothing(rotation):
    run = rotation.run("--check", "--limit", "done", "-e", "new_password=another")

    assert run.returncode == 0, run.stdout
    assert "would be changed" in run.stdout
    assert rotation["done"].unchanged
