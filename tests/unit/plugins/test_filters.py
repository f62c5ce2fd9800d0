# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables, durations, deployments, and what an image is built from."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import tarfile

import pytest
from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.scalr.backup.plugins.filter.answers import answers
from ansible_collections.scalr.backup.plugins.filter.build_archive import build_archive
from ansible_collections.scalr.backup.plugins.filter.build_context import build_context
from ansible_collections.scalr.backup.plugins.filter.deployment import deployment
from ansible_collections.scalr.backup.plugins.filter.duration import duration
from ansible_collections.scalr.backup.plugins.filter.status_outcome import status_outcome
from ansible_collections.scalr.backup.plugins.filter.tally import tally
from ansible_collections.scalr.backup.plugins.filter.text_table import text_table
from ansible_collections.scalr.backup.plugins.plugin_utils._terminal import columns_of, prose, terminal_width


def test_answers_are_what_was_asked_of_each_host():
    hostvars = {"web1": {"ok": True, "name": "one", "secret": "s"}, "web2": {"name": "two"}}

    assert answers(["web2", "web1"], hostvars, ["name", "ok"]) == [{"name": "two"}, {"name": "one", "ok": True}]
    assert answers(["web1"], hostvars, {"called": "name"}) == [{"called": "one"}]


def test_a_table_is_aligned():
    rows = [["web1", "shop", 3], ["database-host", None, 12]]

    assert text_table(rows, ["HOST", "APP", "DATABASES"]) == [
        "HOST           APP   DATABASES",
        "-------------  ----  ---------",
        "web1           shop          3",
        "database-host  -            12",
    ]


def test_named_columns_are_aligned_to_the_right():
    assert text_table([["a", "5.0 s"]], ["NAME", "DURATION"], right=["DURATION"])[2] == "a        5.0 s"


def test_a_table_without_rows_is_its_header():
    assert text_table([], ["A", "B"]) == ["A  B", "-  -"]


def test_wide_characters_count_twice_and_combining_ones_not_at_all():
    lines = text_table([["数据", "x"], ["e\u0301", "x"]], ["NAME", "X"])

    assert lines[2:] == ["数据  x", "e\u0301     x"]


def test_a_row_stays_one_line_whatever_a_name_holds():
    assert text_table([["a\nb\x1b[2J"]], ["NAME"])[2] == "a?b?[2J"


def test_a_truth_is_no_number():
    assert text_table([[True]], ["LONG NAME"])[2] == "True"


STATES = ["HOST", "CONTAINER", "DATABASE", "STATE", "LAST BACKUP", "DUMP", "LAST DRILL"]
NIGHTS = [
    ["web1", "scalr-shop-db", "shop", "ok", "2026-11-22T03:07:12Z", "38.5 MiB", "passed 9 d ago"],
    ["web2", "scalr-wiki-db", "wiki", "never backed up", None, None, "never"],
]


def test_a_table_that_a_terminal_has_no_room_for_is_told_in_a_few_lines_for_each_row():
    lines = text_table(NIGHTS, STATES, right=["DUMP"], width=64)

    assert lines == [
        "web1  scalr-shop-db  shop  ok",
        "    last backup 2026-11-22T03:07:12Z; dump 38.5 MiB;",
        "    last drill passed 9 d ago",
        "web2  scalr-wiki-db  wiki  never backed up",
        "    last drill never",
    ]
    assert text_table(NIGHTS, STATES, right=["DUMP"], width=200) == text_table(NIGHTS, STATES, right=["DUMP"])


def test_numbers_are_never_told_without_their_names():
    assert text_table([["shop", "38.5 MiB", 2, "x" * 20]], ["DATABASE", "SIZE NOW", "CONNECTED", "BY"], width=30) == [
        "shop  38.5 MiB",
        "    connected 2;",
        f"    by {'x' * 20}",
    ]


def test_a_long_sentence_is_folded_and_its_table_stays_one():
    rows = [["web1", "yes", "the next pass starts in fifteen hours and nothing is wrong"], ["web2", "NO", "lost"]]

    assert text_table(rows, ["HOST", "HEALTHY", "SUMMARY"], width=44) == [
        "HOST  HEALTHY  SUMMARY",
        "----  -------  -----------------------------",
        "web1  yes      the next pass starts in",
        "               fifteen hours and nothing is",
        "               wrong",
        "web2  NO       lost",
    ]


