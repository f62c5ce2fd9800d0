# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role backup works out of a host: its name, its machine, its drill, the agent's files, and what is left in the end."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.scalr.backup.plugins.filter.host_numbers import host_numbers
from ansible_collections.scalr.backup.plugins.filter.memory_limit import memory_limit
from ansible_collections.scalr.backup.plugins.plugin_utils._agent_files import NUMBERS, agent_config, environment_file
from ansible_collections.scalr.backup.plugins.plugin_utils._farewell import farewell
from ansible_collections.scalr.backup.plugins.plugin_utils._host import drill_moment, hostname, machine_facts
from ansible_collections.scalr.backup.plugins.plugin_utils._hosts import some_hosts

# -- whether there is any --------------------------------------------------------------------------------------

GROUPS = {"all": ["web1", "web2", "db1"], "ungrouped": [], "web": ["web1", "web2"], "db": ["db1"]}


@pytest.mark.parametrize(
    ("pattern", "limit"),
    [
        ("all", ""),
        ("web", None),
        ("web*:!web2", "web1"),
        (["db", "web2"], ""),
        ("all", "db"),
        ("db1", "db"),
        ("~web[12]", ""),
    ],
)
def test_a_pattern_that_matches_hosts_stays(pattern, limit):
    assert some_hosts(pattern, GROUPS, limit) == pattern


@pytest.mark.parametrize(
    ("pattern", "limit", "sentence"),
    [
        ("wbe", "", "No host of the inventory matches wbe, so nothing was done"),
        ("web", "db1", "No host of the inventory matches web within --limit db1, so nothing was done"),
        ("web:!web*", "", "No host of the inventory matches web:!web*,"),
    ],
)
def test_one_that_matches_none_is_refused(pattern, limit, sentence):
    with pytest.raises(AnsibleFilterError, match=re.escape(sentence)):
        some_hosts(pattern, GROUPS, limit)


@pytest.mark.parametrize("limit", ["", "web1"])
def test_so_is_an_inventory_without_hosts(limit):
    with pytest.raises(
        AnsibleFilterError, match="The inventory has no hosts, so nothing was done: set the inventory with -i"
    ):
        some_hosts("all", {"all": [], "ungrouped": []}, limit)


def test_this_machine_needs_no_inventory():
    assert some_hosts("localhost", {"all": [], "ungrouped": []}, "") == "localhost"


# -- its name ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["web1", "Web-1", "7", "a" * 63])
def test_a_name_that_is_a_hostname_stays(name):
    assert hostname(name) == name


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("web.1", "web-1-"),
        ("web1-", "web1-"),
        ("-web--1_x", "web-1-x-"),
        ("[::1]", "1-"),
        ("a" * 64, "a" * 54 + "-"),
        # What is cut off must not leave a dash before the ending.
        ("a" * 53 + ".b", "a" * 53 + "-"),
    ],
)
def test_another_name_becomes_a_hostname_with_an_ending_of_its_own(name, begins):
    found = hostname(name)

    assert found.startswith(begins)
    assert len(found) == len(begins) + 8
    assert hostname(found) == found


def test_hosts_of_similar_names_have_different_hostnames():
    assert len({hostname(name) for name in ("web.1", "web_1", "web-1", "web..1")}) == 4


# -- its machine -------------------------------------------------------------------------------------------------


def test_what_a_machine_says_of_itself():
    lines = ["controller=100", "clock=4000\r", "MemTotal:        2017412 kB\r", "python=3.11\r"]

    assert machine_facts(lines) == {"python": "3.11", "memory_mib": 1970, "skew_seconds": 3900}


def test_a_clock_that_is_behind():
    assert machine_facts(["controller=100", "clock=90"])["skew_seconds"] == -10


def test_a_machine_that_says_nothing_has_no_python_and_is_not_refused_for_the_rest():
    assert machine_facts([]) == {"python": "", "memory_mib": 1024, "skew_seconds": 0}


def test_what_a_login_prints_is_not_taken_for_an_answer():
    banner = ["Welcome to python=2.7", "the clock=5", " MemTotal: unknown", "clock=soon", "python="]
    assert machine_facts(banner) == {"python": "", "memory_mib": 1024, "skew_seconds": 0}


# -- its drill ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "time", "expected"),
    [
        (3, "04:05", {"day": 3, "hour": 4, "minute": 5}),
        ("28", "23:59", {"day": 28, "hour": 23, "minute": 59}),
        (3, "", {"day": 3, "hour": 15, "minute": 51}),
        (0, "04:05", {"day": 11, "hour": 4, "minute": 5}),
        ("", "", {"day": 11, "hour": 15, "minute": 51}),
    ],
)
def test_a_drill_is_when_it_is_wanted_or_at_the_hosts_own_time(day, time, expected):
    assert drill_moment("web1", day, time) == expected


# -- the agent's files -------------------------------------------------------------------------------------------


def test_numbers_are_numbers_and_all_else_is_as_it_was():
    settings: dict[str, Any] = {
        **dict.fromkeys(NUMBERS, "7"),
        "host": "7",
        "append_only": False,
        "keep": {"daily": 7},
        "keep_within": "",
        "copy": {"repository": "/copy"},
    }

    assert agent_config(settings) == {**settings, **dict.fromkeys(NUMBERS, 7)}
    assert list(agent_config(settings)) == list(settings)


