# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role backup and the recovery kit work out of what they have read: places, keys, passwords, volumes."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.scalr.backup.plugins.plugin_utils._passwords import (
    orphaned_passwords,
    rotation_laggards,
    rotation_neighbours,
    rotation_others,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._recovery_kit import (
    environment,
    escrow_objection,
    keys_of_older_pages,
    kit_lines,
    kit_passwords,
    kit_places,
    secret_files,
    shell_word,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._units import printable
from ansible_collections.scalr.backup.plugins.plugin_utils._volumes import ownership_command, volume_options
from hypothesis import example, given
from hypothesis import strategies as st

# -- the page for the safe ---------------------------------------------------------------------------------------


def test_the_secret_files_of_a_host_go_by_their_names():
    contents = {"/opt/secrets/password": "sesame", "/opt/config.json": "{}", "/opt/secrets/environment": "AWS_A=1"}

    assert secret_files(contents, "/opt/secrets") == {"password": "sesame", "environment": "AWS_A=1"}


def test_the_value_of_a_variable_is_the_rest_of_its_line():
    text = "# written\nAWS_KEY=canary=of the 'store\nEMPTY=\n1ST=no name\n indented=no name\n_B2=x\n"

    assert environment(text) == {"AWS_KEY": "canary=of the 'store", "EMPTY": "", "_B2": "x"}


CONFIG = {"repository": "s3:https://s3.test/web1", "copy": {"repository": "sftp:b@sftp.test:/web1"}}


def places(secrets: dict[str, str], config: dict[str, Any], *, escrow: bool) -> list[dict[str, Any]]:
    """The repositories of a host whose password is not that of the page."""
    keys = [{"item": False, "key": "k1"}, {"item": True, "key": "k2"}] if escrow else []
    return kit_places(secrets, config, "the host's", ["the page's", "its second"], escrow, keys)


def test_a_host_with_one_repository_has_one_place():
    assert places({"environment": "AWS_A=1"}, {"repository": "/repository", "copy": None}, escrow=True) == [
        {
            "copy": False,
            "environment": {"AWS_A": "1"},
            "further": [],
            "repository": "/repository",
            "shown": "/repository",
            "password": "the page's",
            "key": "k1",
        }
    ]


def test_what_the_readers_own_shell_would_obey_is_named_and_not_set():
    text = "AWS_KEY=k\nPROMPT_COMMAND=reboot\nPATH=/evil\nDOCKER_HOST=tcp://evil\nRESTIC_PASSWORD=x\nhttps_proxy=p\n"
    (first,) = places({"environment": text}, {"repository": "rest:https://u:p@h/", "copy": None}, escrow=True)

    assert first["environment"] == {"AWS_KEY": "k", "https_proxy": "p"}
    assert first["further"] == ["DOCKER_HOST", "PATH", "PROMPT_COMMAND", "RESTIC_PASSWORD"]
    assert first["shown"] == "rest:https://u:***@h/"


@given(st.text())
@example("it's\n\x1b]0;\u202e\ufe0f?\\1")
def test_a_word_of_bash_is_one_that_a_reader_sees_all_of(text):
    text = text.replace("\0", "")
    word = shell_word(text)

    assert printable(word) == word
    assert "\n" not in word
    if not word.startswith("$'"):
        assert shlex.split(word) == [text]


def test_bash_makes_the_same_of_it():
    texts = [
        "it's",
        "a\nb",
        "\u202egnp.exe",
        "\ufe0f1",
        "a\\b\x1b[2J?",
        "\ud800x",
        "\udce9",
        "ü",
        "-v/:/x",
        "$(touch x) `y`",
        "",
    ]
    script = "".join(f"printf '%s\\0' {shell_word(text)}\n" for text in texts)

    done = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True)

    expected = [text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape") for text in texts]
    assert done.stdout.split(b"\0")[:-1] == expected


def test_a_copy_that_has_nothing_of_its_own_has_what_the_first_repository_has():
    first, copy = places({"environment": "AWS_A=1"}, CONFIG, escrow=False)

    assert first["repository"] == CONFIG["repository"]
    assert copy == {
        "copy": True,
        "environment": {"AWS_A": "1"},
        "further": [],
        "repository": "sftp:b@sftp.test:/web1",
        "shown": "sftp:b@sftp.test:/web1",
        "password": "the host's",
        "key": "",
    }


def test_a_copy_with_a_password_and_an_environment_of_its_own():
    secrets = {"environment": "AWS_A=1", "copy_environment": "", "copy_password": "the copy's"}

    first, copy = places(secrets, CONFIG, escrow=False)

    assert (first["environment"], first["password"]) == ({"AWS_A": "1"}, "the host's")
    assert (copy["environment"], copy["password"]) == ({}, "the copy's")


def test_the_page_has_a_password_and_a_key_for_each():
    both = places({"copy_password": "the copy's"}, CONFIG, escrow=True)

    assert [(place["password"], place["key"]) for place in both] == [("the page's", "k1"), ("its second", "k2")]


SEED = "a random text"
DECLARED = [CONFIG["repository"], CONFIG["copy"]["repository"]]


def test_each_repository_has_a_password_of_its_own_that_another_run_does_not_have():
    first, copy = kit_passwords(CONFIG, "web1", DECLARED, SEED)

    assert first != copy
    assert all(re.fullmatch(r"([2-9a-hj-km-np-z]{5}-){5}[2-9a-hj-km-np-z]{5}", one) for one in (first, copy))
    assert kit_passwords(CONFIG, "web1", DECLARED, SEED) == [first, copy]
    assert not {first, copy} & set(kit_passwords(CONFIG, "web1", DECLARED, "another"))


def test_hosts_that_share_a_repository_share_its_password_and_no_other():
    other = {**CONFIG, "repository": "s3:https://s3.test/web2"}

    mine = kit_passwords(CONFIG, "web1", DECLARED, SEED)
    theirs = kit_passwords(other, "web2", [other["repository"], DECLARED[1]], SEED)

    assert (mine[0] == theirs[0], mine[1] == theirs[1]) == (False, True)


def test_a_host_that_says_it_has_anothers_repository_is_not_told_what_opens_it():
    victim = kit_passwords(CONFIG, "web1", DECLARED, SEED)
    # Whoever took web2 wrote that into its configuration; the inventory knows better.
    thief = kit_passwords(CONFIG, "web2", ["s3:https://s3.test/web2", ""], SEED)
    swapped = {"repository": DECLARED[1], "copy": {"repository": DECLARED[0]}}

    assert not set(victim) & {*thief, *kit_passwords(swapped, "web3", DECLARED, SEED)}


@pytest.mark.parametrize(
    "address", ["/repository", "local:/srv", "s3:http://localhost:9000/b", "sftp:u@127.0.0.1:/srv", "rclone:remote:b"]
)
def test_the_same_address_on_two_hosts_themselves_is_two_repositories(address):
    config = {"repository": address, "copy": None}

    assert kit_passwords(config, "web1", [address, ""], SEED) != kit_passwords(config, "web2", [address, ""], SEED)


FLEET = {
    "web1": {"backup_escrow_password": "chosen", "backup_repository": DECLARED[0]},
    "web2": {"backup_escrow_password": "chosen", "backup_repository": DECLARED[0]},
    "web3": {"backup_escrow_password": "other", "backup_repository": DECLARED[1]},
    "web4": {"backup_escrow_password": "chosen"},
    "web5": {},
}


def objection_of(host, *hosts):
    """What is said of a host's chosen password, by its variables."""
    known = FLEET[host]
    declared = [known.get("backup_repository", "/repository"), known.get("backup_copy_repository", "")]
    return escrow_objection(FLEET, [host, *hosts], host, known.get("backup_escrow_password", ""), declared)


def test_a_chosen_password_may_be_that_of_hosts_that_share_their_repositories():
    assert objection_of("web1", "web2", "web3", "web5") == ""
    assert objection_of("web5", "web1") == ""


def test_and_of_no_others():
    sentence = objection_of("web1", "web2", "web4")

    assert sentence.startswith(
        "backup_escrow_password is the same for web1 and web4, which have different repositories"
    )
    assert "chosen" not in sentence
    assert "web1 and web4" in sentence
    assert objection_of("web4", "web1", "web2").startswith("backup_escrow_password is the same for web4 and web1,")


def test_the_keys_of_older_pages_are_those_of_pages_but_the_new_ones():
    keys = [
        {"id": "old", "user": "scalr-backup-escrow", "host": "abc"},
        {"id": "new", "user": "scalr-backup-escrow", "host": "def"},
        {"id": "host", "user": "scalr-backup", "host": "web1"},
    ]
    listings = [{"item": False, "keys": keys}, {"item": True, "keys": keys[:1]}, {"item": True, "skipped": True}]

    assert keys_of_older_pages(listings, ["new"]) == [
        {"id": "old", "host": "abc", "copy": False},
        {"id": "old", "host": "abc", "copy": True},
    ]


class Unread(dict[str, Any]):
    """The variables of a host, of which one must not be looked at."""

    def __getitem__(self, name: str) -> Any:
        assert name != "__backup_kit"
        return super().__getitem__(name)


def test_who_is_on_the_page_is_told_without_a_look_at_what_stands_there():
    hostvars = {
        "web1": Unread(__backup_kit={"places": "secret"}, kit_failure=""),
        "web2": Unread(kit_failure="The store is away."),
        "web3": Unread(),
    }

    assert kit_lines(["web1", "web2", "web3"], hostvars)[2:] == [
        "web1  yes",
        "web2  NO: The store is away.",
        "web3  NO: the host was not reached.",
    ]


# -- passwords ---------------------------------------------------------------------------------------------------

SHARING = (
    {"host": "web1", "repositories": ["r1"], "keys": ["k1"], "switched": False},
    {"host": "web2", "repositories": ["r2", "r1"], "keys": ["k1"], "switched": True},
    {"host": "web3", "repositories": ["r1"], "keys": ["k3"], "switched": False},
    {"host": "web4", "repositories": ["r1"], "keys": ["k1"], "switched": False},
    {"host": "web5", "repositories": ["r5"], "keys": ["k1"], "switched": False},
    {"host": "web6"},
)


def test_the_neighbours_of_a_host_have_one_of_its_repositories():
    assert rotation_neighbours(SHARING, "web1", ["r1"]) == ["web2", "web3", "web4"]
    assert rotation_neighbours(SHARING, "web1", []) == []


def test_the_laggards_are_neighbours_with_the_same_key_that_have_not_switched():
    assert rotation_laggards(SHARING, "web1", ["r1"], ["k1"]) == ["web4"]


def test_a_host_that_calls_its_repository_what_nobody_can_read_stops_no_other():
    odd = [{"host": "web7", "repositories": [{}, ["r1"], None], "keys": [{}]}, *SHARING]
    assert rotation_neighbours(odd, "web1", ["r1"]) == ["web2", "web3", "web4"]
    assert rotation_laggards(odd, "web1", ["r1"], ["k1"]) == ["web4"]


@pytest.mark.parametrize(
    ("released", "others"),
    [([], ["web3", "WEB2", "web2"]), (["web2", "web9"], ["web3", "WEB2"]), (["web3", "web2", "WEB2"], [])],
)
def test_the_others_are_all_that_share_a_password_and_are_not_released(released, others):
    known = [{"shared_with": ["web3", "WEB2"]}, {"failed": True}, {"shared_with": ["web2", "web3"]}]

    assert rotation_others(known, released) == others


def orphans(contents: dict[str, str], controller_file: str = "/no/web1.test.password") -> list[dict[str, Any]]:
    directories = ["/opt/secrets", "/opt/before/secrets"]
    return orphaned_passwords(contents, ["known"], directories, "/opt/secrets/password", controller_file)


def test_a_password_that_is_nowhere_else_is_an_orphan():
    contents = {
        "/opt/secrets/password": "only here\n",
        "/opt/secrets/Copy_password": "second",
        "/opt/secrets/password.new": "known\n",
        "/opt/secrets/password.old": " \n",
        "/opt/config.json": "no password",
    }

    assert orphans(contents) == [
        {"path": "/no/web1.test.password", "content": "only here", "in_use": True},
        {"path": "/no/web1.test.Copy_password", "content": "second", "in_use": False},
    ]


def test_a_password_that_was_set_aside_is_an_orphan_unless_it_is_the_one_in_use():
    contents = {
        "/opt/before/secrets/copy_password": "in use",
        "/opt/before/secrets/password": "of another repository",
        "/opt/secrets/password": "in use",
    }

    assert orphans(contents) == [
        {"path": "/no/web1.test.password", "content": "in use", "in_use": True},
        {"path": "/no/web1.test.password.on-host", "content": "of another repository", "in_use": False},
    ]


def test_a_password_on_the_controller_is_not_overwritten_by_the_hosts_other_one(tmp_path):
    (tmp_path / "web1.password").write_text("another")

    found = orphans({"/opt/secrets/password": "only here"}, f"{tmp_path}/web1.password")

    assert found == [{"path": f"{tmp_path}/web1.password.on-host", "content": "only here", "in_use": True}]


def test_no_password_is_to_be_stored_in_a_file_that_exists_or_in_that_of_another(tmp_path):
    for name in ("password", "password.on-host", "copy_password"):
        (tmp_path / f"web1.{name}").write_text("of an earlier time")
    (tmp_path / "web1.other_password").symlink_to(tmp_path / "nowhere")
    contents = {
        "/opt/secrets/password": "third",
        "/opt/secrets/copy_password": "of the copies",
        "/opt/secrets/other_password": "another",
        "/opt/secrets/Copy_password.on-host": "odd",
    }

    found = {item["content"]: Path(item["path"]).name for item in orphans(contents, f"{tmp_path}/web1.password")}

    assert found == {
        "third": "web1.password.on-host-2",
        "of the copies": "web1.copy_password.on-host",
        "another": "web1.other_password.on-host",
        "odd": "web1.Copy_password.on-host.on-host",
    }


# -- volumes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "options"),
    [
        (None, ["--volume=repository:/repository", "--volume=/root/.ssh:/ssh:ro"]),
        (["/root/.ssh"], ["--volume=/root/.ssh:/ssh:ro"]),
        ([], []),
    ],
)
def test_volumes_as_options(there, options):
    assert volume_options(["repository:/repository", "/root/.ssh:/ssh:ro"], there) == options