def test_wide_characters_are_folded_by_the_columns_that_they_take():
    lines = text_table([["web1", "数据" * 20]], ["HOST", "NAME"], width=40)

    assert max(map(columns_of, lines)) == 40
    assert "".join(line.removeprefix("web1").strip() for line in lines[2:]) == "数据" * 20


@pytest.mark.parametrize(
    ("is_one", "is_forced", "columns", "width"),
    [
        (True, False, 99, 100),
        (True, False, 79, 80),
        (False, False, 99, None),
        (True, True, 79, None),
        (True, True, 99, 100),
    ],
)
def test_the_width_is_the_terminals_and_a_file_has_none_in_colours_or_not(
    monkeypatch, is_one, is_forced, columns, width
):
    monkeypatch.setattr("ansible.constants.ANSIBLE_FORCE_COLOR", is_forced)
    monkeypatch.setattr("ansible.utils.color.ANSIBLE_COLOR", is_one)
    monkeypatch.setattr(Display(), "columns", columns)
    assert terminal_width() == width


def test_a_sentence_is_folded_for_a_terminal_and_stays_one_line_elsewhere(monkeypatch):
    sentence = "web1: scalr-foo-db/foo has no good backup younger than 26 h."
    assert prose(sentence) == [sentence]
    monkeypatch.setattr("ansible_collections.scalr.backup.plugins.plugin_utils._terminal.terminal_width", lambda: 40)
    assert prose(sentence) == ["web1: scalr-foo-db/foo has no good", "    backup younger than 26 h."]


def test_rows_must_fit_the_header():
    with pytest.raises(AnsibleFilterError):
        text_table([["a"], ["a", "b"]], ["NAME"])


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, None),
        (-3, "0.0 s"),
        (0, "0.0 s"),
        (0.26, "0.3 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (11549, "3 h 12 min"),
        (86400 + 5, "1 d"),
        (2 * 86400 + 3 * 3600 + 59, "2 d 3 h"),
        ("11549", "3 h 12 min"),
    ],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.fixture
def context(tmp_path):
    for name in ["Dockerfile", ".dockerignore", "package/__init__.py", "package/sub/data.json"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_a_context_lists_its_files(context):
    found = build_context(context)

    assert found["files"] == [".dockerignore", "Dockerfile", "package/__init__.py", "package/sub/data.json"]
    assert found["directories"] == ["package", "package/sub"]


@pytest.mark.parametrize(
    "name",
    [
        "package/__pycache__/x.cpython-311.pyc",
        "package/.mypy_cache/3.11/x.json",
        ".ruff_cache/x",
        ".coverage",
        "package/x.pyc",
        "agent.egg-info/PKG-INFO",
    ],
)
def test_what_tools_leave_behind_is_no_part_of_a_context(context, name):
    before = build_context(context)
    (context / name).parent.mkdir(parents=True, exist_ok=True)
    (context / name).write_text("left behind")

    assert build_context(context) == before


def test_an_archive_holds_a_context_and_nobody_owns_it(context):
    (context / "package/__pycache__").mkdir()
    (context / "Dockerfile").chmod(0o600)

    archive = build_archive(build_context(context), context)

    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive))) as packed:
        members = packed.getmembers()
        assert packed.extractfile("package/sub/data.json").read() == b"package/sub/data.json"
    assert [one.name for one in members if one.isfile()] == build_context(context)["files"]
    assert [one.name for one in members if one.isdir()] == build_context(context)["directories"]
    assert {(one.uid, one.gid, one.mode) for one in members if one.isfile()} == {(0, 0, 0o644)}


def test_the_checksum_stays_while_nothing_changes(context):
    before = build_context(context, {"BASE_IMAGE": "debian"})
    (context / "Dockerfile").touch()

    assert build_context(str(context), {"BASE_IMAGE": "debian"}) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda context: (context / "Dockerfile").write_text("other"),
        lambda context: (context / "new").write_text(""),
        lambda context: (context / "Dockerfile").rename(context / "Containerfile"),
        lambda context: (context / "package/sub/data.json").unlink(),
    ],
)
def test_the_checksum_changes_with_the_context(context, change):
    before = build_context(context)["checksum"]
    change(context)

    assert build_context(context)["checksum"] != before


def test_the_checksum_changes_with_a_build_argument(context):
    assert build_context(context, {"A": "1"})["checksum"] != build_context(context, {"A": "2"})["checksum"]
    assert build_context(context, {"A": "1"})["checksum"] != build_context(context)["checksum"]