@pytest.mark.parametrize("nothing", [None, "", {}])
def test_no_second_repository_is_nothing(nothing):
    assert agent_config({"copy": nothing}) == {"copy": None}


def test_a_setting_that_should_be_a_number_and_is_none_is_an_error():
    with pytest.raises(ValueError, match="soon"):
        agent_config({"parallel": "soon"})


def test_the_variables_of_a_store_are_a_line_each_by_name():
    text = environment_file({"B2_KEY": "a=b 'c", "aws": 1, "AWS_KEY": "", "ST_X": "ü", "OS_X": None})

    assert text == (
        "# What the agent gives restic. Written by the role scalr.backup.backup.\n"
        "aws=1\nAWS_KEY=\nB2_KEY=a=b 'c\nOS_X=\nST_X=ü\n"
    )


def test_a_store_without_variables_has_a_file_too():
    assert environment_file({}).count("\n") == 1


# -- what is left ------------------------------------------------------------------------------------------------

FILE = "/root/passwords/web1.password"


def left(repository: str = "s3:https://s3.test/web1", copy: str = "", **more: Any) -> list[str]:
    return farewell("web1", repository, copy, FILE, **{"password_given": False, **more})


def test_a_repository_elsewhere_and_its_password_remain():
    assert left() == [
        "web1 no longer has an agent, and nothing backs up its databases. What remains:",
        "  the repository s3:https://s3.test/web1",
        f"  its password, in {FILE} on this controller",
        "To read it: restic --repo s3:https://s3.test/web1 snapshots --host web1",
        "For the next steps, see docs/restore-without-us.md in the collection.",
    ]


def test_in_check_mode_nothing_is_gone_yet():
    assert left(planned=True)[0].startswith("web1 would no longer have an agent, ")


def test_a_repository_in_a_volume_is_read_in_a_container():
    lines = left("/repository")

    assert lines[1] == "  the repository /repository, the Docker volume scalr-backup-repository there"
    assert lines[-2] == (
        "To read it: docker run --rm -it --volume scalr-backup-repository:/repository restic/restic:0.19.1 "
        "--repo /repository snapshots --host web1"
    )


def test_a_password_that_the_operator_gave_is_where_it_was_given():
    assert left(password_given=True)[2] == "  its password, set in backup_password or backup_env_file"


def test_a_second_repository_remains_too():
    assert left(copy="sftp:b@sftp.test:/web1")[3] == "  the second repository sftp:b@sftp.test:/web1"


def test_a_volume_that_another_container_uses_remains():
    results = [
        {"item": "scalr-backup-state", "msg": "Error removing volume: volume is in use - [5f0c]"},
        {"item": "scalr-backup-cache", "changed": True},
        {"item": "scalr-backup-socket", "msg": "something else"},
    ]

    assert left(volumes=results)[3:-2] == ["  the Docker volume scalr-backup-state, which another container uses"]


def test_passwords_that_only_the_host_had_are_named_but_not_the_one_in_use_again():
    assert left(saved=["/root/passwords/web1.copy_password", FILE])[3:-2] == [
        "  another password that only the host had, in /root/passwords/web1.copy_password on this controller"
    ]


# -- its memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "amount"),
    [
        ("75%", "3072m"), ("74%", "3008m"), ("100%", "4096m"), ("1%", "192m"), ("4g", "4096m"), ("900M", "900m"),
        ("2gb", "2048m"), ("0", "0"), (0, "0"),
    ],
)  # fmt: skip
def test_a_share_of_the_memory_is_an_amount_and_one_kernel_more_changes_nothing(wanted, amount):
    assert memory_limit(wanted, 4096) == amount
    assert memory_limit("75%", 4120) == memory_limit("75%", 4096)


@pytest.mark.parametrize("wanted", ["", "75", "lots", "0%", "101%", "-1g", "1.5g", "10m", "4t"])
def test_what_is_no_amount_is_refused_in_a_sentence(wanted):
    with pytest.raises(AnsibleFilterError, match=f"backup_memory is {wanted}: "):
        memory_limit(wanted, 4096)


@pytest.mark.parametrize(
    ("maps", "numbers"),
    [
        # An engine that is root's, and one of the user 1000 as rootless ones map it.
        (" 0 0 4294967295\n 0 0 4294967295\n", {"user": 64738, "group": 64738}),
        ("101\n0 1000 1\n1 100000 65536\n0 1001 1\n1 200000 65536\n", {"user": 164737, "group": 264737}),
        # Too few, for either.
        ("0 1000 1\n1 100000 64737\n0 1000 1\n1 100000 65536\n", {}),
        ("0 1000 1\n1 100000 65536\n0 1000 1\n1 100000 1000\n", {}),
        ("0 1000 1\n0 1000 1\n", {}),
        ("", {}),
        # Whatever else is said is no map.
        (
            "0\nthree other words\n0 1000 1\n1 100000 65536\n0 1000 1\n1 200000 65536\n",
            {"user": 164737, "group": 264737},
        ),
    ],
)
def test_numbers_of_a_containers_user_on_the_host(maps, numbers):
    assert host_numbers(maps, 64738) == numbers