MOUNTS = ({"key": "scalr-backup-state", "value": "state"}, {"key": "/srv/a b", "value": "repository"})
FIND = [
    "--entrypoint",
    "find",
    "image",
    "/owned",
    "-mindepth",
    "1",
    "(",
    "!",
    "-user",
    "7",
    "-o",
    "!",
    "-group",
    "7",
    ")",
]


def test_a_look_for_what_others_own_can_write_nothing():
    command = ownership_command(MOUNTS, "image", 7)

    assert command[: command.index("--cap-add")] == [
        "docker", "run", "--rm", "--user", "0:0", "--network", "none", "--read-only",
        "--security-opt", "no-new-privileges", "--cap-drop", "ALL",
    ]  # fmt: skip
    assert command[command.index("--cap-add") :] == [
        "--cap-add", "DAC_READ_SEARCH",
        "--volume", "scalr-backup-state:/owned/state:ro", "--volume", "/srv/a b:/owned/repository:ro",
        *FIND, "-print", "-quit",
    ]  # fmt: skip


def test_a_change_of_the_owner_may_do_just_that():
    command = ownership_command(MOUNTS, "image", 7, change=True)

    assert command[command.index("--cap-add") :] == [
        "--cap-add", "DAC_READ_SEARCH", "--cap-add", "CHOWN",
        "--volume", "scalr-backup-state:/owned/state", "--volume", "/srv/a b:/owned/repository",
        *FIND, "-exec", "chown", "--no-dereference", "7:7", "{}", "+",
    ]  # fmt: skip
