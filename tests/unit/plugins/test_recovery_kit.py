# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""recovery_kit.yml over hosts of many kinds: what stands on the page, what does not, and what is taken back."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest
from ansible_collections.scalr.backup.plugins.plugin_utils._units import printable

from tests.unit.plugins.conftest import FakeDocker, Fleet

PASSWORD, SECRET, CHOSEN = "canary of the host", "canary=of the 'store", "canary of a vault"
AUTHORITY = "-----BEGIN CERTIFICATE-----\ncanaryca\n-----END CERTIFICATE-----"
# What a host says that is in the wrong hands: with the page, somebody would run it.
EVIL = "touch PWNED"
TAKEN = {
    "environment": f"AWS_KEY=k\nPROMPT_COMMAND={EVIL}\nAWS_X=$({EVIL})\n",
    "ca_certificate": f"-----\nEND\n{EVIL}\n`{EVIL}`'; {EVIL}; '\u202e\x1b[2J\n",
}
TAKEN_PATHS = [f"/scalr-x-db/a\n{EVIL}\n\u202eb'$({EVIL}).dump", "/--privileged/x.dump", f"/$({EVIL})/x.dump"]
ODD = "/scalr-shop-db/it's 50%25 <b>$(odd).dump"


def snapshot(path: str, reason: str, time: str) -> dict[str, str]:
    """A snapshot as the agent lists it."""
    return {"path": path, "container": path.split("/")[1], "reason": reason, "time": time}


class Kits:
    """The hosts, and two runs."""

    def __init__(self, directory: Path) -> None:
        self.fleet = Fleet(directory, seconds=300)
        self.directory = directory
        self.dockers = {
            "web1": self._host(
                "web1",
                {"repository": "s3:https://s3.test/web1", "copy": {"repository": "sftp:backup@sftp.test:/web1"}},
                environment=f"# written\nAWS_SECRET_ACCESS_KEY={SECRET}\n",
                copy_environment="",
                ca_certificate=AUTHORITY + "\n",
                ssh_private_key="canary of ssh\n",
                ssh_known_hosts="sftp.test ssh-ed25519 AAAA\n",
            ),
            "web2": self._host("web2", {"repository": "/srv/my backups"}, backup_escrow_password=CHOSEN),
            "web3": self._host("web3", {"repository": "/repository"}),
        }
        self.dockers["web5"] = self._host("web5", {"repository": f"rest:https://h/'; {EVIL}\n\u2067"}, **TAKEN)
        forged = [snapshot(path, "nightly", f"{EVIL}\u202e") for path in TAKEN_PATHS]
        self.dockers["web5"].agent_returns({"snapshots": forged}, to="snapshots")
        image = {"name": "scalr-x-db", "image": "--privileged", "status": "ok", "databases": []}
        self.dockers["web5"].agent_returns({"host": "web5", "containers": [image], "warnings": []}, to="discover")
        refusal = ("repository_unreachable", "The store is away.")
        self.dockers["web3"].agent_returns({}, to="key add", exit_code=1, error=refusal)
        self.fleet.unreachable_host("web4")
        self.path = directory / "kit.html"
        self.run = self._play(self.path, "-vvv", "--diff")
        self.page = self.path.read_text()
        # The last that each of them was told on its standard input.
        self.told = {name: json.loads(docker.stdin)["password"] for name, docker in self.dockers.items()}
        keys = [
            {"id": "old1", "user": "scalr-backup-escrow", "host": "abc"},
            {"id": "key-of-web1", "user": "scalr-backup-escrow", "host": "def"},
            {"id": "host1", "user": "scalr-backup", "host": "web1"},
        ]
        self.dockers["web1"].agent_returns({"keys": keys, "shared_with": []}, to="key list")
        arguments = ["--limit", "web1", "-e", "replace=true", "-e", "with_credentials=true"]
        self.replaced = self._play(directory / "new.html", "-vvv", "--diff", *arguments)
        pages = [{"id": one, "user": "scalr-backup-escrow", "host": one} for one in ("unused", "of-web5")]
        for host in ("web2", "web5"):
            listing = {
                "keys": pages,
                "shared_with": ["web2", "web5"],
                "current": "of-web5" if host == "web5" else "own",
            }
            self.dockers[host].agent_returns(listing, to="key list")
        arguments = ["--limit", "web2,web3,web5", "-e", "replace=true", "-e", "with_credentials=true"]
        self.in_use = self._play(directory / "web5.html", *arguments)
        chosen = directory / "chosen.json"
        chosen.write_text(json.dumps({"backup_escrow_password": "canary of all"}))
        before = [len(docker.calls) for docker in self.dockers.values()]
        self.refused = self._play(directory / "none.html", "--limit", "web2", "-vvv", "-e", f"@{chosen}")
        assert before == [len(docker.calls) for docker in self.dockers.values()]
        self.nowhere = self._play(Path("/proc/kit.html"), "--limit", "web2")
        unread = [snapshot(ODD, "nightly", "2026-11-21T03:00:00Z") | {"time": 7}]
        self.dockers["web3"].agent_returns({"snapshots": unread}, to="snapshots")
        self.odd = self._play(directory / "odd.html", "--limit", "web2,web3")

    def _play(self, path: Path, *arguments: str):
        return self.fleet.run("recovery_kit", "--forks", "8", *arguments, kit=str(path))

    def _host(self, name: str, config: dict[str, object], **files: str) -> FakeDocker:
        docker = self.fleet.host(name)
        directory = self.directory / name / "backup"
        variables = {"backup_directory": str(directory), "backup_repository": config["repository"]}
        variables["backup_copy_repository"] = config.get("copy", {}).get("repository", "")
        variables["backup_escrow_password"] = files.pop("backup_escrow_password", "")
        self.fleet.hosts[name] |= variables
        for sub, texts in (
            ("config", {"config.json": json.dumps(config)}),
            ("secrets", {"password": PASSWORD, **files}),
        ):
            (directory / sub).mkdir(parents=True)
            for file, text in texts.items():
                (directory / sub / file).write_text(text)
        snapshots = [
            snapshot(ODD, "nightly", "2026-11-21T03:00:00Z"),
            snapshot(ODD, "pre-restore", "2026-11-23T09:00:00Z"),
            snapshot("/scalr-gone-db/wiki.dump", "manual", "2026-11-22T03:00:00Z"),
        ]
        docker.agent_returns({"snapshots": snapshots}, to="snapshots")
        found = {"name": "scalr-shop-db", "image": "registry.test/postgres:17", "status": "ok", "databases": []}
        docker.agent_returns({"host": name, "containers": [found], "warnings": []}, to="discover")
        docker.agent_returns(
            {"repository_id": name, "key": f"key-of-{name}", "added": True}, to="key add", changed=True
        )
        docker.agent_returns({"removed": ["k"]}, to="key remove", changed=True)
        return docker

    def asked(self, host: str) -> list[list[str]]:
        """What the agent of a host was asked to do with keys."""
        calls = [[word for word in call if word != "-i"] for call in self.dockers[host].calls]
        return [call[4:-1] for call in calls if call[3:4] == ["key"]]

    def blocks(self, kind: str) -> list[str]:
        """The commands on the page, as a browser shows them."""
        return [html.unescape(one) for one in re.findall(rf'<pre class="{kind}">(.*?)</pre>', self.page, re.DOTALL)]


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Kits:
    """After the runs."""
    return Kits(tmp_path_factory.mktemp("kits"))


