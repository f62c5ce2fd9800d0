# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role backup and the recovery kit work out of what they have read: places, keys, passwords, volumes."""

from __future__ import annotations

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
    keys_of_older_pages,
    kit_lines,
    kit_places,
    secret_files,
)
from ansible_collections.scalr.backup.plugins.plugin_utils._volumes import ownership_command, volume_options

# -- the page for the safe ---------------------------------------------------------------------------------------


def test_the_secret_files_of_a_host_go_by_their_names():
    contents = {"/opt/secrets/password": "sesame", "/opt/config.json": "{}", "/opt/secrets/environment": "A=1"}

    assert secret_files(contents, "/opt/secrets") == {"password": "sesame", "environment": "A=1"}


def test_the_value_of_a_variable_is_the_rest_of_its_line():
    text = "# written\nAWS_KEY=canary=of the 'store\nEMPTY=\n1ST=no name\n indented=no name\n_B2=x\n"

    assert environment(text) == {"AWS_KEY": "canary=of the 'store", "EMPTY": "", "_B2": "x"}


CONFIG = {"repository": "s3:https://s3.test/web1", "copy": {"repository": "sftp:b@sftp.test:/web1"}}


def places(secrets: dict[str, str], config: dict[str, Any], *, escrow: bool) -> list[dict[str, Any]]:
    """The repositories of a host whose password is not that of the page."""
    keys = [{"item": False, "key": "k1"}, {"item": True, "key": "k2"}] if escrow else []
    return kit_places(secrets, config, "the host's", "the page's", escrow, keys)


def test_a_host_with_one_repository_has_one_place():
    assert places({"environment": "A=1"}, {"repository": "/repository", "copy": None}, escrow=True) == [
        {"copy": False, "environment": {"A": "1"}, "repository": "/repository", "password": "the page's", "key": "k1"}
    ]


def test_a_copy_that_has_nothing_of_its_own_has_what_the_first_repository_has():
    first, copy = places({"environment": "A=1"}, CONFIG, escrow=False)

    assert first["repository"] == CONFIG["repository"]
    assert copy == {
        "copy": True,
        "environment": {"A": "1"},
        "repository": "sftp:b@sftp.test:/web1",
        "password": "the host's",
        "key": "",
    }


def test_a_copy_with_a_password_and_an_environment_of_its_own():
    secrets = {"environment": "A=1", "copy_environment": "", "copy_password": "the copy's"}

    first, copy = places(secrets, CONFIG, escrow=False)

    assert (first["environment"], first["password"]) == ({"A": "1"}, "the host's")
    assert (copy["environment"], copy["password"]) == ({}, "the copy's")


def test_the_password_of_the_page_opens_both_with_a_key_each():
    both = places({"copy_password": "the copy's"}, CONFIG, escrow=True)

    assert [(place["password"], place["key"]) for place in both] == [("the page's", "k1"), ("the page's", "k2")]


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


@pytest.mark.parametrize(
    ("released", "others"),
    [([], ["web3", "WEB2", "web2"]), (["web2", "web9"], ["web3", "WEB2"]), (["web3", "web2", "WEB2"], [])],
)
def test_the_others_are_all_that_share_a_password_and_are_not_released(released, others):
    known = [{"shared_with": ["web3", "WEB2"]}, {"failed": True}, {"shared_with": ["web2", "web3"]}]

    assert rotation_others(known, released) == others


def orphans(contents: dict[str, str], controller_file: str = "/no/web1.test.password") -> list[dict[str, str]]:
    return orphaned_passwords(contents, ["known"], "/opt/secrets", "/opt/secrets/password", controller_file)


def test_a_password_that_is_nowhere_else_is_an_orphan():
    contents = {
        "/opt/secrets/password": "only here\n",
        "/opt/secrets/Copy_password": "second",
        "/opt/secrets/password.new": "known\n",
        "/opt/secrets/password.old": " \n",
        "/opt/config.json": "no password",
    }

    assert orphans(contents) == [
        {"path": "/no/web1.test.Copy_password", "content": "second"},
        {"path": "/no/web1.test.password", "content": "only here"},
    ]


def test_a_password_on_the_controller_is_not_overwritten_by_the_hosts_other_one(tmp_path):
    (tmp_path / "web1.password").write_text("another")

    found = orphans({"/opt/secrets/password": "only here"}, f"{tmp_path}/web1.password")

    assert found == [{"path": f"{tmp_path}/web1.password.on-host", "content": "only here"}]


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