def test_a_name_and_a_content_do_not_run_together(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one/ab").write_text("c")
    (tmp_path / "two").mkdir()
    (tmp_path / "two/a").write_text("bc")

    assert build_context(tmp_path / "one")["checksum"] != build_context(tmp_path / "two")["checksum"]


def test_a_directory_must_be_there(tmp_path):
    with pytest.raises(AnsibleFilterError):
        build_context(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("outcomes", "line"),
    [
        (["saved"], "1 host: 1 saved."),
        (["saved", "failed", "odd", "saved"], "4 hosts: 1 failed, 2 saved, 1 odd."),
        ([], "0 hosts."),
    ],
)
def test_a_tally_begins_with_the_worst(outcomes, line):
    assert tally(outcomes, "host", ["not reached", "failed"]) == line


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"healthy": True, "verdict": "safe", "databases": [1]}, "safe"),
        ({"healthy": True, "verdict": "incomplete", "databases": [1]}, "not complete"),
        ({"healthy": True, "verdict": "waiting", "databases": []}, "waiting for the first pass"),
        ({"healthy": True, "verdict": "nothing_to_back_up", "databases": []}, "nothing to back up"),
        ({"healthy": False, "verdict": "not_safe", "databases": [1]}, "not safe"),
        ({"healthy": True, "databases": [1]}, "safe"),
        ({"healthy": True, "databases": []}, "waiting for the first pass"),
        ({"healthy": False, "databases": []}, "not safe"),
        ({"unreachable": True, "msg": "no route"}, "not reached"),
        ({"msg": "This host has no container scalr-backup."}, "without an answer"),
    ],
)
def test_a_host_is_safe_only_where_something_is_backed_up_and_nothing_is_left_out(result, words):
    assert status_outcome(result) == words


def discovered(**changes):
    """What the agent of a host has found: a container with two databases, and one that cannot be backed up."""
    good = {"name": "scalr-shop-db", "status": "ok", "databases": [{"name": "shop"}, {"name": "cart"}]}
    bad = {"name": "scalr-wiki-db", "status": "stopped", "databases": []}
    found = {"host": "web1", "next_pass": "2026-11-29T03:00:00+00:00", "containers": [good, bad]}
    return {**found, **changes}


def test_a_deployment_ends_with_one_line_of_summary_after_the_notes():
    notes = ["The clock is wrong.", "The moon is full."]

    lines = deployment(discovered(), "s3:https://s3.test/b", "sftp:b@nas.test:/c", "/root/web1.password", True, notes)

    assert lines == [
        "web1: The clock is wrong.",
        "web1: The moon is full.",
        "web1 backs up 2 databases in 1 container (scalr-shop-db) to s3:https://s3.test/b, and copies them to sftp:b@nas.test:/c. "
        "Next pass: 2026-11-29 03:00 UTC. Password: /root/web1.password. Run backup.yml for a first backup now.",
    ]


def test_a_deployment_tells_what_the_agent_has_found_that_nothing_backs_up():
    found = discovered(notes=["1 PostgreSQL container is not backed up: wiki-postgres-1."])

    lines = deployment(found, "/repository", password="/root/web1.password", notes=["The clock is wrong."])

    assert lines[:-1] == [
        "web1: The clock is wrong.",
        "web1: 1 PostgreSQL container is not backed up: wiki-postgres-1.",
    ]


def test_a_later_deployment_asks_for_no_first_backup():
    (line,) = deployment(discovered(), "/repository", password="/root/web1.password")

    assert line.endswith("Password: /root/web1.password.")


def test_a_deployment_that_backs_up_nothing_says_what_is_to_be_done():
    nothing = discovered(containers=[])
    del nothing["next_pass"]  # as an agent before 0.4.0

    (line,) = deployment(nothing, "/repository", password="/root/web1.password", first=True)

    assert line.startswith("web1 has nothing to back up yet. Backups will go to /repository. Password: ")
    assert line.endswith("Start a database container that matches backup_containers, then run status.yml.")


def test_what_draws_pages_is_loaded_by_nobody_else():
    """Ansible loads all filters of a collection wherever one of them is used."""
    program = """
import sys
from ansible.plugins.loader import filter_loader, init_plugin_loader
init_plugin_loader(sys.argv[1:])
assert filter_loader.get("scalr.backup.tally")
print(*(name for name in sys.modules if name.rpartition(".")[2].startswith("_status_")))
"""
    collections = [path for path in sys.path if path.endswith("/.ansible/collections")]
    done = subprocess.run([sys.executable, "-c", program, *collections], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