def test_every_command_is_one_that_a_shell_understands(kits):
    for block in kits.blocks("sh") + kits.blocks("instead"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_names_arrive_in_the_shell_as_they_are(kits):
    block = next(one for one in kits.blocks("sh") if one.startswith("server scalr-shop-db"))
    record = 'server() { echo "$*"; }; roles() { :; }; database() { echo "$2"; }\n'

    done = subprocess.run(["bash"], input=record + block, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["scalr-shop-db registry.test/postgres:17", ODD]


def test_a_container_that_is_gone_gets_an_image_that_reads_its_dump(kits):
    assert any(one.startswith("server scalr-gone-db postgres:18\n") for one in kits.blocks("sh"))
    assert "did not exist when this was printed" in kits.page


def test_the_second_repository_is_on_it_with_what_it_needs(kits):
    (block,) = kits.blocks("instead")
    assert "export RESTIC_REPOSITORY=sftp:backup@sftp.test:/web1" in block
    assert all(f"'{line}'" in block or f"\n{line}" in block for line in AUTHORITY.splitlines())
    assert "sftp.test ssh-ed25519 AAAA" in block
    assert [words[0:1] + words[2:] for words in kits.asked("web1")][:2] == [["add"], ["add", "--copy"]]


def test_credentials_are_named_and_not_shown(kits):
    assert "export AWS_SECRET_ACCESS_KEY='FILL IN'" in kits.blocks("sh")[1]
    for secret in (PASSWORD, SECRET, "canary of ssh"):
        assert secret not in html.unescape(kits.page)


def test_the_password_is_the_chosen_one_or_a_new_one_and_is_shown_nowhere_else(kits):
    passwords = [html.unescape(one) for one in re.findall(r'<p class="secret">(.*?)</p>', kits.page)]
    assert re.fullmatch(r"([2-9a-hj-km-np-z]{5}-){5}[2-9a-hj-km-np-z]{5}", passwords[0])
    assert passwords[1] == CHOSEN
    for secret in (*passwords, PASSWORD, SECRET, "canary of ssh"):
        assert secret not in kits.run.stdout
    assert not any(passwords[0] in word for call in kits.dockers["web1"].calls for word in call)


def test_a_host_is_told_what_opens_its_own_repositories_only(kits):
    passwords = re.findall(r"export RESTIC_PASSWORD=(\S+)", html.unescape(kits.page))
    first, second = passwords[:2]
    assert first != second, "those of the repository and of its copy"
    assert kits.told["web1"] == second
    assert kits.told["web2"] == CHOSEN
    assert kits.told["web3"] not in passwords


def test_a_local_repository_is_warned_of(kits):
    assert "a directory on\nweb2 itself" in kits.page
    assert "--volume '/srv/my backups:/srv/my backups'" in "".join(kits.blocks("sh"))


def test_those_that_are_on_it_are_well(kits):
    for name in ("web1", "web2"):
        assert re.search(rf"^{name} .*: ok=\d+ .* failed=0 ", kits.run.stdout, re.MULTILINE)
        assert re.search(rf"^{name} +yes$", kits.run.stdout, re.MULTILINE)


def test_older_pages_are_made_worthless_on_demand(kits):
    assert kits.replaced.returncode == 0, kits.replaced.stdout
    removed = [words for words in kits.asked("web1") if words[0] == "remove"]
    assert removed == [["remove", "old1"], ["remove", "old1", "--copy"]]
    page = html.unescape((kits.directory / "new.html").read_text())
    passwords = set(re.findall(r"export RESTIC_PASSWORD=(\S+)", page))
    assert len(passwords) == 2, "one for each repository"
    assert SECRET.replace("'", "'\"'\"'") in page
    for secret in (*passwords, SECRET, "canary=of", "canary of ssh"):
        assert secret not in kits.replaced.stdout


def test_hosts_that_are_not_on_it_are_named_and_fail_the_run(kits):
    assert kits.run.returncode != 0
    assert re.search(r"^web3 .*NO: The store is away", kits.run.stdout, re.MULTILINE)
    assert re.search(r"^web4 .*NO: the host was not reached", kits.run.stdout, re.MULTILINE)
    assert kits.page.count("<strong>is not on this page</strong>") == 2


def test_a_host_whose_snapshots_cannot_be_read_costs_the_others_nothing(kits):
    assert re.search(r"^web2 +yes$", kits.odd.stdout, re.MULTILINE)
    said = "NO: The list of snapshots of web3 cannot be read: run site.yml, which updates its agent."
    assert re.search(rf"^web3 +{said}$", kits.odd.stdout, re.MULTILINE)
    assert (kits.directory / "odd.html").read_text().count("<strong>is not on this page</strong>") == 1


def test_a_password_that_stands_on_no_page_is_taken_back(kits):
    assert kits.nowhere.returncode != 0
    assert "could not be written to /proc/kit.html, so its passwords were revoked" in kits.nowhere.stdout
    (words,) = [one for one in kits.asked("web2") if one[:2] == ["remove", "key-of-web2"]]
    assert {"--unused-by=web1", "--unused-by=web5"} <= set(words), "no host can have it"


def test_the_password_of_an_older_page_that_a_host_uses_stays_valid_and_it_is_said_which_host_does(kits):
    assert [one for one in kits.asked("web2") if one[1:2] != ["key-of-web2"] and one[0] == "remove"] == [
        ["remove", "unused", "--unused-by=web5"]
    ]
    assert ["remove", "unused", "--unused-by=web2"] in kits.asked("web5")
    assert kits.in_use.returncode != 0
    assert "web5 uses the password of an older page, which therefore stays valid" in kits.in_use.stdout
    assert "web2 uses" not in kits.in_use.stdout


def test_nothing_that_a_taken_host_says_runs_or_hides_on_the_readers_machine(kits, tmp_path):
    """Every command of the page, in a shell whose programs do nothing."""
    assert {one for one in kits.page if printable(one) != one} == {"\n"}
    replaced = html.unescape((kits.directory / "web5.html").read_text())
    assert "export AWS_X='$(touch PWNED)'" in replaced
    assert "PROMPT_COMMAND=" not in replaced
    for page in (kits.page, replaced):
        blocks = [html.unescape(one) for one in re.findall(r'<pre class="(?:sh|instead)">(.*?)</pre>', page, re.DOTALL)]
        script = "\n".join(
            ["docker() { :; }", *blocks[:1], "restic() { :; }; server() { :; }; roles() { :; }", *blocks[1:]]
        )
        environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        subprocess.run(
            ["bash"], input=script, text=True, cwd=tmp_path, env=environment, capture_output=True, check=False
        )
    assert not list(tmp_path.rglob("PWNED"))
    assert "server scalr-x-db postgres:18" in html.unescape(kits.page)
    assert kits.page.count("these snapshots may be forged") == 2


def test_a_password_that_other_hosts_would_learn_too_is_refused_also_where_they_take_no_part(kits):
    assert kits.refused.returncode != 0
    assert re.search(
        "backup_escrow_password is the same for web2 and web[135], which have different", kits.refused.stdout
    )
    assert "canary" not in kits.refused.stdout + kits.refused.stderr
    assert not (kits.directory / "none.html").exists()
